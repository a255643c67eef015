"""Recorded tables where it is known who should train with whom."""

import itertools

import numpy as np

from tag_jax.studies.recorded import RecordedTable

NAMES = ('a', 'b', 'c', 'd')
# Pairs that belong together: each is better off with its friend, and worse with anybody else.
FRIENDS = {0: 1, 1: 0, 2: 3, 3: 2}
SHARES = (0.1, 0.5, 1.0)


def truth(tasks):
    """The relative losses of a network, percent."""
    return {
        task: 50
        - 10 * (FRIENDS[task] in tasks)
        + 4 * sum(other not in (task, FRIENDS[task]) for other in tasks)
        for task in tasks
    }


def made_up(noise=0.5, seeds=6, name='friends', sign=1):
    """A table of four tasks; with sign -1, who helps whom is the other way round in affinities."""
    rng = np.random.default_rng(3)
    sets = [s for n in range(1, 5) for s in itertools.combinations(range(4), n)]
    rows = [(tasks, 1.0, 0.0) for tasks in sets]
    rows += [((0, 1, 2, 3), float(cost), -6.0 * cost) for cost in (2, 3, 4)]
    members = np.array([[task in tasks for task in range(4)] for tasks, _, _ in rows])
    base = np.full((len(rows), 4), np.nan)
    for n, (tasks, _, lower) in enumerate(rows):
        for task, value in truth(tasks).items():
            base[n, task] = value + lower / 4
    points = len(SHARES) + 2
    draw = lambda: base + noise * rng.normal(size=(seeds, points, *base.shape))
    scores = {}
    for split in ('validation', 'test'):
        scores[split, 'loss'] = draw() / 100
        scores[split, 'error'] = scores[split, 'loss'] * 100
    affinity = np.full((seeds, 10, 4, 4), -0.1)
    for one, other in FRIENDS.items():
        affinity[..., one, other] = 0.1
    return RecordedTable(
        name,
        NAMES,
        100,
        SHARES,
        members,
        np.array([cost for _, cost, _ in rows]),
        scores,
        {split: np.ones((seeds, 4)) for split in ('validation', 'test')},
        np.full((seeds, len(rows), 2), 100),
        {'exact': sign * affinity},
        {},
        {},
    )
