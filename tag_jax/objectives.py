"""Objectives: what a task is trained for, how it is judged, and how its answers are read.

The tasks of a dataset are `{task: Objective}`. A function makes each: `classification`, `binary`,
`multilabel`, `regression`, `segmentation`, `pixel_regression`, `tokens`. An `Objective` of one's
own has a loss and a `Metric`.

Examples:
  >>> import jax.numpy as jnp
  >>> from tag_jax import objectives
  >>> colour = objectives.classification(3)
  >>> colour.kind, colour.width
  ('classification', 3)
  >>> float(colour.loss(jnp.array([[0.0, 0.0, 0.0]]), jnp.array([2]))[0])
  1.098...
"""

import numbers
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
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
    """The goal of a task: its loss, its metric, and how its answers are read.

    Attributes:
      width: the number of outputs that the head needs.
      loss: `(output [B, width], target) -> [B]`; where an example has several labels (pixels,
        tokens), one number for each of them, `[B, ...]`.
      metric: a `Metric`.
      kind: a word for it.
      answer: `output [N, ..., width] -> [N, ...]` in NumPy, what the head says: numbers of classes,
        or values; None for the outputs as they are.
      probabilities: `output [N, ..., width] -> [N, ..., C]` in NumPy; None if it has none.
      options: JSON types that tell it from others of its kind, such as weights of classes; a score
        table keeps networks of different objectives apart by them.
    """

    width: int
    loss: Callable
    metric: Metric
    kind: str = 'custom'
    answer: Callable | None = None
    probabilities: Callable | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self):
        return f'Objective({self.kind}, width {self.width})'


def check_tasks(tasks: Mapping[str, Any]) -> None:
    """Raises ValueError unless tasks are `{task: Objective}`, at least one, with names of text.

    Args:
      tasks: what was given.
    """
    if not isinstance(tasks, Mapping):
        raise ValueError(
            f'tasks must be a dict {{task: objective}}, not {type(tasks).__name__}: give '
            "{'colour': objectives.classification(3)}"
        )
    if not tasks:
        raise ValueError('a problem needs at least one task')
    for name, objective in tasks.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f'the name of a task must be text, not {name!r}')
        if not all(hasattr(objective, part) for part in ('width', 'loss', 'metric')):
            raise ValueError(
                f'the task {name!r} must be an objective, not {objective!r}: make it with '
                'objectives.classification(3), objectives.regression() or another'
            )
        if not callable(objective.loss):
            raise ValueError(f'the loss of {name!r} must be a function, not {objective.loss!r}')
        if not (hasattr(objective.metric, 'sums') and hasattr(objective.metric, 'finish')):
            raise ValueError(
                f'the metric of {name!r} has no sums and finish: use a tag_jax.objectives.Metric'
            )


def classification(num_classes: int, class_weights: Sequence[float] | None = None) -> Objective:
    """Softmax cross entropy over integer labels.

    The error is 100 x the misclassified share; 'accuracy' is the share that is right.

    Args:
      num_classes: C; outputs are logits `[B, C]`, targets integers `[B]` in [0, C).
      class_weights: C numbers by which the losses of the examples of each class are multiplied;
        None for 1. The error counts every example alike.

    Returns:
      An `Objective`.

    Raises:
      ValueError: if there are less than two classes, or the weights do not fit them; from its
        loss, if the head has not C outputs; from its metric, if a label is no class.
    """
    return _classes('classification', 'class labels', '[N]', 1, num_classes, class_weights)


def tokens(num_classes: int, class_weights: Sequence[float] | None = None) -> Objective:
    """Softmax cross entropy over the integer label of every token of a sequence.

    The error is 100 x the misclassified share of the tokens that have a label; 'accuracy' is the
    share that is right. Padding goes behind a mask, bool `[B, L]`.

    Args:
      num_classes: C; outputs are logits `[B, L, C]`, targets integers `[B, L]` in [0, C).
      class_weights: of tokens, see `classification`.

    Returns:
      An `Objective`.

    Raises:
      ValueError: as `classification`.
    """
    return _classes('tokens', 'class labels of tokens', '[N, L]', 2, num_classes, class_weights)


def _classes(kind, labels_of, shape, ndim, num_classes, class_weights):
    """Softmax cross entropy over integer labels of `ndim` axes."""
    _check_size('num_classes', num_classes, 2)
    weights = _class_weights(class_weights, num_classes)

    def loss(output, target):
        if output.shape[-1] != num_classes:
            raise ValueError(
                f'{num_classes} classes need {num_classes} outputs of the head, '
                f'which has {output.shape[-1]}'
            )
        target = target.astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(output, target)
        return losses if weights is None else losses * jnp.asarray(weights, losses.dtype)[target]

    def sums(output, target, mask):
        mask = _spread(mask, target.shape)
        right = jnp.argmax(output, axis=-1) == target
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def reference(target, mask):
        if target.ndim != ndim or target.dtype.kind not in 'iub':
            raise ValueError(
                f'{labels_of} must be integers {shape}, not {target.dtype} {list(target.shape)}'
            )
        _check_classes(target[mask], num_classes)

    loss.check_targets = reference
    metric = Metric(sums, _share_right, reference)
    options = {} if weights is None else {'class_weights': weights.tolist()}
    return Objective(num_classes, loss, metric, kind, _most_probable, _softmax, options)


def binary(pos_weight: float | None = None) -> Objective:
    """Sigmoid cross entropy of one logit: is it so, or not?

    The error is 100 x the misclassified share; 'accuracy' is the share that is right.

    Args:
      pos_weight: what the losses of positive examples are multiplied by; None for 1. Outputs are
        logits `[B, 1]`, targets 0 or 1, `[B]`.

    Returns:
      An `Objective`.

    Raises:
      ValueError: if the weight is not positive; from its loss, if the head has not one output; from
        its metric, if a label is neither 0 nor 1.
    """
    weight = _positive_weight(pos_weight)

    def loss(output, target):
        return _sigmoid_losses(_as_columns(target, output), output, weight)[..., 0]

    def sums(output, target, mask):
        right = (output[..., 0] > 0) == (target > 0)
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def reference(target, mask):
        _check_zero_or_one(target, mask, 1, 'labels of a binary task must be 0 or 1, [N]')

    loss.check_targets = reference
    answer = lambda output: (output[..., 0] > 0).astype(np.int32)
    metric = Metric(sums, _share_right, reference)
    options = {} if weight is None else {'pos_weight': weight}
    return Objective(1, loss, metric, 'binary', answer, _both_sides, options)


def multilabel(size: int, pos_weight: Any = None) -> Objective:
    """Sigmoid cross entropy of several labels of an example, each of which is so or not.

    The error is 100 x the misclassified share of all labels (the Hamming loss); 'accuracy' is the
    share that is right.

    Args:
      size: L; outputs are logits `[B, L]`, targets 0 or 1, `[B, L]`, masks `[B]` or `[B, L]`.
      pos_weight: what the losses of positive labels are multiplied by, a number or one for each of
        the L labels; None for 1.

    Returns:
      An `Objective`.

    Raises:
      ValueError: if L is not at least 1, or a weight is not positive; from its loss, if the head
        has not L outputs; from its metric, if a label is neither 0 nor 1.
    """
    _check_size('size', size, 1)
    weights = _positive_weights(pos_weight, size)

    def loss(output, target):
        each = None if weights is None else jnp.broadcast_to(weights, output.shape)
        return _sigmoid_losses(_as_columns(target, output), output, each)

    def sums(output, target, mask):
        mask = _spread(mask, target.shape)
        right = (output > 0) == (target > 0)
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def reference(target, mask):
        _check_zero_or_one(target, mask, 2, f'several labels must be 0 or 1, [N, {size}]')
        if target.shape[1] != size:
            raise ValueError(f'there are {target.shape[1]} labels an example, not {size}')

    loss.check_targets = reference
    answer = lambda output: (output > 0).astype(np.int32)
    metric = Metric(sums, _share_right, reference)
    options = {} if weights is None else {'pos_weight': weights.tolist()}
    return Objective(size, loss, metric, 'multilabel', answer, _sigmoid, options)


def segmentation(num_classes: int, class_weights: Sequence[float] | None = None) -> Objective:
    """Softmax cross entropy over the integer label of every pixel.

    'miou' is the mean intersection over union: of the pixels that have a class, or are taken for
    it, or both, the share that are both, averaged over the classes that occur at all (in labels or
    outputs) on the examples that are evaluated together. The error is 100 x (1 - mIoU);
    'pixel_accuracy' is the share of pixels that are right.

    Args:
      num_classes: C; outputs are logits `[B, H, W, C]`, targets integers `[B, H, W]` in [0, C).
      class_weights: of pixels, see `classification`.

    Returns:
      An `Objective`.

    Raises:
      ValueError: as `classification`.
    """
    pixelwise = classification(num_classes, class_weights)

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
    metric = Metric(sums, finish, reference)
    return Objective(
        *(num_classes, loss, metric, 'segmentation', _most_probable, _softmax, pixelwise.options)
    )


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

    def answer(output):
        return output[..., 0] if size == 1 else output

    metric = Metric(sums, finish, reference)
    options = {'absolute': True} if absolute else {}
    return Objective(size, loss, metric, 'regression', answer, None, options)


def pixel_regression(size: int = 1, absolute: bool = False) -> Objective:
    """Squared or absolute error of every pixel: `regression` under a name of its own.

    Args:
      size, absolute: see `regression`; outputs are `[B, H, W, D]`.

    Returns:
      An `Objective`.

    Raises:
      ValueError: see `regression`.
    """
    return regression(size, absolute)._replace(kind='pixel_regression')


_NO_VARIANCE = (
    'all its targets are equal, and its error is relative to their variance: drop the task, or '
    'give the split other examples'
)


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


def _share_right(totals, reference=None):
    """The error and the accuracy of labels that are right or wrong."""
    del reference
    labels, right = float(totals['labels']), float(totals['right'])
    return {'error': 100 * (labels - right) / labels, 'accuracy': right / labels}


def of_kind(kind: str, width: int) -> Objective:
    """An objective as a saved run names it, to read answers by.

    Args:
      kind: of an `Objective`.
      width: of its head.

    Returns:
      An `Objective`; one without answers, if the kind is none of those that are made here.

    Raises:
      ValueError: if the width is none of the kind; from the loss and the metric of one without
        answers.
    """
    makers = {
        'classification': lambda: classification(width),
        'binary': binary,
        'multilabel': lambda: multilabel(width),
        'regression': lambda: regression(width),
        'segmentation': lambda: segmentation(width),
        'pixel_regression': lambda: pixel_regression(width),
        'tokens': lambda: tokens(width),
    }
    if kind in makers:
        return makers[kind]()
    return Objective(width, _no_loss, Metric(_no_loss, _no_loss), kind)


def _no_loss(*arguments):
    raise ValueError('the objective of a saved run is for reading answers: give the problem')


def _class_weights(weights, num_classes):
    """Weights of classes as an array `[C]`, or None."""
    if weights is None:
        return None
    found = _as_floats(weights)
    if found.shape != (num_classes,) or not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(
            f'class_weights must be {num_classes} numbers of at least 0, not {weights!r}'
        )
    return found


def _as_floats(given):
    """Numbers as an array; NaN for what is none."""
    try:
        return np.asarray(given, np.float32)
    except (TypeError, ValueError):
        return np.array(np.nan)


def _positive_weight(weight):
    number = isinstance(weight, numbers.Real) and 0 < weight < np.inf
    if weight is not None and not number:
        raise ValueError(f'pos_weight must be a positive number, not {weight!r}')
    return weight


def _positive_weights(weights, size):
    """Weights of positive labels as an array `[size]`, or None."""
    if weights is None:
        return None
    found = _as_floats(weights)
    if found.shape not in ((), (size,)) or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f'pos_weight must be a positive number, or {size} of them, not {weights!r}'
        )
    return np.array(np.broadcast_to(found, (size,)))


def _sigmoid_losses(target, logits, pos_weight):
    """The cross entropy of each label, of the shape of the logits `[..., L]`."""
    target = target.astype(logits.dtype)
    positive, negative = target * jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -((1 if pos_weight is None else pos_weight) * positive + (1 - target) * negative)


def _check_zero_or_one(target, mask, ndim, rule):
    if target.ndim != ndim:
        raise ValueError(f'{rule}, not {target.dtype} {list(target.shape)}')
    labels = target[mask]
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f'{rule}, not {labels[~np.isin(labels, (0, 1))][0]}')


def _most_probable(output):
    return output.argmax(axis=-1)


def _softmax(output):
    shifted = np.exp(output - output.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _sigmoid(output):
    return np.exp(-np.logaddexp(0, -output))


def _both_sides(output):
    """The probabilities of no and of yes, `[N, 2]`, from logits `[N, 1]`."""
    return np.concatenate([_sigmoid(-output), _sigmoid(output)], axis=-1)
