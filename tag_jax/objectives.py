"""What a kind of task means: its loss, its metric and the width of its head."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax


class Metric(NamedTuple):
    """A measure of success that is a function of sums over examples.

    Attributes:
      sums: `(output [B, ...], target [B, ...], mask bool [B, ...]) -> pytree of arrays`, sums over
        the labelled examples; runs inside jit. Sums of several batches are added in float64.
      finish: `sums -> {name: float}` in NumPy. The entry 'error' is the task's error in percent;
        the others are in natural units.
      reference: None, or `(target [N, ...], mask bool [N, ...]) -> value` in NumPy, over a whole
        split. It raises ValueError if the task cannot have such targets, before any training, and
        its value is the second argument of `finish`.
    """

    sums: Callable
    finish: Callable
    reference: Callable | None = None


class Objective(NamedTuple):
    """What a head is trained for.

    Attributes:
      width: the number of outputs that the head needs.
      loss: `(output [B, width], target) -> [B]`.
      metric: a `Metric`.
    """

    width: int
    loss: Callable
    metric: Metric


def objective(kind, size):
    """The objective of a kind of task, as datasets name it.

    Args:
      kind: 'classification' or 'regression'.
      size: the number of classes, or of regressed values.

    Raises:
      ValueError: if the kind is unknown.
    """
    match kind:
        case 'classification':
            return classification(size)
        case 'regression':
            return regression(size)
    raise ValueError(
        f"there is no kind of task called {kind!r}: choose 'classification' or 'regression'"
    )


def for_tasks(tasks):
    """`{task: Objective}` for the `{task: (kind, size)}` of a dataset."""
    return {task: objective(*kind) for task, kind in tasks.items()}


def losses_and_metrics(objectives):
    """`{task: loss}` and `{task: Metric}` of `{task: Objective}`, as problems take them."""
    losses = {task: objective.loss for task, objective in objectives.items()}
    metrics = {task: objective.metric for task, objective in objectives.items()}
    return losses, metrics


def classification(num_classes):
    """Softmax cross entropy over integer labels.

    The error is 100 x the misclassified share; 'accuracy' is the share that is right.

    Args:
      num_classes: C; outputs are logits `[B, C]`, targets integers `[B]` in [0, C).
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
        labels = target[mask].astype(np.int64)
        if not 0 <= labels.min() <= labels.max() < num_classes:
            wrong = labels[(labels < 0) | (labels >= num_classes)][0]
            raise ValueError(
                f'the label {wrong} is not one of the classes 0 to {num_classes - 1} '
                '(put examples without a label behind a mask)'
            )

    return Objective(num_classes, loss, Metric(sums, finish, reference))


def regression(size=1):
    """Squared error.

    The error is 100 x mean squared error / variance of the target, both over the examples that
    are evaluated; 'mse' is the mean squared error. Standardise targets: the losses of all tasks
    are summed, so one on a larger scale drowns the others.

    Args:
      size: D; outputs are `[B, D]`, targets `[B, D]`, or `[B]` where D is 1.
    """

    def loss(output, target):
        return jnp.mean(jnp.square(output - _as_columns(target, output)), axis=-1)

    def sums(output, target, mask):
        squared_errors = jnp.square(output - _as_columns(target, output))
        return {
            'labels': jnp.sum(mask),
            'squared_errors': jnp.sum(jnp.where(mask[:, None], squared_errors, 0)),
        }

    def finish(totals, variance):
        mse = float(totals['squared_errors'] / totals['labels'] / size)
        return {'error': 100 * mse / variance, 'mse': mse}

    def reference(target, mask):
        labels = target[mask].astype(np.float64)
        if (labels == labels[:1]).all():
            raise ValueError(
                'all its targets are equal, and its error is relative to their variance: drop the '
                'task, or give the split other examples'
            )
        return float(labels.reshape(len(labels), -1).var(axis=0).mean())

    return Objective(size, loss, Metric(sums, finish, reference))


def _as_columns(target, output):
    """Targets `[B]` or `[B, D]` in the shape of the outputs `[B, D]`."""
    if target.size != output.size:
        raise ValueError(
            f'targets {list(target.shape)} do not fit the outputs of the head, {list(output.shape)}'
        )
    return jnp.reshape(target, output.shape)
