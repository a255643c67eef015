"""Examples of a split, whether it is in memory or read when it is needed, on their way to a device.

A `data.Split` goes to the device once, whole. Of a `data.Source` the examples of the next steps go
there, in windows that are read ahead; what is computed with them sees rows of a `Batch` either way.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from tag_jax import parallel
from tag_jax.data import Source, Split
from tag_jax.data.overlaps import has_label
from tag_jax.problem import Batch, MultiTaskProblem

# What the examples of one window may take.
MAX_WINDOW_BYTES = 2**28
# How many examples of a source are looked at before training.
SAMPLE = 64


class Examples(NamedTuple):
    """A split, ready for computing.

    Attributes:
      problem: the `MultiTaskProblem` whose targets count.
      size: N, the number of examples.
      batch: all of them on the device, a `Batch`; None where they are read.
      source: the `data.Source` that they are read from; None where they are in memory.
      mesh: the devices on which they are to be, see `parallel`; None for one. Where it has those
        of several processes, all of them must do the same with it.
    """

    problem: Any
    size: int
    batch: Batch | None
    source: Any | None
    mesh: Any = None


def examples(
    problem: MultiTaskProblem, split: Split | Source, mesh: Mesh | None = None
) -> Examples:
    """A split, ready for computing: one in memory goes to the device, or to all of a mesh.

    Args:
      problem: the `MultiTaskProblem` whose targets count.
      split: a `tag_jax.data.Split`, anything with the same fields, or a `tag_jax.data.Source`.
      mesh: the devices on which it is to be, see `parallel`; None for one.
    """
    if in_memory(split):
        batch = parallel.place(mesh, as_batch(problem, split))
        return Examples(problem, count(split), batch, None, mesh)
    return Examples(problem, len(split), None, split, mesh)


def windows(
    found: Examples, rows_of_windows: Sequence[np.ndarray]
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Examples on the device for some arrays `[...]` of rows, one after another, read ahead.

    Where the mesh has devices of several processes, each of them reads its share of a window.

    Args:
      found: `Examples`.
      rows_of_windows: integers, arrays `[...]`; the same on all processes.

    Yields:
      (batch, rows): a `Batch`, and for each entry of an array its row in that batch.

    Raises:
      Exception: on all processes, where the source raises on one of them: see
        `parallel.each_says`.
      ValueError: if the shares of the processes differ in structure, shapes or dtypes.
    """
    if found.source is None:
        for rows in rows_of_windows:
            yield found.batch, rows
        return
    compact = [_distinct(rows) for rows in rows_of_windows]
    shares = [needed[parallel.share(found.mesh, len(needed))] for needed, _ in compact]
    read = found.source.batches(shares)
    for needed, rows in compact:
        share = _next_share(found, read)
        yield parallel.gather(found.mesh, share, len(needed)), rows


def steps_of_windows(found: Examples, steps: int, rows_a_step: int) -> int:
    """How many steps have their examples in one window: a divisor of `steps`.

    Args:
      found: `Examples`.
      steps: of a schedule.
      rows_a_step: examples that a step needs.
    """
    if found.source is None:
        return steps
    example = as_batch(found.problem, found.source.example())
    most = MAX_WINDOW_BYTES // max(1, rows_a_step * sum(x.nbytes for x in jax.tree.leaves(example)))
    return max(n for n in range(1, steps + 1) if steps % n == 0 and n <= max(1, most))


def in_memory(split: Split | Source | Batch) -> bool:
    """Whether a split is arrays, and not a `data.Source`.

    Args:
      split: see `examples`; or a `Batch`.
    """
    return hasattr(split, 'inputs')


def count(split: Split | Source | Batch) -> int:
    """How many examples a split or a batch has.

    Args:
      split: see `examples`; or a `Batch`.
    """
    return len(jax.tree.leaves(split.inputs)[0]) if in_memory(split) else len(split)


def first(split: Split | Source, size: int) -> Split | Source:
    """The first examples of a split, as one of its kind.

    Args:
      split: see `examples`.
      size: how many; all of them if there are no more.
    """
    if in_memory(split):
        return jax.tree.map(lambda x: x[:size], split)
    return dataclasses.replace(split, size=min(size, len(split)))


def in_parts(split: Split | Source, size: int) -> Iterator[Split]:
    """The examples of a split in order: all at once if they are in memory, else some at a time.

    Args:
      split: see `examples`.
      size: of a part that is read.

    Yields:
      `Split`s of arrays.
    """
    if in_memory(split):
        yield split
        return
    for start in range(0, len(split), size):
        yield split.read(range(start, min(start + size, len(split))))


def labelled_rows(found: Examples, tasks: Sequence[str]) -> np.ndarray | None:
    """The rows that have a label of one of some tasks.

    Args:
      found: `Examples`.
      tasks: their names.

    Returns:
      Integers `[M]`, ascending; None where all rows have one, or where that is not known.
    """
    if found.source is not None:
        labelled = getattr(found.source, 'labelled', None)
        return None if labelled is None else np.sort(labelled(tasks))
    masks = found.batch.mask or {}
    if any(task not in masks for task in tasks):
        return None
    known = np.zeros(found.size, bool)
    for task in tasks:
        known |= has_label(masks[task], found.size)
    return None if known.all() or not known.any() else np.flatnonzero(known)


def sample(split: Split | Source) -> Split:
    """A split of arrays for one that may be read: its first examples.

    Args:
      split: see `examples`; one of arrays is given back as it is.
    """
    return split if in_memory(split) else split.read(range(min(SAMPLE, len(split))))


def input_shapes(split: Split | Source) -> Any:
    """The inputs of all examples as `jax.ShapeDtypeStruct`s `[N, ...]`, in a pytree like them.

    Args:
      split: see `examples`.
    """
    if in_memory(split):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), split.inputs)
    one = split.example().inputs
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(split), *np.shape(x)), x.dtype), one)


def as_batch(problem: MultiTaskProblem, split: Split) -> Batch:
    """A split as a `Batch` of arrays, without targets and masks of tasks that are not trained.

    Args:
      problem: the `MultiTaskProblem` whose targets count.
      split: a `tag_jax.data.Split`, or anything with the same fields.
    """
    array = lambda x: x if isinstance(x, jax.Array) else np.asarray(x)
    tasks = problem.task_names
    masks = split.mask or {}
    mask = {task: array(masks[task]) for task in tasks if masks.get(task) is not None}
    targets = {task: array(split.targets[task]) for task in tasks}
    return Batch(jax.tree.map(array, split.inputs), targets, mask or None)


def _next_share(found, read):
    """The next share of a window, as a `Batch`: once all processes have one, and all are alike."""
    following = lambda: as_batch(found.problem, next(read))
    if not parallel.spans_processes(found.mesh):
        return following()
    share = parallel.on_all(following)
    said = parallel.each_says(lambda: _described(share))
    places = itertools.zip_longest(*said, fillvalue='nothing')
    if differing := {text for texts in places if len({*texts}) > 1 for text in texts}:
        raise ValueError(
            'processes have read examples that differ from each other in their masks, shapes or '
            f'dtypes ({" and ".join(sorted(differing))}): let the Source give the same for all'
        )
    return share


def _described(tree):
    """The structure, dtypes and shapes of a pytree of arrays, as text."""
    leaves, structure = jax.tree.flatten(tree)
    return [str(structure), *(f'{x.dtype}{list(x.shape)}' for x in leaves)]


def _distinct(rows):
    """(the rows to read, where each is among them): what several slots share is read once.

    Slots `[C, S, B]` share a batch where they are as far and have the same seed; so the number of
    rows to read is that of the steps, times some of the slots, and shapes seldom change.
    """
    rows = np.asarray(rows)
    if rows.ndim != 3:
        return rows.ravel(), np.arange(rows.size).reshape(rows.shape)
    steps, _, size = rows.shape
    streams, stream = np.unique(rows, axis=1, return_inverse=True)
    places = np.arange(math.prod(streams.shape)).reshape(steps, -1, size)
    return streams.ravel(), places[:, stream.ravel()]
