"""Ways of weighting tasks side by side (Sener & Koltun 2018, Section 4.1).

Every way trains one network for all tasks, over several seeds and learning rates; beside them stand
a network for each task alone. Learning rates are chosen on the validation split; on the test split
only the networks of the chosen ones are evaluated, once. Whatever else is searched, such as static
weights or the alpha of GradNorm, is a way of its own here, and `searched` chooses among them, on
validation as well.
"""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tag_jax import evaluation, parallel, training, weighting
from tag_jax.data import Dataset, append
from tag_jax.problem import MultiTaskProblem
from tag_jax.tables import data_frame
from tag_jax.training import (
    NetworkPlan,
    TrainedNetwork,
    TrainingConfig,
    check_devices,
    check_seeds,
    train_networks,
)

SINGLE_TASK = 'single task'
STATIC = 'static weight'  # how the names of static weightings begin
_MOST_STATIC = 200


class Outcome(NamedTuple):
    """How one way of weighting did.

    Attributes:
      name: of the way.
      learning_rates: the one with the lowest mean validation error; for single tasks, one each.
      validation_error: `[S, T]`, percent, of S seeds and T tasks.
      test_error: `[S, T]`, percent.
      metrics: `{task: {name: [S]}}` on the test split, in natural units.
      seconds: wall time of training, all seeds and learning rates together.
      training_seconds: wall time of training one network at the chosen rate, evaluations included
        and compilation not; for single tasks, of one each. Networks that train side by side share
        the time. NaN where every network was evaluated once only.
      left_out: `{split: columns}` of the tasks whose error is not defined on the validation or the
        test split. It is NaN, and means over tasks are without it.
    """

    name: str
    learning_rates: tuple[float, ...]
    validation_error: np.ndarray
    test_error: np.ndarray
    metrics: Mapping[str, Mapping[str, np.ndarray]]
    seconds: float
    training_seconds: float = math.nan
    left_out: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def mean_error(self, split: str) -> np.ndarray:
        """The mean error over the tasks where it is defined on a split, percent, `[S]`.

        Args:
          split: 'validation' or 'test'.
        """
        errors = {'validation': self.validation_error, 'test': self.test_error}[split]
        return np.delete(errors, self.left_out.get(split, ()), axis=1).mean(axis=1)


def compare(
    problem: MultiTaskProblem,
    dataset: Dataset,
    weightings: Mapping[str, Callable[[], Any]],
    config: TrainingConfig,
    seeds: int = 5,
    learning_rates: Sequence[float] | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    retraining: TrainingConfig | None = None,
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
      retraining: to train again with the chosen learning rates, on the training and the validation
        examples together, to the last step, and to evaluate these networks (Supplement C.3): the
        settings for so many examples, whose learning rate and weighting do not count. None to
        evaluate the networks that were chosen among.

    Returns:
      The outcomes: the single tasks first, then the weightings in their order.

    Raises:
      ValueError: see `check`.
      FloatingPointError: if a loss is not finite.
    """
    rates = check(problem, dataset, weightings, config, seeds, learning_rates)
    both = None if retraining is None else append(dataset.train, dataset.validation)
    test = evaluation.prepare(
        problem,
        dataset.test,
        parallel.make_mesh(config.mesh),
        config.select_by,
        config.shard_parameters,
    )
    unjudged = evaluation.left_out(problem, dataset.validation)
    columns = lambda tasks: tuple(problem.task_names.index(task) for task in tasks)
    left_out = {'validation': columns(unjudged), 'test': columns(test.left_out)}
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
        chosen = _chosen(networks, groups, config.select_by, unjudged)
        tested = networks
        if retraining is not None:
            again = dataclasses.replace(retraining, weighting=make)
            splits = both, dataset.validation
            tested = _trained_again(problem, splits, again, name, chosen, seeds)
        outcome = _outcome(problem, test, now, name, chosen, networks, tested)
        outcomes.append(outcome._replace(left_out=left_out))
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
    evaluation.check_splits(problem, dataset)
    check_devices(problem, config, dataset.train, dataset.validation)
    return rates


def to_dataframe(outcomes: Sequence[Outcome]) -> Any:
    """Outcomes as a table: a row a way, a seed and a task, in their order.

    Args:
      outcomes: from `compare`.

    Returns:
      A pandas DataFrame with the columns `method` (the name of the way), `seed` (0 for that of the
      config), `task`, `learning_rate`, `validation_error` and `test_error` in percent, and every
      measure of `metrics` on the test split in a column of its name, NaN where a task has none.

    Raises:
      ImportError: if pandas is not installed.
    """
    rows = []
    for one in outcomes:
        tasks = list(one.metrics)
        rates = dict(zip(tasks, itertools.cycle(one.learning_rates), strict=False))
        for seed, (n, task) in itertools.product(range(len(one.test_error)), enumerate(tasks)):
            measures = {name: of[seed] for name, of in one.metrics[task].items() if name != 'error'}
            rows.append(
                {
                    'method': one.name,
                    'seed': seed,
                    'task': task,
                    'learning_rate': rates[task],
                    'validation_error': one.validation_error[seed, n],
                    'test_error': one.test_error[seed, n],
                    **measures,
                }
            )
    return data_frame(rows)


def searched(outcomes: Sequence[Outcome]) -> dict[str, tuple[Outcome, int]]:
    """Chooses on validation among ways that differ in a number only.

    Args:
      outcomes: from `compare`. Static weights are of one kind, and so are ways whose names differ
        behind a colon, as gradnorm:0.5 and gradnorm:1 (and gradnorm without one) do.

    Returns:
      `{kind: (outcome with the lowest mean validation error, how many there are)}`, of kinds with
      several.
    """
    kinds = {}
    for outcome in outcomes:
        static = outcome.name.startswith(STATIC)
        kind = STATIC if static else outcome.name.partition(':')[0]
        kinds.setdefault(kind, []).append(outcome)
    return {kind: (best(found), len(found)) for kind, found in kinds.items() if len(found) > 1}


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome with the lowest mean validation error.

    Args:
      outcomes: from `compare`.
    """
    return min(outcomes, key=lambda outcome: outcome.mean_error('validation').mean())


def static_weights(
    task_names: Sequence[str], points: int, total: float | None = None
) -> dict[str, Callable[[], Any]]:
    """Static weightings on a grid: c^t of the paper's grid search, all above 0.

    Args:
      task_names: T names, two or more.
      points: shares are multiples of 1 / (points + 1). Of two tasks there are so many ways to sum
        to one, of three points (points - 1) / 2.
      total: what the weights of a way sum to. By default T, so that equal shares are the sum of the
        losses; 1 / T makes (1 / T) sum_t c_t L_t of them, which the paper minimises.

    Returns:
      `{name: () -> transform}`.

    Raises:
      ValueError: if there is only one task, or no way or too many.
    """
    size = len(task_names)
    parts = points + 1
    if size < 2 or not size <= parts or math.comb(points, size - 1) > _MOST_STATIC:
        raise ValueError(
            f'a grid of static weights needs two tasks or more, and up to {_MOST_STATIC} ways to '
            f'share 1 among them in multiples of 1 / (points + 1): {size} tasks and {points} '
            'points are not that'
        )
    total = size if total is None else total
    found = {}
    # All ways to cut a row of parts into as many pieces as tasks.
    for cuts in itertools.combinations(range(1, parts), size - 1):
        shares = np.diff([0, *cuts, parts]) / parts
        shown = shares[:-1] if size == 2 else shares  # The other one follows.
        weights = dict(zip(task_names, (total * shares).tolist(), strict=True))
        name = f'{STATIC} {", ".join(f"{share:.2f}" for share in shown)}'
        found[name] = functools.partial(weighting.fixed, weights)
    return found


class _Timed(NamedTuple):
    """A network, and the seconds that a step of it took; NaN where that is not known."""

    network: TrainedNetwork
    seconds_a_step: float


def _trained(problem, dataset, config, name, groups, seeds, rates):
    """Networks of one way, `{(tasks, learning rate): [S _Timed]}`."""
    found = {}
    for rate in rates:
        plans = [
            NetworkPlan(f'{name}, {"+".join(tasks)}, seed {seed}', tasks, config.seed + seed, rate)
            for tasks, seed in itertools.product(groups, range(seeds))
        ]
        for one in _timed(problem, dataset.train, dataset.validation, plans, config):
            found.setdefault((one.network.plan.tasks, rate), []).append(one)
    return found


def _trained_again(problem, splits, config, name, chosen, seeds):
    """Networks of the chosen rates, which keep their last step: there is nothing to choose by."""
    last = dataclasses.replace(config, eval_every=config.steps, patience=0)
    plans = [
        NetworkPlan(f'{name}, {"+".join(tasks)}, again {seed}', tasks, config.seed + seed, rate)
        for (tasks, rate), seed in itertools.product(chosen, range(seeds))
    ]
    found = {}
    for one in _timed(problem, *splits, plans, last):
        found.setdefault((one.network.plan.tasks, one.network.plan.learning_rate), []).append(one)
    return found


def _timed(problem, train_split, validation_split, plans, config):
    """Trained networks with the time of a step: the median over evaluations but the first.

    Before the first one programs are compiled.
    """
    ends, seconds = {}, {}

    def on_record(record):
        if record.network in ends:
            steps = record.step - ends[record.network]
            seconds.setdefault(record.network, []).append(record.seconds / steps)
        ends[record.network] = record.step

    networks = train_networks(problem, train_split, validation_split, plans, config, on_record)
    middle = lambda name: float(np.median(seconds[name])) if name in seconds else math.nan
    return [_Timed(network, middle(network.plan.name)) for network in networks]


def _chosen(networks, groups, select_by, unjudged):
    """For each group of tasks its key, with the learning rate that does best on validation."""

    def validation_score(key):
        by, judged = evaluation.kept_by(key[0], select_by, unjudged)
        scores = [training.validation_scores(one.network) for one in networks[key]]
        return np.mean([of_tasks[task][by] for of_tasks in scores for task in judged])

    return [
        min((key for key in networks if key[0] == tasks), key=validation_score) for tasks in groups
    ]


def _outcome(problem, test, config, name, chosen, networks, tested) -> Outcome:
    """Evaluates networks of the chosen learning rates.

    Args:
      problem, config, name: of the way.
      test: the prepared test split.
      chosen: keys of `networks`, one a group of tasks.
      networks: all that were trained, `{(tasks, learning rate): [S _Timed]}`.
      tested: those to evaluate, by the same keys; the same or others.
    """
    columns = {task: n for n, task in enumerate(problem.task_names)}
    seeds = len(next(iter(networks.values())))
    validation, errors = np.empty((2, seeds, len(columns)))
    metrics = {task: {} for task in columns}
    for key in chosen:
        for row, (before, after) in enumerate(zip(networks[key], tested[key], strict=True)):
            network = after.network
            scores = training.evaluate(problem, network, test, config.batch_size)
            chosen_by = training.validation_scores(before.network)
            for task in key[0]:
                validation[row, columns[task]] = chosen_by[task]['error']
                errors[row, columns[task]] = scores[task]['error']
                for measure, value in scores[task].items():
                    metrics[task].setdefault(measure, np.full(seeds, np.nan))[row] = value
    all_of_them = [one for found in networks.values() for one in found]
    if tested is not networks:
        all_of_them += [one for found in tested.values() for one in found]
    return Outcome(
        name,
        tuple(rate for _, rate in chosen),
        validation,
        errors,
        metrics,
        math.fsum(one.network.seconds for one in all_of_them),
        math.fsum(
            float(np.mean([one.seconds_a_step * one.network.steps for one in networks[key]]))
            for key in chosen
        ),
    )
