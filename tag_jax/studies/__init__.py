"""The ablations and analyses of the papers, on any problem. One function a study.

`studies.frequency(problem, dataset, config, budgets=(2, 3, 4), seeds=3)`, and so on.
"""

from tag_jax.studies.affinities import frequency, hyperparameters, partner, validation
from tag_jax.studies.networks import early, low_data, relations, smaller_task_sets
from tag_jax.studies.result import HeatMap, Study, Table, check
from tag_jax.studies.sets import check_sets, task_sets

__all__ = [
    'HeatMap',
    'Study',
    'Table',
    'check',
    'check_sets',
    'early',
    'frequency',
    'hyperparameters',
    'low_data',
    'partner',
    'relations',
    'smaller_task_sets',
    'task_sets',
    'validation',
]
