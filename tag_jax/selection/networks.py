"""Selection among candidate networks under an inference budget (Standley et al. 2020, Section 3).

With few tasks and few different costs the answer is read off partitions of the tasks into served
sets; else by branch and bound with a Lagrangian bound. Both prove it.
"""

import math
import operator
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tag_jax.selection.candidates import LARGEST, Candidates
from tag_jax.selection.covers import MAX_NODES, Found, best_covers, irredundant, undominated
from tag_jax.selection.labels import labels_of
from tag_jax.selection.least import least_budget
from tag_jax.selection.partitions import Partitions, affordable, affordable_counts
from tag_jax.selection.result import (
    Infeasible,
    Selection,
    as_good,
    check_selected,
    checked_budget,
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
    budget: float | Sequence[float],
    maximize: bool = False,
    *,
    task_weights: ArrayLike | Mapping[str, float] | None = None,
    limits: ArrayLike | Mapping[str, float] | None = None,
    min_size: int = 1,
    max_size: int | None = None,
    must_link: Iterable[Iterable[int | str]] = (),
    cannot_link: Iterable[Iterable[int | str]] = (),
    num_solutions: int = 1,
    max_nodes: int = MAX_NODES,
) -> Selection | Any:
    """Chooses networks that serve all tasks with the best total score within a budget.

    Every task is served by the best of the chosen networks on it, and the objective is the
    weighted sum of these scores (Standley et al. 2020, Section 3). No chosen network could be left
    out without loss. Of networks that are equal on every task the one that trains more tasks is
    chosen, then the first in the list (where one selection is asked for); the same choice is made
    always.

    Args:
      candidates: N networks over T tasks.
      budget: what the chosen networks may cost together; a number, or a sequence of them.
      maximize: whether scores are to be high (accuracies), and not low (losses).
      task_weights: `[T]` or `{task: weight}`, not negative; by default 1 for each task.
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
      Infeasible: if no selection within a budget covers every task, with the task that none serves
        where there is one. It is a ValueError.
      ValueError: if a budget is negative or not finite; if weights, limits, sizes or links mean
        nothing.
    """
    start = time.perf_counter()
    _check_candidates(candidates)
    rules = rules_of(candidates.task_names, min_size, max_size, must_link, cannot_link)
    gains = allowed_gains(candidates, maximize, limits, rules)
    weights = checked_weights(task_weights, candidates)
    num_solutions = checked_count('num_solutions', num_solutions)
    sign, solvers = 1 if maximize else -1, {}

    def least():
        price = least_budget(np.isfinite(gains), candidates.costs)
        return (
            'allow a larger one' if price is None else f'the least budget that does is {price:.12g}'
        )

    def select(amount):
        nonlocal start
        amount = checked_budget(amount)
        paid = np.flatnonzero(affordable(candidates.costs, amount))
        for task in np.flatnonzero(~np.isfinite(gains[paid]).any(axis=0)):
            raise Infeasible(
                f'no candidate that costs {amount:g} or less may serve '
                f'{candidates.task_names[task]!r}: {least()}'
            )
        if len(paid) not in solvers:
            solvers[len(paid)] = _Solver(
                gains[paid], weights, candidates.take(paid), num_solutions, max_nodes
            )
        solver = solvers[len(paid)]
        found = solver.solve(amount)
        if not found.covers:
            raise Infeasible(
                f'no selection within a budget of {amount:g} covers every task: {least()}'
                if found.proven == np.inf
                else f'the search found no selection within a budget of {amount:g}, nor that there '
                'is none: allow a larger one, or more nodes'
            )
        bound = sign * (solver.ideal - min(found.proven, found.covers[0][0]))
        selections = []
        for regret, networks in found.covers:
            networks = paid[list(networks)].tolist()
            one = _selection(candidates, gains[networks], weights, networks)
            if regret > found.proven:
                one = one._replace(bound=float(bound), optimal=False)
            selections.append(one)
        elapsed, start = time.perf_counter() - start, time.perf_counter()
        return [one._replace(elapsed=elapsed) for one in selections]

    return per_budget(select, budget, num_solutions)


def serve(
    candidates: Candidates,
    networks: Sequence[int],
    maximize: bool = False,
    *,
    task_weights: ArrayLike | Mapping[str, float] | None = None,
) -> Selection:
    """The selection of some given networks, every task served by the best of them.

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
      Infeasible: if none of the networks serves some task. It is a ValueError.
      ValueError: if a network is not among the candidates.
    """
    networks = _indices(networks)
    for n in networks:
        if not 0 <= n < len(candidates):
            raise ValueError(f'there is no network {n} among {len(candidates)} candidates')
    weights = checked_weights(task_weights, candidates)
    scores = candidates.scores[networks]
    for task in np.flatnonzero(np.isnan(scores).all(axis=0)):
        raise Infeasible(f'none of the networks serves {candidates.task_names[task]!r}')
    gains = candidates.gains(maximize)[networks]
    return _selection(candidates, gains, weights, networks)


def _indices(networks):
    """Indices of networks as a list."""
    try:
        if np.asarray(networks).dtype == bool:
            raise TypeError
        return [operator.index(n) for n in networks]
    except TypeError:
        raise ValueError(f'networks must be a list of indices, not {networks!r}') from None


def served_scores(selected: Selection, candidates: Candidates) -> np.ndarray:
    """The score of the network that serves each task, `[T]`.

    Args:
      selected: a selection of networks.
      candidates: the same networks, with the scores to look up: those on a test set, say.

    Raises:
      ValueError: if the selection is not one of these candidates, by the names of its tasks and
        networks and the tasks that each network trains.
    """
    check_selected(selected, candidates)
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
    names = tuple(candidates.network_names[n] for n in networks)
    return Selection(
        groups, serves, objective, objective, True, networks, 0.0, candidates.task_names, names
    )


def _check_candidates(candidates):
    """Raises ValueError for what is no `Candidates`, or too many of them."""
    if not isinstance(candidates, Candidates):
        hint = ': take one split of it' if isinstance(candidates, Mapping) else ''
        raise ValueError(f'candidates must be Candidates, not a {type(candidates).__name__}{hint}')
    if candidates.scores.size > _MOST_SCORES:
        raise ValueError(
            f'{len(candidates)} networks over {len(candidates.task_names)} tasks do not fit into '
            f'memory: networks x tasks must be {_MOST_SCORES:,} at most'
        )


def allowed_gains(candidates, maximize, limits, rules) -> np.ndarray:
    """Scores, high ones good, of the networks that may serve a task, `[N, T]`; -inf elsewhere.

    Args:
      candidates, maximize, limits: see `select_networks`.
      rules: `Rules`.

    Raises:
      Infeasible: if no network may serve some task.
    """
    names = candidates.task_names
    gains = candidates.gains(maximize)
    for task in np.flatnonzero(np.isinf(gains).all(axis=0)):
        raise Infeasible(f'no candidate solves the task {names[task]!r}')
    gains[~_within_limits(candidates, limits, maximize)] = -np.inf
    gains[~rules.allow(candidates.members)] = -np.inf
    for task in np.flatnonzero(np.isinf(gains).all(axis=0)):
        raise Infeasible(
            f'no candidate may serve {names[task]!r}: none keeps the rules ({rules}) and the limits'
        )
    return gains


class _Solver:
    """The best sets of some networks, for any budget that pays for each of them.

    Attributes:
      ideal: the weighted sum of the best score of every task.
      solve: budget -> `Found`.
    """

    def __init__(self, gains, weights, candidates, num_solutions, max_nodes):
        best = gains.max(axis=0)
        self.ideal = math.fsum(weights * best)
        able = np.isfinite(gains)
        regrets = np.where(able, weights * np.where(able, best - gains, 0), np.inf)
        sizes = candidates.members.sum(axis=1)
        kept = np.flatnonzero(able.any(axis=1))
        if num_solutions == 1:
            kept = kept[undominated(regrets[kept], candidates.costs[kept], sizes[kept])]
        regrets, costs = regrets[kept], candidates.costs[kept]
        if num_solutions == 1 and _few(costs, regrets.shape[1]):
            solve = _by_partitions(-regrets, costs)
        else:

            def solve(budget):
                return best_covers(regrets, costs, budget, num_solutions, max_nodes=max_nodes)

        def among_all(budget):
            covers, proven = solve(budget)
            covers = ((regret, tuple(kept[list(nets)].tolist())) for regret, nets in covers)
            return Found(tuple(covers), proven)

        self.solve = among_all


def _few(costs, num_tasks):
    """Whether there are so few tasks and prices that partitions are the shorter way."""
    prices = len(np.unique(costs))
    ways = math.comb(num_tasks + prices, num_tasks)
    work = max(ways * prices * 3**num_tasks // 4, len(costs) * 2**num_tasks)
    return ways <= _MAX_WAYS and work <= _MAX_WORK


def _by_partitions(gains, costs):
    """A solver for few tasks and few prices: the best partition into served sets.

    Of equal selections it takes one of the lowest cost, then of the fewest networks.
    """
    num_tasks, prices = gains.shape[1], np.unique(costs)
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
        return Found(((float(-values.max()), networks),), np.inf)

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
    limits = np.nan if limits is None else limits
    limits = of_tasks('limits', limits, candidates.task_names, np.nan)
    with np.errstate(invalid='ignore'):
        missed = candidates.scores < limits if maximize else candidates.scores > limits
    return ~missed


def checked_weights(weights, candidates) -> np.ndarray:
    """Weights of tasks, `[T]`. Raises ValueError if they will not do.

    Args:
      weights: `[T]`, one number, or by name; None for 1 each.
      candidates: whose scores they are for.
    """
    names = candidates.task_names
    weights = of_tasks('task_weights', 1.0 if weights is None else weights, names, 1.0)
    for weight in weights[~(np.isfinite(weights) & (weights >= 0))]:
        raise ValueError(f'task_weights must be 0 or more, but one is {weight}')
    largest = np.nan_to_num(np.abs(candidates.scores)).max(axis=0)
    with np.errstate(over='ignore'):
        if not (weights * largest < LARGEST).all():
            raise ValueError('task_weights times scores are too large to be added')
    return weights


def of_tasks(name, values, task_names, default):
    """Values `[T]`, from an array, one number for all, or `{task: value}`.

    Args:
      name: of the argument, for errors.
      values: what was given.
      task_names: T names.
      default: the value of tasks that a dict does not name.
    """
    if (labels := labels_of(values, 0)) is not None:
        values = dict(zip(labels, np.asarray(values).tolist(), strict=True))
    if isinstance(values, Mapping):
        for task in values:
            if task not in task_names:
                raise ValueError(
                    f'{name} name {task!r}, which is not among {", ".join(task_names)}'
                )
        values = [values.get(task, default) for task in task_names]
    values = np.asarray(values, np.float64)
    if values.shape not in ((), (len(task_names),)):
        raise ValueError(
            f'{len(task_names)} tasks need {len(task_names)} {name}, not {values.shape}'
        )
    return np.broadcast_to(values, len(task_names))
