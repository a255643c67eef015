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
    """

    sums: Callable
    finish: Callable


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
        return optax.softmax_cross_entropy_with_integer_labels(output, target)

    def sums(output, target, mask):
        right = jnp.argmax(output, axis=-1) == target
        return {'labels': jnp.sum(mask), 'right': jnp.sum(right & mask)}

    def finish(totals):
        labels, right = float(totals['labels']), float(totals['right'])
        return {'error': 100 * (labels - right) / labels, 'accuracy': right / labels}

    return Objective(num_classes, loss, Metric(sums, finish))


def regression(size=1, center=0.0):
    """Squared error.

    The error is 100 x mean squared error / variance of the target, both over the examples that
    are evaluated; 'mse' is the mean squared error.

    Args:
      size: D; outputs are `[B, D]`, targets `[B, D]`, or `[B]` where D is 1.
      center: a value near the targets. The variance is computed from squared distances to it, in
        float32, so give it where the mean of the targets is far from 0 in units of their spread.
    """

    def loss(output, target):
        return jnp.mean(jnp.square(output - _as_columns(target, output)), axis=-1)

    def sums(output, target, mask):
        target, mask = _as_columns(target, output), mask[:, None]
        distance = jnp.where(mask, target - center, 0)
        return {
            'labels': jnp.sum(mask),
            'squared_errors': jnp.sum(jnp.where(mask, jnp.square(output - target), 0), axis=0),
            'distances': jnp.sum(distance, axis=0),
            'squared_distances': jnp.sum(jnp.square(distance), axis=0),
        }

    def finish(totals):
        squared_errors = np.sum(totals['squared_errors'])
        variation = np.sum(
            totals['squared_distances'] - np.square(totals['distances']) / totals['labels']
        )
        if variation <= 0:
            raise ValueError(
                'the error of a regression task is relative to the variance of its target, which '
                'is zero here: drop the task, or give its split targets that differ'
            )
        return {
            'error': float(100 * squared_errors / variation),
            'mse': float(squared_errors / totals['labels'] / size),
        }

    return Objective(size, loss, Metric(sums, finish))


def _as_columns(target, output):
    """Targets `[B]` or `[B, D]` in the shape of the outputs `[B, D]`."""
    return jnp.reshape(target, output.shape)
