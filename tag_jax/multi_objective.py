"""Ways of weighting tasks side by side (Sener & Koltun 2018, Section 4.1).

Every way trains one network for all tasks, over several seeds and learning rates; beside them stand
a network for each task alone. Learning rates are chosen on the validation split, and the test
split is used once for each network that counts.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax import evaluation, optim
from tag_jax.training import NetworkPlan, TrainingConfig, train_networks

SINGLE_TASK = 'single task'


class Outcome(NamedTuple):
    """How one way of weighting did.

    Attributes:
      name: of the way.
      learning_rate: the one with the lowest mean validation error.
      validation_error: `[S, T]`, percent, of S seeds and T tasks.
      test_error: `[S, T]`, percent.
      seconds: wall time of training at that learning rate, all seeds together.
    """

    name: str
    learning_rate: float
    validation_error: np.ndarray
    test_error: np.ndarray
    seconds: float

    def mean_and_error(self):
        """Mean test error of each task and its standard error over seeds (NaN for one), `[T]`."""
        size = len(self.test_error)
        spread = self.test_error.std(axis=0, ddof=1) if size > 1 else np.nan
        return self.test_error.mean(axis=0), np.broadcast_to(
            spread / np.sqrt(size), self.test_error.shape[1:]
        )


def compare(
    problem,
    dataset,
    weightings: Mapping[str, Callable[[], Any]],
    config: TrainingConfig,
    seeds: int = 5,
    learning_rates: Sequence[float] | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> tuple[Outcome, ...]:
    """Trains networks with every weighting, and each task alone.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset` with these tasks.
      weightings: `{name: () -> transform}`, such as `tag_jax.optim.mgda_ub`.
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
    test = evaluation.prepare(problem, dataset.test)
    alone = [(task,) for task in problem.task_names]
    ways = {SINGLE_TASK: (optim.equal, alone)}
    ways |= {name: (make, [problem.task_names]) for name, make in weightings.items()}
    outcomes = []
    for name, (make, groups) in ways.items():
        now = dataclasses.replace(config, weighting=make)
        results = [
            _trained(problem, dataset, test, now, name, groups, seeds, rate) for rate in rates
        ]
        outcomes.append(min(results, key=lambda outcome: outcome.validation_error.mean()))
        on_outcome(outcomes[-1])
    return tuple(outcomes)


def check(problem, dataset, weightings, config, seeds, learning_rates):
    """Learning rates to choose from, if everything that `compare` is given can be used.

    Raises:
      ValueError: if a number is out of its range, a weighting has the name of the baseline, or the
        data does not fit the problem.
    """
    if seeds < 1:
        raise ValueError(f'seeds must be at least 1, not {seeds}')
    if SINGLE_TASK in weightings:
        raise ValueError(f'no weighting may be called {SINGLE_TASK!r}: it is a baseline')
    rates = (config.learning_rate,) if learning_rates is None else tuple(learning_rates)
    if not rates:
        raise ValueError('learning_rates is empty: give at least one, or None')
    for rate in rates:
        dataclasses.replace(config, learning_rate=rate)
    for name in ('train', 'validation', 'test'):
        evaluation.check_split(problem, getattr(dataset, name), name)
    return rates


def static_weights(task_names, points):
    """Static weightings on a grid over two tasks: c^t of the paper's grid search.

    Args:
      task_names: two names.
      points: how many, evenly between all weight on one task and all on the other.

    Returns:
      `{name: () -> transform}`; the weights sum to two, so that the middle is the plain sum.

    Raises:
      ValueError: if there are not two tasks, or no points.
    """
    if len(task_names) != 2 or points < 1:
        raise ValueError('a grid of static weights needs two tasks and at least one point')
    shares = np.arange(1, points + 1) / (points + 1)
    return {
        f'static {share:.2f}': (
            lambda share=share: optim.fixed(
                dict(zip(task_names, (2 * share, 2 - 2 * share), strict=True))
            )
        )
        for share in shares.tolist()
    }


def _trained(problem, dataset, test, config, name, groups, seeds, rate) -> Outcome:
    """The outcome of one way at one learning rate."""
    plans = [
        NetworkPlan(f'{name}, {"+".join(tasks)}, seed {seed}', tasks, config.seed + seed, rate)
        for tasks, seed in itertools.product(groups, range(seeds))
    ]
    networks = train_networks(problem, dataset.train, dataset.validation, plans, config)
    errors = {
        split: np.full((seeds, len(problem.task_names)), np.nan) for split in ('validation', 'test')
    }
    for network in networks:
        scores = evaluation.evaluate(
            problem, network.params, network.model_state, test, config.batch_size
        )
        row = network.plan.seed - config.seed
        for task in network.plan.tasks:
            column = problem.task_names.index(task)
            errors['validation'][row, column] = network.validation[task]['error']
            errors['test'][row, column] = scores[task]['error']
    seconds = sum(network.seconds for network in networks)
    return Outcome(name, rate, errors['validation'], errors['test'], seconds)
