"""Relations between tasks, from trained networks (Standley et al. 2020, Section 6)."""

import numpy as np

from tag_jax.selection.candidates import Candidates, check_same_networks


def pair_gains(candidates: Candidates) -> np.ndarray:
    """How much lower each task's loss is in a pair than alone (the paper's Table 2).

    Alone means the cheapest network of that task only: a pair of tasks in one network is compared
    with two networks of half its cost.

    Args:
      candidates: networks over T tasks, all networks of one and of two tasks among them. Of several
        networks of the same two tasks the first counts.

    Returns:
      `[T, T]` in percent, source task first: how much the target gains from training with the
      source. NaN on the diagonal, and where a network is missing.
    """
    num_tasks = len(candidates.task_names)
    sizes = candidates.members.sum(axis=1)
    alone = np.full(num_tasks, np.nan)
    gains = np.full((num_tasks, num_tasks), np.nan)
    order = np.argsort(candidates.costs, kind='stable')
    for n in order[sizes[order] == 1][::-1]:
        task = np.flatnonzero(candidates.members[n])[0]
        alone[task] = candidates.scores[n, task]
    for n in np.flatnonzero(sizes == 2)[::-1]:
        first, second = np.flatnonzero(candidates.members[n])
        gains[first, second] = candidates.scores[n, second]
        gains[second, first] = candidates.scores[n, first]
    return 100 * (1 - gains / np.where(alone == 0, np.nan, alone))


def mutual_gains(gains: np.ndarray) -> np.ndarray:
    """The mean of what two tasks gain from each other (the paper's Table 3), `[T, T]`.

    Args:
      gains: `[T, T]`, from `pair_gains`.
    """
    return (gains + gains.T) / 2


def correlation(first: Candidates, second: Candidates) -> float:
    """Pearson's r between two scores of the same networks, each a mean over the network's tasks.

    With early validation losses and final test losses it is the r of Section 3.3.1.

    Args:
      first, second: the same N networks with both scores.

    Raises:
      ValueError: if they are not the same networks.
    """
    check_same_networks('second', second, first)
    means = [np.nanmean(candidates.scores, axis=1) for candidates in (first, second)]
    return float(np.corrcoef(*means)[0, 1])
