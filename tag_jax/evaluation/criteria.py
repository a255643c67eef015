"""The criteria that networks can be chosen by, and how the values of tasks are summed.

A task whose error is not defined on a split (`objectives.NotDefined`) is left out of its totals.
Which tasks those are follows from the labels of the split alone, so it is the same for all networks
and all ways to group. Every total and every choice goes through `summands` or `judged`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

# The lower the better: the error of a task in percent; its mean loss as it is trained; that in
# percent of the loss of the best constant answer.
CRITERIA = ('error', 'loss', 'relative_loss')
ERROR, LOSS, RELATIVE_LOSS = CRITERIA


def judged(tasks: Iterable[str], criterion: str, left_out: Collection[str]) -> list[str]:
    """The tasks that count in a total.

    Args:
      tasks: names.
      criterion: of CRITERIA; only errors may not be defined.
      left_out: names of the tasks whose error is not defined on the split.
    """
    return [task for task in tasks if criterion != ERROR or task not in left_out]


def summands(
    scores: Mapping[str, Mapping[str, Any]], criterion: str, left_out: Collection[str]
) -> dict[str, float]:
    """The values of tasks to be summed and compared, `{task: value}`.

    A task that is left out has 0 in every network: it moves no total and no choice.

    Args:
      scores: `{task: {criterion: value, ...}}` on a split.
      criterion, left_out: see `judged`.
    """
    counted = judged(scores, criterion, left_out)
    return {task: of[criterion] if task in counted else 0.0 for task, of in scores.items()}


def kept_by(
    tasks: Iterable[str], select_by: str, left_out: Collection[str]
) -> tuple[str, list[str]]:
    """The (criterion, tasks) whose total is lowest at the step at which a network is kept.

    A network whose tasks are all left out goes by their losses.

    Args:
      tasks: that the network trains.
      select_by: of CRITERIA.
      left_out: see `judged`, on the validation split.
    """
    counted = judged(tasks, select_by, left_out)
    return (select_by, counted) if counted else (LOSS, list(tasks))
