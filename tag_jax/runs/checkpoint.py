"""Trees of arrays on disk, with orbax: whole or not there, and as they were or not used.

A series is a folder of checkpoints that follow each other, a folder each, named by their step. Two
are kept, so that one is whole whatever happens while the other is written or afterwards.
"""

import contextlib
import json
import logging
import math
import os
import pathlib
import shutil
import threading
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tag_jax import parallel
from tag_jax.problem.names import by_names

KEPT = 2
DAMAGED = '.damaged'

_ARRAYS, _RECORD = 'arrays', 'record'

# Orbax counts what it is at in one place for all threads: two at once get hold of each other's
# files, or wait for signals that never come.
_ORBAX = threading.Lock()


class Checkpoint(NamedTuple):
    """One of a series.

    Attributes:
      step: its number.
      tree: a pytree of NumPy arrays.
      record: what was written beside it, JSON types.
    """

    step: int
    tree: Any
    record: Any


def save(path: str | os.PathLike, tree: Any) -> None:
    """Writes a pytree of arrays to a new folder, whole or not at all.

    Args:
      path: the folder.
      tree: pytree of arrays.

    Raises:
      ValueError: if the folder exists.
      OSError: if it cannot be written.
    """
    import orbax.checkpoint as ocp  # Slow to import, as below.

    _write(path, ocp.StandardCheckpointHandler(), ocp.args.StandardSave(tree), alone=True)


def restore(path: str | os.PathLike, like: Any = None) -> Any:
    """Reads what `save` wrote.

    Args:
      path: the folder.
      like: pytree of arrays or `jax.ShapeDtypeStruct`, the structure to restore. None for nested
        dicts with string keys.

    Raises:
      OSError: if it cannot be read.
    """
    import orbax.checkpoint as ocp

    with _reading(path) as (checkpointer, place):
        return checkpointer.restore(place, args=ocp.args.StandardRestore(like))


def shapes(path: str | os.PathLike) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shapes of the arrays that `save` wrote, by the names on the way to them.

    No array is read.

    Args:
      path: the folder.

    Raises:
      OSError: if it cannot be read.
    """
    with _reading(path) as (checkpointer, place):
        found = checkpointer.metadata(place).item_metadata.tree
    return {names: tuple(leaf.shape) for names, leaf in by_names(found).items()}


@contextlib.contextmanager
def _reading(path):
    """One of orbax's, and the whole path; an OSError says what could not be read."""
    import orbax.checkpoint as ocp

    place = pathlib.Path(path).absolute()
    if not place.is_dir():
        raise FileNotFoundError(
            f'there is no folder {place}: the arrays in it belong to the run, so bring it back '
            'from a copy of the run'
        )
    try:
        with _checkpointer(ocp.StandardCheckpointHandler(), alone=True) as checkpointer:
            yield checkpointer, place
    except Exception as error:  # Damaged files have many names between here and orbax.
        raise OSError(
            f'cannot read the arrays in {place} ({_sentence(error)}): bring the folder back from a '
            'copy of the run'
        ) from error


def add(series: str | os.PathLike, step: int, tree: Any, record: Any) -> None:
    """Adds a checkpoint to a series, and drops all but the last of those before it.

    Args:
      series: the folder.
      step: its number, above those that are there.
      tree: pytree of arrays, random keys among them.
      record: JSON types.

    Raises:
      ValueError: if the series has a checkpoint of that step.
      OSError: if it cannot be written; those before it stand.
    """
    import orbax.checkpoint as ocp

    series = pathlib.Path(series)
    arrays = _arrays(tree)
    about = {'checksum': _checksum(arrays, record), 'record': record}
    if parallel.is_first():
        _clear(series, _members(series))
    items = {_ARRAYS: ocp.args.StandardSave(arrays), _RECORD: ocp.args.JsonSave(about)}
    _write(
        series / str(step),
        ocp.CompositeCheckpointHandler(),
        ocp.args.Composite(**items),
        alone=False,
    )
    if parallel.is_first():
        _clear(series, _members(series)[-KEPT:])


def newest(series: str | os.PathLike, like: Callable[[Any], Any]) -> Checkpoint | None:
    """The newest checkpoint of a series that is whole, or None if there is none.

    One that is damaged is set aside, with a warning, and the one before it taken.

    Args:
      series: the folder.
      like: record -> pytree of arrays or `jax.ShapeDtypeStruct`, what is to be read. Its
        ValueError says that the record is of something else, which counts as damage.

    Raises:
      OSError: if one that is damaged cannot be set aside. Whatever reading it raises is caught, a
        ValueError of `like` as well.
    """
    steps = parallel.first_says(lambda: [step for step, _ in _members(pathlib.Path(series))])
    for step in reversed(steps):
        path = pathlib.Path(series) / str(step)
        try:
            found, error = Checkpoint(step, *_read(path, like)), None
        except Exception as caught:  # Whatever orbax meets in a damaged file.
            found, error = None, caught
        (damaged,) = parallel.any_process(found is None)
        if not damaged:
            return found
        if parallel.is_first():
            _set_aside(path, error)
    return None


def _clear(series, members):
    """Removes from a series what is none of some members, such as halves that a crash left."""
    if not series.is_dir():
        return
    kept = [path for _, path in members]
    for path in series.iterdir():
        if path not in kept and not path.name.endswith(DAMAGED):
            shutil.rmtree(path, ignore_errors=True)


def _set_aside(path, error):
    aside = path.with_name(path.name + DAMAGED)
    logging.warning(
        'the checkpoint %s is damaged (%s): it is set aside as %s, and the one before it is used, '
        'if there is one',
        path,
        _sentence(error) if error else 'for another process',
        aside.name,
    )
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(path, aside)


def checksum(tree: Any) -> str:
    """A checksum of the arrays in a tree, eight hexadecimal digits.

    Args:
      tree: pytree of arrays.
    """
    total = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        name = f'{jax.tree_util.keystr(path)} {array.dtype} {np.shape(leaf)}'
        total = zlib.crc32(array, zlib.crc32(name.encode(), total))
    return f'{total:08x}'


@contextlib.contextmanager
def _checkpointer(handler, alone):
    """One of orbax's, for one thread at a time."""
    import orbax.checkpoint as ocp

    processes = _processes(alone)
    with _ORBAX, ocp.Checkpointer(handler, multiprocessing_options=processes) as checkpointer:
        yield checkpointer


def _write(path, handler, args, alone):
    path = pathlib.Path(path).absolute()
    if path.exists():
        raise ValueError(f'{path} exists already')
    try:
        with _checkpointer(handler, alone) as checkpointer:
            checkpointer.save(path, args=args)
    except jax.errors.JaxRuntimeError:  # Another process is lost.
        raise
    except Exception as error:  # Full disks have many names between here and the file.
        raise OSError(
            f'cannot write the checkpoint {path} ({_sentence(error)}): '
            'make room there, or choose another folder'
        ) from error


def _read(path, like):
    import orbax.checkpoint as ocp

    path = path.absolute()
    with _checkpointer(ocp.CompositeCheckpointHandler(), alone=True) as checkpointer:
        read = lambda **items: checkpointer.restore(path, args=ocp.args.Composite(**items))
        about = read(**{_RECORD: ocp.args.JsonRestore()})[_RECORD]
        leaves, structure = jax.tree.flatten(like(about['record']))
        wanted = _blanks(leaves)
        arrays = read(**{_ARRAYS: ocp.args.StandardRestore(wanted)})[_ARRAYS]
    if _checksum(arrays, about['record']) != about['checksum']:
        raise ValueError('its checksum is another')
    for name, array in arrays.items():
        if (array.shape, array.dtype) != (wanted[name].shape, wanted[name].dtype):
            raise ValueError(f'it holds an array {array.dtype}{list(array.shape)} of another model')
    found = [
        jax.random.wrap_key_data(arrays[str(n)], impl=jax.random.key_impl(leaf))
        if _is_key(leaf)
        else arrays.get(str(n), leaf)
        for n, leaf in enumerate(leaves)
    ]
    return structure.unflatten(found), about['record']


def _checksum(arrays, record):
    text = json.dumps(record, sort_keys=True).encode()
    return checksum([arrays, np.frombuffer(text, np.uint8)])


def _arrays(tree):
    """The leaves of a tree by their number, keys as data; orbax refuses empty ones."""
    leaves = [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(tree)]
    return {str(n): np.asarray(leaf) for n, leaf in enumerate(leaves) if np.size(leaf)}


def _blanks(leaves):
    """Empty arrays of the shapes and dtypes that `_arrays` gives: leaves may lie on other hosts."""
    shapes = [jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x for x in leaves]
    return {
        str(n): np.empty(np.shape(x), x.dtype) for n, x in enumerate(shapes) if math.prod(x.shape)
    }


def _is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _members(series):
    """(step, folder) of the checkpoints in a series, in order."""
    if not series.is_dir():
        return []
    return sorted((int(path.name), path) for path in series.iterdir() if path.name.isdigit())


def _processes(alone):
    """Whether this process writes and reads for itself, or all of them together."""
    import orbax.checkpoint as ocp

    if not alone or jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    this = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f'process{this}'
    )


def _sentence(error):
    """The beginning of an error, or its name."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
