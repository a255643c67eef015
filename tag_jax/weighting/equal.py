"""Equal and fixed weights: the gradient of a weighted sum of the task losses."""

from collections.abc import Mapping

import jax.numpy as jnp
import optax
from numpy.typing import ArrayLike

from tag_jax.weighting.rule import by_task_array, check_weights, stateless, weighting


def equal(
    num_tasks: int | None = None, mean: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Sums the tasks with weight one: `L_total` of Fifty et al. 2021, Section 4.1.

    Args:
      mean: whether to divide by the number of tasks that are active, heads' gradients as well:
        Standley et al. 2020, Section 4, train on the mean of the losses.
      num_tasks: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`.

    Raises:
      ValueError: see `weighting.weighting`.

    Cost: one backward pass of the encoder.

    Limits: a task with large gradients drowns the others.
    """
    if not mean:
        return weighting('equal', stateless(lambda tasks: tasks.active), num_tasks=num_tasks)
    share = lambda tasks: tasks.active / jnp.maximum(jnp.sum(tasks.active), 1)
    return weighting('equal', stateless(share), scale_heads=True, num_tasks=num_tasks)


def fixed(
    weights: ArrayLike | Mapping[str, ArrayLike], num_tasks: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Weighs each loss by a constant: Equation 1 of Sener & Koltun 2018 with static c^t.

    Args:
      weights: c, a number, T numbers or `{task: number}`, finite and at least 0.
      num_tasks: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`. Heads' gradients are weighted too, as those of the weighted
      sum are.

    Raises:
      ValueError: if a weight is negative or not finite; at update if there is not one a task.

    Cost: one backward pass of the encoder, and the search for weights.

    Limits: good weights differ from problem to problem, and the number of them to try grows as a
    power of the number of tasks.
    """
    check_weights('weights', weights)

    def weigh(tasks):
        return by_task_array('weights', weights, tasks.names, len(tasks.active), jnp.float32)

    return weighting('fixed', stateless(weigh), num_tasks=num_tasks)
