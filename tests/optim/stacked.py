"""One step on gradients stacked over tasks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def first_update(transform, gradients, losses=None, active=None, dtype=np.float32):
    """The combined gradient `[P]`, and the state, of a transform's first step.

    Compiled once for each transform and shape, so keep the transform where many gradients are
    tried.

    Args:
      gradients: `[T, P]`.
      losses: `[T]`, or None.
      active: bool `[T]`, or None.
      dtype: of the gradients, losses and parameters.
    """
    losses = losses if losses is None else np.asarray(losses, dtype)
    return _first_update(transform, np.asarray(gradients, dtype), losses, active)


@functools.partial(jax.jit, static_argnames='transform')
def _first_update(transform, gradients, losses, active):
    params = jnp.zeros(gradients.shape[1], gradients.dtype)
    state = transform.init(params)
    return transform.update(gradients, state, params, losses=losses, active=active)
