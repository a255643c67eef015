"""The folder of a run: which files it holds, and who may write there.

    config.json     what was asked for, and the versions it ran with
    metrics.jsonl   one record a line, as training goes
    affinity.npz    inter-task affinities: mean, variance, stderr, count, history, steps, task_names
    results.json    what came out
    pictures.npz    a few predictions, where labels are images
    checkpoints/    the trained networks, a folder each
    running/        checkpoints of the networks in training, a folder each

While a process has a run open, others are kept out of it by the lock on a file, `.lock`, which ends
with the run, or with its process, however that ends.
"""

import logging
import os
import pathlib
import shlex
import weakref
from typing import Any

from tag_jax.runs import locks, storage

CONFIG, METRICS, AFFINITY, RESULTS = 'config.json', 'metrics.jsonl', 'affinity.npz', 'results.json'
PICTURES = 'pictures.npz'
CHECKPOINTS, RUNNING = 'checkpoints', 'running'
LOCK = '.lock'
ENCODING = 'encoding.json'

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
        raise OSError(
            f'{path} cannot be a workdir ({storage.why(error)}): choose another one'
        ) from error
    if holds_run and not resume:
        raise ValueError(
            f'{path} already holds a run: continue it with resume, or choose another workdir'
        )
    if holds_run:
        try:
            before = storage.read_json(path / CONFIG)
        except (OSError, ValueError) as error:
            raise ValueError(
                f'the run in {path} has no readable {CONFIG}: choose another workdir'
            ) from error
        _check_same(path, before, config)
    text = storage.as_json(config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = locks.hold(
            path / LOCK,
            f'another process is at work on the run in {path}: wait for its end, or choose another '
            'workdir',
            shared=True,
        )
        weakref.finalize(path, lock.release)
        with storage.replacing(path / CONFIG) as file:
            file.write(text)
    except OSError as error:
        raise OSError(
            f'cannot write to the workdir {path} ({storage.why(error)}): choose another one'
        ) from error
    if resume and not holds_run:
        logging.warning('there is no run in %s to go on with: a new one begins', path)
    return path


def command_of(path: str | os.PathLike) -> str | None:
    """The command that config.json of a run says repeats it; None if there is none.

    Args:
      path: the folder of the run.
    """
    config = pathlib.Path(path) / CONFIG
    return storage.read_json(config).get('command') if config.exists() else None


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
        results = storage.read_json(path / RESULTS)
        config = storage.read_json(path / CONFIG)
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
