"""What a kind of task means: its loss, its metric and the width of its head."""

import functools
import numbers
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax


class Metric(NamedTuple):
    """A measure of success that is a function of sums over examples.

    Attributes:
      sums: `(output [B, ...], target [B, ...], mask bool [B, ...]) -> pytree of arrays`, sums over
        the labelled examples or pixels; runs inside jit. Sums of several batches are added in
        float64. The mask has the leading axes of the target, or the first of them only.
      finish: `sums -> {name: float}` in NumPy. The entry 'error' is the task's error in percent;
        the others are in natural units.
      reference: None, or `(target [N, ...], mask bool [N, ...]) -> value` in NumPy, over a whole
        split. It raises ValueError if the task cannot have such targets, before any training, and
        its value, unless None, is the second argument of `finish`. A split that is not in memory
        has none: every `finish` here does without.
    """

    sums: Callable
    finish: Callable
    reference: Callable | None = None


class Objective(NamedTuple):
    """What a head is trained for.

    Attributes:
      width: the number of outputs that the head needs.
      loss: `(output [B, width], target) -> [B]`; for tasks whose labels are images,
        `(output [B, H, W, width], target) -> [B, H, W]`.
      metric: a `Metric`.
    """

    width: int
    loss: Callable
    metric: Metric


def objective(kind: str, size: int) -> Objective:
    """The objective of a kind of task, as datasets name it.

    Args:
      kind: 'classification', 'regression' or 'absolute_regression' for one label an example;
        'segmentation', 'pixel_regression' or 'absolute_pixel_regression' for labels that are images
        (the same losses, a pixel; 'absolute' ones regress by the absolute error).
      size: the number of classes, or of regressed values.

    Returns:
      An `Objective`.

    Raises:
      ValueError: if the kind is unknown.
    """
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f'there is no kind of task called {kind!r}: choose {", ".join(_KINDS)}')
    return _KINDS[kind](size)


def for_tasks(tasks: Mapping[str, tuple[str, int]]) -> dict[str, Objective]:
    """The objectives of all tasks.

    Args:
      tasks: `{task: (kind, size)}`, as a `tag_jax.data.Dataset` has them.

    Returns:
      `{task: Objective}`.

    Raises:
      ValueError: see `objective`.
    """
    return {task: objective(*kind) for task, kind in tasks.items()}


def losses_and_metrics(
    objectives: Mapping[str, Objective],
) -> tuple[dict[str, Callable], dict[str, Metric]]:
    """Losses and metrics as `problem.from_linen` and the others take them.

    Args:
      objectives: `{task: Objective}`.

    Returns:
      `{task: loss}` and `{task: Metric}`.
    """
    losses = {task: objective.loss for task, objective in objectives.items()}
    metrics = {task: objective.metric for task, objective in objectives.items()}
    return losses, metrics


def classification(num_classes: int) -> Objective:
    """Softmax cross entropy over integer labels.

    The error is 100 x the misclassified share; 'accuracy' is the share that is right.

    Args:
      num_classes: C; outputs are logits `[B, C]`, targets integers `[B]` in [0, C).

    Returns:
      An `Objective`.

    Raises:
      ValueError: if there are less than two classes; from its loss, if the head has not C outputs;
        from its metric, if a label is no class.
    """

    def loss(output, target):
        if output.shape[-1] != num_classes:
            raise ValueError(
                f'{num_classes} classes need {num_classes} outputs of the head, '
                f'which has {output.shape[-1]}'
            )
        return optax.softmax_cross_entropy_with_integer_labels(output, target.astype(jnp.int32))

    def sums(output, target, mask):
        right = jnp.argmax(output, axis=-1) == target
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def finish(totals, reference=None):
        del reference
        labels, right = float(totals['labels']), float(totals['right'])
        return {'error': 100 * (labels - right) / labels, 'accuracy': right / labels}

    def reference(target, mask):
        if target.ndim != 1 or target.dtype.kind not in 'iub':
            raise ValueError(
                f'class labels must be integers [N], not {target.dtype} {list(target.shape)}'
            )
        _check_classes(target[mask], num_classes)

    _check_size('num_classes', num_classes, 2)
    loss.check_targets = reference
    return Objective(num_classes, loss, Metric(sums, finish, reference))


def segmentation(num_classes: int) -> Objective:
    """Softmax cross entropy over the integer label of every pixel.

    'miou' is the mean intersection over union: of the pixels that have a class, or are taken for
    it, or both, the share that are both, averaged over the classes that occur at all (in labels or
    outputs) on the examples that are evaluated together. The error is 100 x (1 - mIoU);
    'pixel_accuracy' is the share of pixels that are right.

    Args:
      num_classes: C; outputs are logits `[B, H, W, C]`, targets integers `[B, H, W]` in [0, C).

    Returns:
      An `Objective`.

    Raises:
      ValueError: as `classification`.
    """
    pixelwise = classification(num_classes)

    def sums(output, target, mask):
        target = target.astype(jnp.int32)
        known = _spread(mask, target.shape) & (target >= 0) & (target < num_classes)
        cells = jnp.where(known, target * num_classes + jnp.argmax(output, axis=-1), num_classes**2)
        confusion = jnp.bincount(cells.ravel(), length=num_classes**2 + 1)[:-1]
        return {
            'confusion': confusion.reshape(num_classes, num_classes),
            'labels': jnp.sum(_spread(mask, target.shape)),
        }

    def finish(totals, reference=None):
        del reference
        confusion = np.asarray(totals['confusion'], np.float64)
        if confusion.sum() < totals['labels']:
            raise ValueError(
                f'{totals["labels"] - confusion.sum():.0f} pixels have labels outside of the '
                f'classes 0 to {num_classes - 1}: put pixels without a label behind a mask'
            )
        both = np.diag(confusion)
        either = confusion.sum(axis=0) + confusion.sum(axis=1) - both
        miou = float(np.mean(both[either > 0] / either[either > 0]))
        accuracy = float(both.sum() / confusion.sum())
        return {'error': 100 * (1 - miou), 'miou': miou, 'pixel_accuracy': accuracy}

    def reference(target, mask):
        if target.ndim != 3 or target.dtype.kind not in 'iub':
            raise ValueError(
                f'class labels of pixels must be integers [N, H, W], not {target.dtype} '
                f'{list(target.shape)}'
            )
        _check_classes(target[mask], num_classes)

    def loss(output, target):
        return pixelwise.loss(output, target)

    loss.check_targets = reference
    return Objective(num_classes, loss, Metric(sums, finish, reference))


def regression(size: int = 1, absolute: bool = False) -> Objective:
    """Squared or absolute error, of an example or of every pixel.

    The error is 100 x mean squared error / variance of the target, both over the examples (pixels)
    that are evaluated; 'mse' is the mean squared error. With `absolute` it is 100 x mean absolute
    error / standard deviation of the target, and 'mae' is the mean absolute error, in the units of
    the target. Standardise targets: the losses of all tasks are summed, so one on a larger scale
    drowns the others.

    Where no variance over the whole split is given it comes from sums, and targets must vary by
    more than a hundredth of their size.

    Args:
      size: D; outputs are `[B, D]` or `[B, H, W, D]`, targets the same, or without the last axis
        where D is 1.
      absolute: whether the loss is the absolute error.

    Returns:
      An `Objective`.

    Raises:
      ValueError: if D is not at least 1; from its loss, if targets do not fit the outputs; from its
        metric, if all targets are equal.
    """
    _check_size('size', size, 1)
    distance, name = (jnp.abs, 'mae') if absolute else (jnp.square, 'mse')

    def loss(output, target):
        return jnp.mean(distance(output - _as_columns(target, output)), axis=-1)

    def sums(output, target, mask):
        as_float = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
        output, target = as_float(output), as_float(_as_columns(target, output))
        mask = _spread(mask, output.shape[:-1])
        # Rows of images apart: float32 loses digits in a sum over all of their pixels.
        axes = (0, *range(2, mask.ndim))
        over_labels = lambda values: jnp.sum(jnp.where(mask[..., None], values, 0), axis=axes)
        return {
            'labels': jnp.sum(mask),
            'distances': over_labels(distance(output - target)),
            'targets': over_labels(target),
            'squared_targets': over_labels(jnp.square(target)),
        }

    def finish(totals, variance=None):
        mean = lambda name: totals[name].reshape(-1, size).sum(axis=0) / totals['labels']
        if variance is None:
            variance = np.mean(mean('squared_targets') - np.square(mean('targets')))
            if not variance > 1e-5 * np.mean(mean('squared_targets')):  # No more than rounding.
                raise ValueError(_NO_VARIANCE)
        distance = float(np.mean(mean('distances')))
        spread = np.sqrt(variance) if absolute else variance
        return {'error': float(100 * distance / spread), name: distance}

    def reference(target, mask):
        labels = target[mask].astype(np.float64).reshape(-1, size)
        if (labels == labels[:1]).all():
            raise ValueError(_NO_VARIANCE)
        return float(labels.var(axis=0).mean())

    return Objective(size, loss, Metric(sums, finish, reference))


_NO_VARIANCE = (
    'all its targets are equal, and its error is relative to their variance: drop the task, or '
    'give the split other examples'
)

_KINDS = {
    'classification': classification,
    'regression': regression,
    'absolute_regression': functools.partial(regression, absolute=True),
    'segmentation': segmentation,
    'pixel_regression': regression,
    'absolute_pixel_regression': functools.partial(regression, absolute=True),
}


def _check_size(name, size, least):
    if not isinstance(size, numbers.Integral) or size < least:
        raise ValueError(f'{name} must be an integer of at least {least}, not {size!r}')


def _check_classes(labels, num_classes):
    """Raises ValueError unless integer labels are classes."""
    labels = labels.astype(np.int64)
    if not 0 <= labels.min() <= labels.max() < num_classes:
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise ValueError(
            f'the label {wrong} is not one of the classes 0 to {num_classes - 1} '
            '(put examples without a label behind a mask)'
        )


def _spread(mask, shape):
    """A mask of leading axes, over all of a shape."""
    return jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def _as_columns(target, output):
    """Targets with the last axis of the outputs, which they may lack where it has length one."""
    if output.shape not in (target.shape, (*target.shape, 1)):
        raise ValueError(
            f'targets {list(target.shape)} do not fit the outputs of the head, {list(output.shape)}'
        )
    return jnp.reshape(target, output.shape)
