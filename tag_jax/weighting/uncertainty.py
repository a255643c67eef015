"""Uncertainty weighting (Kendall, Gal & Cipolla 2018)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from numpy.typing import ArrayLike

from tag_jax.weighting.rule import Rule, by_task_array, check_number, weighting

# log sigma^2 stays within this of 0, so that a loss of zero cannot drive its weight to infinity.
LARGEST = 10.0


class UncertaintyState(NamedTuple):
    """The parameters that are learned.

    Attributes:
      log_variances: s_t = log sigma_t^2, `[T]`.
      optimizer: the state of their optimizer.
    """

    log_variances: jax.Array
    optimizer: Any


def uncertainty(
    factors: ArrayLike | Mapping[str, ArrayLike] = 1.0,
    learning_rate: float = 0.025,
    num_tasks: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Learns the noise of each task and weighs its loss by the inverse variance.

    Minimises sum_t f_t exp(-s_t) L_t + s_t / 2 over the parameters and s_t = log sigma_t^2
    (Kendall et al. 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses", Equations 7 and
    10). Where s has settled, task t has the weight 1 / (2 L_t) whatever f is.

    Args:
      factors: f, a number, T numbers or `{task: number}`: 1 for cross entropies (Equation 10), 1/2
        for squared errors (Equation 7). The weights begin at f.
      learning_rate: of Adam for s, which begins at 0.
      num_tasks: see `weighting.weighting`.
      optimizer: of s, in place of Adam. Kendall et al. train s with the other parameters: that is
        the optimizer behind the weighting once more, as long as it treats every number by itself,
        as SGD with momentum and Adam do.

    Returns:
      A transform of `TaskGradients`; s is in its state.

    Raises:
      ValueError: see `weighting.weighting`; if learning_rate is negative; at update, if there is
        not one factor a task.

    Cost: one backward pass of the encoder.

    Limits: losses must be positive; s stays within -10 and 10. A task that is nearly solved gets a
    large weight, which needs a lower learning rate or clipping behind it.
    """
    check_number('learning_rate', learning_rate, 0)
    of_s = optax.adam(learning_rate) if optimizer is None else optimizer

    def init(size):
        zeros = jnp.zeros(size)
        return UncertaintyState(zeros, of_s.init(zeros))

    def weigh(tasks, state, step):
        del step
        dtype = state.log_variances.dtype
        scale = by_task_array('factors', factors, tasks.names, len(tasks.active), dtype)
        weights = scale * jnp.exp(-state.log_variances)
        slopes = jnp.where(tasks.active, 0.5 - weights * tasks.losses.astype(dtype), 0)
        updates, of_optimizer = of_s.update(slopes, state.optimizer, state.log_variances)
        moved = state.log_variances + jnp.where(tasks.active, updates, 0)
        moved = jnp.clip(moved, -LARGEST, LARGEST).astype(dtype)
        return weights, UncertaintyState(moved, of_optimizer)

    return weighting('uncertainty', Rule(init, weigh, needs_losses=True), num_tasks=num_tasks)
