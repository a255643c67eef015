"""A multi-task problem: the pure functions that define it, and the batch they are applied to.

Everything above this floor (gradients, affinities, training) sees a model only through a
`MultiTaskProblem`. Build one from Flax modules with `from_linen` or `from_nnx`, or from plain
functions with `from_functions`.

Examples:
  An encoder of one layer, whose two tasks get heads of one dense layer each:

  >>> import flax.linen as nn
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from tag_jax import objectives, problem
  >>> tasks = {'colour': objectives.classification(3), 'size': objectives.regression()}
  >>> model = problem.from_linen(nn.Dense(8), tasks, jnp.ones((1, 4)))
  >>> params, model_state = model.init(jax.random.key(0))
  >>> params['heads']['colour']['kernel'].shape
  (8, 3)
"""

from tag_jax.problem.alike import families_of, map_and_stack, map_families, map_tasks
from tag_jax.problem.batch import Batch, check_batch, labels_of, weights_of, with_trailing_axes
from tag_jax.problem.functions import from_functions
from tag_jax.problem.linen_modules import from_linen
from tag_jax.problem.nnx_modules import from_nnx
from tag_jax.problem.problem import MultiTaskProblem, task_key
from tag_jax.problem.stacked_heads import (
    StackedHeads,
    heads_apart,
    heads_like,
    is_stacked,
    map_heads,
    stack_heads,
    taken_apart,
)
from tag_jax.problem.trainable import names_of, split_frozen, with_frozen

__all__ = [
    'Batch',
    'MultiTaskProblem',
    'StackedHeads',
    'check_batch',
    'families_of',
    'from_functions',
    'from_linen',
    'from_nnx',
    'heads_apart',
    'heads_like',
    'is_stacked',
    'labels_of',
    'map_and_stack',
    'map_families',
    'map_heads',
    'map_tasks',
    'names_of',
    'split_frozen',
    'stack_heads',
    'taken_apart',
    'task_key',
    'weights_of',
    'with_frozen',
    'with_trailing_axes',
]
