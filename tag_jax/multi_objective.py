"""Ways of weighting tasks side by side (Sener & Koltun 2018, Section 4.1).

Every way trains one network for all tasks, over several seeds and learning rates; beside them stand
a network for each task alone. Learning rates are chosen on the validation split; on the test split
only the networks of the chosen ones are evaluated, once.
"""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax import evaluation, parallel, weighting
from tag_jax.data import Dataset
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import (
    NetworkPlan,
    TrainingConfig,
    check_devices,
    check_seeds,
    train_networks,
)

SINGLE_TASK = 'single task'
STATIC = 'static weight'  # how the names of static weightings begin


class Outcome(NamedTuple):
    """How one way of weighting did.

    Attributes:
      name: of the way.
      learning_rates: the one with the lowest mean validation error; for single tasks, one each.
      validation_error: `[S, T]`, percent, of S seeds and T tasks.
      test_error: `[S, T]`, percent.
      metrics: `{task: {name: [S]}}` on the test split, in natural units.
      seconds: wall time of training, all seeds and learning rates together.
    """

    name: str
    learning_rates: tuple[float, ...]
    validation_error: np.ndarray
    test_error: np.ndarray
    metrics: Mapping[str, Mapping[str, np.ndarray]]
    seconds: float


def compare(
    problem: MultiTaskProblem,
    dataset: Dataset,
    weightings: Mapping[str, Callable[[], Any]],
    config: TrainingConfig,
    seeds: int = 5,
    learning_rates: Sequence[float] | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> tuple[Outcome, ...]:
    """Trains networks with every weighting, and each task alone.

    A warning names the weightings that cannot compare tasks whose labels do not overlap.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset` with these tasks.
      weightings: `{name: () -> transform}`, such as `tag_jax.weighting.mgda_ub`.
      config: a `TrainingConfig`; its seed is the first of `seeds` seeds.
      seeds: networks for each weighting and learning rate.
      learning_rates: to choose from for each way; None for that of the config.
      on_outcome: called with each outcome as it is known.

    Returns:
      The outcomes: the single tasks first, then the weightings in their order.

    Raises:
      ValueError: see `check`.
      FloatingPointError: if a loss is not finite.
    """
    rates = check(problem, dataset, weightings, config, seeds, learning_rates)
    test = evaluation.prepare(problem, dataset.test, parallel.make_mesh(config.mesh))
    alone = [(task,) for task in problem.task_names]
    ways = {SINGLE_TASK: (weighting.equal, alone)}
    ways |= {name: (make, [problem.task_names]) for name, make in weightings.items()}
    for name, make in weightings.items():
        if remark := weighting.remark_on_overlaps(name, make, dataset.train, problem.task_names):
            logging.warning('%s', remark)
    outcomes = []
    for name, (make, groups) in ways.items():
        now = dataclasses.replace(config, weighting=make)
        networks = _trained(problem, dataset, now, name, groups, seeds, rates)
        outcomes.append(_outcome(problem, test, now, name, groups, networks))
        on_outcome(outcomes[-1])
    return tuple(outcomes)


def check(
    problem: MultiTaskProblem,
    dataset: Dataset,
    weightings: Mapping[str, Callable[[], Any]],
    config: TrainingConfig,
    seeds: int,
    learning_rates: Sequence[float] | None,
) -> tuple[float, ...]:
    """Learning rates to choose from, if everything that `compare` is given can be used.

    Args:
      problem, dataset, weightings, config, seeds, learning_rates: see `compare`.

    Raises:
      ValueError: if a number is out of its range, a weighting has the name of the baseline, or the
        data does not fit the problem.
    """
    check_seeds(config, seeds)
    if not isinstance(weightings, Mapping):
        raise ValueError('weightings must be a dict, {name: function that makes a transform}')
    for make in weightings.values():
        dataclasses.replace(config, weighting=make)
    if SINGLE_TASK in weightings:
        raise ValueError(f'no weighting may be called {SINGLE_TASK!r}: it is a baseline')
    rates = (
        (config.learning_rate,) if learning_rates is None else tuple(dict.fromkeys(learning_rates))
    )
    if not rates:
        raise ValueError('learning_rates is empty: give at least one, or None')
    for rate in rates:
        dataclasses.replace(config, learning_rate=rate)
    for name in ('train', 'validation', 'test'):
        evaluation.check_split(problem, getattr(dataset, name), name)
    check_devices(config, dataset.train, dataset.validation)
    return rates


def static_weights(
    task_names: Sequence[str], points: int, total: float = 2.0
) -> dict[str, Callable[[], Any]]:
    """Static weightings on a grid over two tasks: c^t of the paper's grid search.

    Args:
      task_names: two names.
      points: how many, evenly between all weight on one task and all on the other.
      total: what the weights sum to: 2, so that the middle is the sum of the losses, or 1, so that
        it is their mean.

    Returns:
      `{name: () -> transform}`.

    Raises:
      ValueError: if there are not two tasks, or less than one point or more than 99.
    """
    if len(task_names) != 2 or not 1 <= points <= 99:
        raise ValueError('a grid of static weights needs two tasks and 1 to 99 points')
    shares = np.arange(1, points + 1) / (points + 1)
    return {
        f'{STATIC} {share:.2f}': (
            lambda share=share: weighting.fixed(
                dict(zip(task_names, (total * share, total * (1 - share)), strict=True))
            )
        )
        for share in shares.tolist()
    }


def _trained(problem, dataset, config, name, groups, seeds, rates):
    """Networks of one way, `{(tasks, learning rate): [S TrainedNetworks]}`."""
    found = {}
    for rate in rates:
        plans = [
            NetworkPlan(f'{name}, {"+".join(tasks)}, seed {seed}', tasks, config.seed + seed, rate)
            for tasks, seed in itertools.product(groups, range(seeds))
        ]
        for network in train_networks(problem, dataset.train, dataset.validation, plans, config):
            found.setdefault((network.plan.tasks, rate), []).append(network)
    return found


def _outcome(problem, test, config, name, groups, networks) -> Outcome:
    """Chooses a learning rate for each group of tasks, and evaluates its networks."""

    def validation_error(key):
        errors = [scores['error'] for n in networks[key] for scores in n.validation.values()]
        return np.mean(errors)

    columns = {task: n for n, task in enumerate(problem.task_names)}
    seeds = len(next(iter(networks.values())))
    validation, tested = np.empty((2, seeds, len(columns)))
    metrics = {task: {} for task in columns}
    chosen = []
    for tasks in groups:
        best = min((key for key in networks if key[0] == tasks), key=validation_error)
        chosen.append(best[1])
        for row, network in enumerate(networks[best]):
            scores = evaluation.evaluate(
                problem, network.params, network.model_state, test, config.batch_size
            )
            for task in tasks:
                validation[row, columns[task]] = network.validation[task]['error']
                tested[row, columns[task]] = scores[task]['error']
                for measure, value in scores[task].items():
                    metrics[task].setdefault(measure, np.full(seeds, np.nan))[row] = value
    seconds = sum(network.seconds for found in networks.values() for network in found)
    return Outcome(name, tuple(chosen), validation, tested, metrics, seconds)
