"""Objectives: what a task is trained for, how it is judged, and how its answers are read.

The tasks of a dataset are `{task: Objective}`. A function makes each: `classification`, `binary`,
`multilabel`, `regression`, `segmentation`, `pixel_regression`, `tokens`. An `Objective` of one's
own has a loss and a `Metric`.

Examples:
  >>> import jax.numpy as jnp
  >>> from tag_jax import objectives
  >>> colour = objectives.classification(3)
  >>> colour.kind, colour.width
  ('classification', 3)
  >>> float(colour.loss(jnp.array([[0.0, 0.0, 0.0]]), jnp.array([2]))[0])
  1.098...
"""

from tag_jax.objectives.classes import classification, segmentation, tokens
from tag_jax.objectives.judging import BY_SHARES, judged_by
from tag_jax.objectives.labels import binary, multilabel
from tag_jax.objectives.objective import Metric, NotDefined, Objective, check_tasks
from tag_jax.objectives.saved import answers_by_itself, of_kind, without_answers
from tag_jax.objectives.values import pixel_regression, regression

__all__ = [
    'BY_SHARES',
    'Metric',
    'NotDefined',
    'Objective',
    'answers_by_itself',
    'binary',
    'check_tasks',
    'classification',
    'judged_by',
    'multilabel',
    'of_kind',
    'pixel_regression',
    'regression',
    'segmentation',
    'tokens',
    'without_answers',
]
