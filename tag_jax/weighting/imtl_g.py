"""IMTL-G: impartial multi-task learning, its gradient part (Liu et al. 2021)."""

import jax.numpy as jnp
import optax

from tag_jax.weighting.active_set import norms_and_cosines
from tag_jax.weighting.rule import stateless, weighting

LENGTHS = ('weights', 'projections')


def imtl_g(
    length: str = 'weights',
    space: str = 'shared',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Finds the combination whose projections onto all task gradients are equal.

    The weights sum to one and make g . g_t / |g_t| the same for all t (Liu, Li, Kuang, Xue, Chen,
    Yang, Liao & Zhang 2021, "Towards Impartial Multi-task Learning", Equation 6). With C the
    cosines and n the norms, they are proportional to p / n, for p = C^+ 1.

    ConFIG takes a unit vector u along the sum of p_t g_t / n_t, which makes equal and positive
    angles with all g_t, times the sum of the projections on it: g = (sum_t g_t . u) u (Liu, Chu &
    Thuerey 2024, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
    Equations 2 and 3). Its weights are (n'C p / p'C p) p / n.

    Args:
      length: 'weights', so that they sum to one (IMTL-G), or 'projections' (ConFIG). Both lie on
        one line. IMTL-G turns round where the sum of p / n is negative.
      space: 'shared' or 'representation' (the paper, to save time), see `weighting`.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients. Where no combination has weights that sum
      to one, or none has equal projections, the weights are zero.

    Raises:
      ValueError: see `weighting.weighting`; if length is unknown.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all.

    Limits: weights may be negative, and large where gradients are nearly dependent. The result is
    bounded by the sum of the norms with 'projections' only; where gradients are dependent, tasks
    may conflict with it.
    """
    if length not in LENGTHS:
        raise ValueError(f'length must be one of {", ".join(LENGTHS)}, not {length!r}')

    def weigh(tasks):
        norms, cosines, nonzero = norms_and_cosines(tasks.gram, tasks.active)
        # Tasks of gradient zero stand apart, so that they do not count as directions to find.
        cosines = jnp.where(jnp.diag(~nonzero), 1, cosines)
        inverse = jnp.linalg.pinv(cosines, hermitian=True)
        parts = inverse @ nonzero.astype(norms.dtype)
        weights = jnp.where(nonzero, parts / norms, 0)
        least = len(norms) * jnp.finfo(norms.dtype).eps
        if length == 'projections':
            # p'C p is 1'p: how much of the vector of ones C can make.
            shares = cosines @ jnp.where(nonzero, parts, 0)
            square = parts @ shares
            factor = jnp.where(nonzero, norms, 0) @ shares
            return jnp.where(square > least, factor / jnp.maximum(square, least), 0) * weights
        scale = jnp.max(jnp.abs(weights))
        weights = weights / jnp.where(scale > 0, scale, 1)
        total = jnp.sum(weights)
        possible = jnp.abs(total) > least
        return jnp.where(possible, weights / jnp.where(possible, total, 1), 0)

    return weighting('imtl_g', stateless(weigh), space, scale_heads, num_tasks, batching)
