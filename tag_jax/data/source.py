"""Examples that are decoded when they are asked for: datasets too large to sit in memory."""

import dataclasses
import operator
from collections.abc import Callable

import numpy as np

from tag_jax.data.dataset import Split


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Random access to decoded examples.

    `len(source)` is the number of examples, and `source[row]` one of them, decoded anew: a `Split`
    without the leading axis, whose mask may be None or lack tasks. To shard over processes, let
    each ask for rows of its own. Nothing is shuffled here: the order is that of the rows asked for.

    Attributes:
      decode: `row -> Split` of one example, for integers in [0, size). A pure function that threads
        may call at once.
      size: the number of examples.
    """

    decode: Callable[[int], Split]
    size: int

    def __len__(self):
        return self.size

    def __getitem__(self, row):
        row = operator.index(row)
        if not 0 <= row < self.size:
            raise IndexError(f'there is no example {row}: the source has {self.size}')
        return self.decode(row)

    def example(self):
        """One decoded example, for its shapes and dtypes."""
        return self[0]

    def read(self, rows):
        """The examples of some rows, as a `Split` of arrays with a leading axis.

        A task that has a mask in any of them has one: True where an example brings none.

        Args:
          rows: integers `[N]`, N > 0.

        Raises:
          IndexError: if there is no such row.
          ValueError: if there are no rows, or the examples differ in shape.
        """
        return _stack([self[row] for row in rows])

    def batches(self, rows_of_batches, workers=2):
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

    def in_memory(self):
        """All examples, as a `Split` of arrays."""
        return self.read(range(self.size))

    def only(self, tasks):
        """The same examples with some of the tasks."""
        return Source(lambda row: self.decode(row).only(tasks), self.size)


def _stack(examples):
    if not examples:
        raise ValueError('no rows to read')
    masks = [example.mask or {} for example in examples]
    mask = {}
    for task in examples[0].targets:
        if known := [part[task] for part in masks if part.get(task) is not None]:
            whole = np.ones(np.shape(known[0]), bool)
            mask[task] = np.stack([whole if m.get(task) is None else m[task] for m in masks])
    return Split(
        np.stack([example.inputs for example in examples]),
        {
            task: np.stack([example.targets[task] for example in examples])
            for task in examples[0].targets
        },
        mask or None,
    )
