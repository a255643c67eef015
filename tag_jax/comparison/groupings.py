"""Ways to group tasks side by side: what a grouping costs to find, and what it gains.

All methods of a comparison share a score table, so that a network that two of them ask for is
trained once. What a method is charged for is what its own search would have trained.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from types import MappingProxyType
from typing import Any

from tag_jax import evaluation, examples, training
from tag_jax.comparison.optimum import cross_fitted_optimum
from tag_jax.comparison.outcomes import Comparison, Outcome, joined, outcome_of
from tag_jax.comparison.predictions import within_task_correlations
from tag_jax.comparison.splits import check_unlike, of_splits
from tag_jax.data import Dataset
from tag_jax.grouping import Method, Searcher, all_in_one, identity, random
from tag_jax.grouping import run as runs
from tag_jax.grouping.method import (
    Proposal,
    check_method,
    checked_proposal,
    whole_networks,
)
from tag_jax.grouping.remarks import remarks_on_left_out, remarks_on_splits
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
TEST_DRAWS = 200  # Of test examples, for the intervals of differences.
DEFAULTS = TrainingConfig()


def compare_groupings(
    problem: MultiTaskProblem | Callable[[Dataset], MultiTaskProblem],
    dataset: Dataset | Callable[[int], Dataset],
    methods: Sequence[Method],
    budgets: Sequence[float] = (2, 3),
    config: TrainingConfig = DEFAULTS,
    *,
    seeds: int = 3,
    splits: int = 1,
    scores: str | os.PathLike | None = None,
    sizes: Mapping[float, Any] = MappingProxyType({}),
    weightings: Mapping[str, Weighting] = MappingProxyType({}),
    executor: futures.Executor | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    on_record: Callable = lambda record: None,
    on_finish: Callable = lambda network: None,
) -> Comparison:
    """Finds groups in every way for every budget and seed, trains their networks, evaluates them.

    Random groupings are always part of it. Several splits of the data say what seeds on one split
    cannot: how much depends on which examples are in which split.

    Args:
      problem: a `MultiTaskProblem` with T tasks; or a function that makes one of a dataset, where
        what networks see follows from the training examples.
      dataset: a `tag_jax.data.Dataset`; for several splits a function of the number of a split,
        from 0, as `lambda n: data.from_arrays(inputs, targets, tasks, seed=n)` for splits anew,
        or with `fold=(n, 5)` for the folds of a cross-validation.
      methods: such as `[grouping.tag(), grouping.subsets(count=30)]`, with different names.
      budgets: what networks may cost at inference, in standard networks: their number, unless
        there is a smaller encoder.
      config: a `TrainingConfig`; its seed is the first of `seeds` seeds. Those of the n-th split
        are n times `training.MOST_SEEDS` higher.
      seeds: how many, for each split.
      splits: how many. All of them are made before any training.
      scores: the folder of a score table; None to keep it in memory. That of the n-th split, from
        the second on, is the folder `split_n` in it.
      sizes: `{cost: problem}`, the same tasks on other encoders, see `grouping.group_tasks`; or
        functions of a dataset.
      weightings: `{name: weighting}`, such as `{'pcgrad': weighting.pcgrad}`: networks for all
        tasks that these train stand among the methods, at the cost of their training.
      executor: whose workers train the networks, see `grouping.group_tasks`.
      on_outcome: called with each outcome as it is known.
      on_record, on_finish: see `grouping.group_tasks`.

    Returns:
      A `Comparison`.

    Raises:
      ValueError: before any training, if a method cannot work, two have one name, a number is out
        of its range, the data does not fit the problem, or two splits are the same.
      OSError: if the score table cannot be written to.
      FloatingPointError: if a loss is not finite.
    """
    if isinstance(methods, Method | str) or not isinstance(methods, Sequence):
        raise ValueError(
            'methods must be a list, as [grouping.tag(), grouping.hoa()], not '
            f'{type(methods).__name__}'
        )
    methods = [one for one in methods if not _is_random(one)]
    asked = methods, budgets, config, seeds, sizes, weightings, splits
    parts = []
    for split, run in enumerate(check(problem, dataset, *asked)):
        workers = None if executor is None else Workers(executor, run)
        hooks = {'on_record': on_record, 'on_finish': on_finish, 'workers': workers}
        for remark in remarks_on_splits(run.problem.tasks, run.dataset):
            logging.warning('%s', remark)
        run = run._replace(draws=TEST_DRAWS, **hooks)
        folder = scores if scores is None or not split else pathlib.Path(scores) / f'split_{split}'
        parts.append(_compare(run, methods, budgets, seeds, folder, weightings, on_outcome, split))
    return joined(parts)


def _compare(run, methods, budgets, seeds, scores, weightings, on_outcome, split):
    """The `Comparison` on one split."""
    complete = trains_every_set(methods, run, budgets)
    optima, correlations = {}, {}
    with _trainers(run, seeds, scores) as trainers:
        costs = _cheaper(methods, run, budgets) if complete else ()
        whole = [_every_row(trainer, costs) for trainer in trainers if complete]
        count = DRAWS if complete else DRAWS_TO_TRAIN
        asked = methods, budgets, complete, count, on_outcome, weightings, split
        outcomes = propose(trainers, *asked)
        if complete:
            correlations = within_task_correlations(trainers, whole, methods)
            optima = {
                budget: cross_fitted_optimum(whole, run.problem.task_names, budget)
                for budget in budgets
                if seeds > 1
            }
    sizes = [examples.count(getattr(run.dataset, name)) for name in ('train', 'validation', 'test')]
    share = sizes[2] / (sizes[0] + sizes[1])
    by = run.config.select_by
    told = tuple(remarks_on_left_out(run.problem, run.dataset, by))
    return Comparison(outcomes, optima, correlations, by, share, told)


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

    It is for studies, which look at the errors of every task: these have to be defined.

    Args:
      problem, dataset, config, seeds, scores, sizes: see `compare_groupings`.

    Raises:
      ValueError, OSError: see `compare_groupings`.
    """
    training.check_seeds(config, seeds)
    run = runs.check(problem, dataset, 1, config, [random()], sizes)
    _check_every_task_is_judged(run)
    with _trainers(run, seeds, scores) as trainers:
        yield trainers


def _check_every_task_is_judged(run):
    """Raises ValueError at a task whose error is not defined on validation or test."""
    for name in score_table.SPLITS if run.config.select_by == evaluation.ERROR else ():
        without = evaluation.left_out(run.problem, getattr(run.dataset, name))
        for task, why in without.items():
            raise ValueError(
                f'a study looks at the errors of every task, and that of {task!r} is not defined '
                f'on the {name} split: {why}'
            )


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
    split: int = 0,
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
      split: number of the split of the data.
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
                add(
                    outcome_of(
                        method.displayed, budget, trainer, others, [proposal], took, split=split
                    )
                )
            for name, weighting in weightings.items():
                add(_weighed(name, weighting, budget, trainer, others, split))
            drawn = _random_proposals(trainer, budget, count)
            add(outcome_of(RANDOM, budget, trainer, others, drawn, (0, 0), split=split))
    return tuple(outcomes)


def _weighed(name, weighting, budget, trainer, others, split):
    """The outcome of one network for all tasks that another weighting trains."""
    own, *rest = (one.changed(weighting=weighting) for one in (trainer, *others))
    (row,) = own.rows([trainer.names])
    took = row['steps_taken'], row['seconds']
    everything = Proposal((tuple(range(len(trainer.names))),))
    return outcome_of(name, budget, own, rest, [everything], took, trainer.reference, split)


def check(
    problem: MultiTaskProblem | Callable,
    dataset: Dataset | Callable,
    methods: Sequence[Method],
    budgets: Sequence[float],
    config: TrainingConfig,
    seeds: int,
    sizes: Mapping[float, Any] = MappingProxyType({}),
    weightings: Mapping[str, Weighting] = MappingProxyType({}),
    splits: int = 1,
) -> list[runs.Run]:
    """Checks what `compare_groupings` is given.

    Args:
      problem, dataset, methods, budgets, config, seeds, sizes, weightings, splits: see
        `compare_groupings`.

    Returns:
      A run of the first seed of each split.

    Raises:
      ValueError: see `compare_groupings`.
    """
    found = [
        _check(one.problem, one.dataset, methods, budgets, one.config, seeds, one.sizes, weightings)
        for one in of_splits(problem, dataset, config, sizes, splits)
    ]
    check_unlike([identity.subject(run) for run in found] if splits > 1 else [])
    return found


def _check(problem, dataset, methods, budgets, config, seeds, sizes, weightings):
    """See `check`, for one split."""
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
