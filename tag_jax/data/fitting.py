"""Columns become inputs and labels: how they do is learned from the training rows."""

import collections
import re

import numpy as np

from tag_jax.cells import NUMBER
from tag_jax.data import describing
from tag_jax.data.columns import Column
from tag_jax.data.encoding import Input, Target
from tag_jax.data.mends import count_days, give_kind, keep_together, leave_out
from tag_jax.data.signs import other_signs

# Text of more values than that is no input.
MOST_CATEGORIES = 100
# Consecutive integers of at most so many values are classes.
MOST_CLASSES = 20
# Text of many values is a class if the training rows have, on average, so many of each.
ROWS_OF_A_CLASS = 5


def fit_input(
    name: str,
    column: Column,
    train: np.ndarray,
    kind: str | None = None,
    standardise: bool = True,
    of_file: bool = True,
) -> Input:
    """How a column becomes inputs.

    Args:
      name: of the column.
      column: its values.
      train: the training rows, integers.
      kind: that was asked for; None for none. Numbers that were asked for are no identifier.
      standardise: whether numbers are standardised.
      of_file: whether it is a column of a file, and not of arrays, for errors.

    Raises:
      ValueError: at dates, and at text of more than MOST_CATEGORIES values.
    """
    if column.kind == 'date':
        mend = f'leave it out, or {count_days(name)}'
        if of_file:
            days = 'for days since 1970'
            mend = f'{leave_out(name)}, or {give_kind(name, "number")} {days}'
        raise ValueError(f'the column {name!r} holds dates, which are no inputs: {mend}')
    missing = float(column.missing.mean()) if column.missing.size else 0.0
    if column.kind == 'text':
        categories = sorted(set(column.values[train]) - {None})
        if len(categories) > MOST_CATEGORIES:
            numbers = kind is None and _number_among(categories)
            raise ValueError(_many_values(name, categories, of_file, numbers))
        return Input(name, 'text', categories=tuple(categories), missing=missing)
    values = column.values[train].astype(np.float64).reshape(len(train), -1)
    gaps = column.missing[train].reshape(len(train), -1)
    means, scales = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for n, (numbers, unknown) in enumerate(zip(values.T, gaps.T, strict=True)):
        means[n], scales[n] = mean_and_scale(numbers[~unknown])
    return Input(
        name,
        'number',
        column.values.shape[1:],
        means,
        scales,
        gaps.any(axis=0) & ~gaps.all(axis=0),
        standardised=standardise,
        missing=missing,
        identifies=0 if kind == 'number' else describing.identifier_values(name, column),
    )


def _number_among(cells):
    """One of the cells that are numbers, by whatever signs, if most of them are; else ''."""
    numbers = [text for text in cells if re.match(NUMBER, text.strip())]
    return numbers[0] if len(numbers) > len(cells) / 2 else other_signs(cells)[1]


def _many_values(name, categories, of_file, number):
    """The sentence about text of too many values."""
    mends = ['leave it out', 'give it as groups= where it names patients, schools or the like']
    if of_file:
        mends = [leave_out(name), f'{keep_together(name)} where it names patients or the like']
    if number:
        mends.insert(0, f'turn it into numbers, since most of it is such as {number!r}')
    return (
        f'the text in {name!r} has {len(categories):,} different values, more than '
        f'{MOST_CATEGORIES}: {", or ".join(mends)}'
    )


def mean_and_scale(values: np.ndarray) -> tuple[float, float]:
    """The mean and the scale that standardise some numbers; the scale is 0 where all are equal.

    Args:
      values: float64 `[N]`, all known.
    """
    if not len(values):
        return 0.0, 0.0
    if (values == values[0]).all():
        return float(values[0]), 0.0
    return float(values.mean()), float(values.std())


def fit_target(name: str, column: Column, kind: str | None, train: np.ndarray) -> Target:
    """How a column becomes labels.

    Args:
      name: of the task.
      column: its values.
      kind: 'classification' or 'regression'; None to infer it: text and booleans are classes, and
        so are at most MOST_CLASSES consecutive integers; other numbers are regressed.
      train: the training rows, integers.

    Raises:
      ValueError: if the column cannot be learned: no label or one value only in the training rows,
        text that is regressed, text of very many values without a kind, dates, several values a
        row.
    """
    if column.values.ndim != 1:
        raise ValueError(f'the target {name!r} has {column.values.shape[1:]} values a row, not one')
    if column.kind == 'date':
        raise ValueError(f'the target {name!r} holds dates: {give_kind(name, "regression")}')
    trained = column.values[train][~column.missing[train]]
    if not len(trained):
        raise ValueError(f'the target {name!r} has no label in the training split')
    numbers = column.kind == 'number'
    counts = collections.Counter(column.values[~column.missing].tolist())
    if kind == 'classification' and numbers:
        _check_classes(name, counts)
    if kind is None:
        kind = _inferred(name, column.kind, counts, len(trained))
    missing = float(column.missing.mean())
    if kind == 'classification':
        classes = sorted(counts)
        if len(classes) < 2:
            raise ValueError(f'the target {name!r} has one class only, {classes[0]!r}')
        rows = tuple(counts[value] for value in classes)
        if numbers and all(value == int(value) for value in classes):
            classes = [int(value) for value in classes]
        return Target(kind, tuple(classes), missing=missing, counts=rows)
    if column.kind == 'text':
        raise ValueError(
            f'the target {name!r} is text, which cannot be regressed: take it for classes, '
            'or leave it out of the targets'
        )
    mean, scale = mean_and_scale(trained.astype(np.float64))
    if not scale:
        raise ValueError(f'the target {name!r} has one value only in the training split')
    return Target(kind, (), (mean,), (scale,), missing)


def _inferred(name, of, counts, trained):
    """The kind of a target that holds so many labels of each value."""
    if of == 'text' and len(counts) > max(MOST_CLASSES, trained / ROWS_OF_A_CLASS):
        raise ValueError(
            f'the target {name!r} is text of {len(counts):,} different values in '
            f'{sum(counts.values()):,} rows: {give_kind(name, "classification")} if these are '
            'classes, or leave it out of the targets'
        )
    named = of in ('text', 'boolean') or _are_consecutive(sorted(counts))
    return 'classification' if named else 'regression'


def _check_classes(name, counts):
    """Raises ValueError at numbers that are no classes, since most of them are in one row only."""
    single = sum(count == 1 for count in counts.values())
    if single > len(counts) / 2:
        raise ValueError(
            f'the target {name!r} has {len(counts):,} different numbers in '
            f'{sum(counts.values()):,} rows, {single:,} of them in one row only, which are no '
            f'classes: {give_kind(name, "regression")}'
        )


def _are_consecutive(values):
    """Whether sorted different numbers are few integers without a gap."""
    first = np.rint(values[0])
    return len(values) <= MOST_CLASSES and values == (first + np.arange(len(values))).tolist()
