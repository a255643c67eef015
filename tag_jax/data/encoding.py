"""The way from raw columns to the numbers that a network sees, and back.

It is learned from training rows, kept with the dataset and saved with a run, so that a new row goes
in as it was written, and answers come out in the names of classes and in natural units.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.data import describing
from tag_jax.data.columns import Column, Format
from tag_jax.data.mends import count_days


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
      standardised: whether numbers are; else all of them are inputs as they are, and those that are
        missing are set to their mean.
      missing: the share of the cells of all rows that are missing.
      identifies: how many different values it has, if it looks like an identifier; else 0.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    means: Any = np.zeros(0)
    scales: Any = np.zeros(0)
    indicated: Any = np.zeros(0, bool)
    categories: tuple[str, ...] = ()
    standardised: bool = True
    missing: float = 0.0
    identifies: int = 0


class Target(NamedTuple):
    """How raw labels become the labels of a task.

    Attributes:
      kind: of its objective.
      classes: what the classes are called, in their order; () where labels are left as they are.
      means, scales: of the regressed values of an example over the training rows; () where labels
        are left as they are.
      missing: the share of all rows that have no label.
      counts: how many rows have each class, where there are classes.
      names: of the several labels or values of an example, where they are columns of a data frame.
    """

    kind: str
    classes: tuple = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    missing: float = 0.0
    counts: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


class Rows(NamedTuple):
    """How the rows of a dataset were split, for whoever reads about it.

    Attributes:
      sizes: `{split: how many rows}`.
      rules: `{argument: column}` of groups, stratify, order, split and weights, where given.
      groups: how many groups stay together; 0 without such a rule.
    """

    sizes: Mapping[str, int]
    rules: Mapping[str, str] = {}
    groups: int = 0


class Encoding(NamedTuple):
    """All columns of a dataset.

    Attributes:
      inputs: an `Input` for each input column, in their order; None where inputs are left as they
        are.
      targets: `{task: Target}`.
      form: the `columns.Format` that the file was read in.
      rows: how its rows were split; None where that is not known.
      ranges: `{place: (least, greatest)}` of the numbers in training inputs that are left as they
        are, see `unlike.ranges_of`.
    """

    inputs: tuple[Input, ...] | None
    targets: Mapping[str, Target]
    form: Format = Format()
    rows: Rows | None = None
    ranges: Mapping[str, tuple[float, float]] = {}

    def only(self, tasks: Sequence[str]) -> 'Encoding':
        """The same inputs, with some of the tasks."""
        return self._replace(targets={task: self.targets[task] for task in tasks})

    def describe(self, flags: bool = False) -> str:
        """Says what each column was taken for and how rows were split, a line each.

        Args:
          flags: whether mends are named as flags of launchers, and not as arguments.
        """
        return '\n'.join(describing.lines(self, flags))


def width(input_: Input) -> int:
    """How many inputs a column becomes, without those that say what is missing."""
    return len(input_.categories) if input_.kind == 'text' else int(np.sum(_used(input_)))


def varies(input_: Input) -> bool:
    """Whether a column has two different values in the training rows, a missing one included."""
    differ = bool(np.any(input_.scales > 0) or np.any(input_.indicated))
    return bool(input_.categories) if input_.kind == 'text' else differ


def _used(input_):
    """Which of the numbers of a column are inputs, bool `[D]`."""
    return (input_.scales > 0) | (not input_.standardised)


def encode_inputs(inputs: tuple[Input, ...], columns: Mapping[str, Column]) -> np.ndarray:
    """The inputs of some rows, float32 `[N, D]`: columns in order, then what says what is missing.

    A number is standardised, and 0 where it is missing; one that is not to be standardised is its
    mean where it is missing. Text becomes an indicator of each category;
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
        if column.kind == 'date':
            raise ValueError(
                f'the column {input_.name!r} holds dates, and the network was trained on numbers: '
                f'{count_days(input_.name)}'
            )
        if column.kind not in ('number', 'boolean') or column.values.shape[1:] != input_.shape:
            raise ValueError(
                f'the column {input_.name!r} has {column.kind} {list(column.values.shape)}, and '
                f'the network was trained on numbers [N{"".join(f", {n}" for n in input_.shape)}]'
            )
        values = column.values.astype(np.float64).reshape(size, -1)
        gaps = column.missing.reshape(size, -1)
        used = _used(input_)
        numbers, unknown, means = values[:, used], gaps[:, used], input_.means[used]
        if input_.standardised:
            parts.append(np.where(unknown, 0, (numbers - means) / input_.scales[used]))
        else:
            parts.append(np.where(unknown, means, numbers))
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


def to_json(encoding: Encoding) -> dict:
    """An encoding as JSON types, from which it comes back exactly."""
    plain = lambda part: {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in part._asdict().items()
    }
    return {
        'inputs': None if encoding.inputs is None else [plain(one) for one in encoding.inputs],
        'targets': {task: _of_target(plain(one)) for task, one in encoding.targets.items()},
        'form': encoding.form._asdict(),
        'rows': encoding.rows and encoding.rows._asdict(),
    } | ({'ranges': dict(encoding.ranges)} if encoding.ranges else {})


def _of_target(found):
    """The entries of a target, without names where there are none."""
    return {name: value for name, value in found.items() if name != 'names' or value}


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
        task: Target(**{k: tuple(v) if isinstance(v, list) else v for k, v in one.items()})
        for task, one in found['targets'].items()
    }
    rows = found.get('rows') and Rows(**found['rows'])
    missing = {name: tuple(values) for name, values in found['form']['missing'].items()}
    ranges = {place: tuple(bounds) for place, bounds in found.get('ranges', {}).items()}
    return Encoding(inputs, targets, Format(**found['form'] | {'missing': missing}), rows, ranges)
