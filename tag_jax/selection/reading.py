"""Candidate networks out of a CSV file."""

import csv
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from tag_jax.cells import decode, number
from tag_jax.selection.candidates import Candidates

_COST_COLUMNS = ('cost', 'cost_snt')
_NO_TASK = '; if this column is no task, name those that are: tasks=, or --tasks'


def read_candidates(
    path: str | os.PathLike, tasks: Sequence[str] | None = None
) -> dict[str, Candidates]:
    """The candidate networks in a CSV file, once for every split that it scores them on.

    The columns are `network`, `cost` (or `cost_snt`, in standard network times), `split`, and one
    for each task; a blank cell (or NA and the like, see `tag_jax.cells`) is a task that the network
    does not solve. A network trains each task on which some split scores it; it serves, by a split,
    those tasks that this split scores. A network is known by its name and cost together. Without a
    column `split` there is one split, 'validation'. Lines that begin with # are remarks.

    Args:
      path: the file.
      tasks: the columns that are tasks, in the order that is wanted; None for all columns beside
        those above. Other columns are not read, and networks without any of the tasks are left
        out.

    Returns:
      `{split: Candidates}`, the same networks in the same order for every split.

    Raises:
      ValueError: if a column is missing, a cell is not a number, a row stands twice, or a network
        has no row for a split.
      OSError: if the file cannot be read.
    """
    lines = decode(path, pathlib.Path(path).read_bytes()).splitlines(keepends=True)
    reader = csv.reader(line for line in lines if not line.startswith('#'))
    header = [name.strip() for name in next(reader, [])]
    rows = [row for row in reader if any(cell.strip() for cell in row)]
    all_tasks = tasks is None  # A network that trains none of these is a slip.
    cost_column, tasks = _columns(path, header, rows, tasks)
    table = {}
    for n, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ValueError(f'{path}: network row {n} has {len(row)} cells, not {len(header)}')
        cells = dict(zip(header, row, strict=True))
        place = f'{path}: network {cells["network"]!r}'
        key = cells['network'].strip(), _number(cells[cost_column], f'{place}, {cost_column}')
        scores = [_number(cells[task], f'{place}, {task}', _NO_TASK) for task in tasks]
        of_split = table.setdefault(cells.get('split', 'validation').strip(), {})
        if key in of_split:
            raise ValueError(f'{place} of cost {key[1]:g} stands twice for one split')
        of_split[key] = scores
    keys = list(dict.fromkeys(key for split in table.values() for key in split))
    _check_splits(path, table, keys)
    scored = np.array([[split[key] for key in keys] for split in table.values()])
    members = ~np.isnan(scored).all(axis=0)
    plain, costs = [name for name, _ in keys], np.array([cost for _, cost in keys])
    names = [name if plain.count(name) == 1 else f'{name} (cost {cost:g})' for name, cost in keys]
    kept = members.any(axis=1) | all_tasks
    if not kept.any():
        raise ValueError(f'{path} has no score of any network on {", ".join(tasks)}')
    names = tuple(name for name, keep in zip(names, kept, strict=True) if keep)
    return {
        split: Candidates(members[kept], scores[kept], costs[kept], tuple(tasks), names)
        for split, scores in zip(table, scored, strict=True)
    }


def _columns(path, header, rows, tasks):
    """The name of the column of costs, and those of tasks. Raises ValueError if one is missing."""
    needs = (
        'its first row must name the columns network, cost and one for each task (split is '
        'optional), and a row a network must follow'
    )
    if len(header) < 2:
        other = next((sign for sign in ';\t|' if sign in ''.join(header)), None)
        hint = f'its separator seems to be {other!r}, not a comma' if other else needs
        raise ValueError(f'{path} is no table of networks: {hint}')
    cost_column = next((name for name in _COST_COLUMNS if name in header), None)
    for column in ('network', 'cost'):
        if column not in header and (column, cost_column) != ('cost', 'cost_snt'):
            raise ValueError(
                f'{path} is no table of networks: it has no column {column!r} among '
                f'{", ".join(header)}; {needs}'
            )
    if not rows:
        raise ValueError(f'{path} is no table of networks: no row follows its first; {needs}')
    if '' in header or len(set(header)) < len(header):
        raise ValueError(f'{path} needs a column with a name for each task, and no name twice')
    others = [name for name in header if name not in ('network', cost_column, 'split')]
    tasks = others if tasks is None else list(tasks)
    if not tasks:
        raise ValueError(f'{path} needs a column with a name for each task')
    for task in tasks:
        if task not in others:
            raise ValueError(
                f'{path} has no column of a task {task!r}: choose from {", ".join(others)}'
            )
    return cost_column, tasks


def _check_splits(path, table, keys):
    """Raises ValueError if a split lacks a network that another has."""
    for split, scores in table.items():
        for name, cost in keys:
            if (name, cost) in scores:
                continue
            others = [other for known, other in scores if known == name]
            if others:
                raise ValueError(
                    f'{path}: network {name!r} costs {others[0]:g} for the split {split!r} and '
                    f'{cost:g} for another one: give all its rows one cost, or two networks two '
                    'names'
                )
            raise ValueError(f'{path}: network {name!r} has no row for the split {split!r}')


def _number(cell, place, hint=''):
    try:
        return number(cell)
    except ValueError as error:
        raise ValueError(f'{place}: {error}{hint}') from None
