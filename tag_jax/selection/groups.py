"""Groups of tasks from pairwise affinities.

The score of a group onto one of its tasks is the mean affinity onto that task from the others in
it (Fifty et al. 2021, Section 4.2). Up to MAX_EXACT_TASKS tasks the best groups are found over all
sets of tasks:

1. The best network for a served set U trains U and some helpers. With m helpers it is worth
   (sum within U + the m largest summed effects on U) / (|U| + m - 1), so sorting the effects of
   the other tasks on U once answers for every m.
2. The best partition of the tasks into served sets follows from these by `partitions`.

Beyond that, `search` finds groups and bounds what any others could be worth.
"""

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tag_jax.selection.covers import best_covers, irredundant
from tag_jax.selection.group_scores import (
    GroupScores,
    checked_singleton_scores,
    groups_of_members,
    members_of_groups,
    named_affinity,
    scores_of,
)
from tag_jax.selection.partitions import Partitions, members_of, subsets
from tag_jax.selection.result import (
    Infeasible,
    Selection,
    as_good,
    checked_count,
    in_order,
    per_budget,
)
from tag_jax.selection.rules import rules_of
from tag_jax.selection.search import search

MAX_EXACT_TASKS = 20

# Sets that are worked on at once.
_CHUNK = 1 << 14


def select_groups(
    affinity: ArrayLike,
    budget: int | Sequence[int],
    singleton_scores: ArrayLike | None = None,
    num_solutions: int = 1,
    *,
    min_size: int = 1,
    max_size: int | None = None,
    must_link: Iterable[Iterable[int | str]] = (),
    cannot_link: Iterable[Iterable[int | str]] = (),
    task_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Selection | Any:
    """Chooses at most `budget` groups of tasks that maximise the affinity onto all tasks.

    The score of a group onto one of its tasks is the mean affinity onto that task from the others
    in the group (Fifty et al. 2021, Section 4.2). A task may be trained in several groups; it is
    served by the one with the best score onto it. The objective is the sum over tasks of the score
    from the group that serves them. No chosen group could be left out without loss, and the answer
    is always the same one; for one solution of up to MAX_EXACT_TASKS tasks, among selections that
    are equal but for rounding, one with the fewest groups.

    Args:
      affinity: `[T, T]`, `affinity[i, j]` the effect of source task i on target task j: inter-task
        affinities, cosine similarities, or any other score of a pair. The diagonal is not used. The
        columns of a data frame name the tasks, and its rows are put into their order.
      budget: the number of networks that may be used, at least 1 (more than T are never needed);
        or a sequence of such numbers.
      singleton_scores: `[T]`, or by name where the tasks have names: the score of a task that
        trains alone. None: a task never trains alone, except where there is only one, which then
        scores 0.
      num_solutions: M, how many selections to return, best first. Two selections differ if their
        groups do.
      min_size, max_size: bounds of the number of tasks in a group.
      must_link: sets of tasks, by index or by name, of which a group holds all or none.
      cannot_link: sets of tasks, by index or by name, of which a group holds one at most.
      task_names: T names; by default those of a data frame.
      seed: of the search beyond MAX_EXACT_TASKS tasks.

    Returns:
      A `Selection`: up to MAX_EXACT_TASKS tasks an optimal one, beyond that the best one found and
      a certified `bound`, equal to the objective where it could be proven optimal. For
      `num_solutions` above 1, a tuple of up to M of them, fewer if no more were found; each says
      for itself whether it is proven to be next. For a sequence of budgets, a tuple with an answer
      for each.

    Raises:
      Infeasible: if no selection that keeps the rules was found. It is a ValueError.
      ValueError: if the matrix is not square or holds NaN or infinities, if there are no tasks, if
        a budget is not an integer of at least 1, if there are not T singleton scores, or if rows
        and columns, or singleton scores, have other names.
    """
    start = time.perf_counter()
    affinity, task_names = named_affinity(affinity, task_names)
    num_tasks = len(affinity)
    singleton_scores = checked_singleton_scores(singleton_scores, num_tasks, task_names)
    names = task_names or [f'task {task}' for task in range(num_tasks)]
    rules = rules_of(names, min_size, max_size, must_link, cannot_link)
    groups = GroupScores(affinity, singleton_scores, rules)
    score = functools.partial(scores_of, affinity, singleton_scores)
    found = selected(groups, score, budget, num_solutions, seed, start)
    return _named(found, task_names)


def _named(found, task_names):
    """Selections, or tuples of them, with the names of their tasks."""
    if task_names is None:
        return found
    if not isinstance(found, Selection):
        return tuple(_named(one, task_names) for one in found)
    return found._replace(task_names=task_names)


def selected(
    groups: GroupScores,
    score: Callable[[np.ndarray], np.ndarray],
    budget: int | Sequence[int],
    num_solutions: int,
    seed: int,
    start: float,
) -> Selection | Any:
    """The answer of `select_groups`, for scores of any form that `GroupScores` takes.

    Args:
      groups: `GroupScores`.
      score: bool `[G, T]` -> `[G, T]`, the scores that these are relative to the best of.
      budget, num_solutions, seed: see `select_groups`.
      start: of the work, by `time.perf_counter`.
    """
    num_tasks, rules = len(groups.affinity), groups.rules
    num_solutions = checked_count('num_solutions', num_solutions)
    if num_tasks <= MAX_EXACT_TASKS:
        partitions = Partitions(best_network_gains(groups)[None])

    def select(amount):
        nonlocal start
        amount = min(checked_count('budget', amount), num_tasks)
        if num_tasks > MAX_EXACT_TASKS:
            found, bound = search(groups, amount, num_solutions, seed)
        elif num_solutions == 1:
            found, bound = _best_selection(groups, partitions, amount)
        else:
            found, bound = _best_selections(groups, partitions, amount, num_solutions)
        if not found:
            missing = 'no selection' if num_tasks <= MAX_EXACT_TASKS else 'the search found none'
            raise Infeasible(
                f'{missing} of at most {amount} groups that keeps the rules ({rules}) and holds '
                'every task: allow more groups, or mend the rules'
            )
        elapsed, start = time.perf_counter() - start, time.perf_counter()
        return _selections(groups, score, found, bound, elapsed)

    return per_budget(select, budget, num_solutions)


def best_network_gains(groups: GroupScores) -> np.ndarray:
    """The gain of the best network that serves U, for every set U of tasks, `[2^T]`.

    0 for the empty set, which needs no network; -inf where the rules allow none.

    Args:
      groups: `GroupScores`.
    """
    rules, num_tasks = groups.rules, len(groups.affinity)
    unlinked = (2**num_tasks - 1) & ~rules.with_links
    patterns = subsets(rules.with_links)
    no_sizes = rules._replace(smallest=0, largest=num_tasks)
    best = np.full(2**num_tasks, -np.inf)
    for pattern in patterns[no_sizes.allow(members_of(patterns, num_tasks))].tolist():
        sets = subsets(unlinked | pattern)
        for served in np.array_split(sets, len(sets) // _CHUNK + 1):
            gains = _best_gains(groups, pattern, members_of(unlinked, num_tasks), served)
            best[served] = np.maximum(best[served], gains)
    best[0] = 0
    return best


def _best_gains(groups, pattern, helpers, served):
    """The gain of the best network for each of some served sets.

    Args:
      groups: `GroupScores`.
      pattern: bit mask of the tasks with links that the network trains.
      helpers: bool `[T]`, tasks without links, of which it may train any.
      served: `[n]`, bit masks.
    """
    rules, num_tasks = groups.rules, len(groups.affinity)
    members = members_of(served, num_tasks)
    effects = members @ groups.affinity.T
    needed = members | members_of(pattern, num_tasks)
    sums, sizes = np.where(needed, effects, 0).sum(axis=1), needed.sum(axis=1)
    effects[~helpers | members] = -np.inf
    effects.sort(axis=1)
    helped = np.cumsum(effects[:, ::-1], axis=1)
    best = np.full(len(served), -np.inf)
    for count in range(num_tasks):
        size = sizes + count
        score = (sums + helped[:, count - 1] if count else sums) / groups.divisor(size)
        if groups.curve is not None:
            worth = groups.curve[np.minimum(size, num_tasks)]
            score = score + np.where(members, worth, 0).sum(axis=1)
        elif not count:
            alone = np.where(needed, groups.singleton_scores, -np.inf).max(axis=1)
            score = np.where(sizes == 1, alone, score)
        score[(size < rules.smallest) | (size > rules.largest) | (served == 0)] = -np.inf
        np.maximum(best, score, out=best)
    return best


def networks_that_serve(groups: GroupScores, served: int) -> tuple[np.ndarray, np.ndarray]:
    """All networks that may serve a set of tasks, those that train fewest tasks first.

    Args:
      groups: `GroupScores`.
      served: bit mask of the tasks.

    Returns:
      members: bool `[G, T]`.
      gains: `[G]`, the sum of the network's scores onto the served tasks.
    """
    num_tasks = len(groups.affinity)
    members = members_of(served | subsets((2**num_tasks - 1) & ~served), num_tasks)
    members = members[groups.rules.allow(members)]
    members = members[np.argsort(members.sum(axis=1), kind='stable')]
    return members, groups.of(members)[:, members_of(served, num_tasks)].sum(axis=1)


def _best_selection(groups, partitions, budget):
    """The best selection, with as few groups as possible: a list of at most one, and its gain."""
    values = []
    for count in range(1, budget + 1):
        values.append(partitions.value((count,)))
        if values[-1] == 0:
            break
    if max(values) == -np.inf:
        return [], np.inf
    enough = int(np.argmax(as_good(np.array(values), max(values)))) + 1
    found = _best_networks(groups, [served for _, served in partitions.parts((enough,))])
    return [found], _gain(groups, found)


def _best_networks(groups, served_sets):
    """The best network for each of some served sets, without those that are not needed.

    Returns:
      Tuples of tasks, in ascending order.
    """
    chosen = []
    for served in served_sets:
        members, gains = networks_that_serve(groups, served)
        chosen.append(members[np.argmax(as_good(gains, gains.max()))])
    chosen = np.unique(chosen, axis=0)
    return groups_of_members(chosen[list(irredundant(-groups.of(chosen), range(len(chosen))))])


def _best_selections(groups, partitions, budget, num_solutions):
    """The M best selections, and the gain up to which they are proven.

    The best selection in which U is a served set is known for every U. The M best of these give a
    threshold, and a better selection can only be made of groups that beat it with one of their
    served sets. These are few, and the covers among them are searched.
    """
    rest = partitions.up_to((budget - 1,))[::-1]
    values = partitions.up_to((1,)) + rest
    values[0] = -np.inf
    known, worst = {}, -np.inf
    for served in np.argsort(-values, kind='stable').tolist():
        if values[served] == -np.inf or len(known) >= num_solutions:
            break
        others = partitions.parts((budget - 1,), len(values) - 1 - served)
        found = _best_networks(groups, [served, *(tasks for _, tasks in others)])
        known[found] = _gain(groups, found)
    if not known:
        return [], np.inf
    if len(known) >= num_solutions:
        worst = sorted(known.values())[-num_solutions] * (1 - 1e-13)
    pool = {group for found in known for group in found}
    for served in np.flatnonzero(values > worst).tolist():
        members, gains = networks_that_serve(groups, served)
        pool.update(groups_of_members(members[gains + rest[served] > worst]))
    pool = sorted(pool)
    regrets = -groups.of(members_of_groups(pool, len(groups.affinity)))
    known = [[pool.index(group) for group in found] for found in known]
    found = best_covers(regrets, np.ones(len(pool)), budget, num_solutions, known)
    return [tuple(pool[n] for n in networks) for _, networks in found.covers], -found.proven


def _selections(groups, score, found, bound, elapsed):
    """Selections, optimal as far as they gain no less than the bound."""
    num_tasks = len(groups.affinity)
    best = _gain(groups, found[0])
    selections = []
    for chosen in found:
        ordered, serves = in_order(chosen, groups.of(members_of_groups(chosen, num_tasks)))
        scores = score(members_of_groups(ordered, num_tasks))
        objective = math.fsum(scores[n, task] for n, served in enumerate(serves) for task in served)
        optimal = bool(as_good(_gain(groups, chosen), bound))
        selections.append(Selection(ordered, serves, objective, objective, optimal, None, elapsed))
    top = float(selections[0].objective + max(bound - best, 0.0))
    return [one if one.optimal else one._replace(bound=top) for one in selections]


def _gain(groups, chosen):
    return groups.gain(members_of_groups(chosen, len(groups.affinity)))
