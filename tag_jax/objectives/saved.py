"""Objectives of saved runs, to read answers by."""

from tag_jax.objectives.classes import classification, segmentation, tokens
from tag_jax.objectives.labels import binary, multilabel
from tag_jax.objectives.objective import Metric, Objective
from tag_jax.objectives.values import pixel_regression, regression


def of_kind(kind: str, width: int) -> Objective:
    """An objective as a saved run names it, to read answers by.

    Args:
      kind: of an `Objective`.
      width: of its head.

    Returns:
      An `Objective`. If the kind is none of those that are made here, it has neither answers nor
      probabilities.

    Raises:
      ValueError: if the width is none of the kind; from the loss and the metric of another kind.
    """
    makers = {
        'classification': lambda: classification(width),
        'binary': binary,
        'multilabel': lambda: multilabel(width),
        'regression': lambda: regression(width),
        'segmentation': lambda: segmentation(width),
        'pixel_regression': lambda: pixel_regression(width),
        'tokens': lambda: tokens(width),
    }
    if kind in makers:
        return makers[kind]()
    return Objective(width, _no_loss, Metric(_no_loss, _no_loss), kind)


def answers_by_itself(objective: Objective) -> bool:
    """Whether an objective has answers or probabilities that its kind does not tell.

    Args:
      objective: an `Objective`.
    """
    own = objective.answer is not None or objective.probabilities is not None
    return own and of_kind(objective.kind, objective.width).loss is _no_loss


def without_answers(objective: Objective, task: str) -> Objective:
    """An objective of a saved run whose own answers are not there: to ask for them is an error.

    Args:
      objective: from `of_kind`.
      task: the name of its task.

    Raises:
      ValueError: from its answers and its probabilities.
    """

    def refuse(output):
        raise ValueError(
            f'the answers of {task!r} come from an objective of your own, which the run does not '
            'hold: give the problem to grouping.load, or take the outputs of its head '
            '(Result.outputs)'
        )

    return objective._replace(answer=refuse, probabilities=refuse)


def _no_loss(*arguments):
    raise ValueError('the objective of a saved run is for reading answers: give the problem')
