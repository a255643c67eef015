"""CAGrad: conflict-averse gradient descent (Liu, Liu, Jin, Stone & Liu 2021)."""

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting import active_set
from tag_jax.weighting.active_set import norms_and_cosines
from tag_jax.weighting.min_norm import equal_shares
from tag_jax.weighting.rule import check_number, stateless, weighting

# A combined gradient counts for at least so many times the rounding error of its length.
SIGNIFICANT = 4
# Halvings of the interval in which log(tau) lies, and how wide it is at first.
HALVINGS = 28
WIDTH = 40.0


def cagrad(
    c: float = 0.4,
    rescale: bool = False,
    space: str = 'shared',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Finds the direction near the mean gradient that serves the worst task best.

    With g_0 the mean of the task gradients, maximises min_t g_t . d over |d - g_0| <= c |g_0|:
    d = g_0 + c |g_0| / |g_w| g_w, where g_w = sum_t w_t g_t minimises g_w . g_0 + c |g_0| |g_w|
    over the simplex (Liu et al. 2021, "Conflict-Averse Gradient Descent", Equations 3 and 4,
    Algorithm 1). With tau = |g_w| / (c |g_0|) given, the weights minimise |g_w|^2 / 2 +
    tau g_w . g_0, a quadratic program that is solved exactly; tau is found by bisection, since
    |g_w| - tau c |g_0| changes its sign once.

    Args:
      c: how far d may be from the mean gradient, at least 0: 0 is the mean; at 1 and above no task
        conflicts with d, and from 1 on d tends to MGDA's direction. The paper takes 0.2 to 0.5.
      rescale: whether d is divided by 1 + c^2, as in the authors' code.
      space: 'shared' (the paper) or 'representation', see `weighting`.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients.

    Raises:
      ValueError: see `weighting.weighting`; if c is negative.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all. It
    solves a quadratic program 29 times.

    Limits: below c = 1 a task's loss may rise. A task whose gradient is zero counts in the mean,
    but not as the worst task. Where |g_w| is lost to rounding, near Pareto stationary points, d is
    between the mean and the method's: closer to the mean the shorter g_w is.
    """
    check_number('c', c, 0)

    def weigh(tasks):
        scale = 1 / (1 + c**2) if rescale else 1
        return scale * _weights(tasks.gram, tasks.active, c)

    return weighting('cagrad', stateless(weigh), space, scale_heads, num_tasks, batching)


@jax.jit
def _weights(gram, active, c):
    """The weights of d, `[T]`."""
    mean = equal_shares(active, gram.dtype)
    toward_mean = gram @ mean
    radius = c * jnp.sqrt(jnp.maximum(mean @ toward_mean, 0))
    norms, _, usable = norms_and_cosines(gram, active)
    longest = jnp.max(jnp.where(usable, norms, 0))
    noise = SIGNIFICANT * len(norms) * jnp.finfo(norms.dtype).eps

    def best(log_tau, hint):
        linear = jnp.exp(log_tau) * toward_mean
        weights = active_set.minimize_on_simplex(gram, linear, usable, hint)
        # The square is a sum that may cancel. Its rounding error stands in where it does, so that
        # tau does not go to zero in search of a length that is none.
        error = noise * jnp.square(weights @ jnp.where(usable, norms, 0))
        return weights, jnp.sqrt(jnp.maximum(weights @ gram @ weights, error))

    def halve(_, now):
        low, high, weights = now
        middle = 0.5 * (low + high)
        weights, length = best(middle, weights > 0)
        above = length > jnp.exp(middle) * radius
        return jnp.where(above, middle, low), jnp.where(above, high, middle), weights

    possible = (radius > 0) & (longest > 0)
    high = jnp.log(jnp.where(possible, longest / jnp.where(possible, radius, 1), 1))
    first, _ = best(high, None)
    low, high, weights = jax.lax.fori_loop(0, HALVINGS, halve, (high - WIDTH, high, first))
    return mean + jnp.where(possible, weights / jnp.exp(0.5 * (low + high)), 0)
