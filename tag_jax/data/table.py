"""A dataset out of any table: a CSV, Parquet or NPZ file with named target columns.

`data.table('patients.csv', targets=('age', 'diagnosis'))`, say.
"""

import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow
from pyarrow import csv, parquet

from tag_jax.data.dataset import Dataset, Split, TaskKind

SPLITS = ('train', 'validation', 'test')
KINDS = ('classification', 'regression')

# Consecutive integers of at most so many values are classes; text of more values is no input.
_MOST_CLASSES = 20
_MOST_CATEGORIES = 100


def table(
    path: str | os.PathLike,
    targets: Sequence[str],
    inputs: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    split: str | None = None,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Dataset:
    """Reads a dataset from a table with a row an example.

    Inputs are standardised by the mean and the standard deviation of the training split. Text and
    booleans among them become one column a value that the training split has. Where an input is
    missing it is set to its mean, and a column that says so is added.

    Text and booleans are classes, in sorted order, and so are at most 20 consecutive integers;
    other numbers are regressed, standardised by the training split like the inputs. Where a target
    is missing, the example has no label for the task.

    Args:
      path: a .csv file (names in its first row, missing values blank or NA), a .parquet file, or an
        .npz file of arrays `[N]` or `[N, ...]`, with NaN where a number is missing.
      targets: names of the target columns, one for each task.
      inputs: names of the input columns; None for all others.
      kinds: `{target: 'classification' or 'regression'}`, where it is not to be inferred.
      split: name of a column that says 'train', 'validation' or 'test'; None to split at random.
      shares: of the three splits, where they are random.
      seed: of a random split.

    Returns:
      A `Dataset`, called after the file, with inputs float32 `[N, D]`, targets int32 or float32
      `[N]`, and masks where labels are missing.

    Raises:
      ValueError: if a column does not exist or cannot be used, a split is empty, or the file is
        none of these.
      OSError: if the file cannot be read.
    """
    for name, given in (('targets', targets), ('inputs', inputs)):
        if isinstance(given, str):
            raise ValueError(f'{name} must be a list of columns, not the text {given!r}')
    path = pathlib.Path(path)
    columns = _read(path)
    targets, kinds = _names(targets), dict(kinds or {})
    if not targets:
        raise ValueError(f'name the target columns of {path}, one for each task')
    if inputs is None:
        inputs = [name for name in columns if name not in (*targets, split)]
    for name in (*targets, *inputs, *kinds, *([] if split is None else [split])):
        if name not in columns:
            raise ValueError(f'{path} has no column {name!r}: it has {", ".join(columns)}')
    if both := [name for name in inputs if name in (*targets, split)]:
        raise ValueError(f'the column {both[0]!r} cannot be an input: it is a target or the split')
    if not inputs:
        raise ValueError(f'{path} has no column left for inputs')
    for name, kind in kinds.items():
        if kind not in KINDS or name not in targets:
            raise ValueError(
                f'kinds must give {" or ".join(KINDS)} for targets, not {name}: {kind}'
            )

    size = len(next(iter(columns.values())))
    rows = _random_rows(size, shares, seed) if split is None else _given_rows(columns[split], split)
    for name, part in rows.items():
        if not len(part):
            raise ValueError(f'the {name} split of {path} has no rows')
    features = [_features(name, columns[name], rows['train']) for name in inputs]
    matrix = np.concatenate(features, axis=1)
    if not matrix.shape[1]:
        raise ValueError(f'no input of {path} has two different values in the training split')
    tasks, values, masks = {}, {}, {}
    for name in targets:
        tasks[name], values[name], masks[name] = _target(
            name, columns[name], kinds.get(name), rows['train']
        )
    splits = []
    for part in (rows[name] for name in SPLITS):
        gaps = {task: mask[part] for task, mask in masks.items() if not mask[part].all()}
        labels = {task: value[part] for task, value in values.items()}
        splits.append(Split(matrix[part], labels, gaps or None))
    return Dataset(path.stem, tasks, *splits)


def _names(names):
    names = tuple(names)
    if len(set(names)) < len(names):
        raise ValueError(f'a target column is named twice: {", ".join(names)}')
    return names


def _read(path):
    """`{column: array [N, ...]}`: floats with NaN, or objects (text, booleans) with None."""
    if path.suffix == '.npz':
        if path.exists() and not zipfile.is_zipfile(path):
            raise ValueError(f'{path} is no table: it is not an .npz archive')
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file}
        except (ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f'{path} is no table: {error}') from error
        columns = {name: _as_column(name, array) for name, array in arrays.items()}
    elif path.suffix in ('.csv', '.parquet'):
        columns = _read_arrow(path)
    else:
        raise ValueError(
            f'{path} is neither .csv nor .parquet nor .npz: tables are read from these'
        )
    if len({len(column) for column in columns.values()}) != 1 or not len(
        next(iter(columns.values()))
    ):
        raise ValueError(f'{path} must hold columns of one length, with at least one row')
    return columns


def _read_arrow(path):
    if not path.is_file():
        raise FileNotFoundError(f'there is no table {path}')
    try:
        if path.suffix == '.parquet':
            found = parquet.read_table(path)
        else:
            found = csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))
        names = found.column_names
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is no table: {str(error).splitlines()[0]}') from error
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'{path} has two columns called {twice[0]!r}')
    return {name: _as_column(name, found.column(name).to_numpy()) for name in names}


def _as_column(name, array):
    if array.ndim == 0:
        raise ValueError(f'the column {name!r} is a single value')
    if array.dtype.kind in 'iuf':
        return array.astype(np.float64)
    if array.dtype.kind in 'bOUS' and array.ndim == 1:
        missing = lambda value: value is None or (isinstance(value, float) and value != value)
        values = [None if missing(value) else value for value in array.tolist()]
        known = [value for value in values if value is not None]
        if all(isinstance(value, bool | str) for value in known):
            return np.array([None if value is None else str(value) for value in values], object)
        if all(isinstance(value, int | float) for value in known):
            return np.array([np.nan if v is None else v for v in values], np.float64)
    raise ValueError(f'the column {name!r} holds neither numbers nor text: leave it out')


def _missing(column):
    if column.dtype == object:
        return np.array([value is None for value in column])
    return ~np.isfinite(column)


def _random_rows(size, shares, seed):
    if len(shares) != 3 or not all(0 < share < np.inf for share in shares):
        raise ValueError(f'shares must be three positive numbers, for {", ".join(SPLITS)}')
    ends = np.cumsum(shares) / np.sum(shares)
    parts = np.split(
        np.random.default_rng(seed).permutation(size), np.rint(ends * size).astype(int)
    )
    return dict(zip(SPLITS, parts[:3], strict=True))


def _given_rows(column, name):
    if unknown := sorted({str(value) for value in column.tolist()} - set(SPLITS)):
        raise ValueError(
            f'the column {name!r} must say {", ".join(SPLITS)} in every row, not {unknown[0]!r}'
        )
    return {split: np.flatnonzero(column == split) for split in SPLITS}


def _features(name, column, train):
    """Input columns `[N, D]` made of one column; D may be 0."""
    missing = _missing(column)
    if column.dtype == object:
        known = sorted(set(column[train]) - {None})
        if len(known) > _MOST_CATEGORIES:
            raise ValueError(
                f'the text in {name!r} has {len(known)} different values, more than '
                f'{_MOST_CATEGORIES}: name the inputs without it'
            )
        return (column[:, None] == np.array(known, object)).astype(np.float32)
    flat, missing = column.reshape(len(column), -1), missing.reshape(len(column), -1)
    parts = []
    for values, gaps in zip(flat.T, missing.T, strict=True):
        seen = values[train][~gaps[train]]
        if len(seen) and (scale := seen.std()) > 0:
            parts.append(np.where(gaps, 0, (values - seen.mean()) / scale))
        if gaps[train].any() and not gaps[train].all():
            parts.append(gaps)
    return np.array(parts, np.float32).reshape(-1, len(column)).T


def _target(name, column, kind, train):
    """(TaskKind, targets `[N]`, mask bool `[N]`) of one column."""
    if column.ndim != 1:
        raise ValueError(f'the target {name!r} has {column.shape[1:]} values a row, not one')
    mask = ~_missing(column)
    if not mask[train].any():
        raise ValueError(f'the target {name!r} has no label in the training split')
    known = column[mask]
    classes = sorted(set(known.tolist()))
    if kind is None:
        text = column.dtype == object
        kind = 'classification' if text or _are_consecutive(classes) else 'regression'
    if kind == 'classification':
        if len(classes) < 2:
            raise ValueError(f'the target {name!r} has one class only, {classes[0]!r}')
        numbers = {value: number for number, value in enumerate(classes)}
        labels = [numbers[value] if there else 0 for value, there in zip(column, mask, strict=True)]
        return TaskKind(kind, len(classes)), np.array(labels, np.int32), mask
    if column.dtype == object:
        raise ValueError(f'the target {name!r} is text: it cannot be regressed')
    seen = column[train][mask[train]]
    if not seen.std() > 0:
        raise ValueError(f'the target {name!r} has one value only in the training split')
    standard = np.where(mask, (column - seen.mean()) / seen.std(), 0)
    return TaskKind(kind, 1), standard.astype(np.float32), mask


def _are_consecutive(values):
    """Whether sorted different numbers are few integers without a gap."""
    first = np.rint(values[0])
    return len(values) <= _MOST_CLASSES and values == (first + np.arange(len(values))).tolist()
