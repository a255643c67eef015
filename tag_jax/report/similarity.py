"""How alike tasks are by their affinities: a dendrogram, and the order of its leaves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tag_jax.report import styles
from tag_jax.report.figures import plain_text

DENDROGRAM = 'dendrogram.png'
_LEAST_TASKS = 3


def linkage(mean: np.ndarray) -> np.ndarray | None:
    """The merges of average linkage, nearest tasks first.

    The distance of two tasks is what their mutual affinity, the mean of both directions, lacks of
    the largest one.

    Args:
      mean: `[T, T]` affinities, source task first.

    Returns:
      `[T - 1, 4]` as `scipy.cluster.hierarchy.linkage` has it; None for fewer than three tasks,
      where an affinity is not known, or where all are the same.
    """
    mutual = (np.asarray(mean, float) + np.asarray(mean, float).T) / 2
    pairs = np.triu_indices(len(mutual), 1)
    known = mutual[pairs]
    if len(mutual) < _LEAST_TASKS or not np.isfinite(known).all() or np.ptp(known) == 0:
        return None
    from scipy.cluster import hierarchy  # Slow to import.

    return hierarchy.linkage(known.max() - known, 'average')


def leaves(mean: np.ndarray) -> list[int]:
    """The order of tasks in which those that are alike stand beside each other.

    Args:
      mean: `[T, T]` affinities, source task first.

    Returns:
      T indices: the leaves of the dendrogram; their own order where there is none.
    """
    merges = linkage(mean)
    if merges is None:
        return list(range(len(mean)))
    from scipy.cluster import hierarchy

    return hierarchy.leaves_list(merges).tolist()


def dendrogram_figure(mean: np.ndarray, task_names: Sequence[str]) -> Figure | None:
    """A dendrogram of the tasks: the nearer to the left two meet, the more they help each other.

    Args:
      mean: `[T, T]` affinities, source task first.
      task_names: T names.

    Returns:
      A figure, or None where `linkage` has none.
    """
    merges = linkage(mean)
    if merges is None:
        return None
    from scipy.cluster import hierarchy

    figure = Figure(figsize=(5.2, 0.3 * len(task_names) + 0.9), layout='constrained')
    axes = figure.add_subplot()
    hierarchy.dendrogram(
        merges,
        labels=[plain_text(name) for name in task_names],
        orientation='right',
        color_threshold=0,
        above_threshold_color=styles.light('text'),
        ax=axes,
    )
    axes.invert_yaxis()  # The first leaf on top, as rows of the matrix are.
    axes.set_xlim(-0.02 * merges[-1, 2], 1.02 * merges[-1, 2])
    axes.spines[['top', 'left', 'right']].set_visible(False)
    axes.spines['bottom'].set_color(styles.light('rule'))
    axes.tick_params(labelsize=9, length=0, labelcolor=styles.light('text'))
    axes.set_xticks([])
    axes.set_xlabel('tasks that meet on the left help each other most', fontsize=8)
    axes.xaxis.label.set_color(styles.light('muted'))
    return figure
