"""Task weighting as optax transforms: they take `TaskGradients` and stand first in a chain.

Examples:
  >>> import jax.numpy as jnp
  >>> import optax
  >>> from tag_jax import weighting
  >>> params = jnp.zeros(2)
  >>> tx = optax.chain(weighting.mgda(num_tasks=2), optax.sgd(1.0))
  >>> gradients = jnp.array([[1.0, 0.0], [0.0, 3.0]])  # stacked over tasks; or TaskGradients
  >>> updates, opt_state = tx.update(gradients, tx.init(params), params)
  >>> print(weighting.diagnostics(opt_state)['weights'].round(2))
  [0.9 0.1]

A method is a rule from the losses, the Gram matrix of the task gradients and a state of its own to
task weights; `weighting` makes a transform of any rule, and `diagnostics` reads what it last did.
"""

from tag_jax.weighting.aligned_mtl import aligned_mtl
from tag_jax.weighting.cagrad import cagrad
from tag_jax.weighting.db_mtl import db_mtl
from tag_jax.weighting.dwa import dwa
from tag_jax.weighting.equal import equal, fixed
from tag_jax.weighting.fairgrad import fairgrad
from tag_jax.weighting.famo import famo
from tag_jax.weighting.gradnorm import gradnorm
from tag_jax.weighting.imtl_g import imtl_g
from tag_jax.weighting.mgda import mgda, mgda_ub
from tag_jax.weighting.nash_mtl import nash_mtl
from tag_jax.weighting.pcgrad import pcgrad
from tag_jax.weighting.rlw import rlw
from tag_jax.weighting.rule import Rule, Tasks, WeightingState, diagnostics, weighting
from tag_jax.weighting.space import compares_representations, remark_on_overlaps
from tag_jax.weighting.stch import stch
from tag_jax.weighting.uncertainty import uncertainty
from tag_jax.weighting.upgrad import upgrad

__all__ = [
    'Rule',
    'Tasks',
    'WeightingState',
    'aligned_mtl',
    'cagrad',
    'compares_representations',
    'db_mtl',
    'diagnostics',
    'dwa',
    'equal',
    'fairgrad',
    'famo',
    'fixed',
    'gradnorm',
    'imtl_g',
    'mgda',
    'mgda_ub',
    'nash_mtl',
    'pcgrad',
    'remark_on_overlaps',
    'rlw',
    'stch',
    'uncertainty',
    'upgrad',
    'weighting',
]
