"""Pictures of a finished run, for slides and notebooks: heat map, diagram of groups, curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tag_jax.report import styles, words
from tag_jax.report.lines import Line, draw
from tag_jax.report.svg import INSIDE, SAYS

HEAT_MAP, DIAGRAM, CURVES = 'affinity.png', 'groups.png', 'curves.png'

_ANNOTATED_TASKS = 20
_LONGEST_NAME = 32


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
    longest = min(max(map(len, served)), _LONGEST_NAME)
    found = words.measure(results.get('select_by'))
    unit = lambda value: '' if value is None else found.unit
    scores = {task: found.text(x) + unit(x) for task, x in words.scores(results).items()}
    width = 3.6 + 0.085 * longest
    figure = Figure(figsize=(width, 0.3 * len(names) + 0.9))
    axes = figure.add_axes((0, 0, 1, 1))
    helped = any(set(group['tasks']) - set(group['serves']) for group in groups)
    for n, group in enumerate(groups):
        name, _ = styles.of_network(n)
        colour = styles.light(name)
        middle = np.mean([height[task] for task in group['serves']])
        for task in group['tasks']:
            serves = task in group['serves']
            does = 'trains and serves' if serves else 'trains with the help of'
            axes.plot(
                [1.0, 1.9],
                [middle, height[task]],
                color=colour,
                linestyle='-' if serves else ':',
                linewidth=1.8 if serves else 1.4,
                gid=f'{SAYS}network {n + 1} {does} {plain_text(task)}',
            )
        box = {'boxstyle': 'round,pad=0.5', 'facecolor': colour, 'linewidth': 0}
        inside = {'color': styles.light('page'), 'fontweight': 'bold', 'gid': INSIDE, 'bbox': box}
        axes.text(1.0, middle, f'network {n + 1}', ha='right', va='center', fontsize=9, **inside)
    for task, y in height.items():
        ink = {'va': 'center', 'fontsize': 9.5, 'color': styles.light('text')}
        axes.text(1.95, y, plain_text(_short(task)), **ink)
        axes.text(width - 0.05, y, scores[task], ha='right', **ink)
    if helped:
        under = {'fontsize': 8.5, 'color': styles.light('muted'), 'va': 'center'}
        axes.text(0.1, -len(names) - 0.3, 'dotted: trains with the help of the task', **under)
    axes.set_xlim(0, width)
    axes.set_ylim(-len(names) - 0.8, 0.9)
    axes.set_axis_off()
    return figure


def curves_figure(results: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Figure:
    """Training loss and validation error, in total and for every task.

    Args:
      results: what results.json holds.
      records: the lines of metrics.jsonl.
    """
    names = results['task_names']
    columns = min(4, max(2, len(names)))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3 * columns, 3 + 2.1 * rows), layout='constrained')
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2.1 * rows))
    totals = total_lines(results, records)
    for axes, (kind, (title, lines)) in zip(above.subplots(1, 2), totals.items(), strict=True):
        draw(axes, lines, kind == 'training_loss')
        axes.set_title(title, fontsize=10)
    of_tasks = task_lines(results, records, 'training_loss')
    panels = np.ravel(below.subplots(rows, columns, sharex=True))
    for panel, task in zip(panels, names, strict=False):
        draw(panel, of_tasks[task], logarithmic=True)
        panel.set_title(plain_text(task), fontsize=9)
        panel.tick_params(which='both', labelsize=7)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    below.supylabel('training loss', fontsize=9)
    handles = [
        Line2D([], [], color=styles.light(colour), linestyle='--' if dashed else '-', label=text)
        for colour, dashed, text in dict.fromkeys(
            [*key_of_totals(results, records), *key_of_networks(results, records)]
        )
    ]
    ncols = min(6, len(handles))
    below.legend(handles=handles, loc='outside lower center', ncols=ncols, frameon=False)
    return figure


def total_lines(results, records) -> dict[str, tuple[str, list[Line]]]:
    """`{kind: (title, lines)}`: sums over tasks, of one network for all and of the groups."""
    curves, names = by_network(records), results['task_names']
    titles = {
        'training_loss': 'Training loss, sum',
        'validation_error': 'Validation error, sum (%)',
    }
    found = {}
    for kind, title in titles.items():
        name, summed = words.way_name(results), sum_of_groups(curves, results['groups'], kind)
        found[kind] = title, [*_together(curves, kind, names), Line(*summed, name, 'text')]
    return found


def task_lines(results, records, kind) -> dict[str, list[Line]]:
    """`{task: lines}` of a kind of record: one network for all, and the one that serves it."""
    curves, found = by_network(records), {}
    for n, group in enumerate(results['groups']):
        colour, dashed = styles.of_network(n)
        for task in group['serves']:
            own = series(curves[group['network']], kind, [task])
            line = Line(*own, f'network {n + 1}', colour, dashed)
            found[task] = [*_together(curves, kind, [task]), line]
    return found


def key_of_totals(results, records):
    """The key of `total_lines`: (name of a colour, whether dashed, text)."""
    return [*_key_of_together(records), ('text', False, words.way_name(results))]


def key_of_networks(results, records):
    """The key of `task_lines`: (name of a colour, whether dashed, text)."""
    networks = [(*styles.of_network(n), f'network {n + 1}') for n in range(len(results['groups']))]
    return [*_key_of_together(records), *networks]


def _together(curves, kind, tasks):
    """The line of one network for all, if there is one."""
    if 'mtl' not in curves:
        return []
    return [Line(*series(curves['mtl'], kind, tasks), 'all together', 'muted', dashed=True)]


def _key_of_together(records):
    return [('muted', True, 'all together')] if 'mtl' in by_network(records) else []


def by_network(records):
    """The records of each network, `{name: records}`."""
    curves = {}
    for record in records:
        curves.setdefault(record['network'], []).append(record)
    return curves


def series(records, kind, tasks):
    """Steps, and the sum over tasks of a quantity in the records of one network.

    Errors that are not defined on the validation split are left out, unless there is no other.
    """
    if kind == 'validation_error':
        told = lambda task: any(record[kind][task] is not None for record in records)
        tasks = [task for task in tasks if told(task)] or tasks
    values = [sum(_or_nan(record[kind][task]) for task in tasks) for record in records]
    return [record['step'] for record in records], values


def sum_of_groups(curves, groups, kind):
    """Steps, and the sum over all tasks, each from its network; one that stopped stays put."""
    of_groups = [series(curves[group['network']], kind, group['serves']) for group in groups]
    if defined := [one for one in of_groups if not np.isnan(one[1]).all()]:
        of_groups = defined
    steps = sorted(set().union(*(steps for steps, _ in of_groups)))
    total = sum(np.interp(steps, *one) for one in of_groups)
    return steps, total


def _or_nan(value):
    return math.nan if value is None else value


def plain_text(name):
    """A name for a figure, in which a dollar sign begins no formula."""
    return name.replace('$', r'\$')


def _short(name):
    return name if len(name) <= _LONGEST_NAME else f'{name[: _LONGEST_NAME - 1]}…'
