"""Names of tasks that arrays of pandas carry. (Nothing here imports pandas.)"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def labels_of(values: Any, axis: int) -> tuple[str, ...] | None:
    """The labels of a data frame or a series along an axis; None where it has none.

    Labels that count from 0, which pandas gives where it is given none, are none.

    Args:
      values: anything.
      axis: 0 for rows, 1 for columns.

    Raises:
      ValueError: if a label stands twice.
    """
    index = getattr(values, ('index', 'columns')[axis], None)
    if index is None or callable(index):  # Lists and tuples have a method of that name.
        return None
    labels = list(index)
    if labels == list(range(len(labels))):
        return None
    labels = tuple(map(str, labels))
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f'the label {label!r} stands twice: each task needs a name of its own')
    return labels


def in_order_of(name: str, values: Any, axis: int, wanted: Sequence[str] | None) -> Any:
    """Values with their labels along an axis in the order that is wanted.

    Args:
      name: what the caller calls the values.
      values: anything; without labels, or with numbers for labels, it stays as it is.
      axis: 0 for rows, 1 for columns.
      wanted: names of tasks; None where they have none.

    Raises:
      ValueError: if the labels are not the names.
    """
    labels = labels_of(values, axis)
    if labels is None or wanted is None:
        return values
    if set(labels) != set(wanted) and all(label.isdigit() for label in labels):
        return values  # Numbers of rows, such as a part of a data frame has.
    side = ('rows', 'columns')[axis] if np.ndim(values) > 1 else 'labels'
    for these, those, has in ((wanted, labels, 'lack'), (labels, wanted, 'name')):
        for label in these:
            if label not in those:
                tasks = ', '.join(map(str, wanted))
                raise ValueError(
                    f'the {side} of {name} {has} {label!r}: they must be the tasks {tasks}'
                )
    order = [labels.index(task) for task in wanted]
    if hasattr(values, 'iloc'):  # Its other labels stay with it.
        return values.take(order, axis=axis)
    return np.take(np.asarray(values), order, axis=axis)
