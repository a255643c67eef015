"""Training steps that benchmarks time: a plain one, and one with a task weighting."""

import jax
import jax.numpy as jnp
import optax

from tag_jax import gradients


def plain_step(problem, model_state):
    """Adam on the summed losses, without task gradients.

    Returns:
      `(transform, step)`: the optimizer, and `(params, opt_state, batch) -> (params, opt_state)`.
    """
    adam = optax.adam(1e-3)

    def step(params, state, batch):
        total = lambda p: jnp.sum(gradients.task_losses(problem, p, model_state, batch)[0])
        updates, state = adam.update(jax.grad(total)(params), state, params)
        return optax.apply_updates(params, updates), state

    return adam, step


def weighted_step(problem, model_state, weigh):
    """Adam behind a task weighting; see `plain_step`."""
    transform = optax.chain(weigh, optax.adam(1e-3))

    def step(params, state, batch):
        by_task, _ = gradients.task_gradients(problem, params, model_state, batch)
        updates, state = transform.update(by_task, state, params)
        return optax.apply_updates(params, updates), state

    return transform, step
