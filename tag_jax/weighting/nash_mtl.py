"""Nash-MTL: multi-task learning as a bargaining game (Navon et al. 2022)."""

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting.active_set import norms_and_cosines
from tag_jax.weighting.rule import check_number, stateless, weighting

# Newton steps per sqrt(T): far away each lowers the objective by a constant, nearby digits double.
MAX_STEPS = 50


def nash_mtl(
    max_norm: float | None = None,
    space: str = 'shared',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Takes the Nash bargaining solution of the tasks: weights a > 0 with G a = 1 / a.

    (Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya 2022, "Multi-Task Learning as a
    Bargaining Game", Claim 3.1.) The weights minimise a'Ga / 2 - sum_t log a_t, which is
    self-concordant, so a damped Newton method finds them; the authors approximate them
    by a sequence of convex programs.

    Args:
      max_norm: the most that the norm of the combined gradient may be; None for the paper's, whose
        norm is always sqrt(T). The authors' code takes 1.
      space: 'shared' (the paper) or 'representation', see `weighting`.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients. No task conflicts with the result, and
      the scales of the tasks do not matter. Tasks of gradient zero have no say.

    Raises:
      ValueError: see `weighting.weighting`; if max_norm is negative.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all.

    Limits: at Pareto stationary points there is no solution and weights grow without limit; the
    method stops where 1 / a^2 would be lost to rounding beside G, or after 50 sqrt(T) steps. Near
    them float32 keeps few digits.
    """
    check_max_norm(max_norm)

    def weigh(tasks):
        return limit_norm(_solution(tasks.gram, tasks.active), tasks.gram, max_norm)

    return weighting('nash_mtl', stateless(weigh), space, scale_heads, num_tasks, batching)


def check_max_norm(max_norm: float | None) -> None:
    """Raises ValueError at a max_norm below 0.

    Args:
      max_norm: a number, or None.
    """
    if max_norm is not None:
        check_number('max_norm', max_norm, 0)


def limit_norm(weights: jax.Array, gram: jax.Array, max_norm: float | None) -> jax.Array:
    """The weights, scaled down where the combined gradient is longer than it may be.

    Args:
      weights: `[T]`.
      gram: `[T, T]`.
      max_norm: the most that the norm may be; None for any.
    """
    if max_norm is None:
        return weights
    length = jnp.sqrt(jnp.maximum(weights @ gram @ weights, 0))
    return weights * jnp.minimum(1, max_norm / jnp.where(length > 0, length, 1))


@jax.jit
def _solution(gram, active):
    """Weights `[T]` with G a = 1 / a, or how far towards it rounding lets them come."""
    norms, cosines, nonzero = norms_and_cosines(gram, active)
    cosines = jnp.where(jnp.diag(~nonzero), 1, cosines)
    limit = int(MAX_STEPS * len(norms) ** 0.5)
    enough = 4 * jnp.finfo(norms.dtype).eps
    most = jnp.finfo(norms.dtype).eps ** -0.5  # 1 / a^2 is lost beside the cosines from there

    def newton(now):
        weights, _, n = now
        slope = cosines @ weights - 1 / weights
        curvature = cosines + jnp.diag(weights**-2)
        # In the metric of the weights, so that the system is well scaled.
        move = weights * jnp.linalg.solve(
            weights[:, None] * curvature * weights[None, :], weights * slope
        )
        decrement = jnp.sqrt(jnp.maximum(slope @ move, 0))
        length = jnp.where(decrement > 0.25, 1 / (1 + decrement), 1)
        moved = weights - length * move
        # Short steps keep weights positive, unless the system is singular but for rounding.
        possible = jnp.all(jnp.isfinite(moved) & (moved > 0))
        return jnp.where(possible, moved, weights), jnp.where(possible, decrement, 0), n + 1

    start = jnp.ones_like(norms), jnp.full((), jnp.inf, norms.dtype), 0
    weights, _, _ = jax.lax.while_loop(
        lambda now: (now[1] > enough) & (jnp.max(now[0]) < most) & (now[2] < limit), newton, start
    )
    return jnp.where(nonzero, weights / norms, 0)
