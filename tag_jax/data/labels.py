"""Labels in memory, and what they become: class numbers, standardised values, masks."""

from typing import Any

import numpy as np

from tag_jax.data.columns import column_of
from tag_jax.data.encoding import Target, encode_target
from tag_jax.data.fitting import mean_and_scale
from tag_jax.data.mends import count_days

# Objectives whose labels are one class, by name or number.
_CLASSES = ('classification', 'binary')


def fit_labels(
    task: str, objective: Any, array: np.ndarray, train: np.ndarray
) -> tuple[Target, np.ndarray, np.ndarray]:
    """Encodes the labels of a task.

    Args:
      task: its name.
      objective: an `Objective`.
      array: raw labels, `[N, ...]`; NaN, None and the like where there is none.
      train: the training rows, integers.

    Returns:
      A `Target`, labels `[N, ...]`, and where there are any: bool `[N]` or `[N, ...]`.

    Raises:
      ValueError: if the labels are none of the objective's.
    """
    if objective.kind in _CLASSES:
        found = _fit_classes(task, objective, array, train)
    elif objective.kind == 'regression':
        found = _fit_values(task, objective, array, train)
    else:
        found = _as_they_are(task, objective, array)
    _, _, there = found
    if not there[train].any():
        raise ValueError(f'the task {task!r} has no label in the training split')
    return found


def _fit_classes(task, objective, array, train):
    if array.ndim != 1:
        raise ValueError(f'the labels of {task!r} must be [N], one class each, not {array.shape}')
    column = column_of(task, array)
    if column.kind == 'date':
        raise ValueError(f'the labels of {task!r} are dates, and no classes: give them as text')
    count = max(2, objective.width)
    known = sorted(set(column.values[~column.missing].tolist()))
    if not known:
        raise ValueError(f'the task {task!r} has no label')
    if column.kind == 'number':
        classes = _numbered(task, known, count)
    else:
        classes = known if column.kind == 'text' else [False, True]
    if len(set(column.values[train][~column.missing[train]].tolist())) < 2:
        raise ValueError(f'the labels of {task!r} are of one class only in the training split')
    if len(classes) != count:
        raise ValueError(
            f'the labels of {task!r} have {len(classes)} different values, and its objective '
            f'{count} classes: give objectives.classification({len(classes)}), or numbers from '
            '0 for labels of which some are in no row'
        )
    target = Target(objective.kind, tuple(classes), missing=_share(column.missing))
    labels, there = encode_target(target, column)
    counts = np.bincount(labels[there], minlength=len(classes))
    return target._replace(counts=tuple(counts.tolist())), labels, there


def _numbered(task, known, count):
    """The classes of labels that are numbers: 0 to C - 1, 1 to C, or -1 and 1 for two."""
    whole = [int(value) for value in known if value == int(value)]
    if len(whole) == len(known):
        if whole[0] >= 0 and whole[-1] < count:
            return list(range(count))
        if whole == [*range(1, count + 1)] or (count == 2 and whole == [-1, 1]):
            return whole
    raise ValueError(
        f'the labels of {task!r} are {", ".join(f"{value:g}" for value in known[:6])}'
        f'{", ..." * (len(known) > 6)}, and not the {count} classes 0 to {count - 1} of its '
        'objective: set missing labels to NaN, or give classes as text'
    )


def _fit_values(task, objective, array, train):
    size = objective.width
    if (
        array.ndim not in (1, 2)
        or (array.ndim == 2 and array.shape[1] != size)
        or (array.ndim == 1 and size != 1)
    ):
        wanted = '[N]' if size == 1 else f'[N, {size}]'
        raise ValueError(f'the labels of {task!r} must be {wanted}, not {list(array.shape)}')
    column = column_of(task, array)
    if column.kind == 'date':
        raise ValueError(
            f'the labels of {task!r} are dates, which are not regressed: {count_days(task)}'
        )
    if column.kind not in ('number', 'boolean'):
        raise ValueError(f'the labels of {task!r} are {column.kind}, which cannot be regressed')
    values = column.values.astype(np.float64).reshape(len(array), -1)
    there = ~column.missing.reshape(len(array), -1).any(axis=1)
    trained = values[train][there[train]]
    scales = [mean_and_scale(numbers) for numbers in trained.T]
    if len(trained) and not all(scale for _, scale in scales):
        raise ValueError(f'the labels of {task!r} have one value only in the training split')
    means, scales = (tuple(part) for part in zip(*scales, strict=True))
    standard = np.where(there[:, None], (values - means) / np.where(scales, scales, 1), 0)
    target = Target('regression', (), means, scales, _share(~there))
    return target, standard.astype(np.float32).reshape(array.shape), there


def _as_they_are(task, objective, array):
    """Labels that are not changed, but for those that are missing."""
    if array.dtype.kind in 'OUS':
        raise ValueError(f'the labels of {task!r} must be numbers, not {array.dtype}')
    there = np.ones(array.shape[:1], bool)
    if array.dtype.kind == 'f' and np.isnan(array).any():
        there = ~np.isnan(array)
        if objective.kind == 'custom':  # Nothing is known of the shape of its loss.
            there = there.all(axis=tuple(range(1, array.ndim)))
        elif objective.kind == 'pixel_regression' and array.ndim == 4:
            there = there.all(axis=3)
        array = np.nan_to_num(array, nan=0.0)
    if array.dtype.kind == 'f' and objective.kind not in ('custom', 'pixel_regression'):
        if (array != np.rint(array)).any():
            raise ValueError(f'the labels of {task!r} must be integers')
        array = array.astype(np.int32)
    return Target(objective.kind, missing=_share(~there)), array, there


def _share(missing):
    return float(missing.mean()) if missing.size else 0.0
