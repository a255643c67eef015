"""Datasets of other libraries: grain, PyTorch, TensorFlow Datasets, Hugging Face, tf.data."""

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax.data.dataset import Split
from tag_jax.data.source import Source

# JAX has these unless 64 bits are asked for.
_NARROW = {'float64': np.float32, 'int64': np.int32, 'uint64': np.uint32}


def from_records(
    records: Any,
    example: Callable[[Any], Split],
    labelled: Callable[[Sequence[str]], np.ndarray] | None = None,
) -> Source:
    """A `Source` of a dataset that has a length and gives records by their number.

    A grain `MapDataset`, a map-style PyTorch `Dataset`, a data source of TensorFlow Datasets, a
    Hugging Face dataset and a list are such. Several records are asked for at once where the
    dataset can do so (`__getitems__`). Threads ask for records at the same time.

    Args:
      records: the dataset.
      example: record -> `Split` of one example, without the leading axis. Tensors and numbers
        become NumPy arrays of at most 32 bits.
      labelled: see `Source`.

    Returns:
      A `Source` of as many examples.

    Raises:
      ValueError: if the dataset has no length or no end, or is asked for by names; when it is read,
        if a record is None, or `example` gives no `Split`.
    """
    size = _length(records)
    several = getattr(records, '__getitems__', None)

    def fetch(rows):
        found = [records[row] for row in rows] if several is None else several(rows)
        return list(zip(rows, found, strict=True))

    def decode(numbered):
        row, record = numbered
        if record is None:
            raise ValueError(
                f'the record {row} is None: leave filters out of the dataset, or list what they '
                'leave'
            )
        return _as_example(example(record))

    return Source(decode, size, fetch, labelled=labelled)


def from_stream(
    stream: Iterable, example: Callable[[Any], Split], most: int | None = None
) -> Split:
    """A `Split` of a dataset that can only be gone through: it is read once, into memory.

    A `tf.data.Dataset`, a PyTorch `IterableDataset`, a grain `IterDataset` and a generator are
    such.

    Args:
      stream: the dataset, an example a record: not batched, and with an end unless `most` is given.
      example: record -> `Split` of one example, see `from_records`.
      most: how many examples to read; None for all.

    Returns:
      A `Split` in memory.

    Raises:
      ValueError: if the dataset cannot be gone through or has no example, or `example` gives no
        `Split`.
    """
    if hasattr(stream, 'as_numpy_iterator'):
        stream = stream.as_numpy_iterator()
    try:
        records = iter(stream)
    except TypeError as error:
        raise ValueError(f'{type(stream).__name__} cannot be gone through') from error
    examples = [_as_example(example(record)) for record in itertools.islice(records, most)]
    if not examples:
        raise ValueError(f'{type(stream).__name__} has no example')
    return Source(lambda row: examples[row], len(examples)).in_memory()


def _length(records):
    """The number of records, or a sentence that says what to do where there is none."""
    kind = type(records).__name__
    if isinstance(records, Mapping):
        raise ValueError(f'{kind} is asked by names: give one of its parts')
    try:
        size = len(records)
    except TypeError as error:
        raise ValueError(
            f'{kind} has no length, so its records cannot be asked for by number: read it into '
            'memory with data.from_stream'
        ) from error
    if not hasattr(records, '__getitem__'):
        raise ValueError(
            f'{kind} does not give records by number: read it into memory with data.from_stream'
        )
    if size >= sys.maxsize:
        raise ValueError(f'{kind} has no end: leave repeat() out, training draws epochs by itself')
    if not size:
        raise ValueError(f'{kind} has no record')
    return size


def _as_example(given):
    """A `Split` of one example with NumPy arrays of at most 32 bits."""
    if not isinstance(given, tuple) or len(given) != 3:
        raise ValueError(
            'example must give a data.Split(inputs, {task: target}) of one record, not '
            f'{type(given).__name__}'
        )
    return Split(*map(_arrays, given))


def _arrays(part):
    """NumPy arrays of tensors and numbers that are nested in dicts, tuples and lists."""
    if part is None:
        return None
    if isinstance(part, Mapping):
        return {name: _arrays(one) for name, one in part.items()}
    if isinstance(part, tuple):
        parts = [_arrays(one) for one in part]
        return type(part)(*parts) if hasattr(part, '_fields') else tuple(parts)
    array = np.asarray(part)
    return array.astype(_NARROW.get(array.dtype.name, array.dtype), copy=False)
