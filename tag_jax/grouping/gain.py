"""The interval of a gain over one network for all tasks, by a paired bootstrap."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax import evaluation, training
from tag_jax.grouping.run import ALL_IN_ONE, Run
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import NetworkPlan, TrainedNetwork

DRAWS, LEVEL = 1000, 0.95
MOST_UNDEFINED = 0.05  # Share of draws that may have no gain, and are left out.
BATCH_SIZE = 1024


class Serving(NamedTuple):
    """A network and what it answers.

    Attributes:
      problem: its `MultiTaskProblem`.
      arrays: its (params, model_state).
      tasks: names of the tasks that it serves.
    """

    problem: MultiTaskProblem
    arrays: tuple[Any, Any]
    tasks: Sequence[str]


def gain_interval(
    chosen: Sequence[Serving],
    baseline: Sequence[Serving],
    prepared: evaluation.PreparedSplit,
    select_by: str,
    seed: int = 0,
    groups: np.ndarray | None = None,
    batch_size: int = BATCH_SIZE,
) -> tuple[float, float] | None:
    """Bounds of a gain, if other test examples had been drawn: of this seed and these networks.

    Both sides are judged on the same draws (a paired bootstrap; Efron & Tibshirani 1993, Chapter
    13: percentiles). Examples are drawn in blocks, see `evaluation.blocks_of`.

    Args:
      chosen: the networks, which serve all tasks together.
      baseline: the network for all tasks, once for each step at which it is kept.
      prepared: the test split.
      select_by: what is summed over the tasks, of `evaluation.CRITERIA`; tasks whose error is not
        defined on the split are left out.
      seed: of the draws.
      groups: int `[N]`, the group of each test example, which are drawn as a whole; None for
        examples on their own.
      batch_size: examples a pass, at most.

    Returns:
      (lowest, highest) gain in percent of the baseline's total; None if there are fewer than ten
      examples (or groups), more than a share of the draws have no such number, as where they lack
      the labels of a task, or the sums would be too many, as of the scores of a hundred classes.
    """
    blocks = evaluation.blocks_of(prepared.examples.size, groups)
    asked = select_by, DRAWS, batch_size, seed
    totals = []
    for side in (chosen, baseline):
        found = [
            evaluation.resampled(*one[:2], prepared, blocks, judged, *asked)
            for one in side
            if (judged := evaluation.judged(one.tasks, select_by, prepared.left_out))
        ]
        if any(scores is None for scores in found):
            return None
        totals.append(sum(of_task for scores in found for of_task in scores.values()))
    own, together = totals
    with np.errstate(divide='ignore', invalid='ignore'):
        gains = 100 * (1 - own / together)
    gains = gains[np.isfinite(gains)]
    if len(gains) < (1 - MOST_UNDEFINED) * DRAWS:
        return None
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def interval_of_run(
    run: Run,
    chosen: Sequence[NetworkPlan],
    serves: Sequence[Sequence[str]],
    trained: Mapping[str, TrainedNetwork],
    prepared: evaluation.PreparedSplit,
) -> tuple[float, float] | None:
    """The interval of the gain of a run; None where one network for all tasks is what was chosen.

    Args:
      run: a `Run`.
      chosen: the plans of its networks.
      serves: the tasks that each serves.
      trained: `{name: TrainedNetwork}`, the network for all tasks among them.
      prepared: the test split.
    """
    if [plan.name for plan in chosen] == [ALL_IN_ONE]:
        return None
    return gain_interval(
        _serving(run, [trained[plan.name] for plan in chosen], serves),
        _serving(run, [trained[ALL_IN_ONE]], [run.problem.task_names]),
        prepared,
        run.config.select_by,
        groups=getattr(run.dataset, 'test_groups', None),
        batch_size=run.config.batch_size,
    )


def _serving(run, networks, serves):
    """A `Serving` for each step at which a network is kept for a task that it serves."""
    return [
        Serving(run.sized(one.plan.cost).problem, (one.params, one.model_state), own)
        for network, served in zip(networks, serves, strict=True)
        for one, tasks in training.kept(network)
        if (own := [task for task in tasks if task in served])
    ]
