"""PCGrad: projecting conflicting gradients (Yu, Kumar, Gupta, Levine, Hausman & Finn 2020)."""

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting.active_set import norms_and_cosines
from tag_jax.weighting.rule import Rule, weighting


def pcgrad(
    space: str = 'shared',
    seed: int = 0,
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Projects each task's gradient off those that it conflicts with, and sums the results.

    For each task i, and the other tasks j in random order, g_i - (g_i . g_j) / |g_j|^2 g_j takes
    the place of g_i where g_i . g_j < 0, with g_i as it is by then and g_j as it was (Yu et al.
    2020, "Gradient Surgery for Multi-Task Learning", Algorithm 1). All of it happens in the weights
    of the g_j, through the Gram matrix.

    Args:
      space: 'shared' (the paper) or 'representation', see `weighting`.
      seed: of the order, an integer; a new order for each task at every step.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients. Without conflicts it is `equal`.

    Raises:
      ValueError: see `weighting.weighting`.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all.

    Limits: with three tasks and more the result may still conflict with some of them.
    """

    def weigh(tasks, state, step):
        norms, cosines, nonzero = norms_and_cosines(tasks.gram, tasks.active)
        size = len(norms)
        key = jax.random.fold_in(jax.random.key(seed), step)
        others = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, size))

        def project(place, now):
            parts, products = now  # of each task's projected unit gradient; with all unit gradients
            j = others[:, place]
            product = jnp.take_along_axis(products, j[:, None], axis=1)[:, 0]
            conflict = (product < 0) & (j != jnp.arange(size)) & nonzero[j]
            amount = jnp.where(conflict, product, 0)[:, None]
            return parts - amount * jax.nn.one_hot(
                j, size, dtype=norms.dtype
            ), products - amount * cosines[j]

        parts, _ = jax.lax.fori_loop(0, size, project, (jnp.eye(size, dtype=norms.dtype), cosines))
        return (norms @ parts) / norms, state

    rule = Rule(lambda size: (), weigh)
    return weighting('pcgrad', rule, space, scale_heads, num_tasks, batching)
