"""Scores of networks on test examples that are drawn again: a bootstrap, the same for all networks.

Sums over blocks of examples are found once; the scores of a draw follow from the sums of the blocks
that it has. Networks on one split have the same draws, so what differs between them is paired
(Efron & Tibshirani 1993, Chapters 6 and 13).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tag_jax.evaluation.prepared import PreparedSplit
from tag_jax.evaluation.scores import finished, sums_of_batches
from tag_jax.problem import MultiTaskProblem

BLOCKS = 200  # Of examples, at most: each is drawn or left out as a whole.
LEAST = 10  # Blocks, below which draws say little.
MOST_NUMBERS = 2**24  # Sums of all blocks: more would take minutes.
_AT_ONCE = 50  # Draws whose sums are in memory together.


def blocks_of(size: int, groups: np.ndarray | None = None, most: int = BLOCKS) -> list[np.ndarray]:
    """Blocks of examples that are drawn as a whole.

    Args:
      size: the number of examples, N.
      groups: int `[N]`, the group of each, all of whose examples are in one block; None for
        neighbours.
      most: blocks.

    Returns:
      Their rows, integers `[B]` each.
    """
    if groups is None:
        length = -(-size // most)
        return [np.arange(at, min(at + length, size)) for at in range(0, size, length)]
    groups = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(groups)
    if len(counts) > most:  # The next largest group goes where the fewest examples are.
        block, filled = np.empty(len(counts), int), np.zeros(most)
        for group in np.argsort(-counts, kind='stable'):
            block[group] = filled.argmin()
            filled[block[group]] += counts[group]
        groups = block[groups]
    order = np.argsort(groups, kind='stable')
    return np.split(order, np.cumsum(np.bincount(groups))[:-1])


def resampled(
    problem: MultiTaskProblem,
    network: tuple[Any, Any],
    prepared: PreparedSplit,
    blocks: Sequence[np.ndarray],
    tasks: Sequence[str],
    select_by: str,
    draws: int,
    batch_size: int,
    seed: int = 0,
) -> dict[str, np.ndarray] | None:
    """The scores of a network if other test examples had been drawn.

    Args:
      problem: a `MultiTaskProblem`.
      network: (params, model_state).
      prepared: the split.
      blocks: from `blocks_of`, rows `[B]` each.
      tasks: whose scores are asked for.
      select_by: what a score is, of `evaluation.CRITERIA`.
      draws: D, how many.
      batch_size: examples a pass, at most.
      seed: of the draws.

    Returns:
      `{task: [D]}`, NaN where a draw has no such score; None where there are fewer than LEAST
      blocks, or more than MOST_NUMBERS sums, as of the scores of a hundred classes.
    """
    count = len(blocks)
    if count < LEAST:
        return None
    sums = _sums_of_blocks(problem, network, prepared, blocks, batch_size)
    if sums is None:
        return None
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    return {task: _scores(problem, task, sums[task], times, prepared, select_by) for task in tasks}


def _sums_of_blocks(problem, network, prepared, blocks, batch_size) -> Mapping[str, Any] | None:
    """`{task: sums [blocks, ...]}` of a network."""
    size = sum(map(len, blocks))
    # Blocks are of unlike size where they are groups: large ones are read in pieces.
    length = min(batch_size, max(1, 2 * size // len(blocks)))
    pieces = [
        (n, block[at : at + length])
        for n, block in enumerate(blocks)
        for at in range(0, len(block), length)
    ]
    rows = [piece for _, piece in pieces]
    parts = sums_of_batches(problem, network, prepared, length, rows)
    if sum(leaf.size for leaf in jax.tree.leaves(parts[0])) * len(blocks) > MOST_NUMBERS:
        return None
    owners = np.array([n for n, _ in pieces])

    def added(*leaves):
        found = np.zeros((len(blocks), *np.shape(leaves[0])))
        np.add.at(found, owners, np.stack([np.asarray(leaf, np.float64) for leaf in leaves]))
        return found

    return jax.tree.map(added, *parts)


def _scores(problem, task, sums, times, prepared, select_by):
    """The score of a task in each draw, `[D]`; NaN where it is not defined."""
    found = []
    for some in np.array_split(times.astype(float), -(-len(times) // _AT_ONCE)):
        drawn = jax.tree.map(lambda x, some=some: np.tensordot(some, x, axes=1), sums)
        for n in range(len(some)):
            one = jax.tree.map(lambda x, n=n: x[n], drawn)
            found.append(_score(problem, task, one, prepared, select_by))
    return np.array(found)


def _score(problem, task, totals, prepared, select_by):
    if not totals[1][1] > 0:  # No label.
        return math.nan
    try:
        return finished(problem, task, totals, prepared)[select_by]
    except (ValueError, ArithmeticError):
        return math.nan
