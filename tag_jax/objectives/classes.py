"""Objectives with one class of several for each example, token or pixel."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax

from tag_jax.objectives.objective import Metric, Objective, share_right
from tag_jax.objectives.shapes import as_floats, check_size, nan_unless, spread


def classification(num_classes: int, class_weights: Sequence[float] | None = None) -> Objective:
    """Softmax cross entropy over integer labels.

    The error is 100 x the misclassified share; 'accuracy' is the share that is right.

    Args:
      num_classes: C; outputs are logits `[B, C]`, targets integers `[B]` in [0, C). The loss of
        another number is NaN, and so is its gradient: examples without a label go behind a mask.
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
    check_size('num_classes', num_classes, 2)
    weights = _class_weights(class_weights, num_classes)

    def loss(output, target):
        if output.shape[-1] != num_classes:
            raise ValueError(
                f'{num_classes} classes need {num_classes} outputs of the head, '
                f'which has {output.shape[-1]}'
            )
        if target.ndim != output.ndim - 1:
            raise ValueError(
                f'{labels_of} must be integers {shape}, not {target.dtype} of shape '
                f'{list(target.shape)}, for outputs of shape {list(output.shape)}'
            )
        label = target.astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(output, label)
        if weights is not None:
            losses *= jnp.asarray(weights, losses.dtype)[label]
        return nan_unless((label == target) & (label >= 0) & (label < num_classes), losses)

    def sums(output, target, mask):
        mask = spread(mask, target.shape)
        right = jnp.argmax(output, axis=-1) == target
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def reference(target, mask):
        if target.ndim != ndim or target.dtype.kind not in 'iub':
            raise ValueError(
                f'{labels_of} must be integers {shape}, not {target.dtype} {list(target.shape)}'
            )
        _check_classes(target[mask], num_classes)

    loss.check_targets = reference
    metric = Metric(sums, share_right, reference)
    options = {} if weights is None else {'class_weights': weights.tolist()}
    return Objective(num_classes, loss, metric, kind, _most_probable, _softmax, options)


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
        known = spread(mask, target.shape) & (target >= 0) & (target < num_classes)
        cells = jnp.where(known, target * num_classes + jnp.argmax(output, axis=-1), num_classes**2)
        confusion = jnp.bincount(cells.ravel(), length=num_classes**2 + 1)[:-1]
        return {
            'confusion': confusion.reshape(num_classes, num_classes),
            'labels': jnp.sum(spread(mask, target.shape)),
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


def _check_classes(labels, num_classes):
    """Raises ValueError unless integer labels are classes."""
    labels = labels.astype(np.int64)
    if not 0 <= labels.min() <= labels.max() < num_classes:
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise ValueError(
            f'the label {wrong} is not one of the classes 0 to {num_classes - 1} '
            '(put examples without a label behind a mask)'
        )


def _class_weights(weights, num_classes):
    """Weights of classes as an array `[C]`, or None."""
    if weights is None:
        return None
    found = as_floats(weights)
    if found.shape != (num_classes,) or not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(
            f'class_weights must be {num_classes} numbers of at least 0, not {weights!r}'
        )
    return found


def _most_probable(output):
    return output.argmax(axis=-1)


def _softmax(output):
    shifted = np.exp(output - output.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
