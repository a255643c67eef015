"""Estimates what a comparison takes: its networks, and time and memory by a short trial."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tag_jax.comparison.groupings import (
    DEFAULTS,
    DRAWS_TO_TRAIN,
    Weighting,
    check,
    trains_every_set,
)
from tag_jax.data import Dataset
from tag_jax.grouping import DryRun, Method, Stage
from tag_jax.grouping.dry_run import tried
from tag_jax.grouping.method import BASELINE, CHOSEN, whole_networks
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import TrainingConfig


def dry_run(
    problem: MultiTaskProblem | Callable,
    dataset: Dataset | Callable,
    methods: Sequence[Method],
    budgets: Sequence[float] = (2, 3),
    config: TrainingConfig = DEFAULTS,
    *,
    seeds: int = 3,
    splits: int = 1,
    sizes: Mapping[float, Any] = MappingProxyType({}),
    weightings: Mapping[str, Weighting] = MappingProxyType({}),
) -> DryRun:
    """Estimates what `compare_groupings` takes at most: it trains a few networks for a few steps.

    Methods may ask for the same networks, early stopping may end some before, and a score table may
    hold some of them already. Networks on other encoders count as much as others.

    Args:
      problem, dataset, methods, budgets, config, seeds, splits, sizes, weightings: see
        `compare_groupings`.

    Returns:
      A `grouping.DryRun`.

    Raises:
      ValueError: see `compare_groupings`.
    """
    asked = methods, budgets, config, seeds, sizes, weightings, splits
    run = check(problem, dataset, *asked)[0]
    found = stages(methods, run, budgets)
    if weightings:
        found += (Stage('all tasks, weighed', len(weightings), config.steps),)
    one = tried(run.problem, run.dataset, config, found)
    seeds *= splits
    return DryRun(
        tuple(stage._replace(networks=seeds * stage.networks) for stage in found),
        seeds * one.seconds,
        one.bytes,
    )


def stages(methods: Sequence[Method], run, budgets: Sequence[float]) -> tuple[Stage, ...]:
    """The networks that a comparison trains for one seed.

    Args:
      methods: `Method`s.
      run: a `Run`.
      budgets: what networks may cost.
    """
    names, config = run.problem.task_names, run.config
    complete = trains_every_set(methods, run, budgets)
    found = {}
    for method in methods:
        for budget in budgets:
            for stage in method.stages(names, budget, config):
                if stage.what in (CHOSEN, BASELINE) and stage.cost == 1:
                    continue
                if complete and stage.cost == 1 and not stage.measures:
                    # The beginnings of networks that train to the end cost nothing.
                    if stage.steps < config.steps and stage.steps % config.eval_every == 0:
                        continue
                    if stage.steps == config.steps:
                        continue
                found[method.name, stage] = stage
    every = Stage('every set of tasks', 2 ** len(names) - 1, config.steps)
    networks = sum(map(whole_networks, budgets)) * (len(methods) + DRAWS_TO_TRAIN)
    groups = Stage('chosen and random groups', min(networks, every.networks), config.steps)
    reference = Stage('all tasks, to take the time of', 1, config.steps)
    measuring = [stage for stage in found.values() if stage.measures]
    others = [stage for stage in found.values() if not stage.measures]
    return (*measuring, reference, every if complete else groups, *others)
