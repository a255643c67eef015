"""Trained networks and measured affinities as rows of a table: what each was, and how it did.

A search trains many networks of which it needs the scores only. Each is a row as soon as it has
finished, so that an interrupted search goes on where it was, and a later question trains nothing
again. So is each measurement of affinities. A table has one owner at a time, which keeps others
out; an executor lets other processes and machines train for it (`grouping.remote`).

    score_table.json    the problem and the data that all rows are about
    networks.jsonl      a line a network
    measurements/       affinities, a file for each measurement
    estimates/          scores that were estimated without training, a file for each estimate
    slots.jsonl         how many networks train side by side, where that was measured
    lock                held by the process that has the table open
    running/            checkpoints of networks in training, a folder each

row = {'tasks': [...], 'seed': 0, ..., 'cost': 1.0, 'validation': {task: {'error': 3.1, ...}},
       'test': {...}, 'best_step': 900, 'steps': 1200, 'seconds': 1.3}

and in a comparison 'test_draws': {task: scores}, as they would be on other test examples. Where the
errors of tasks are not defined, 'left_out' names them: {'validation': [...], 'test': [...]}.
"""

import csv
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax import evaluation
from tag_jax.affinity import AffinitySummary
from tag_jax.runs import affinity_files, locks, storage, workdir
from tag_jax.selection import Candidates

SUBJECT, ROWS, LOCK = 'score_table.json', 'networks.jsonl', 'lock'
MEASUREMENTS, ESTIMATES, SLOTS = 'measurements', 'estimates', 'slots.jsonl'
SPLITS = ('validation', 'test')


class ScoreTable:
    """The rows of one problem, in a folder or in memory.

    A row is found by its specification: what the network was trained as, a dict of JSON types with
    the entry 'tasks'.

    Args:
      path: its folder, which is made if there is none; None to keep it in memory.
      subject: what all rows are about, as JSON types: task names and data.

    Raises:
      ValueError: if the folder holds a table about something else, or is open already.
      OSError: if it cannot be written to.
    """

    def __init__(
        self, path: str | os.PathLike | None = None, subject: dict[str, Any] | None = None
    ):
        self._rows, self._lock, self._measured, self._slots = {}, None, {}, {}
        self.path = None if path is None else pathlib.Path(path)
        if self.path is None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = locks.hold(
                self.path / LOCK,
                f'the score table {self.path} is in use: wait until that has ended, or choose '
                'another folder',
            )
        except OSError as error:
            raise OSError(
                f'cannot write to the score table {self.path} ({error.strerror}): choose another '
                'folder'
            ) from error
        try:
            _check_subject(self.path, subject)
            self._rows = _read_rows(self.path / ROWS)
            self._slots = _read_rows(self.path / SLOTS)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets others open the table."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def find(self, specification: dict[str, Any]) -> dict[str, Any] | None:
        """The row of a network, or None if it has none.

        Args:
          specification: of the network.
        """
        return self._rows.get(key_of(specification))

    def row(self, key: str) -> dict[str, Any] | None:
        """The row of a network by its name, or None if there is none.

        Args:
          key: what `key_of` makes of its specification.
        """
        return self._rows.get(key)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order in which they were written."""
        return list(self._rows.values())

    def add(
        self, specification: dict[str, Any], result: Mapping[str, Any], lasting: bool = True
    ) -> None:
        """Keeps the row of a network.

        Args:
          specification: of the network.
          result: the other entries of the row, JSON types.
          lasting: whether it is written, for other runs.

        Raises:
          OSError: if it cannot be written.
        """
        key = key_of(specification)
        row = {'key': key, **specification, **result}
        if self.path is not None and lasting:
            _append(self.path / ROWS, json.dumps(row, allow_nan=False))
        self._rows[key] = row

    def measurement(self, specification: dict[str, Any]) -> tuple[AffinitySummary, dict] | None:
        """Affinities that were measured while a network trained, and the row of that network.

        Args:
          specification: of the network and of how it was measured.

        Returns:
          An `AffinitySummary`, and what `add_measurement` was given beside it; or None.
        """
        key = key_of(specification)
        if key not in self._measured and self.path is not None:
            folder = self.path / MEASUREMENTS
            if (folder / f'{key}.json').exists():  # Written last.
                summary = AffinitySummary(**affinity_files.read_affinity(folder / f'{key}.npz'))
                self._measured[key] = summary, storage.read_json(folder / f'{key}.json')
        return self._measured.get(key)

    def add_measurement(
        self,
        specification: dict[str, Any],
        summary: AffinitySummary,
        result: Mapping[str, Any],
        lasting: bool = True,
    ) -> None:
        """Keeps affinities that were measured.

        Args:
          specification: of the network and of how it was measured.
          summary: an `AffinitySummary`.
          result: what else there is to know, JSON types.
          lasting: whether they are written, for other processes and runs.

        Raises:
          OSError: if it cannot be written.
        """
        key = key_of(specification)
        self._measured[key] = summary, {**specification, **result}
        if self.path is not None and lasting:
            folder = self.path / MEASUREMENTS
            folder.mkdir(exist_ok=True)
            affinity_files.write_affinity(folder / f'{key}.npz', summary)
            storage.write_json(folder / f'{key}.json', {**specification, **result})

    def estimate(self, specification: dict[str, Any]) -> tuple[Candidates, dict] | None:
        """Scores that were estimated without training, and what there is to know beside them.

        Args:
          specification: of how they were estimated.

        Returns:
          `Candidates`, and what `add_estimate` was given beside them; or None.
        """
        key = key_of(specification)
        if key not in self._measured and self.path is not None:
            folder = self.path / ESTIMATES
            if (folder / f'{key}.json').exists():  # Written last.
                found = storage.read_arrays(folder / f'{key}.npz')
                names = tuple(found.pop('task_names').tolist())
                row = storage.read_json(folder / f'{key}.json')
                self._measured[key] = Candidates(**found, task_names=names), row
        return self._measured.get(key)

    def add_estimate(
        self, specification: dict[str, Any], candidates: Candidates, result: Mapping[str, Any]
    ) -> None:
        """Keeps scores that were estimated.

        Args:
          specification: of how they were estimated.
          candidates: `Candidates`.
          result: what else there is to know, JSON types.

        Raises:
          OSError: if they cannot be written.
        """
        key = key_of(specification)
        self._measured[key] = candidates, {**specification, **result}
        if self.path is not None:
            folder = self.path / ESTIMATES
            folder.mkdir(exist_ok=True)
            arrays = {name: getattr(candidates, name) for name in ('members', 'scores', 'costs')}
            arrays['task_names'] = np.array(candidates.task_names)
            storage.write_arrays(folder / f'{key}.npz', arrays)
            storage.write_json(folder / f'{key}.json', {**specification, **result})

    def slots(self, specification: dict[str, Any]) -> dict[str, Any] | None:
        """The choice of how many networks train side by side, or None if there was none.

        Args:
          specification: of the program that trains them, or of a search.
        """
        return self._slots.get(key_of(specification))

    def add_slots(self, specification: dict[str, Any], chosen: Mapping[str, Any]) -> None:
        """Keeps how many networks train side by side.

        Args:
          specification: of the program that trains them, or of a search.
          chosen: the number 'slots', and what else there is to know, JSON types.

        Raises:
          OSError: if it cannot be written.
        """
        key = key_of(specification)
        row = {'key': key, **specification, **chosen}
        if self.path is not None:
            _append(self.path / SLOTS, json.dumps(row, allow_nan=False))
        self._slots[key] = row

    def running(self, specification: dict[str, Any]) -> str | None:
        """The folder for the checkpoints of a network in training; None in memory.

        Args:
          specification: of the network.
        """
        if self.path is None:
            return None
        return str((self.path / workdir.RUNNING / key_of(specification)).absolute())


def scores(row: Mapping[str, Any], split: str = 'validation') -> dict[str, float]:
    """The values that a network was selected by, `{task: value}`: errors in percent, or losses.

    An error that is not defined on the split is 0, for all networks alike: see
    `evaluation.summands`.

    Args:
      row: of a table. Where it says `judge_by`, its test scores are of that instead.
      split: 'validation' or 'test'.
    """
    return evaluation.summands(row[split], _criterion(row, split), left_out(row, split))


def left_out(row: Mapping[str, Any], split: str) -> Sequence[str]:
    """The tasks whose values on a split are not defined, see `evaluation.left_out`.

    Args:
      row: of a table.
      split: 'validation' or 'test'.
    """
    if _criterion(row, split) != evaluation.ERROR:
        return ()
    return row.get('left_out', {}).get(split, ())


def _criterion(row, split):
    criterion = row.get('select_by', 'error')
    if split == 'test':
        criterion = row.get('judge_by', criterion)
    return criterion


def candidates(
    rows: Sequence[Mapping[str, Any]], task_names: Sequence[str], split: str = 'validation'
) -> Candidates:
    """Rows as candidates for a selection, scored by what networks are selected by.

    Args:
      rows: of a table; several networks of the same tasks stay several candidates.
      task_names: T names.
      split: 'validation' or 'test'.
    """
    return Candidates.from_table(
        [
            {
                'name': f'{" + ".join(row["tasks"])} #{n}',
                'tasks': row['tasks'],
                'cost': row['cost'],
                'scores': scores(row, split),
            }
            for n, row in enumerate(rows)
        ],
        task_names,
    )


def write_csv(
    path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], task_names: Sequence[str]
) -> None:
    """Writes rows as the CSV file that `experiments.network_selection` reads.

    Errors that are not defined on a split are 0 there, and a remark in the first line says so.

    Args:
      path: the file.
      rows: of a table.
      task_names: T names, a column each.
    """
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    for split in SPLITS:
        without = {task for row in rows for task in left_out(row, split)}
        if named := [task for task in task_names if task in without]:
            text.write(f'# Not defined on {split}, so 0 for all networks: {", ".join(named)}\n')
    writer.writerow(['network', 'cost', 'split', *task_names])
    names = candidates(rows, task_names).network_names if rows else ()
    # Of the beginnings of networks no test errors are known.
    for split in (split for split in SPLITS if all(split in row for row in rows)):
        for name, row in zip(names, rows, strict=True):
            found = scores(row, split)
            writer.writerow([name, row['cost'], split, *(found.get(t, '') for t in task_names)])
    storage.write_bytes(path, text.getvalue().encode())


def key_of(specification: Mapping[str, Any]) -> str:
    """The name of a row.

    Args:
      specification: what its network was trained as, JSON types.
    """
    text = json.dumps(specification, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_subject(path, subject):
    """Raises ValueError if the table in a folder is about something else; begins a new one."""
    if not (path / SUBJECT).exists():
        storage.write_json(path / SUBJECT, subject)
    before = storage.read_json(path / SUBJECT)
    if different := [name for name in subject if before.get(name) != subject[name]]:
        raise ValueError(
            f'the score table {path} is about another {different[0]} '
            f'({before.get(different[0])}, and not {subject[different[0]]}): choose another folder'
        )


def _read_rows(path):
    """`{key: row}` of a file; a last line that a crash cut off is left out."""
    rows = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows.setdefault(row['key'], row)
    return rows


def _append(path, line):
    """Writes a line at the end of a file, behind one that a crash may have cut off."""
    with open(path, 'ab+') as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 1))
        torn = file.read(1) not in (b'', b'\n')
        file.write(('\n' * torn + line + '\n').encode())
