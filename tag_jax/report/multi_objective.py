"""Ways of weighting tasks side by side: a table, the scatter for two tasks, the radar for many."""

import html
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from tag_jax import workdir as workdirs
from tag_jax.multi_objective import SINGLE_TASK, STATIC, Outcome, mean_and_error
from tag_jax.report import page

SCATTER, RADAR, REPORT = 'accuracies.png', 'errors.png', 'report.html'


def write_multi_objective(
    path: str | os.PathLike,
    outcomes: Sequence[Outcome],
    task_names: Sequence[str],
    settings: Mapping[str, Any],
) -> str:
    """Writes results.json, the picture and report.html of a comparison.

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
        'outcomes': [
            {
                'name': outcome.name,
                'learning_rates': list(outcome.learning_rates),
                'validation_error': outcome.validation_error.tolist(),
                'test_error': outcome.test_error.tolist(),
                'seconds': outcome.seconds,
            }
            for outcome in outcomes
        ],
    }
    workdirs.write_json(path / workdirs.RESULTS, results)
    pictured = (SCATTER, scatter_figure) if len(task_names) == 2 else (RADAR, radar_figure)
    name, draw = pictured
    picture = page.png(draw(outcomes, task_names))
    workdirs.write_bytes(path / name, picture)
    best = min(outcomes, key=lambda outcome: outcome.test_error.mean())
    body = [
        f'<p class="decision">Lowest mean test error: {html.escape(best.name)}, '
        f'{_cells(best)[-2]} %</p>',
        page.table(_header(task_names), list(map(_cells, outcomes)), 'numbers'),
        '<p>Means over seeds with their standard errors, where there are several seeds.</p>',
        page.image(picture, 'Test errors of all ways to weigh tasks'),
        '<h2>Settings</h2>',
        page.table(None, [(name, str(value)) for name, value in settings.items()]),
        page.to_repeat(workdirs.command_of(path)),
    ]
    text = page.page(f'Ways to weigh {len(task_names)} tasks', '\n'.join(body))
    workdirs.write_bytes(path / REPORT, text.encode())
    return multi_objective_table(outcomes, task_names)


def multi_objective_table(outcomes: Sequence[Outcome], task_names: Sequence[str]) -> str:
    """Mean test errors with their standard errors over seeds, and the mean over tasks, as text.

    Args:
      outcomes: from `multi_objective.compare`.
      task_names: T names.
    """
    first, *names, last = _header(task_names)
    width = max(len(first), *(len(outcome.name) for outcome in outcomes))
    wide = max(15, *(len(name) + 2 for name in names))
    lines = []
    for name, *errors, rate in [[first, *names, last], *map(_cells, outcomes)]:
        lines.append(f'{name:{width}}' + ''.join(f'{one:>{wide}}' for one in errors) + f'  {rate}')
    return '\n'.join(lines)


def _header(task_names):
    return ['test error (%)', *task_names, 'mean', 'rate']


def _cells(outcome):
    """A row of the table, as text: its name, the error of each task and their mean, the rates."""
    columns = np.column_stack([outcome.test_error, outcome.test_error.mean(axis=1)])
    errors = [_plus_minus(*cell) for cell in zip(*mean_and_error(columns), strict=True)]
    rates = ', '.join(f'{rate:g}' for rate in dict.fromkeys(outcome.learning_rates))
    return [outcome.name, *errors, rates]


def scatter_figure(outcomes: Sequence[Outcome], task_names: Sequence[str]) -> Figure:
    """Accuracies of two tasks, with standard errors: Figure 3 of Sener & Koltun 2018.

    Args:
      outcomes: from `multi_objective.compare`.
      task_names: two names.
    """
    figure = Figure(figsize=(7, 6), layout='constrained')
    axes = figure.add_subplot()
    colours = iter(colormaps['tab20'].colors * 4)
    for outcome in outcomes:
        mean, error = mean_and_error(outcome.test_error)
        x, y = 100 - mean
        if outcome.name.startswith(STATIC):
            style = {'color': '0.6', 'marker': '.', 'label': None}
        elif outcome.name == SINGLE_TASK:
            style = {'color': 'black', 'marker': '*', 'markersize': 14, 'label': outcome.name}
            axes.axvline(x, color='0.8', linewidth=1, zorder=0)
            axes.axhline(y, color='0.8', linewidth=1, zorder=0)
        else:
            style = {'color': next(colours), 'marker': 'o', 'label': outcome.name}
        axes.errorbar(x, y, xerr=error[0], yerr=error[1], linewidth=1, linestyle='', **style)
    if any(outcome.name.startswith(STATIC) for outcome in outcomes):
        axes.plot([], [], color='0.6', marker='.', linestyle='', label='static weights')
    axes.set_xlabel(f'{task_names[0]}: 100 - error (%)')
    axes.set_ylabel(f'{task_names[1]}: 100 - error (%)')
    axes.set_title('Top right is better')
    axes.legend(fontsize=8)
    return figure


def radar_figure(outcomes: Sequence[Outcome], task_names: Sequence[str]) -> Figure:
    """Mean error of every task as a radar chart: Figure 2 of Sener & Koltun 2018.

    Args:
      outcomes: from `multi_objective.compare`.
      task_names: T names.
    """
    figure = Figure(figsize=(8, 7), layout='constrained')
    axes = figure.add_subplot(projection='polar')
    angles = np.linspace(0, 2 * np.pi, len(task_names), endpoint=False)
    closed = lambda values: np.append(values, values[:1])
    colours = iter(colormaps['tab20'].colors * 4)
    for outcome in outcomes:
        mean, _ = mean_and_error(outcome.test_error)
        style = {'color': 'black', 'linestyle': '--'}
        if outcome.name != SINGLE_TASK:
            style = {'color': next(colours)}
        axes.plot(closed(angles), closed(mean), linewidth=1.5, label=outcome.name, **style)
    axes.set_xticks(angles, task_names, fontsize=8)
    axes.set_title('Test error (%): smaller is better')
    figure.legend(loc='outside right upper', fontsize=8)
    return figure


def _plus_minus(mean, error):
    return f'{mean:.2f}' if np.isnan(error) else f'{mean:.2f} ± {error:.2f}'
