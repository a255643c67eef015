"""Files of inter-task affinities: .npz, as runs leave them, and tables as .csv."""

import csv
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from tag_jax.cells import decode, number
from tag_jax.runs import storage


def write_affinity(path: str | os.PathLike, summary: Any) -> None:
    """Writes affinities as .npz, whole or not at all.

    Args:
      path: the file.
      summary: a `tag_jax.affinity.AffinitySummary`.

    Raises:
      OSError: if it cannot be written.
    """
    storage.write_arrays(path, summary._asdict())


def read_affinity(
    path: str | os.PathLike, task_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Reads affinities from a file.

    Args:
      path: an .npz file with `mean` `[T, T]` and `task_names`, as a run leaves it; or a .csv file,
        whose first row names the target tasks and whose first column names the source tasks:

            source,left,right
            left,0,0.5
            right,-0.1,0

      task_names: the T tasks, in the order that is wanted; None for that of the file.

    Returns:
      `{'task_names': tuple, 'mean': [T, T], ...}` with all arrays that the file has, source task
      first.

    Raises:
      FileNotFoundError: if there is no such file.
      OSError: if it cannot be read.
      ValueError: if it is not such a file, or is about other tasks.
    """
    path = pathlib.Path(path)
    if path.suffix not in ('.npz', '.csv'):
        raise ValueError(f'{path} is neither .npz nor .csv: affinities are read from these')
    if not path.is_file():
        raise FileNotFoundError(f'there is no file of affinities {path}')
    read = _read_npz if path.suffix == '.npz' else _read_csv
    try:
        sources, targets, arrays = read(path)
        wanted = tuple(sources if task_names is None else task_names)
        orders = [_order(names, wanted) for names in (sources, targets)]
    except (*storage.DAMAGED, csv.Error) as error:
        raise ValueError(f'{path} holds no affinities of these tasks: {error}') from error
    rows, columns = np.ix_(*orders)
    in_order = {
        name: array[..., rows, columns] if array.ndim > 1 else array
        for name, array in arrays.items()
    }
    return in_order | {'task_names': wanted}


def _read_npz(path):
    if not zipfile.is_zipfile(path):
        raise ValueError('it is not an .npz archive')
    with np.load(path) as file:
        if missing := {'mean', 'task_names'} - set(file):
            raise ValueError(f'it has no entry {min(missing)!r}')
        names = file['task_names'].ravel().tolist()
        arrays = {name: file[name] for name in file if name != 'task_names'}
    size = len(names)
    if arrays['mean'].shape != (size, size) or arrays['mean'].dtype.kind not in 'iuf':
        raise ValueError(
            f'it has {size} tasks, and mean of shape {list(arrays["mean"].shape)} '
            f'({arrays["mean"].dtype})'
        )
    for name, array in arrays.items():
        if array.ndim > 1 and array.shape[-2:] != (size, size):
            raise ValueError(f'it has {size} tasks, and {name} of shape {list(array.shape)}')
    return names, names, arrays


def _read_csv(path):
    lines = decode(path, path.read_bytes()).splitlines(keepends=True)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    if not rows or len(rows[0]) < 2:
        raise ValueError('its first row must be the names of the target tasks, after a comma each')
    (_, *targets), *rows = rows
    sources = [row[0] for row in rows]
    mean = np.full((len(sources), len(targets)), np.nan)
    for n, (source, *cells) in enumerate(rows):
        if len(cells) != len(targets):
            raise ValueError(f'the row {source!r} has {len(cells)} values, not {len(targets)}')
        for m, cell in enumerate(cells):
            try:
                mean[n, m] = number(cell)
            except ValueError as error:
                raise ValueError(f'in the row {source!r}, under {targets[m]!r}: {error}') from None
    return sources, targets, {'mean': mean}


def _order(names, wanted):
    """The place of each wanted task among the names."""
    if missing := [task for task in wanted if task not in names]:
        raise ValueError(f'the task {missing[0]!r} is missing')
    if unknown := [name for name in names if name not in wanted]:
        raise ValueError(f'{unknown[0]!r} is not one of the tasks')
    if len(names) > len(wanted):
        raise ValueError('a task occurs twice')
    return [names.index(task) for task in wanted]
