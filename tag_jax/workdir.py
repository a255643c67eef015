"""The folder of a run: its files, how they are written, and what may be written where.

    config.json     what was asked for, and the versions it ran with
    metrics.jsonl   one record a line, as training goes
    affinity.npz    inter-task affinities: mean, variance, stderr, count, history, steps, task_names
    results.json    what came out
    checkpoints/    the trained networks, a folder each

Files appear whole or not at all.
"""

import csv
import json
import os
import pathlib
import zipfile

import numpy as np

CONFIG, METRICS, AFFINITY, RESULTS = 'config.json', 'metrics.jsonl', 'affinity.npz', 'results.json'
CHECKPOINTS = 'checkpoints'

# Entries of config.json that may differ between a run and its continuation.
_INCIDENTAL = ('versions',)


def open_run(path, config, resume=False):
    """Makes the folder of a run, or opens it again, and writes its config.json.

    Args:
      path: the folder.
      config: what was asked for, as JSON types.
      resume: whether to go on with the run that the folder holds, if it holds one.

    Returns:
      The folder as a `pathlib.Path`.

    Raises:
      ValueError: if the folder holds a run and `resume` is false, or holds a run that was asked
        for something else.
      OSError: if the folder cannot be made or written to.
    """
    path = pathlib.Path(path)
    holds_run = any((path / name).exists() for name in (CONFIG, METRICS, AFFINITY, RESULTS))
    if holds_run and not resume:
        raise ValueError(
            f'{path} already holds a run: continue it with resume, or choose another workdir'
        )
    if holds_run:
        try:
            before = read_json(path / CONFIG)
        except (OSError, ValueError) as error:
            raise ValueError(
                f'the run in {path} has no readable {CONFIG}: choose another workdir'
            ) from error
        _check_same(path, before, config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / CONFIG, config)
    except OSError as error:
        raise OSError(
            f'cannot write to the workdir {path} ({error.strerror}): choose another one'
        ) from error
    return path


def write_json(path, value):
    """Writes JSON, whole or not at all. Raises ValueError at NaN, which JSON does not know."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + '\n').encode())


def read_json(path):
    """Reads a JSON file."""
    return json.loads(pathlib.Path(path).read_text())


def write_bytes(path, data):
    """Writes a file, whole or not at all."""
    path = pathlib.Path(path)
    temporary = path.with_name(f'.{path.name}.part')
    temporary.write_bytes(data)
    os.replace(temporary, path)


def append_record(path, record):
    """Adds a line to a file of JSON records."""
    with open(path, 'a') as file:
        file.write(json.dumps(record) + '\n')


def read_records(path):
    """The records of a file with one JSON value a line; none if there is no such file.

    A last line without its end, which a crash leaves, is no record.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split('\n')[:-1]]


def write_records(path, records):
    """Writes a file of JSON records, whole or not at all."""
    write_bytes(path, ''.join(json.dumps(record) + '\n' for record in records).encode())


def write_affinity(path, summary):
    """Writes affinities as .npz, whole or not at all.

    Args:
      path: the file.
      summary: a `tag_jax.affinity.AffinitySummary`.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f'.{path.name}.part')
    with open(temporary, 'wb') as file:
        np.savez(file, **summary._asdict())
    os.replace(temporary, path)


def read_affinity_arrays(path):
    """The entries of an .npz of affinities, `{name: array}`; the task names as a tuple."""
    with np.load(path) as file:
        return {**file, 'task_names': tuple(file['task_names'].tolist())}


def read_affinity(path, task_names):
    """Reads affinities from a file, in the order of some tasks.

    Args:
      path: an .npz file with `mean` `[T, T]` and `task_names`, as a run leaves it; or a .csv file,
        whose first row names the target tasks and whose first column names the source tasks.
      task_names: the T tasks, in the order that is wanted.

    Returns:
      `[T, T]` float64, source task first.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is not such a file, or is about other tasks.
    """
    path = pathlib.Path(path)
    if path.suffix not in ('.npz', '.csv'):
        raise ValueError(f'{path} is neither .npz nor .csv: affinities are read from these')
    if not path.is_file():
        raise FileNotFoundError(f'there is no file of affinities {path}')
    try:
        rows, columns, matrix = (_read_npz if path.suffix == '.npz' else _read_csv)(path)
    except (KeyError, ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} holds no affinity matrix with task names: {error}') from error
    for names in (rows, columns):
        if sorted(names) != sorted(task_names):
            raise ValueError(
                f'{path} is about the tasks {", ".join(names)}; '
                f'the problem has {", ".join(task_names)}'
            )
    order = [[names.index(task) for task in task_names] for names in (rows, columns)]
    return matrix[np.ix_(*order)]


def _read_npz(path):
    arrays = read_affinity_arrays(path)
    names, matrix = arrays['task_names'], arrays['mean'].astype(np.float64)
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f'{len(names)} tasks, and a matrix {matrix.shape}')
    return names, names, matrix


def _read_csv(path):
    with open(path, newline='') as file:
        header, *rows = [row for row in csv.reader(file) if row]
    matrix = np.array([[float(cell) for cell in row[1:]] for row in rows])
    if matrix.shape != (len(rows), len(header) - 1):
        raise ValueError('its rows differ in length')
    return [row[0].strip() for row in rows], [name.strip() for name in header[1:]], matrix


def _check_same(path, before, now):
    """Raises ValueError if a run was asked for something other than what is asked for now."""
    names = [name for name in {**before, **now} if name not in _INCIDENTAL]
    if different := [name for name in names if before.get(name) != now.get(name)]:
        changes = ', '.join(
            f'{name} was {before.get(name)} and is {now.get(name)}' for name in different
        )
        raise ValueError(
            f'{path} holds a run with other settings ({changes}): '
            'repeat its settings to continue it, or choose another workdir'
        )
