"""UPGrad (Quinton & Rey 2024)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from numpy.typing import ArrayLike

from tag_jax.weighting import active_set
from tag_jax.weighting.min_norm import equal_shares
from tag_jax.weighting.rule import by_task_array, check_weights, stateless, weighting


def upgrad(
    preference: ArrayLike | Mapping[str, ArrayLike] | None = None,
    space: str = 'shared',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Projects each task's gradient onto the cone that no task conflicts with, and adds them up.

    The weights are sum_i argmin_v { v'Gv : v >= p_i e_i } (Quinton & Rey 2024, "Jacobian Descent
    for Multi-Objective Optimization", Proposition 1 and Equation 6). The result conflicts with no
    task, and grows linearly with each task's gradient. The quadratic programs are solved exactly.

    Args:
      preference: p, a number, T numbers or `{task: number}`, at least 0; None for the mean,
        1 / T each.
      space: 'shared' (the paper) or 'representation', see `weighting`.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients.

    Raises:
      ValueError: see `weighting.weighting`; if a preference is negative or not finite; at update,
        if there is not one a task.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all. It
    solves a quadratic program for each task.

    Limits: tasks with large gradients lead, as they do in the mean.
    """
    check_weights('preference', preference)

    def weigh(tasks):
        gram = tasks.gram
        wanted = equal_shares(tasks.active, gram.dtype)
        if preference is not None:
            wanted = by_task_array('preference', preference, tasks.names, len(gram), gram.dtype)
        wanted = jnp.where(tasks.active, wanted, 0)
        raised = jax.vmap(lambda row: active_set.minimize_on_cone(gram, row, tasks.active))(gram)
        return wanted + wanted @ raised

    return weighting('upgrad', stateless(weigh), space, scale_heads, num_tasks, batching)
