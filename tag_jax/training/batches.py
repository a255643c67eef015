"""Which examples make the batch of each step, and the plan of a chunk of steps."""

import functools

import numpy as np

from tag_jax.training import slots
from tag_jax.training.capacity import MAX_SLOTS


def batch_rows(seed: int, step: int, batch_size: int, num_examples: int) -> np.ndarray:
    """The rows of the training split that make the batch of one step, int `[batch_size]`.

    Every epoch is a fresh permutation; examples beyond its last whole batch are left out.

    Args:
      seed: of the network.
      step: its number, from 0.
      batch_size: examples a step, at most `num_examples`.
      num_examples: in the training split.
    """
    per_epoch = num_examples // batch_size
    start = step % per_epoch * batch_size
    return _permutation(seed, step // per_epoch, num_examples)[start : start + batch_size]


@functools.lru_cache(maxsize=4 * MAX_SLOTS)
def _permutation(seed, epoch, num_examples):
    return np.random.default_rng((seed, epoch)).permutation(num_examples).astype(np.int32)


def schedule_of(runs, chunk, batch_size, sizes, config):
    """The plan of all slots for the next chunk; empty slots look at the batches of one that is not.

    Args:
      sizes: the numbers of examples in the training split, and in the validation split where
        affinities are compared there.
    """
    some = next(run for run in runs if run is not None)
    steps = np.array([(run or some).step for run in runs]) + np.arange(chunk)[:, None]
    seeds = [(run or some).plan.seed for run in runs]
    rows = [
        np.array(
            [
                [
                    batch_rows(*slot, min(batch_size, size), size)
                    for slot in zip(seeds, now, strict=True)
                ]
                for now in steps.tolist()
            ]
        )
        for size in sizes
    ]
    live = (steps < config.steps) & np.array([run is not None for run in runs])
    asked = np.array([run is not None and run.plan.measures_affinity for run in runs])
    measured = live & asked & config.measures_at(steps)
    validation_rows = rows[1] if len(rows) > 1 else None
    return slots.Schedule(rows[0], validation_rows, live, measured.any(axis=1))
