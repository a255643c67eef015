"""Ways to group tasks side by side: what a grouping costs to find, and what it gains.

All methods of a comparison share a score table, so that a network that two of them ask for is
trained once. What a method is charged for is what its own search would have trained.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tag_jax import selection, training
from tag_jax.comparison.optimum import CrossFitted, cross_fitted_optimum
from tag_jax.comparison.predictions import within_task_correlations
from tag_jax.data import Dataset
from tag_jax.grouping import Method, Searcher, all_in_one, random
from tag_jax.grouping import run as runs
from tag_jax.grouping.method import (
    Proposal,
    check_method,
    checked_proposal,
    whole_networks,
)
from tag_jax.grouping.remote import Workers
from tag_jax.grouping.task_sets import all_sets, draws, random_groups
from tag_jax.grouping.trainer import Trainer, check_named, open_table
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import score_table
from tag_jax.training import TrainingConfig

# What one network for all tasks, and random groupings, are called: every method stands beside them.
ALL_IN_ONE, RANDOM = all_in_one().name, random().name
# A factory of an optax transform over `gradients.TaskGradients`, as `TrainingConfig.weighting` is.
Weighting = Callable[[], Any]
DRAWS = 200  # Random groupings of a seed and budget, where all networks exist.
DRAWS_TO_TRAIN = 5  # The same, where their networks have to be trained.
DEFAULTS = TrainingConfig()


class Outcome(NamedTuple):
    """The result of a method, for one budget and seed.

    Attributes:
      method, budget, seed: of the search.
      groups: tuples of task names; empty for random groupings, which are many.
      cost: of their networks at inference, in standard networks.
      steps: network-steps of the search, in units of the steps of one all-in-one network.
      seconds: of the search, in units of the seconds of one all-in-one network, trained alone.
      validation_error: total over tasks of the chosen networks of this seed: of the errors in
        percent, or of the losses, if networks are selected by these (`select_by`).
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


class Comparison(NamedTuple):
    """The results of a comparison.

    Attributes:
      outcomes: an `Outcome` for each method, budget and seed.
      optima: `{budget: CrossFitted}`; empty unless all networks were trained, for several seeds.
      correlations: `{method: [T]}`, see `within_task_correlations`; empty like `optima`.
      select_by: what errors in it are: see `training.TrainingConfig`.
    """

    outcomes: tuple[Outcome, ...]
    optima: Mapping[int, CrossFitted]
    correlations: Mapping[str, np.ndarray]
    select_by: str = 'error'

    def __repr__(self):
        methods = dict.fromkeys(one.method for one in self.outcomes)
        return (
            f'Comparison({", ".join(methods)}: {len(self.outcomes)} outcomes; '
            'comparison.summary(...) has their means)'
        )


def compare_groupings(
    problem: MultiTaskProblem,
    dataset: Dataset,
    methods: Sequence[Method],
    budgets: Sequence[float] = (2, 3),
    config: TrainingConfig = DEFAULTS,
    *,
    seeds: int = 3,
    scores: str | os.PathLike | None = None,
    sizes: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
    weightings: Mapping[str, Weighting] = MappingProxyType({}),
    executor: futures.Executor | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    on_record: Callable = lambda record: None,
    on_finish: Callable = lambda network: None,
) -> Comparison:
    """Finds groups in every way for every budget and seed, trains their networks, evaluates them.

    Random groupings are always part of it.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`.
      methods: such as `[grouping.tag(), grouping.subsets(count=30)]`, with different names.
      budgets: what networks may cost at inference, in standard networks: their number, unless
        there is a smaller encoder.
      config: a `TrainingConfig`; its seed is the first of `seeds` seeds.
      seeds: how many.
      scores: the folder of a score table; None to keep it in memory.
      sizes: `{cost: problem}`, the same tasks on other encoders, see `grouping.group_tasks`.
      weightings: `{name: weighting}`, such as `{'pcgrad': weighting.pcgrad}`: networks for all
        tasks that these train stand among the methods, at the cost of their training.
      executor: whose workers train the networks, see `grouping.group_tasks`.
      on_outcome: called with each outcome as it is known.
      on_record, on_finish: see `grouping.group_tasks`.

    Returns:
      A `Comparison`.

    Raises:
      ValueError: before any training, if a method cannot work, two have one name, a number is out
        of its range, or the data does not fit the problem.
      OSError: if the score table cannot be written to.
      FloatingPointError: if a loss is not finite.
    """
    if isinstance(methods, Method | str) or not isinstance(methods, Sequence):
        raise ValueError(
            'methods must be a list, as [grouping.tag(), grouping.hoa()], not '
            f'{type(methods).__name__}'
        )
    methods = [one for one in methods if not _is_random(one)]
    run = check(problem, dataset, methods, budgets, config, seeds, sizes, weightings)
    complete = trains_every_set(methods, run, budgets)
    workers = None if executor is None else Workers(executor, run)
    run = run._replace(on_record=on_record, on_finish=on_finish, workers=workers)
    with _trainers(run, seeds, scores) as trainers:
        costs = _cheaper(methods, run, budgets) if complete else ()
        whole = [_every_row(trainer, costs) for trainer in trainers if complete]
        count = DRAWS if complete else DRAWS_TO_TRAIN
        outcomes = propose(trainers, methods, budgets, complete, count, on_outcome, weightings)
        if not complete:
            return Comparison(outcomes, {}, {}, config.select_by)
        optima = {
            budget: cross_fitted_optimum(whole, problem.task_names, budget)
            for budget in budgets
            if seeds > 1
        }
        correlations = within_task_correlations(trainers, whole, methods)
    return Comparison(outcomes, optima, correlations, config.select_by)


@contextlib.contextmanager
def training_seeds(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    seeds: int,
    scores: str | os.PathLike | None = None,
    sizes: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
) -> Iterator[list[Trainer]]:
    """A `Trainer` for each seed, all with one score table, which is closed at the end.

    Args:
      problem, dataset, config, seeds, scores, sizes: see `compare_groupings`.

    Raises:
      ValueError, OSError: see `compare_groupings`.
    """
    training.check_seeds(config, seeds)
    run = runs.check(problem, dataset, 1, config, [random()], sizes)
    with _trainers(run, seeds, scores) as trainers:
        yield trainers


@contextlib.contextmanager
def _trainers(run, seeds, scores):
    with open_table(run, scores) as table:
        first = run.config.seed
        yield [
            Trainer(run._replace(config=dataclasses.replace(run.config, seed=first + n)), table)
            for n in range(seeds)
        ]


def _is_random(method):
    """Whether this is `grouping.random()`, which is part of every comparison."""
    if not isinstance(method, Method) or method.displayed != RANDOM:
        return False
    if getattr(method.propose, '__module__', None) != random().propose.__module__:
        raise ValueError(f'a method of your own cannot be called {RANDOM!r}: give it another name')
    return True


def _every_row(trainer, costs):
    """The rows of an exhaustive search: every set, and single tasks on cheaper encoders."""
    rows = trainer.rows(all_sets(trainer.names))
    for cost in costs:
        rows = rows + trainer.rows([(task,) for task in trainer.names], cost=cost)
    return rows


def _cheaper(methods, run, budgets):
    """The costs of the cheaper encoders on which an exhaustive search trains single tasks."""
    return sorted(
        {
            stage.cost
            for method in methods
            if trains_every_set([method], run, budgets)
            for stage in method.stages(run.problem.task_names, budgets[0], run.config)
            if stage.cost < 1
        }
    )


def propose(
    trainers: Sequence[Trainer],
    methods: Sequence[Method],
    budgets: Sequence[float],
    afresh: bool,
    count: int,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    weightings: Mapping[str, Weighting] = MappingProxyType({}),
) -> tuple[Outcome, ...]:
    """Evaluates methods, and random groupings beside them, for every budget and seed.

    Args:
      trainers: a `Trainer` for each seed.
      methods: `Method`s.
      budgets: what networks may cost.
      afresh: whether the networks of all other seeds judge the groups as well.
      count: how many random groupings stand for all.
      on_outcome: called with each outcome as it is known.
      weightings: see `compare_groupings`.
    """
    outcomes = []

    def add(outcome):
        outcomes.append(outcome)
        on_outcome(outcome)

    for trainer in trainers:
        others = [other for other in trainers if afresh and other is not trainer]
        for budget in budgets:
            for method in methods:
                searcher = Searcher(trainer)
                proposal = method.propose(searcher, budget)
                proposal = checked_proposal(method, proposal, trainer.names)
                took = searcher.steps + proposal.steps, searcher.seconds + proposal.seconds
                add(_outcome(method.displayed, budget, trainer, others, [proposal], took))
            for name, weighting in weightings.items():
                add(_weighed(name, weighting, budget, trainer, others))
            drawn = _random_proposals(trainer, budget, count)
            add(_outcome(RANDOM, budget, trainer, others, drawn, (0, 0)))
    return tuple(outcomes)


def _weighed(name, weighting, budget, trainer, others):
    """The outcome of one network for all tasks that another weighting trains."""
    own, *rest = (one.changed(weighting=weighting) for one in (trainer, *others))
    (row,) = own.rows([trainer.names])
    took = row['steps_taken'], row['seconds']
    everything = Proposal((tuple(range(len(trainer.names))),))
    return _outcome(name, budget, own, rest, [everything], took, trainer.reference)


def check(
    problem: MultiTaskProblem,
    dataset: Dataset,
    methods: Sequence[Method],
    budgets: Sequence[float],
    config: TrainingConfig,
    seeds: int,
    sizes: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
    weightings: Mapping[str, Weighting] = MappingProxyType({}),
) -> runs.Run:
    """A run of the first seed, if everything that `compare_groupings` is given can be used.

    Args:
      problem, dataset, methods, budgets, config, seeds, sizes, weightings: see
        `compare_groupings`.

    Raises:
      ValueError: see `compare_groupings`.
    """
    if not isinstance(budgets, Sequence) or isinstance(budgets, str):
        raise ValueError(f'budgets must be a list, as (2, 3), not {budgets!r}')
    if seeds == 0 or not methods or not budgets:
        raise ValueError('a comparison needs at least one method, one budget and one seed')
    training.check_seeds(config, seeds)
    for method in methods:
        check_method(method)
    names = [*(method.displayed for method in methods), *weightings, *([RANDOM] * bool(weightings))]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f'two methods of a comparison are called {twice[0]!r}: leave one out, or tell them '
            'apart by their options'
        )
    for weighting in weightings.values():
        check_named(dataclasses.replace(config, weighting=weighting))
    for budget in budgets:
        run = runs.check(problem, dataset, budget, config, methods, sizes, strict=False)
    return run


def trains_every_set(methods: Sequence[Method], run: runs.Run, budgets: Sequence[float]) -> bool:
    """Whether one of the methods trains a network for every set of tasks to the end.

    Args:
      methods: `Method`s.
      run: a `Run`.
      budgets: what networks may cost.
    """
    names, config = run.problem.task_names, run.config
    return any(
        stage.networks >= 2 ** len(names) - 1 and stage.steps == config.steps and stage.cost == 1
        for method in methods
        for stage in method.stages(names, budgets[0], config)
    )


def _random_proposals(trainer, budget, count):
    networks = whole_networks(budget)
    rng = draws(trainer.run.config.seed, networks)
    return [Proposal(random_groups(rng, len(trainer.names), networks)) for _ in range(count)]


def _outcome(method, budget, trainer, others, proposals, took, reference=None) -> Outcome:
    """The mean over proposals, which are several for random groupings only."""
    own = np.mean([_total_errors(trainer, proposal) for proposal in proposals], axis=0)
    again = [proposal._replace(serves=None, networks=None) for proposal in proposals]
    fresh = {
        other.run.config.seed: float(np.mean([_total_errors(other, one)[1] for one in again]))
        for other in others
    }
    steps, seconds = reference or trainer.reference
    return Outcome(
        method=method,
        budget=budget,
        seed=trainer.run.config.seed,
        groups=_named(proposals[0].groups, trainer.names) if len(proposals) == 1 else (),
        cost=math.fsum(_costs(proposals[0])),
        steps=took[0] / steps,
        seconds=took[1] / seconds,
        validation_error=float(own[0]),
        test_error=float(own[1]),
        fresh_errors=fresh,
    )


def _total_errors(trainer, proposal):
    """(validation, test) total error of the networks for a proposal, of one seed."""
    groups, costs = _named(proposal.groups, trainer.names), _costs(proposal)
    slots, rows = trainer.slots_of(proposal.networks), {}
    for cost in dict.fromkeys(costs):
        of_cost = [tasks for tasks, own in zip(groups, costs, strict=True) if own == cost]
        found = trainer.rows(of_cost, cost=cost, slots=slots.get(cost))
        rows |= {(tuple(row['tasks']), cost): row for row in found}
    chosen = [rows[network] for network in zip(groups, costs, strict=True)]
    serves = proposal.serves
    if serves is None:
        candidates = score_table.candidates(chosen, trainer.names)
        served = selection.serve(candidates, list(range(len(chosen))))
        chosen, serves = [chosen[n] for n in served.networks], served.serves
    pairs = [
        (row, trainer.names[task])
        for row, tasks in zip(chosen, serves, strict=True)
        for task in tasks
    ]
    return [
        math.fsum(score_table.scores(row, split)[task] for row, task in pairs)
        for split in score_table.SPLITS
    ]


def _costs(proposal):
    return proposal.costs or (1.0,) * len(proposal.groups)


def _named(groups, task_names):
    return tuple(tuple(task_names[n] for n in group) for group in groups)
