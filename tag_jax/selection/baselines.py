"""Baselines of a selection (Standley et al. 2020, Section 4.1).

Examples:
  >>> from tag_jax import selection
  >>> candidates = selection.Candidates.from_table(
  ...     [{'scores': {'a': 1.0, 'b': 4.0}}, {'scores': {'a': 2.0}}, {'scores': {'b': 2.0}}]
  ... )
  >>> selection.all_in_one(candidates, budget=1).objective
  5.0
  >>> selection.independent(candidates, budget=2).objective
  4.0
  >>> selection.random_selections(candidates, budget=2).mean
  4.25
"""

import heapq
import itertools
import math
from typing import NamedTuple

import numpy as np

from tag_jax.selection.candidates import Candidates, check_same_networks
from tag_jax.selection.networks import select_networks, serve
from tag_jax.selection.partitions import affordable, with_rounding
from tag_jax.selection.result import Infeasible, Selection, checked_budget, checked_count

_ENUMERATED = 1_000_000  # Affordable sets of networks, at most, that are gone through one by one.
_KEYS, _BATCHES = 2_000_000, 100  # Random numbers drawn at once, and how often.
_AT_ONCE = 50_000
_NODES, _HEAP = 100_000, 1_000_000


class Spread(NamedTuple):
    """How random valid selections come out.

    Attributes:
      mean, std: of the total score over selections.
      stderr: of the mean; 0 where all selections were gone through.
      least, greatest: totals.
      count: selections that were looked at.
      exact: whether these are all there are.
    """

    mean: float
    std: float
    stderr: float
    least: float
    greatest: float
    count: int
    exact: bool


def all_in_one(
    candidates: Candidates, budget: float = math.inf, maximize: bool = False
) -> Selection:
    """The best single network that serves every task.

    Args:
      candidates: N networks over T tasks.
      budget: what the network may cost.
      maximize: whether scores are to be high.

    Raises:
      Infeasible: if no network within the budget serves every task. It is a ValueError.
    """
    complete = np.isfinite(candidates.scores).all(axis=1) & affordable(candidates.costs, budget)
    if not complete.any():
        raise Infeasible(f'no network that costs {budget:g} or less serves every task')
    totals = np.where(complete, candidates.gains(maximize).sum(axis=1), -np.inf)
    return serve(candidates, [int(totals.argmax())], maximize)


def independent(
    candidates: Candidates, budget: float, maximize: bool = False, equal: bool = False
) -> Selection:
    """The best networks of one task each.

    Args:
      candidates: N networks over T tasks.
      budget: what the networks may cost together.
      maximize: whether scores are to be high.
      equal: whether all cost the same, budget / T, so that the budget is spent to the end: the
        paper's baseline (Section 4; Table 7). Otherwise networks of different costs are mixed as
        their scores ask for, and need not use the budget up.

    Raises:
      Infeasible: if the budget does not pay for a network of its own for every task, or, with
        `equal`, if a task has none of that cost. It is a ValueError.
    """
    if not equal:
        return select_networks(candidates, budget, maximize, max_size=1)
    size = len(candidates.task_names)
    cost = checked_budget(budget) / size
    alone = (candidates.members.sum(axis=1) == 1) & np.isclose(candidates.costs, cost, rtol=1e-6)
    gains = np.where(alone[:, None], candidates.gains(maximize), -np.inf)
    served = np.isfinite(gains.max(axis=0))
    if not served.all():
        raise Infeasible(
            f'{candidates.task_names[served.argmin()]!r} has no network of its own that costs '
            f'{cost:g}, a budget of {budget:g} over {size} tasks'
        )
    return serve(candidates, gains.argmax(axis=0).tolist(), maximize)


def pessimal(
    candidates: Candidates, budget: float, maximize: bool = False, max_nodes: int = _NODES
) -> Selection:
    """The valid selection with the worst total, every task still served by its best network.

    Adding a network never makes it worse, so a budget need not be used up. (The pessimal row of the
    paper's Table 7 improves from a budget of 3.5 on; it does not say what its selections had to
    keep.)

    Args:
      candidates: N networks over T tasks.
      budget: what the networks may cost together.
      maximize: whether scores are to be high.
      max_nodes: of branch and bound; if it ends early, `optimal` is false.

    Raises:
      Infeasible: if no selection within the budget covers every task. It is a ValueError.
    """
    budget, max_nodes = checked_budget(budget), checked_count('max_nodes', max_nodes)
    best = select_networks(candidates, budget, maximize).networks
    losses = -candidates.gains(maximize)
    networks, bound, optimal = _worst_cover(losses, candidates.costs, budget, max_nodes)
    worst = serve(candidates, best if networks is None else networks, maximize)
    bound = worst.objective if optimal else float(-bound if maximize else bound)
    return worst._replace(bound=bound, optimal=optimal)


def _worst_cover(losses, costs, budget, max_nodes):
    """The affordable cover with the greatest total loss, by branch and bound on tasks.

    Args:
      losses: `[N, T]`, inf where a network cannot serve a task.
      costs: `[N]`.
      budget: at least one cover is within it.
      max_nodes: the search ends after so many.

    Returns:
      Indices of networks, or None if none was found in time; a bound; whether it is the worst.
    """
    paid = np.flatnonzero(affordable(costs, budget))
    serves = np.isfinite(losses)
    ceiling = np.where(serves[paid], losses[paid], -np.inf).max(axis=0)
    options = serves[paid].sum(axis=0)
    order = itertools.count()
    start = ((), np.full(len(ceiling), np.inf), with_rounding(budget))
    heap = [(-ceiling.sum(), next(order), *start)]
    for _ in range(max_nodes):
        if len(heap) > _HEAP:
            break
        bound, _, networks, served, left = heapq.heappop(heap)
        missing = np.isinf(served)
        if not missing.any():
            return networks, -bound, True
        task = np.flatnonzero(missing)[np.argmin(options[missing])]
        able = paid[serves[paid, task] & (costs[paid] <= left)]
        together = np.minimum(served, losses[able])
        bounds = np.where(np.isinf(together), ceiling, together).sum(axis=1)
        for n, row, total in zip(able.tolist(), together, bounds.tolist(), strict=True):
            heapq.heappush(heap, (-total, next(order), (*networks, n), row, left - costs[n]))
    whole = [entry for entry in heap if np.isfinite(entry[3]).all()]
    return (min(whole)[2] if whole else None), -heap[0][0], False


def random_selections(
    candidates: Candidates,
    budget: float,
    maximize: bool = False,
    outcomes: Candidates | None = None,
    num_samples: int = 1000,
    seed: int = 0,
) -> Spread:
    """How a valid selection comes out that is drawn at random.

    All sets of networks that the budget pays for and that serve every task are equally likely. (The
    paper does not say how it drew its thousand.)

    Args:
      candidates: N networks over T tasks; a task is served by the best of a set by these scores.
      budget: what the networks may cost together.
      maximize: whether scores are to be high.
      outcomes: the same networks with the scores to count, those on a test set; by default the
        scores of the candidates.
      num_samples: selections to draw where there are too many to go through them all.
      seed: of the draws.

    Raises:
      Infeasible: if there is no valid selection, or drawing finds none. It is a ValueError.
      ValueError: if outcomes are of other networks or tasks than candidates.
    """
    budget, num_samples = checked_budget(budget), checked_count('num_samples', num_samples)
    outcomes = candidates if outcomes is None else outcomes
    check_same_networks('outcomes', outcomes, candidates)
    rng = np.random.default_rng(seed)
    batches = [_affordable_sets(candidates.costs, budget)]
    exact = batches[0] is not None
    if not exact:
        batches = _drawn_sets(candidates.costs, budget, rng)
    totals = np.zeros(0)
    for batch in batches:
        found = [_totals(candidates, outcomes, block, maximize) for block in batch]
        totals = np.concatenate([totals, rng.permutation(np.concatenate([np.zeros(0), *found]))])
        if not exact and len(totals) >= num_samples:
            totals = totals[:num_samples]
            break
    if not len(totals):
        raise Infeasible(
            f'no selection within a budget of {budget:g} covers every task'
            if exact
            else f'no selection was found among random sets of networks within a budget of '
            f'{budget:g}: valid ones are too rare to be drawn'
        )
    std = totals.std()
    return Spread(
        float(totals.mean()),
        float(std),
        0.0 if exact else float(std / math.sqrt(len(totals))),
        float(totals.min()),
        float(totals.max()),
        len(totals),
        exact,
    )


def _totals(candidates, outcomes, sets, maximize):
    """The total outcome of those sets of networks `[S, K]` that serve every task."""
    gains = candidates.gains(maximize)[sets]
    covers = np.isfinite(gains.max(axis=1)).all(axis=1)
    servers = np.take_along_axis(sets[covers], gains[covers].argmax(axis=1), axis=1)
    return outcomes.scores[servers, np.arange(servers.shape[1])].sum(axis=1)


def _affordable_sets(costs, budget):
    """All sets of networks within a budget, as arrays `[S, K]` of sets of K; None if too many."""
    sets, spent = np.zeros((1, 0), np.int32), np.zeros(1)
    found, count = [], 0
    while len(sets):
        last = sets[:, -1] if sets.shape[1] else np.full(1, -1)
        following = len(costs) - 1 - last
        if following.sum() > 20 * _ENUMERATED:
            return None
        row = np.repeat(np.arange(len(sets)), following)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(following) - following, following)
        network = last[row] + 1 + offset
        paid = spent[row] + costs[network]
        keep = affordable(paid, budget)
        sets = np.concatenate([sets[row[keep]], network[keep, None].astype(np.int32)], axis=1)
        spent = paid[keep]
        count += len(sets)
        if count > _ENUMERATED:
            return None
        found += np.array_split(sets, len(sets) // _AT_ONCE + 1)
    return found


def _drawn_sets(costs, budget, rng):
    """Sets of networks within a budget, all equally likely: batches of arrays `[S, K]`.

    A set has K networks with a chance in proportion to the number of sets of K.
    """
    size = len(costs)
    most = int(affordable(np.cumsum(np.sort(costs)), budget).sum())
    logs = [-math.lgamma(k + 1) - math.lgamma(size - k + 1) for k in range(1, most + 1)]
    chances = np.exp(np.array(logs) - max(logs))
    batch_size = max(_KEYS // size, 1)
    for _ in range(_BATCHES):
        batch = []
        for k, count in enumerate(rng.multinomial(batch_size, chances / chances.sum()), 1):
            keys = rng.random((count, size))
            sets = np.argpartition(keys, min(k, size - 1), axis=1)[:, :k]
            batch.append(np.sort(sets, axis=1)[affordable(costs[sets].sum(axis=1), budget)])
        yield batch
