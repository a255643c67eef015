"""Judges ways to group tasks on recorded tables: nothing is trained.

A search sees the validation scores of one seed. The groups that it proposes are judged by the test
scores of the networks of all other seeds, which had no part in the choice, each task being served
by the network with its lowest validation score. So no method gains by the luck of the networks
that it saw, and the best groups that could be known are chosen on half of the seeds and judged by
the other half (`comparison.cross_fitted_optimum`).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from tag_jax import comparison, grouping
from tag_jax.comparison import Comparison
from tag_jax.grouping import Method, Searcher
from tag_jax.grouping.task_sets import all_sets
from tag_jax.numbers import correlation
from tag_jax.studies.recorded import RecordedTable
from tag_jax.studies.replay import RecordedTrainer

BUDGETS = (2, 3, 4)
# The problems on which settings of our own methods were chosen.
DEVELOPED = ('emotions', 'school', 'wq', 'yeast')
# Random groupings of a seed and budget that stand for all of them.
_DRAWS = 10
# The smallest groups of which predictions are judged.
_LEAST = 3


class Judged(NamedTuple):
    """Methods on one problem.

    Attributes:
      problem: its name.
      task_names: T names.
      comparison: a `comparison.Comparison`, errors of which are test scores by `judge_by`.
      correlations: `{method: r}`, of predicted scores with mean test scores over the other seeds,
        over all sets of three tasks and more, means over tasks and seeds.
      ceiling: the same r between half of the seeds and the other half: a prediction cannot be
        expected to do much better. NaN below four seeds.
    """

    problem: str
    task_names: tuple[str, ...]
    comparison: Comparison
    correlations: Mapping[str, float]
    ceiling: float

    @property
    def scores(self) -> dict[str, float]:
        """Total test scores of each method, means over budgets, searches and judges."""
        found = {}
        for one in self.comparison.outcomes:
            found.setdefault(one.method, []).append(np.mean(list(one.fresh_errors.values())))
        return {method: float(np.mean(values)) for method, values in found.items()}

    @property
    def own(self) -> dict[str, float]:
        """The same of the networks of each search's own seed, on which its choice rests."""
        found = {}
        for one in self.comparison.outcomes:
            found.setdefault(one.method, []).append(one.test_error)
        return {method: float(np.mean(values)) for method, values in found.items()}

    @property
    def optimum(self) -> float:
        """The total test score of the best groups that could be known, mean over budgets."""
        return float(np.mean([one.error for one in self.comparison.optima.values()]))


class Standing(NamedTuple):
    """A method over all problems.

    Attributes:
      method: its name.
      rank: its mean rank over problems, 1 for the lowest mean test score.
      regret: (mean, standard error over problems), how much higher its score is than that of the
        best groups that could be known: points (of percent, of relative losses), a task.
      over_all_in_one: the same of how much lower it is than that of one network for all tasks.
      cost: of the search, in all-in-one networks.
      inference: cost of the chosen networks over the budget.
      losses: `{rival: problems}` where it is significantly worse than a rival.
      wins: `{rival: problems}` where it is significantly better.
      correlation: mean over problems of `Judged.correlations`; NaN where it predicts nothing.
    """

    method: str
    rank: float
    regret: tuple[float, float]
    over_all_in_one: tuple[float, float]
    cost: float
    inference: float
    losses: Mapping[str, tuple[str, ...]]
    wins: Mapping[str, tuple[str, ...]]
    correlation: float


def judge(
    table: RecordedTable,
    methods: Sequence[Method],
    budgets: Sequence[float] = BUDGETS,
    select_by: str = 'relative_loss',
    judge_by: str | None = None,
) -> Judged:
    """Lets methods search on every seed of a table, and judges their groups by the other seeds.

    Args:
      table: a `RecordedTable`.
      methods: with different displayed names; random groupings are always part of it.
      budgets: what networks may cost at inference, in standard networks.
      select_by: the validation scores that searches see, of `evaluation.CRITERIA`.
      judge_by: the test scores that groups are judged by; None for `select_by`.

    Raises:
      ValueError: if a method asks for what the table does not have, or two have one name.
    """
    named = [method.displayed for method in methods]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f'two methods are called {twice[0]!r}: leave one out')
    trainers = [RecordedTrainer(table, seed, select_by, judge_by) for seed in range(table.seeds)]
    outcomes = comparison.propose(trainers, methods, budgets, True, _DRAWS)
    every = [trainer.rows(all_sets(trainer.names)) for trainer in trainers]
    optima = {
        budget: comparison.cross_fitted_optimum(every, table.task_names, budget)
        for budget in budgets
    }
    found = Comparison(outcomes, optima, {}, judge_by or select_by)
    tests = table.values('test', judge_by or select_by)[:, -1]
    return Judged(
        table.name,
        table.task_names,
        found,
        {
            method.displayed: _mean_correlation(table, method, trainers, tests)
            for method in methods
            if method.predict is not None
        },
        _ceiling(table, tests),
    )


def standings(
    judged: Sequence[Judged], rivals: Sequence[str], level: float = 0.05
) -> list[Standing]:
    """The methods over all problems, best mean rank first.

    Whether one method is worse than another on a problem is told by a paired t test over seeds, on
    the mean over budgets (the standard error by the jackknife, see `comparison.differences`), with
    Holm's correction over all rivals and problems.

    Args:
      judged: a `Judged` a problem, all of the same methods and budgets.
      rivals: displayed names of methods.
      level: of significance.

    Returns:
      A list of `Standing`.
    """
    methods = list(judged[0].scores)
    totals = np.array([[one.scores[method] for method in methods] for one in judged])
    ranks = stats.rankdata(totals, axis=1).mean(axis=0)
    optima = np.array([one.optimum for one in judged])
    sizes = np.array([len(one.task_names) for one in judged])
    alone = np.full(len(judged), math.nan)
    if comparison.ALL_IN_ONE in methods:
        alone = totals[:, methods.index(comparison.ALL_IN_ONE)]
    verdicts = _verdicts(judged, methods, [r for r in rivals if r in methods], level)
    found = []
    for n, method in enumerate(methods):
        of = [o for one in judged for o in one.comparison.outcomes if o.method == method]
        predicted = [one.correlations[method] for one in judged if method in one.correlations]
        found.append(
            Standing(
                method,
                float(ranks[n]),
                _mean_and_error((totals[:, n] - optima) / sizes),
                _mean_and_error((alone - totals[:, n]) / sizes),
                float(np.mean([o.steps for o in of])),
                float(np.mean([o.cost / o.budget for o in of])),
                verdicts[method][0],
                verdicts[method][1],
                float(np.mean(predicted)) if predicted else math.nan,
            )
        )
    return sorted(found, key=lambda standing: standing.rank)


def _mean_and_error(values):
    values = np.asarray(values)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def _verdicts(judged, methods, rivals, level):
    """`{method: ({rival: problems lost}, {rival: problems won})}`."""
    found = {method: ({}, {}) for method in methods}
    gaps = [comparison.differences(one.comparison) for one in judged]
    for method in methods:
        tests = []
        for one, gap in zip(judged, gaps, strict=True):
            seeds = len({o.seed for o in one.comparison.outcomes})
            for rival in rivals:
                if rival != method:
                    value, error = gap[method, rival].value, gap[method, rival].error
                    tests.append((_p_value(value, error, seeds), one.problem, rival, value))
        for significant, (_, problem, rival, value) in zip(
            _holm([test[0] for test in tests], level), tests, strict=True
        ):
            if significant:
                side = found[method][0 if value > 0 else 1]
                side[rival] = (*side.get(rival, ()), problem)
    return found


def _p_value(value, error, seeds):
    """The two-sided p-value of a difference."""
    if not error > 0:
        return 1.0 if abs(value) < 1e-9 or math.isnan(error) else 0.0
    return float(2 * stats.t.sf(abs(value) / error, seeds - 1))


def _holm(p_values, level):
    """Which hypotheses fall at a level, by Holm's step-down procedure (Holm 1979)."""
    order = np.argsort(p_values, kind='stable')
    size, falls = len(p_values), [False] * len(p_values)
    for n, place in enumerate(order):
        if p_values[place] > level / (size - n):
            break
        falls[place] = True
    return falls


def _mean_correlation(table, method, trainers, tests):
    """The mean r, within a task, of what is predicted with what networks of other seeds reach."""
    found = []
    for seed, trainer in enumerate(trainers):
        predicted = method.predict(Searcher(trainer))
        standard = predicted.costs == predicted.costs.max()
        scores = {
            tuple(row): scores
            for row, scores in zip(
                predicted.members[standard].tolist(), predicted.scores[standard], strict=True
            )
        }
        sets = [
            n
            for n, row in enumerate(table.members.tolist())
            if table.costs[n] == 1 and sum(row) >= _LEAST and tuple(row) in scores
        ]
        reached = np.delete(tests, seed, axis=0).mean(axis=0)[sets]
        answers = np.array([scores[tuple(table.members[n].tolist())] for n in sets])
        found += [
            correlation(answers[:, task], reached[:, task]) for task in range(len(trainer.names))
        ]
    return float(np.nanmean(found)) if np.isfinite(found).any() else math.nan


def _ceiling(table, tests):
    """The mean r, within a task, of half of the seeds with the other half."""
    seeds = range(table.seeds)
    if len(seeds) < 4:
        return math.nan
    large = (table.costs == 1) & (table.members.sum(axis=1) >= _LEAST)
    halves = itertools.islice(itertools.combinations(seeds, len(seeds) // 2), 20)
    found = []
    for half in halves:
        rest = [seed for seed in seeds if seed not in half]
        one, other = (tests[list(some)].mean(axis=0)[large] for some in (half, rest))
        found += [correlation(one[:, t], other[:, t]) for t in range(one.shape[1])]
    return float(np.nanmean(found))


def wide_all_in_one(budgets: Sequence[float] = BUDGETS) -> Method:
    """One network for all tasks whose encoder costs the budget, as the rival that it is.

    Args:
      budgets: what networks may cost.
    """
    method = grouping.all_in_one({budget: float(budget) for budget in budgets})
    return method._replace(name='wide_all_in_one', options={})
