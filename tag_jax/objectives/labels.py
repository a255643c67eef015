"""Objectives with labels that are so or not: one for each example, or several."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax.objectives.objective import Metric, Objective, share_right
from tag_jax.objectives.shapes import as_columns, as_floats, check_size, nan_unless, spread


def binary(pos_weight: float | None = None) -> Objective:
    """Sigmoid cross entropy of one logit: is it so, or not?

    The error is 100 x the misclassified share; 'accuracy' is the share that is right.

    Args:
      pos_weight: what the losses of positive examples are multiplied by; None for 1. Outputs are
        logits `[B, 1]`, targets 0 or 1, `[B]`. The loss of a number outside of [0, 1] is NaN.

    Returns:
      An `Objective`.

    Raises:
      ValueError: if the weight is not positive; from its loss, if the head has not one output; from
        its metric, if a label is neither 0 nor 1.
    """
    weight = _positive_weight(pos_weight)

    def loss(output, target):
        return _sigmoid_losses(as_columns(target, output), output, weight)[..., 0]

    def sums(output, target, mask):
        right = (output[..., 0] > 0) == (target > 0)
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def reference(target, mask):
        _check_zero_or_one(target, mask, 1, 'labels of a binary task must be 0 or 1, [N]')

    loss.check_targets = reference
    answer = lambda output: (output[..., 0] > 0).astype(np.int32)
    metric = Metric(sums, share_right, reference)
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
    check_size('size', size, 1)
    weights = _positive_weights(pos_weight, size)

    def loss(output, target):
        each = None if weights is None else jnp.broadcast_to(weights, output.shape)
        return _sigmoid_losses(as_columns(target, output), output, each)

    def sums(output, target, mask):
        mask = spread(mask, target.shape)
        right = (output > 0) == (target > 0)
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def reference(target, mask):
        _check_zero_or_one(target, mask, 2, f'several labels must be 0 or 1, [N, {size}]')
        if target.shape[1] != size:
            raise ValueError(f'there are {target.shape[1]} labels an example, not {size}')

    loss.check_targets = reference
    answer = lambda output: (output > 0).astype(np.int32)
    metric = Metric(sums, share_right, reference)
    options = {} if weights is None else {'pos_weight': weights.tolist()}
    return Objective(size, loss, metric, 'multilabel', answer, _sigmoid, options)


def _positive_weight(weight):
    number = isinstance(weight, numbers.Real) and 0 < weight < np.inf
    if weight is not None and not number:
        raise ValueError(f'pos_weight must be a positive number, not {weight!r}')
    return weight


def _positive_weights(weights, size):
    """Weights of positive labels as an array `[size]`, or None."""
    if weights is None:
        return None
    found = as_floats(weights)
    if found.shape not in ((), (size,)) or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f'pos_weight must be a positive number, or {size} of them, not {weights!r}'
        )
    return np.array(np.broadcast_to(found, (size,)))


def _sigmoid_losses(target, logits, pos_weight):
    """The cross entropy of each label, of the shape of the logits `[..., L]`."""
    fits = (target >= 0) & (target <= 1)
    target = target.astype(logits.dtype)
    positive, negative = target * jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    weight = 1 if pos_weight is None else pos_weight
    return nan_unless(fits, -(weight * positive + (1 - target) * negative))


def _check_zero_or_one(target, mask, ndim, rule):
    if target.ndim != ndim:
        raise ValueError(f'{rule}, not {target.dtype} {list(target.shape)}')
    labels = target[mask]
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f'{rule}, not {labels[~np.isin(labels, (0, 1))][0]}')


def _sigmoid(output):
    return np.exp(-np.logaddexp(0, -output))


def _both_sides(output):
    """The probabilities of no and of yes, `[N, 2]`, from logits `[N, 1]`."""
    return np.concatenate([_sigmoid(-output), _sigmoid(output)], axis=-1)
