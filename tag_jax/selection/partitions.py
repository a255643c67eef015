"""The best partition of the tasks into served sets, each served by one network.

Every task is served by exactly one network, so a selection is a partition of the tasks into served
sets. Sets of tasks are bit masks, and an array over all of them has length 2^T. Networks of equal
cost form a class; for each class the gain of its best network for every served set is given. The
best partition is then a (max, +) subset convolution of these arrays, 3^T additions a network, where
the last two halves are joined at the full set only.
"""

import itertools

import numpy as np

# Up to so many values, which fit into a processor's cache, a convolution is done on all its halves
# at once; above it half by half.
_BATCHED_VALUES = 1 << 15


class Partitions:
    """Best partitions for any number of networks of each class; tables are made once.

    Args:
      best: `[C, 2^T]`, the gain of the best network of a class that serves a set, for every set.
        None above 0; -inf where there is none; 0 for the empty set, which needs no network.
    """

    def __init__(self, best):
        classes, sets = best.shape
        nothing = np.full(sets, -np.inf)
        nothing[0] = 0
        self._best = best
        self._tables = {(0,) * classes: nothing} | {
            tuple(row.tolist()): best[kind] for kind, row in enumerate(np.eye(classes, dtype=int))
        }

    def up_to(self, counts) -> np.ndarray:
        """The gain of the best partition of every set, `[2^T]`.

        Args:
          counts: tuple of C, how many networks of each class may be used at most.
        """
        if counts not in self._tables:
            self._tables[counts] = np.max(
                [
                    _with_another_set(self.up_to(_less(counts, kind)), self._best[kind])
                    for kind, count in enumerate(counts)
                    if count
                ],
                axis=0,
            )
        return self._tables[counts]

    def value(self, counts) -> float:
        """The gain of the best partition of all tasks."""
        half = _half(counts)
        return np.max(self.up_to(half) + self.up_to(_difference(counts, half))[::-1])

    def parts(self, counts, tasks=None) -> list[tuple[int, int]]:
        """The best partition of a set of tasks: (class, served set) of each network.

        Args:
          counts: how many networks of each class may be used at most.
          tasks: bit mask; None for all tasks.
        """
        tasks = self._best.shape[1] - 1 if tasks is None else tasks
        if not tasks:
            return []
        if sum(counts) == 1:
            return [(counts.index(1), tasks)]
        half = _half(counts)
        rest = _difference(counts, half)
        served = subsets(tasks)
        first = int(served[np.argmax(self.up_to(half)[served] + self.up_to(rest)[tasks ^ served])])
        return self.parts(half, first) + self.parts(rest, tasks ^ first)


def affordable_counts(costs, budget, most) -> list[tuple[int, ...]]:
    """How many networks of each class a budget can pay, cheapest first, then fewest networks.

    Args:
      costs: C costs, none negative.
      budget: what they may cost together.
      most: the largest number of networks that is of use.
    """
    counts = [()]
    for n in range(len(costs)):
        counts = [
            (*head, count)
            for head in counts
            for count in range(most + 1 - sum(head))
            if affordable(np.dot(costs[: n + 1], (*head, count)), budget)
        ]
    return sorted(counts, key=lambda count: (np.dot(costs, count), sum(count), count))


def affordable(cost, budget):
    """Whether a cost is within a budget, sums of rounded numbers included."""
    return cost <= with_rounding(budget)


def with_rounding(budget):
    """A budget, and what sums of rounded numbers may exceed it by."""
    return budget * (1 + 1e-9)


def subset_convolution(left, right) -> np.ndarray:
    """(max, +) subset convolution: max over U within S of left[U] + right[S minus U].

    Splits on the highest task: without it both parts must do without, with it either may have it.
    3^T additions.

    Args:
      left, right: `[2^T, M]`, sets as bit masks along the first axis, M independent problems.

    Returns:
      `[2^T, M]`.
    """
    if len(left) == 1:
        return left + right
    (left0, left1), (right0, right1) = _halves(left), _halves(right)
    if left.size > _BATCHED_VALUES:
        without = subset_convolution(left0, right0)
        on_left, on_right = subset_convolution(left1, right0), subset_convolution(left0, right1)
    else:
        together = subset_convolution(
            np.concatenate([left0, left1, left0], axis=1),
            np.concatenate([right0, right0, right1], axis=1),
        )
        size = left.shape[1]
        without, on_left = together[:, :size], together[:, size : 2 * size]
        on_right = together[:, 2 * size :]
    return np.concatenate([without, np.maximum(on_left, on_right)])


def members_of(masks, num_tasks) -> np.ndarray:
    """Which tasks are in each set, bool `[..., T]`."""
    return (np.asarray(masks)[..., None] >> np.arange(num_tasks) & 1).astype(bool)


def subsets(mask) -> np.ndarray:
    """All subsets of a bit mask, ascending."""
    found = np.zeros(1, np.int64)
    for task in range(mask.bit_length()):
        if mask >> task & 1:
            found = np.concatenate([found, found | 1 << task])
    return found


def _with_another_set(up_to, best):
    """(max, +) convolution where the highest task of every set belongs to the set that is added.

    Half the work of `subset_convolution`, of which it is a part: in a partition it does not matter
    which set comes last.
    """
    if len(best) == 1:
        return up_to + best
    (without, _), (best0, best1) = _halves(up_to), _halves(best)
    with_highest = subset_convolution(without[:, None], best1[:, None])[:, 0]
    return np.concatenate([_with_another_set(without, best0), with_highest])


def _halves(array):
    """An array over sets of tasks without and with the highest task."""
    return array[: len(array) // 2], array[len(array) // 2 :]


def _half(counts):
    """Half of some networks, the odd ones shared out evenly."""
    odd = itertools.cycle([1, 0])
    return tuple((count + (next(odd) if count % 2 else 0)) // 2 for count in counts)


def _difference(counts, others):
    return tuple(count - other for count, other in zip(counts, others, strict=True))


def _less(counts, kind):
    return (*counts[:kind], counts[kind] - 1, *counts[kind + 1 :])
