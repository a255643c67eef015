"""Groupings that came close to the chosen one, by the same affinities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax import selection
from tag_jax.report import page

_MOST_TASKS = 12  # Beyond, listing the best groupings takes long.


def runner_ups(
    affinity: Mapping[str, Any] | None,
    groups: Sequence[Mapping[str, Any]],
    budget: float,
    on_validation: bool,
    count: int = 5,
) -> list[list[str]]:
    """The chosen grouping and those that follow it, by the affinities that it was selected from.

    Args:
      affinity: `{'mean': [T, T], 'task_names': T names}`; None if there is none.
      groups: of results.json.
      budget: of the run.
      on_validation: whether tasks may train alone, by their affinity onto themselves.
      count: how many follow the first, at most.

    Returns:
      Rows: rank, tasks of each network, total affinity. None where the groups were not selected
      so, or the affinities are of more than 12 tasks.
    """
    if affinity is None or len(affinity['task_names']) > _MOST_TASKS or budget < 1:
        return []
    names, mean = list(affinity['task_names']), np.asarray(affinity['mean'], float)
    alone = np.diagonal(mean) if on_validation else None
    try:
        found = selection.select_groups(mean, int(budget), alone, num_solutions=count + 1)
    except ValueError:  # Affinities that no selection can be made of.
        return []
    tasks_of = lambda one: [tuple(names[task] for task in group) for group in one.groups]
    if {tuple(group['tasks']) for group in groups} != set(tasks_of(found[0])):
        return []
    return [
        [
            str(n),
            ' | '.join(', '.join(tasks) for tasks in tasks_of(one)),
            page.number(f'{one.objective:.4g}'),
        ]
        for n, one in enumerate(found, 1)
    ]
