"""Affinities over a training run: means, errors, and what they can and cannot tell apart.

Fifty et al. 2021, Section 4.1: affinities are averaged over the steps of training. Neighbouring
steps are alike and affinities drift while networks train, so errors come from means over blocks of
consecutive measurements.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tag_jax.problem import MultiTaskProblem
from tag_jax.tables import text_table

# The tasks that a printed summary shows, and the letters of their names above its columns.
_SHOWN_TASKS, _SHOWN_LETTERS = 8, 12


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

    def __repr__(self):
        tasks = ', '.join(self.task_names)
        return f'AffinityStatistics({_measurements(self.steps)} of {tasks}; summary(...) has means)'


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

    def __repr__(self):
        size, shown = len(self.task_names), min(len(self.task_names), _SHOWN_TASKS)
        unit = _unit(self.mean)
        scale = '' if unit == 1 else f', in units of {unit:.0e}'
        some = '' if shown == size else f' (the first {shown} of {size} tasks; .mean has all)'
        header = ['', *map(_shortened, self.task_names[:shown])]
        rows = [
            [
                self.task_names[n],
                *(_cell(self.mean[n, m], self.stderr[n, m], unit) for m in range(shown)),
            ]
            for n in range(shown)
        ]
        return (
            f'AffinitySummary({_measurements(self.steps)}): mean ± standard error{scale}{some}\n'
            f'{text_table(header, rows, rules=(), longest=math.inf)}\n'
            'rows: source tasks, whose step is taken; columns: target tasks, whose loss changes'
        )


def init(problem: MultiTaskProblem) -> AffinityStatistics:
    """Statistics without a measurement, for the tasks of a problem."""
    return AffinityStatistics(problem.task_names, (), ())


def update(statistics: AffinityStatistics, matrix: ArrayLike, step: int) -> AffinityStatistics:
    """The statistics with one more measurement.

    Does not wait for a matrix that is still being computed.

    Args:
      statistics: from `init` or `update`.
      matrix: `[T, T]`, from `inter_task_affinity`; entries that are not finite are no sample.
      step: the training step at which it was measured.

    Raises:
      ValueError: if the matrix is not `[T, T]`, or there is a measurement of that step already.
    """
    size = len(statistics.task_names)
    if np.shape(matrix) != (size, size):
        raise ValueError(
            f'an affinity matrix of {size} tasks is {size} x {size}, not {np.shape(matrix)}'
        )
    if int(step) in statistics.steps:
        raise ValueError(
            f'there are affinities of step {step} already: a loop that goes on from a checkpoint '
            'needs the statistics of that checkpoint'
        )
    return statistics._replace(
        steps=(*statistics.steps, int(step)), history=(*statistics.history, matrix)
    )


def window(
    found: AffinityStatistics | AffinitySummary, start: float, stop: float
) -> AffinityStatistics | AffinitySummary:
    """The measurements of a part of training.

    Args:
      found: of a whole run, from `update` or `summary`.
      start, stop: shares of the measurements, 0 <= start < stop <= 1: 0 and 0.25 for the first
        quarter.

    Returns:
      Of the kind that was given.

    Raises:
      ValueError: if they are not.
    """
    if not 0 <= start < stop <= 1:
        raise ValueError(f'a window has 0 <= start < stop <= 1, not {start} and {stop}')
    size = len(found.steps)
    kept = _taken(found, range(*(math.ceil(share * size - 1e-9) for share in (start, stop))))
    return kept if isinstance(found, AffinityStatistics) else summary(kept)


def summary(statistics: AffinityStatistics) -> AffinitySummary:
    """Mean, variance, standard error and count of every pair (Section 4.1, the average over steps).

    Every pair is averaged over the measurements in which it had a sample.

    Args:
      statistics: from `update`.
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


class Contrast(NamedTuple):
    """A difference between affinities.

    Attributes:
      value: of the difference between means.
      error: its standard error by batch means, as `AffinitySummary.stderr`; what the affinities in
        it have in common, such as the batches they were measured on, does not count. NaN below two
        blocks.
      degrees: degrees of freedom of the error.
    """

    value: float
    error: float
    degrees: int


def contrast(summary: AffinitySummary, weights: ArrayLike) -> Contrast:
    """A weighted sum of mean affinities, such as the best onto a task minus the worst.

    Args:
      summary: an `AffinitySummary`.
      weights: `[T, T]`; pairs with weight 0 do not take part.
    """
    weights = np.asarray(weights, np.float64)
    over = lambda matrices: np.where(weights != 0, weights * matrices, 0).sum(axis=(-2, -1))
    sampled = np.isfinite(summary.history)
    sums, counts = _blocks(np.where(sampled, summary.history, 0).astype(np.float64), sampled)
    blocks = over(_divide(sums, counts))
    known = int(np.isfinite(blocks).sum())
    error = _batch_means_error(blocks, np.isfinite(blocks).astype(int))
    # Differences of neighbours know two thirds of what independent blocks would.
    return Contrast(float(over(summary.mean)), float(error), max(1, 2 * (known - 1) // 3))


def margin(affinity: ArrayLike, normalized: bool = False) -> np.ndarray:
    """How far apart the affinities onto each task are: the largest minus the smallest, `[T]`.

    Where it is small, it matters little which tasks the task trains with, as far as affinities can
    tell. Table 13 of Fifty et al. 2021 has it normalised, and does not say how; in units of the
    median size of affinities their published matrix gives that table to 0.012.

    Args:
      affinity: `[T, T]`, source task first. A task's effect on itself does not count, nor does NaN.
      normalized: whether it is in units of the median size of all affinities between two tasks.

    Returns:
      `[T]`, NaN where no other task has an affinity onto the task.
    """
    found = _extremes(affinity)[0]
    if not normalized:
        return found
    sizes = np.abs(np.asarray(affinity, float))[~np.eye(len(found), dtype=bool)]
    middle = np.median(sizes[np.isfinite(sizes)]) if np.isfinite(sizes).any() else np.nan
    return found / middle if middle > 0 else np.full(len(found), np.nan)


def indistinct(summary: AffinitySummary, chance: float = 0.05) -> tuple[str, ...]:
    """The tasks onto which affinities cannot be told apart.

    Onto such a task the difference between the best and the worst affinity is one that chance makes
    in more than a share `chance` of cases, also counting that they are the best and the worst of
    many (Bonferroni, over the pairs of sources).

    Args:
      summary: an `AffinitySummary`.
      chance: the share.

    Returns:
      The names of such tasks, among those with two affinities onto them or more and a known error.
    """
    from scipy import special  # Slow to import.

    spreads, best, worst = _extremes(summary.mean)
    others = np.isfinite(summary.mean) & ~np.eye(len(spreads), dtype=bool)
    found = []
    for task, sources in enumerate(others.sum(axis=0)):
        if sources < 2:
            continue
        weights = np.zeros_like(summary.mean)
        weights[best[task], task] += 1
        weights[worst[task], task] -= 1
        difference = contrast(summary, weights)
        pairs = sources * (sources - 1) / 2
        least = special.stdtrit(difference.degrees, 1 - chance / 2 / pairs) * difference.error
        if spreads[task] <= least:
            found.append(summary.task_names[task])
    return tuple(found)


def rarely_together(summary: AffinitySummary, share: float = 0.1) -> tuple[tuple[str, str], ...]:
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


def dominant(
    summary: AffinitySummary, with_diagonal: bool = False, times: float = 1.0
) -> tuple[int, ...]:
    """The steps at which a few measurements decide a mean by themselves.

    Of the measurements of a pair at most a twentieth, or one, each further from their median than
    all that are nearer put together: a batch on which training nearly broke does that, and is no
    noise to be averaged away.

    Args:
      summary: an `AffinitySummary`; pairs with fewer than ten samples are left out.
      with_diagonal: whether the effects of tasks on themselves count.
      times: how many times as far as the nearer ones together a measurement has to be.
    """
    history = summary.history.astype(np.float64)
    counted = (summary.count >= 10) & (with_diagonal | ~np.eye(len(summary.mean), dtype=bool))
    history = history[:, counted]  # [N, pairs]
    if not history.size:
        return ()
    distance = np.nan_to_num(np.abs(history - np.nanmedian(history, axis=0)))
    nearest = np.sort(distance, axis=0)
    nearer = np.cumsum(nearest, axis=0) - nearest
    last = len(history) - np.maximum(1, summary.count[counted] // 20)
    alone = (nearest > times * nearer) & (np.arange(len(history))[:, None] >= last)
    least = np.where(alone, nearest, np.inf).min(axis=0)
    return tuple(summary.steps[(distance >= least).any(axis=1)].tolist())


def without(found: AffinitySummary, steps: Iterable[int]) -> AffinitySummary:
    """The summary of the measurements at all other steps.

    Args:
      found: from `summary`.
      steps: those whose measurements are left out.
    """
    return summary(_taken(found, np.flatnonzero(~np.isin(found.steps, list(steps)))))


def _taken(found, rows):
    """The statistics of some of the measurements."""
    steps, history = (tuple(entries[n] for n in rows) for entries in (found.steps, found.history))
    return AffinityStatistics(found.task_names, steps, history)


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


def _measurements(steps):
    """How many measurements there are, and at which steps."""
    count = len(steps)
    if not count:
        return 'no measurements'
    if count == 1:
        return f'1 measurement at step {steps[0]}'
    return f'{count} measurements at steps {steps[0]} to {steps[-1]}'


def _unit(mean):
    """The power of ten of the largest affinity between two tasks; 1 where none is known."""
    sizes = np.abs(mean[~np.eye(len(mean), dtype=bool)])
    largest = np.max(sizes[np.isfinite(sizes)], initial=0)
    return 10.0 ** math.floor(math.log10(largest)) if largest > 0 else 1.0


def _cell(mean, error, unit):
    """An affinity and its standard error, as far as they are known."""
    if not np.isfinite(mean):
        return 'no sample'
    return f'{mean / unit:.2f}' + (f'±{error / unit:.2f}' if np.isfinite(error) else '')


def _shortened(name):
    """A name above a column."""
    return name if len(name) <= _SHOWN_LETTERS else f'{name[: _SHOWN_LETTERS - 1]}…'
