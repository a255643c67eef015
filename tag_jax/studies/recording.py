"""Trains networks for every set of tasks of a problem, and records how they did."""

import dataclasses
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import numpy as np
import optax

import tag_jax
from tag_jax import evaluation, training
from tag_jax.data import Dataset
from tag_jax.evaluation import RELATIVE_LOSS
from tag_jax.grouping import identity, linear_estimates
from tag_jax.grouping.linear_estimates import BASES, DIRECTIONS, RIDGE
from tag_jax.grouping.task_sets import all_sets
from tag_jax.problem import MultiTaskProblem
from tag_jax.studies.recorded import BEST, MEASURES, SPLITS, RecordedTable
from tag_jax.training import NetworkPlan, TrainingConfig

SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
WINDOWS = 10
# Options of the linearised estimates of a table.
ESTIMATED = {'fraction': 0.1, 'bases': BASES, 'directions': DIRECTIONS, 'ridge': RIDGE}
# Affinities of a table: the settings of their measurement.
AFFINITIES = {
    'exact': {'kind': 'exact'},
    'first_order': {'kind': 'first_order'},
    'cosine': {'kind': 'cosine'},
    'exact_validation': {'kind': 'exact', 'split': 'validation'},
}


def record(
    name: str,
    problem: MultiTaskProblem,
    datasets: Sequence[Dataset],
    config: TrainingConfig,
    sizes: Mapping[float, MultiTaskProblem],
    about: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> RecordedTable:
    """Trains a network for every set of tasks and seed, to the end, and records how they came on.

    Single tasks train on encoders below cost 1 of `sizes`, all tasks on those above.

    Args:
      name: of the problem.
      problem: a `MultiTaskProblem` with T tasks.
      datasets: a `Dataset` for each seed. Their training and validation rows should differ, and
        their test rows be the same, so that no search has seen a row of any test.
      config: a `TrainingConfig`, without early stopping; its seed is the first. Every twentieth of
        its steps must be an evaluation.
      sizes: `{cost: problem}`, the same tasks on other encoders.
      about: where the data are from and what command this is, JSON types.
      say: is told of the progress.

    Returns:
      A `RecordedTable` without estimates.

    Raises:
      ValueError: if networks stop early, are not selected by relative losses, or shares of training
        have no evaluation.
      FloatingPointError: if a loss is not finite.
    """
    if config.patience:
        raise ValueError('networks of a recorded table train to the end: set patience=0')
    if config.select_by != RELATIVE_LOSS:
        raise ValueError(
            f"the best evaluation is by relative losses: set select_by='{RELATIVE_LOSS}'"
        )
    if any(round(share * config.steps) % config.eval_every for share in SHARES):
        raise ValueError(
            f'{config.steps} steps with an evaluation every {config.eval_every} have none after '
            f'{", ".join(f"{share:g}" for share in SHARES)} of training: let eval_every divide a '
            'twentieth of the steps'
        )
    names = problem.task_names
    specifications = [(tasks, 1.0) for tasks in all_sets(names)]
    specifications += [(names, cost) for cost in sorted(sizes) if cost > 1]
    specifications += [((task,), cost) for cost in sorted(sizes) if cost < 1 for task in names]
    scores = {key: [] for key in ((s, m) for s in SPLITS for m in MEASURES)}
    best_steps, constants = [], {split: [] for split in SPLITS}
    affinities = {kind: [] for kind in AFFINITIES}
    for n, dataset in enumerate(datasets):
        own = dataclasses.replace(config, seed=config.seed + n)
        curves = _curves({1.0: problem, **sizes}, dataset, specifications, own)
        found, best = zip(*(_points(names, curve, own) for curve in curves), strict=True)
        for key in scores:
            scores[key].append(np.stack([one[key] for one in found], axis=1))
        best_steps.append(best)
        for split in SPLITS:
            losses = evaluation.constant_losses(problem, getattr(dataset, split))
            constants[split].append([losses[task] for task in names])
        for kind, settings in AFFINITIES.items():
            affinities[kind].append(_affinities(problem, dataset, own.measuring(**settings)))
        say(f'{name}: seed {n + 1} of {len(datasets)} is done')
    members = np.array([[task in tasks for task in names] for tasks, _ in specifications])
    return RecordedTable(
        name=name,
        task_names=names,
        steps=config.steps,
        shares=SHARES,
        members=members,
        costs=np.array([cost for _, cost in specifications]),
        scores={key: np.stack(found) for key, found in scores.items()},
        constants={split: np.array(losses) for split, losses in constants.items()},
        best_steps=np.array(best_steps),
        affinities={kind: np.stack(found) for kind, found in affinities.items()},
        estimates={},
        about={**about, 'settings': _settings(config), 'versions': _versions()},
    )


def trained(
    problem: MultiTaskProblem,
    dataset: Dataset,
    sets: Sequence[tuple[str, ...]],
    config: TrainingConfig,
) -> list[dict[tuple[str, str], np.ndarray]]:
    """Trains networks for some sets of tasks, as a table has them.

    Args:
      problem, config: see `record`.
      dataset: of the seed of the config.
      sets: of task names.

    Returns:
      `{(split, measure): [P, T]}` of each set, see `RecordedTable.scores`.
    """
    curves = _curves({1.0: problem}, dataset, [(tasks, 1.0) for tasks in sets], config)
    return [_points(problem.task_names, curve, config)[0] for curve in curves]


def _curves(problems, dataset, specifications, config):
    """The records of every network, `[N]` lists of `training.Record`."""
    records = {}
    for cost, problem in problems.items():
        plans = [
            NetworkPlan(f'{n}', tasks, config.seed, config.learning_rate, cost=cost)
            for n, (tasks, own) in enumerate(specifications)
            if own == cost
        ]
        training.train_networks(
            problem,
            dataset.train,
            dataset.validation,
            plans,
            config,
            on_record=lambda record: records.setdefault(record.network, []).append(record),
            keep=False,
            watched_split=dataset.test,
        )
    return [records[f'{n}'] for n in range(len(specifications))]


def _points(names, records, config):
    """(`{(split, measure): [P, T]}`, steps of the best evaluations) of a network."""
    curves = {
        ('validation', measure): _by_task(
            names, [getattr(record, f'validation_{measure}') for record in records]
        )
        for measure in MEASURES
    }
    for measure in MEASURES:
        watched = [{t: m[measure] for t, m in record.watched.items()} for record in records]
        curves['test', measure] = _by_task(names, watched)
    steps = [record.step for record in records]
    relative = _by_task(names, [record.validation_relative_loss for record in records])
    by = {'error': curves['validation', 'error'], 'relative_loss': relative}
    best = [int(np.nansum(by[criterion], axis=1).argmin()) for criterion in BEST]
    places = [steps.index(round(share * config.steps)) for share in SHARES] + best
    return {key: curve[places] for key, curve in curves.items()}, [steps[n] for n in best]


def _by_task(names, of_steps):
    """Values `[steps, T]`, NaN for tasks that are not there."""
    return np.array([[values.get(task, np.nan) for task in names] for values in of_steps])


def _affinities(problem, dataset, config):
    """Means `[WINDOWS, T, T]` of what a network for all tasks measures."""
    plan = NetworkPlan('all', problem.task_names, config.seed, config.learning_rate, True)
    (network,) = training.train_networks(problem, dataset.train, dataset.validation, [plan], config)
    history = network.affinities.history
    return np.stack([part.mean(axis=0) for part in np.array_split(history, WINDOWS)])


def estimated(
    table: RecordedTable,
    problem: MultiTaskProblem,
    datasets: Sequence[Dataset],
    config: TrainingConfig,
) -> RecordedTable:
    """A table with estimates, in place of those that it has.

    Args:
      table: a `RecordedTable`.
      problem, datasets, config: that it was recorded with.
    """
    scores, steps = [], []
    brief = dataclasses.replace(
        config.measuring(window=(0, 1)), steps=round(ESTIMATED['fraction'] * config.steps)
    )
    rest = {name: value for name, value in ESTIMATED.items() if name != 'fraction'}
    for n, dataset in enumerate(datasets):
        own = dataclasses.replace(brief, seed=config.seed + n)
        candidates, took = linear_estimates.estimate(problem, dataset, own, **rest)
        scores.append(candidates.scores)
        steps.append(took)
    about = {'linearised': {'options': ESTIMATED, 'steps': int(np.mean(steps))}}
    return table._replace(
        estimates={'linearised': np.stack(scores)}, about={**table.about, 'estimates': about}
    )


def _settings(config):
    """The settings of training, as JSON types."""
    return {
        **{name: getattr(config, name) for name in ('steps', 'batch_size', 'learning_rate')},
        **{name: getattr(config, name) for name in ('eval_every', 'seed')},
        'optimizer': identity.settings(config)['optimizer'],
        'affinities_every': config.affinity.every,
    }


def _versions():
    return {
        'python': platform.python_version(),
        'tag_jax': tag_jax.__version__,
        **{module.__name__: module.__version__ for module in (jax, flax, optax, np)},
    }
