"""Affinities among some tasks beside those among all: Fifty et al. 2021, Figure 7."""

import itertools
import os
from collections.abc import Sequence

import numpy as np

from tag_jax import comparison
from tag_jax.data import Dataset
from tag_jax.numbers import correlation, mean_and_error
from tag_jax.problem import MultiTaskProblem
from tag_jax.studies.result import (
    HeatMap,
    Study,
    Table,
    needs,
    of_different_tasks,
    within_targets,
)
from tag_jax.training import TrainingConfig

# Cells of sets that are too small for a correlation.
_TWO_TASKS, _THREE_TASKS = 'needs three tasks', 'needs four tasks'


@needs(4)
def task_sets(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
    count: int = 8,
    sets: Sequence[Sequence[str]] | None = None,
) -> Study:
    """Do affinities between two tasks depend on what else trains with them? (Appendix, Figure 7.)

    For every seed, affinities in networks for some tasks are compared with those in the network for
    all of them. Of sets that are named there are heat maps, as in the paper, and the affinities of
    pairs that several of them hold.

    Args:
      problem, dataset, config, budgets, seeds, scores: see `studies.frequency`; budgets are not
        used.
      count: sets of T / 2 + 1 tasks, rounded down, drawn at random where none are named.
      sets: names of tasks, two or more a set; None for random ones.

    Raises:
      ValueError: also if a set has a name twice or one that is no task, or less than two.
    """
    del budgets
    names, named = problem.task_names, sets
    sets = _drawn(names, config.seed, count) if sets is None else _numbers(names, sets)
    with comparison.training_seeds(problem, dataset, config, seeds, scores) as searches:
        wholes = [one.measured()[0].mean for one in searches]
        parts = [one.measured_in([_named(s, names) for s in sets]) for one in searches]
    rows, agree = [], []
    for n, tasks in enumerate(sets):
        within = [
            (part[n].mean[np.ix_(tasks, tasks)], whole[np.ix_(tasks, tasks)])
            for part, whole in zip(parts, wholes, strict=True)
        ]
        # Pearson's r of two numbers is 1 or -1, and the better of one partner is that one.
        alike, targets = _TWO_TASKS, _THREE_TASKS
        if len(tasks) > 2:
            alike = mean_and_error([correlation(*map(of_different_tasks, pair)) for pair in within])
            agree += [_partners(part) == _partners(whole) for part, whole in within]
        if len(tasks) > 3:
            targets = mean_and_error([within_targets(*pair) for pair in within])
        rows.append((', '.join(_named(tasks, names)), alike, targets))
    tables = (
        Table(
            'Affinities in networks for some tasks, and the same in the network for all (Fifty et '
            'al. 2021, Figure 7)',
            ('tasks', 'r of all pairs', 'r within a target'),
            tuple(rows),
        ),
        Table(
            'Targets whose best partner is the same in both',
            ('', 'share'),
            (
                (
                    'of all targets in all sets',
                    np.concatenate(agree).mean() if agree else _TWO_TASKS,
                ),
            ),
        ),
    )
    if named is None:
        return Study(tables)
    whole = HeatMap('The network for all tasks', names, np.mean(wholes, axis=0))
    maps = [
        _heat_map(names, tasks, [part[n].mean for part in parts]) for n, tasks in enumerate(sets)
    ]
    return Study((*tables, *_shared_pairs(maps, parts, names)), None, (*maps, whole))


def _drawn(names, seed, count):
    """Sets of T / 2 + 1 task numbers at random."""
    sets = list(itertools.combinations(range(len(names)), len(names) // 2 + 1))
    drawn = np.random.default_rng(seed).permutation(len(sets))[:count]
    return [sets[n] for n in sorted(drawn)]


def check_sets(names: Sequence[str], sets: Sequence[Sequence[str]]) -> None:
    """Raises ValueError unless sets are of two tasks or more, that exist, and each is there once.

    Args:
      names: of all tasks.
      sets: of names.
    """
    for one in sets:
        for task in one:
            if task not in names:
                raise ValueError(
                    f'there is no task {task!r} for a set: choose from {", ".join(names)}'
                )
        if len(one) < 2 or len(set(one)) < len(one):
            raise ValueError(f'a set needs two tasks or more, and none twice: not {", ".join(one)}')
    if not sets or len({frozenset(one) for one in sets}) < len(sets):
        raise ValueError('name at least one set of tasks, and none twice')


def _numbers(names, sets):
    """Sets of task names as sets of their numbers, in the order of the problem."""
    check_sets(names, sets)
    return [tuple(n for n, name in enumerate(names) if name in one) for one in sets]


def _heat_map(names, tasks, means):
    """The mean affinities over seeds among some tasks."""
    own = _named(tasks, names)
    mean = np.mean([mean[np.ix_(tasks, tasks)] for mean in means], axis=0)
    return HeatMap(f'A network for {", ".join(own)}', own, mean)


def _shared_pairs(maps, parts, names):
    """A table of the pairs that two sets or more hold, if there are any: affinities in each."""
    rows = []
    for source, target in itertools.permutations(names, 2):
        cells = [
            mean_and_error(
                [part[n].mean[names.index(source), names.index(target)] for part in parts]
            )
            if {source, target} <= set(one.task_names)
            else None
            for n, one in enumerate(maps)
        ]
        if sum(cell is not None for cell in cells) > 1:
            rows.append((f'{source} onto {target}', *cells))
    header = ('affinity', *(f'set {n}' for n in range(1, 1 + len(maps))))
    title = 'Affinities of pairs that several sets hold (Fifty et al. 2021, Figure 7)'
    return [Table(title, header, tuple(rows))] if rows else []


def _named(tasks, names):
    return tuple(names[task] for task in tasks)


def _partners(affinity):
    """The source of highest affinity onto each target, `[T]`."""
    return np.where(np.eye(len(affinity), dtype=bool), -np.inf, affinity).argmax(axis=0)
