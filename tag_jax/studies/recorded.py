"""Recorded tables: how networks for every set of tasks of a real problem did, over several seeds.

A search among networks asks for their scores only, and all of them have been trained already. So a
method is judged on a table in seconds, where training would take hours. A table is one .npz file:

    task_names, steps, shares    names of tasks, steps of training, shares of it
    members, costs               bool [N, T] and [N], of N networks: every set of tasks on the
                                 standard encoder; then all tasks on wider encoders, and single
                                 tasks on narrower ones
    {split}_{measure}            float16 [S, P, M]: validation and test error (percent) and loss of
                                 S seeds at P points of training, for the M pairs of a network and
                                 a task that it trains
    {split}_constant             [S, T], the loss of the best constant answer
    best_steps                   [S, N, 2], the steps of the last two points
    affinity_{kind}              float32 [S, W, T, T], means over W equal windows of training
    estimate_{name}              float16 [S, M'], of the M' pairs of the standard encoder
    about                        JSON: the data with source, licence and checksum, the network, the
                                 settings, versions, the command

The first points are shares of training, where a network stood then; the last two are its best
evaluations, by the total error and by the total loss relative to constant answers.
"""

import importlib.resources
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tag_jax.runs import storage

SPLITS, MEASURES = ('validation', 'test'), ('error', 'loss')
BEST = ('error', 'relative_loss')
# The largest that a value may be in float16.
_LARGEST = 6e4


class RecordedTable(NamedTuple):
    """The scores of trained networks for every set of tasks, over S seeds.

    Attributes:
      name: of the problem.
      task_names: T names.
      steps: of training.
      shares: of training, a point each.
      members: bool `[N, T]`, the tasks of each network.
      costs: `[N]`, at inference, in standard networks.
      scores: `{(split, measure): [S, P, N, T]}`, NaN for tasks that a network does not train; the
        points are the shares, then the best evaluation by each of BEST.
      constants: `{split: [S, T]}`, losses of the best constant answers.
      best_steps: int `[S, N, 2]`, the steps of the best evaluations.
      affinities: `{kind: [S, W, T, T]}`, means over W equal windows of training.
      estimates: `{name: [S, N', T]}`, of the standard networks: validation losses that are
        predicted without training them, in percent of those of constant answers.
      about: where the data are from, and how the networks were trained; JSON types.
    """

    name: str
    task_names: tuple[str, ...]
    steps: int
    shares: tuple[float, ...]
    members: np.ndarray
    costs: np.ndarray
    scores: Mapping[tuple[str, str], np.ndarray]
    constants: Mapping[str, np.ndarray]
    best_steps: np.ndarray
    affinities: Mapping[str, np.ndarray]
    estimates: Mapping[str, np.ndarray]
    about: Mapping[str, Any]

    @property
    def seeds(self) -> int:
        """S, how many seeds there are."""
        return len(self.best_steps)

    def values(self, split: str, criterion: str) -> np.ndarray:
        """The values of a criterion, `[S, P, N, T]`.

        Args:
          split: 'validation' or 'test'.
          criterion: of `evaluation.CRITERIA`.
        """
        if criterion != 'relative_loss':
            return self.scores[split, criterion]
        return 100 * self.scores[split, 'loss'] / self.constants[split][:, None, None, :]


def write(path: str | os.PathLike, table: RecordedTable) -> None:
    """Writes a table.

    Args:
      path: of the .npz file.
      table: a `RecordedTable`.

    Raises:
      ValueError: if a score is not finite, or too large for float16.
      OSError: if it cannot be written.
    """
    standard = table.members[table.costs == 1]
    arrays = {
        'task_names': np.array(table.task_names),
        'steps': np.array(table.steps),
        'shares': np.array(table.shares),
        'members': table.members,
        'costs': table.costs,
        'best_steps': table.best_steps.astype(np.int32),
        'about': np.array(json.dumps(table.about)),
        **{f'{split}_constant': values for split, values in table.constants.items()},
        **{f'affinity_{kind}': m.astype(np.float32) for kind, m in table.affinities.items()},
        **{f'estimate_{n}': _half(table, e[:, standard]) for n, e in table.estimates.items()},
    }
    for (split, measure), values in table.scores.items():
        arrays[f'{split}_{measure}'] = _half(table, values[:, :, table.members])
    storage.write_arrays(path, arrays)


def read(path: str | os.PathLike) -> RecordedTable:
    """Reads a table.

    Args:
      path: of the .npz file, or the name of one that the package ships (`names`).

    Raises:
      ValueError: if it is no recorded table.
      OSError: if it cannot be read.
    """
    if isinstance(path, str) and path in names():
        path = importlib.resources.files('tag_jax.studies') / 'tables' / f'{path}.npz'
    path = pathlib.Path(str(path))
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _table(path.stem, arrays)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is no recorded table: {error}') from error


def names() -> tuple[str, ...]:
    """The names of the tables that the package ships."""
    folder = importlib.resources.files('tag_jax.studies') / 'tables'
    found = folder.iterdir() if folder.is_dir() else ()
    return tuple(sorted(one.name[:-4] for one in found if one.name.endswith('.npz')))


def _table(name, arrays):
    members, costs = arrays['members'], arrays['costs']
    starting = lambda word: {
        key.removeprefix(word): array for key, array in arrays.items() if key.startswith(word)
    }
    return RecordedTable(
        name=name,
        task_names=tuple(arrays['task_names'].tolist()),
        steps=int(arrays['steps']),
        shares=tuple(arrays['shares'].tolist()),
        members=members,
        costs=costs,
        scores={
            (split, measure): _spread(arrays[f'{split}_{measure}'], members)
            for split in SPLITS
            for measure in MEASURES
        },
        constants={split: arrays[f'{split}_constant'].astype(float) for split in SPLITS},
        best_steps=arrays['best_steps'],
        affinities=starting('affinity_'),
        estimates={
            key: _spread(found, members[costs == 1]) for key, found in starting('estimate_').items()
        },
        about=json.loads(str(arrays['about'])),
    )


def _half(table, values):
    """Scores in float16."""
    if not np.abs(values).max(initial=0) < _LARGEST:
        raise ValueError(
            f'a score of {table.name} is not finite or above {_LARGEST:g}: scores are recorded in '
            'half precision, so train with a lower learning rate'
        )
    return values.astype(np.float16)


def _spread(packed, members):
    """Scores `[..., M]` of pairs as `[..., N, T]`, NaN where a network does not train a task."""
    found = np.full((*packed.shape[:-1], *members.shape), np.nan)
    found[..., members] = packed
    return found
