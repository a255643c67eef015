"""Aligned-MTL: independent component alignment (Senushkin, Patakin, Kuznetsov & Konushin 2023)."""

from collections.abc import Mapping

import jax.numpy as jnp
import optax
from numpy.typing import ArrayLike

from tag_jax.weighting.rule import by_task_array, stateless, weighting


def aligned_mtl(
    preference: ArrayLike | Mapping[str, ArrayLike] = 1.0,
    space: str = 'shared',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Gives the principal components of the task gradients one length, that of the smallest.

    With G = V diag(lambda) V', the weights are sqrt(lambda_min) V diag(lambda^-1/2) V' p over the
    eigenvalues above rounding (Senushkin et al. 2023, "Independent Component Alignment for
    Multi-Task Learning", Algorithm 1): the combination p of gradients that have been made
    orthogonal and equally long with the least change.

    Args:
      preference: p, a number, T numbers or `{task: number}`. One each, as here by default, makes
        the sum of aligned gradients.
      space: 'shared' (Aligned-MTL) or 'representation' (the paper's Aligned-MTL-UB), see
        `weighting`.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients.

    Raises:
      ValueError: see `weighting.weighting`; at update, if there is not one preference a task.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all.

    Limits: the result is as short as the smallest component, and jumps where that falls below
    rounding; tasks of very different scales lose the smaller ones.
    """

    def weigh(tasks):
        gram = tasks.gram
        wanted = by_task_array('preference', preference, tasks.names, len(gram), gram.dtype)
        wanted = jnp.where(tasks.active, wanted, 0)
        scale = jnp.max(jnp.diagonal(gram))
        positive = scale > 0
        values, vectors = jnp.linalg.eigh(gram / jnp.where(positive, scale, 1))
        kept = values > values[-1] * len(gram) * jnp.finfo(gram.dtype).eps
        least = jnp.min(jnp.where(kept, values, jnp.inf))
        factors = jnp.where(kept, jnp.sqrt(least / jnp.where(kept, values, 1)), 0)
        return jnp.where(positive, vectors @ (factors * (vectors.T @ wanted)), 0)

    return weighting('aligned_mtl', stateless(weigh), space, scale_heads, num_tasks, batching)
