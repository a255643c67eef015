"""Affinities over a training run: means, errors, and what they can and cannot tell apart.

Fifty et al. 2021, Section 4.1: affinities are averaged over the steps of training. Neighbouring
steps are alike and affinities drift while networks train, so errors come from means over blocks of
consecutive measurements.
"""

import math
from typing import Any, NamedTuple

import numpy as np


class AffinityStatistics(NamedTuple):
    """Affinities measured so far.

    Attributes:
      task_names: T names.
      steps: the training steps at which they were measured.
      history: a matrix `[T, T]` for each of them, NaN where a pair had no sample.
    """

    task_names: tuple[str, ...]
    steps: tuple[int, ...]
    history: tuple[Any, ...]


class AffinitySummary(NamedTuple):
    """Affinities over a training run; float64 unless said otherwise.

    Attributes:
      task_names: T names.
      mean: `[T, T]`, over the measurements in which the pair had a sample; NaN where it had none.
      variance: `[T, T]`, between measurements (divided by count - 1); NaN below two samples.
      stderr: `[T, T]`, of the mean, by batch means: the N measurements are averaged in about
        sqrt(N) blocks of consecutive ones, and the blocks taken as independent. Their variance
        comes from the differences of neighbouring blocks (von Neumann 1941), so that slow drift
        does not count as noise. NaN below two blocks.
      count: int `[T, T]`, the number of samples.
      history: `[N, T, T]` float32, every measurement; NaN where a pair had no sample.
      steps: int `[N]`, the training step of each.
    """

    task_names: tuple[str, ...]
    mean: np.ndarray
    variance: np.ndarray
    stderr: np.ndarray
    count: np.ndarray
    history: np.ndarray
    steps: np.ndarray


def init(problem) -> AffinityStatistics:
    """Statistics without a measurement, for the tasks of a problem."""
    return AffinityStatistics(problem.task_names, (), ())


def update(statistics, matrix, step) -> AffinityStatistics:
    """The statistics with one more measurement.

    Does not wait for a matrix that is still being computed.

    Args:
      statistics: from `init` or `update`.
      matrix: `[T, T]`, from `inter_task_affinity`; entries that are not finite are no sample.
      step: the training step at which it was measured.

    Raises:
      ValueError: if the matrix is not `[T, T]`.
    """
    size = len(statistics.task_names)
    if np.shape(matrix) != (size, size):
        raise ValueError(
            f'an affinity matrix of {size} tasks is {size} x {size}, not {np.shape(matrix)}'
        )
    return statistics._replace(
        steps=(*statistics.steps, int(step)), history=(*statistics.history, matrix)
    )


def window(statistics, start, stop) -> AffinityStatistics:
    """The statistics of a part of training.

    Args:
      statistics: of a whole run, from `update`.
      start, stop: shares of the measurements, 0 <= start < stop <= 1: 0 and 0.25 for the first
        quarter.

    Raises:
      ValueError: if they are not.
    """
    if not 0 <= start < stop <= 1:
        raise ValueError(f'a window has 0 <= start < stop <= 1, not {start} and {stop}')
    size = len(statistics.steps)
    part = slice(math.ceil(start * size - 1e-9), math.ceil(stop * size - 1e-9))
    return statistics._replace(steps=statistics.steps[part], history=statistics.history[part])


def summary(statistics) -> AffinitySummary:
    """Mean, variance, standard error and count of every pair (Section 4.1, the average over steps).

    Every pair is averaged over the measurements in which it had a sample.
    """
    history = _history(statistics)
    sampled = np.isfinite(history)
    samples = np.where(sampled, history, 0).astype(np.float64)
    count = sampled.sum(axis=0)
    mean = _divide(samples.sum(axis=0), count)
    deviations = np.where(sampled, samples - np.nan_to_num(mean), 0)
    return AffinitySummary(
        task_names=statistics.task_names,
        mean=mean,
        variance=_divide(np.square(deviations).sum(axis=0), count - 1),
        stderr=_batch_means_error(*_blocks(samples, sampled)),
        count=count,
        history=history,
        steps=np.asarray(statistics.steps, np.int64),
    )


def block_bootstrap(statistics, samples=1000, seed=0) -> np.ndarray:
    """Means as other runs might have given them: blocks of measurements drawn with replacement.

    Blocks of about sqrt(N) consecutive measurements keep the correlation between neighbours
    (Carlstein 1986). How often a comparison of affinities holds among the samples is how far it can
    be trusted.

    Args:
      statistics: from `update`, with N measurements.
      samples: how many means to draw.
      seed: of the draws.

    Returns:
      `[samples, T, T]`, NaN where a pair had no sample in the blocks that were drawn.
    """
    history = _history(statistics)
    sampled = np.isfinite(history)
    sums, counts = _blocks(np.where(sampled, history, 0).astype(np.float64), sampled)
    if not len(sums):
        return np.full((samples, *history.shape[1:]), np.nan)
    even = np.full(len(sums), 1 / len(sums))
    drawn = np.random.default_rng(seed).multinomial(len(sums), even, size=samples)
    over_blocks = lambda values: np.tensordot(drawn.astype(np.float64), values, axes=1)
    return _divide(over_blocks(sums), over_blocks(counts))


def margin(affinity) -> np.ndarray:
    """How far apart the affinities onto each task are: the largest minus the smallest, `[T]`.

    The column of Table 13 of Fifty et al. 2021 is this divided by a constant. Where it is small, it
    matters little which tasks the task trains with, as far as affinities can tell.

    Args:
      affinity: `[T, T]`, source task first. A task's effect on itself does not count, nor does NaN.

    Returns:
      `[T]`, NaN where no other task has an affinity onto the task.
    """
    return _extremes(affinity)[0]


def indistinct(summary, errors=2.0) -> tuple[str, ...]:
    """The tasks onto which affinities cannot be told apart.

    Args:
      summary: an `AffinitySummary`.
      errors: how many standard errors of the difference the best and the worst affinity onto a task
        have to be apart.

    Returns:
      The names of tasks for which they are not, though there are at least two affinities onto them.
    """
    spread, best, worst = _extremes(summary.mean)
    tasks = np.arange(len(spread))
    error = np.hypot(summary.stderr[best, tasks], summary.stderr[worst, tasks])
    several = np.isfinite(summary.mean).sum(axis=0) - np.isfinite(np.diagonal(summary.mean)) > 1
    close = several & ~(spread > errors * error)
    return tuple(task for task, near in zip(summary.task_names, close, strict=True) if near)


def rarely_together(summary, share=0.1) -> tuple[tuple[str, str], ...]:
    """The pairs of tasks that had a sample in fewer than a share of the measurements.

    Args:
      summary: an `AffinitySummary`.
      share: of the measurements.

    Returns:
      Pairs (source task, target task) of different tasks.
    """
    few = summary.count < share * len(summary.steps)
    return tuple(
        (summary.task_names[i], summary.task_names[j]) for i, j in np.argwhere(few) if i != j
    )


def _history(statistics):
    """All measurements, `[N, T, T]` float32, NaN where there is no sample."""
    size = len(statistics.task_names)
    matrices = [np.asarray(matrix, np.float32) for matrix in statistics.history]
    history = np.reshape(matrices, (-1, size, size)).astype(np.float32)
    return np.where(np.isfinite(history), history, np.float32(np.nan))


def _blocks(samples, sampled):
    """Sums and counts over about sqrt(N) blocks of consecutive measurements, `[K, T, T]`."""
    size = len(samples)
    starts = np.linspace(0, size, math.isqrt(size), endpoint=False).astype(int)
    if not size:
        return samples, sampled.astype(int)
    return np.add.reduceat(samples, starts), np.add.reduceat(sampled.astype(int), starts)


def _batch_means_error(sums, counts):
    """The standard error of the mean over all blocks, from differences between neighbours."""
    means = _divide(sums, counts)
    differences = means[1:] - means[:-1]
    known = np.isfinite(differences)
    squares = np.square(np.where(known, differences, 0)).sum(axis=0)
    variance = _divide(squares, 2 * known.sum(axis=0))
    return np.sqrt(_divide(variance, np.sum(counts > 0, axis=0)))


def _extremes(affinity):
    """Range of the affinities onto each task from others, and the sources of the ends, `[T]`."""
    others = np.array(affinity, np.float64)
    np.fill_diagonal(others, np.nan)
    known = np.isfinite(others)
    best = np.where(known, others, -np.inf).argmax(axis=0)
    worst = np.where(known, others, np.inf).argmin(axis=0)
    tasks = np.arange(len(others))
    return others[best, tasks] - others[worst, tasks], best, worst


def _divide(numerator, denominator):
    """The quotient, NaN where the denominator is not positive."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1), np.nan)
