"""Which tasks should train together: measure, select, train, evaluate.

`group_tasks` does all of it. How groups are found is a value, such as `tag()` or `hoa()`, or a
`Method` of one's own.

Examples:
  Each task is a line through the origin, and a network has one slope for all that it serves:

  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> import optax
  >>> import tempfile
  >>> from tag_jax import data, grouping, objectives
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
  >>> with tempfile.TemporaryDirectory() as folder:
  ...     result = grouping.group_tasks(
  ...         problem, dataset, 2, grouping.tag(), config, workdir=f'{folder}/mine'
  ...     )
  ...     result = grouping.load(f'{folder}/mine')  # the same, at any later time
  >>> [group.tasks for group in result.groups]
  [('up', 'higher'), ('down', 'lower')]
  >>> print(f'{result.total_test_error:.1f}, not {result.baselines["mtl"].total_test_error:.1f}')
  62.5, not 400.0
  >>> found = result.predict(np.ones((1, 1)))  # each task from the network that serves it
  >>> print(found['up'].round(2), found['down'].round(2))
  [1.5] [-1.5]
"""

from tag_jax.grouping import methods
from tag_jax.grouping.dry_run import DryRun, dry_run
from tag_jax.grouping.errors import Errors
from tag_jax.grouping.group import group_tasks
from tag_jax.grouping.method import Method, Proposal, Stage
from tag_jax.grouping.methods import *  # noqa: F403
from tag_jax.grouping.result import Group, Network, Result, load
from tag_jax.grouping.run import cost_of_encoder
from tag_jax.grouping.searcher import NetworkScores, Searcher

__all__ = [
    'DryRun',
    'Errors',
    'Group',
    'Method',
    'Network',
    'NetworkScores',
    'Proposal',
    'Result',
    'Searcher',
    'Stage',
    'cost_of_encoder',
    'dry_run',
    'group_tasks',
    'load',
    *methods.__all__,
]
