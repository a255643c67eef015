"""Ways to group tasks side by side: what a grouping costs to find, and what it gains.

All methods of a comparison share a ledger, so that a network that two of them ask for is trained
once. What a method is charged for is what its own search would have trained.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tag_jax import ledger, selection, training
from tag_jax.grouping import search
from tag_jax.grouping.by_networks import random_groups
from tag_jax.grouping.run import Run, all_in_one_plan, begin

RANDOM, ALL_IN_ONE, EXHAUSTIVE = 'random', 'all_in_one', 'exhaustive'
DRAWS = 200  # Random groupings of a seed and budget, where all networks exist.
DRAWS_TO_TRAIN = 5  # The same, where their networks have to be trained.


class Proposal(NamedTuple):
    """Groups that a method proposes.

    Attributes:
      groups: tuples of task indices.
      serves: the tasks that each serves; None for the networks with the lowest validation error.
      steps: network-steps that the search took.
      seconds: that it took.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...] | None
    steps: float = 0.0
    seconds: float = 0.0


class Outcome(NamedTuple):
    """What a method came to, for one budget and seed.

    Attributes:
      method, budget, seed: of the search.
      groups: tuples of task names; empty for random groupings, which are many.
      steps: network-steps of the search, in units of the steps of one all-in-one network.
      seconds: of the search, in units of the seconds of one all-in-one network, trained alone.
      validation_error: total over tasks, percent, of the chosen networks of this seed.
      test_error: the same on the test split.
      fresh_errors: `{seed: total}` on the test split, of networks for these groups of the other
        seeds, which had no part in the choice; each task is served by the one of them with its
        lowest validation error. Empty where they were not trained.
    """

    method: str
    budget: int
    seed: int
    groups: tuple[tuple[str, ...], ...]
    steps: float
    seconds: float
    validation_error: float
    test_error: float
    fresh_errors: Mapping[int, float]


class CrossFitted(NamedTuple):
    """What the best groups are worth, without the luck of having been chosen.

    Attributes:
      error: total test error, percent: chosen on the mean validation errors of half the seeds,
        scored on the test errors of the other half; the mean of both ways round.
      groups: of both ways, tuples of task names.
    """

    error: float
    groups: tuple[tuple[tuple[str, ...], ...], ...]


class Comparison(NamedTuple):
    """What came out of a comparison.

    Attributes:
      outcomes: an `Outcome` for each method, budget and seed.
      optima: `{budget: CrossFitted}`; empty unless all networks were trained, for several seeds.
      correlations: `{method: [T]}`, see `within_task_correlations`; empty like `optima`.
    """

    outcomes: tuple[Outcome, ...]
    optima: Mapping[int, CrossFitted]
    correlations: Mapping[str, np.ndarray]


class Search:
    """One seed of a comparison: what methods may ask for.

    Attributes:
      run: a `grouping.run.Run` with the config of this seed.
      names: T task names.
    """

    def __init__(self, run, book):
        self.run, self.names, self._book = run, run.problem.task_names, book
        self._measured, self._rows = {}, {}

    def rows(self, sets, fraction=1.0):
        """Rows of networks for sets of task names, trained for a fraction of the steps."""
        known = self._rows.setdefault(fraction, {})
        if missing := [tasks for tasks in sets if tasks not in known]:
            found = search.brief_rows(self.run, missing, self._book, fraction)
            known |= zip(missing, found, strict=True)
        return [known[tasks] for tasks in sets]

    def all_sets(self, sizes=None):
        """All sets of tasks, or those of some sizes."""
        return search.all_sets(self.names, sizes)

    def measured(self, kind):
        """(`AffinitySummary`, steps, seconds) of an all-in-one network, measured in one way."""
        if kind not in self._measured:
            config = dataclasses.replace(self.run.config, affinity_kind=kind)
            network = self._all_in_one(config, True)
            self._measured[kind] = network.affinities, network.steps, network.seconds
        return self._measured[kind]

    @functools.cached_property
    def reference(self):
        """(steps, seconds) of an all-in-one network that trains alone."""
        network = self._all_in_one(self.run.config, False)
        return network.steps, network.seconds

    def _all_in_one(self, config, measures):
        """An all-in-one network; the seconds that compilation takes are not counted."""
        plan = all_in_one_plan(self.run)._replace(measures_affinity=measures)
        data = self.run.dataset
        train = functools.partial(
            training.train_networks, self.run.problem, data.train, data.validation, [plan]
        )
        if config.steps % config.eval_every == 0:  # Else another program would be compiled.
            train(dataclasses.replace(config, steps=config.eval_every, affinity_window=(0, 1)))
        return train(config)[0]


def tag(found: Search, budget) -> Proposal:
    """`grouping.tag`."""
    return _by_affinity(found, budget, 'exact')


def cosine_similarity(found: Search, budget) -> Proposal:
    """`grouping.cosine_similarity`."""
    return _by_affinity(found, budget, 'cosine')


def hoa(found: Search, budget) -> Proposal:
    """`grouping.hoa`."""
    rows = found.rows(found.all_sets((1, 2)))
    candidates = ledger.candidates(rows, found.names)
    return _selected(selection.higher_order_approximation(candidates), budget, rows)


def esa(found: Search, budget) -> Proposal:
    """`grouping.esa`, with a fifth of the steps."""
    rows = found.rows(found.all_sets(), 0.2)
    return _selected(ledger.candidates(rows, found.names), budget, rows)


def subsets(found: Search, budget) -> Proposal:
    """`grouping.subsets`."""
    rows = found.rows(_subsets(found), search.BRIEF)
    candidates = ledger.candidates(rows, found.names)
    return _selected(selection.additive_model(candidates), budget, rows)


def exhaustive(found: Search, budget) -> Proposal:
    """`grouping.exhaustive`."""
    rows = found.rows(found.all_sets())
    return _selected(ledger.candidates(rows, found.names), budget, rows)


def pessimal(found: Search, budget) -> Proposal:
    """`grouping.exhaustive` with pessimal=True."""
    rows = found.rows(found.all_sets())
    selected = selection.pessimal(ledger.candidates(rows, found.names), budget)
    return _proposal(selected, rows)


def single_task(found: Search, budget) -> Proposal:
    """`grouping.single_task`, whatever the budget."""
    del budget
    return Proposal(tuple((n,) for n in range(len(found.names))), None)


def all_in_one(found: Search, budget) -> Proposal:
    """`grouping.all_in_one`."""
    del budget
    return Proposal((tuple(range(len(found.names))),), None)


METHODS: Mapping[str, Callable[[Search, int], Proposal]] = {
    ALL_IN_ONE: all_in_one,
    'single_task': single_task,
    'tag': tag,
    'cosine_similarity': cosine_similarity,
    'hoa': hoa,
    'esa': esa,
    'subsets': subsets,
    EXHAUSTIVE: exhaustive,
    'pessimal': pessimal,
}


def compare(
    problem,
    dataset,
    methods: Sequence[str],
    budgets: Sequence[int],
    config: training.TrainingConfig,
    seeds: int = 3,
    store=None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Comparison:
    """Finds groups in every way for every budget and seed, trains their networks, evaluates them.

    Random groupings are always part of it.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`.
      methods: names among `METHODS`.
      budgets: numbers of networks.
      config: a `TrainingConfig`; its seed is the first of `seeds` seeds.
      seeds: how many.
      store: the folder of the ledger; None to keep it in memory.
      on_outcome: called with each outcome as it is known.

    Returns:
      A `Comparison`.

    Raises:
      ValueError: before any training, if a method is unknown, a number is out of its range, or the
        data does not fit the problem.
      OSError: if the ledger cannot be written to.
      FloatingPointError: if a loss is not finite.
    """
    run = check(problem, dataset, methods, budgets, config, seeds)
    runs = [
        run._replace(config=dataclasses.replace(config, seed=config.seed + n)) for n in range(seeds)
    ]
    outcomes, optima, correlations = [], {}, {}
    with search.open_ledger(run, store) as book:
        searches = [Search(one, book) for one in runs]
        if complete := bool({EXHAUSTIVE, 'pessimal'} & set(methods)):
            for found in searches:
                found.rows(found.all_sets())
        for found in searches:
            others = [other for other in searches if complete and other is not found]
            for budget in budgets:
                for method in methods:
                    proposal = METHODS[method](found, budget)
                    outcomes.append(_outcome(method, budget, found, others, [proposal]))
                    on_outcome(outcomes[-1])
                drawn = _random_proposals(found, budget, DRAWS if complete else DRAWS_TO_TRAIN)
                outcomes.append(_outcome(RANDOM, budget, found, others, drawn))
                on_outcome(outcomes[-1])
        if complete:
            rows = [found.rows(found.all_sets()) for found in searches]
            correlations = within_task_correlations(searches, rows, methods)
            for budget in budgets:
                if optimum := cross_fitted_optimum(rows, problem.task_names, budget):
                    optima[budget] = optimum
    return Comparison(tuple(outcomes), optima, correlations)


def check(problem, dataset, methods, budgets, config, seeds) -> Run:
    """A run of the first seed, if everything that `compare` is given can be used.

    Raises:
      ValueError: see `compare`.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f'there is no method {unknown[0]!r}: choose {", ".join(METHODS)}')
    if seeds < 1 or not methods or not budgets:
        raise ValueError('a comparison needs at least one method, one budget and one seed')
    if config.affinity_split != 'train':
        raise ValueError(
            "a comparison measures affinities on the training split: leave it at 'train'"
        )
    for budget in budgets:
        run = begin(problem, dataset, budget, config, 'comparison', None, False)
    if {EXHAUSTIVE, 'pessimal', 'esa', 'subsets', 'hoa'} & set(methods):
        search.all_sets(problem.task_names)
    return run


def cross_fitted_optimum(rows_of_seeds, task_names, budget) -> CrossFitted | None:
    """What the exhaustive choice is worth on networks that had no part in it.

    Args:
      rows_of_seeds: for each seed the rows of networks of all sets of tasks, in one order.
      task_names: T names.
      budget: networks.

    Returns:
      A `CrossFitted`; None for a single seed.
    """
    if len(rows_of_seeds) < 2:
        return None
    errors = {split: _errors(rows_of_seeds, task_names, split) for split in ledger.SPLITS}
    middle = len(rows_of_seeds) // 2
    totals, chosen = [], []
    for mine, theirs in (
        (slice(0, middle), slice(middle, None)),
        (slice(middle, None), slice(0, middle)),
    ):
        scores = errors['validation'][mine].mean(axis=0)
        candidates = selection.Candidates(
            ~np.isnan(scores), scores, np.ones(len(scores)), task_names
        )
        best = selection.select_networks(candidates, budget)
        networks = list(best.networks)
        served = np.nan_to_num(errors['validation'][theirs][:, networks], nan=np.inf).argmin(axis=1)
        tested = np.take_along_axis(errors['test'][theirs][:, networks], served[:, None], axis=1)
        totals.append(tested.sum(axis=(1, 2)).mean())
        chosen.append(_named(best.groups, task_names))
    return CrossFitted(float(np.mean(totals)), tuple(chosen))


def within_task_correlations(searches, rows_of_seeds, methods) -> dict[str, np.ndarray]:
    """How well methods predict, of one task, in which groups it does well.

    For each task the correlation, over all groups of three tasks and more that it is in, between
    what a method predicts and the test error (its negative, for affinities), averaged over seeds.
    Tasks are never pooled: that some tasks have higher errors than others anybody can predict.

    Args:
      searches: a `Search` for each seed.
      rows_of_seeds: for each of them the rows of networks of all sets of tasks.
      methods: their names; those that predict nothing are left out.

    Returns:
      `{method: [T]}`.
    """
    found = {}
    for method in methods:
        if method not in PREDICTIONS:
            continue
        of_seeds = []
        for one, rows in zip(searches, rows_of_seeds, strict=True):
            errors = _errors([rows], one.names, 'test')[0]
            large = (~np.isnan(errors)).sum(axis=1) >= 3
            predicted = PREDICTIONS[method](one)
            of_seeds.append(
                [_correlation(predicted[large, n], errors[large, n]) for n in range(len(one.names))]
            )
        found[method] = np.mean(of_seeds, axis=0)
    return found


def _affinities_of_sets(found, kind):
    """What affinities predict for all sets of tasks, `[N, T]`; their negative, as an error."""
    candidates = selection.affinity_candidates(found.measured(kind)[0].mean)
    return -_of_all_sets(found, candidates)


def _pairs_of_sets(found):
    """What the higher order approximation predicts for all sets of tasks, `[N, T]`."""
    rows = found.rows(found.all_sets((1, 2)))
    candidates = ledger.candidates(rows, found.names)
    return _of_all_sets(found, selection.higher_order_approximation(candidates))


def _model_of_sets(found):
    """What the model of brief random networks predicts for all sets of tasks, `[N, T]`."""
    rows = found.rows(_subsets(found), search.BRIEF)
    return _of_all_sets(found, selection.additive_model(ledger.candidates(rows, found.names)))


def _of_all_sets(found, candidates):
    """The scores of candidates for all sets of tasks, `[N, T]`, NaN for those they leave out."""
    nothing = np.full(len(found.names), np.nan)
    known = dict(zip(map(tuple, candidates.members.tolist()), candidates.scores, strict=True))
    members = [tuple(task in tasks for task in found.names) for tasks in found.all_sets()]
    return np.array([known.get(row, nothing) for row in members])


def _subsets(found):
    return search.random_sets(found.names, search.SUBSETS, found.run.config.seed)


PREDICTIONS: Mapping[str, Callable[[Search], np.ndarray]] = {
    'tag': functools.partial(_affinities_of_sets, kind='exact'),
    'cosine_similarity': functools.partial(_affinities_of_sets, kind='cosine'),
    'hoa': _pairs_of_sets,
    'esa': lambda found: _errors([found.rows(found.all_sets(), 0.2)], found.names, 'validation')[0],
    'subsets': _model_of_sets,
}


def _correlation(left, right):
    known = np.isfinite(left) & np.isfinite(right)
    left, right = left[known], right[known]
    if len(left) < 3 or left.std() == 0 or right.std() == 0:
        return np.nan
    return float(np.corrcoef(left, right)[0, 1])


def _errors(rows_of_seeds, task_names, split):
    """`[seeds, networks, T]`, NaN where a network does not train a task."""
    return np.array(
        [
            [
                [row[split][t]['error'] if t in row[split] else np.nan for t in task_names]
                for row in rows
            ]
            for rows in rows_of_seeds
        ]
    )


def _by_affinity(found, budget, kind):
    summary, steps, seconds = found.measured(kind)
    selected = selection.select_groups(summary.mean, budget)
    return Proposal(selected.groups, selected.serves, steps, seconds)


def _selected(candidates, budget, rows):
    return _proposal(selection.select_networks(candidates, budget), rows)


def _proposal(selected, rows):
    cost = search.cost_of(rows)
    return Proposal(selected.groups, selected.serves, cost['search_steps'], cost['search_seconds'])


def _random_proposals(found, budget, count):
    rng = np.random.default_rng((found.run.config.seed, budget))
    return [Proposal(random_groups(rng, len(found.names), budget), None) for _ in range(count)]


def _outcome(method, budget, found, others, proposals) -> Outcome:
    """The mean over proposals, which are several for random groupings only."""
    own = np.mean([_total_errors(found, proposal) for proposal in proposals], axis=0)
    again = [proposal._replace(serves=None) for proposal in proposals]
    fresh = {
        other.run.config.seed: float(np.mean([_total_errors(other, one)[1] for one in again]))
        for other in others
    }
    steps, seconds = found.reference
    return Outcome(
        method=method,
        budget=budget,
        seed=found.run.config.seed,
        groups=_named(proposals[0].groups, found.names) if len(proposals) == 1 else (),
        steps=proposals[0].steps / steps,
        seconds=proposals[0].seconds / seconds,
        validation_error=float(own[0]),
        test_error=float(own[1]),
        fresh_errors=fresh,
    )


def _total_errors(found, proposal):
    """(validation, test) total error of the networks for a proposal, of one seed."""
    groups = _named(proposal.groups, found.names)
    rows = found.rows(groups)
    if proposal.serves is None:
        candidates = ledger.candidates(rows, found.names)
        served = selection.serve(candidates, list(range(len(rows))))
        pairs = [
            (rows[n], found.names[task])
            for n, tasks in zip(served.networks, served.serves, strict=True)
            for task in tasks
        ]
    else:
        pairs = [
            (row, found.names[task])
            for row, tasks in zip(rows, proposal.serves, strict=True)
            for task in tasks
        ]
    return [math.fsum(row[split][task]['error'] for row, task in pairs) for split in ledger.SPLITS]


def _named(groups, task_names):
    return tuple(tuple(task_names[n] for n in group) for group in groups)
