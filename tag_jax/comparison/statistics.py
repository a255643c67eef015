"""Means over seeds and splits of what ways to group came to, and how sure they are.

On one split, the error of a difference has two parts: networks of other seeds would differ, and
other test examples would. The first is told by the jackknife over seeds, the second by a paired
bootstrap of test examples; their variances add. (What seeds and examples do together is in both, so
that the sum is rather too large than too small.) Several splits have other seeds and other test
examples, so the jackknife over splits has it all, but for one thing: splits share examples. Their
variance is widened as Nadeau & Bengio 2003, "Inference for the Generalization Error", Section 3,
have it, by test_share for each that a mean over independent ones would have.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from tag_jax.comparison.groupings import ALL_IN_ONE, RANDOM, Comparison

LEVEL = 0.95
SEEDS, SPLITS, EXAMPLES = 'seeds', 'splits', 'test examples'


class Line(NamedTuple):
    """A method for one budget, or for the mean over budgets, over seeds and splits.

    Attributes:
      method: its name.
      budget: networks; None for the mean over budgets.
      error: (mean, standard error) of the total test error, percent: over splits where there are
        several, else over seeds.
      over_all_in_one, over_random: (value, standard error) of how much lower the error is than
        theirs, in percent of theirs; errors by the jackknife, so they are paired.
      share: of the optimum's gain over random groupings; None where the optimum is not known, or
        no better than them.
      cost: of the networks at inference, in standard networks.
      steps, seconds: of the search, in all-in-one networks.
      expected: mean total validation error of the chosen networks as they were chosen.
      own: mean total test error of those networks, of the seed of the search.
      afresh: whether `error` is that of networks of other seeds, which had no part in the choice;
        else it is that of the chosen networks, as `own` is.
    """

    method: str
    budget: float | None
    error: tuple[float, float]
    over_all_in_one: tuple[float, float] | None
    over_random: tuple[float, float]
    share: float | None
    cost: float
    steps: float
    seconds: float
    expected: float
    own: float
    afresh: bool = False


class Difference(NamedTuple):
    """How much higher the total test error of a method is than that of another, over all budgets.

    Attributes:
      method, other: their names.
      value: the difference, in points of percent; below 0 where the method is better.
      error: its standard error; NaN where it cannot be told.
      low, high: its interval at LEVEL, by Student's t; NaN like the error.
      told: whether the interval leaves 0 out; None where there is none.
    """

    method: str
    other: str
    value: float
    error: float
    low: float
    high: float
    told: bool | None


def covers(comparison: Comparison) -> tuple[str, ...]:
    """Says which of SEEDS, SPLITS and EXAMPLES intervals of differences allow for.

    Args:
      comparison: from `compare_groupings`.
    """
    if comparison.splits > 1:
        return SPLITS, SEEDS, EXAMPLES
    units = _units(comparison)
    parts = {
        SEEDS: len(units) >= _least(comparison),
        EXAMPLES: all(one.test_draws is not None for one in comparison.outcomes),
    }
    return tuple(name for name, known in parts.items() if known)


def summary(comparison: Comparison) -> list[Line]:
    """The means over seeds and splits: for every budget a line a method, then over budgets.

    Errors are those of networks that had no part in the choice, where they are known
    (`Outcome.fresh_errors`), else of the networks of the seed of the search.

    Args:
      comparison: from `compare_groupings`.
    """
    outcomes = comparison.outcomes
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))
    budgets = sorted({outcome.budget for outcome in outcomes})
    units = _units(comparison)
    found = _by_key(outcomes)
    mean = functools.partial(_mean, found)
    jackknife = functools.partial(_jackknife, comparison, units)
    lines = []
    for chosen in [*([budget] for budget in budgets), *([budgets] if len(budgets) > 1 else [])]:
        gaining = [
            budget
            for budget in chosen
            if budget in comparison.optima
            # (Of one network for all tasks there is nothing to choose, and nothing to gain.)
            and mean(RANDOM, [budget], units) > (1 + 1e-9) * comparison.optima[budget].error
        ]
        for method in methods:

            def below(other, among, method=method, chosen=chosen):
                return 100 * (1 - mean(method, chosen, among) / mean(other, chosen, among))

            of = [found[method, budget, unit] for budget in chosen for unit in units]
            average = lambda name, of=of: float(np.mean([getattr(one, name) for one in of]))
            share = None
            if gaining:
                randomly = mean(RANDOM, gaining, units)
                optimum = np.mean([comparison.optima[budget].error for budget in gaining])
                share = (randomly - mean(method, gaining, units)) / float(randomly - optimum)
            lines.append(
                Line(
                    method=method,
                    budget=chosen[0] if len(chosen) == 1 else None,
                    error=jackknife(functools.partial(mean, method, chosen)),
                    over_all_in_one=(
                        jackknife(functools.partial(below, ALL_IN_ONE))
                        if ALL_IN_ONE in methods
                        else None
                    ),
                    over_random=jackknife(functools.partial(below, RANDOM)),
                    share=share,
                    cost=average('cost'),
                    steps=average('steps'),
                    seconds=average('seconds'),
                    expected=average('validation_error'),
                    own=average('test_error'),
                    afresh=all(one.fresh_errors for one in of),
                )
            )
    return lines


def differences(comparison: Comparison) -> dict[tuple[str, str], Difference]:
    """The differences of all pairs of methods, with their intervals, see the module.

    Two methods are judged by networks of the same seeds, on the same test examples and splits, so
    the error of a difference is another than that of two independent means.

    Args:
      comparison: from `compare_groupings`.

    Returns:
      `{(method, other): Difference}`.
    """
    outcomes = comparison.outcomes
    found, units = _by_key(outcomes), _units(comparison)
    methods, budgets = (
        list(dict.fromkeys(getattr(one, name) for one in outcomes)) for name in ('method', 'budget')
    )
    draws = {name: _mean_draws(found, name, budgets, units) for name in methods}

    def between(method, other, among):
        return _mean(found, method, budgets, among) - _mean(found, other, budgets, among)

    pairs = {}
    for method in methods:
        for other in methods:
            if method != other:
                value, error = _jackknife(
                    comparison, units, functools.partial(between, method, other)
                )
                parts = [(error, len(_clusters(units)) - 1)]
                if comparison.splits == 1 and draws[method] is not None:
                    drawn = draws[method] - draws[other]
                    parts.append((float(np.nanstd(drawn, ddof=1)), len(drawn) - 1))
                pairs[method, other] = _difference(method, other, value, parts)
    return pairs


def _difference(method, other, value, parts) -> Difference:
    """A `Difference` whose variance is the sum of some parts (Welch 1947: degrees of freedom).

    Args:
      method, other, value: see `Difference`.
      parts: (standard error, its degrees of freedom); those of NaN are not known.
    """
    squares = [(error**2, freedom) for error, freedom in parts if math.isfinite(error)]
    if not squares:
        return Difference(method, other, value, math.nan, math.nan, math.nan, None)
    total = math.fsum(square for square, _ in squares)
    error, half = math.sqrt(total), 0.0
    if total > 0:
        freedom = total**2 / math.fsum(square**2 / own for square, own in squares)
        half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    low, high = value - half, value + half
    told = value != 0 and (low > 0 or high < 0)
    return Difference(method, other, value, error, low, high, told)


def _by_key(outcomes):
    """`{(method, budget, (split, seed)): outcome}`."""
    return {(one.method, one.budget, (one.split, one.seed)): one for one in outcomes}


def _units(comparison):
    """(split, seed) of all searches."""
    return sorted({(one.split, one.seed) for one in comparison.outcomes})


def _mean(found, method, budgets, among):
    """The mean error of a method over budgets, searches and networks of some seeds."""
    of = [found[method, budget, unit] for budget in budgets for unit in among]
    fresh = [
        one.fresh_errors[seed]
        for one in of
        for split, seed in among
        if split == one.split and seed in one.fresh_errors
    ]
    return float(np.mean(fresh or [one.test_error for one in of]))


def _mean_draws(found, method, budgets, among):
    """The same on each draw of test examples, `[D]`; None where they are not known."""
    of = [found[method, budget, unit].test_draws for budget in budgets for unit in among]
    return None if any(one is None for one in of) else np.mean(of, axis=0)


def _clusters(units):
    """The splits if there are several, else the seeds: the jackknife leaves out each in turn."""
    splits = sorted({split for split, _ in units})
    if len(splits) > 1:
        return [[unit for unit in units if unit[0] == split] for split in splits]
    return [[unit] for unit in units]


def _least(comparison):
    """The number of clusters from which on a standard error can be told."""
    fresh = comparison.splits == 1 and comparison.outcomes[0].fresh_errors
    return 3 if fresh else 2


def _jackknife(comparison, units, statistic):
    """A statistic and its standard error, by leaving out each split, or each seed, altogether.

    A seed that is left out counts neither as a search nor as networks that judge the others: means
    over networks of all other seeds share most of them, and are not independent.

    Args:
      comparison: a `Comparison`.
      units: (split, seed) of all its searches.
      statistic: list of units -> number.
    """
    value, clusters = statistic(units), _clusters(units)
    size = len(clusters)
    if size < _least(comparison):
        return value, float('nan')
    without = [statistic([unit for unit in units if unit not in own]) for own in clusters]
    shared = size * comparison.test_share if comparison.splits > 1 else 0.0
    return value, float(np.sqrt((size - 1) * np.var(without) * (1 + shared)))
