"""Selections as text and as JSON: several for a budget, and groups of tasks."""

from collections.abc import Sequence
from typing import Any

from tag_jax.report.trade_off import notation
from tag_jax.selection import Candidates, Selection
from tag_jax.tables import text_table


def solutions_text(several: Sequence[Sequence[Selection]], candidates: Candidates) -> str:
    """The best selections for each budget, with their totals.

    Args:
      several: for each budget a tuple of selections, best first, from `selection.select_networks`.
      candidates: those that they were chosen from.
    """
    parts = []
    for solutions in several:
        rows = [
            [
                str(n),
                f'{one.objective:.5f}',
                f'{candidates.costs[list(one.networks)].sum():g}',
                notation(one, candidates),
                ', '.join(one.network_names),
            ]
            for n, one in enumerate(solutions, 1)
        ]
        header = ['', 'total', 'cost', 'tasks', 'networks']
        parts.append(text_table(header, rows, left=(0, 3, 4)))
    return '\n\n'.join(['The best selections', *parts])


def selection_record(selected: Selection) -> dict[str, Any]:
    """A selection as JSON types, with the names of its tasks, and of networks where it has any.

    Args:
      selected: with names, from `selection.select_groups` or `selection.select_networks`.
    """
    groups, serves = (
        [[selected.task_names[task] for task in tasks] for tasks in sets]
        for sets in (selected.groups, selected.serves)
    )
    networks = {} if selected.network_names is None else {'networks': list(selected.network_names)}
    return {
        **networks,
        'groups': groups,
        'serves': serves,
        **{name: getattr(selected, name) for name in ('objective', 'bound', 'optimal')},
    }
