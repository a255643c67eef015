"""The value of the best groups that could be known, without the luck of having been chosen."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax import selection
from tag_jax.comparison.predictions import errors_of
from tag_jax.runs import score_table

MOST_HALVINGS = 20  # Of the seeds, into those that choose an optimum and those that judge it.


class CrossFitted(NamedTuple):
    """The value of the best groups, without the luck of having been chosen.

    Attributes:
      error: total test error, percent: chosen on the mean validation errors of half the seeds,
        scored on the test errors of the other half; the mean of both ways round, over up to
        MOST_HALVINGS ways to halve.
      groups: of every way, tuples of task names.
    """

    error: float
    groups: tuple[tuple[tuple[str, ...], ...], ...]


def cross_fitted_optimum(
    rows_of_seeds: Sequence[Sequence[Mapping[str, Any]]], task_names: Sequence[str], budget: float
) -> CrossFitted | None:
    """Evaluates the exhaustive choice on networks that had no part in it.

    Args:
      rows_of_seeds: for each seed the rows of an exhaustive search, in one order.
      task_names: T names.
      budget: what networks may cost.

    Returns:
      A `CrossFitted`; None for a single seed.
    """
    if len(rows_of_seeds) < 2:
        return None
    errors = {split: errors_of(rows_of_seeds, task_names, split) for split in score_table.SPLITS}
    costs = [row['cost'] for row in rows_of_seeds[0]]
    totals, chosen = [], []
    for half in _halvings(len(rows_of_seeds)):
        for mine, theirs in ((half, ~half), (~half, half)):
            scores = errors['validation'][mine].mean(axis=0)
            candidates = selection.Candidates(~np.isnan(scores), scores, costs, task_names)
            best = selection.select_networks(candidates, budget)
            totals.append(_served_totals(errors, theirs, list(best.networks)).mean())
            chosen.append(tuple(tuple(task_names[n] for n in group) for group in best.groups))
    return CrossFitted(float(np.mean(totals)), tuple(chosen))


def _halvings(size):
    """Ways to halve some seeds, each bool `[S]`: all of them, or some where there are many."""
    middle = size // 2
    if math.comb(size, middle) <= MOST_HALVINGS:
        halves = list(itertools.combinations(range(size), middle))
        # Of an even number, every half comes again as the other half.
        halves = halves[: len(halves) // 2] if 2 * middle == size else halves
    else:
        rng = np.random.default_rng(0)
        halves = [rng.choice(size, middle, replace=False) for _ in range(MOST_HALVINGS)]
    return [np.isin(np.arange(size), half) for half in halves]


def _served_totals(errors, seeds, networks):
    """Total test errors `[S]`, every task served by what is best on validation for each seed."""
    validation, test = (errors[split][seeds][:, networks] for split in score_table.SPLITS)
    served = np.nan_to_num(validation, nan=np.inf).argmin(axis=1)
    return np.take_along_axis(test, served[:, None], axis=1).sum(axis=(1, 2))
