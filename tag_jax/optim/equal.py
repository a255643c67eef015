"""Equal weights: the gradient of the plain sum of the task losses."""

import jax.numpy as jnp
import optax

from tag_jax.gradients import TaskGradients


def equal() -> optax.GradientTransformationExtraArgs:
    """Sums the tasks with weight one: `L_total` of Fifty et al. 2021, Section 4.1.

    Returns:
      A transform from `TaskGradients` to a gradient shaped like the params, for one backward pass
      of the encoder. It has no state. `update` raises TypeError unless it is given TaskGradients
      that no other transform has altered: scaling or clipping them would break their vjp.
    """

    def init_fn(params):
        del params
        return optax.EmptyState()

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        if not isinstance(updates, TaskGradients) or updates.active.dtype != bool:
            raise TypeError(
                'equal() takes TaskGradients just as tag_jax.gradients.task_gradients makes them: '
                'let it stand first in the chain'
            )
        return updates.combine(jnp.ones_like(updates.losses)), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
