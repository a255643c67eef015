"""Which examples make the batch of each step, and the plan of a chunk of steps."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from tag_jax.training import slots
from tag_jax.training.capacity import MAX_SLOTS
from tag_jax.training.config import check_sampling


def batch_rows(
    seed: int, step: int, batch_size: int, num_examples: int, rows: np.ndarray | None = None
) -> np.ndarray:
    """The rows of the training split that make the batch of one step, int `[batch_size]`.

    Every epoch is a fresh permutation; examples beyond its last whole batch are left out. Where
    there are fewer rows than a batch has, they come again.

    Args:
      seed: of the network.
      step: its number, from 0.
      batch_size: examples a step.
      num_examples: in the training split, at least `batch_size`.
      rows: the rows to draw from, integers `[M]`; None for all.
    """
    size = num_examples if rows is None else len(rows)
    if size < batch_size:
        times = -(-batch_size // size)
        epochs = range(step * times, (step + 1) * times)
        drawn = np.concatenate([_permutation(seed, epoch, size) for epoch in epochs])[:batch_size]
    else:
        per_epoch = size // batch_size
        start = step % per_epoch * batch_size
        drawn = _permutation(seed, step // per_epoch, size)[start : start + batch_size]
    return drawn if rows is None else rows[drawn].astype(np.int32)


@functools.lru_cache(maxsize=4 * MAX_SLOTS)
def _permutation(seed, epoch, num_examples):
    return np.random.default_rng((seed, epoch)).permutation(num_examples).astype(np.int32)


def task_quotas(counts: Sequence[int], sampling: str | float, size: int) -> tuple[int, ...]:
    """How many examples of an epoch are drawn for the sake of each task.

    With a temperature the shares of the tasks are as counts^(1 / temperature): Arivazhagan et al.
    2019, "Massively Multilingual Neural Machine Translation in the Wild", Section 4.2.

    Args:
      counts: the rows that have a label of each task, T positive integers.
      sampling: 'balanced' for as many each, or a temperature of at least 1: 1 for shares of the
        counts, the higher the more alike.
      size: examples of an epoch.

    Returns:
      T integers of at least 1, whose sum is `size` if that is large enough.

    Raises:
      ValueError: see `check_sampling`; if sampling is 'proportional', which draws for no task.
    """
    check_sampling(sampling)
    if sampling == 'proportional':
        raise ValueError("sampling='proportional' draws rows alike, and none for a task")
    power = 0.0 if sampling == 'balanced' else 1 / sampling
    weights = np.power(np.asarray(counts, np.float64), power)
    exact = weights / weights.sum() * size
    quotas = np.floor(exact).astype(int)
    # The largest remainders get what rounding left; of equal ones the first.
    left = size - quotas.sum()
    quotas[np.argsort(quotas - exact, kind='stable')[:left]] += 1
    return tuple(np.maximum(quotas, 1).tolist())


def rows_by_task(
    seed: int,
    step: int,
    batch_size: int,
    rows: np.ndarray,
    sizes: Sequence[int],
    quotas: Sequence[int],
) -> np.ndarray:
    """The rows that make the batch of one step, each drawn for the sake of a task.

    An epoch is a fresh permutation of the tasks, each as often as its quota. Every task goes
    through its own rows again and again, in a fresh permutation each time, so that all of them are
    drawn as often as each other, to within one. Nothing but seed and step is needed to know a
    batch, so training resumes at any step.

    Args:
      seed: of the network.
      step: its number, from 0.
      batch_size: examples a step.
      rows: the rows that have a label of the first task, then those of the second, and so on.
      sizes: how many each of the T tasks has.
      quotas: examples of an epoch that are drawn for each task, T positive integers.

    Returns:
      Integers `[batch_size]`.
    """
    epoch, first = sum(quotas), step * batch_size
    last = first + batch_size
    drawn = [
        _epoch_by_task(seed, number, tuple(quotas), tuple(sizes))[
            max(0, first - number * epoch) : last - number * epoch
        ]
        for number in range(first // epoch, -(-last // epoch))
    ]
    return rows[np.concatenate(drawn)].astype(np.int32)


@functools.lru_cache(maxsize=4 * MAX_SLOTS)
def _epoch_by_task(seed, number, quotas, sizes):
    """The places of the examples of an epoch, among the rows of all tasks one after another."""
    # (Keys of other lengths are of other streams; the last entry is not 0, which would not count.)
    tasks = np.repeat(np.arange(len(quotas)), quotas)
    tasks = np.random.default_rng((seed, number, 0, 1)).permutation(tasks)
    of_tasks, start = [], 0
    for task, (quota, size) in enumerate(zip(quotas, sizes, strict=True)):
        turns = np.arange(number * quota, (number + 1) * quota)
        passes = [
            np.random.default_rng((seed, one, task + 1)).permutation(size)
            for one in range(turns[0] // size, turns[-1] // size + 1)
        ]
        skipped = turns[0] // size * size
        of_tasks.append(start + np.concatenate(passes)[turns - skipped])
        start += size
    places = np.empty(len(tasks), np.int32)
    places[np.argsort(tasks, kind='stable')] = np.concatenate(of_tasks)
    return places


def sampler(
    tasks: Sequence[str],
    num_examples: int,
    labelled: Callable[[tuple[str, ...]], np.ndarray | None],
    sampling: str | float,
) -> Callable[[int, int, int], np.ndarray]:
    """The way in which a network draws its batches, `(seed, step, batch_size) -> rows`.

    Where tasks are drawn, a batch has rows of tasks as their quotas say, and labels that a row has
    of other tasks count as well. A network for one task, and one whose rows all have all labels,
    draws all of its rows alike, however tasks are sampled.

    Args:
      tasks: that the network trains.
      num_examples: of the split.
      labelled: tasks -> the rows that have a label of one of them; None for all.
      sampling: 'proportional' for all rows alike, else see `task_quotas`.
    """
    rows = labelled(tuple(tasks))
    of_tasks = [] if sampling == 'proportional' else [labelled((task,)) for task in tasks]
    if len(of_tasks) < 2 or all(own is None for own in of_tasks):
        return lambda seed, step, batch_size: batch_rows(seed, step, batch_size, num_examples, rows)
    pools = [np.arange(num_examples) if own is None else own for own in of_tasks]
    size = num_examples if rows is None else len(rows)
    sizes, together = [len(pool) for pool in pools], np.concatenate(pools)
    quotas = task_quotas(sizes, sampling, size)
    return lambda seed, step, batch_size: rows_by_task(
        seed, step, batch_size, together, sizes, quotas
    )


def schedule_of(runs, chunk, batch_size, sizes, config, labelled):
    """The plan of all slots for the next chunk; empty slots look at the batches of one that is not.

    Args:
      sizes: the numbers of examples in the training split, and in the validation split where
        affinities are compared there.
      labelled: for each of these splits, `tasks -> rows` that have a label of them; None for all.
    """
    some = next(run for run in runs if run is not None)
    steps = np.array([(run or some).step for run in runs]) + np.arange(chunk)[:, None]
    plans = [(run or some).plan for run in runs]
    rows = []
    for size, of_tasks in zip(sizes, labelled, strict=True):
        draws = [sampler(plan.tasks, size, of_tasks, config.sampling) for plan in plans]
        draw = lambda n, step, size=size, draws=draws: draws[n](
            plans[n].seed, step, min(batch_size, size)
        )
        rows.append(
            np.array([[draw(n, step) for n, step in enumerate(now)] for now in steps.tolist()])
        )
    live = (steps < config.steps) & np.array([run is not None for run in runs])
    asked = np.array([run is not None and run.plan.measures_affinity for run in runs])
    measured = live & asked & config.measures_at(steps)
    validation_rows = rows[1] if len(rows) > 1 else None
    return slots.Schedule(rows[0], validation_rows, live, measured.any(axis=1))
