"""A model that predicts the scores of every group of tasks from a few groups that were trained.

A model of errors that is additive in who trains with a task, with the size of the group as a
variable of its own: capacity is what affinities cannot see.
"""

from collections.abc import Iterable

import numpy as np

from tag_jax.selection.candidates import Candidates
from tag_jax.selection.predictors import all_groups, checked_groups, names_of

# Ratios of the variance of noise to the variance that is expected of a coefficient.
SIZE_RIDGE, PAIR_RIDGE = 3.0, 3.0


def additive_model(
    candidates: Candidates,
    groups: Iterable[Iterable[int]] | None = None,
    size_ridge: float = SIZE_RIDGE,
    pair_ridge: float = PAIR_RIDGE,
) -> Candidates:
    """Predicts the score of every group on every of its tasks.

    The score of task t in group S, with g = (|S| - 1) / (T - 1), is modelled as

        a_t + b g + c g^2 + s_t g + sum of w_jt over the other members j

    by ridge regression: levels a_t are free and the common effect b, c of size is nearly so, the
    own effects of size s_t and the effects w_jt of one task on another shrink to zero. So a handful
    of groups teaches levels and size, and more of them who helps whom.

    Args:
      candidates: trained networks over T tasks, several of the same group if need be.
      groups: sets of tasks to predict, as indices; None for all of them.
      size_ridge, pair_ridge: the variance of noise in scores over the variance expected of s_t and
        of w_jt.

    Returns:
      The groups with predicted scores, each at the mean cost of the candidates. Trained groups are
      predicted as well: their own scores are noisy.

    Raises:
      ValueError: if a task has no score, a ridge is negative, or there are too many groups.
    """
    if not min(size_ridge, pair_ridge) >= 0:
        raise ValueError('size_ridge and pair_ridge must be 0 or more')
    scored = np.isfinite(candidates.scores)
    for task in np.flatnonzero(~scored.any(axis=0)):
        name = candidates.task_names[task]
        raise ValueError(f'no network has a score on {name!r}: train a group with it')
    size = len(candidates.task_names)
    members = all_groups(size, min_size=1) if groups is None else checked_groups(groups, size, 1)
    features = _features(candidates.members, *np.nonzero(scored))
    ridge = np.concatenate(
        [
            np.zeros(size),
            np.full(2, 1e-3 * size_ridge),
            np.full(size, size_ridge),
            np.full(size * size, pair_ridge),
        ]
    )
    coefficients, *_ = np.linalg.lstsq(
        np.concatenate([features, np.diag(np.sqrt(ridge))]),
        np.concatenate([candidates.scores[scored], np.zeros(len(ridge))]),
    )
    scores = np.full(members.shape, np.nan)
    scores[members] = _features(members, *np.nonzero(members)) @ coefficients
    return Candidates(
        members,
        scores,
        np.full(len(members), candidates.costs.mean()),
        candidates.task_names,
        names_of(members, candidates.task_names),
    )


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
