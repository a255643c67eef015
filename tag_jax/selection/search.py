"""Groups for more tasks than can be enumerated: a search from below, a certificate from above.

From below, tabu search: many selections side by side, in each step the best change of one group by
one task, even if it loses, unless it undoes a recent one.

From above, a Lagrangian bound. With S(G, t) the score of a group onto a task, any multipliers
`[T]` bound every selection of at most k groups by

    sum(multipliers) + k max(0, max over G of p(G)),
    p(G) = sum over t in G of max(0, S(G, t) - multiplier_t).

Where every chosen group has the same p and no group a larger one, the selection is optimal. The
largest p is found by branch and bound over all groups.
"""

from typing import NamedTuple

import numpy as np

from tag_jax.selection.covers import best_covers

_FIRST, _LATER = 3, 15  # Rounds of tabu search before and after the first try at a proof.
_STEPS = 80
_VALUES = 200_000  # Tabu search looks at about so many scores at once.
_TENURE = (4, 12)
_COVER_NODES = 50

_SHARES = np.concatenate([[0], 1.25 ** np.arange(-30, 15)])
_PROMISING = slice(9, 33, 3)
_PROJECTIONS, _RELAXATION, _STALLED = 500, 1.6, 20
_NODES, _LONG, _SHORT, _BATCH = 60_000, 8_000, 1_500, 256
_PATIENCE = 3
_ROUNDING, _CLOSED = 1e-10, 1e-9


def search(affinity, singleton_scores, rules, budget, num_solutions=1, seed=0):
    """Good groups for many tasks, and how much better others could be at most.

    Args:
      affinity: `[T, T]`, source task first, none above 0, its diagonal 0.
      singleton_scores: `[T]`, none above 0; -inf where a task may not go alone.
      rules: `Rules`.
      budget: k, the number of groups.
      num_solutions: how many sets of groups to find.
      seed: of the search.

    Returns:
      Sets of groups, best first, each a tuple of tuples of tasks; and the gap: no selection gains
      more than the best of these and the gap. 0 where it is proven optimal.
    """
    problem = Groups(affinity, singleton_scores, rules)
    rng = np.random.default_rng(seed)
    pool, best = _improve(problem, budget, np.zeros((0, len(affinity)), bool), None, _FIRST, rng)
    if best is None:
        return [], np.inf
    bound = upper_bound(problem, budget, best, pool, _NODES // 3)
    if not _closed(bound, problem.gain(best)):
        pool, best = _improve(problem, budget, pool, best, _LATER, rng)
        bound = min(bound, upper_bound(problem, budget, best, pool))
    gap = 0.0 if _closed(bound, problem.gain(best)) else float(bound - problem.gain(best))
    if num_solutions == 1:
        return [_groups(best)], gap
    pool = np.unique(np.concatenate([pool, _neighbours(problem, best)]), axis=0)
    covers = best_covers(
        -problem.scores(pool), np.ones(len(pool)), budget, num_solutions, [_places(best, pool)]
    ).covers
    return [_groups(pool[list(networks)]) for _, networks in covers], gap


def _improve(problem, budget, pool, best, rounds, rng):
    """Rounds of tabu search, each followed by the best selection out of all groups seen.

    Args:
      problem: `Groups`.
      budget: k groups.
      pool: bool `[P, T]`, groups seen so far.
      best: bool `[K, T]`, the best selection so far; None if there is none.
      rounds: how many.
      rng: of the starts.

    Returns:
      pool and best.
    """
    for _ in range(rounds):
        gains, states = tabu_search(problem, _starts(problem, budget, best, rng), rng)
        states = list(states[np.isfinite(gains)])
        if best is not None:
            states.append(best)
        if not states:
            continue
        pool = np.unique(np.concatenate([pool, *states]), axis=0)
        pool = pool[pool.any(axis=1)]
        known = [_places(state, pool) for state in states]
        regrets, costs = -problem.scores(pool), np.ones(len(pool))
        found = best_covers(regrets, costs, budget, known=known, max_nodes=_COVER_NODES)
        best = pool[list(found.covers[0][1])]
    return pool, best


def _places(selection, pool):
    """Where the groups of a selection stand in a pool."""
    return [
        int(np.flatnonzero((pool == group).all(axis=1))[0]) for group in selection if group.any()
    ]


def _groups(members):
    return tuple(sorted(tuple(np.flatnonzero(group).tolist()) for group in members))


def _starts(problem, budget, best, rng):
    """Selections to start from, bool `[R, k, T]`: random ones, and changes of the best one."""
    num_units, num_tasks = problem.units.shape
    runs = int(np.clip(_VALUES / (budget * num_units * num_tasks), 4, 32))
    starts = [_random_selection(problem, budget, rng) for _ in range(runs)]
    if best is not None:
        for start in starts[::2]:
            start[:] = False
            start[: len(best)] = best
            for _ in range(rng.integers(2, 3 + budget * num_units // 8)):
                group = start[rng.integers(budget)]
                changed = group ^ problem.units[rng.integers(num_units)]
                if problem.rules.allow(changed[None])[0]:
                    group[:] = changed
    return np.stack(starts)


class Groups:
    """The groups that rules allow, and what they are worth.

    Attributes:
      affinity, singleton_scores, rules: as in `search`.
      units: bool `[Q, T]`, the tasks that join or leave a group together.
      clashes: bool `[Q, T]`, the tasks that a unit may not train with.
    """

    def __init__(self, affinity, singleton_scores, rules):
        self.affinity, self.singleton_scores, self.rules = affinity, singleton_scores, rules
        num_tasks = len(affinity)
        own = np.eye(num_tasks, dtype=bool)
        tasks = np.arange(num_tasks)
        linked = [(link >> tasks & 1).astype(bool) for link in rules.linked]
        alone = ~np.any(linked, axis=0) if linked else np.ones(num_tasks, bool)
        self.units = np.concatenate([own[alone], np.array(linked, bool).reshape(-1, num_tasks)])
        apart = np.zeros((num_tasks, num_tasks), bool)
        for pair in rules.apart:
            first, second = np.flatnonzero(pair >> tasks & 1)
            apart[first, second] = apart[second, first] = True
        clashing = self.units @ apart @ self.units.T
        self.clashes = clashing @ self.units
        self.unit_of = self.units.argmax(axis=0)
        self.first_of = self.units.argmax(axis=1)[self.unit_of]
        self.is_first = self.first_of == np.arange(num_tasks)

    def gain(self, members):
        """What a selection of groups gains, each task served by the best: bool `[K, T]` -> float."""
        return float(self.scores(members).max(axis=0).sum())

    def scores(self, members):
        """The score of groups onto every task.

        Args:
          members: bool `[..., T]`.

        Returns:
          `[..., T]`, -inf outside the group.
        """
        sizes = members.sum(axis=-1, keepdims=True)
        return self.scores_from(members @ self.affinity, sizes, members)

    def scores_from(self, sums, sizes, members):
        """The same from the sums of affinities `[..., T]` and the sizes `[..., 1]` of groups."""
        scores = sums / np.maximum(sizes - 1, 1)
        scores = np.where(sizes == 1, self.singleton_scores, scores)
        return np.where(members, scores, -np.inf)


def tabu_search(problem, members, rng, steps=_STEPS):
    """The best selections on the way of many tabu searches, side by side.

    Args:
      problem: `Groups`.
      members: bool `[R, k, T]`, the selections to start from.
      rng: for how long a change is kept.
      steps: changes to each selection.

    Returns:
      `[R]` gains, -inf where a task is not served, and bool `[R, k, T]`.
    """
    units, rules = problem.units, problem.rules
    moved, sizes_of_units = units @ problem.affinity, units.sum(axis=1)
    num_tasks = len(problem.affinity)
    runs, budget, _ = members.shape
    members = members.copy()
    best_gains, best = np.full(runs, -np.inf), members.copy()
    free_at = np.zeros((runs, budget, len(units)), int)
    never = 4 * min(problem.affinity.min() * num_tasks, -1.0)
    first_tasks = units.argmax(axis=1)
    row = np.arange(runs)
    for step in range(steps):
        sums, sizes = members @ problem.affinity, members.sum(axis=2)
        scores = problem.scores_from(sums, sizes[..., None], members)
        scores = np.maximum(scores, never)
        others = _best_of_others(scores)
        inside = members[..., first_tasks]
        sign = np.where(inside, -1, 1)
        sizes = sizes[..., None] + sign * sizes_of_units
        changed = members[:, :, None] ^ units
        new = problem.scores_from(
            sums[:, :, None] + sign[..., None] * moved, sizes[..., None], changed
        )
        gains = np.maximum(new, others[:, :, None]).sum(axis=3)
        allowed = (sizes == 0) | ((sizes >= rules.smallest) & (sizes <= rules.largest))
        allowed &= inside | ~(members.astype(np.int8) @ problem.clashes.T.astype(np.int8) > 0)
        allowed &= (free_at <= step) | (gains > best_gains[:, None, None])
        gains[~allowed] = -np.inf
        choice = gains.reshape(runs, -1).argmax(axis=1)
        group, unit = np.divmod(choice, len(units))
        gain = gains[row, group, unit]
        moves = np.isfinite(gain)
        members[row[moves], group[moves]] ^= units[unit[moves]]
        free_at[row, group, unit] = step + rng.integers(*_TENURE, size=runs)
        better = moves & (gain > best_gains + 1e-12 * np.abs(gain))
        best_gains[better], best[better] = gain[better], members[better]
    served = problem.scores(best).max(axis=1)
    return served.sum(axis=1), best


def upper_bound(problem, budget, chosen, pool, effort=_NODES) -> float:
    """What no selection can gain more than.

    The first multipliers give every chosen group the same p, shared evenly by the tasks that it
    serves. Where some group has a larger one, it joins a pool, and subgradient steps over the pool
    lower the bound, until no group is larger.

    Args:
      problem: `Groups`.
      budget: k groups.
      chosen: bool `[K, T]`, a good selection.
      pool: bool `[P, T]`, groups that are likely to have a large p.
      effort: nodes of branch and bound after the first try.
    """
    total = problem.gain(chosen)
    starts = _even_multipliers(problem.scores(chosen))
    scores = problem.scores(np.concatenate([pool, _neighbours(problem, chosen)]))

    def value(multipliers, largest):
        return multipliers.sum() + budget * max(largest, 0.0)

    best, nodes = np.inf, _LONG

    def price(multipliers, most):
        nonlocal best, nodes
        floor = max(_price(scores, multipliers).max(), 0.0)
        largest, group, used = largest_price(problem, multipliers, floor, min(nodes, most))
        nodes -= used
        best = min(best, value(multipliers, largest))
        return value(multipliers, largest), group

    over_pool = [value(start, _price(scores, start).max()) for start in starts]
    tight = starts[[_closed(bound, total) for bound in over_pool]]
    if len(tight):
        price(tight[len(tight) // 2], _LONG)
    nodes = effort
    if _closed(best, total):
        return best
    starts = starts[_PROMISING]
    multipliers = starts[int(np.argmin([price(start, _SHORT)[0] for start in starts]))]
    price(multipliers, _LONG)
    unchanged = 0
    while nodes > 0 and unchanged < _PATIENCE and not _closed(best, total):
        before = best
        multipliers = _descend(scores, multipliers, budget, total)
        _, group = price(multipliers, _LONG)
        unchanged = 0 if best < before else unchanged + 1
        if group is not None:
            new = problem.scores(_neighbours(problem, group[None]))
            scores = np.concatenate([scores, new])
    return best


def _closed(bound, gain):
    """Whether a bound proves a gain, none above 0, to be the best."""
    return bound - gain <= -_CLOSED * gain


def _even_multipliers(scores):
    """Multipliers `[S, T]` that give every chosen group one p, for a range of p's, smallest first.

    Args:
      scores: `[K, T]`, of the chosen groups.
    """
    served, servers = scores.max(axis=0), scores.argmax(axis=0)
    shared = np.bincount(servers, minlength=len(scores))[servers]
    scale = -served.sum() / len(scores)
    return served - scale * _SHARES[:, None] / shared


def largest_price(problem, multipliers, floor, max_nodes):
    """The largest p(G) over all groups that the rules allow, by branch and bound.

    A node holds tasks that are in the group and tasks that may be. For each size of the group, a
    task scores at most what the best helpers of that number give it.

    Args:
      problem: `Groups`.
      multipliers: `[T]`.
      floor: a p that is known to be reached, or 0.
      max_nodes: the search ends after so many.

    Returns:
      An upper bound of p, the exact largest one unless the search ended early; the group of a p
      above the floor, bool `[T]`, or None; and the number of nodes.
    """
    units, clashes = problem.units, problem.clashes
    nobody = np.zeros((1, len(multipliers)), bool)
    inside, free, bounds = nobody, ~nobody, np.array([np.inf])
    group, nodes, largest_size = None, 0, problem.rules.largest
    while len(bounds) and nodes < max_nodes:
        chosen = np.argpartition(-bounds, min(_BATCH, len(bounds)) - 1)[:_BATCH]
        within, rest = inside[chosen], free[chosen]
        nodes += len(chosen)
        found = _price_bounds(problem, multipliers, within, rest, largest_size)
        if found.prices.max() > floor * (1 + _ROUNDING):
            floor, group = found.prices.max(), within[found.prices.argmax()].copy()
        least = floor * (1 + _ROUNDING)
        if nodes == 1:
            sizes = np.flatnonzero((found.bounds[0] > least).any(axis=1))
            largest_size = min(largest_size, int(sizes.max(initial=0)))
        bound = found.bounds.max(axis=1, initial=-np.inf)
        rest &= bound > least
        node = np.flatnonzero(rest.any(axis=1))
        within, rest = within[node], rest[node]
        task = np.where(rest, found.promise[node], -1.0).argmax(axis=1)
        unit = problem.unit_of[task]
        without = rest & ~units[unit]
        others = np.ones(len(bounds), bool)
        others[chosen] = False
        inside = np.concatenate([inside[others], within | units[unit], within])
        free = np.concatenate([free[others], without & ~clashes[unit], without])
        prior = np.where(without, bound[node], -np.inf).max(axis=1)
        bounds = np.concatenate([bounds[others], bound[node, task], prior])
    return max(floor, bounds.max(initial=0.0)), group, nodes


class _Prices(NamedTuple):
    """What nodes are worth.

    Attributes:
      prices: `[B]`, p of the tasks inside alone; -inf if the rules forbid that group.
      bounds: `[B, D, T]`, what p is at most with a free task and D more tasks than inside.
      promise: `[B, T]`, what each free task adds at most.
    """

    prices: np.ndarray
    bounds: np.ndarray
    promise: np.ndarray


def _price_bounds(problem, multipliers, inside, free, largest_size):
    """Bounds on p in some nodes.

    Args:
      problem: `Groups`.
      multipliers: `[T]`.
      inside, free: bool `[B, T]`, the tasks that are in the group, and those that may be.
      largest_size: of the group.

    Returns:
      `_Prices`.
    """
    affinity, rules = problem.affinity, problem.rules
    num_tasks = len(multipliers)
    size, num_free = inside.sum(axis=1), free.sum(axis=1)
    most = int(min(num_free.max(), largest_size - size.min()))
    added = np.arange(most + 1)
    sizes = size[:, None] + added
    forbidden = (sizes < rules.smallest) | (sizes > largest_size) | (added > num_free[:, None])
    divisor = np.maximum(sizes - 1, 1)[..., None]
    sums = (inside @ affinity)[:, None]
    helped = _sums_of_largest(affinity, free)

    def scores(sums):
        found = np.where(sizes[..., None] == 1, problem.singleton_scores, sums / divisor)
        return found - multipliers

    highest = scores(sums + helped[:, : most + 1])
    of_inside = np.where(inside[:, None], np.maximum(highest, 0), 0).sum(axis=2)
    of_inside[forbidden] = -np.inf
    prices = np.where(size > 0, of_inside[:, 0], -np.inf)
    if not most:
        return _Prices(prices, np.full((len(size), 1, num_tasks), -np.inf), np.zeros(free.shape))

    shifted = np.concatenate([helped[:, :1], helped[:, :most]], axis=1)
    of_free = np.where(free[:, None], np.maximum(scores(sums + shifted), 0), 0)
    bounds = of_inside[..., None] + _with_one_of(of_free, added)
    if True:
        row = np.arange(len(size))[:, None]
        rest = np.maximum(num_free[:, None] - added, 0)
        total = helped[np.arange(len(size)), num_free][:, None]
        with np.errstate(invalid='ignore'):
            lowest = scores(sums + total - helped[row, rest])
        lowest = np.where(np.isfinite(lowest), lowest, 0)
        hi = np.where(np.isfinite(highest), highest, 0)
        spread = np.where(inside[:, None] & (hi > 0), hi - lowest, 0)
        slope = np.where(spread > 0, np.minimum(hi / np.maximum(spread, 1e-300), 1), 0)
        slope = np.where(inside[:, None] & (lowest >= 0), 1, slope)
        base = np.where(slope > 0, slope * (sums / divisor - multipliers - lowest), 0).sum(
            axis=2
        ) + np.where(inside[:, None], np.maximum(lowest, 0), 0).sum(axis=2)
        bonus = (slope / divisor) @ affinity.T
        values = np.where(free[:, None], of_free + bonus, -np.inf)
        second = base[..., None] + _with_one_of(values, added)
        bounds = np.minimum(bounds, second)
    bounds[np.broadcast_to(forbidden[..., None], bounds.shape)] = -np.inf
    bounds[:, 0] = -np.inf
    bounds[~np.broadcast_to(free[:, None], bounds.shape)] = -np.inf
    at = bounds.max(axis=2).argmax(axis=1)
    return _Prices(prices, bounds, of_free[np.arange(len(size)), at])


def _sums_of_largest(affinity, free):
    """For every task the largest sum of effects that so many free tasks have on it, `[B, T + 1, T]`."""
    num_tasks = len(affinity)
    helpers = np.where(free[:, :, None] & ~np.eye(num_tasks, dtype=bool), affinity, -np.inf)
    helpers = np.sort(helpers, axis=1)[:, ::-1]
    return np.concatenate([np.zeros((len(free), 1, num_tasks)), np.cumsum(helpers, axis=1)], axis=1)


def _with_one_of(values, added):
    """The largest sum of d values, one of them given, `[B, D + 1, T]`, for d = 0 to D."""
    largest = np.cumsum(np.sort(values, axis=2)[:, :, ::-1], axis=2)
    full = largest[:, added, added - 1]
    fewer = np.where(added > 1, largest[:, added, added - 2], 0)
    return np.minimum(full[..., None], fewer[..., None] + values)


def _price(scores, multipliers):
    """p of groups from their scores `[P, T]`."""
    return np.maximum(scores - multipliers, 0).sum(axis=1)


def _descend(scores, multipliers, budget, aim):
    """Multipliers at which the bound over a pool of groups comes near to what it cannot fall below.

    Projects on all violated half-spaces `bound of one group <= aim` at once, weighted by their
    violations and extrapolated (Pierra 1984), with over-relaxation. Where they have no point in
    common the aim is raised.

    Args:
      scores: `[P, T]`.
      multipliers: `[T]`, to start from.
      budget: k groups.
      aim: the least bound there can be.
    """
    best, kept, stalled = np.inf, multipliers, 0
    for _ in range(_PROJECTIONS):
        profit = np.maximum(scores - multipliers, 0)
        bounds = multipliers.sum() + budget * profit.sum(axis=1)
        stalled += 1
        if bounds.max() < best:
            if bounds.max() - aim < 0.98 * (best - aim):
                stalled = 0
            best, kept = bounds.max(), multipliers
        if stalled == _STALLED:
            aim, multipliers, stalled = (aim + best) / 2, kept, 0
            continue
        violation = bounds - aim
        violated = violation > -_ROUNDING * aim
        if not violated.any():
            break
        violation = violation[violated]
        slopes = 1.0 - budget * (profit[violated] > 0)
        weights = violation / (slopes**2).sum(axis=1)
        direction = (weights * violation) @ slopes
        step = _RELAXATION * (weights * violation) @ violation / (direction @ direction)
        multipliers = multipliers - step * direction
    return kept


def _neighbours(problem, groups):
    """The groups that differ from some group by one unit, of those that the rules allow."""
    changed = (groups[:, None] ^ problem.units).reshape(-1, groups.shape[1])
    changed = changed[problem.rules.allow(changed)]
    return np.concatenate([groups, changed[changed.any(axis=1)]])


def _random_selection(problem, budget, rng):
    """Groups that hold every task once, as far as the rules let them, bool `[k, T]`."""
    rules, clashes = problem.rules, problem.clashes
    members = np.zeros((budget, problem.units.shape[1]), bool)
    least = max(rules.smallest, 1 if np.isfinite(problem.singleton_scores).any() else 2)
    order = rng.permutation(len(problem.units))
    for unit in order:
        sizes = members.sum(axis=1) + problem.units[unit].sum()
        fits = (sizes <= rules.largest) & ~(members & clashes[unit]).any(axis=1)
        members[np.argmin(np.where(fits, sizes, np.inf))] |= problem.units[unit]
    for group in members:
        for unit in order:
            tasks = problem.units[unit]
            if group.sum() < least and not (group & (tasks | clashes[unit])).any():
                group |= tasks
    members[~rules.allow(members)] = False
    return members


def _best_of_others(scores):
    """For each group the best score of the other groups onto every task, `[R, k, T]`."""
    if scores.shape[1] == 1:
        return np.full_like(scores, 4 * scores.min())
    top = np.partition(scores, scores.shape[1] - 2, axis=1)
    second, first = top[:, -2:-1], top[:, -1:]
    is_first = np.arange(scores.shape[1])[:, None] == scores.argmax(axis=1)[:, None]
    return np.where(is_first, second, first)


def _interleave(first, second):
    return np.stack([first, second], axis=1).reshape(-1, first.shape[-1])
