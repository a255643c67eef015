"""All groups of tasks that rules allow, and what pairwise affinities make them worth."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tag_jax.selection.candidates import LARGEST
from tag_jax.selection.labels import in_order_of, labels_of


class GroupScores:
    """The score of any group onto any task, relative to the best that the rules let the task have.

    A score is the mean affinity from the others in the group; or, with a curve, what the size of
    the group is worth plus the sum of these affinities.

    A constant added to all scores of one task changes no decision. With the best of them at 0 and
    the rest below, sums hold no cancellation, and a difference from rounding is one that is small
    beside the sums themselves.

    Args:
      affinity: `[T, T]`, source task first; its diagonal is not used.
      singleton_scores: `[T]`, the score of a task that trains alone; -inf where it may not.
      rules: `Rules`.
      curve: `[T + 1, T]`, what a group of each size is worth to each task beside the sum of
        affinities (row 0 is not used), with singleton scores in row 1; None where scores are means.

    Attributes:
      affinity, singleton_scores, curve: relative to the best score that a group could have onto
        each task; so that no group scores above 0.
      rules: as given.
      units: bool `[Q, T]`, the tasks that join or leave a group together.
      unit_of: `[T]`, the unit of each task.
      clashes: bool `[Q, T]`, the tasks that a unit may not train with.
      least: what a search takes a task for that no group serves: below any score.
    """

    def __init__(self, affinity, singleton_scores, rules, curve=None):
        num_tasks = len(affinity)
        own, tasks = np.eye(num_tasks, dtype=bool), np.arange(num_tasks)
        self.rules = rules
        linked = np.array([link >> tasks & 1 for link in rules.linked], bool)
        linked = linked.reshape(-1, num_tasks)
        self.units = np.concatenate([own[~linked.any(axis=0)], linked])
        self.unit_of = self.units.argmax(axis=0)
        apart = np.zeros((num_tasks, num_tasks), bool)
        for pair in rules.apart:
            first, second = np.flatnonzero(pair >> tasks & 1)
            apart[first, second] = apart[second, first] = True
        self.clashes = self.units @ apart @ self.units.T @ self.units
        clashes = self.clashes[self.unit_of]
        mates = self.units[self.unit_of] & ~own
        self.singleton_scores, self.curve = singleton_scores, curve
        best = self._reachable(np.where(own, 0, affinity), mates, clashes)
        self.singleton_scores = singleton_scores - best
        self.affinity = np.where(own, 0, affinity - best if curve is None else affinity)
        if curve is not None:
            self.curve = curve - best
        # No group holds tasks that clash: the lower, the tighter are bounds that overlook it.
        lowest = np.where(clashes, np.inf, self.affinity).min(axis=0)
        self.affinity = np.where(clashes, lowest, self.affinity)
        alone = 0.0 if curve is None else self.curve[1:].min()
        self.least = 4 * min(alone + self.affinity.min() * num_tasks, -1.0)

    def of(self, members) -> np.ndarray:
        """The score of groups onto every task.

        Args:
          members: bool `[..., T]`.

        Returns:
          `[..., T]`, -inf outside the group, and where the rules forbid its size.
        """
        sizes = members.sum(axis=-1, keepdims=True)
        return self.from_sums(members @ self.affinity, sizes, members)

    def from_sums(self, sums, sizes, members) -> np.ndarray:
        """The same from sums of affinities onto the tasks `[..., T]` and sizes `[..., 1]`."""
        fits = (sizes >= self.rules.smallest) & (sizes <= self.rules.largest)
        return np.where(members & fits, self.onto(sums, sizes), -np.inf)

    def onto(self, sums, sizes) -> np.ndarray:
        """Scores `[..., T]` from sums and sizes, as if every task were in the group."""
        if self.curve is None:
            return _mean_scores(sums, sizes, self.singleton_scores)
        return self.curve[np.minimum(sizes[..., 0], len(self.curve) - 1)] + sums

    def divisor(self, sizes) -> np.ndarray:
        """By what sums are divided in groups of these sizes."""
        return np.maximum(sizes - 1, 1) if self.curve is None else np.ones_like(sizes)

    def gain(self, members) -> float:
        """The gain of a selection of groups `[K, T]`, every task served by the best."""
        return float(self.of(members).max(axis=0).sum())

    def neighbours(self, members) -> np.ndarray:
        """Groups `[G, T]`, and the allowed groups that differ from one of them by a unit."""
        changed = (members[:, None] ^ self.units).reshape(-1, members.shape[1])
        changed = changed[self.rules.allow(changed)]
        return np.concatenate([members, changed[changed.any(axis=1)]])

    def _reachable(self, affinity, mates, clashes):
        """The best score `[T]` that any group could have onto each task.

        Args:
          affinity: `[T, T]`, source task first, its diagonal 0.
          mates, clashes: bool `[T, T]`, the tasks that a task trains with always, and never.
        """
        num_tasks = len(affinity)
        others = ~mates & ~clashes & ~np.eye(num_tasks, dtype=bool)
        helpers = np.sort(np.where(others, affinity, -np.inf), axis=0)[::-1]  # [rank, T]
        sums = np.concatenate([np.zeros((1, num_tasks)), np.cumsum(helpers, axis=0)])
        sums += np.where(mates, affinity, 0).sum(axis=0)
        sizes = 1 + mates.sum(axis=0) + np.arange(num_tasks + 1)[:, None]
        fits = (sizes >= self.rules.smallest) & (sizes <= self.rules.largest)
        if self.curve is None:
            scores = _mean_scores(sums, sizes, self.singleton_scores)
        else:
            scores = self.curve[np.minimum(sizes, num_tasks), np.arange(num_tasks)] + sums
        best = np.where(fits, scores, -np.inf).max(axis=0)
        return np.where(np.isfinite(best), best, 0.0)  # A task that no group may hold: no matter.


def scores_of(affinity, singleton_scores, members) -> np.ndarray:
    """The mean affinity onto each task from the others in its group.

    Args:
      affinity: `[T, T]`, source task first, its diagonal 0.
      singleton_scores: `[T]`, for groups of one task.
      members: bool `[G, T]`.

    Returns:
      `[G, T]`, -inf outside the group.
    """
    sizes = members.sum(axis=1, keepdims=True)
    return np.where(members, _mean_scores(members @ affinity, sizes, singleton_scores), -np.inf)


def _mean_scores(sums, sizes, singleton_scores):
    """Scores from sums of affinities onto the tasks `[..., T]` and group sizes `[..., 1]`."""
    return np.where(sizes == 1, singleton_scores, sums / np.maximum(sizes - 1, 1))


def members_of_groups(groups, num_tasks) -> np.ndarray:
    """Groups as tuples of tasks -> bool `[G, T]`."""
    members = np.zeros((len(groups), num_tasks), bool)
    for row, group in zip(members, groups, strict=True):
        row[list(group)] = True
    return members


def groups_of_members(members) -> tuple[tuple[int, ...], ...]:
    """Bool `[G, T]` -> groups as tuples of tasks, in ascending order."""
    return tuple(sorted(tuple(np.flatnonzero(row).tolist()) for row in members))


def as_numbers(name: str, values: ArrayLike) -> np.ndarray:
    """An array of float64. Raises ValueError if it is not one of real numbers."""
    try:
        array = np.asarray(values)
        if array.dtype.kind not in 'biufOV':
            raise TypeError
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f'{name} must be an array of numbers') from None


def checked_affinity(affinity: ArrayLike) -> np.ndarray:
    """Affinities `[T, T]` with a diagonal of 0. Raises ValueError if they will not do."""
    affinity = as_numbers('affinity', affinity)
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1]:
        raise ValueError(f'affinity must be a square matrix [T, T], not of shape {affinity.shape}')
    num_tasks = len(affinity)
    if not num_tasks:
        raise ValueError('an affinity matrix needs at least one task')
    affinity = np.where(np.eye(num_tasks, dtype=bool), 0, affinity)
    sound = np.abs(affinity) < LARGEST
    if not sound.all():
        source, target = np.argwhere(~sound)[0]
        raise ValueError(
            f'affinity[{source}, {target}] is {affinity[source, target]}: every pair of tasks '
            'needs a finite affinity'
        )
    return affinity


def named_affinity(
    affinity: Any, task_names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Affinities `[T, T]` with a diagonal of 0, and the names of the tasks.

    Rows of a data frame are put into the order of its columns. Where its rows have no names they
    stand in that order already.

    Args:
      affinity: an array, or a data frame of pandas.
      task_names: T names; None for those of the columns.

    Returns:
      The matrix, source task first; T names, or None where it has none.

    Raises:
      ValueError: if the matrix will not do, or its rows and columns have other names.
    """
    if isinstance(affinity, str | os.PathLike):
        raise ValueError(
            f'affinity is a name, {str(affinity)!r}, and no matrix: read the file with '
            'pandas.read_csv(file, index_col=0), or run tag-jax select --affinity=FILE'
        )
    shape = np.shape(affinity) if hasattr(affinity, 'columns') else ()
    columns = labels_of(affinity, 1)
    if len(shape) == 2 and shape[1] == shape[0] + 1 and labels_of(affinity, 0) is None:
        raise ValueError(
            f'affinity has {shape[0]} rows and {shape[1]} columns, and no names of rows: its first '
            'column seems to hold them; read it with pandas.read_csv(file, index_col=0)'
        )
    if columns is None and shape and labels_of(affinity, 0) is not None:
        columns = tuple(map(str, affinity.columns))
    rows = [str(row) for row in affinity.index] if hasattr(affinity, 'index') and shape else []
    if columns is not None and labels_of(affinity, 0) is None and set(rows) == set(columns):
        # Columns are numbered as rows are, in another order.
        affinity = np.asarray(affinity)[[rows.index(task) for task in columns]]
    matrix = checked_affinity(in_order_of('affinity', affinity, 0, columns))
    if task_names is None:
        return matrix, columns
    task_names = tuple(map(str, task_names))
    if len(set(task_names)) != len(matrix) or columns not in (None, task_names):
        raise ValueError(
            f'task_names are {", ".join(task_names)}: they must be {len(matrix)} different names, '
            'and those of the columns if these have names'
        )
    return matrix, task_names


def checked_singleton_scores(
    scores: ArrayLike | None, num_tasks: int, task_names: Sequence[str] | None = None
) -> np.ndarray:
    """`[T]`, -inf for tasks that never go alone. Raises ValueError if they will not do."""
    if scores is None:
        return np.full(num_tasks, 0.0 if num_tasks == 1 else -np.inf)
    if isinstance(scores, Mapping):
        scores = _listed(scores, task_names)
    scores = np.asarray(in_order_of('singleton_scores', scores, 0, task_names), np.float64)
    if scores.shape != (num_tasks,):
        raise ValueError(f'{num_tasks} tasks need {num_tasks} singleton scores, not {scores.shape}')
    sound = np.abs(scores) < LARGEST
    if not sound.all():
        raise ValueError(f'singleton_scores must be finite, but one is {scores[~sound][0]}')
    return scores


def _listed(scores, task_names):
    """Scores by name as a list in the order of the tasks."""
    if task_names is None or set(scores) != set(task_names):
        names = 'no names' if task_names is None else f'the names {", ".join(task_names)}'
        raise ValueError(
            f'singleton_scores name {", ".join(map(str, scores))}, and the tasks have {names}: '
            'name each task once'
        )
    return [scores[task] for task in task_names]
