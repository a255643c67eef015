"""Values over training steps, drawn once: small charts of a page and panels of pictures."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tag_jax.report import page, styles
from tag_jax.report.svg import SAYS, svg

_INCHES = (3.4, 1.9)
_ROOM = (0.155, 0.2, 0.785, 0.76)  # Left, bottom, width, height, as shares of a chart.
_MOST_POINTS = 300


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
      steps, values: the same number of each; NaN where there is no value.
      name: shown where the pointer rests on it.
      colour: of `styles.PALETTE`.
      dashed: whether it is.
      thin: whether it is, and pale.
    """

    steps: Sequence[float]
    values: Sequence[float]
    name: str
    colour: str = 'muted'
    dashed: bool = False
    thin: bool = False


class Chart(NamedTuple):
    """A small figure of a page.

    Attributes:
      title: above it, as text.
      drawn: as SVG.
    """

    title: str
    drawn: Markup


def chart(
    title: str, lines: Sequence[Line], logarithmic: bool = False, zero: bool = False
) -> Chart:
    """Values over training steps, as a small figure of a page.

    Args:
      title: above it, as text.
      lines: those in front last.
      logarithmic, zero: see `draw`.
    """
    figure = Figure(figsize=_INCHES)
    draw(figure.add_axes(_ROOM), lines, logarithmic, zero)
    return Chart(title, svg(figure, title))


def draw(axes: Axes, lines: Sequence[Line], logarithmic: bool = False, zero: bool = False) -> None:
    """Draws values over training steps.

    Args:
      axes: of matplotlib.
      lines: those in front last.
      logarithmic: whether values above 0 stand on a logarithmic axis, if there are any.
      zero: whether 0 is marked, and on the axis.
    """
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(styles.light('rule'))
    axes.tick_params(which='both', length=0, labelsize=8, labelcolor=styles.light('text'))
    axes.set_xlabel('step', fontsize=8, color=styles.light('text'), labelpad=1)
    values = np.concatenate([np.asarray(line.values, float) for line in lines] or [[]])
    logarithmic = logarithmic and bool((values > 0).any())
    known = values[np.isfinite(values) & ((values > 0) | (not logarithmic))]
    if not known.size:
        axes.set(xticks=[], yticks=[])
        middle = {'ha': 'center', 'va': 'center', 'transform': axes.transAxes}
        axes.text(0.5, 0.5, 'no values', fontsize=8, color=styles.light('text'), **middle)
        return
    axes.grid(axis='y', color=styles.light('rule'), linewidth=0.6)
    if zero:
        axes.axhline(0, color=styles.light('text'), linewidth=0.8)
    for line in lines:
        _draw_line(axes, line)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda step, _: f'{step:,.0f}'))
    if logarithmic:
        axes.set_yscale('log')
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_locator(_locator(known, logarithmic))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _number(value)))


def _draw_line(axes, line):
    """A line with gaps where it has no value; points that stand alone are dots."""
    every = math.ceil(len(line.steps) / _MOST_POINTS) or 1
    keep = slice(max(0, len(line.steps) - 1) % every, None, every)  # And the last.
    steps, values = np.asarray(line.steps[keep], float), np.asarray(line.values[keep], float)
    look = {'color': styles.light(line.colour), 'linestyle': '--' if line.dashed else '-'}
    look |= {'linewidth': 0.8, 'alpha': 0.45} if line.thin else {'linewidth': 1.6}
    places = itertools.groupby(range(len(values)), lambda n: bool(np.isfinite(values[n])))
    runs = [list(run) for known, run in places if known]
    if alone := [run[0] for run in runs if len(run) == 1]:
        look |= {'marker': 'o', 'markersize': 4, 'markevery': alone}
    axes.plot(steps, values, gid=SAYS + line.name, **look)


def _locator(known, logarithmic):
    """Places for about four labels of an axis."""
    if not logarithmic:
        return ticker.MaxNLocator(4)
    low, high = float(known.min()), float(known.max())
    subs = (1.0,) if high > 300 * low else (1.0, 2.0, 5.0)
    locator = ticker.LogLocator(subs=subs, numticks=8)
    if sum(low <= tick <= high for tick in locator.tick_values(low, high)) < 2:
        return ticker.FixedLocator([low, high] if high > 1.02 * low else [low])
    return locator


def _number(value):
    """A label of an axis, as short as it can be."""
    text = f'{value:.3g}'
    if 'e' in text:
        digits, power = text.split('e')
        text = f'{digits}e{int(power)}'
    return page.number(text)
