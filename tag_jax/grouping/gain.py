"""The interval of a gain over one network for all tasks, by a paired bootstrap."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tag_jax import evaluation
from tag_jax.problem import MultiTaskProblem

BLOCKS = 200  # Of test examples, at most: each is drawn or left out as a whole.
DRAWS, LEVEL = 1000, 0.95


def gain_interval(
    problem: MultiTaskProblem,
    problems: Sequence[MultiTaskProblem],
    networks: Sequence[tuple[Any, Any]],
    serves: Sequence[Sequence[str]],
    baseline: tuple[Any, Any],
    prepared: evaluation.PreparedSplit,
    select_by: str,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Bounds of a gain, if other test examples had been drawn: of this seed and these networks.

    Both sides are judged on the same draws (a paired bootstrap; Efron & Tibshirani 1993, Chapter
    13: percentiles). Examples are drawn in up to BLOCKS blocks of neighbours.

    Args:
      problem: of the network for all tasks.
      problems: of each network.
      networks: (params, model_state) of each.
      serves: the tasks that each serves.
      baseline: the network for all tasks.
      prepared: the test split.
      select_by: what is summed over the tasks, of `evaluation.CRITERIA`.
      seed: of the draws.

    Returns:
      (lowest, highest) gain in percent of the baseline's total; None if there are fewer than ten
      examples, or a draw has no such number, as where one lacks the labels of a task.
    """
    if prepared.examples.size < 10:
        return None
    parts = {
        task: sums
        for one, network, own in zip(problems, networks, serves, strict=True)
        for task, sums in _parts(one, network, prepared).items()
        if task in own
    }
    together = _parts(problem, baseline, prepared)
    count = len(jax.tree.leaves(together)[0])
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    labels = np.stack([labels for _, (_, labels) in together.values()])
    if not (draws @ labels.T > 0).all():
        return None
    gains = []
    for times in draws.astype(float):
        own, other = (
            math.fsum(
                evaluation.finished(problem, task, _sum(sums, times), prepared)[select_by]
                for task, sums in side.items()
            )
            for side in (parts, together)
        )
        gains.append(100 * (1 - own / other) if other > 0 else math.nan)
    if not np.isfinite(gains).all():
        return None
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _parts(problem, network, prepared) -> Mapping[str, Any]:
    """`{task: sums [blocks, ...]}` of a network."""
    size = -(-prepared.examples.size // BLOCKS)
    sums = evaluation.sums_of_batches(problem, network, prepared, size)
    return jax.tree.map(lambda *parts: np.stack([np.asarray(p, np.float64) for p in parts]), *sums)


def _sum(sums, times):
    """Sums over the blocks, each as often as it was drawn."""
    return jax.tree.map(lambda x: np.tensordot(times, x, axes=1), sums)
