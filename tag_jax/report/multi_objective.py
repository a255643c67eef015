"""Ways of weighting tasks side by side: a table, a scatter for each pair of tasks, a radar."""

import itertools
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tag_jax.data.cityscapes import PIXELS
from tag_jax.multi_objective import SINGLE_TASK, STATIC, Outcome, best, searched
from tag_jax.numbers import mean_and_error
from tag_jax.report import page
from tag_jax.report.downloads import downloads, figure_files, table_files
from tag_jax.report.figures import plain_text
from tag_jax.report.styles import style
from tag_jax.report.svg import svg
from tag_jax.report.words import duration
from tag_jax.runs import storage
from tag_jax.runs import workdir as workdirs
from tag_jax.tables import LINE_LENGTH, plus_minus, significant, text_table

SCATTER, RADAR, REPORT = 'accuracies.png', 'errors.png', 'report.html'
TABLE = 'weightings'

_MOST_PAIRED = 4  # Of more tasks, pairs are too many to look at.
_MOST_COLUMNS = 12
_NAME_SIZE = 9  # Points.
_MOST_IN_A_RADAR = 24  # Of more tasks there are two, the easy half and the hard one.
_SHOWN = {
    SCATTER: 'What all ways to weigh tasks reach on pairs of tasks',
    RADAR: 'Test errors of all ways to weigh tasks',
}


def write_multi_objective(
    path: str | os.PathLike,
    outcomes: Sequence[Outcome],
    task_names: Sequence[str],
    settings: Mapping[str, Any],
) -> str:
    """Writes results.json, the pictures and report.html of a comparison.

    Args:
      path: the folder, which exists.
      outcomes: from `multi_objective.compare`.
      task_names: T names.
      settings: what was asked for, for results.json.

    Returns:
      The table as text.
    """
    path = pathlib.Path(path)
    results = {
        'settings': settings,
        'task_names': list(task_names),
        'outcomes': [_to_json(outcome) for outcome in outcomes],
    }
    storage.write_json(path / workdirs.RESULTS, results)
    figures = {}
    if 2 <= len(task_names) <= _MOST_PAIRED:
        figures[SCATTER] = scatter_figure(outcomes, task_names)
    if len(task_names) != 2:
        figures[RADAR] = radar_figure(outcomes, task_names)
    files = {name: figure_files(name, figure) for name, figure in figures.items()}
    files[TABLE] = table_files(TABLE, *_grid(outcomes, task_names))
    for name, figure in figures.items():
        storage.write_bytes(path / name, page.png(figure))
    for name, data in (pair for found in files.values() for pair in found.items()):
        storage.write_bytes(path / name, data)
    text = page.render(
        'multi_objective.html',
        f'Ways to weigh {len(task_names)} tasks',
        workdirs.command_of(path),
        best=_choice(outcomes),
        searches=[*_searches(outcomes), *_left_out(outcomes, task_names)],
        errors=_grid(outcomes, task_names),
        files=downloads(files[TABLE]),
        figures=[
            (svg(figure, _SHOWN[name], 'diagram'), downloads(files[name]))
            for name, figure in figures.items()
        ],
        natural=_in_natural_units(outcomes),
        settings=[(name, str(value)) for name, value in settings.items() if name != 'versions'],
        versions=list(settings.get('versions', {}).items()),
    )
    storage.write_bytes(path / REPORT, text.encode())
    return multi_objective_table(outcomes, task_names)


def _to_json(outcome):
    return {
        'name': outcome.name,
        'learning_rates': list(outcome.learning_rates),
        'validation_error': [*map(_or_null, outcome.validation_error)],
        'test_error': [*map(_or_null, outcome.test_error)],
        'metrics': {
            task: {name: _or_null(values) for name, values in measures.items()}
            for task, measures in outcome.metrics.items()
        },
        'seconds': outcome.seconds,
        'training_seconds': _or_null(np.array([outcome.training_seconds]))[0],
    }


def multi_objective_table(outcomes: Sequence[Outcome], task_names: Sequence[str]) -> str:
    """Test errors and training times as text, and what was chosen on the validation split.

    Errors are means over seeds with their standard errors, and the mean over tasks. Times are those
    of `Outcome.training_seconds`: Table 2 of Sener & Koltun 2018.

    Args:
      outcomes: from `multi_objective.compare`.
      task_names: T names.
    """
    header, rows = _grid(outcomes, task_names)
    sentences = [
        textwrap.fill(sentence, LINE_LENGTH)
        for sentence in (
            *(_choice(outcomes), *_searches(outcomes)),
            *_left_out(outcomes, task_names),
        )
    ]
    return '\n'.join([text_table(header, rows, rules=()), '', *sentences])


def _grid(outcomes, task_names):
    """A header and rows as text: a row for each way; of many tasks, a column for each way."""
    header = ['test error (%)', *task_names, 'mean', 'rate', 'training']
    return _oriented(header, list(map(_cells, outcomes)))


def _choice(outcomes):
    """Which way to take: chosen on the validation split, and then tested."""
    chosen = best(outcomes)
    error = plus_minus(*map(float, mean_and_error(chosen.mean_error('test'))))
    return f'Lowest mean validation error: {chosen.name}, mean test error {error} %'


def _searches(outcomes):
    """A sentence for each way that was tried with several numbers."""
    return [
        f'{kind}: {count} were tried, and {chosen.name} has the lowest mean validation error'
        for kind, (chosen, count) in searched(outcomes).items()
    ]


def _left_out(outcomes, task_names):
    """A sentence for each split that does not define the errors of some tasks."""
    for split, columns in outcomes[0].left_out.items():
        if columns:
            tasks = ', '.join(task_names[n] for n in columns)
            yield (
                f'The {split} split does not define the errors of {tasks}: it lacks labels of a '
                'class, or all are the same. Mean errors on it leave them out, for all ways alike. '
                'Let splits be stratified by the task (stratify=, --stratify), or judge it by '
                'another measure.'
            )


def _oriented(header, rows):
    """A table, or its transpose if it has many columns and fewer rows."""
    if len(header) <= _MOST_COLUMNS + 4 or len(rows) >= len(header):
        return header, rows
    header, *rows = map(list, zip(header, *rows, strict=True))
    return header, rows


def _or_null(values):
    """Numbers for JSON; None for those that are not finite."""
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _cells(outcome):
    """A row of the table: its name, the error of each task and their mean, the rates, the time."""
    columns = np.column_stack([outcome.test_error, outcome.mean_error('test')])
    errors = [plus_minus(*cell) for cell in zip(*mean_and_error(columns), strict=True)]
    rates = ', '.join(f'{rate:g}' for rate in dict.fromkeys(outcome.learning_rates))
    seconds = outcome.training_seconds
    return [outcome.name, *errors, rates, '' if np.isnan(seconds) else duration(seconds)]


def _in_natural_units(outcomes):
    """Header and rows of what errors come from, as mIoU: Table 4 of Sener & Koltun 2018."""
    measured = dict.fromkeys(
        (task, name)
        for outcome in outcomes
        for task, measures in outcome.metrics.items()
        for name in measures
        if name != 'error'
    )
    if not measured:
        return None
    header = ['on the test split', *(f'{task}: {name}' for task, name in measured)]
    rows = [
        [outcome.name, *(_natural(outcome.metrics[task].get(name)) for task, name in measured)]
        for outcome in outcomes
    ]
    return _oriented(header, rows)


def _natural(values):
    """Mean and standard error to four and two digits; '' where nothing was measured."""
    if values is None:
        return ''
    return significant(*mean_and_error(values), 4)


def scatter_figure(outcomes: Sequence[Outcome], task_names: Sequence[str]) -> Figure:
    """Performance profiles of every pair of tasks, with standard errors.

    Figures 3 and 4 of Sener & Koltun 2018. Accuracies and mean intersections over unions are in
    percent; of a mean error in natural units the profile shows 1 / error, and 1 - error of one
    that is normalised to the size of the image, as the offsets of instances are.

    Args:
      outcomes: from `multi_objective.compare`.
      task_names: two names or more.
    """
    pairs = list(itertools.combinations(task_names, 2))
    figure = Figure(figsize=(7 * min(len(pairs), 3), 6 * -(-len(pairs) // 3)), layout='constrained')
    panels = figure.subplots(-(-len(pairs) // 3), min(len(pairs), 3), squeeze=False).ravel()
    for axes, pair in zip(panels, pairs, strict=False):
        _profile(axes, outcomes, pair)
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    entries = panels[0].get_legend_handles_labels()
    figure.legend(*entries, loc='outside lower center', ncols=6, fontsize=9)
    return figure


def _profile(axes, outcomes, pair):
    """The performance of all ways on two tasks."""
    numbers = itertools.count()
    for outcome in outcomes:
        seeds = np.column_stack([_performance(outcome, task)[1] for task in pair])
        (x, y), error = mean_and_error(seeds)
        if outcome.name.startswith(STATIC):
            look = {'color': '0.6', 'marker': '.', 'label': None}
        elif outcome.name == SINGLE_TASK:
            look = {'color': '0.3', 'marker': '*', 'markersize': 14, 'label': outcome.name}
            axes.axvline(x, color='0.8', linewidth=1, zorder=0)
            axes.axhline(y, color='0.8', linewidth=1, zorder=0)
        else:
            look = {**style(next(numbers)), 'label': outcome.name}
        axes.errorbar(x, y, xerr=error[0], yerr=error[1], linewidth=1, linestyle='', **look)
    if any(outcome.name.startswith(STATIC) for outcome in outcomes):
        axes.plot([], [], color='0.6', marker='.', linestyle='', label='static weights')
    names = [plain_text(f'{task}: {_performance(outcomes[0], task)[0]}') for task in pair]
    axes.set(xlabel=names[0], ylabel=names[1], title='Top right is better')


def _performance(outcome, task):
    """The name of a number that is better the higher it is, and its values `[S]`."""
    measures = outcome.metrics[task]
    for name, words in (('accuracy', 'accuracy (%)'), ('miou', 'mIoU (%)')):
        if name in measures:
            return words, 100 * measures[name]
    if PIXELS in measures:
        return '1 - error', 1 - measures['mae']
    for name in ('mae', 'mse'):
        if name in measures:
            return f'1 / {name}', 1 / np.where(measures[name] > 0, measures[name], np.nan)
    return '100 - error (%)', 100 - measures['error']


def radar_figure(outcomes: Sequence[Outcome], task_names: Sequence[str]) -> Figure:
    """Mean error of every task as a radar chart: Figure 2 of Sener & Koltun 2018.

    Many tasks are on two charts: the half with the lower errors on the left. The paper does not say
    which errors part them; here they are means over all ways.

    Args:
      outcomes: from `multi_objective.compare`.
      task_names: T names.
    """
    errors = np.array([mean_and_error(outcome.test_error)[0] for outcome in outcomes])
    titles = {'Test error (%): smaller is better': range(len(task_names))}
    if len(task_names) > _MOST_IN_A_RADAR:
        order = np.argsort(errors.mean(axis=0), kind='stable')
        middle = len(task_names) // 2
        titles = {
            'Easy tasks: test error (%)': sorted(order[:middle]),
            'Hard tasks: test error (%)': sorted(order[middle:]),
        }
    figure = Figure(figsize=(9 * len(titles), 9), layout='constrained')
    panels = figure.subplots(1, len(titles), subplot_kw={'projection': 'polar'}, squeeze=False)[0]
    for axes, (title, tasks) in zip(panels, titles.items(), strict=True):
        _radar(axes, outcomes, errors[:, tasks], [task_names[n] for n in tasks])
        # Above the name at the top, which stands upright.
        axes.set_title(title, pad=20 + 0.6 * _NAME_SIZE * max(map(len, task_names)))
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=5, fontsize=9
    )
    return figure


def _radar(axes, outcomes, errors, task_names):
    """A chart of errors `[ways, T]`, with names around it that do not meet."""
    angles = np.linspace(0, 2 * np.pi, len(task_names), endpoint=False)
    closed = lambda values: np.append(values, values[:1])
    numbers = itertools.count()
    for outcome, values in zip(outcomes, errors, strict=True):
        if outcome.name.startswith(STATIC):
            look = {'color': '0.8', 'zorder': 1}
        elif outcome.name == SINGLE_TASK:
            look = {'color': '0.3', 'linestyle': '--', 'label': outcome.name}
        else:
            look = {**style(next(numbers)), 'markersize': 5, 'label': outcome.name}
        axes.plot(closed(angles), closed(values), linewidth=1.2, **look)
    if any(outcome.name.startswith(STATIC) for outcome in outcomes):
        axes.plot([], [], color='0.8', label='static weights')
    axes.set_xticks(angles, [''] * len(task_names))
    axes.tick_params(axis='y', labelsize=8)
    most = np.nanmax(errors, initial=0)
    axes.set_ylim(0, 1.02 * most if most > 0 else 1)
    for angle, name in zip(angles, task_names, strict=True):
        left = np.cos(angle) < -1e-9  # Names read from left to right on both sides.
        axes.text(
            angle,
            1.06 * axes.get_ylim()[1],
            plain_text(name),
            rotation=np.degrees(angle) - 180 * left,
            rotation_mode='anchor',
            horizontalalignment='right' if left else 'left',
            verticalalignment='center',
            fontsize=_NAME_SIZE,
        )
