"""Estimates what a method takes: its networks, and time and memory by a short trial."""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from tag_jax import evaluation, examples, gradients, parallel, sharding, training
from tag_jax.data import Dataset
from tag_jax.grouping.group import DEFAULTS, TAG
from tag_jax.grouping.method import Method, Stage
from tag_jax.grouping.run import begin
from tag_jax.problem import MultiTaskProblem, split_frozen
from tag_jax.training import NetworkPlan, TrainingConfig

try:
    import resource
except ImportError:  # Not on Windows: there memory in RAM is not told.
    resource = None

# Steps of a trial, and of one that follows where that took less than so many seconds.
SHORT_TRIAL, LONG_TRIAL, LONG_ENOUGH = 20, 100, 2.0


class DryRun(NamedTuple):
    """The most that a method takes.

    Attributes:
      stages: one after another.
      seconds: of training, without compiling.
      bytes: that the trial had in memory: on the accelerator where there is one, else in RAM; 0
        where that is not known.
    """

    stages: tuple[Stage, ...]
    seconds: float
    bytes: int


def dry_run(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: float,
    method: Method = TAG,
    config: TrainingConfig = DEFAULTS,
    *,
    sizes: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
) -> DryRun:
    """Estimates what `group_tasks` takes at most: it trains a few networks for a few steps.

    Early stopping may end networks before, and a score table may hold some of them already.
    Networks on other encoders count as much as others.

    Args:
      problem, dataset, budget, method, config, sizes: see `group_tasks`.

    Returns:
      A `DryRun`.

    Raises:
      ValueError: see `group_tasks`.
    """
    run = begin(problem, dataset, budget, config, method, sizes=sizes)
    found = method.stages(problem.task_names, run.budget, config)
    return tried(problem, dataset, config, found)


def tried(problem: Any, dataset: Any, config: TrainingConfig, stages: Sequence[Stage]) -> DryRun:
    """Estimates what stages take: it trains a few networks of each for a few steps.

    Args:
      problem, dataset, config: see `dry_run`.
      stages: one after another.
    """
    trials, seconds = {}, 0.0
    for stage in stages:
        if not stage.networks:
            continue
        slots, size = _at_once(problem, dataset, config, stage)
        own = dataclasses.replace(config, slots=slots)
        alike = stage.measures, slots, size
        if alike not in trials:
            trials[alike] = _seconds_a_step(problem, dataset, own, stage, slots, size)
        seconds += stage.networks * stage.steps * trials[alike]
    return DryRun(tuple(stages), seconds, _bytes_in_use())


def _at_once(problem, dataset, config, stage):
    """How many slots a program has for a stage, and how many networks train at once."""
    inputs = examples.input_shapes(dataset.train)
    slots = training.num_slots(problem, stage.networks, inputs, config)
    return slots, min(stage.networks, slots * training.num_workers(config, stage.networks, slots))


def _seconds_a_step(problem, dataset, config, stage, slots, size):
    """Wall time of a step of one network among those that train at once, evaluations included."""
    few = examples.first(dataset.validation, config.batch_size)
    steps = min(SHORT_TRIAL, config.eval_every)
    network, seconds = _trial(problem, dataset.train, few, config, stage, size, steps)
    if seconds < LONG_ENOUGH:  # Much of it was not spent in steps.
        steps = min(LONG_TRIAL, config.eval_every)
        network, seconds = _trial(problem, dataset.train, few, config, stage, size, steps)
    batches = -(-examples.count(dataset.validation) // config.batch_size)
    evaluating = _seconds_of_evaluating(problem, network, few, config, slots)
    return (seconds / (2 * steps) + (batches - 1) * evaluating / config.eval_every) / size


def _trial(problem, train_split, validation_split, config, stage, size, steps):
    """A network, and the seconds that `size` of them take together for twice some steps."""
    trial = dataclasses.replace(
        config.measuring(window=(0, 1), every=min(config.affinity.every, steps)),
        steps=3 * steps,
        eval_every=steps,
        patience=0,
    )
    plans = [
        NetworkPlan(
            f'trial network {n + 1}', problem.task_names, n, config.learning_rate, stage.measures
        )
        for n in range(size)
    ]
    arrived = {}

    def on_record(record):
        arrived[record.step] = time.perf_counter()

    (network, *_) = training.train_networks(
        problem, train_split, validation_split, plans, trial, on_record
    )
    return network, arrived[3 * steps] - arrived[steps]  # Without the first, which compiles.


def _seconds_of_evaluating(problem, network, split, config, slots):
    """The seconds that the networks of a program take together for a batch."""
    mesh = parallel.make_mesh(config.mesh)
    parts = sharding.parts_of(problem, mesh, config.shard_parameters)
    prepared = evaluation.prepare(problem, split, mesh)
    model_state, frozen = split_frozen(network.model_state)
    networks = jax.tree.map(lambda x: np.stack([x] * slots), (network.params, model_state))
    networks = sharding.place(mesh, parts, networks, parallel.NETWORKS)
    frozen = sharding.place(mesh, parts, {'frozen': frozen})['frozen']
    inputs = examples.input_shapes(split)
    batching = gradients.preferred_batching(problem, network.params, network.model_state, inputs)
    evaluate = lambda: evaluation.scores(
        problem, networks, prepared, config.batch_size, batching, frozen
    )
    evaluate()
    began = time.perf_counter()
    evaluate()
    return time.perf_counter() - began


def _bytes_in_use():
    stats = jax.local_devices()[0].memory_stats()
    if stats and 'peak_bytes_in_use' in stats:
        return stats['peak_bytes_in_use']
    if resource is None:
        return 0
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
