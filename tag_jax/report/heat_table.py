"""A heat map as an HTML table: its values can be read, copied, and seen where the pointer rests."""

import html
import math

import numpy as np

from tag_jax.report import page

ANNOTATED_TASKS = 20


def heat_table(affinity, groups, unit_name, with_diagonal=False) -> str:
    """Inter-task affinities, source tasks down, target tasks across, a colour each.

    Tasks that are served by the same network stand together.

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
    starts = {sum(map(len, groups[:n])) for n in range(1, len(groups))}
    escaped = [html.escape(name) for name in names]
    last = lambda n: ' class="first"' if n in starts else ''
    head = ''.join(
        f'<th scope="col"{last(n)}><span>{name}</span></th>' for n, name in enumerate(escaped)
    )
    rows = []
    for source, name in enumerate(escaped):
        cells = []
        for target in range(len(names)):
            kinds = ['first'] if target in starts else []
            if not shown[source, target]:
                kinds.append('none')
                cells.append(f'<td class="{" ".join(kinds)}"></td>')
                continue
            value, error, samples = (x[source, target] for x in (mean, stderr, count))
            kinds.append('harms' if value < 0 else 'helps')
            strength = abs(value) / largest if largest else 0
            title = f'{name} onto {escaped[target]}: {value:.3g}'
            title += f' ± {error:.2g}' if np.isfinite(error) else ''
            title += f' ({samples:.0f} measurements)' if np.isfinite(samples) else ''
            text = ''
            if len(names) <= ANNOTATED_TASKS:
                text = _number(value / 10.0**exponent)
                if np.isfinite(error):
                    text += f'<small>±{error / 10.0**exponent:.2f}</small>'
            cells.append(
                f'<td class="{" ".join(kinds)}" style="--strength:{strength:.2f}" '
                f'title="{title}">{text}</td>'
            )
        opening = '<tr class="below">' if source in starts else '<tr>'
        rows.append(f'{opening}<th scope="row">{name}</th>{"".join(cells)}</tr>')
    unit = f', in units of 10<sup>{_number(exponent, 0)}</sup>' if exponent else ''
    ends = [_number(sign * largest / 10.0**exponent) for sign in (-1, 1)]
    kind = 'heat' if len(names) <= ANNOTATED_TASKS else 'heat dense'
    return (
        f'<p>Rows: the source task, whose step is taken. Columns: the target task, whose loss '
        f'changes. Values: {html.escape(unit_name)}{unit}.</p>\n'
        f'<div class="table"><table class="{kind}">\n<thead><tr><td></td>{head}</tr></thead>\n'
        f'<tbody>{"".join(rows)}</tbody>\n</table></div>\n'
        f'<p class="scale"><span>{ends[0]} harms</span><i></i><span>helps {ends[1]}</span></p>'
    )


def _number(value, digits=2):
    """A number with the sign of print; -0 is 0."""
    return page.number(f'{round(value, digits) + 0.0:.{digits}f}')
