"""Task weighting as optax transforms: they take `TaskGradients` and stand first in a chain.

Examples:
  >>> import jax.numpy as jnp
  >>> import optax
  >>> from tag_jax import optim
  >>> params = jnp.zeros(2)
  >>> tx = optax.chain(optim.mgda(num_tasks=2), optax.sgd(1.0))
  >>> gradients = jnp.array([[1.0, 0.0], [0.0, 3.0]])  # stacked over tasks; or TaskGradients
  >>> updates, opt_state = tx.update(gradients, tx.init(params), params)
  >>> print(optim.diagnostics(opt_state)['weights'].round(2))
  [0.9 0.1]

A method is a rule from the losses, the Gram matrix of the task gradients and a state of its own to
task weights; `weighting` makes a transform of any rule, and `diagnostics` reads what it last did.
"""

from tag_jax.optim.aligned_mtl import aligned_mtl
from tag_jax.optim.cagrad import cagrad
from tag_jax.optim.dwa import dwa
from tag_jax.optim.equal import equal, fixed
from tag_jax.optim.famo import famo
from tag_jax.optim.gradnorm import gradnorm
from tag_jax.optim.imtl_g import imtl_g
from tag_jax.optim.mgda import mgda, mgda_ub
from tag_jax.optim.nash_mtl import nash_mtl
from tag_jax.optim.pcgrad import pcgrad
from tag_jax.optim.rlw import rlw
from tag_jax.optim.uncertainty import uncertainty
from tag_jax.optim.upgrad import upgrad
from tag_jax.optim.weighting import Rule, Tasks, WeightingState, diagnostics, weighting

__all__ = [
    'Rule',
    'Tasks',
    'WeightingState',
    'aligned_mtl',
    'cagrad',
    'diagnostics',
    'dwa',
    'equal',
    'famo',
    'fixed',
    'gradnorm',
    'imtl_g',
    'mgda',
    'mgda_ub',
    'nash_mtl',
    'pcgrad',
    'rlw',
    'uncertainty',
    'upgrad',
    'weighting',
]
