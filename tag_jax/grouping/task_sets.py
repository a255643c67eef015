"""Sets of tasks: all of them, random ones, and random groups that cover the tasks."""

import itertools
import math

import numpy as np

MOST_SETS = 20_000


def all_sets(task_names, sizes=None):
    """Sets of tasks, smaller ones first.

    Args:
      task_names: T names.
      sizes: how many tasks a set may have; None for 1 to T.

    Raises:
      ValueError: if there are more than MOST_SETS.
    """
    size = len(task_names)
    sizes = range(1, size + 1) if sizes is None else [n for n in sizes if n <= size]
    count = sum(math.comb(size, n) for n in sizes)
    if count > MOST_SETS:
        raise ValueError(
            f'{size} tasks have {count} sets to train a network for each, more than {MOST_SETS}: '
            'choose a method that trains fewer, such as tag'
        )
    return [tasks for n in sizes for tasks in itertools.combinations(task_names, n)]


def random_sets(task_names, count, seed):
    """Different random sets of tasks: half of them spread over sizes, the rest any.

    The first half has as many sets of every size as can be, the set of all tasks among them: of
    sets drawn from all few are small or large, and how errors grow with size would be a guess. The
    rest are drawn from all sets, most of which are of middle size, where most is to be learnt of
    who helps whom.

    Args:
      task_names: T names, of any number of tasks.
      count: how many; all sets if there are no more.
      seed: of the draw.

    Raises:
      ValueError: if `count` is below 1, or above MOST_SETS where there are more sets than that.
    """
    size = len(task_names)
    if count < 1:
        raise ValueError(f'count must be at least 1, not {count}')
    if count >= 2**size - 1:
        return all_sets(task_names)
    if count > MOST_SETS:
        raise ValueError(f'{count} sets are more than {MOST_SETS}: give a smaller count')
    rng = np.random.default_rng(seed)
    if 2**size - 1 > MOST_SETS:
        return _drawn_one_by_one(task_names, count, rng)
    sets = all_sets(task_names)
    draw = lambda places, wanted: rng.choice(places, wanted, replace=False).tolist()
    sizes = np.array([len(tasks) for tasks in sets])
    drawn = []
    for number, wanted in _spread(-(-count // 2), size).items():
        drawn += draw(np.flatnonzero(sizes == number), wanted)
    drawn += draw(np.setdiff1d(np.arange(len(sets)), drawn), count - len(drawn))
    return [sets[n] for n in sorted(drawn)]


def _drawn_one_by_one(task_names, count, rng):
    """`random_sets` of so many tasks that their sets cannot be listed, by the same rule."""
    size, drawn = len(task_names), set()
    for number, wanted in _spread(-(-count // 2), size).items():
        least = len(drawn) + wanted
        while len(drawn) < least:
            drawn.add(tuple(sorted(rng.choice(size, number, replace=False).tolist())))
    while len(drawn) < count:
        tasks = np.flatnonzero(rng.integers(0, 2, size))
        if len(tasks):
            drawn.add(tuple(tasks.tolist()))
    ordered = sorted(drawn, key=lambda tasks: (len(tasks), tasks))
    return [tuple(task_names[n] for n in tasks) for tasks in ordered]


def draws(seed, networks):
    """The generator of the random groups of a seed, the same wherever they are drawn.

    Args:
      seed: of the run.
      networks: how many groups are drawn.
    """
    return np.random.default_rng((seed, networks))


def random_groups(rng, num_tasks, networks):
    """Different sets of tasks that cover all tasks; all such lists are equally likely.

    Args:
      rng: a NumPy generator.
      num_tasks: T.
      networks: k, at most T.

    Returns:
      A tuple of tuples of task indices.
    """
    while True:
        # Each task is in some of the networks, and all ways for that are equally likely.
        codes = rng.integers(1, 2**networks, size=num_tasks)
        members = (codes[None, :] >> np.arange(networks)[:, None]) & 1
        groups = {tuple(np.flatnonzero(row).tolist()) for row in members}
        if len(groups) == networks and () not in groups:
            return tuple(sorted(groups))


def even_groups(rng, num_tasks, networks):
    """A random partition of the tasks into groups whose sizes differ by one at most.

    Args:
      rng, num_tasks, networks: see `random_groups`.
    """
    parts = np.array_split(rng.permutation(num_tasks), networks)
    return tuple(sorted(tuple(sorted(part.tolist())) for part in parts))


def _spread(count, num_tasks):
    """`{size: how many sets}`, as evenly as can be: all tasks first, then from the middle sizes."""
    middle = num_tasks / 2
    sizes = [num_tasks, *sorted(range(1, num_tasks), key=lambda size: abs(size - middle))]
    counts = dict.fromkeys(sizes, 0)
    while count:
        for size in sizes:
            if count and counts[size] < math.comb(num_tasks, size):
                counts[size] += 1
                count -= 1
    return counts
