"""Trained networks and measured affinities as rows of a table: what each was, and how it did.

A search trains many networks of which it needs the scores only. Each is a row as soon as it has
finished, so that an interrupted search goes on where it was, several processes can share the work,
and a later question trains nothing again. So is each measurement of affinities.

    score_table.json    the problem and the data that all rows are about
    networks.jsonl      a line a network
    measurements/       affinities, a file for each measurement
    lock                a process holds a byte of it for each network that it is training
    running/            checkpoints of networks in training, a folder each

row = {'tasks': [...], 'seed': 0, ..., 'cost': 1.0, 'validation': {task: {'error': 3.1, ...}},
       'test': {...}, 'best_step': 900, 'steps': 1200, 'seconds': 1.3}
"""

import csv
import errno
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tag_jax.affinity import AffinitySummary
from tag_jax.runs import workdir
from tag_jax.selection import Candidates

try:
    import fcntl
except ImportError:  # Not on Windows: there a table is for one process.
    fcntl = None

SUBJECT, ROWS, LOCK = 'score_table.json', 'networks.jsonl', 'lock'
MEASUREMENTS = 'measurements'
SPLITS = ('validation', 'test')

_WRITING = 2**40  # The byte that is held while a file is written; networks hold lower ones.


class ScoreTable:
    """The rows of one problem, in a folder or in memory. A process opens a folder once at a time.

    A row is found by its specification: what the network was trained as, a dict of JSON types with
    the entry 'tasks'.

    Args:
      path: its folder, which is made if there is none; None to keep it in memory.
      subject: what all rows are about, as JSON types: task names and data.

    Raises:
      ValueError: if the folder holds a table about something else.
      OSError: if it cannot be written to.
    """

    def __init__(
        self, path: str | os.PathLike | None = None, subject: dict[str, Any] | None = None
    ):
        self._rows, self._read, self._lock, self._measured = {}, 0, None, {}
        self.path = None if path is None else pathlib.Path(path)
        if self.path is None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / LOCK, 'ab')  # noqa: SIM115
        except OSError as error:
            raise OSError(
                f'cannot write to the score table {self.path} ({error.strerror}): choose another '
                'folder'
            ) from error
        self._hold(_WRITING, wait=True)
        try:
            if not (self.path / SUBJECT).exists():
                workdir.write_json(self.path / SUBJECT, subject)
            before = workdir.read_json(self.path / SUBJECT)
        finally:
            self._release(_WRITING)
        if different := [name for name in subject if before.get(name) != subject[name]]:
            self.close()
            raise ValueError(
                f'the score table {self.path} is about another {different[0]} '
                f'({before.get(different[0])}, and not {subject[different[0]]}): '
                'choose another folder'
            )

    def close(self) -> None:
        """Gives up the networks that were claimed."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def find(self, specification: dict[str, Any]) -> dict[str, Any] | None:
        """The row of a network, or None if it has none. Rows of other processes count.

        Args:
          specification: of the network.
        """
        self._refresh()
        return self._rows.get(key_of(specification))

    def row(self, key: str) -> dict[str, Any] | None:
        """The row of a network by its name, or None if there is none.

        Args:
          key: what `key_of` makes of its specification.
        """
        self._refresh()
        return self._rows.get(key)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order in which they were written."""
        self._refresh()
        return list(self._rows.values())

    def claim(self, specification: dict[str, Any]) -> bool:
        """Whether this process is to train a network: it has no row, and nobody else claims it.

        The claim ends when its row is written, or with the process, however that ends.

        Args:
          specification: of the network.

        Raises:
          OSError: if the folder is on a filesystem that cannot lock files.
        """
        if not self._hold(key_of(specification), wait=False):
            return False
        if self.find(specification) is not None:
            self._release(key_of(specification))
            return False
        return True

    def add(self, specification: dict[str, Any], result: Mapping[str, Any]) -> None:
        """Writes the row of a network.

        Args:
          specification: of the network.
          result: the other entries of the row, JSON types.

        Raises:
          OSError: if it cannot be written.
        """
        key = key_of(specification)
        row = {'key': key, **specification, **result}
        if self.path is None:
            self._rows[key] = row
            return
        line = json.dumps(row, allow_nan=False) + '\n'
        self._hold(_WRITING, wait=True)
        try:
            with open(self.path / ROWS, 'ab+') as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(max(0, size - 1))
                torn = file.read(1) not in (b'', b'\n')  # A row that a crash cut off.
                file.write(('\n' * torn + line).encode())
        finally:
            self._release(_WRITING)
        self._release(key)

    def keep(self, specification: dict[str, Any], result: Mapping[str, Any]) -> None:
        """Keeps the row of a network for this process alone, and gives up its claim.

        Args:
          specification: of the network.
          result: the other entries of the row.
        """
        key = key_of(specification)
        self._rows[key] = {'key': key, **specification, **result}
        self._release(key)

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
                summary = AffinitySummary(**workdir.read_affinity(folder / f'{key}.npz'))
                self._measured[key] = summary, workdir.read_json(folder / f'{key}.json')
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
            workdir.write_affinity(folder / f'{key}.npz', summary)
            workdir.write_json(folder / f'{key}.json', {**specification, **result})

    def running(self, specification: dict[str, Any]) -> pathlib.Path | None:
        """The folder for the checkpoints of a network in training; None in memory.

        Args:
          specification: of the network.
        """
        if self.path is None:
            return None
        return self.path / workdir.RUNNING / key_of(specification)

    def _refresh(self):
        """Reads the rows that were written since the last time."""
        if self.path is None or not (self.path / ROWS).exists():
            return
        with open(self.path / ROWS, 'rb') as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b'\n') + 1
        self._read += whole
        for line in new[:whole].splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            self._rows.setdefault(row['key'], row)

    def _hold(self, byte, wait):
        if self._lock is None or fcntl is None:
            return True
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, _byte(byte))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise OSError(
                f'the score table {self.path} cannot be locked ({error.strerror}): choose a folder '
                'on another filesystem'
            ) from error
        return True

    def _release(self, byte):
        if self._lock is not None and fcntl is not None:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, _byte(byte))


def candidates(
    rows: Sequence[Mapping[str, Any]], task_names: Sequence[str], split: str = 'validation'
) -> Candidates:
    """Rows as candidates for a selection, scored by errors in percent.

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
                'scores': {task: scores['error'] for task, scores in row[split].items()},
            }
            for n, row in enumerate(rows)
        ],
        task_names,
    )


def write_csv(
    path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], task_names: Sequence[str]
) -> None:
    """Writes rows as the CSV file that `experiments.network_selection` reads.

    Args:
      path: the file.
      rows: of a table.
      task_names: T names, a column each.
    """
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['network', 'cost', 'split', *task_names])
    named = candidates(rows, task_names).network_names if rows else ()
    # Of the beginnings of networks no test errors are known.
    for split in (split for split in SPLITS if all(split in row for row in rows)):
        for name, row in zip(named, rows, strict=True):
            scores = [row[split].get(task, {}).get('error', '') for task in task_names]
            writer.writerow([name, row['cost'], split, *scores])
    workdir.write_bytes(path, text.getvalue().encode())


def key_of(specification: Mapping[str, Any]) -> str:
    """The name of a row.

    Args:
      specification: what its network was trained as, JSON types.
    """
    text = json.dumps(specification, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _byte(key):
    return key if isinstance(key, int) else int(key, 16) % _WRITING
