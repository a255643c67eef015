"""Selection among candidate networks under an inference budget (Standley et al. 2020, Section 3).

With few tasks and few different costs the answer is read off partitions of the tasks into served
sets; else by branch and bound with a Lagrangian bound. Both prove it.
"""

import math
import numbers
import operator
import time
from collections.abc import Mapping

import numpy as np

from tag_jax.selection.candidates import Candidates
from tag_jax.selection.covers import MAX_NODES, Found, best_covers, irredundant, undominated
from tag_jax.selection.partitions import Partitions, affordable_counts
from tag_jax.selection.result import (
    Selection,
    as_good,
    checked_count,
    in_order,
    per_budget,
)
from tag_jax.selection.rules import rules_of

# Most additions that partitions may take; beyond it, branch and bound.
_MAX_WORK = 2e8
_MAX_WAYS = 500
_MOST_SCORES = 20_000_000


def select_networks(
    candidates: Candidates,
    budget,
    maximize: bool = False,
    *,
    task_weights=None,
    limits=None,
    min_size: int = 1,
    max_size: int | None = None,
    must_link=(),
    cannot_link=(),
    num_solutions: int = 1,
    max_nodes: int = MAX_NODES,
):
    """Chooses networks that serve all tasks with the best total score within a budget.

    Every task is served by the best of the chosen networks on it, and the objective is the
    weighted sum of these scores (Standley et al. 2020, Section 3). No chosen network could be left
    out without loss. Of equal networks the one that trains more tasks is chosen, then the first in
    the list; the same choice is made always.

    Args:
      candidates: N networks over T tasks.
      budget: what the chosen networks may cost together; a number, or a sequence of them.
      maximize: whether scores are to be high (accuracies), and not low (losses).
      task_weights: `[T]`, not negative; by default 1 for each task.
      limits: scores that must be reached, `[T]` (NaN for a task without) or `{task: score}`: a
        network beyond the limit of a task does not serve it.
      min_size, max_size: bounds of the number of tasks that a chosen network trains.
      must_link: sets of tasks, by name or index; a chosen network trains all or none of a set.
      cannot_link: sets of tasks of which a chosen network trains one at most.
      num_solutions: M, how many selections to return, best first. Two selections differ if their
        networks do.
      max_nodes: of branch and bound. If it ends early, `optimal` is false and `bound` is what no
        selection can better.

    Returns:
      A `Selection`. For `num_solutions` above 1, a tuple of up to M of them, fewer if there are no
      more. For a sequence of budgets, a tuple with an answer for each.

    Raises:
      ValueError: if no selection within a budget covers every task, with the task that none serves
        where there is one; if a budget is not positive and finite; if weights, limits, sizes or
        links mean nothing.
    """
    num_tasks = len(candidates.task_names)
    if candidates.scores.size > _MOST_SCORES:
        raise ValueError(
            f'{len(candidates)} networks over {num_tasks} tasks do not fit into memory: networks x '
            f'tasks must be {_MOST_SCORES:,} at most'
        )
    rules = rules_of(candidates.task_names, min_size, max_size, must_link, cannot_link)
    weights = _checked_weights(task_weights, num_tasks)
    num_solutions = checked_count('num_solutions', num_solutions)
    sign = 1 if maximize else -1
    gains = np.where(np.isnan(candidates.scores), -np.inf, sign * candidates.scores)
    for task in np.flatnonzero(np.isinf(gains).all(axis=0)):
        raise ValueError(f'no candidate solves the task {candidates.task_names[task]!r}')
    gains[~_within_limits(candidates, limits, maximize)] = -np.inf
    gains[~rules.allow(candidates.members)] = -np.inf
    for task in np.flatnonzero(np.isinf(gains).all(axis=0)):
        raise ValueError(
            f'no candidate may serve {candidates.task_names[task]!r}: none keeps the rules '
            f'({rules}) and the limits'
        )
    ideal = gains.max(axis=0)
    able = np.isfinite(gains)
    gains = np.where(able, weights * np.where(able, gains - ideal, 0), -np.inf)
    solve = _solver(gains, candidates, num_solutions, max_nodes)

    def select(amount):
        start = time.perf_counter()
        amount = _checked_budget(amount)
        found = solve(amount)
        if not found.covers:
            raise ValueError(_why_infeasible(candidates, gains, amount, found))
        bound = sign * (math.fsum(weights * ideal) - min(found.proven, found.covers[0][0]))
        elapsed = time.perf_counter() - start
        selections = []
        for regret, networks in found.covers:
            one = _selection(candidates, gains[list(networks)], weights, networks)
            proven = regret <= found.proven
            selections.append(
                one._replace(
                    bound=one.objective if proven else bound, optimal=proven, elapsed=elapsed
                )
            )
        return selections

    return per_budget(select, budget, num_solutions)


def serve(candidates: Candidates, networks, maximize: bool = False, *, task_weights=None):
    """What some networks reach together, every task served by the best of them.

    To serve by other scores than those that the networks were chosen by: early stopping
    (Standley et al. 2020, Section 3.3.1) chooses by early losses and serves by final ones.

    Args:
      candidates: N networks over T tasks.
      networks: indices of the chosen ones.
      maximize: whether scores are to be high.
      task_weights: `[T]`, not negative; by default 1 for each task.

    Returns:
      A `Selection`, of those of the networks that serve a task. There was nothing to choose, so
      `optimal` is true.

    Raises:
      ValueError: if no network serves some task, or one is not among the candidates.
    """
    networks = [operator.index(n) for n in networks]
    for n in networks:
        if not 0 <= n < len(candidates):
            raise ValueError(f'there is no network {n} among {len(candidates)} candidates')
    weights = _checked_weights(task_weights, len(candidates.task_names))
    scores = candidates.scores[networks]
    for task in np.flatnonzero(np.isnan(scores).all(axis=0)):
        raise ValueError(f'none of the networks serves {candidates.task_names[task]!r}')
    gains = np.where(np.isnan(scores), -np.inf, scores if maximize else -scores)
    gains = gains - gains.max(axis=0)
    return _selection(candidates, gains, weights, networks)


def served_scores(selected: Selection, candidates: Candidates) -> np.ndarray:
    """The score of the network that serves each task, `[T]`.

    Args:
      selected: a selection of networks.
      candidates: the same networks, with the scores to look up: those on a test set, say.
    """
    scores = np.full(len(candidates.task_names), np.nan)
    for network, tasks in zip(selected.networks, selected.serves, strict=True):
        scores[list(tasks)] = candidates.scores[network, list(tasks)]
    return scores


def _selection(candidates, gains, weights, networks):
    """The `Selection` of some candidates with gains `[K, T]`, optimal as yet."""
    networks, serves = in_order(networks, gains)
    objective = math.fsum(
        weights[task] * candidates.scores[n, task]
        for n, tasks in zip(networks, serves, strict=True)
        for task in tasks
    )
    groups = tuple(tuple(np.flatnonzero(candidates.members[n]).tolist()) for n in networks)
    return Selection(groups, serves, objective, objective, True, networks, 0.0)


def _solver(gains, candidates, num_solutions, max_nodes):
    """The function budget -> `Found`."""
    sizes = candidates.members.sum(axis=1)
    kept = np.flatnonzero(np.isfinite(gains).any(axis=1))
    if num_solutions == 1:
        kept = kept[undominated(-gains[kept], candidates.costs[kept], sizes[kept])]
    costs, regrets = candidates.costs[kept], -gains[kept]
    num_tasks = gains.shape[1]
    prices = np.unique(costs)
    ways = math.comb(num_tasks + len(prices), num_tasks)
    few = ways <= _MAX_WAYS and ways * len(prices) * 3**num_tasks / 4 <= _MAX_WORK
    few = few and len(kept) * 2**num_tasks <= _MAX_WORK
    if num_solutions == 1 and few:
        solve = _by_partitions(-regrets, costs, prices)
    else:

        def solve(budget):
            return best_covers(regrets, costs, budget, num_solutions, max_nodes=max_nodes)

    def among_all(budget):
        covers, proven = solve(budget)
        return Found(
            tuple((regret, tuple(kept[list(networks)].tolist())) for regret, networks in covers),
            proven,
        )

    return among_all


def _by_partitions(gains, costs, prices):
    """A solver for few tasks and few prices: the best partition into served sets.

    Of equal selections it takes one of the lowest cost, then of the fewest networks.
    """
    num_tasks = gains.shape[1]
    of_price = [np.flatnonzero(costs == price) for price in prices]
    partitions = Partitions(np.stack([_best_over_sets(gains[rows]) for rows in of_price]))

    def solve(budget):
        ways = affordable_counts(prices, budget, num_tasks)
        values = np.array([partitions.value(way) for way in ways])
        if values.max() == -np.inf:
            return Found((), np.inf)
        way = ways[int(np.argmax(as_good(values, values.max())))]
        networks = set()
        for kind, tasks in partitions.parts(way):
            members = [task for task in range(num_tasks) if tasks >> task & 1]
            totals = gains[of_price[kind]][:, members].sum(axis=1)
            networks.add(int(of_price[kind][np.argmax(as_good(totals, totals.max()))]))
        networks = irredundant(-gains, networks)
        return Found(((-values.max(), networks),), np.inf)

    return solve


def _best_over_sets(gains):
    """The gain of the best of some networks for every served set, `[2^T]`."""
    best = []
    for rows in np.array_split(gains, len(gains) * 2 ** gains.shape[1] // 2**24 + 1):
        sums = np.zeros((len(rows), 1))
        for column in rows.T:
            sums = np.concatenate([sums, sums + column[:, None]], axis=1)
        best.append(sums.max(axis=0))
    best = np.max(best, axis=0)
    best[0] = 0
    return best


def _within_limits(candidates, limits, maximize):
    """Which scores reach the limits of their tasks, bool `[N, T]`."""
    if limits is None:
        return np.ones(candidates.scores.shape, bool)
    if isinstance(limits, Mapping):
        for task in limits:
            if task not in candidates.task_names:
                raise ValueError(
                    f'limits name {task!r}, which is not among {", ".join(candidates.task_names)}'
                )
        limits = [limits.get(task, np.nan) for task in candidates.task_names]
    limits = _vector('limits', limits, len(candidates.task_names))
    with np.errstate(invalid='ignore'):
        missed = candidates.scores < limits if maximize else candidates.scores > limits
    return ~missed


def _checked_weights(weights, num_tasks):
    if weights is None:
        return np.ones(num_tasks)
    weights = _vector('task_weights', weights, num_tasks)
    for weight in weights[~(np.isfinite(weights) & (weights >= 0))]:
        raise ValueError(f'task_weights must be 0 or more, but one is {weight}')
    return weights


def _vector(name, values, num_tasks):
    values = np.asarray(values, np.float64)
    if values.shape != (num_tasks,):
        raise ValueError(f'{num_tasks} tasks need {num_tasks} {name}, not {values.shape}')
    return values


def _checked_budget(budget):
    if isinstance(budget, bool) or not isinstance(budget, numbers.Real):
        raise ValueError(f'budget must be a number, not {budget!r}')
    if not math.isfinite(budget) or budget < 0:
        raise ValueError(f'budget must be finite and not negative, not {budget}')
    return float(budget)


def _why_infeasible(candidates, gains, budget, found):
    """A sentence about a budget that no selection keeps."""
    affordable_ones = candidates.costs <= budget * (1 + 1e-9)
    for task in np.flatnonzero(~np.isfinite(gains[affordable_ones]).any(axis=0)):
        name = candidates.task_names[task]
        return f'no candidate that costs {budget:g} or less may serve {name!r}'
    if found.proven < np.inf:
        return (
            f'the search found no selection within a budget of {budget:g}, nor that there is none'
        )
    return f'no selection within a budget of {budget:g} covers every task: allow a larger one'
