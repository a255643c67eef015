"""The least budget at which networks serve every task."""

import heapq
import itertools

import numpy as np

_NODES = 200_000


def least_budget(able: np.ndarray, costs: np.ndarray, max_nodes: int = _NODES) -> float | None:
    """The cost of the cheapest set of networks that serves every task.

    Sets of tasks that are served so far are tried by their cost, the lowest first; the first that
    holds every task is the cheapest.

    Args:
      able: bool `[N, T]`, whether a network can serve a task.
      costs: `[N]`, not negative.
      max_nodes: the search ends after so many sets.

    Returns:
      The cost; inf if some task has no network, None if the search ended early.
    """
    num_tasks = able.shape[1]
    if not able.any(axis=0).all():
        return np.inf
    prices = {}
    for row, cost in zip(able, costs.tolist(), strict=True):
        tasks = sum(1 << task for task in np.flatnonzero(row).tolist())
        prices[tasks] = min(cost, prices.get(tasks, np.inf))
    of_task = [
        [(tasks, cost) for tasks, cost in prices.items() if tasks >> task & 1]
        for task in range(num_tasks)
    ]
    everything, order, seen = 2**num_tasks - 1, itertools.count(), set()
    heap = [(0.0, next(order), 0)]
    for _ in range(max_nodes):
        spent, _, served = heapq.heappop(heap)
        if served == everything:
            return spent
        if served in seen:
            continue
        seen.add(served)
        missing = [task for task in range(num_tasks) if not served >> task & 1]
        task = min(missing, key=lambda one: len(of_task[one]))
        for tasks, cost in of_task[task]:
            heapq.heappush(heap, (spent + cost, next(order), served | tasks))
    return None
