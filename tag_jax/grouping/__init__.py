"""Which tasks should train together: measure, select, train, evaluate. One function a method.

result = grouping.tag(problem, dataset, budget=2, config=TrainingConfig(), workdir='runs/mine')
result.groups, result.test_error, result.total_test_error
result.predict(inputs)                            # each task from the network that serves it
result = grouping.load('runs/mine')
"""

from tag_jax.grouping.by_affinity import cosine_similarity, tag
from tag_jax.grouping.by_networks import (
    all_in_one,
    esa,
    exhaustive,
    hoa,
    random,
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
    'single_task',
    'subsets',
    'tag',
    'verify',
]
