"""The best sets of networks that cover all tasks within a budget, out of thousands, with a proof.

The problem is a p-median with a knapsack: open networks within the budget, and serve every task by
the best open one. Lagrange multipliers `[T]` price the service of each task; a network is then
worth r_i = sum over tasks of max(0, multiplier_t - regret_it), the best purchase is a knapsack, and

    sum(multipliers) - knapsack(r)  <=  the regret of any affordable cover.

Subgradient steps raise that bound. Networks whose purchase would lift it to the best known cover
are left out; the rest is branched on, best bound first. Where at most two networks can still be
bought, all pairs are looked at.
"""

import heapq
import itertools
from typing import NamedTuple

import numpy as np

from tag_jax.selection.partitions import with_rounding
from tag_jax.selection.purse import Purse

MAX_NODES = 20_000

_STARTS = 2.0 ** np.arange(-8, 3)
_COVER_NODES = 100_000
_PAIRS = 800
_ROUNDING = 1e-10


class _Effort(NamedTuple):
    steps: int
    patience: int


_ROOT, _LATER = _Effort(500, 20), _Effort(12, 4)


class Found(NamedTuple):
    """The best covers found.

    Attributes:
      covers: `((regret, networks), ...)`, best first; networks are ascending indices, and none of
        them could be left out of its cover without loss.
      proven: every cover with less regret than this has been found; inf if all have been. So a
        cover of no more regret is in its right place.
    """

    covers: tuple[tuple[float, tuple[int, ...]], ...]
    proven: float


def best_covers(regrets, costs, budget, num_solutions=1, known=(), max_nodes=MAX_NODES) -> Found:
    """The affordable sets of networks with the least total regret.

    Args:
      regrets: `[N, T]`, how much worse than the best each network serves each task, 0 or more; inf
        where it cannot serve it.
      costs: `[N]`, 0 or more.
      budget: what a set may cost.
      num_solutions: how many sets to find.
      known: sets of networks that are known to be affordable covers.
      max_nodes: the search ends after so many nodes, with the bound that it has by then.
    """
    return _Search(regrets, costs, budget, num_solutions).run(known, max_nodes)


def useful(regrets) -> np.ndarray:
    """Which networks of a set serve some task better than all others in the set, bool `[n]`.

    Better means by more than rounding.

    Args:
      regrets: `[n, T]`.
    """
    if len(regrets) == 1:
        return np.ones(1, bool)
    best, second = np.partition(regrets, 1, axis=0)[:2]
    return ((regrets == best) & (best * (1 + 1e-13) < second)).any(axis=1)


def irredundant(regrets, networks) -> tuple[int, ...]:
    """A set of networks without those that it does not need; of equal ones the first stays.

    Args:
      regrets: `[N, T]`.
      networks: indices.
    """
    networks = sorted(networks)
    while not (keep := useful(regrets[networks])).all():
        networks.pop(int(np.flatnonzero(~keep)[-1]))
    return tuple(networks)


def undominated(regrets, costs, sizes) -> np.ndarray:
    """The networks that no other replaces, as good on every task and no more expensive.

    Of equal ones the one that trains most tasks stays, then the first.

    Args:
      regrets: `[N, T]`.
      costs: `[N]`.
      sizes: `[N]`, how many tasks each trains.

    Returns:
      Indices, ascending.
    """
    totals = np.nansum(np.where(np.isinf(regrets), np.nan, regrets), axis=1)
    serves = np.isfinite(regrets)
    rank = np.empty(len(costs), int)
    rank[np.lexsort((-sizes, totals, costs, -serves.sum(axis=1)))] = np.arange(len(costs))
    lacks = (~serves).astype(np.float32)
    keep = np.ones(len(costs), bool)
    for block in np.array_split(np.arange(len(costs)), len(costs) // 500 + 1):
        rows = serves[block].astype(np.float32)
        covered = (rows @ lacks.T == 0) & (rank < rank[block, None])
        covered &= costs <= costs[block, None]
        inferior, superior = np.nonzero(covered)
        dominated = (regrets[superior] <= regrets[block[inferior]]).all(axis=1)
        keep[block[inferior[dominated]]] = False
    return np.flatnonzero(keep)


class _Node(NamedTuple):
    """A part of the search: what is bought, and what may still be.

    Attributes:
      networks: bought.
      free: `[n]`, networks that may still be bought.
      caps: `[T]`, the regret at which the bought networks serve each task.
      left: what is left of the budget.
      multipliers: `[T]`.
    """

    networks: tuple[int, ...]
    free: np.ndarray
    caps: np.ndarray
    left: float
    multipliers: np.ndarray


class _Search:
    """Branch and bound; the head of the file explains it.

    Attributes:
      covers: `{networks: regret}`, the best known.
      target: the regret that a cover has to beat to be of use.
      heap: `(bound, order, network to branch on, node)`, the nodes that are not settled.
    """

    def __init__(self, regrets, costs, budget, num_solutions):
        self.regrets = regrets
        self.costs = costs
        self.purse = Purse(costs, most=regrets.shape[1])
        self.budget = with_rounding(budget)
        self.num_solutions = num_solutions
        self.covers = {}
        self.target = np.inf
        self.heap = []
        self.order = itertools.count()

    def run(self, known, max_nodes):
        free = np.flatnonzero((self.costs <= self.budget) & np.isfinite(self.regrets).any(axis=1))
        for networks in known:
            self.record(networks)
        if not self.covers:
            cover, complete = first_cover(self.regrets, self.costs, self.budget, free)
            if cover is None:
                return Found((), np.inf if complete else 0.0)
            self.record(cover)
        caps = np.full(self.regrets.shape[1], np.inf)
        multipliers = self.first_multipliers(free)
        self.explore(_Node((), free, caps, self.budget, multipliers), 0.0, _ROOT)
        nodes = 0
        while self.heap and self.heap[0][0] < self.target and nodes < max_nodes:
            bound, _, branch, node = heapq.heappop(self.heap)
            nodes += 1
            for child in self.children(node, branch):
                self.explore(child, bound, _LATER)
        covers = sorted((value, len(nets), nets) for nets, value in self.covers.items())
        covers = tuple((value, nets) for value, _, nets in covers[: self.num_solutions])
        settled = not self.heap or self.heap[0][0] >= self.target
        return Found(covers, np.inf if settled else float(self.heap[0][0]))

    def record(self, networks):
        """Keeps a cover, without the networks that it does not need."""
        networks = irredundant(self.regrets, networks)
        if networks in self.covers:
            return
        self.covers[networks] = float(self.regrets[list(networks)].min(axis=0).sum())
        if len(self.covers) >= self.num_solutions:
            worst = sorted(self.covers.values())[self.num_solutions - 1]
            self.covers = {known: value for known, value in self.covers.items() if value <= worst}
            self.target = worst * (1 - _ROUNDING)

    def explore(self, node, bound, effort):
        """Bounds a node, and keeps it for later unless that settles it."""
        bound, worth, node = self.bound(node, bound, effort)
        if bound >= self.target or not len(node.free):
            return
        slots = self.purse.slots(node.left)
        if slots <= 1 or (slots == 2 and len(node.free) <= _PAIRS):
            self.look_at_pairs(node, slots)
            return
        branch = int(node.free[np.argmax(worth)])
        heapq.heappush(self.heap, (bound, next(self.order), branch, node))

    def children(self, node, branch):
        """The node with a network bought, and the node without it."""
        rest = node.free[node.free != branch]
        yield node._replace(free=rest)
        networks = (*node.networks, branch)
        caps = np.minimum(node.caps, self.regrets[branch])
        if np.isfinite(caps).all():
            self.record(networks)
        if self.num_solutions > 1 and not useful(self.regrets[list(networks)]).all():
            return
        left = node.left - self.costs[branch]
        rest = rest[(self.costs[rest] <= left) & (self.regrets[rest] < caps).any(axis=1)]
        yield _Node(networks, rest, caps, left, np.minimum(node.multipliers, caps))

    def look_at_pairs(self, node, slots):
        """Settles a node where at most two networks can still be bought."""
        regrets, costs = self.regrets[node.free], self.costs[node.free]
        regrets = np.minimum(regrets, node.caps)
        for n in np.flatnonzero(regrets.sum(axis=1) < self.target):
            self.record((*node.networks, int(node.free[n])))
        if slots < 2:
            return
        for rows in np.array_split(np.arange(len(costs)), len(costs) // 16 + 1):
            pairs = np.minimum(regrets[rows, None], regrets[rows[0] :]).sum(axis=2)
            good = pairs < self.target
            good &= costs[rows, None] + costs[rows[0] :] <= node.left
            for a, b in np.argwhere(good):
                if pairs[a, b] < self.target:
                    pair = node.free[[rows[a], rows[0] + b]].tolist()
                    self.record((*node.networks, *set(pair)))

    def first_multipliers(self, free):
        """Multipliers that give every network of the best known cover the same worth."""
        value, networks = min((value, networks) for networks, value in self.covers.items())
        regrets = self.regrets[list(networks)]
        server = regrets.argmin(axis=0)
        served = np.bincount(server, minlength=len(networks))[server]
        starts = [regrets.min(axis=0) + value / len(networks) * x / served for x in _STARTS]
        bounds = [self.bound_at(x, self.regrets[free], free, self.budget)[0] for x in starts]
        return starts[int(np.argmax(bounds))]

    def bound_at(self, multipliers, regrets, free, left):
        """Bound, worth of each network, tasks that it serves, and purchase at some multipliers."""
        profit = multipliers - regrets
        serves = profit > 0
        worth = np.where(serves, profit, 0).sum(axis=1)
        value, chosen = self.purse.spend(worth, free, left)
        return multipliers.sum() - value, worth, serves, chosen

    def bound(self, node, bound, effort):
        """Subgradient steps on the multipliers.

        Returns:
          The bound, the worth `[n]` of the free networks, and the node with the multipliers that
          gave the bound, without the networks that no better cover can hold.
        """
        regrets = self.regrets[node.free]
        multipliers = kept = node.multipliers
        best, worth = -np.inf, np.zeros(len(node.free))
        direction, pace, stalled = np.zeros_like(multipliers), 1.0, 0
        for _ in range(effort.steps):
            value, r, serves, chosen = self.bound_at(multipliers, regrets, node.free, node.left)
            stalled += 1
            if value > best:
                if value > best + 1e-4 * abs(best):
                    stalled = 0
                best, kept, worth = value, multipliers, r
                if best >= self.target:
                    break
            if stalled == effort.patience:
                pace, stalled = 0.7 * pace, 0
                if pace < 0.02:
                    break
            served = np.minimum(node.caps, regrets[chosen].min(axis=0, initial=np.inf))
            if served.sum() < self.target:
                self.record((*node.networks, *node.free[chosen].tolist()))
            gradient = 1.0 - serves[chosen].sum(axis=0)
            if not gradient.any():
                break  # Nothing is served twice or not at all: the bound is at its highest.
            direction = gradient + 0.5 * direction
            if direction @ direction < 1e-6:
                direction = gradient
            aim = min(self.target, 2 * max(self.covers.values()))
            step = pace * (aim - value) / (direction @ direction)
            multipliers = np.clip(multipliers + step * direction, 0, node.caps)
        keep = self.keep(node, worth, kept)
        return max(bound, best), worth[keep], node._replace(free=node.free[keep], multipliers=kept)

    def keep(self, node, worth, multipliers):
        """Which free networks a better cover may hold, bool `[n]`."""
        floors = [
            multipliers.sum() - self.purse.spend(worth, node.free, node.left - price)[0]
            for price in self.purse.steps
        ]
        return np.array(floors)[self.purse.step_of[node.free]] - worth < self.target


def first_cover(regrets, costs, budget, free, max_nodes=_COVER_NODES):
    """Some affordable cover, by a depth-first search on the task that fewest networks serve.

    Args:
      regrets: `[N, T]`.
      costs: `[N]`.
      budget: what the cover may cost.
      free: `[n]`, networks to choose from.
      max_nodes: the search gives up after so many.

    Returns:
      Indices of networks, or None; and whether the search came to its end.
    """
    serves = np.isfinite(regrets)
    stack = [((), np.ones(regrets.shape[1], bool), budget, free)]
    for _ in range(max_nodes):
        if not stack:
            return None, True
        chosen, missing, left, free = stack.pop()
        if not missing.any():
            return chosen, True
        gains = serves[free][:, missing].sum(axis=1)
        useful = (gains > 0) & (costs[free] <= left)
        free, gains = free[useful], gains[useful]
        options = serves[free][:, missing].sum(axis=0)
        if not options.min() or _reach(gains, costs[free], left) < missing.sum() - 1e-6:
            continue
        task = np.flatnonzero(missing)[np.argmin(options)]
        able = np.flatnonzero(serves[free, task])
        mean = np.where(serves[free[able]], regrets[free[able]], 0).sum(axis=1) / gains[able]
        able = able[np.lexsort((mean, costs[free[able]] / gains[able]))]
        for n in free[able[::-1]].tolist():
            stack.append(((*chosen, n), missing & ~serves[n], left - costs[n], free))
    return None, False


def _reach(gains, costs, left):
    """How many more tasks some money can serve at most, where a part of a network may be bought."""
    order = np.argsort(costs / gains)
    spent = np.cumsum(costs[order])
    whole = int(np.searchsorted(spent, left, side='right'))
    reach = gains[order[:whole]].sum()
    if whole < len(order):
        rest = left - (spent[whole - 1] if whole else 0.0)
        reach += gains[order[whole]] * rest / costs[order[whole]]
    return reach
