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
MOST_UNDEFINED = 0.05  # Share of draws that may have no gain, and are left out.
_AT_ONCE = 50  # Draws whose sums are in memory together.
MOST_NUMBERS = 2**24  # Sums of all blocks: more would take minutes.


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
      examples, more than a share of the draws have no such number, as where they lack the labels of
      a task, or there are more than MOST_NUMBERS sums, as of the scores of a hundred classes.
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
    if sum(leaf.size for leaf in jax.tree.leaves(together)) > MOST_NUMBERS:
        return None
    count = len(jax.tree.leaves(together)[0])
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    totals = [
        sum(_scores(problem, task, sums, draws, prepared, select_by) for task, sums in side.items())
        for side in (parts, together)
    ]
    with np.errstate(divide='ignore', invalid='ignore'):
        gains = 100 * (1 - totals[0] / totals[1])
    gains = gains[np.isfinite(gains)]
    if len(gains) < (1 - MOST_UNDEFINED) * DRAWS:
        return None
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _scores(problem, task, sums, draws, prepared, select_by):
    """The score of a task in each draw, `[DRAWS]`; NaN where it is not defined."""
    found = []
    for some in np.array_split(draws.astype(float), max(1, DRAWS // _AT_ONCE)):
        drawn = jax.tree.map(lambda x, some=some: np.tensordot(some, x, axes=1), sums)
        for n in range(len(some)):
            one = jax.tree.map(lambda x, n=n: x[n], drawn)
            found.append(_score(problem, task, one, prepared, select_by))
    return np.array(found)


def _score(problem, task, totals, prepared, select_by):
    if not totals[1][1] > 0:  # No label.
        return math.nan
    try:
        return evaluation.finished(problem, task, totals, prepared)[select_by]
    except (ValueError, ArithmeticError):
        return math.nan


def _parts(problem, network, prepared) -> Mapping[str, Any]:
    """`{task: sums [blocks, ...]}` of a network."""
    size = -(-prepared.examples.size // BLOCKS)
    sums = evaluation.sums_of_batches(problem, network, prepared, size)
    return jax.tree.map(lambda *parts: np.stack([np.asarray(p, np.float64) for p in parts]), *sums)
