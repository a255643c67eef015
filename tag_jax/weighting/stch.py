"""STCH: the smooth Tchebycheff scalarization (Lin et al. 2024)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from numpy.typing import ArrayLike

from tag_jax.weighting.min_norm import equal_shares
from tag_jax.weighting.rule import by_task_array, check_number, check_weights, stateless, weighting


def stch(
    mu: float = 0.1,
    preference: ArrayLike | Mapping[str, ArrayLike] | None = None,
    ideal: ArrayLike | Mapping[str, ArrayLike] = 0.0,
    num_tasks: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Minimises a smooth maximum of the losses: mu log sum_t exp(p_t (L_t - z_t) / mu).

    Its gradient gives task t the weight p_t softmax_t(p (L - z) / mu) (Lin, Zhang, Yang, Liu, Wang
    & Zhang 2024, "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", Section 3).
    The scalarization exceeds max_t p_t (L_t - z_t) by at most mu log T (Proposition 3.4), and any
    Pareto optimum is its minimum for some p, if mu is small (Theorem 3.8), which holds for no
    weighted sum.

    Args:
      mu: how smooth it is, at least 1e-6; the paper tries 0.01 to 1. A small mu leaves the weight
        to the task with the largest p (L - z), a large one weighs by p alone.
      preference: p, a number, T numbers or `{task: number}`, at least 0; None for 1 / T each. What
        losses are compared in: 1 over their scales, if these differ.
      ideal: z, a number, T numbers or `{task: number}`: the least that each loss can be.
      num_tasks: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`.

    Raises:
      ValueError: see `weighting.weighting`; if mu is below 1e-6, or a preference negative or not
        finite; at update, if there is not one preference or ideal a task.

    Cost: one backward pass of the encoder.

    Limits: losses on different scales need preferences. Weights follow the losses of one batch,
    and jump with them where mu is small. They sum to 1 / T by default: beside `equal`, the
    learning rate is worth T times less to T times T less.
    """
    check_number('mu', mu, 1e-6)
    if preference is not None:
        check_weights('preference', preference)

    def weigh(tasks):
        losses, names, size = tasks.losses, tasks.names, len(tasks.active)
        wanted = equal_shares(tasks.active, losses.dtype)
        if preference is not None:
            wanted = by_task_array('preference', preference, names, size, losses.dtype)
        least = by_task_array('ideal', ideal, names, size, losses.dtype)
        scaled = jnp.where(tasks.active, wanted * (losses - least), -jnp.inf)
        # The largest is taken off before anything is divided by mu, so that nothing overflows.
        logits = (scaled - jnp.max(scaled)) / mu
        return wanted * jax.nn.softmax(jnp.where(jnp.any(tasks.active), logits, 0))

    rule = stateless(weigh)._replace(needs_losses=True)
    return weighting('stch', rule, num_tasks=num_tasks)
