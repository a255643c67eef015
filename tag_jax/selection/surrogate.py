"""A model that predicts the scores of every group of tasks from a few groups that were trained.

A model of errors that is additive in who trains with a task, with the size of the group as a
variable of its own: capacity is what affinities cannot see.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.selection.candidates import Candidates
from tag_jax.selection.group_scores import GroupScores
from tag_jax.selection.groups import selected
from tag_jax.selection.predictors import all_groups, checked_groups, names_of
from tag_jax.selection.result import Selection
from tag_jax.selection.rules import rules_of

# Ratios of the variance of noise to the variance that is expected of a coefficient.
SIZE_RIDGE, PAIR_RIDGE = 3.0, 3.0
# The ridge of the common effects of size, in units of SIZE_RIDGE: they are nearly free.
_FREE = 1e-3


class AdditiveModel(NamedTuple):
    """A prediction of the scores of groups of tasks: who trains with whom, and how many they are.

    Attributes:
      task_names: T names.
      cost: of each group.
      levels: `[T]`, the score of a task alone.
      effects: `[T, T]`, source task first, what another member adds to the score of a task; the
        diagonal is 0.
      curvature: `[T]`, of the common effect of size, as a factor of g^2.
    """

    task_names: tuple[str, ...]
    cost: float
    levels: np.ndarray
    effects: np.ndarray
    curvature: np.ndarray

    def scores(self, members: np.ndarray) -> np.ndarray:
        """Predicted scores `[G, T]`, NaN outside the group.

        Args:
          members: bool `[G, T]`.
        """
        worth = self.levels_by_size()[members.sum(axis=1)]
        return np.where(members, worth + members @ self.effects, np.nan)

    def candidates(self, members: np.ndarray) -> Candidates:
        """Groups with their predicted scores.

        Args:
          members: bool `[G, T]`.
        """
        names = names_of(members, self.task_names)
        costs = np.full(len(members), self.cost)
        return Candidates(members, self.scores(members), costs, self.task_names, names)

    def levels_by_size(self) -> np.ndarray:
        """The score of a task in a group of each size but for the others' effects, `[T + 1, T]`."""
        size = len(self.levels)
        share = (np.arange(size + 1) - 1) / max(size - 1, 1)
        return self.levels + self.curvature * share[:, None] ** 2


def additive_model(
    candidates: Candidates,
    groups: Iterable[Iterable[int | str]] | None = None,
    size_ridge: float = SIZE_RIDGE,
    pair_ridge: float = PAIR_RIDGE,
) -> Candidates:
    """Predicts the score of every group on every of its tasks, see `fit_additive_model`.

    Args:
      candidates, size_ridge, pair_ridge: see `fit_additive_model`.
      groups: sets of tasks to predict, by index or by name; None for all of them.

    Returns:
      The groups with predicted scores, each at the mean cost of the candidates. Trained groups are
      predicted as well: their own scores are noisy.

    Raises:
      ValueError: if a task has no score, a ridge is negative, or there are too many groups.
    """
    size = len(candidates.task_names)
    members = (
        all_groups(size, min_size=1)
        if groups is None
        else checked_groups(groups, candidates.task_names, 1)
    )
    return fit_additive_model(candidates, size_ridge, pair_ridge).candidates(members)


def fit_additive_model(
    candidates: Candidates, size_ridge: float = SIZE_RIDGE, pair_ridge: float = PAIR_RIDGE
) -> AdditiveModel:
    """Fits a model of the scores of groups to some that were trained.

    The score of task t in group S, with g = (|S| - 1) / (T - 1), is modelled as

        a_t + b g + c g^2 + s_t g + sum of w_jt over the other members j

    by ridge regression: levels a_t are free and the common effect b, c of size is nearly so, the
    own effects of size s_t and the effects w_jt of one task on another shrink to zero. So a handful
    of groups teaches levels and size, and more of them who helps whom. Effects of size that are
    linear in it are shared out to the other members, since g counts them.

    A task whose scores are all 0, as those that are left out of totals, is 0 in every group, and
    teaches nothing of the others.

    Args:
      candidates: trained networks over T tasks, several of the same group if need be.
      size_ridge, pair_ridge: the variance of noise in scores over the variance expected of s_t and
        of w_jt.

    Raises:
      ValueError: if a task has no score, or a ridge is negative.
    """
    if not min(size_ridge, pair_ridge) >= 0:
        raise ValueError('size_ridge and pair_ridge must be 0 or more')
    scored = np.isfinite(candidates.scores)
    for task in np.flatnonzero(~scored.any(axis=0)):
        name = candidates.task_names[task]
        raise ValueError(f'no network has a score on {name!r}: train a group with it')
    told = np.nan_to_num(candidates.scores).any(axis=0)
    scored, size = scored & told, len(candidates.task_names)
    solve = _by_tasks if min(size_ridge, pair_ridge) > 0 else _at_once
    levels, (slope, curvature), own, pairs = solve(candidates, scored, size_ridge, pair_ridge)
    effects = pairs + (slope + own) / max(size - 1, 1)
    np.fill_diagonal(effects, 0)
    levels, curvature = (np.where(told, values, 0) for values in (levels, curvature))
    effects[:, ~told] = 0
    return AdditiveModel(
        candidates.task_names, float(candidates.costs.mean()), levels, effects, curvature
    )


def select_additive(
    model: AdditiveModel,
    budget: int | Sequence[int],
    num_solutions: int = 1,
    *,
    seed: int = 0,
) -> Selection | Any:
    """Chooses at most `budget` groups with the lowest total of predicted scores, of all groups.

    As `select_groups` does: exact up to MAX_EXACT_TASKS tasks, beyond that by a search with a
    certified bound.

    Args:
      model: an `AdditiveModel` of scores that are to be low.
      budget, num_solutions, seed: see `select_groups`.

    Returns:
      A `Selection`, or several, see `select_groups`; their objectives are predicted scores.

    Raises:
      Infeasible: if the search found no groups that hold every task. It is a ValueError.
      ValueError: if a number is out of its range, or the groups do not fit into memory.
    """
    start = time.perf_counter()
    curve = -model.levels_by_size()
    groups = GroupScores(-model.effects, curve[1], rules_of(model.task_names), curve)
    found = selected(groups, lambda g: -model.scores(g), budget, num_solutions, seed, start)
    return _negated(found)


def _negated(found):
    """Selections of the lowest scores, from those of the highest negative ones."""
    if not isinstance(found, Selection):
        return tuple(map(_negated, found))
    return found._replace(objective=-found.objective, bound=-found.bound)


def _at_once(candidates, scored, size_ridge, pair_ridge):
    """Coefficients by least squares over all of them, which may have no ridge.

    Returns:
      Levels `[T]`, common effects of size `[2]`, own ones `[T]` and those of sources on targets
      `[T, T]`; of several solutions the smallest.
    """
    size = scored.shape[1]
    ridge = np.concatenate(
        [
            np.zeros(size),
            np.full(2, _FREE * size_ridge),
            np.full(size, size_ridge),
            np.full(size * size, pair_ridge),
        ]
    )
    features = _features(candidates.members, *np.nonzero(scored))
    rows = np.concatenate([features, np.diag(np.sqrt(ridge))])
    values = np.concatenate([candidates.scores[scored], np.zeros(len(ridge))])
    found, *_ = np.linalg.lstsq(rows, values)
    levels, common, own, pairs = np.split(found, np.cumsum([size, 2, size]).tolist())
    return levels, common, own, pairs.reshape(size, size).T


def _by_tasks(candidates, scored, size_ridge, pair_ridge):
    """The same, where nothing is without a ridge, in systems as large as a task has networks.

    Effects that shrink are as noise whose covariance follows from the ridges: levels and common
    effects come from least squares in which it is made white, then the others task by task.
    """
    size = scored.shape[1]
    share = (candidates.members.sum(axis=1) - 1) / max(size - 1, 1)
    rows, values, later = [], [], []
    for task in range(size):
        networks = np.flatnonzero(scored[:, task])
        g, others = share[networks], candidates.members[networks].astype(float)
        others[:, task] = 0
        covariance = np.eye(len(networks)) + np.outer(g, g) / size_ridge
        root = np.linalg.cholesky(covariance + others @ others.T / pair_ridge)
        free = np.zeros((len(networks), size + 2))
        free[:, task], free[:, -2], free[:, -1] = 1, g, g**2
        rows.append(np.linalg.solve(root, free))
        values.append(np.linalg.solve(root, candidates.scores[networks, task]))
        later.append((root, g, others))
    light = np.zeros((2, size + 2))
    light[:, -2:] = np.sqrt(_FREE * size_ridge) * np.eye(2)
    stacked = np.concatenate([*rows, light])
    free, *_ = np.linalg.lstsq(stacked, np.concatenate([*values, np.zeros(2)]))
    own, pairs = np.zeros(size), np.zeros((size, size))
    for task, (root, g, others) in enumerate(later):
        left = np.linalg.solve(root.T, values[task] - rows[task] @ free)
        own[task], pairs[:, task] = g @ left / size_ridge, others.T @ left / pair_ridge
    return free[:size], free[size:], own, pairs


def _features(members, networks, tasks):
    """The variables of the model for tasks in networks, `[E, 2 + 2 T + T T]`."""
    size, entries = members.shape[1], np.arange(len(tasks))
    groups = members[networks].astype(float)
    share = (groups.sum(axis=1) - 1) / max(size - 1, 1)
    groups[entries, tasks] = 0
    level = np.eye(size)[tasks]
    others = level[:, :, None] * groups[:, None, :]
    return np.concatenate(
        [
            level,
            share[:, None],
            share[:, None] ** 2,
            level * share[:, None],
            others.reshape(len(tasks), -1),
        ],
        axis=1,
    )
