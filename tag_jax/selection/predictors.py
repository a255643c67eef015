"""Candidate networks that were not trained: their scores are predicted from fewer measurements."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tag_jax.selection.candidates import Candidates
from tag_jax.selection.group_scores import (
    checked_singleton_scores,
    members_of_groups,
    named_affinity,
    scores_of,
)
from tag_jax.selection.partitions import members_of

# All groups of more tasks would not fit.
MAX_TASKS = 20


def all_groups(num_tasks: int, min_size: int = 1) -> np.ndarray:
    """All groups of at least so many tasks, small ones first, bool `[G, T]`.

    Args:
      num_tasks: T.
      min_size: the fewest tasks of a group.

    Raises:
      ValueError: if there are more than MAX_TASKS tasks.
    """
    if num_tasks > MAX_TASKS:
        raise ValueError(
            f'{num_tasks} tasks have 2^{num_tasks} groups, too many to list: name the groups that '
            f'are wanted (all of them for {MAX_TASKS} tasks at most)'
        )
    members = members_of(np.arange(1, 2**num_tasks), num_tasks)
    members = members[members.sum(axis=1) >= min_size]
    first_tasks = [members[:, task] for task in reversed(range(num_tasks))]
    return members[np.lexsort((*(~column for column in first_tasks), members.sum(axis=1)))]


def higher_order_approximation(
    candidates: Candidates, groups: Iterable[Iterable[int | str]] | None = None
) -> Candidates:
    """Predicts networks of three and more tasks from those of two (HOA).

    The score of a network onto a task is the mean of the scores that the task has in pairs with
    the other tasks of the network (Standley et al. 2020, Section 3.3.2).

    Args:
      candidates: trained networks over T tasks, with every pair of tasks among them. Networks of
        three tasks and more are left out: to this approximation they are not known. Of several
        networks of the same pair the first counts.
      groups: sets of three or more tasks to predict, by index or by name; by default all of them.

    Returns:
      The networks of one and two tasks as they are, then the predicted ones, each at the cost of a
      pair.

    Raises:
      ValueError: if a pair is missing or lacks a score, if pairs differ in cost, or if there are
        too many groups to list them all.
    """
    num_tasks = len(candidates.task_names)
    sizes = candidates.members.sum(axis=1)
    if not (sizes <= 2).any():
        raise ValueError('there is no network of one or two tasks to predict larger ones from')
    known = candidates.take(sizes <= 2)
    pairs = candidates.take(sizes == 2) if (sizes == 2).any() else None
    members = (
        all_groups(num_tasks, min_size=3)
        if groups is None
        else checked_groups(groups, candidates.task_names, min_size=3)
    )
    if not len(members):
        return known
    if pairs is None:
        raise ValueError('there is no network of two tasks to predict larger ones from')
    prices = np.unique(pairs.costs)
    if len(prices) > 1:
        raise ValueError(
            f'networks of two tasks cost {prices[0]:g} and {prices[-1]:g}: take those of one cost, '
            'which will be that of the predicted networks'
        )
    onto = _scores_in_pairs(pairs, members)
    together = members @ np.where(np.isnan(onto), 0, onto)
    scores = np.where(members, together / (members.sum(axis=1, keepdims=True) - 1), np.nan)
    return _extended(known, members, scores, prices[0])


def ratio_errors(predicted: Candidates, measured: Candidates) -> np.ndarray:
    """How far predicted scores of networks of three tasks and more are from the measured ones.

    The error of a prediction is the larger of the two scores by the smaller, minus 1. Its mean is
    the "average max ratio error" of Standley et al. 2020, Section 3.3.2.

    Args:
      predicted: such as `higher_order_approximation` gives.
      measured: networks over the same tasks; the one with the same tasks and cost is compared.

    Returns:
      `[P]`, one for each task of each network that is in both.

    Raises:
      ValueError: if the tasks differ, or a score is not positive.
    """
    if predicted.task_names != measured.task_names:
        raise ValueError('predicted and measured networks must be over the same tasks')
    places = {}
    for n, (members, cost) in enumerate(zip(measured.members, measured.costs, strict=True)):
        places.setdefault((members.tobytes(), float(cost)), n)
    errors = []
    for members, cost, scores in zip(
        predicted.members, predicted.costs, predicted.scores, strict=True
    ):
        place = places.get((members.tobytes(), float(cost)))
        if members.sum() < 3 or place is None:
            continue
        both = np.stack([scores, measured.scores[place]])
        both = both[:, np.isfinite(both).all(axis=0)]
        if (both <= 0).any():
            raise ValueError(
                f'ratios need positive scores, and {measured.network_names[place]!r} has '
                f'{both.min():g}'
            )
        errors.append(both.max(axis=0) / both.min(axis=0) - 1)
    return np.concatenate([np.zeros(0), *errors])


def affinity_candidates(
    affinity: ArrayLike,
    costs: ArrayLike = 1.0,
    singleton_scores: ArrayLike | None = None,
    task_names: Sequence[str] | None = None,
    groups: Iterable[Iterable[int | str]] | None = None,
) -> Candidates:
    """Candidates whose scores are mean affinities (Fifty et al. 2021, Section 4.2).

    For budgets that `select_groups` does not know: networks of different costs, say. Select with
    `maximize=True`.

    Args:
      affinity: `[T, T]`, source task first; the diagonal is not used. Rows of a data frame are put
        into the order of its columns.
      costs: of every network, or `[G]`.
      singleton_scores: `[T]`, the score of a task that trains alone; None to leave such networks
        out.
      task_names: T names; by default those of a data frame, or 'task 0', ...
      groups: the groups, by index or by name; by default all of them.

    Raises:
      ValueError: if the matrix is not square, its rows and columns have other names, or there are
        too many groups to list them all.
    """
    affinity, task_names = named_affinity(affinity, task_names)
    num_tasks = len(affinity)
    if task_names is None:
        task_names = [f'task {task}' for task in range(num_tasks)]
    members = (
        all_groups(num_tasks, min_size=1 if singleton_scores is not None else 2)
        if groups is None
        else checked_groups(groups, task_names, min_size=1)
    )
    if not len(members):
        raise ValueError('there is no group of two tasks: give singleton_scores')
    scores = scores_of(
        affinity, checked_singleton_scores(singleton_scores, num_tasks, task_names), members
    )
    return Candidates(
        members,
        np.where(np.isfinite(scores), scores, np.nan),
        np.broadcast_to(np.asarray(costs, np.float64), len(members)),
        tuple(task_names),
        names_of(members, task_names),
    )


def _scores_in_pairs(pairs, members):
    """`[T, T]`: the score of the second task in a network with the first, for the pairs needed."""
    names = pairs.task_names
    onto = np.full((len(names), len(names)), np.nan)
    for row, scores in zip(pairs.members[::-1], pairs.scores[::-1], strict=True):
        first, second = np.flatnonzero(row)
        onto[first, second], onto[second, first] = scores[second], scores[first]
    needed = (members.T.astype(int) @ members > 0) & ~np.eye(len(names), dtype=bool)
    for first, second in np.argwhere(needed & np.isnan(onto)):
        raise ValueError(
            f'no network of {names[first]!r} and {names[second]!r} alone has a score on '
            f'{names[second]!r}: every pair of tasks is needed'
        )
    return onto


def checked_groups(
    groups: Iterable[Iterable[int | str]], task_names: Sequence[str], min_size: int
) -> np.ndarray:
    """Groups `[G, T]` of known tasks, from indices or names."""
    num_tasks = len(task_names)
    groups = [_by_index(group, list(task_names)) for group in groups]
    for group in groups:
        known = all(isinstance(t, int | np.integer) and 0 <= t < num_tasks for t in group)
        if not known or len(set(group)) < min_size:
            raise ValueError(
                f'a group is {min_size} or more different tasks, by index below {num_tasks}, not '
                f'{group}'
            )
    return members_of_groups(groups, num_tasks)


def _by_index(group, task_names):
    """A group as a tuple, its names as indices."""
    if isinstance(group, str):
        raise ValueError(f'a group is a set of tasks, not the text {group!r}')
    for task in group:
        if isinstance(task, str) and task not in task_names:
            raise ValueError(f'a group names {task!r}, which is not among {", ".join(task_names)}')
    return tuple(task_names.index(task) if isinstance(task, str) else task for task in group)


def _extended(candidates, members, scores, cost):
    names = names_of(members, candidates.task_names)
    return Candidates(
        np.concatenate([candidates.members, members]),
        np.concatenate([candidates.scores, scores]),
        np.concatenate([candidates.costs, np.full(len(members), cost)]),
        candidates.task_names,
        (*candidates.network_names, *(f'{name} (predicted)' for name in names)),
    )


def names_of(members: np.ndarray, task_names: Sequence[str]) -> list[str]:
    """A name for each of some groups, bool `[G, T]`: its tasks, joined."""
    return [' + '.join(task_names[t] for t in np.flatnonzero(row)) for row in members]
