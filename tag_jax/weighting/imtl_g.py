"""IMTL-G: impartial multi-task learning, its gradient part (Liu et al. 2021)."""

import jax.numpy as jnp
import optax

from tag_jax.weighting.active_set import norms_and_cosines
from tag_jax.weighting.rule import stateless, weighting


def imtl_g(
    space: str = 'shared',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Finds the combination whose projections onto all task gradients are equal.

    The weights sum to one and make g . g_t / |g_t| the same for all t (Liu, Li, Kuang, Xue, Chen,
    Yang, Liao & Zhang 2021, "Towards Impartial Multi-task Learning", Equation 6). With C the
    cosines and n the norms, they are proportional to (C^+ 1) / n.

    Args:
      space: 'shared' or 'representation' (the paper, to save time), see `weighting`.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients. Where no combination has weights that sum
      to one, the weights are zero.

    Raises:
      ValueError: see `weighting.weighting`.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all.

    Limits: weights may be negative and large where gradients are nearly dependent.
    """

    def weigh(tasks):
        norms, cosines, nonzero = norms_and_cosines(tasks.gram, tasks.active)
        # Tasks of gradient zero stand apart, so that they do not count as directions to find.
        cosines = jnp.where(jnp.diag(~nonzero), 1, cosines)
        inverse = jnp.linalg.pinv(cosines, hermitian=True)
        weights = jnp.where(nonzero, inverse @ nonzero.astype(norms.dtype) / norms, 0)
        scale = jnp.max(jnp.abs(weights))
        weights = weights / jnp.where(scale > 0, scale, 1)
        total = jnp.sum(weights)
        possible = jnp.abs(total) > len(norms) * jnp.finfo(total.dtype).eps
        return jnp.where(possible, weights / jnp.where(possible, total, 1), 0)

    return weighting('imtl_g', stateless(weigh), space, scale_heads, num_tasks, batching)
