"""Transfer affinities beside multi-task affinities (Standley et al. 2020, Figure 5)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tag_jax.report.trade_off import letters
from tag_jax.selection import Candidates, mutual_gains, pair_gains

TRANSFER = 'transfer.png'

_LEAST_PAIRS = 4  # Three that say something once one is left out.


class Transfer(NamedTuple):
    """How affinities of two kinds go together, over P pairs of tasks.

    Attributes:
      pairs: two task names each.
      transfer: `[P]`, how much one task helps the other where networks are trained one by one.
      multi_task: `[P]`, what both gain from training together, in percent (the paper's Table 3).
      outlier: index of the pair that lies farthest from the line through all others.
      without: (r, p) of Pearson's correlation without that pair.
      of_all: the same with it.
    """

    pairs: tuple[tuple[str, str], ...]
    transfer: np.ndarray
    multi_task: np.ndarray
    outlier: int
    without: tuple[float, float]
    of_all: tuple[float, float]


def compare_transfer(
    affinities: Mapping[tuple[str, str], float], candidates: Candidates
) -> Transfer:
    """Sets transfer affinities beside what the same pairs of tasks gain in one network.

    Args:
      affinities: `{(task, task): affinity}`.
      candidates: networks with the scores to count, every pair and every single task among them.

    Raises:
      ValueError: if a task is unknown, or fewer than four pairs have both affinities.
    """
    names = candidates.task_names
    for task in sorted({task for pair in affinities for task in pair} - set(names)):
        raise ValueError(f'there is no task {task!r} among the networks: {", ".join(names)}')
    gains = mutual_gains(pair_gains(candidates))
    found = {
        pair: (affinity, gains[names.index(pair[0]), names.index(pair[1])])
        for pair, affinity in affinities.items()
    }
    found = {pair: both for pair, both in found.items() if np.isfinite(both).all()}
    if len(found) < _LEAST_PAIRS:
        raise ValueError(
            f'transfer affinities need {_LEAST_PAIRS} pairs of tasks that were trained together '
            f'and alone, and there are {len(found)}'
        )
    from scipy import stats  # Slow to import.

    x, y = np.array(list(found.values()), float).T
    outlier = int(np.argmax([_distance(x, y, n) for n in range(len(x))]))
    without = stats.pearsonr(np.delete(x, outlier), np.delete(y, outlier))
    return Transfer(tuple(found), x, y, outlier, tuple(without), tuple(stats.pearsonr(x, y)))


def transfer_sentence(found: Transfer) -> str:
    """Says how the two kinds of affinity correlate.

    Args:
      found: from `compare_transfer`.
    """
    (r, p), (of_all, p_of_all) = found.without, found.of_all
    return (
        f'Transfer affinity and multi-task affinity: r = {r:.2f} (p = {p:.2f}) over '
        f'{len(found.pairs) - 1} pairs, without {" and ".join(found.pairs[found.outlier])}; '
        f'r = {of_all:.2f} (p = {p_of_all:.2f}) with it'
    )


def transfer_figure(found: Transfer) -> Figure:
    """A point for each pair of tasks, and the line through all but the outlier.

    Args:
      found: from `compare_transfer`.
    """
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.add_subplot()
    kept = np.arange(len(found.pairs)) != found.outlier
    x, y = found.transfer, found.multi_task
    axes.axhline(0, color='0.8', linewidth=1)
    axes.scatter(x[kept], y[kept], color='#0072B2', zorder=3)
    axes.scatter(x[~kept], y[~kept], edgecolors='#0072B2', facecolors='white', zorder=3)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, np.polyval(np.polyfit(x[kept], y[kept], 1), ends), color='0.5', linestyle='--')
    names = list(dict.fromkeys(task for pair in found.pairs for task in pair))
    signs = dict(zip(names, letters(names), strict=True))
    for (first, second), *point in zip(found.pairs, x, y, strict=True):
        axes.annotate(
            signs[first] + signs[second],
            point,
            xytext=(0, 6),
            textcoords='offset points',
            ha='center',
            fontsize=9,
        )
    key = ', '.join(f'{sign}: {task.replace("_", " ")}' for task, sign in signs.items())
    figure.supxlabel(key, fontsize=8)
    axes.margins(y=0.1)
    r, p = found.without
    axes.set_title(f'r = {r:.2f}, p = {p:.2f} (the hollow point left out)', fontsize=10)
    axes.set_xlabel('transfer affinity')
    axes.set_ylabel('multi-task affinity: mean gain of both tasks (%)')
    return figure


def _distance(x, y, n):
    """How far a point lies above or below the line through all others."""
    line = np.polyfit(np.delete(x, n), np.delete(y, n), 1)
    return abs(y[n] - np.polyval(line, x[n]))
