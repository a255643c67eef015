"""Inter-task affinity: what a step on one task does to the losses of the others.

Examples:
  On one batch, for a linear encoder and a task that wants what the other does not:

  >>> import jax.numpy as jnp
  >>> from tag_jax import affinity, objectives
  >>> from tag_jax.problem import Batch, from_functions
  >>> tasks = dict.fromkeys(('up', 'down'), objectives.regression())
  >>> problem = from_functions(
  ...     init=lambda key: {'shared': jnp.zeros((1, 1)), 'heads': {'up': {}, 'down': {}}},
  ...     encode=lambda shared, inputs: inputs @ shared,
  ...     decode=dict.fromkeys(tasks, lambda head, representation: representation),
  ...     tasks=tasks,
  ... )
  >>> batch = Batch(jnp.ones((4, 1)), {'up': jnp.ones(4), 'down': -jnp.ones(4)})
  >>> matrix = affinity.inter_task_affinity(problem, *problem.init(None), batch, 0.05)
  >>> print(matrix.round(2))  # [source task, target task]
  [[ 0.19 -0.21]
   [-0.21  0.19]]

  Over a training run of your own, of which these are two steps:

  >>> statistics = affinity.init(problem)
  >>> for step in (0, 10):
  ...     statistics = affinity.update(statistics, matrix, step)
  >>> summary = affinity.summary(statistics)
  >>> print(summary.mean.round(2), summary.count, summary.steps)
  [[ 0.19 -0.21]
   [-0.21  0.19]] [[2 2]
   [2 2]] [ 0 10]
"""

from tag_jax.affinity.measurement import (
    KINDS,
    inter_task_affinities,
    inter_task_affinity,
    optimizer_step,
)
from tag_jax.affinity.statistics import (
    AffinityStatistics,
    AffinitySummary,
    Contrast,
    contrast,
    dominant,
    indistinct,
    init,
    margin,
    rarely_together,
    summary,
    update,
    window,
    without,
)

__all__ = [
    'KINDS',
    'AffinityStatistics',
    'AffinitySummary',
    'Contrast',
    'contrast',
    'dominant',
    'indistinct',
    'init',
    'inter_task_affinities',
    'inter_task_affinity',
    'margin',
    'optimizer_step',
    'rarely_together',
    'summary',
    'update',
    'window',
    'without',
]
