"""Examples that are decoded when they are asked for: datasets too large to sit in memory."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax.data.dataset import Split


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Random access to decoded examples.

    `len(source)` is the number of examples, and `source[row]` one of them, decoded anew: a `Split`
    without the leading axis, whose mask may be None or lack tasks. To shard over processes, let
    each ask for rows of its own. Nothing is shuffled here: the order is that of the rows asked for.

    The three functions are pure, and threads may call them at once.

    Attributes:
      decode: `record -> Split` of one example, arrays and NumPy numbers. Where labels may be
        missing it should always give masks, lest batches differ in structure.
      size: the number of examples.
      fetch: `rows -> records` of a batch: its rows, a list of integers in [0, size), to what
        `decode` takes of each, in their order. By default a record is its row.
      finish: what is left to do, for several examples at once: a `Split` of what `decode` gives,
        stacked, to a `Split` of arrays with a leading axis. By default nothing.
      labelled: tasks -> the rows that have a label of one of them, integers `[M]`; None where that
        is not known, and networks draw from all rows.

    Threads that decode stand in each other's way at every small call, so what can be done for a
    batch at a time should be, by `fetch` before and by `finish` after.
    """

    decode: Callable[[Any], Split]
    size: int
    fetch: Callable[[list[int]], Sequence] = lambda rows: rows
    finish: Callable[[Split], Split] = lambda split: split
    labelled: Callable[[Sequence[str]], np.ndarray] | None = None

    def __len__(self):
        return self.size

    def __getitem__(self, row):
        split = self.read([row])
        return Split(*(_first(part) for part in split))

    def _row(self, row):
        row = operator.index(row)
        if not 0 <= row < self.size:
            raise IndexError(f'there is no example {row}: the source has {self.size}')
        return row

    def example(self) -> Split:
        """The first example, for its shapes and dtypes; it is decoded once."""
        return self._first

    @functools.cached_property
    def _first(self):
        return self[0]

    def read(self, rows: Sequence[int] | np.ndarray) -> Split:
        """The examples of some rows, as a `Split` of arrays with a leading axis.

        A task that has a mask in any of them has one: True where an example brings none.

        Args:
          rows: integers `[N]`, N > 0.

        Raises:
          IndexError: if there is no such row.
          ValueError: if there are no rows, `fetch` gives another number of records, or the examples
            differ in shape.
        """
        rows = [self._row(row) for row in rows]
        if not rows:
            raise ValueError('no rows to read')
        examples = [self.decode(record) for record in self.fetch(rows)]
        if len(examples) != len(rows):
            raise ValueError(f'fetch gives {len(examples)} records for {len(rows)} rows')
        return self.finish(_stack(rows, examples))

    def batches(self, rows_of_batches: Sequence | np.ndarray, workers: int = 2) -> Iterator[Split]:
        """Batches read ahead in threads (grain), in order.

        Batch n is `read(rows_of_batches[n])`, whatever the number of workers, so a run resumes by
        starting at another batch.

        Args:
          rows_of_batches: a sequence of integers `[B]`, one entry a batch: an array `[N, B]`, a
            list, or anything with a length and items by index.
          workers: threads that read a batch each; twice as many batches are held ready. 0 reads
            when a batch is asked for.

        Returns:
          An iterator of `Split`s of arrays.
        """
        import grain  # Slow to import.

        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
        batches = grain.MapDataset.source(rows_of_batches).map(self.read)
        return iter(batches.to_iter_dataset(options))

    def in_memory(self) -> Split:
        """All examples, as a `Split` of arrays."""
        return self.read(range(self.size))

    def only(self, tasks: Sequence[str]) -> 'Source':
        """The same examples with some of the tasks."""
        return dataclasses.replace(self, finish=lambda split: self.finish(split).only(tasks))


def _first(part):
    """The first example of arrays, which may be nested."""
    if isinstance(part, Mapping):
        return {name: _first(one) for name, one in part.items()}
    if isinstance(part, tuple | list):
        parts = [_first(one) for one in part]
        return type(part)(*parts) if hasattr(part, '_fields') else type(part)(parts)
    return None if part is None else part[0]


def _stack(rows, examples):
    """The examples of some rows as one `Split`, whose inputs may be nested."""
    for row, example in zip(rows, examples, strict=True):
        if len(example) != 3 or not isinstance(example[1], Mapping):
            raise ValueError(
                f'the example of row {row} must be a Split(inputs, targets, mask), targets a dict, '
                f'not {type(example).__name__}'
            )
        if example[1].keys() != examples[0][1].keys():
            raise ValueError(
                f'the example of row {row} has targets {", ".join(example[1])}, and that of row '
                f'{rows[0]} {", ".join(examples[0][1])}: every example needs all targets, behind a '
                'mask where there is no label'
            )
    inputs, targets, masks = zip(*examples, strict=True)
    mask = {}
    for task in targets[0]:
        parts = [known and known.get(task) for known in masks]
        if given := [part for part in parts if part is not None]:
            whole = np.ones_like(given[0], bool)
            parts = [whole if part is None else part for part in parts]
            mask[task] = _array(rows, f'mask of {task!r}', parts)
    targets = {
        task: _array(rows, f'target of {task!r}', [target[task] for target in targets])
        for task in targets[0]
    }
    return Split(_nested(rows, inputs), targets, mask or None)


def _nested(rows, inputs):
    """Inputs of one structure, which may be dicts, tuples or lists of arrays, stacked."""
    first = inputs[0]
    if isinstance(first, Mapping):
        for row, one in zip(rows, inputs, strict=True):
            if not isinstance(one, Mapping) or one.keys() != first.keys():
                raise ValueError(f'the inputs of row {row} are not those of row {rows[0]}')
        return {name: _nested(rows, [one[name] for one in inputs]) for name in first}
    if isinstance(first, tuple | list):
        for row, one in zip(rows, inputs, strict=True):
            if not isinstance(one, type(first)) or len(one) != len(first):
                raise ValueError(f'the inputs of row {row} are not those of row {rows[0]}')
        parts = [_nested(rows, part) for part in zip(*inputs, strict=True)]
        return type(first)(*parts) if hasattr(first, '_fields') else type(first)(parts)
    return _array(rows, 'inputs', inputs)


def _array(rows, what, values):
    """One array of several, which must have one shape."""
    first = np.shape(values[0])
    for row, value in zip(rows, values, strict=True):
        if isinstance(value, Mapping | tuple):
            raise ValueError(f'the {what} of row {row} are not those of row {rows[0]}')
        if value is None:
            raise ValueError(
                f'the {what} of row {row} is None: give any value, behind a mask that is false'
            )
        if np.shape(value) != first:
            raise ValueError(
                f'the {what} of row {row} has shape {list(np.shape(value))}, and that of row '
                f'{rows[0]} {list(first)}: fill them up to one shape'
            )
    # (Of numbers, np.array makes an array several times faster than np.stack.)
    return np.stack(values) if first else np.array(values)
