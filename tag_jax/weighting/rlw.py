"""Random loss weighting (Lin, Ye, Zhang & Tsang 2022)."""

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting.rule import Rule, weighting


def rlw(seed: int = 0, num_tasks: int | None = None) -> optax.GradientTransformationExtraArgs:
    """Draws new weights at every step: the softmax of standard normal numbers.

    (Lin, Ye, Zhang & Tsang 2022, "Reasonable Effectiveness of Random Weighting", Section 3, with
    the normal distribution.) The baseline that any weighting should beat.

    Args:
      seed: an integer.
      num_tasks: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`. The weights of the active tasks sum to one.

    Raises:
      ValueError: see `weighting.weighting`.

    Cost: one backward pass of the encoder.

    Limits: weights know nothing of the tasks, and a step may serve few of them.
    """

    def weigh(tasks, state, step):
        key = jax.random.fold_in(jax.random.key(seed), step)
        draws = jax.random.normal(key, tasks.active.shape)
        draws = jnp.where(tasks.active | ~jnp.any(tasks.active), draws, -jnp.inf)
        return jax.nn.softmax(draws), state

    return weighting('rlw', Rule(lambda size: (), weigh), num_tasks=num_tasks)
