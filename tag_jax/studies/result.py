"""The result of a study: tables of numbers."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tag_jax import comparison, grouping
from tag_jax.comparison import Comparison
from tag_jax.numbers import correlation
from tag_jax.problem import MultiTaskProblem


class Table(NamedTuple):
    """Numbers with names.

    Attributes:
      title: what it shows, and the paper's table that it repeats.
      header: names of the columns.
      rows: a name, then a cell for each other column: a number, (mean, standard error) of several,
        text, or None.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple, ...]


class HeatMap(NamedTuple):
    """Affinities to look at.

    Attributes:
      title: in which network they were measured.
      task_names: T names.
      mean: `[T, T]`, source task first.
    """

    title: str
    task_names: tuple[str, ...]
    mean: np.ndarray


class Study(NamedTuple):
    """The tables of a study, and the groups that were trained for it.

    Attributes:
      tables: its `Table`s.
      comparison: groups that were trained for it, as a `Comparison`; None if there are none.
      heat_maps: its `HeatMap`s.
    """

    tables: tuple[Table, ...]
    comparison: Comparison | None = None
    heat_maps: tuple[HeatMap, ...] = ()


def needs(least: int) -> Callable:
    """Makes a function of a problem and more a study of at least so many tasks."""

    def decorate(study):
        @functools.wraps(study)
        def checked(problem, dataset, config, budgets, seeds, *arguments, **options):
            check(checked, problem)
            comparison.check(problem, dataset, [grouping.tag()], budgets, config, seeds)
            return study(problem, dataset, config, budgets, seeds, *arguments, **options)

        checked.least_tasks = least
        return checked

    return decorate


def check(study: Callable, problem: MultiTaskProblem) -> None:
    """Raises ValueError unless a problem has as many tasks as a study needs."""
    size = len(problem.task_names)
    if size < study.least_tasks:
        raise ValueError(
            f'{study.__name__} needs {study.least_tasks} tasks at least, and there '
            f'{"is" if size == 1 else "are"} {size}'
        )


def of_different_tasks(affinity: np.ndarray) -> np.ndarray:
    """The affinities between different tasks, `[T (T - 1)]`."""
    return affinity[~np.eye(len(affinity), dtype=bool)]


def within_targets(first: np.ndarray, second: np.ndarray) -> float:
    """How alike two matrices of affinities rank the sources of a target: mean Pearson's r.

    Args:
      first, second: `[T, T]`, source task first; the diagonals do not count.
    """
    size = len(first)
    found = [
        correlation(*(np.delete(affinity[:, target], target) for affinity in (first, second)))
        for target in range(size)
    ]
    known = [r for r in found if np.isfinite(r)]
    return float(np.mean(known)) if known else float('nan')
