"""Objectives with numbers to be regressed, of an example or of every pixel."""

import jax.numpy as jnp
import numpy as np

from tag_jax.objectives.objective import Metric, NotDefined, Objective
from tag_jax.objectives.shapes import as_columns, check_size, spread

_NO_VARIANCE = (
    'all its targets are equal, and its error is relative to their variance: drop the task, or '
    'give the split other examples'
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
        metric `NotDefined`, if all targets are equal.
    """
    check_size('size', size, 1)
    distance, name = (jnp.abs, 'mae') if absolute else (jnp.square, 'mse')

    def loss(output, target):
        return jnp.mean(distance(output - as_columns(target, output)), axis=-1)

    def sums(output, target, mask):
        as_float = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))
        output, target = as_float(output), as_float(as_columns(target, output))
        mask = spread(mask, output.shape[:-1])
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
                raise NotDefined(_NO_VARIANCE)
        distance = float(np.mean(mean('distances')))
        scale = np.sqrt(variance) if absolute else variance
        return {'error': float(100 * distance / scale), name: distance}

    def reference(target, mask):
        labels = target[mask].astype(np.float64).reshape(-1, size)
        if (labels == labels[:1]).all():
            raise NotDefined(_NO_VARIANCE)
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
