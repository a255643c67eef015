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

import math
import time

import numpy as np

from tag_jax.selection.candidates import LARGEST
from tag_jax.selection.covers import best_covers, irredundant
from tag_jax.selection.partitions import Partitions, members_of, subsets
from tag_jax.selection.result import Selection, as_good, checked_count, in_order, per_budget
from tag_jax.selection.rules import rules_of
from tag_jax.selection.search import search

MAX_EXACT_TASKS = 20

# Sets that are worked on at once.
_CHUNK = 1 << 14


def select_groups(
    affinity,
    budget,
    singleton_scores=None,
    num_solutions: int = 1,
    *,
    min_size: int = 1,
    max_size: int | None = None,
    must_link=(),
    cannot_link=(),
    seed: int = 0,
):
    """Chooses at most `budget` groups of tasks that maximise the affinity onto all tasks.

    The score of a group onto one of its tasks is the mean affinity onto that task from the others
    in the group (Fifty et al. 2021, Section 4.2). A task may be trained in several groups; it is
    served by the one with the best score onto it. The objective is the sum over tasks of the score
    from the group that serves them. Among selections that are equal but for rounding, one with the
    fewest groups is returned, and always the same one.

    Args:
      affinity: `[T, T]`, `affinity[i, j]` the effect of source task i on target task j: inter-task
        affinities, cosine similarities, or any other score of a pair. The diagonal is not used.
      budget: the number of networks that may be used, at least 1 (more than T are never needed);
        or a sequence of such numbers.
      singleton_scores: `[T]`, the score of a task that trains alone. None: a task never trains
        alone, except where there is only one, which then scores 0.
      num_solutions: M, how many selections to return, best first. Two selections differ if their
        groups do; no group of a selection could be left out without loss.
      min_size, max_size: bounds of the number of tasks in a group.
      must_link: sets of tasks, by index, of which a group holds all or none.
      cannot_link: sets of tasks, by index, of which a group holds one at most.
      seed: of the search beyond MAX_EXACT_TASKS tasks.

    Returns:
      A `Selection`: up to MAX_EXACT_TASKS tasks an optimal one, beyond that the best one found and
      a certified `bound`, equal to the objective where it could be proven optimal. For
      `num_solutions` above 1, a tuple of up to M of them, fewer if there are no more. For a
      sequence of budgets, a tuple with an answer for each.

    Raises:
      ValueError: if the matrix is not square or holds NaN or infinities, if there are no tasks, if
        a budget is not an integer of at least 1, if there are not T singleton scores, or if no
        groups keep the rules.
    """
    affinity = _checked_affinity(affinity)
    num_tasks = len(affinity)
    singleton_scores = _checked_singleton_scores(singleton_scores, num_tasks)
    names = [f'task {task}' for task in range(num_tasks)]
    rules = rules_of(names, min_size, max_size, must_link, cannot_link)
    num_solutions = checked_count('num_solutions', num_solutions)
    relative = _relative_to_the_best(affinity, singleton_scores)
    if num_tasks <= MAX_EXACT_TASKS:
        best = best_network_gains(*relative, rules)
        partitions = Partitions(best[None])

    def select(amount):
        start = time.perf_counter()
        amount = min(checked_count('budget', amount), num_tasks)
        if num_tasks > MAX_EXACT_TASKS:
            found, gap = search(*relative, rules, amount, num_solutions, seed)
        elif num_solutions > 1:
            found, gap = _best_selections(*relative, rules, partitions, amount, num_solutions), 0
        else:
            found, gap = _best_selection(*relative, rules, partitions, amount), 0
        if not found:
            raise ValueError(
                f'no {amount} groups that keep the rules ({rules}) hold every task: allow more '
                'groups, or mend the rules'
            )
        elapsed = time.perf_counter() - start
        return [
            _selection(affinity, singleton_scores, relative, groups, gap, elapsed)
            for groups in found
        ]

    return per_budget(select, budget, num_solutions)


def group_scores(affinity, group, singleton_scores) -> np.ndarray:
    """The score of a group onto each of its tasks.

    Args:
      affinity: `[T, T]`, source task first.
      group: indices of G tasks.
      singleton_scores: `[T]`, used where the group is one task.

    Returns:
      `[G]`: for each task, the mean affinity onto it from the rest of the group.
    """
    group = list(group)
    if len(group) == 1:
        return singleton_scores[group]
    within = affinity[np.ix_(group, group)]
    return (within.sum(axis=0) - within.diagonal()) / (len(group) - 1)


def gains_of(affinity, singleton_scores, members) -> np.ndarray:
    """The score of many groups onto every task.

    Args:
      affinity: `[T, T]`, source task first, its diagonal 0.
      singleton_scores: `[T]`.
      members: bool `[G, T]`.

    Returns:
      `[G, T]`, -inf outside the group.
    """
    sizes = members.sum(axis=1, keepdims=True)
    gains = (members @ affinity) / np.maximum(sizes - 1, 1)
    gains = np.where(sizes == 1, singleton_scores, gains)
    return np.where(members, gains, -np.inf)


def best_network_gains(affinity, singleton_scores, rules) -> np.ndarray:
    """The gain of the best network that serves U, for every set U of tasks, `[2^T]`.

    0 for the empty set, which needs no network; -inf where the rules allow none.
    """
    num_tasks = len(affinity)
    best = np.full(2**num_tasks, -np.inf)
    everything = 2**num_tasks - 1
    for pattern in _patterns(rules, num_tasks):
        helpers = members_of(everything & ~rules.special, num_tasks)
        sets = subsets(everything & ~rules.special | pattern)
        for served in np.array_split(sets, len(sets) // _CHUNK + 1):
            gains = _best_with(affinity, singleton_scores, rules, pattern, helpers, served)
            best[served] = np.maximum(best[served], gains)
    best[0] = 0
    return best


def _best_with(affinity, singleton_scores, rules, pattern, helpers, served):
    """The gain of the best network for each of some served sets.

    Args:
      affinity, singleton_scores, rules: as in `best_network_gains`.
      pattern: bit mask of the tasks with links that the network trains.
      helpers: bool `[T]`, tasks without links, of which it may train any.
      served: `[n]`, bit masks.
    """
    num_tasks = len(affinity)
    members = members_of(served, num_tasks)
    effects = members @ affinity.T
    needed = members | members_of(pattern, num_tasks)
    sums, sizes = np.where(needed, effects, 0).sum(axis=1), needed.sum(axis=1)
    effects[~helpers | members] = -np.inf
    effects.sort(axis=1)
    helped = np.cumsum(effects[:, ::-1], axis=1)
    best = np.full(len(served), -np.inf)
    for count in range(num_tasks):
        size = sizes + count
        score = (sums + helped[:, count - 1] if count else sums) / np.maximum(size - 1, 1)
        if not count:
            alone = np.where(needed, singleton_scores, -np.inf).max(axis=1)
            score = np.where(sizes == 1, alone, score)
        score[(size < rules.smallest) | (size > rules.largest) | (served == 0)] = -np.inf
        np.maximum(best, score, out=best)
    return best


def networks_that_serve(affinity, singleton_scores, rules, served):
    """All networks that may serve a set of tasks, those that train fewest tasks first.

    Args:
      affinity, singleton_scores, rules: as in `best_network_gains`.
      served: bit mask.

    Returns:
      members: bool `[G, T]`.
      gains: `[G]`, the sum of the network's scores onto the served tasks.
    """
    num_tasks = len(affinity)
    masks = served | subsets((2**num_tasks - 1) & ~served)
    members = members_of(masks, num_tasks)
    members = members[rules.allow(members)]
    members = members[np.argsort(members.sum(axis=1), kind='stable')]
    tasks = members_of(served, num_tasks)
    return members, gains_of(affinity, singleton_scores, members)[:, tasks].sum(axis=1)


def _best_selection(affinity, singleton_scores, rules, partitions, budget):
    """The best groups, with as few of them as possible, as a list of one set of groups."""
    values = []
    for count in range(1, budget + 1):
        values.append(partitions.value((count,)))
        if values[-1] == 0:
            break
    if max(values) == -np.inf:
        return []
    enough = int(np.argmax(as_good(np.array(values), max(values)))) + 1
    served = [tasks for _, tasks in partitions.parts((enough,))]
    return [_best_networks(affinity, singleton_scores, rules, served)]


def _best_networks(affinity, singleton_scores, rules, served_sets):
    """The best network for each of some served sets, without those that are not needed.

    Returns:
      Tuples of tasks, sorted.
    """
    groups = set()
    for served in served_sets:
        members, gains = networks_that_serve(affinity, singleton_scores, rules, served)
        groups.add(_tasks(members[np.argmax(as_good(gains, gains.max()))]))
    return _needed(affinity, singleton_scores, groups)


def _best_selections(affinity, singleton_scores, rules, partitions, budget, num_solutions):
    """The best M sets of groups.

    The best selection in which U is a served set is known for every U. The M best of these give a
    threshold, and a better selection can only be made of groups that beat it with one of their
    served sets. These are few, and the covers among them are searched.
    """
    rest = partitions.up_to((budget - 1,))[::-1]
    values = partitions.up_to((1,)) + rest
    values[0] = -np.inf
    known, worst = {}, -np.inf
    for served in np.argsort(-values, kind='stable'):
        if values[served] == -np.inf or len(known) >= num_solutions:
            break
        others = partitions.parts((budget - 1,), len(values) - 1 - int(served))
        sets = [int(served), *(tasks for _, tasks in others)]
        groups = _best_networks(affinity, singleton_scores, rules, sets)
        known[groups] = _gain(affinity, singleton_scores, groups)
    if not known:
        return []
    if len(known) >= num_solutions:
        worst = sorted(known.values())[-num_solutions] * (1 - 1e-13)
    groups = {group for selection in known for group in selection}
    for served in np.flatnonzero(values > worst):
        members, gains = networks_that_serve(affinity, singleton_scores, rules, int(served))
        groups |= {_tasks(row) for row in members[gains + rest[served] > worst]}
    groups = sorted(groups)
    covers = best_covers(
        -_gains(affinity, singleton_scores, groups),
        np.ones(len(groups)),
        budget,
        num_solutions,
        known=[[groups.index(group) for group in selection] for selection in known],
    ).covers
    return [tuple(groups[n] for n in networks) for _, networks in covers]


def _relative_to_the_best(affinity, singleton_scores):
    """Affinities and singleton scores relative to the best that each task could have.

    A constant added to all scores of one task changes no decision. With the best of them at 0 and
    the rest below, sums hold no cancellation, and a difference from rounding is one that is small
    beside the sums themselves.
    """
    own = np.eye(len(affinity), dtype=bool)
    best = np.where(own, singleton_scores, affinity).max(axis=0)
    return np.where(own, 0, affinity - best), singleton_scores - best


def _patterns(rules, num_tasks):
    """Bit masks of the tasks with links that a network may train together."""
    patterns = subsets(rules.special)
    allowed = rules._replace(smallest=0, largest=num_tasks).allow(members_of(patterns, num_tasks))
    return patterns[allowed].tolist()


def _selection(affinity, singleton_scores, relative, groups, gap, elapsed):
    """The `Selection` of some groups; no selection is more than `gap` better."""
    groups, serves = in_order(groups, _gains(*relative, groups))
    objective = math.fsum(
        group_scores(affinity, group, singleton_scores)[group.index(task)]
        for group, served in zip(groups, serves, strict=True)
        for task in served
    )
    return Selection(groups, serves, objective, objective + gap, gap == 0, None, elapsed)


def _needed(affinity, singleton_scores, groups):
    """Groups without those that could be left out with no loss, sorted."""
    groups = sorted(groups)
    kept = irredundant(-_gains(affinity, singleton_scores, groups), range(len(groups)))
    return tuple(groups[n] for n in kept)


def _gain(affinity, singleton_scores, groups):
    return _gains(affinity, singleton_scores, groups).max(axis=0).sum()


def _gains(affinity, singleton_scores, groups):
    members = np.zeros((len(groups), len(affinity)), bool)
    for row, group in zip(members, groups, strict=True):
        row[list(group)] = True
    return gains_of(affinity, singleton_scores, members)


def _tasks(members):
    return tuple(np.flatnonzero(members).tolist())


def _checked_affinity(affinity):
    affinity = np.asarray(affinity, np.float64)
    if affinity.ndim != 2 or affinity.shape[0] != affinity.shape[1]:
        raise ValueError(f'affinity must be a square matrix [T, T], not of shape {affinity.shape}')
    num_tasks = len(affinity)
    if not num_tasks:
        raise ValueError('select_groups needs at least one task')
    affinity = np.where(np.eye(num_tasks, dtype=bool), 0, affinity)
    sound = np.abs(affinity) < LARGEST
    if not sound.all():
        source, target = np.argwhere(~sound)[0]
        raise ValueError(
            f'affinity[{source}, {target}] is {affinity[source, target]}: every pair of tasks '
            'needs a finite affinity'
        )
    return affinity


def _checked_singleton_scores(scores, num_tasks):
    if scores is None:
        return np.full(num_tasks, 0.0 if num_tasks == 1 else -np.inf)
    scores = np.asarray(scores, np.float64)
    if scores.shape != (num_tasks,):
        raise ValueError(f'{num_tasks} tasks need {num_tasks} singleton scores, not {scores.shape}')
    sound = np.abs(scores) < LARGEST
    if not sound.all():
        raise ValueError(f'singleton_scores must be finite, but one is {scores[~sound][0]}')
    return scores
