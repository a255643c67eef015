"""The way from raw columns to the numbers that a network sees, and back.

It is learned from training rows, kept with the dataset and saved with a run, so that a new row goes
in as it was written, and answers come out in the names of classes and in natural units.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.data.columns import Column, Format

# Text of more values than that is no input.
MOST_CATEGORIES = 100
# Consecutive integers of at most so many values are classes.
MOST_CLASSES = 20
# Text of many values is a class if the training rows have, on average, so many of each.
ROWS_OF_A_CLASS = 5


class Input(NamedTuple):
    """How a column becomes inputs.

    Attributes:
      name: of the column.
      kind: 'number' or 'text'; a boolean is a number.
      shape: of the values in a row, () for one value.
      means, scales: float64 `[D]` of the D numbers in a row, over the training rows; a scale is 0
        where all known values there are equal: that number is left out.
      indicated: bool `[D]`, whether a further input says that the number is missing.
      categories: the values of text in the training rows, one input each.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    means: Any = np.zeros(0)
    scales: Any = np.zeros(0)
    indicated: Any = np.zeros(0, bool)
    categories: tuple[str, ...] = ()


class Target(NamedTuple):
    """How raw labels become the labels of a task.

    Attributes:
      kind: of its objective.
      classes: what the classes are called, in their order; () where labels are left as they are.
      means, scales: of the regressed values of an example over the training rows; () where labels
        are left as they are.
    """

    kind: str
    classes: tuple = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()


class Encoding(NamedTuple):
    """All columns of a dataset.

    Attributes:
      inputs: an `Input` for each input column, in their order; None where inputs are left as they
        are.
      targets: `{task: Target}`.
      form: the `columns.Format` that the file was read in.
    """

    inputs: tuple[Input, ...] | None
    targets: Mapping[str, Target]
    form: Format = Format()

    def only(self, tasks: Sequence[str]) -> 'Encoding':
        """The same inputs, with some of the tasks."""
        return self._replace(targets={task: self.targets[task] for task in tasks})

    def describe(self) -> str:
        """Says what each column was taken for, a line each."""
        lines = ['inputs: as they are']
        if self.inputs is not None:
            lines = [f'{input_.name}: {_what(input_)}' for input_ in self.inputs]
        lines += [f'{task}: {_goal(target)}' for task, target in self.targets.items()]
        return '\n'.join(lines)


def fit_input(name: str, column: Column, train: np.ndarray) -> Input:
    """How a column becomes inputs.

    Args:
      name: of the column.
      column: its values.
      train: the training rows, integers.

    Raises:
      ValueError: at dates, and at text of more than MOST_CATEGORIES values.
    """
    if column.kind == 'date':
        raise ValueError(
            f'the column {name!r} holds dates, which are no inputs: leave it out, or give it the '
            'kind number for days since 1970'
        )
    if column.kind == 'text':
        categories = sorted(set(column.values[train]) - {None})
        if len(categories) > MOST_CATEGORIES:
            raise ValueError(
                f'the text in {name!r} has {len(categories)} different values, more than '
                f'{MOST_CATEGORIES}: leave the column out (leave_out=, --leave_out)'
            )
        return Input(name, 'text', categories=tuple(categories))
    values = column.values[train].astype(np.float64).reshape(len(train), -1)
    gaps = column.missing[train].reshape(len(train), -1)
    means, scales = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for n, (numbers, unknown) in enumerate(zip(values.T, gaps.T, strict=True)):
        means[n], scales[n] = mean_and_scale(numbers[~unknown])
    indicated = gaps.any(axis=0) & ~gaps.all(axis=0)
    return Input(name, 'number', column.values.shape[1:], means, scales, indicated)


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
        raise ValueError(f'the target {name!r} holds dates: give it the kind regression')
    known = column.values[~column.missing]
    trained = column.values[train][~column.missing[train]]
    if not len(trained):
        raise ValueError(f'the target {name!r} has no label in the training split')
    classes = sorted(set(known.tolist()))
    text = column.kind == 'text'
    if kind is None:
        enough = max(MOST_CLASSES, len(trained) / ROWS_OF_A_CLASS)
        if text and len(classes) > enough:
            raise ValueError(
                f'the target {name!r} is text of {len(classes)} different values in {len(known)} '
                'rows: give it the kind classification if these are classes, or leave it out'
            )
        named = text or column.kind == 'boolean' or _are_consecutive(classes)
        kind = 'classification' if named else 'regression'
    if kind == 'classification':
        if len(classes) < 2:
            raise ValueError(f'the target {name!r} has one class only, {classes[0]!r}')
        if column.kind == 'number' and all(value == int(value) for value in classes):
            classes = [int(value) for value in classes]
        return Target(kind, tuple(classes))
    if text:
        raise ValueError(f'the target {name!r} is text: it cannot be regressed')
    mean, scale = mean_and_scale(trained.astype(np.float64))
    if not scale:
        raise ValueError(f'the target {name!r} has one value only in the training split')
    return Target(kind, (), (mean,), (scale,))


def width(input_: Input) -> int:
    """How many inputs a column becomes, without those that say what is missing."""
    return len(input_.categories) if input_.kind == 'text' else int(np.sum(input_.scales > 0))


def encode_inputs(inputs: tuple[Input, ...], columns: Mapping[str, Column]) -> np.ndarray:
    """The inputs of some rows, float32 `[N, D]`: columns in order, then what says what is missing.

    A number is standardised, and 0 where it is missing. Text becomes an indicator of each category;
    all of them are 0 where it is missing, or not among the categories.

    Args:
      inputs: an `Input` for each column.
      columns: `{name: Column}`.

    Raises:
      ValueError: if a column is not there, or of another kind or shape.
    """
    parts, indicators = [], []
    for input_ in inputs:
        if input_.name not in columns:
            raise ValueError(f'there is no column {input_.name!r}, which is an input')
        column = columns[input_.name]
        size = len(column.values)
        if input_.kind == 'text':
            known = np.array(input_.categories, object)
            parts.append(np.asarray(column.values)[:, None] == known)
            continue
        if column.kind not in ('number', 'boolean') or column.values.shape[1:] != input_.shape:
            raise ValueError(
                f'the column {input_.name!r} has {column.kind} {list(column.values.shape)}, and '
                f'the network was trained on numbers [N{"".join(f", {n}" for n in input_.shape)}]'
            )
        values = column.values.astype(np.float64).reshape(size, -1)
        gaps = column.missing.reshape(size, -1)
        varies = input_.scales > 0
        standard = (values[:, varies] - input_.means[varies]) / input_.scales[varies]
        parts.append(np.where(gaps[:, varies], 0, standard))
        indicators.append(gaps[:, input_.indicated])
    with np.errstate(over='ignore'):  # The network has no answer for what is beyond float32.
        return np.concatenate([*parts, *indicators], axis=1).astype(np.float32)


def encode_target(target: Target, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Labels and where there are any: int32 or float32 `[N]`, bool `[N]`.

    Args:
      target: a `Target`.
      column: the values of its column.
    """
    there = ~column.missing
    if target.classes:
        numbers = {value: number for number, value in enumerate(target.classes)}
        labels = np.zeros(len(there), np.int32)
        labels[there] = [numbers[value] for value in column.values[there].tolist()]
        return labels, there
    values = column.values.astype(np.float64)
    standard = np.where(there, (values - target.means[0]) / target.scales[0], 0)
    return standard.astype(np.float32), there


def decode_target(target: Target, answer: np.ndarray) -> np.ndarray:
    """Answers in the names of classes, or in natural units.

    Args:
      target: a `Target`.
      answer: numbers of classes, int `[N]`; or standardised values `[N]` or `[N, D]`.

    Returns:
      `[N]` of the names of classes, or values of the shape of the answer.
    """
    if target.classes:
        return np.array(target.classes)[answer]
    if target.scales:
        means, scales = np.array(target.means), np.array(target.scales)
        if answer.ndim == 1:
            means, scales = means[0], scales[0]
        return answer * scales + means
    return answer


def _are_consecutive(values):
    """Whether sorted different numbers are few integers without a gap."""
    first = np.rint(values[0])
    return len(values) <= MOST_CLASSES and values == (first + np.arange(len(values))).tolist()


def _what(input_):
    if input_.kind == 'text':
        return f'text, {len(input_.categories)} categories'
    left_out = int(np.sum(np.equal(input_.scales, 0)))
    shape = math.prod(input_.shape)
    what = 'a number' if not input_.shape else f'{shape} numbers a row'
    if left_out:
        what += ', constant: left out' if left_out == shape else f', {left_out} constant: left out'
    return what + (', some missing' if np.any(input_.indicated) else '')


def _goal(target):
    if target.scales:
        some = [', '.join(f'{x:g}' for x in part[:5]) for part in (target.means, target.scales)]
        return f'{target.kind}, mean {some[0]}, standard deviation {some[1]}'
    if not target.classes:
        return f'{target.kind}, as they are'
    names = ', '.join(map(str, target.classes[:5])) + ', ...' * (len(target.classes) > 5)
    return f'{target.kind}, {len(target.classes)} classes: {names}'


def to_json(encoding: Encoding) -> dict:
    """An encoding as JSON types, from which it comes back exactly."""
    plain = lambda part: {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in part._asdict().items()
    }
    return {
        'inputs': None if encoding.inputs is None else [plain(one) for one in encoding.inputs],
        'targets': {task: plain(target) for task, target in encoding.targets.items()},
        'form': encoding.form._asdict(),
    }


def from_json(found: Mapping[str, Any]) -> Encoding:
    """The encoding that became these JSON types by `to_json`."""
    inputs = found['inputs'] and tuple(
        Input(
            **one
            | {
                'shape': tuple(one['shape']),
                'means': np.array(one['means'], np.float64),
                'scales': np.array(one['scales'], np.float64),
                'indicated': np.array(one['indicated'], bool),
                'categories': tuple(one['categories']),
            }
        )
        for one in found['inputs']
    )
    targets = {
        task: Target(**one | {name: tuple(one[name]) for name in ('classes', 'means', 'scales')})
        for task, one in found['targets'].items()
    }
    missing = {name: tuple(values) for name, values in found['form']['missing'].items()}
    return Encoding(inputs, targets, Format(**found['form'] | {'missing': missing}))
