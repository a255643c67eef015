"""Sentences about labels and training that a reader of the result should know."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax import evaluation, examples, training
from tag_jax.data import Dataset
from tag_jax.data.overlaps import describe_pairs, label_overlaps, pairs_apart
from tag_jax.data.unlike import describe_scale, ranges_of
from tag_jax.grouping.result import judged_by
from tag_jax.grouping.run import Run
from tag_jax.objectives import BY_SHARES
from tag_jax.objectives.objective import has_loss_of_ours
from tag_jax.training import TrainedNetwork
from tag_jax.weighting import remark_on_overlaps

# Standard deviations of regressed targets are alike up to this factor: losses up to its square.
ALIKE = 10
_WITH_CLASSES = ('classification', 'binary', 'tokens', 'segmentation')
# So many tasks or classes are named in a sentence.
_MOST = 4


def _remarks_on_measures(tasks, select_by):
    """Sentences on the errors of tasks that are judged by a share, and on losses in their place."""
    by_measure = {}
    for task, measure in judged_by(tasks).items():
        if measure in BY_SHARES:
            by_measure.setdefault(measure, []).append(task)
    errors = {', '.join(names): f'100 x (1 - {one})' for one, names in by_measure.items()}
    if select_by == 'error':
        yield from (f'The error of {names} is {error}.' for names, error in errors.items())
    elif errors:
        loss = select_by.replace('_', ' ')
        each = '; '.join(f'{names}: {error}' for names, error in errors.items())
        yield (
            f'Networks were selected by their {loss}, so reports show that. The measures that '
            f'tasks are judged by stand beside it. `test_error` has them as errors ({each}).'
        )


def remarks_on_left_out(problem: Any, dataset: Dataset, select_by: str) -> Iterator[str]:
    """Sentences about tasks whose errors are not defined on the validation or the test split.

    Args:
      problem: a `MultiTaskProblem`.
      dataset: a `tag_jax.data.Dataset`.
      select_by: what networks are chosen by; where that is no error, errors on the validation split
        are of no matter.

    Yields:
      A sentence for each split and reason.
    """
    names = ('validation', 'test') if select_by == evaluation.ERROR else ('test',)
    for name in names:
        tasks_by_reason = {}
        for task, why in evaluation.left_out(problem, getattr(dataset, name)).items():
            tasks_by_reason.setdefault(why, []).append(task)
        for why, tasks in tasks_by_reason.items():
            moot = ', and choices do not heed them' * (name == 'validation')
            yield (
                f'Total errors on the {name} split leave out {", ".join(tasks)}, for all methods '
                f'alike{moot}, since {why}.'
            )


def remarks_on_labels(
    run: Run, measured: bool, metrics: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """Sentences about what errors are, about labels that do not overlap, and unknown metrics.

    Args:
      run: a `Run`.
      measured: whether affinities were measured.
      metrics: `{task: {name: value}}` on the test split.

    Yields:
      A sentence each.
    """
    names, train = run.problem.task_names, run.dataset.train
    yield from _remarks_on_measures(run.problem.tasks, run.config.select_by)
    pairs = pairs_apart(label_overlaps(train, names), names)
    if pairs and measured:
        yield (
            f'No training example has labels of both {describe_pairs(pairs)}: the affinities '
            'between them compare losses on other examples than those that the step is taken on.'
        )
    if remark := remark_on_overlaps('The weighting', run.config.weighting, train, names):
        yield remark
    told = evaluation.left_out(run.problem, run.dataset.test)
    unknown = [task for task in names if math.isnan(metrics[task].get('roc_auc', 0))]
    if unknown := [task for task in unknown if task not in told]:
        yield (
            f'ROC AUC is not defined (NaN) for {", ".join(unknown)}: the test split lacks labels '
            'of a class. Splits that are stratified by the task (stratify=, --stratify) have some '
            'of each.'
        )


def remarks_on_splits(tasks: Mapping[str, Any], dataset: Dataset) -> Iterator[str]:
    """Sentences about targets of no task, and about inputs on another scale than those of training.

    Args:
      tasks: `{task: Objective}`.
      dataset: a `tag_jax.data.Dataset`; only splits in memory are looked at. Its own tasks may be
        more.

    Yields:
      A sentence each.
    """
    if not examples.in_memory(dataset.train):
        return
    known = {*tasks, *(getattr(dataset, 'tasks', None) or ())}
    if unused := [task for task in dataset.train.targets if task not in known]:
        some = ', '.join(map(str, unused[:_MOST])) + ', ...' * (len(unused) > _MOST)
        yield f'The training split has targets of no task, which nothing trains on: {some}.'
    ranges = ranges_of(dataset.train.inputs)
    for name in ('validation', 'test'):
        split = getattr(dataset, name)
        if examples.in_memory(split) and (unlike := describe_scale(split.inputs, ranges)):
            yield (
                f'The {name} split is on another scale than the training split: {unlike}. Errors '
                'on it mean little: bring both to one scale, as pictures divided by 255 are.'
            )


def remarks_on_targets(tasks: Mapping[str, Any], dataset: Dataset) -> Iterator[str]:
    """Sentences about regressed targets on unlike scales, and classes without a training example.

    Nothing is said of a training split that is not in memory.

    Args:
      tasks: `{task: Objective}`.
      dataset: a `tag_jax.data.Dataset`.

    Yields:
      A sentence each.
    """
    if not examples.in_memory(dataset.train):
        return
    spreads = {
        task: _spread(labels, tasks[task].width)
        for task, labels in _labels(tasks, dataset.train, ('regression', 'pixel_regression'))
        if has_loss_of_ours(tasks[task])
    }
    if len(tasks) > 1 and (unlike := _on_unlike_scales(spreads)):
        some = ', '.join(f'{task} {spreads[task]:.3g}' for task in unlike[:_MOST])
        more = ', ...' * (len(unlike) > _MOST)
        yield (
            f'Standard deviations of regressed targets are far from 1, or from each other ({some}'
            f'{more}). The losses of tasks are summed, so that one on a large scale drowns the '
            'others: standardise the targets, as data.from_arrays does.'
        )
    encoding = getattr(dataset, 'encoding', None)
    missing = []
    for task, labels in _labels(tasks, dataset.train, _WITH_CLASSES):
        there = set(np.unique(labels).tolist())
        names = encoding.targets[task].classes if encoding and task in encoding.targets else ()
        lacking = [n for n in range(max(tasks[task].width, 2)) if n not in there]
        missing += [f'{task} {names[n] if names else n}' for n in lacking]
    if missing:
        more = f' (and {len(missing) - _MOST} more)' * (len(missing) > _MOST)
        yield (
            f'No training example has these classes: {", ".join(missing[:_MOST])}{more}. No '
            'network can learn them.'
        )


def _labels(tasks, split, kinds):
    """Pairs of a task of some kinds and the labels that it has in a split."""
    for task, objective in tasks.items():
        if getattr(objective, 'kind', None) in kinds:
            labels, mask = np.asarray(split.targets[task]), (split.mask or {}).get(task)
            yield task, labels if mask is None else labels[np.asarray(mask, bool)]


def _spread(labels, width):
    """The standard deviation of values, of several in an example the mean of their variances."""
    return float(np.sqrt(labels.astype(np.float64).reshape(-1, width).var(axis=0).mean()))


def _on_unlike_scales(spreads):
    """The tasks whose standard deviation is far from 1, or the two farthest from each other."""
    far = [task for task, spread in spreads.items() if not 1 / ALIKE <= spread <= ALIKE]
    if far or not spreads:
        return far
    least, most = min(spreads, key=spreads.get), max(spreads, key=spreads.get)
    return [least, most] if spreads[most] > ALIKE * spreads[least] else []


def remarks_on_steps(steps: int, networks: Sequence[TrainedNetwork]) -> Iterator[str]:
    """A sentence on networks that were best at the end of all their steps.

    Args:
      steps: the most that they could take.
      networks: those whose errors a result shows.

    Yields:
      It, if there are such networks.
    """
    still = [one.plan.name for one in networks if one.best_step == one.steps >= steps]
    if still:
        yield (
            f'{", ".join(still)} took all {steps:,} steps, and the last evaluation was the best '
            f'one: {"they were" if len(still) > 1 else "it was"} still improving, so that more '
            'steps (steps=, --steps) may change errors and gain.'
        )


def remarks_on_still_parameters(run: Run) -> Iterator[str]:
    """A sentence, if steps that affinities measure move parameters that the optimizer does not.

    Args:
      run: a `Run` that measured affinities.

    Yields:
      It, if there are such parameters.
    """
    if run.config.affinity.step != 'sgd':
        return
    if still := training.still_parameters(run.problem, run.config):
        some = ', '.join(still[:_MOST]) + ', ...' * (len(still) > _MOST)
        yield (
            f'The optimizer does not move {some}, and the steps that affinities measure do: they '
            'are of another network. Say what trains with trainable=, or take '
            "affinity.step='optimizer'."
        )


def remarks_on_numbers(networks: Sequence[TrainedNetwork]) -> Iterator[str]:
    """A sentence for each network that met numbers that were not finite.

    Args:
      networks: the chosen ones.

    Yields:
      A sentence each.
    """
    for network in networks:
        if network.not_finite:
            steps = ', '.join(f'{name} in {count}' for name, count in network.not_finite.items())
            yield (
                f'Of the {network.steps} steps of {network.plan.name} some had numbers that were '
                f'not finite: {steps}.'
            )
