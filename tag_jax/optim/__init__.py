"""Task weighting as optax transforms: they take `TaskGradients` and stand first in a chain.

tx = optax.chain(tag_jax.optim.equal(), optax.adam(1e-3))
updates, opt_state = tx.update(task_gradients, opt_state, params)
"""

from tag_jax.optim.equal import equal

__all__ = ['equal']
