"""Means over seeds of what ways to group came to."""

import functools
from typing import NamedTuple

import numpy as np

from tag_jax.comparison.groupings import ALL_IN_ONE, RANDOM, Comparison


class Line(NamedTuple):
    """A method for one budget, or for the mean over budgets, over seeds.

    Attributes:
      method: its name.
      budget: networks; None for the mean over budgets.
      error: (mean, standard error) over seeds of the total test error, percent.
      over_all_in_one, over_random: (value, standard error) of how much lower the error is than
        theirs, in percent of theirs; errors by the jackknife over seeds, so they are paired.
      share: of the optimum's gain over random groupings; None where the optimum is not known, or
        no better than them.
      cost: of the networks at inference, in standard networks.
      steps, seconds: of the search, in all-in-one networks.
      expected: mean total validation error of the chosen networks as they were chosen.
      own: mean total test error of those networks, of the seed of the search.
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


def summary(comparison: Comparison) -> list[Line]:
    """The means over seeds: for every budget a line a method, then the means over budgets.

    Errors are those of networks that had no part in the choice, where they are known
    (`Outcome.fresh_errors`), else of the networks of the seed of the search.

    Args:
      comparison: from `compare_groupings`.
    """
    outcomes = comparison.outcomes
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))
    budgets = sorted({outcome.budget for outcome in outcomes})
    seeds = sorted({outcome.seed for outcome in outcomes})
    found = _by_key(outcomes)
    mean = functools.partial(_mean, found)
    lines = []
    for chosen in [*([budget] for budget in budgets), *([budgets] if len(budgets) > 1 else [])]:
        gaining = [
            budget
            for budget in chosen
            if budget in comparison.optima
            # (Of one network for all tasks there is nothing to choose, and nothing to gain.)
            and mean(RANDOM, [budget], seeds) > (1 + 1e-9) * comparison.optima[budget].error
        ]
        for method in methods:

            def below(other, among, method=method, chosen=chosen):
                return 100 * (1 - mean(method, chosen, among) / mean(other, chosen, among))

            of = [found[method, budget, seed] for budget in chosen for seed in seeds]
            average = lambda name, of=of: float(np.mean([getattr(one, name) for one in of]))
            jackknife = functools.partial(_jackknife, seeds, 3 if of[0].fresh_errors else 2)
            share = None
            if gaining:
                randomly = mean(RANDOM, gaining, seeds)
                optimum = np.mean([comparison.optima[budget].error for budget in gaining])
                share = (randomly - mean(method, gaining, seeds)) / float(randomly - optimum)
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
                )
            )
    return lines


def differences(comparison: Comparison) -> dict[tuple[str, str], tuple[float, float]]:
    """How much higher the total test error of a method is than that of another, over all budgets.

    Two methods are judged by networks of the same seeds, so the error of a difference is another
    than that of two independent means: it is by the jackknife as well, see `summary`.

    Args:
      comparison: from `compare_groupings`.

    Returns:
      `{(method, other): (difference in points of percent, standard error)}` of all pairs.
    """
    outcomes = comparison.outcomes
    found = _by_key(outcomes)
    methods, budgets, seeds = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    least = 3 if outcomes[0].fresh_errors else 2

    def between(method, other, among):
        return _mean(found, method, budgets, among) - _mean(found, other, budgets, among)

    return {
        (method, other): _jackknife(seeds, least, functools.partial(between, method, other))
        for method in methods
        for other in methods
        if method != other
    }


def _by_key(outcomes):
    """`{(method, budget, seed): outcome}`."""
    return {(one.method, one.budget, one.seed): one for one in outcomes}


def _mean(found, method, budgets, among):
    """The mean error of a method over budgets, searches and networks of some seeds."""
    of = [found[method, budget, seed] for budget in budgets for seed in among]
    fresh = [one.fresh_errors[seed] for one in of for seed in among if seed in one.fresh_errors]
    return float(np.mean(fresh or [one.test_error for one in of]))


def _jackknife(seeds, least, statistic):
    """A statistic of seeds and its standard error, by leaving out each seed altogether.

    A seed that is left out counts neither as a search nor as networks that judge the others: means
    over networks of all other seeds share most of them, and are not independent.

    Args:
      seeds: all of them.
      least: of how many a standard error can be told; NaN below.
      statistic: list of seeds -> number.
    """
    value, size = statistic(seeds), len(seeds)
    if size < least:
        return value, float('nan')
    without = [statistic([seed for seed in seeds if seed != one]) for one in seeds]
    return value, float(np.sqrt((size - 1) * np.var(without)))
