"""Pictures as SVG inside a page: they follow its colours, in the dark too, and its width.

Colours are those of the page's style: `n1` to `n6` are networks, `other` is grey.
"""

import html
import itertools
import math
from typing import NamedTuple

import numpy as np
from matplotlib import ticker

from tag_jax.report import page

NETWORK_COLOURS = 6

_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 8, 34
_MOST_POINTS = 300
_LONGEST_NAME = 32


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
      steps, values: the same number of each; NaN where there is no value.
      name: shown where the pointer rests on it.
      kind: its classes: a colour, and 'thin' or 'dashed'.
    """

    steps: tuple[float, ...]
    values: tuple[float, ...]
    name: str
    kind: str = 'other'


def colour(network) -> str:
    """The class of a network's colour, and from the seventh on of its dashes.

    Args:
      network: its number, from 0.
    """
    return f'n{network % NETWORK_COLOURS + 1}' + (' dashed' if network >= NETWORK_COLOURS else '')


def line_chart(title, lines, logarithmic=False, zero=False) -> str:
    """Values over training steps, as a figure in HTML.

    Args:
      title: above it, as text.
      lines: `Line`s, those in front last.
      logarithmic: whether values above 0 stand on a logarithmic axis, if there are any.
      zero: whether 0 is marked, and on the axis.
    """
    lines = [_thinned(line) for line in lines]
    values = np.concatenate([np.asarray(line.values, float) for line in lines] or [[]])
    steps = np.concatenate([np.asarray(line.steps, float) for line in lines] or [[]])
    logarithmic = logarithmic and bool((values > 0).any())
    known = values[np.isfinite(values) & ((values > 0) | (not logarithmic))]
    if not known.size:
        drawn = f'<text x="{_WIDTH / 2}" y="{_HEIGHT / 2}" class="middle">no values</text>'
        return _figure(title, drawn)
    low, high = float(known.min()), float(known.max())
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    low, high, ticks = _axis(low, high, logarithmic)
    first, last = float(steps.min()), float(steps.max())
    scale = math.log10 if logarithmic else float
    span = scale(high) - scale(low)

    def across(step):
        share = 0.5 if first == last else (step - first) / (last - first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def down(value):
        return _HEIGHT - _BOTTOM - (scale(value) - scale(low)) / span * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for tick, label in ticks:
        y = f'{down(tick):.1f}'
        kind = 'zero' if zero and tick == 0 else 'grid'
        ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"'
        parts.append(f'<line class="{kind}" {ends}/>')
        parts.append(f'<text class="end" x="{_LEFT - 5}" y="{down(tick) + 3.5:.1f}">{label}</text>')
    for step in _step_ticks(first, last):
        label, x, y = f'{step:,.0f}', across(step), _HEIGHT - _BOTTOM + 14
        room = 3.5 * len(label)  # half of what it takes
        x = min(x, _WIDTH - room)
        parts.append(f'<text class="middle" x="{x:.1f}" y="{y}">{label}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="middle" x="{middle}" y="{_HEIGHT - 4}">step</text>')
    for line in lines:
        shown = [
            (across(step), down(value))
            if math.isfinite(value) and (value > 0 or not logarithmic)
            else None
            for step, value in zip(line.steps, line.values, strict=True)
        ]
        parts.append(_path(shown, line))
    return _figure(title, ''.join(parts))


def group_diagram(results) -> str:
    """The networks and the tasks, as SVG: which network trains and which serves each task.

    Args:
      results: what results.json holds.
    """
    groups = results['groups']
    served = [task for group in groups for task in group['serves']]
    row = {task: 26 * n + 20 for n, task in enumerate(served)}
    longest = min(max(map(len, served)), _LONGEST_NAME)
    left, right = 104, 210
    width, height = right + 8 * longest + 84, 26 * len(served) + 14
    parts, boxes = [], []
    for n, group in enumerate(groups):
        middle = sum(row[task] for task in group['serves']) / len(group['serves'])
        for task in group['tasks']:
            bend = (left + right) / 2
            serves = task in group['serves']
            does = 'trains and serves' if serves else 'trains with the help of'
            parts.append(
                f'<path class="{colour(n)}{"" if serves else " help"}" '
                f'd="M{left} {middle:.1f}C{bend} {middle:.1f} {bend} {row[task]} {right - 8} '
                f'{row[task]}"><title>network {n + 1} {does} {html.escape(task)}</title></path>'
            )
        boxes.append(
            f'<rect class="{colour(n)}" x="2" y="{middle - 13:.1f}" width="{left - 2}" height="26" '
            f'rx="6"/><text class="middle inside" x="{left / 2 + 1}" y="{middle + 5:.1f}">'
            f'network {n + 1}</text>'
        )
    names = [
        f'<text x="{right}" y="{row[task] + 5}">{html.escape(_short(task))}'
        f'<title>{html.escape(task)}</title></text>'
        f'<text class="end" x="{width - 4}" y="{row[task] + 5}">'
        f'{results["test_error"][task]:.2f} %</text>'
        for task in served
    ]
    return (
        f'<svg class="diagram" role="img" aria-label="Which network trains and which serves each '
        f'task" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        + ''.join([*parts, *boxes, *names])
        + '</svg>'
    )


def key(entries) -> str:
    """The key to the lines of charts, as HTML.

    Args:
      entries: (classes of a line, text) pairs.
    """
    items = ''.join(
        f'<li><svg viewBox="0 0 26 10" width="26" height="10" aria-hidden="true">'
        f'<path class="{kind}" d="M1 5H25"/></svg> {html.escape(text)}</li>'
        for kind, text in entries
    )
    return f'<ul class="key">{items}</ul>'


def charts(figures, wide=False) -> str:
    """Figures beside each other, as many as there is room for.

    Args:
      figures: as HTML, from `line_chart`.
      wide: whether each takes up to the whole width.
    """
    return f'<div class="charts{" wide" if wide else ""}">{"".join(figures)}</div>'


def _figure(title, drawn):
    """A figure with its title; the picture is as wide as there is room."""
    title = html.escape(title)
    return (
        f'<figure><figcaption>{title}</figcaption><svg class="chart" role="img" '
        f'aria-label="{title}" viewBox="0 0 {_WIDTH} {_HEIGHT}">{drawn}</svg></figure>'
    )


def _path(points, line):
    """A line with gaps where a point is None; points that stand alone are dots."""
    title = f'<title>{html.escape(line.name)}</title>'
    runs = [list(run) for known, run in itertools.groupby(points, bool) if known]
    dots = ''.join(
        f'<circle class="{line.kind}" cx="{x:.1f}" cy="{y:.1f}" r="3">{title}</circle>'
        for run in runs
        for x, y in run
        if len(run) == 1
    )
    drawn = ''.join(
        'M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in run) for run in runs if len(run) > 1
    )
    return dots + (f'<path class="{line.kind}" d="{drawn}">{title}</path>' if drawn else '')


def _axis(low, high, logarithmic):
    """The ends of an axis, and its ticks with their labels."""
    if logarithmic:
        low, high = (low, high) if high > 1.02 * low else (low / 1.5, high * 1.5)
        decades = math.log10(high / low)
        steps = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0)
        locator = ticker.LogLocator(subs=steps, numticks=8)
    else:
        if high == low:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        locator = ticker.MaxNLocator(4)
    shown = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    if logarithmic and len(shown) < 2:
        shown = [low, high]
    return low, high, [(float(tick), _number(tick)) for tick in shown]


def _step_ticks(first, last):
    ticks = [
        tick
        for tick in ticker.MaxNLocator(4, integer=True).tick_values(first, last)
        if first <= tick <= last
    ]
    return ticks or [first]


def _number(value):
    """A label of an axis, as short as it can be."""
    text = f'{value:.3g}'
    if 'e' in text:
        digits, power = text.split('e')
        text = f'{digits}e{int(power)}'
    return page.number(text)


def _thinned(line):
    """The line with a limited number of points, the last one among them."""
    every = math.ceil(len(line.steps) / _MOST_POINTS)
    if every < 2:
        return line
    keep = slice((len(line.steps) - 1) % every, None, every)
    return line._replace(steps=line.steps[keep], values=line.values[keep])


def _short(name):
    return name if len(name) <= _LONGEST_NAME else f'{name[: _LONGEST_NAME - 1]}…'
