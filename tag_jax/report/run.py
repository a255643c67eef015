"""Tables and pictures of a finished run, drawn from the files in its workdir.

from tag_jax import report
print(report.write('runs/mine'))      # affinity.png, groups.png, curves.png, report.html
"""

import html
import math
import pathlib
import textwrap

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tag_jax import workdir as workdirs
from tag_jax.report import page

LINE_LENGTH = 100
HEAT_MAP, DIAGRAM, CURVES, REPORT = 'affinity.png', 'groups.png', 'curves.png', 'report.html'

_BASELINE_NAMES = {'mtl': 'all together', 'stl': 'single tasks'}
_COLOURS = colormaps['tab10'].colors
_GREY = '0.5'
_ANNOTATED_TASKS = 20


def write(path) -> str:
    """Writes the pictures and report.html of a finished run.

    Args:
      path: its workdir.

    Returns:
      The table of test errors as text, ending with the path of the report.

    Raises:
      ValueError: if it holds no finished run.
    """
    path = pathlib.Path(path)
    results = workdirs.read_results(path)
    config = workdirs.read_json(path / workdirs.CONFIG)
    records = workdirs.read_records(path / workdirs.METRICS)
    pictures = {DIAGRAM: groups_figure(results), CURVES: curves_figure(results, records)}
    if (path / workdirs.AFFINITY).exists():
        affinity = workdirs.read_affinity(path / workdirs.AFFINITY)
        pictures[HEAT_MAP] = affinity_figure(
            *(affinity['mean'], affinity['task_names'], affinity.get('stderr')),
            None if config.get('affinity') else config.get('affinity_kind', 'exact'),
            with_diagonal=_on_validation(config),
        )
    pictures = {name: page.png(figure) for name, figure in pictures.items()}
    for name, picture in pictures.items():
        workdirs.write_bytes(path / name, picture)
    workdirs.write_bytes(path / REPORT, html_page(results, config, pictures).encode())
    return f'{text_table(results)}\n\nreport: {path / REPORT}'


def text_table(results) -> str:
    """Test errors of every task beside the baselines, for the terminal.

    Args:
      results: what results.json holds.
    """
    header, rows = _error_rows(results)
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]

    def line(cells):
        first, *others = (
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return '  '.join([first, *others]).rstrip()

    rule = '-' * len(line(header))
    groups = [f'  {n}  {tasks}' for n, tasks in enumerate(group_lines(results), 1)]
    table = [line(header), rule, *map(line, rows[:-1]), rule, line(rows[-1])]
    remarks = [
        line
        for remark in results.get('remarks', ())
        for line in ('', *textwrap.wrap(remark, LINE_LENGTH))
    ]
    return '\n'.join(['Train together:', *groups, '', gain_sentence(results), '', *table, *remarks])


def group_lines(results) -> list[str]:
    """A line for each network: the tasks that it serves, then those that only help to train.

    Args:
      results: what results.json holds.
    """
    lines = []
    for group in results['groups']:
        helpers = [task for task in group['tasks'] if task not in group['serves']]
        helped = f' (with the help of {", ".join(helpers)})' if helpers else ''
        cost = group.get('cost', 1)
        size = '' if cost == 1 else f' (on {cost:g} of a standard network)'
        lines.append(', '.join(group['serves']) + helped + size)
    return lines


def gain_sentence(results) -> str:
    """The total test error, beside that of one network for all tasks.

    Args:
      results: what results.json holds.
    """
    total = results['total_test_error']
    sentence = f'Total test error {total:.2f} %'
    if baseline := results['baselines'].get('mtl'):
        together = baseline['total_test_error']
        sentence += f', against {together:.2f} % for one network of all tasks'
        if together > 0:
            change = 100 * (1 - total / together)
            sentence += f': {abs(change):.1f} % {"lower" if change >= 0 else "higher"}'
    return sentence + '.'


def affinity_figure(mean, task_names, stderr=None, kind='exact', with_diagonal=False) -> Figure:
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
    labels = [_plain_text(task) for task in task_names]
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


def groups_figure(results) -> Figure:
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
                    f'{_plain_text(task)}   {error:.2f} %',
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


def curves_figure(results, records) -> Figure:
    """Training loss and validation error, in total and for every task.

    Args:
      results: what results.json holds.
      records: the lines of metrics.jsonl.
    """
    curves = {}
    for record in records:
        curves.setdefault(record['network'], []).append(record)
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
            axes.plot(*_series(curves['mtl'], kind, names), color=_GREY, label='all together')
        axes.plot(*_sum_of_groups(curves, groups, kind), color='black', label='groups')
        axes.set_title(label, fontsize=10)
        axes.set_xlabel('step')
        if kind == 'training_loss':
            _use_log_scale(axes)
        axes.legend(frameon=False)
    panels = np.ravel(below.subplots(rows, columns, sharex=True))
    for panel, task in zip(panels, names, strict=False):
        if 'mtl' in curves:
            panel.plot(*_series(curves['mtl'], 'training_loss', [task]), color=_GREY)
        for n, group in enumerate(groups):
            if task in group['serves']:
                series = _series(curves[group['network']], 'training_loss', [task])
                panel.plot(*series, color=_COLOURS[n % len(_COLOURS)])
        panel.set_title(_plain_text(task), fontsize=9)
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


def html_page(results, config, pictures) -> str:
    """The report as one page that needs no other file.

    Args:
      results: what results.json holds.
      config: what config.json holds.
      pictures: `{file name: PNG bytes}`.
    """
    items = ''.join(f'<li>{html.escape(line)}</li>' for line in group_lines(results))
    shown = {name: value for name, value in config.items() if value is not None}
    settings = [(name, _plain(value)) for name, value in (*shown.items(), *results['cost'].items())]
    body = _BODY.format(
        groups_text=items,
        gain=html.escape(gain_sentence(results)),
        errors=page.table(*_error_rows(results), 'errors'),
        groups=page.image(pictures[DIAGRAM], 'Which network trains and which serves each task'),
        affinity=_affinity_section(config, pictures),
        remarks=''.join(f'<p>{html.escape(remark)}</p>' for remark in results.get('remarks', ())),
        curves=page.image(pictures[CURVES], 'Loss and validation error during training'),
        settings=page.table(None, settings),
    )
    return page.page(f'{results["method"]} on {results["dataset"]}', body)


def _affinity_section(config, pictures):
    """The part of the page on affinities; nothing where none were used."""
    if HEAT_MAP not in pictures:
        return ''
    return (
        '<h2>Inter-task affinity</h2>\n'
        f'<p>{html.escape(measured_sentence(config))} Blue helps, red harms.</p>\n'
        + page.image(pictures[HEAT_MAP], 'Heat map of inter-task affinities')
    )


def measured_sentence(config) -> str:
    """What the affinities of a run are, and where they come from.

    Args:
      config: what config.json holds.
    """
    if config.get('affinity'):
        return f'Measured elsewhere: {config["affinity"]}.'
    sentence = _AFFINITY_KINDS[config.get('affinity_kind', 'exact')]
    if config.get('affinity_step') == 'optimizer' and config['affinity_kind'] != 'cosine':
        sentence += ', with the step of the optimizer'
    if _on_validation(config):
        sentence += ', compared on batches of the validation split'
    sentence += '; averaged over the training of one network on all tasks'
    start, stop = config.get('affinity_window', (0, 1))
    if (start, stop) != (0, 1):
        sentence += f', between {100 * start:g} and {100 * stop:g} % of its largest number of steps'
    return sentence + f', every {config.get("affinity_every", 1)} steps.'


def _on_validation(config):
    return config.get('affinity_split') == 'validation'


_SHARE = "The share of the target task's loss that one step on the source task alone takes away"
_AFFINITY_KINDS = {
    'exact': _SHARE,
    'first_order': f'{_SHARE}, to first order',
    'cosine': "The cosine between the gradients of the source task's and the target task's losses",
}

_BODY = """<p class="decision">Train together</p>
<ol class="decision">{groups_text}</ol>
<p>{gain}</p>
<h2>Test error (%)</h2>
{errors}
<h2>Networks</h2>
{groups}
{affinity}
{remarks}
<h2>Training</h2>
{curves}
<h2>Settings and cost</h2>
{settings}
"""


def _error_rows(results):
    """Header and rows of the table of test errors; the last row is the total."""
    baselines = results['baselines']
    header = ['task', 'network', 'groups']
    header += [_BASELINE_NAMES.get(name, name) for name in baselines]
    server = {
        task: str(n + 1) for n, group in enumerate(results['groups']) for task in group['serves']
    }
    rows = [
        [task, server[task], f'{results["test_error"][task]:.2f}']
        + [f'{errors["test_error"][task]:.2f}' for errors in baselines.values()]
        for task in results['task_names']
    ]
    totals = [results['total_test_error'], *(e['total_test_error'] for e in baselines.values())]
    return header, [*rows, ['total', '', *(f'{total:.2f}' for total in totals)]]


def _series(records, kind, tasks):
    """Steps, and the sum over tasks of a quantity in the records of one network."""
    values = [sum(_or_nan(record[kind][task]) for task in tasks) for record in records]
    return [record['step'] for record in records], values


def _sum_of_groups(curves, groups, kind):
    """Steps, and the sum over all tasks, each from its network; one that stopped stays put."""
    series = [_series(curves[group['network']], kind, group['serves']) for group in groups]
    steps = sorted(set().union(*(steps for steps, _ in series)))
    total = sum(np.interp(steps, *one) for one in series)
    return steps, total


def _use_log_scale(axes):
    """A logarithmic axis, unless there is nothing positive to show on it."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    if np.any(values > 0):
        axes.set_yscale('log')


def _or_nan(value):
    return math.nan if value is None else value


def _plain(value):
    """A setting as text."""
    if isinstance(value, dict):
        return ', '.join(f'{name} {_plain(one)}' for name, one in value.items())
    if isinstance(value, list):
        return ', '.join(map(_plain, value))
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _plain_text(name):
    """A name for a figure, in which a dollar sign begins no formula."""
    return name.replace('$', r'\$')
