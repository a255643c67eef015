"""Selections by trying them all: the oracle of the tests of selection."""

import itertools

import numpy as np


def group_gains(affinity, groups, singleton_scores=None):
    """The score of groups onto every task, straight from its definition, -inf outside the group."""
    size = len(affinity)
    gains = np.full((len(groups), size), -np.inf)
    for n, group in enumerate(groups):
        for task in group:
            others = [other for other in group if other != task]
            if others:
                gains[n, task] = sum(affinity[other][task] for other in others) / len(others)
            elif singleton_scores is not None:
                gains[n, task] = singleton_scores[task]
            elif size == 1:
                gains[n, task] = 0.0
    return gains


def all_groups(size, min_size=1, max_size=None, must_link=(), cannot_link=()):
    """Every group of tasks that keeps the rules."""
    found = []
    for count in range(min_size, (max_size or size) + 1):
        for group in itertools.combinations(range(size), count):
            tasks = set(group)
            linked = all(tasks >= set(link) or not tasks & set(link) for link in must_link)
            apart = all(len(tasks & set(link)) < 2 for link in cannot_link)
            if linked and apart:
                found.append(group)
    return found


def selections(gains, costs, budget, tolerance=0.0):
    """Every affordable set of networks that serves all tasks and needs all of its networks.

    Args:
      gains: `[N, T]`, -inf where a network cannot serve a task.
      costs: `[N]`.
      budget: a number.
      tolerance: a network is needed if it serves a task better than the others by more than this.

    Returns:
      `[(gain, networks)]`, best first.
    """
    gains, costs = np.asarray(gains), np.asarray(costs)
    found = []
    most = sum(np.cumsum(np.sort(costs)) <= budget + 1e-9 * abs(budget))
    for count in range(1, min(most, gains.shape[1]) + 1):
        sets = np.array(list(itertools.combinations(range(len(gains)), count)), int)
        sets = sets[costs[sets].sum(axis=1) <= budget + 1e-9 * abs(budget)]
        ordered = np.sort(gains[sets], axis=1)
        best = ordered[:, -1]
        second = ordered[:, -2] if count > 1 else np.full_like(best, -np.inf)
        covers = np.isfinite(best).all(axis=1)
        alone = (gains[sets] == best[:, None]) & (best - tolerance > second)[:, None]
        needed = alone.any(axis=2).all(axis=1)
        for n in np.flatnonzero(covers & needed):
            found.append((float(best[n].sum()), tuple(sets[n].tolist())))
    return sorted(found, key=lambda one: (-one[0], one[1]))
