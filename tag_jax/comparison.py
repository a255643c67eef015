"""Ways to group tasks side by side: what a grouping costs to find, and what it gains.

All methods of a comparison share a ledger, so that a network that two of them ask for is trained
once. What a method is charged for is what its own search would have trained.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tag_jax import ledger, selection, training
from tag_jax.grouping import search, verification
from tag_jax.grouping.by_networks import random_groups
from tag_jax.grouping.run import Run, all_in_one_plan, begin, cost_of_encoder

RANDOM, ALL_IN_ONE, EXHAUSTIVE = 'random', 'all_in_one', 'exhaustive'
WIDE, SMALL = 'wide_all_in_one', 'small_single_task'  # What needs other encoders.
DRAWS = 200  # Random groupings of a seed and budget, where all networks exist.
DRAWS_TO_TRAIN = 5  # The same, where their networks have to be trained.


class Proposal(NamedTuple):
    """Groups that a method proposes.

    Attributes:
      groups: tuples of task indices.
      serves: the tasks that each serves; None for the networks with the lowest validation error.
      steps: network-steps that the search took.
      seconds: that it took.
      costs: of each network, in standard networks; None where all are standard.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...] | None
    steps: float = 0.0
    seconds: float = 0.0
    costs: tuple[float, ...] | None = None


class Outcome(NamedTuple):
    """What a method came to, for one budget and seed.

    Attributes:
      method, budget, seed: of the search.
      groups: tuples of task names; empty for random groupings, which are many.
      cost: of their networks at inference, in standard networks.
      steps: network-steps of the search, in units of the steps of one all-in-one network.
      seconds: of the search, in units of the seconds of one all-in-one network, trained alone.
      validation_error: total over tasks, percent, of the chosen networks of this seed.
      test_error: the same on the test split.
      fresh_errors: `{seed: total}` on the test split, of networks for these groups of the other
        seeds, which had no part in the choice; each task is served by the one of them with its
        lowest validation error. Empty where they were not trained.
    """

    method: str
    budget: float
    seed: int
    groups: tuple[tuple[str, ...], ...]
    cost: float
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
      wider: `{budget: cost}` of the encoder that all tasks may share for a budget.
    """

    def __init__(self, run, book, wider=MappingProxyType({})):
        self.run, self.names, self.wider = run, run.problem.task_names, wider
        self._book, self._measured, self._rows, self._searched = book, {}, {}, {}

    def rows(self, sets, cost=1.0):
        """Rows of networks for sets of task names, on the encoder that costs so much."""
        known = self._rows.setdefault(cost, {})
        if missing := [tasks for tasks in sets if tasks not in known]:
            found = search.trained_rows(self.run.sized(cost), missing, self._book)
            known |= zip(missing, found, strict=True)
        return [known[tasks] for tasks in sets]

    def networks(self, groups, costs):
        """The rows of networks for groups of task names, each on the encoder that costs so much."""
        rows = {}
        for cost in set(costs):
            of_cost = [tasks for tasks, own in zip(groups, costs, strict=True) if own == cost]
            rows |= zip([(tasks, cost) for tasks in of_cost], self.rows(of_cost, cost), strict=True)
        return [rows[network] for network in zip(groups, costs, strict=True)]

    def searched(self, method):
        """(rows, `Candidates`) that a `grouping.search.NetworkSearch` comes to."""
        if method.name not in self._searched:
            rows = search.searched_rows(self.run, method, self._book)
            candidates = method.predict(ledger.candidates(rows, self.names))
            self._searched[method.name] = rows, candidates
        return self._searched[method.name]

    def verified(self, groupings):
        """Rows of brief networks for all groups of some groupings."""
        (rows,) = verification.trial_rows(self.run, groupings, self._book, search.BRIEF, 1)
        return rows

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


def verify(found: Search, budget) -> Proposal:
    """`grouping.verify`."""
    summary, steps, seconds = found.measured('exact')
    tried = verification.proposed(summary.mean, budget, verification.PROPOSALS)
    rows = found.verified(tried)
    groups, _ = verification.preferred(tried, [rows], found.names)
    cost = search.cost_of(rows)
    return Proposal(groups, None, steps + cost['search_steps'], seconds + cost['search_seconds'])


def by_networks(method: search.NetworkSearch, found: Search, budget) -> Proposal:
    """The function of `grouping` that bears the name of a search by networks."""
    rows, candidates = found.searched(method)
    selected = method.select(candidates, budget)
    cost = search.cost_of(rows)
    return Proposal(
        groups=selected.groups,
        serves=selected.serves,
        steps=cost['search_steps'],
        seconds=cost['search_seconds'],
        costs=tuple(candidates.costs[list(selected.networks)].tolist()),
    )


def single_task(found: Search, budget) -> Proposal:
    """`grouping.single_task`, whatever the budget."""
    del budget
    return Proposal(tuple((n,) for n in range(len(found.names))), None)


def all_in_one(found: Search, budget) -> Proposal:
    """`grouping.all_in_one`."""
    del budget
    return Proposal((tuple(range(len(found.names))),), None)


def wide_all_in_one(found: Search, budget) -> Proposal:
    """One network for all tasks on a wider encoder: capacity in place of more networks.

    (The high-capacity networks in the appendix of Fifty et al. 2021, Figure 4, and in Table 7 of
    Standley et al. 2020.)
    """
    return Proposal((tuple(range(len(found.names))),), None, costs=(found.wider[budget],))


def small_single_task(found: Search, budget) -> Proposal:
    """A network for each task on the smaller encoder, whatever the budget."""
    del budget
    (cost,) = search.smaller_sizes(found.run)
    size = len(found.names)
    return Proposal(tuple((n,) for n in range(size)), None, costs=(cost,) * size)


# Searches that train every set of tasks.
WHOLE = (search.EXHAUSTIVE, search.PESSIMAL)
SEARCHES = {method.name: method for method in (search.HOA, search.ESA, search.SUBSETS, *WHOLE)}
METHODS: Mapping[str, Callable[[Search, float], Proposal]] = {
    ALL_IN_ONE: all_in_one,
    WIDE: wide_all_in_one,
    'single_task': single_task,
    SMALL: small_single_task,
    'tag': tag,
    'cosine_similarity': cosine_similarity,
    'verify': verify,
    **{name: functools.partial(by_networks, method) for name, method in SEARCHES.items()},
}


def compare(
    problem,
    dataset,
    methods: Sequence[str],
    budgets: Sequence[float],
    config: training.TrainingConfig,
    *,
    seeds: int = 3,
    store=None,
    smaller=None,
    wider=MappingProxyType({}),
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Comparison:
    """Finds groups in every way for every budget and seed, trains their networks, evaluates them.

    Random groupings are always part of it.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`.
      methods: names among `METHODS`.
      budgets: what networks may cost at inference, in standard networks: their number, unless
        there is a smaller encoder.
      config: a `TrainingConfig`; its seed is the first of `seeds` seeds.
      seeds: how many.
      store: the folder of the ledger; None to keep it in memory.
      smaller: the same tasks on a cheaper encoder, see `grouping.hoa`; None for none.
      wider: `{budget: problem}`, the same tasks on an encoder for 'wide_all_in_one'.
      on_outcome: called with each outcome as it is known.

    Returns:
      A `Comparison`.

    Raises:
      ValueError: before any training, if a method is unknown, a number is out of its range, or the
        data does not fit the problem.
      OSError: if the ledger cannot be written to.
      FloatingPointError: if a loss is not finite.
    """
    run = check(problem, dataset, methods, budgets, config, seeds, smaller, wider)
    costs = {budget: cost_of_encoder(wide, problem, dataset) for budget, wide in wider.items()}
    run = run._replace(sizes={**run.sizes, **{costs[b]: wide for b, wide in wider.items()}})
    runs = [
        run._replace(config=dataclasses.replace(config, seed=config.seed + n)) for n in range(seeds)
    ]
    outcomes, optima, correlations = [], {}, {}
    with search.open_ledger(run, store) as book:
        searches = [Search(one, book, costs) for one in runs]
        complete = any(method.name in methods for method in WHOLE)
        whole = [found.searched(search.EXHAUSTIVE)[0] for found in searches if complete]
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
            correlations = within_task_correlations(searches, whole, methods)
            for budget in budgets:
                if optimum := cross_fitted_optimum(whole, problem.task_names, budget):
                    optima[budget] = optimum
    return Comparison(tuple(outcomes), optima, correlations)


def check(
    problem, dataset, methods, budgets, config, seeds, smaller=None, wider=MappingProxyType({})
) -> Run:
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
    if SMALL in methods and smaller is None:
        raise ValueError(f'{SMALL} needs a smaller encoder: give one, or leave the method out')
    for budget in budgets:
        run = begin(problem, dataset, budget, config, 'comparison', None, False, smaller)
        if WIDE in methods and budget not in wider:
            raise ValueError(f'{WIDE} needs a wider encoder for the budget {budget}: give one')
    for wide in wider.values():
        cost_of_encoder(wide, problem, dataset)
    for name in methods:
        if name in SEARCHES:
            SEARCHES[name].sets(problem.task_names, config.seed)
    return run


def cross_fitted_optimum(rows_of_seeds, task_names, budget) -> CrossFitted | None:
    """What the exhaustive choice is worth on networks that had no part in it.

    Args:
      rows_of_seeds: for each seed the rows of an exhaustive search, in one order.
      task_names: T names.
      budget: what networks may cost.

    Returns:
      A `CrossFitted`; None for a single seed.
    """
    if len(rows_of_seeds) < 2:
        return None
    errors = {split: _errors(rows_of_seeds, task_names, split) for split in ledger.SPLITS}
    costs = [row['cost'] for row in rows_of_seeds[0]]
    middle = len(rows_of_seeds) // 2
    totals, chosen = [], []
    for mine, theirs in (
        (slice(0, middle), slice(middle, None)),
        (slice(middle, None), slice(0, middle)),
    ):
        scores = errors['validation'][mine].mean(axis=0)
        candidates = selection.Candidates(~np.isnan(scores), scores, costs, task_names)
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
      rows_of_seeds: for each of them the rows of an exhaustive search.
      methods: their names; those that predict nothing, or have trained these networks, are left
        out, and all of them where tasks are in too few groups to tell.

    Returns:
      `{method: [T]}`.
    """
    found = {}
    for name in methods:
        if name not in PREDICTIONS:
            continue
        of_seeds = []
        for one, rows in zip(searches, rows_of_seeds, strict=True):
            members, errors = _by_set(ledger.candidates(rows, one.names, 'test'))
            known, predicted = _by_set(PREDICTIONS[name](one))
            large = members.sum(axis=1) >= 3
            places = {tuple(row): n for n, row in enumerate(known.tolist())}
            predicted = predicted[[places[tuple(row)] for row in members[large].tolist()]]
            of_seeds.append(
                [_correlation(predicted[:, n], errors[large, n]) for n in range(len(one.names))]
            )
        correlations = np.mean(of_seeds, axis=0)
        if np.isfinite(correlations).any():
            found[name] = correlations
    return found


def _by_set(candidates):
    """(members, scores), bool `[N, T]` and `[N, T]`, of standard networks."""
    standard = candidates.costs == 1
    return candidates.members[standard], candidates.scores[standard]


def _affinities_of_sets(found, kind):
    """What affinities predict, as candidates; their negative, as an error."""
    candidates = selection.affinity_candidates(found.measured(kind)[0].mean)
    return candidates.replace(scores=-candidates.scores)


# What methods predict, as candidates with errors for scores.
PREDICTIONS: Mapping[str, Callable[[Search], selection.Candidates]] = {
    'tag': functools.partial(_affinities_of_sets, kind='exact'),
    'cosine_similarity': functools.partial(_affinities_of_sets, kind='cosine'),
    **{
        name: lambda found, method=method: found.searched(method)[1]
        for name, method in SEARCHES.items()
        if method not in WHOLE
    },
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


def _random_proposals(found, budget, count):
    networks = max(1, math.floor(budget))
    rng = np.random.default_rng((found.run.config.seed, networks))
    return [Proposal(random_groups(rng, len(found.names), networks), None) for _ in range(count)]


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
        cost=math.fsum(_costs(proposals[0])),
        steps=proposals[0].steps / steps,
        seconds=proposals[0].seconds / seconds,
        validation_error=float(own[0]),
        test_error=float(own[1]),
        fresh_errors=fresh,
    )


def _total_errors(found, proposal):
    """(validation, test) total error of the networks for a proposal, of one seed."""
    groups = _named(proposal.groups, found.names)
    rows = found.networks(groups, _costs(proposal))
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


def _costs(proposal):
    return proposal.costs or (1.0,) * len(proposal.groups)


def _named(groups, task_names):
    return tuple(tuple(task_names[n] for n in group) for group in groups)
