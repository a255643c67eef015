"""Ways to group tasks side by side: what a grouping costs to find, and what it gains.

All methods of a comparison share a ledger, so that a network that two of them ask for is trained
once. What a method is charged for is what its own search would have trained.
"""

import contextlib
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tag_jax import ledger, selection, training
from tag_jax.comparison.methods import (
    METHODS,
    RANDOM,
    SMALL,
    WHOLE,
    WIDE,
    Proposal,
    Search,
    standard_networks,
)
from tag_jax.comparison.predictions import errors_of, within_task_correlations
from tag_jax.data import Dataset
from tag_jax.grouping import search
from tag_jax.grouping.by_networks import random_groups
from tag_jax.grouping.run import Run, begin, cost_of_encoder
from tag_jax.problem import MultiTaskProblem

DRAWS = 200  # Random groupings of a seed and budget, where all networks exist.
DRAWS_TO_TRAIN = 5  # The same, where their networks have to be trained.
MOST_HALVINGS = 20  # Of the seeds, into those that choose an optimum and those that judge it.


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
        scored on the test errors of the other half; the mean of both ways round, over up to
        MOST_HALVINGS ways to halve.
      groups: of every way, tuples of task names.
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


def compare(
    problem: MultiTaskProblem,
    dataset: Dataset,
    methods: Sequence[str],
    budgets: Sequence[float],
    config: training.TrainingConfig,
    *,
    seeds: int = 3,
    store: str | os.PathLike | None = None,
    smaller: MultiTaskProblem | None = None,
    wider: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
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
    check(problem, dataset, methods, budgets, config, seeds, smaller, wider)
    with searching(problem, dataset, config, seeds, store, smaller, wider) as searches:
        complete = any(method.name in methods for method in WHOLE)
        whole = [found.searched(search.EXHAUSTIVE)[0] for found in searches if complete]
        chosen = {name: METHODS[name] for name in methods}
        outcomes = propose(
            searches, chosen, budgets, complete, DRAWS if complete else DRAWS_TO_TRAIN, on_outcome
        )
        if not complete:
            return Comparison(outcomes, {}, {})
        optima = {
            budget: cross_fitted_optimum(whole, problem.task_names, budget)
            for budget in budgets
            if seeds > 1
        }
        correlations = within_task_correlations(searches, whole, methods)
    return Comparison(outcomes, optima, correlations)


@contextlib.contextmanager
def searching(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: training.TrainingConfig,
    seeds: int,
    store: str | os.PathLike | None = None,
    smaller: MultiTaskProblem | None = None,
    wider: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
) -> Iterator[list[Search]]:
    """A `Search` for each seed, all with one ledger, which is closed at the end.

    Args:
      problem, dataset, config, seeds, store, smaller, wider: see `compare`.

    Raises:
      ValueError, OSError: see `compare`.
    """
    training.check_seeds(config, seeds)
    run = begin(problem, dataset, 1, config, 'comparison', None, False, smaller)
    costs = {budget: cost_of_encoder(wide, problem, dataset) for budget, wide in wider.items()}
    run = run._replace(sizes={**run.sizes, **{costs[b]: wide for b, wide in wider.items()}})
    with search.open_ledger(run, store) as book:
        yield [
            Search(
                run._replace(config=dataclasses.replace(config, seed=config.seed + n)), book, costs
            )
            for n in range(seeds)
        ]


def propose(
    searches: Sequence[Search],
    methods: Mapping[str, Callable[[Search, float], Proposal]],
    budgets: Sequence[float],
    afresh: bool,
    draws: int,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> tuple[Outcome, ...]:
    """What methods come to, and random groupings beside them, for every budget and seed.

    Args:
      searches: a `Search` for each seed.
      methods: `{name: method}`.
      budgets: what networks may cost.
      afresh: whether the networks of all other seeds judge the groups as well.
      draws: how many random groupings stand for all.
      on_outcome: called with each outcome as it is known.
    """
    outcomes = []
    for found in searches:
        others = [other for other in searches if afresh and other is not found]
        for budget in budgets:
            proposals = {name: [method(found, budget)] for name, method in methods.items()}
            proposals[RANDOM] = _random_proposals(found, budget, draws)
            for name, own in proposals.items():
                outcomes.append(_outcome(name, budget, found, others, own))
                on_outcome(outcomes[-1])
    return tuple(outcomes)


def check(
    problem: MultiTaskProblem,
    dataset: Dataset,
    methods: Sequence[str],
    budgets: Sequence[float],
    config: training.TrainingConfig,
    seeds: int,
    smaller: MultiTaskProblem | None = None,
    wider: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
) -> Run:
    """A run of the first seed, if everything that `compare` is given can be used.

    Args:
      problem, dataset, methods, budgets, config, seeds, smaller, wider: see `compare`.

    Raises:
      ValueError: see `compare`.
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f'there is no method {unknown[0]!r}: choose {", ".join(METHODS)}')
    if seeds == 0 or not methods or not budgets:
        raise ValueError('a comparison needs at least one method, one budget and one seed')
    training.check_seeds(config, seeds)
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
        if name in search.SEARCHES:
            search.SEARCHES[name].sets(problem.task_names, config.seed)
    return run


def cross_fitted_optimum(
    rows_of_seeds: Sequence[Sequence[Mapping[str, Any]]], task_names: Sequence[str], budget: float
) -> CrossFitted | None:
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
    errors = {split: errors_of(rows_of_seeds, task_names, split) for split in ledger.SPLITS}
    costs = [row['cost'] for row in rows_of_seeds[0]]
    totals, chosen = [], []
    for half in _halvings(len(rows_of_seeds)):
        for mine, theirs in ((half, ~half), (~half, half)):
            scores = errors['validation'][mine].mean(axis=0)
            candidates = selection.Candidates(~np.isnan(scores), scores, costs, task_names)
            best = selection.select_networks(candidates, budget)
            totals.append(_served_totals(errors, theirs, list(best.networks)).mean())
            chosen.append(_named(best.groups, task_names))
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
    validation, test = (errors[split][seeds][:, networks] for split in ledger.SPLITS)
    served = np.nan_to_num(validation, nan=np.inf).argmin(axis=1)
    return np.take_along_axis(test, served[:, None], axis=1).sum(axis=(1, 2))


def _random_proposals(found, budget, count):
    networks = standard_networks(budget)
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
