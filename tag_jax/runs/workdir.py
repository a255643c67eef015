"""The folder of a run: its files, how they are written, and what may be written where.

    config.json     what was asked for, and the versions it ran with
    metrics.jsonl   one record a line, as training goes
    affinity.npz    inter-task affinities: mean, variance, stderr, count, history, steps, task_names
    results.json    what came out
    pictures.npz    a few predictions, where labels are images
    checkpoints/    the trained networks, a folder each
    running/        checkpoints of the networks in training, a folder each

Files appear whole or not at all. While a process has a run open, others are kept out of it by the
lock on a file, `.lock`, which ends with the run, or with its process, however that ends. (The file
is long because every kind of file has its writer beside its reader.)
"""

import contextlib
import csv
import json
import logging
import math
import os
import pathlib
import shlex
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from tag_jax.cells import decode, number
from tag_jax.runs import locks

CONFIG, METRICS, AFFINITY, RESULTS = 'config.json', 'metrics.jsonl', 'affinity.npz', 'results.json'
PICTURES = 'pictures.npz'
CHECKPOINTS, RUNNING = 'checkpoints', 'running'
LOCK = '.lock'
ENCODING = 'encoding.json'

# What reading a damaged .npz file ends in.
_DAMAGED = (
    *(KeyError, TypeError, ValueError, EOFError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)

# Between the checksums of a model and of the weights that it begins with, in config.json.
FROM = ' from '

# Entries of config.json that may differ between a run and its continuation, or one like it.
INCIDENTAL = (
    *('versions', 'workers', 'mesh', 'shard_parameters', 'if_not_finite', 'checkpoint_seconds'),
    *('command', 'table_file'),
)
# How a table is read and split: runs of old, and those that Python started, do not say it.
TABLE = 'table'


class RunFolder(type(pathlib.Path())):
    """The path of a run that is open: other processes are kept out of it while this object lives.

    (Paths that are made of it are as any others.)
    """


def open_run(path: str | os.PathLike, config: dict[str, Any], resume: bool = False) -> RunFolder:
    """Makes the folder of a run, or opens it again, and writes its config.json.

    No other process can open it for as long as the path that is returned is held on to. (This
    process can: what a run leaves open at an error does not stand in the way of going on with it.)

    Args:
      path: the folder.
      config: what was asked for, as JSON types.
      resume: whether to go on with the run that the folder holds. If it holds none, a new one
        begins, and a warning says so.

    Returns:
      The folder as a `RunFolder`.

    Raises:
      ValueError: if the folder holds a run and `resume` is false, or holds a run that was asked
        for something else, or that another process has open.
      OSError: if the folder cannot be made or written to.
    """
    path = RunFolder(path)
    try:
        if '\0' in str(path):
            raise ValueError('a zero byte in its name')
        holds_run = any((path / name).exists() for name in (CONFIG, METRICS, AFFINITY, RESULTS))
    except (OSError, ValueError) as error:
        raise OSError(f'{path} cannot be a workdir ({_why(error)}): choose another one') from error
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
    text = _as_text(config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = locks.hold(
            path / LOCK,
            f'another process is at work on the run in {path}: wait for its end, or choose another '
            'workdir',
            shared=True,
        )
        weakref.finalize(path, lock.release)
        with replacing(path / CONFIG) as file:
            file.write(text)
    except OSError as error:
        raise OSError(
            f'cannot write to the workdir {path} ({_why(error)}): choose another one'
        ) from error
    if resume and not holds_run:
        logging.warning('there is no run in %s to go on with: a new one begins', path)
    return path


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes JSON, whole or not at all.

    Args:
      path: the file.
      value: JSON types, numbers of NumPy or JAX among them.

    Raises:
      ValueError: at NaN, which JSON does not know.
    """
    write_bytes(path, _as_text(value))


def finite(values: Any) -> Any:
    """JSON types with null in place of numbers that are not finite, which JSON does not know.

    Args:
      values: dicts of numbers, nested.
    """
    if isinstance(values, Mapping):
        return {name: finite(value) for name, value in values.items()}
    return values if math.isfinite(values) else None


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
    """
    return json.loads(pathlib.Path(path).read_text())


def command_of(path: str | os.PathLike) -> str | None:
    """The command that config.json of a run says repeats it; None if there is none.

    Args:
      path: the folder of the run.
    """
    config = pathlib.Path(path) / CONFIG
    return read_json(config).get('command') if config.exists() else None


def read_results(path: str | os.PathLike) -> Any:
    """The contents of results.json of a finished run that grouped tasks.

    Args:
      path: the folder of the run.

    Raises:
      ValueError: if there is no such folder, if the run has not finished or is damaged, or if it is
        that of another command.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ValueError(f'there is no folder {path}: name the workdir of a run')
    if not (path / RESULTS).exists():
        unfinished = f'{path} holds no finished run: it has no {RESULTS}'
        if (path / CONFIG).exists():
            unfinished += f'; its command goes on with --workdir={path} --resume'
        raise ValueError(unfinished)
    try:
        results = read_json(path / RESULTS)
        config = read_json(path / CONFIG)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'the run in {path} is damaged: {CONFIG} or {RESULTS} cannot be read'
        ) from error
    if not isinstance(results, dict) or not {'groups', 'test_error', 'baselines'} <= set(results):
        raise ValueError(
            f'{path} holds no grouping of tasks, but a run of another command; '
            f'{_drawn_again(path, config)}'
        )
    return results


def _drawn_again(path, config):
    """How the report of a run that grouped no tasks is drawn again."""
    command = config.get('command') if isinstance(config, dict) else None
    if command is None:
        return 'only that command draws its report'
    if 'budgets' in config:  # Comparisons and studies keep what they trained.
        return f'this draws its report again: {command} --workdir={shlex.quote(str(path))} --resume'
    return f'this trains again, in a new folder, and draws its report: {command}'


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file, whole or not at all.

    Args:
      path: the file.
      data: what it is to hold.

    Raises:
      OSError: if it cannot, with a sentence.
    """
    with _named(path), replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """A binary file to write to, which takes the place of another once it is whole on the disk.

    Args:
      path: the file that it becomes.

    Raises:
      OSError: if it cannot be written; the other one stays as it is.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f'.{path.name}.part')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def append_record(path: str | os.PathLike, record: dict[str, Any]) -> None:
    """Adds a line to a file of JSON records.

    Args:
      path: the file.
      record: JSON types, numbers of NumPy or JAX among them.

    Raises:
      OSError: if it cannot be written.
    """
    line = json.dumps(record, default=_number) + '\n'
    with _named(path), open(path, 'a') as file:
        file.write(line)


def read_records(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a file with one JSON value a line; none if there is no such file.

    A last line without its end, which a crash leaves, is no record.

    Args:
      path: the file.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split('\n')[:-1]]


def write_records(path: str | os.PathLike, records: Iterable[dict[str, Any]]) -> None:
    """Writes a file of JSON records, whole or not at all.

    Args:
      path: the file.
      records: JSON types each.
    """
    write_bytes(path, ''.join(json.dumps(record) + '\n' for record in records).encode())


def write_affinity(path: str | os.PathLike, summary: Any) -> None:
    """Writes affinities as .npz, whole or not at all.

    Args:
      path: the file.
      summary: a `tag_jax.affinity.AffinitySummary`.

    Raises:
      OSError: if it cannot be written.
    """
    write_arrays(path, summary._asdict())


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays as .npz, whole or not at all.

    Args:
      path: the file.
      arrays: `{name: array}`.

    Raises:
      OSError: if it cannot be written.
    """
    with _named(path), replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads named arrays from an .npz file.

    Args:
      path: the file.

    Returns:
      `{name: array}`, each of the shape `[...]` in which it was written.

    Raises:
      ValueError: if it is damaged.
    """
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file}
    except _DAMAGED as error:
        raise ValueError(f'{path} is damaged: {error}') from error


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
    except (*_DAMAGED, csv.Error) as error:
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


@contextlib.contextmanager
def _named(path):
    """Says of an OSError which file could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f'cannot write {path} ({_why(error)}): make room there, or choose another folder'
        ) from error


def _why(error):
    return getattr(error, 'strerror', None) or str(error)


def _as_text(value):
    text = json.dumps(value, indent=2, allow_nan=False, default=_number)
    return f'{text}\n'.encode()


def _number(value):
    """A number of NumPy or JAX as one of Python, for JSON."""
    return np.asarray(value).item()


def _change(name, before, now):
    """A setting that differs, in words."""
    if name == 'model' and all(isinstance(one, str) and FROM in one for one in (before, now)):
        (program, weights), (other, others) = (one.split(FROM) for one in (before, now))
        if program == other:
            return (
                'the model is the same, but the weights that it begins with, frozen or pretrained, '
                f'had the checksum {weights} and have {others}'
            )
    return f'{name} was {before} and is {now}'


def _check_same(path, before, now):
    """Raises ValueError if a run was asked for something other than what is asked for now."""
    both = before.get(TABLE) and now.get(TABLE)
    before, now = (_settings(config, both) for config in (before, now))
    if different := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
        changes = ', '.join(_change(name, before.get(name), now.get(name)) for name in different)
        raise ValueError(
            f'{path} holds a run with other settings ({changes}): '
            'repeat its settings to continue it, or choose another workdir'
        )


def _settings(config, with_table):
    """The entries of config.json that a continuation must repeat, those about a table by name."""
    kept = {name: one for name, one in config.items() if name not in (*INCIDENTAL, TABLE)}
    table = config[TABLE] if with_table else {}
    return kept | {f'{TABLE}.{name}': one for name, one in table.items()}
