"""Groups of tasks from pairwise affinities, exactly.

Every task is served by exactly one network, so a selection is a partition of the tasks into served
sets, each with the best network that serves it. Sets of tasks are bit masks, and an array over all
of them has length 2^T.

1. The best network for a served set U trains U and some helpers. With m helpers it is worth
   (sum within U + the m largest summed effects on U) / (|U| + m - 1), so sorting the effects of
   the other tasks on U once answers for every m.
2. The best partition into at most k served sets is a (max, +) subset convolution of that array
   with itself, about k / 2 times; the halves are joined at the full set only.
"""

import math
import operator
import time

import numpy as np

from tag_jax.selection.result import Selection

MAX_TASKS = 20

# Beyond this, sums of affinities could overflow.
_LARGEST = 1e300

# Below this many values a convolution is done on all its halves at once, above it half by half.
_BATCHED_VALUES = 1 << 21


def select_groups(affinity, budget, singleton_scores=None) -> Selection:
    """Chooses at most `budget` groups of tasks that maximise the affinity onto all tasks.

    The score of a group onto one of its tasks is the mean affinity onto that task from the others
    in the group (Fifty et al. 2021, Section 4.2). A task may be trained in several groups; it is
    served by the one with the best score onto it. The objective is the sum over tasks of the score
    from the group that serves them. Among selections that are equal but for rounding, one with the
    fewest groups is returned, and always the same one.

    Args:
      affinity: `[T, T]`, `affinity[i, j]` the effect of source task i on target task j. The
        diagonal is not used.
      budget: the number of networks that may be used, at least 1. More than T are never needed.
      singleton_scores: `[T]`, the score of a task that trains alone. None: a task never trains
        alone, except where there is only one, which then scores 0.

    Returns:
      A `Selection`, always optimal: `bound` equals `objective`.

    Raises:
      ValueError: if the matrix is not square or holds NaN or infinities, if there are no tasks or
        more than MAX_TASKS, if the budget is not an integer of at least 1, or if there are not T
        singleton scores.
    """
    start = time.perf_counter()
    affinity = _checked_affinity(affinity)
    num_tasks = len(affinity)
    singleton_scores = _checked_singleton_scores(singleton_scores, num_tasks)
    budget = min(_checked_budget(budget), num_tasks)

    relative = _relative_to_the_best(affinity, singleton_scores)
    served = _best_partition(best_network_scores(*relative), budget)
    groups = {best_network(*relative, tasks) for tasks in served}
    groups, servers = _serve(*relative, groups)
    objective = math.fsum(
        group_scores(affinity, groups[n], singleton_scores)[groups[n].index(task)]
        for task, n in enumerate(servers)
    )
    return Selection(
        groups=groups,
        serves=tuple(
            tuple(task for task in group if servers[task] == n) for n, group in enumerate(groups)
        ),
        objective=objective,
        bound=objective,
        optimal=True,
        networks=None,
        elapsed=time.perf_counter() - start,
    )


def group_scores(affinity, group, singleton_scores) -> np.ndarray:
    """The score of a group onto each of its tasks.

    Args:
      affinity: `[T, T]`, source task first.
      group: indices of G tasks.
      singleton_scores: `[T]`, used where the group is one task.

    Returns:
      `[G]`: for each task, the mean affinity onto it from the rest of the group.
    """
    group = list(group)
    if len(group) == 1:
        return singleton_scores[group]
    within = affinity[np.ix_(group, group)]
    return (within.sum(axis=0) - within.diagonal()) / (len(group) - 1)


def best_network_scores(affinity, singleton_scores) -> np.ndarray:
    """The score of the best network that serves U, for every set U of tasks, `[2^T]`.

    0 for the empty set, which needs no network.
    """
    num_tasks = len(affinity)
    inner, effects, sizes = _sums_over_sets(affinity)
    effects[_members(num_tasks)] = -np.inf
    effects.sort(axis=1)
    helped = np.cumsum(effects[:, ::-1], axis=1)
    best = np.full(2**num_tasks, -np.inf)
    with np.errstate(divide='ignore', invalid='ignore'):
        best[1:] = inner[1:] / (sizes[1:] - 1)
        best[1 << np.arange(num_tasks)] = singleton_scores
        for helpers in range(1, num_tasks):
            score = (inner[1:] + helped[1:, helpers - 1]) / (sizes[1:] + helpers - 1)
            np.maximum(best[1:], score, out=best[1:])
    best[0] = 0
    return best


def best_network(affinity, singleton_scores, served) -> tuple[int, ...]:
    """The tasks that the best network for a served set trains, with as few helpers as possible.

    Args:
      affinity: `[T, T]`, source task first.
      singleton_scores: `[T]`.
      served: bit mask of the tasks to serve.

    Returns:
      Indices of the tasks, ascending.
    """
    members = _indices(served, len(affinity))
    others = [task for task in range(len(affinity)) if task not in members]
    effects = affinity[np.ix_(others, members)].sum(axis=1)
    order = [others[n] for n in np.argsort(-effects, kind='stable')]
    candidates = [sorted(members + order[:helpers]) for helpers in range(len(others) + 1)]
    scores = np.array(
        [
            group_scores(affinity, group, singleton_scores)[np.isin(group, members)].sum()
            for group in candidates
        ]
    )
    return tuple(candidates[np.argmax(_as_good(scores, scores.max()))])


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
    (left0, left1), (right0, right1) = np.split(left, 2), np.split(right, 2)
    if left.size > _BATCHED_VALUES:
        without = subset_convolution(left0, right0)
        on_left, on_right = subset_convolution(left1, right0), subset_convolution(left0, right1)
    else:
        together = subset_convolution(
            np.concatenate([left0, left1, left0], axis=1),
            np.concatenate([right0, right0, right1], axis=1),
        )
        without, on_left, on_right = np.split(together, 3, axis=1)
    return np.concatenate([without, np.maximum(on_left, on_right)])


def _with_another_set(up_to, best):
    """(max, +) convolution where the highest task of every set belongs to the set that is added.

    Half the work of `subset_convolution`, of which it is a part: in a partition it does not matter
    which set comes last.
    """
    if len(best) == 1:
        return up_to + best
    (without, _), (best0, best1) = np.split(up_to, 2), np.split(best, 2)
    with_highest = subset_convolution(without[:, None], best1[:, None])[:, 0]
    return np.concatenate([_with_another_set(without, best0), with_highest])


def _best_partition(best, budget):
    """The partition of all tasks into at most `budget` served sets, as bit masks.

    Args:
      best: `[2^T]`, from `best_network_scores`, none above 0. Among partitions that are equal but
        for rounding one with the fewest sets is taken.
      budget: at least 1.
    """
    num_tasks = len(best).bit_length() - 1
    up_to = [
        np.full_like(best, -np.inf),
        best,
    ]  # the best with at most k served sets, for every set
    up_to[0][0] = 0
    values = []
    for count in range(1, budget + 1):
        more, fewer = (count + 1) // 2, count // 2
        if more == len(up_to):
            up_to.append(_with_another_set(up_to[-1], best))
        values.append(np.max(up_to[more] + up_to[fewer][::-1]))
        if values[-1] == 0:
            break

    def split(tasks, count):
        if count <= 1 or not tasks:
            return [tasks] if tasks else []
        more, fewer = (count + 1) // 2, count // 2
        parts = _subsets(tasks)
        first = int(parts[np.argmax(up_to[more][parts] + up_to[fewer][tasks ^ parts])])
        return split(first, more) + split(tasks ^ first, fewer)

    enough = np.argmax(_as_good(np.array(values), max(values))) + 1
    return split(2**num_tasks - 1, int(enough))


def _serve(affinity, singleton_scores, groups):
    """Lets the best group serve each task, and drops groups that serve none.

    Returns:
      The groups, ordered by the first task that they serve, and for each task its group's index.
    """
    groups = sorted(groups)
    scores = np.full((len(groups), len(affinity)), -np.inf)
    for n, group in enumerate(groups):
        scores[n, group] = group_scores(affinity, group, singleton_scores)
    servers = np.argmax(_as_good(scores, scores.max(axis=0)), axis=0).tolist()
    order = sorted(set(servers), key=servers.index)
    return tuple(groups[n] for n in order), [order.index(n) for n in servers]


def _relative_to_the_best(affinity, singleton_scores):
    """Affinities and singleton scores relative to the best that each task could have.

    A constant added to all scores of one task changes no decision. With the best of them at 0 and
    the rest below, sums hold no cancellation, and a difference from rounding is one that is small
    beside the sums themselves.
    """
    own = np.eye(len(affinity), dtype=bool)
    best = np.where(own, singleton_scores, affinity).max(axis=0)
    return np.where(own, 0, affinity - best), singleton_scores - best


def _as_good(scores, best):
    """Which scores, none above 0, equal the best of them but for rounding."""
    return scores >= best * (1 + 1e-13)


def _sums_over_sets(affinity):
    """For every set U of tasks: sum within U `[2^T]`, effects on U `[2^T, T]`, size `[2^T]`."""
    num_tasks = len(affinity)
    effects = np.zeros((2**num_tasks, num_tasks))
    for task in range(num_tasks):
        effects[2**task : 2 ** (task + 1)] = effects[: 2**task] + affinity[:, task]
    members = _members(num_tasks)
    inner = np.where(members, effects, 0).sum(axis=1)
    return inner, effects, members.sum(axis=1)


def _members(num_tasks):
    """Which tasks are in each set, bool `[2^T, T]`."""
    return (np.arange(2**num_tasks)[:, None] >> np.arange(num_tasks) & 1).astype(bool)


def _indices(mask, num_tasks):
    return [task for task in range(num_tasks) if mask >> task & 1]


def _subsets(mask):
    """All subsets of a bit mask, ascending."""
    subsets = np.zeros(1, np.int64)
    for task in _indices(mask, mask.bit_length()):
        subsets = np.concatenate([subsets, subsets | 1 << task])
    return subsets


def _checked_affinity(affinity):
    affinity = np.asarray(affinity, np.float64)
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1]:
        raise ValueError(f'affinity must be a square matrix [T, T], not of shape {affinity.shape}')
    num_tasks = len(affinity)
    if not 1 <= num_tasks <= MAX_TASKS:
        raise ValueError(f'select_groups takes 1 to {MAX_TASKS} tasks, not {num_tasks}')
    affinity = np.where(np.eye(num_tasks, dtype=bool), 0, affinity)
    sound = np.abs(affinity) < _LARGEST
    if not sound.all():
        source, target = np.argwhere(~sound)[0]
        raise ValueError(
            f'affinity[{source}, {target}] is {affinity[source, target]}: every pair of tasks '
            'needs a finite affinity'
        )
    return affinity


def _checked_singleton_scores(scores, num_tasks):
    if scores is None:
        return np.full(num_tasks, 0.0 if num_tasks == 1 else -np.inf)
    scores = np.asarray(scores, np.float64)
    if scores.shape != (num_tasks,):
        raise ValueError(f'{num_tasks} tasks need {num_tasks} singleton scores, not {scores.shape}')
    sound = np.abs(scores) < _LARGEST
    if not sound.all():
        raise ValueError(f'singleton_scores must be finite, but one is {scores[~sound][0]}')
    return scores


def _checked_budget(budget):
    try:
        budget = operator.index(budget)
    except TypeError:
        raise ValueError(f'budget must be an integer, not {budget!r}') from None
    if budget < 1:
        raise ValueError(f'budget must be at least 1, not {budget}')
    return budget
