"""Which examples make the batch of each step, and the plan of a chunk of steps."""

import functools

import numpy as np

from tag_jax.training import slots
from tag_jax.training.capacity import MAX_SLOTS


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
        known = [of_tasks(plan.tasks) for plan in plans]
        draw = lambda n, step, size=size, known=known: batch_rows(
            plans[n].seed, step, min(batch_size, size), size, known[n]
        )
        rows.append(
            np.array([[draw(n, step) for n, step in enumerate(now)] for now in steps.tolist()])
        )
    live = (steps < config.steps) & np.array([run is not None for run in runs])
    asked = np.array([run is not None and run.plan.measures_affinity for run in runs])
    measured = live & asked & config.measures_at(steps)
    validation_rows = rows[1] if len(rows) > 1 else None
    return slots.Schedule(rows[0], validation_rows, live, measured.any(axis=1))
