"""Good selections of groups where there are too many to enumerate them.

Rounds of tabu search: many selections side by side, in each step the best change of one group by
one task, even if it loses, unless it undoes a recent one. After each round the best selection out
of all groups seen so far is found exactly, and the next round starts from changes of it.
"""

import numpy as np

from tag_jax.selection.bound import CLOSER_LOOK, closed, upper_bound
from tag_jax.selection.covers import best_covers
from tag_jax.selection.group_scores import groups_of_members

_FIRST, _LATER = 3, 15  # Rounds before and after the first try at a proof.
_STEPS = 80
# Scores that are looked at together: about so many, and at most (above 1 GB).
_VALUES, _MOST = 200_000, 20_000_000
_TENURE = (4, 12)
_COVER_NODES = 50


def search(groups, budget, num_solutions=1, seed=0):
    """Good selections, and what no other can gain more than.

    Args:
      groups: `GroupScores`, or what has its methods and attributes.
      budget: k, the number of groups.
      num_solutions: how many selections to find.
      seed: of the search.

    Returns:
      Selections, best first, each a tuple of tuples of tasks; none if none was found; and the
      bound, equal to the gain of the first where that is proven to be the best.
    """
    num_tasks = len(groups.affinity)
    if budget * num_tasks**2 > _MOST:
        raise ValueError(
            f'{budget} groups of {num_tasks} tasks do not fit into memory: groups x tasks x tasks '
            f'must be {_MOST:,} at most'
        )
    rng = np.random.default_rng(seed)
    pool, best = _improve(
        groups, budget, np.zeros((0, len(groups.affinity)), bool), None, _FIRST, rng
    )
    if best is None:
        return [], np.inf
    bound = upper_bound(groups, budget, best, pool)
    if not closed(bound, groups.gain(best)):
        pool, best = _improve(groups, budget, pool, best, _LATER, rng)
        bound = min(bound, upper_bound(groups, budget, best, pool, CLOSER_LOOK))
    if closed(bound, groups.gain(best)):
        bound = groups.gain(best)
    if num_solutions == 1:
        return [groups_of_members(best)], bound
    pool = np.unique(np.concatenate([pool, groups.neighbours(best)]), axis=0)
    regrets, known = -groups.of(pool), [_places(best, pool)]
    found = best_covers(regrets, np.ones(len(pool)), budget, num_solutions, known)
    return [groups_of_members(pool[list(networks)]) for _, networks in found.covers], bound


def _improve(groups, budget, pool, best, rounds, rng):
    """Rounds of tabu search, each followed by the best selection out of all groups seen.

    Args:
      groups: `GroupScores`.
      budget: k groups.
      pool: bool `[P, T]`, groups seen so far.
      best: bool `[K, T]`, the best selection so far; None if there is none.
      rounds: how many.
      rng: of the starts.

    Returns:
      pool and best.
    """
    for _ in range(rounds):
        gains, states = tabu_search(groups, _starts(groups, budget, best, rng), rng)
        states = list(states[np.isfinite(gains)])
        if best is not None:
            states.append(best)
        if not states:
            continue
        pool = np.unique(np.concatenate([pool, *states]), axis=0)
        pool = pool[pool.any(axis=1)]
        known = [_places(state, pool) for state in states]
        found = best_covers(
            -groups.of(pool), np.ones(len(pool)), budget, known=known, max_nodes=_COVER_NODES
        )
        best = pool[list(found.covers[0][1])]
    return pool, best


def _places(selection, pool):
    """The places of the groups of a selection in a pool."""
    return [
        int(np.flatnonzero((pool == group).all(axis=1))[0]) for group in selection if group.any()
    ]


def _starts(groups, budget, best, rng):
    """Selections to start from, bool `[R, k, T]`: random ones, and changes of the best one."""
    num_units, num_tasks = groups.units.shape
    runs = int(np.clip(_VALUES / (budget * num_units * num_tasks), 1, 32))
    starts = [_random_selection(groups, budget, rng) for _ in range(runs)]
    if best is not None:
        for start in starts[::2]:
            start[:] = False
            start[: len(best)] = best
            for _ in range(rng.integers(2, 3 + budget * num_units // 8)):
                group = start[rng.integers(budget)]
                unit = rng.integers(num_units)
                if not (group & groups.clashes[unit]).any():
                    group ^= groups.units[unit]
    return np.stack(starts)


def tabu_search(groups, members, rng, steps=_STEPS):
    """The best selections on the way of many tabu searches, side by side.

    Args:
      groups: `GroupScores`.
      members: bool `[R, k, T]`, the selections to start from.
      rng: for how long a change is kept.
      steps: changes to each selection.

    Returns:
      `[R]` gains, -inf where a task is not served, and bool `[R, k, T]`.
    """
    units = groups.units
    moved, sizes_of_units = units @ groups.affinity, units.sum(axis=1)
    runs, budget, _ = members.shape
    members = members.copy()
    best_gains, best = np.full(runs, -np.inf), members.copy()
    free_at = np.zeros((runs, budget, len(units)), int)
    never = groups.least
    row = np.arange(runs)
    for step in range(steps):
        sums, sizes = members @ groups.affinity, members.sum(axis=2)
        scores = groups.from_sums(sums, sizes[..., None], members)
        scores = np.maximum(scores, never)
        others = _best_of_others(scores) if budget > 1 else np.full_like(scores, never)
        inside = members[..., units.argmax(axis=1)]
        sign = np.where(inside, -1, 1)
        sizes = sizes[..., None] + sign * sizes_of_units
        changed = members[:, :, None] ^ units
        new = groups.from_sums(
            sums[:, :, None] + sign[..., None] * moved, sizes[..., None], changed
        )
        gains = np.maximum(new, others[:, :, None]).sum(axis=3)
        allowed = inside | ~(members @ groups.clashes.T)
        allowed &= (free_at <= step) | (gains > best_gains[:, None, None])
        gains[~allowed] = -np.inf
        choice = gains.reshape(runs, -1).argmax(axis=1)
        group, unit = np.divmod(choice, len(units))
        gain = gains[row, group, unit]
        moves = np.isfinite(gain)
        members[row[moves], group[moves]] ^= units[unit[moves]]
        free_at[row, group, unit] = step + rng.integers(*_TENURE, size=runs)
        better = gain > best_gains * (1 - 1e-12)
        best_gains[better], best[better] = gain[better], members[better]
    scores = groups.of(best)
    best &= np.isfinite(scores).any(axis=2, keepdims=True)
    return scores.max(axis=1).sum(axis=1), best


def _random_selection(groups, budget, rng):
    """Groups that hold every task once, as far as the rules let them, bool `[k, T]`."""
    rules, clashes = groups.rules, groups.clashes
    members = np.zeros((budget, groups.units.shape[1]), bool)
    least = max(rules.smallest, 1 if np.isfinite(groups.singleton_scores).any() else 2)
    order = rng.permutation(len(groups.units))
    for unit in order:
        sizes = members.sum(axis=1) + groups.units[unit].sum()
        sizes = np.where((members & clashes[unit]).any(axis=1), np.inf, sizes)
        if sizes.min() < np.inf:
            members[sizes.argmin()] |= groups.units[unit]
    for group in members:
        for unit in order:
            tasks = groups.units[unit]
            if group.sum() < least and not (group & (tasks | clashes[unit])).any():
                group |= tasks
    return members


def _best_of_others(scores):
    """For each of two groups or more the best score of the others onto every task, `[R, k, T]`."""
    top = np.partition(scores, scores.shape[1] - 2, axis=1)
    second, first = top[:, -2:-1], top[:, -1:]
    is_first = np.arange(scores.shape[1])[:, None] == scores.argmax(axis=1)[:, None]
    return np.where(is_first, second, first)
