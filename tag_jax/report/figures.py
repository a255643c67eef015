"""Pictures of a finished run, for slides and notebooks: heat map, diagram of groups, curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

HEAT_MAP, DIAGRAM, CURVES = 'affinity.png', 'groups.png', 'curves.png'

_COLOURS = colormaps['tab10'].colors
_GREY = '0.5'
_ANNOTATED_TASKS = 20


def affinity_figure(
    mean: np.ndarray,
    task_names: Sequence[str],
    stderr: np.ndarray | None = None,
    kind: str | None = 'exact',
    with_diagonal: bool = False,
) -> Figure:
    """A heat map of inter-task affinities, source tasks down, target tasks across.

    Args:
      mean: `[T, T]`, source task first.
      task_names: T names.
      stderr: `[T, T]`, written under the values; None or NaN to leave it out.
      kind: of affinity, of `affinity.KINDS`; None if it is not known.
      with_diagonal: whether to show a task's effect on itself. On the batch of the step it is far
        larger than the rest, and selection does not use it; then the diagonal is left grey.
    """
    size = len(task_names)
    hidden = np.eye(size, dtype=bool) & (not with_diagonal)
    shown = np.ma.masked_where(hidden | ~np.isfinite(mean), mean)
    largest = float(np.abs(shown).max()) if shown.count() else 0.0
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    unit = 10.0**exponent
    cell = 0.85 if size <= _ANNOTATED_TASKS else 0.3
    figure = Figure(figsize=(cell * size + 3.2, cell * size + 2), layout='constrained')
    axes = figure.subplots()
    axes.set_facecolor('0.85')
    image = axes.imshow(
        shown / unit, cmap='RdBu', vmin=-(largest / unit or 1), vmax=largest / unit or 1
    )
    labels = [plain_text(task) for task in task_names]
    axes.set_xticks(range(size), labels, rotation=45, ha='right', rotation_mode='anchor')
    axes.set_yticks(range(size), labels)
    axes.set_xlabel('target task: the loss that changes')
    axes.set_ylabel('source task: the step that is taken')
    axes.set_title('Inter-task affinity')
    scale = f' in units of $10^{{{exponent}}}$' if exponent else ''
    measured = {None: 'affinity', 'cosine': 'cosine of gradients'}
    label = measured.get(kind, 'share of loss taken away') + scale
    figure.colorbar(image, ax=axes, shrink=0.8, label=label)
    if size <= _ANNOTATED_TASKS:
        for source, target in np.argwhere(~np.ma.getmaskarray(shown)):
            value = mean[source, target] / unit
            text = f'{round(value, 2) + 0.0:.2f}'
            if stderr is not None and np.isfinite(stderr[source, target]):
                text += f'\n±{stderr[source, target] / unit:.2f}'
            dark = abs(value) > 0.6 * largest / unit
            axes.text(
                target,
                source,
                text,
                ha='center',
                va='center',
                fontsize=7.5,
                color='white' if dark else 'black',
            )
    return figure


def groups_figure(results: Mapping[str, Any]) -> Figure:
    """The networks and the tasks: which network trains and which serves each task.

    Args:
      results: what results.json holds.
    """
    groups, names = results['groups'], results['task_names']
    served = [task for group in groups for task in group['serves']]
    height = {task: -n for n, task in enumerate(served)}
    figure = Figure(figsize=(7.5, 0.45 * len(names) + 1.6), layout='constrained')
    axes = figure.subplots()
    for n, group in enumerate(groups):
        colour = _COLOURS[n % len(_COLOURS)]
        middle = np.mean([height[task] for task in group['serves']])
        for task in group['tasks']:
            serves = task in group['serves']
            axes.plot(
                [0, 1],
                [middle, height[task]],
                color=colour,
                linestyle='-' if serves else ':',
                linewidth=2 if serves else 1.4,
            )
            if serves:
                error = results['test_error'][task]
                axes.text(
                    1.03,
                    height[task],
                    f'{plain_text(task)}   {error:.2f} %',
                    va='center',
                    fontsize=10,
                    color=colour,
                    fontweight='bold',
                )
        axes.text(
            -0.03,
            middle,
            f'network {n + 1}',
            ha='right',
            va='center',
            fontsize=10,
            color='white',
            bbox={'boxstyle': 'round,pad=0.5', 'facecolor': colour, 'linewidth': 0},
        )
    axes.set_xlim(-0.45, 1.75)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_axis_off()
    axes.set_title(f'{len(groups)} networks for {len(names)} tasks, with test errors')
    figure.legend(
        handles=[
            Line2D([], [], color=_GREY, linewidth=2, label='trains and serves'),
            Line2D([], [], color=_GREY, linewidth=1.4, linestyle=':', label='trains only'),
        ],
        loc='outside lower center',
        ncols=2,
        frameon=False,
    )
    return figure


def curves_figure(results: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Figure:
    """Training loss and validation error, in total and for every task.

    Args:
      results: what results.json holds.
      records: the lines of metrics.jsonl.
    """
    curves = by_network(records)
    groups, names = results['groups'], results['task_names']
    columns = min(4, max(2, len(names)))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3 * columns, 3 + 2.1 * rows), layout='constrained')
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2.1 * rows))
    totals = (
        ('training_loss', 'training loss, sum'),
        ('validation_error', 'validation error, sum (%)'),
    )
    for axes, (kind, label) in zip(above.subplots(1, 2), totals, strict=True):
        if 'mtl' in curves:
            axes.plot(*series(curves['mtl'], kind, names), color=_GREY, label='all together')
        axes.plot(*sum_of_groups(curves, groups, kind), color='black', label='groups')
        axes.set_title(label, fontsize=10)
        axes.set_xlabel('step')
        if kind == 'training_loss':
            _use_log_scale(axes)
        axes.legend(frameon=False)
    panels = np.ravel(below.subplots(rows, columns, sharex=True))
    for panel, task in zip(panels, names, strict=False):
        if 'mtl' in curves:
            panel.plot(*series(curves['mtl'], 'training_loss', [task]), color=_GREY)
        for n, group in enumerate(groups):
            if task in group['serves']:
                own = series(curves[group['network']], 'training_loss', [task])
                panel.plot(*own, color=_COLOURS[n % len(_COLOURS)])
        panel.set_title(plain_text(task), fontsize=9)
        _use_log_scale(panel)
        panel.tick_params(which='both', labelsize=7)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    below.supylabel('training loss', fontsize=9)
    lines = [('all together', _GREY)] * ('mtl' in curves)
    lines += [
        (f'network {n}', _COLOURS[(n - 1) % len(_COLOURS)]) for n in range(1, len(groups) + 1)
    ]
    below.legend(
        handles=[Line2D([], [], color=colour, label=label) for label, colour in lines],
        loc='outside lower center',
        ncols=min(6, len(lines)),
        frameon=False,
    )
    for axes in (*above.axes, *panels):
        for line in axes.get_lines():
            if len(line.get_xdata()) == 1:
                line.set_marker('o')
    return figure


def by_network(records):
    """The records of each network, `{name: records}`."""
    curves = {}
    for record in records:
        curves.setdefault(record['network'], []).append(record)
    return curves


def series(records, kind, tasks):
    """Steps, and the sum over tasks of a quantity in the records of one network."""
    values = [sum(_or_nan(record[kind][task]) for task in tasks) for record in records]
    return [record['step'] for record in records], values


def sum_of_groups(curves, groups, kind):
    """Steps, and the sum over all tasks, each from its network; one that stopped stays put."""
    of_groups = [series(curves[group['network']], kind, group['serves']) for group in groups]
    steps = sorted(set().union(*(steps for steps, _ in of_groups)))
    total = sum(np.interp(steps, *one) for one in of_groups)
    return steps, total


def _use_log_scale(axes):
    """A logarithmic axis, unless there is nothing positive to show on it."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    if np.any(values > 0):
        axes.set_yscale('log')


def _or_nan(value):
    return math.nan if value is None else value


def plain_text(name):
    """A name for a figure, in which a dollar sign begins no formula."""
    return name.replace('$', r'\$')
