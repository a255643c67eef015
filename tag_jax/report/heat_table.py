"""A heat map as an HTML table: its values can be read, copied, and seen where the pointer rests."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.report import page

ANNOTATED_TASKS = 20


class Cell(NamedTuple):
    """An affinity of a `HeatTable`.

    Attributes:
      harms: whether it is below 0.
      strength: of its colour, 0 to 1, as text.
      title: all that is known of it, shown where the pointer rests.
      text, error: the value and its standard error in units of the table; '' without room.
    """

    harms: bool
    strength: str
    title: str
    text: str
    error: str


class HeatTable(NamedTuple):
    """Inter-task affinities, source tasks down, target tasks across, a colour each.

    Attributes:
      names: T task names, those that the same network serves together.
      starts: the rows and columns above and before which there is a rule.
      rows: (source task, a `Cell` for each target task; None where there is no affinity).
      unit_name: what the values are.
      exponent: of the power of ten that they are in units of; '' for 0.
      lowest, highest: the ends of the scale, as text.
      dense: whether there is room for no text in the cells.
    """

    names: Sequence[str]
    starts: frozenset[int]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]
    unit_name: str
    exponent: str
    lowest: str
    highest: str
    dense: bool


def heat_table(
    affinity: Mapping[str, Any],
    groups: Sequence[Sequence[str]],
    unit_name: str,
    with_diagonal: bool = False,
) -> HeatTable:
    """Arranges inter-task affinities for a page.

    Args:
      affinity: `{'mean': [T, T], 'task_names': T names}`, source task first; `stderr` and `count`,
        both `[T, T]`, are shown where they are there.
      groups: tuples of tasks, T in all: rows and columns in this order, with rules between groups.
      unit_name: what the values are.
      with_diagonal: whether to show a task's effect on itself, see `affinity_figure`.
    """
    names = list(affinity['task_names'])
    order = [names.index(task) for group in groups for task in group]
    mean = np.asarray(affinity['mean'], float)[np.ix_(order, order)]
    unknown = np.full(mean.shape, np.nan)
    stderr, count = (
        np.asarray(affinity.get(name, unknown), float)[np.ix_(order, order)]
        if np.shape(affinity.get(name, unknown)) == mean.shape
        else unknown
        for name in ('stderr', 'count')
    )
    names = [names[n] for n in order]
    shown = np.isfinite(mean) & (np.eye(len(mean), dtype=bool) <= with_diagonal)
    largest = float(np.abs(mean[shown]).max()) if shown.any() else 0.0
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    dense = len(names) > ANNOTATED_TASKS

    def cell(source, target):
        if not shown[source, target]:
            return None
        value, error, samples = (x[source, target] for x in (mean, stderr, count))
        title = f'{names[source]} onto {names[target]}: {value:.3g}'
        title += f' ± {error:.2g}' if np.isfinite(error) else ''
        title += f' ({samples:.0f} measurements)' if np.isfinite(samples) else ''
        return Cell(
            harms=value < 0,
            strength=f'{abs(value) / largest if largest else 0:.2f}',
            title=title,
            text='' if dense else _number(value / 10.0**exponent),
            error='' if dense or np.isnan(error) else f'±{error / 10.0**exponent:.2f}',
        )

    targets = range(len(names))
    return HeatTable(
        names=names,
        starts=frozenset(sum(map(len, groups[:n])) for n in range(1, len(groups))),
        rows=[(name, [cell(n, target) for target in targets]) for n, name in enumerate(names)],
        unit_name=unit_name,
        exponent=_number(exponent, 0) if exponent else '',
        lowest=_number(-largest / 10.0**exponent),
        highest=_number(largest / 10.0**exponent),
        dense=dense,
    )


def _number(value, digits=2):
    """A number with the sign of print; -0 is 0."""
    return page.number(f'{round(value, digits) + 0.0:.{digits}f}')
