"""An upper bound on what a selection of groups can gain: a certificate for many tasks.

With S(G, t) the score of a group onto a task, any multipliers `[T]` bound every selection of at
most k groups by

    sum(multipliers) + k max(0, max over G of p(G)),
    p(G) = sum over t in G of max(0, S(G, t) - multiplier_t).

Where every chosen group has the same p and no group a larger one, the selection is optimal. The
largest p is found by branch and bound over all groups that the rules allow.
"""

from typing import NamedTuple

import numpy as np

# Nodes of branch and bound after the first try: by default, and for a closer look.
_LOOK, CLOSER_LOOK = 20_000, 60_000
# For one try, and for a first look.
_LONG, _SHORT = 8_000, 1_500
# Nodes that are looked at together, and effects of tasks on tasks that are held for them at most.
_BATCH, _HELD = 256, 5_000_000
# The p's to start from, as shares of the mean regret of a group, and the middle ones among them.
_SHARES = np.concatenate([[0], 1.25 ** np.arange(-30, 15)])
_PROMISING = slice(9, 33, 3)
# Steps on the multipliers, how far they reach beyond a projection, and when the aim is raised.
_PROJECTIONS, _RELAXATION, _STALLED = 500, 1.6, 20
_PATIENCE = 3  # Tries that bring nothing before the bound is left as it is.
_ROUNDING, _CLOSED = 1e-10, 1e-9


def upper_bound(groups, budget, chosen, pool, effort=_LOOK) -> float:
    """An upper bound on what a selection can gain.

    The first multipliers give every chosen group the same p, shared evenly by the tasks that it
    serves. Where some group has a larger one, it joins a pool, and steps on the multipliers lower
    the bound over the pool, until no group is larger.

    Args:
      groups: `GroupScores`.
      budget: k groups.
      chosen: bool `[K, T]`, a good selection.
      pool: bool `[P, T]`, groups that are likely to have a large p.
      effort: nodes of branch and bound after the first try.
    """
    total = groups.gain(chosen)
    starts = _even_multipliers(groups.of(chosen))
    scores = groups.of(np.concatenate([pool, groups.neighbours(chosen)]))

    def value(multipliers, largest):
        return multipliers.sum() + budget * max(largest, 0.0)

    best, nodes = np.inf, _LONG

    def price(multipliers, most):
        nonlocal best, nodes
        floor = max(_price(scores, multipliers).max(), 0.0)
        largest, group, used = largest_price(groups, multipliers, floor, min(nodes, most))
        nodes -= used
        best = min(best, value(multipliers, largest))
        return value(multipliers, largest), group

    over_pool = [value(start, _price(scores, start).max()) for start in starts]
    tight = starts[[closed(bound, total) for bound in over_pool]]
    if len(tight):
        price(tight[len(tight) // 2], _LONG)
    nodes = effort
    if closed(best, total):
        return best
    starts = starts[_PROMISING]
    multipliers = starts[int(np.argmin([price(start, _SHORT)[0] for start in starts]))]
    price(multipliers, _LONG)
    unchanged = 0
    while nodes > 0 and unchanged < _PATIENCE and not closed(best, total):
        before = best
        multipliers = _descend(scores, multipliers, budget, total)
        _, group = price(multipliers, _LONG)
        unchanged = 0 if best < before else unchanged + 1
        if group is not None:
            new = groups.of(groups.neighbours(group[None]))
            scores = np.concatenate([scores, new])
    return best


def closed(bound, gain):
    """Whether a bound proves a gain, none above 0, to be the best, but for rounding."""
    return bound - gain <= _CLOSED * abs(gain)


def _even_multipliers(scores):
    """Multipliers `[S, T]` that give every chosen group one p, for a range of p's, smallest first.

    Args:
      scores: `[K, T]`, of the chosen groups.
    """
    served, servers = scores.max(axis=0), scores.argmax(axis=0)
    shared = np.bincount(servers, minlength=len(scores))[servers]
    scale = -served.sum() / len(scores)
    return served - scale * _SHARES[:, None] / shared


def largest_price(groups, multipliers, floor, max_nodes):
    """The largest p(G) over all groups that the rules allow, by branch and bound.

    A node holds tasks that are in the group and tasks that may be. For each size of the group, a
    task scores at most what the best helpers of that number give it.

    Args:
      groups: `GroupScores`.
      multipliers: `[T]`.
      floor: a p that is known to be reached, or 0.
      max_nodes: the search ends after so many.

    Returns:
      An upper bound of p, the exact largest one unless the search ended early; the group of a p
      above the floor, bool `[T]`, or None; and the number of nodes.
    """
    units, clashes = groups.units, groups.clashes
    batch = int(np.clip(_HELD / len(multipliers) ** 2, 1, _BATCH))
    nobody = np.zeros((1, len(multipliers)), bool)
    inside, free, bounds = nobody, ~nobody, np.array([np.inf])
    group, nodes, largest_size = None, 0, groups.rules.largest
    while len(bounds) and nodes < max_nodes:
        chosen = np.argpartition(-bounds, min(batch, len(bounds)) - 1)[:batch]
        within, rest = inside[chosen], free[chosen]
        nodes += len(chosen)
        found = _price_bounds(groups, multipliers, within, rest, largest_size)
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
        unit = groups.unit_of[task]
        without = rest & ~units[unit]
        others = bounds > least
        others[chosen] = False
        prior = np.where(without, bound[node], -np.inf).max(axis=1)
        out = prior > least
        inside = np.concatenate([inside[others], within | units[unit], within[out]])
        free = np.concatenate([free[others], without & ~clashes[unit], without[out]])
        bounds = np.concatenate([bounds[others], bound[node, task], prior[out]])
    return max(floor, bounds.max(initial=0.0)), group, nodes


class _Prices(NamedTuple):
    """The prices of nodes.

    Attributes:
      prices: `[B]`, p of the tasks inside alone; -inf if the rules forbid that group.
      bounds: `[B, D, T]`, what p is at most with a free task and D more tasks than inside.
      promise: `[B, T]`, what each free task adds at most.
    """

    prices: np.ndarray
    bounds: np.ndarray
    promise: np.ndarray


def _price_bounds(groups, multipliers, inside, free, largest_size):
    """Bounds on p in some nodes, the smaller of two.

    1. Every task takes the helpers that are best for it, whatever the others take.
    2. All tasks inside take the same helpers. What a task gives is convex in the helpers it gets,
       so it lies below the chord between the worst and the best it could get, and chords add up.

    Args:
      groups: `GroupScores`.
      multipliers: `[T]`.
      inside, free: bool `[B, T]`, the tasks that are in the group, and those that may be.
      largest_size: of the group.

    Returns:
      `_Prices`.
    """
    rules, num_tasks = groups.rules, len(multipliers)
    node = np.arange(len(inside))
    size, num_free = inside.sum(axis=1), free.sum(axis=1)
    most = max(int(min(num_free.max(), largest_size - size.min())), 0)
    added = np.arange(most + 1)
    sizes = size[:, None] + added
    forbidden = (sizes < rules.smallest) | (sizes > largest_size) | (added > num_free[:, None])
    divisor = groups.divisor(sizes)[..., None]
    sums = (inside @ groups.affinity)[:, None]
    helped = _sums_of_largest(groups.affinity, free)
    inside, free = inside[:, None], free[:, None]

    def profits(sums):
        return groups.onto(sums, sizes[..., None]) - multipliers

    highest = profits(sums + helped[:, : most + 1])
    of_inside = np.where(inside, np.maximum(highest, 0), 0).sum(axis=2)
    prices = np.where((size > 0) & ~forbidden[:, 0], of_inside[:, 0], -np.inf)
    if not most:
        promise = np.zeros((len(node), num_tasks))
        return _Prices(prices, promise[:, None] - np.inf, promise)
    one_fewer = helped[:, np.maximum(added - 1, 0)]
    of_free = np.where(free, np.maximum(profits(sums + one_fewer), 0), 0)

    unused = np.maximum(num_free[:, None] - added, 0)
    nothing = forbidden | (added == 0)
    with np.errstate(invalid='ignore'):
        lowest = profits(sums + helped[node, num_free][:, None] - helped[node[:, None], unused])
    slopes, base = _chords(lowest, highest, inside & ~nothing[..., None])
    with np.errstate(invalid='ignore'):
        base += np.where(slopes > 0, slopes * profits(sums), 0).sum(axis=2)
    shared = np.where(free, of_free + (slopes / divisor) @ groups.affinity.T, -np.inf)

    bounds = np.minimum(
        of_inside[..., None] + _with_one_of(of_free, added),
        base[..., None] + _with_one_of(shared, added),
    )
    bounds[~free | nothing[..., None]] = -np.inf
    return _Prices(prices, bounds, of_free[node, bounds.max(axis=2).argmax(axis=1)])


def _chords(lowest, highest, counted):
    """Lines above max(0, x) between two values of x.

    Args:
      lowest, highest: `[B, D, T]`.
      counted: bool `[B, D, T]`; the line is 0 elsewhere.

    Returns:
      Slopes `[B, D, T]`, and the sum over T of the values at x = 0, `[B, D]`.
    """
    lowest, highest = np.where(counted, lowest, 0), np.where(counted, highest, 0)
    above = np.maximum(lowest, 0)
    run = highest - lowest
    slopes = (np.maximum(highest, 0) - above) / np.where(run > 0, run, 1)
    slopes = np.where(counted, np.where(lowest >= 0, 1, slopes), 0)
    return slopes, (above - slopes * lowest).sum(axis=2)


def _sums_of_largest(affinity, free):
    """The largest sums of effects on every task, of 0 to T free tasks, `[B, T + 1, T]`."""
    num_tasks = len(affinity)
    helpers = np.where(free[:, :, None] & ~np.eye(num_tasks, dtype=bool), affinity, -np.inf)
    sums = np.cumsum(np.sort(helpers, axis=1)[:, ::-1], axis=1)
    return np.concatenate([np.zeros_like(sums[:, :1]), sums], axis=1)


def _with_one_of(values, added):
    """The largest sum of d values, one of them given, `[B, D + 1, T]`, for d = 0 to D."""
    largest = np.cumsum(np.sort(values, axis=2)[:, :, ::-1], axis=2)
    full = largest[:, added, added - 1]
    fewer = np.where(added > 1, largest[:, added, np.maximum(added - 2, 0)], 0)
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
        violated = violation > _ROUNDING * abs(aim)
        slopes = 1.0 - budget * (profit > 0)
        violated &= slopes.any(axis=1)  # No step changes the bound of one group for all tasks.
        if not violated.any():
            break
        violation, slopes = violation[violated], slopes[violated]
        weights = violation / (slopes**2).sum(axis=1)
        direction = (weights * violation) @ slopes
        if not direction.any():
            break
        step = _RELAXATION * (weights * violation) @ violation / (direction @ direction)
        multipliers = multipliers - step * direction
    return kept
