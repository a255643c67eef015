"""The errors of one way to serve all tasks on the test split, and their totals."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from tag_jax import evaluation


class Errors(NamedTuple):
    """Test errors of one way to serve all tasks.

    Attributes:
      test_error: `{task: percent}`; NaN where it is not defined, see `evaluation.left_out`.
      total_test_error: the sum of the others.
      test_score: `{task: value}` of what networks are selected by.
      total_test_score: the sum of those that are defined.
    """

    test_error: Mapping[str, float]
    total_test_error: float
    test_score: Mapping[str, float]
    total_test_score: float


def errors_of(
    metrics: Mapping[str, Mapping[str, float]], select_by: str, left_out: Collection[str]
) -> Errors:
    """The errors among the metrics of every task.

    Args:
      metrics: `{task: {'error': percent, ...}}`.
      select_by: the entry that networks are selected by.
      left_out: the tasks whose error is not defined on the split.
    """
    found = []
    for name in (evaluation.ERROR, select_by):
        counted = evaluation.summands(metrics, name, left_out)
        of_tasks = {task: values[name] for task, values in metrics.items()}
        found += [of_tasks, math.fsum(counted.values())]
    return Errors(*found)


def errors_from_json(found: Mapping[str, Any]) -> Errors:
    """The errors that results.json holds, in which null is NaN.

    Args:
      found: what results.json holds, or one of its baselines.
    """
    numbers = lambda values: {task: math.nan if x is None else x for task, x in values.items()}
    return Errors(
        numbers(found['test_error']),
        found['total_test_error'],
        numbers(found['test_score']),
        found['total_test_score'],
    )
