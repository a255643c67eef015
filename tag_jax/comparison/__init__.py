"""Ways to group tasks side by side: what a grouping costs to find, and what it gains.

Examples:
  The lines of `tag_jax.grouping`, with a budget of two networks; one seed has no standard error:

  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> import optax
  >>> from tag_jax import comparison, data, grouping, objectives
  >>> from tag_jax.problem import from_functions
  >>> from tag_jax.training import TrainingConfig
  >>> slopes = {'up': 1, 'higher': 2, 'down': -1, 'lower': -2}
  >>> tasks = dict.fromkeys(slopes, objectives.regression())
  >>> problem = from_functions(
  ...     init=lambda key: {'shared': jnp.zeros((1, 1)), 'heads': {task: {} for task in tasks}},
  ...     encode=lambda shared, inputs: inputs @ shared,
  ...     decode=dict.fromkeys(tasks, lambda head, representation: representation),
  ...     tasks=tasks,
  ... )
  >>> x = np.linspace(-1, 1, 8, dtype=np.float32)
  >>> split = data.Split(x[:, None], {task: slope * x for task, slope in slopes.items()})
  >>> dataset = data.Dataset('lines', tasks, train=split, validation=split, test=split)
  >>> config = TrainingConfig(steps=20, learning_rate=0.3, optimizer=optax.sgd)
  >>> methods = [grouping.all_in_one(), grouping.tag()]
  >>> found = comparison.compare_groupings(problem, dataset, methods, [2], config, seeds=1)
  >>> for line in comparison.summary(found):
  ...     print(f'{line.method}: {line.error[0]:.1f} for {line.steps:g} networks of search')
  all_in_one: 400.0 for 0 networks of search
  tag: 62.5 for 1 networks of search
  random: ...
"""

from tag_jax.comparison.dry_run import dry_run
from tag_jax.comparison.groupings import (
    ALL_IN_ONE,
    RANDOM,
    check,
    compare_groupings,
    propose,
    training_seeds,
)
from tag_jax.comparison.optimum import CrossFitted, cross_fitted_optimum
from tag_jax.comparison.outcomes import Comparison, Outcome
from tag_jax.comparison.predictions import within_task_correlations
from tag_jax.comparison.splits import MOST_SPLITS
from tag_jax.comparison.statistics import Difference, Line, covers, differences, summary

__all__ = [
    'ALL_IN_ONE',
    'MOST_SPLITS',
    'RANDOM',
    'Comparison',
    'CrossFitted',
    'Difference',
    'Line',
    'Outcome',
    'check',
    'compare_groupings',
    'covers',
    'cross_fitted_optimum',
    'differences',
    'dry_run',
    'propose',
    'summary',
    'training_seeds',
    'within_task_correlations',
]
