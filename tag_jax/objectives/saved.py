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
      An `Objective`; one without answers, if the kind is none of those that are made here.

    Raises:
      ValueError: if the width is none of the kind; from the loss and the metric of one without
        answers.
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


def _no_loss(*arguments):
    raise ValueError('the objective of a saved run is for reading answers: give the problem')
