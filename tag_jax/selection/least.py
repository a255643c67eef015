"""The least budget at which networks serve every task."""

import heapq
import itertools

import numpy as np

_STEPS = 500_000  # Sets of tasks that are looked at: about a second.


def least_budget(able: np.ndarray, costs: np.ndarray, max_steps: int = _STEPS) -> float | None:
    """The cost of the cheapest set of networks that serves every task.

    Sets of tasks that are served so far are tried by their cost, the lowest first; the first that
    holds every task is the cheapest.

    Args:
      able: bool `[N, T]`, whether a network can serve a task.
      costs: `[N]`, not negative.
      max_steps: the search ends after so many sets.

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
    everything, order, known = 2**num_tasks - 1, itertools.count(), {0: 0.0}
    heap = [(0.0, next(order), 0)]
    while heap:
        spent, _, served = heapq.heappop(heap)
        if served == everything:
            return spent
        if spent > known[served]:
            continue
        missing = [task for task in range(num_tasks) if not served >> task & 1]
        task = min(missing, key=lambda one: len(of_task[one]))
        max_steps -= len(of_task[task])
        if max_steps < 0:
            break
        for tasks, cost in of_task[task]:
            total, together = spent + cost, served | tasks
            if total < known.get(together, np.inf):
                known[together] = total
                heapq.heappush(heap, (total, next(order), together))
    return None
