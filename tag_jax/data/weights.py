"""Weights of training examples, and of classes."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from tag_jax.data.columns import Column
from tag_jax.data.dataset import Split
from tag_jax.data.encoding import Target


def check_weights(column: Column) -> np.ndarray:
    """The weights of examples, float64 `[N]`.

    Args:
      column: their column.

    Raises:
      ValueError: if these are not numbers of at least 0, one an example.
    """
    if column.kind not in ('number', 'boolean') or column.values.ndim != 1:
        raise ValueError(
            f'weights must be numbers [N], and are {column.kind} {list(column.values.shape)}'
        )
    values = column.values.astype(np.float64)
    wrong = column.missing | (values < 0)
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        what = 'missing' if column.missing[row] else f'{values[row]:g}'
        raise ValueError(f'the weight of row {row + 1} is {what}: give a number of at least 0')
    return values


def weigh(split: Split, weights: np.ndarray) -> Split:
    """A split whose labels weigh as much as their examples.

    Args:
      split: the training split.
      weights: `[N]`, which are divided by the mean of those that are not 0, so that the losses of
        tasks keep their scale.

    Raises:
      ValueError: if all weights are zero.
    """
    if not weights.any():
        raise ValueError('the weights of all training examples are zero')
    relative = (weights / weights[weights > 0].mean()).astype(np.float32)
    masks = {}
    for task, target in split.targets.items():
        mask = (split.mask or {}).get(task)
        mask = np.ones(len(target), bool) if mask is None else mask
        masks[task] = mask * relative.reshape((-1,) + (1,) * (mask.ndim - 1))
    return split._replace(mask=masks)


def class_weights_of(
    task: str, asked: Any, target: Target, labels: np.ndarray, there: np.ndarray
) -> list[float]:
    """The weights of the classes of a target, in their order.

    Args:
      task: its name.
      asked: 'balanced', as scikit-learn has it (N / (C x the examples of the class), over the C
        classes that training rows have), or `{class: weight}`; classes that it lacks weigh 1.
      target: a `Target` with classes.
      labels: class numbers of the training rows, `[N]`.
      there: bool `[N]`, where there is a label.

    Raises:
      ValueError: if the target has no classes, there is no such class, or weights are asked for in
        another way.
    """
    from sklearn.utils.class_weight import compute_class_weight  # Slow to import.

    if not target.classes:
        raise ValueError(f'class_weights has {task!r}, which is regressed and has no classes')
    weights = np.ones(len(target.classes))
    if isinstance(asked, str) and asked == 'balanced':
        known = labels[there]
        present = np.unique(known)
        if len(present):
            weights[present] = compute_class_weight('balanced', classes=present, y=known)
    elif isinstance(asked, Mapping):
        places = {str(name): n for n, name in enumerate(target.classes)}
        for name, weight in asked.items():
            if str(name) not in places:
                raise ValueError(
                    f'class_weights of {task!r} has {name!r}, which is none of its classes '
                    f'{", ".join(places)}'
                )
            if not isinstance(weight, numbers.Real) or not 0 <= weight < np.inf:
                raise ValueError(
                    f'the weight of the class {name!r} of {task!r} must be a number of at least 0, '
                    f'not {weight!r}'
                )
            weights[places[str(name)]] = weight
    else:
        raise ValueError(
            f"class_weights of {task!r} must be 'balanced' or {{class: weight}}, not {asked!r}"
        )
    return weights.tolist()
