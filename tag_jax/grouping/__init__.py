"""Which tasks should train together: measure, select, train, evaluate. One function a method.

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
  ...     result = grouping.tag(problem, dataset, 2, config, workdir=f'{folder}/mine')
  ...     result = grouping.load(f'{folder}/mine')  # the same, at any later time
  >>> [group.tasks for group in result.groups]
  [('up', 'higher'), ('down', 'lower')]
  >>> print(f'{result.total_test_error:.1f}, not {result.baselines["mtl"].total_test_error:.1f}')
  62.5, not 400.0
  >>> found = result.predict(np.ones((1, 1)))  # each task from the network that serves it
  >>> print(found['up'].round(2), found['down'].round(2))
  [1.5] [-1.5]
"""

from tag_jax.grouping.by_affinity import cosine_similarity, tag
from tag_jax.grouping.by_networks import (
    all_in_one,
    esa,
    exhaustive,
    hoa,
    random,
    random_even,
    single_task,
    subsets,
)
from tag_jax.grouping.foresight import Foresight, Stage, foresee
from tag_jax.grouping.result import Errors, Group, Network, Result, load
from tag_jax.grouping.verification import verify

__all__ = [
    'Errors',
    'Foresight',
    'Group',
    'Network',
    'Result',
    'Stage',
    'all_in_one',
    'cosine_similarity',
    'esa',
    'exhaustive',
    'foresee',
    'hoa',
    'load',
    'random',
    'random_even',
    'single_task',
    'subsets',
    'tag',
    'verify',
]
