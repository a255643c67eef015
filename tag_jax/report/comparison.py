"""Ways to group tasks side by side: a table, error against search cost, error against budget."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tag_jax.comparison import (
    ALL_IN_ONE,
    RANDOM,
    Comparison,
    Line,
    differences,
    summary,
)
from tag_jax.report import page
from tag_jax.report.styles import style
from tag_jax.report.tables import plus_minus, text_table
from tag_jax.runs import workdir as workdirs

COSTS, BUDGETS, REPORT = 'costs.png', 'budgets.png', 'report.html'


def write_comparison(
    path: str | os.PathLike,
    comparison: Comparison,
    task_names: Sequence[str],
    settings: Mapping[str, Any],
) -> str:
    """Writes results.json, the pictures and report.html of a comparison.

    Args:
      path: the folder, which exists.
      comparison: from `comparison.compare_groupings`.
      task_names: T names.
      settings: what was asked for.

    Returns:
      The tables as text, ending with the path of the report.
    """
    path = pathlib.Path(path)
    lines = summary(comparison)
    workdirs.write_json(
        path / workdirs.RESULTS,
        {
            'settings': settings,
            'task_names': list(task_names),
            'outcomes': [outcome._asdict() for outcome in comparison.outcomes],
            'optima': {
                str(budget): optimum._asdict() for budget, optimum in comparison.optima.items()
            },
            'within_task_correlations': {
                method: [None if np.isnan(value) else value for value in values.tolist()]
                for method, values in comparison.correlations.items()
            },
        },
    )
    pictures = {COSTS: page.png(costs_figure(lines)), BUDGETS: page.png(budgets_figure(lines))}
    for name, picture in pictures.items():
        workdirs.write_bytes(path / name, picture)
    command = workdirs.command_of(path)
    html = _page(comparison, lines, task_names, settings, pictures, command)
    workdirs.write_bytes(path / REPORT, html.encode())
    text = comparison_table(lines)
    if comparison.optima:
        text += '\n\n' + optimum_sentence(comparison)
    if comparison.correlations:
        text += '\n\n' + correlations_table(comparison, task_names)
    return f'{text}\n\nreport: {path / REPORT}'


def comparison_table(lines: Sequence[Line]) -> str:
    """The lines as text.

    Args:
      lines: from `comparison.summary`.
    """
    header, rows = _cells(lines)
    rules = [n for n, row in enumerate(rows) if not n or row[0] != rows[n - 1][0]]
    return text_table(header, rows, left=(1,), rules=rules)


def best_sentence(lines: Sequence[Line]) -> str:
    """Which way to group has the lowest error, over all budgets if there are several.

    Args:
      lines: from `comparison.summary`.
    """
    of_means = [line for line in lines if line.budget is None] or lines
    best = min(of_means, key=lambda line: line.error[0])
    over = 'over all budgets' if best.budget is None else f'at budget {best.budget:g}'
    return f'Lowest total test error {over}: {best.method}, {plus_minus(*best.error)} %'


def optimum_sentence(comparison: Comparison) -> str:
    """Says what the best groups are worth, by budget.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    values = ', '.join(
        f'{optimum.error:.2f} % at {budget:g}' for budget, optimum in comparison.optima.items()
    )
    return (
        'The optimum (groups chosen on the validation errors of half the seeds, scored on the test '
        f'errors of the other half): {values}.'
    )


def correlations_table(comparison: Comparison, task_names: Sequence[str]) -> str:
    """Correlations of predicted with real errors within tasks, as text.

    Args:
      comparison: from `comparison.compare_groupings`.
      task_names: T names.
    """
    found = comparison.correlations
    means = {method: float(np.nanmean(of_tasks)) for method, of_tasks in found.items()}
    rows = [[task, *(f'{found[m][n]:.2f}' for m in found)] for n, task in enumerate(task_names)]
    rows.append(['mean', *(f'{mean:.2f}' for mean in means.values())])
    title = 'Correlation of predicted with test errors, within a task, over its groups of three up'
    return f'{title}\n{text_table(["", *found], rows, rules=())}'


def costs_figure(lines: Sequence[Line]) -> Figure:
    """Total test error against the cost of the search: Figure 2 of Fifty et al. 2021.

    The mean over budgets, where there are several. What needs no search stands on the left.

    Args:
      lines: from `comparison.summary`.
    """
    of_means = [line for line in lines if line.budget is None] or lines
    searched = [line.steps for line in of_means if line.steps > 0]
    left = min(searched, default=1) / 4
    figure = Figure(figsize=(7.5, 5), layout='constrained')
    axes = figure.add_subplot()
    for line, look in zip(of_means, _styles(of_means), strict=True):
        mean, error = line.error
        axes.errorbar(
            line.steps or left, mean, yerr=0 if np.isnan(error) else error, capsize=3, **look
        )
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: 'none' if np.isclose(x, left) else f'{x:g}')
    )
    axes.set_xticks([left, *(10.0**n for n in range(4) if 10.0**n <= 2 * max(searched, default=1))])
    axes.set_xlabel('cost of the search, in all-in-one networks')
    axes.set_ylabel('total test error (%)')
    axes.set_title('What a grouping costs to find, and what it gains')
    figure.legend(loc='outside right upper', fontsize=8)
    return figure


def budgets_figure(lines: Sequence[Line]) -> Figure:
    """Total test error against the cost at inference, as in Figure 3 of Standley et al. 2020.

    Args:
      lines: from `comparison.summary`.
    """
    figure = Figure(figsize=(7.5, 5), layout='constrained')
    axes = figure.add_subplot()
    methods = list(dict.fromkeys(line.method for line in lines))
    of_methods = [[x for x in lines if x.method == name and x.budget] for name in methods]
    for own, look in zip(of_methods, _styles([own[0] for own in of_methods]), strict=True):
        # Methods may cost less than the budget, or more: they stand where they cost the same.
        by_cost = {line.cost: line.error for line in sorted(own, key=lambda line: line.cost)}
        means, errors = zip(*by_cost.values(), strict=True)
        axes.errorbar(list(by_cost), means, yerr=np.nan_to_num(errors), capsize=3, **look)
    axes.set_xticks(sorted({line.budget for line in lines if line.budget}))
    axes.set_xlabel('cost of the networks at inference, in standard networks')
    axes.set_ylabel('total test error (%)')
    figure.legend(loc='outside right upper', fontsize=8)
    return figure


def _page(comparison, lines, task_names, settings, pictures, command):
    header, rows = _cells(lines)
    correlations = ''
    if comparison.correlations:
        correlations = '<h2>Do predictions hold?</h2>\n<p>Correlation of predicted with test ' + (
            'errors, within a task, over its groups of three tasks and more.</p>\n'
        )
        correlations += page.table(
            ['task', *comparison.correlations],
            [
                [task, *(f'{found[n]:.2f}' for found in comparison.correlations.values())]
                for n, task in enumerate(task_names)
            ],
        )
    chosen = [
        [f'{one.budget:g}', one.method, str(one.seed), ' | '.join(', '.join(g) for g in one.groups)]
        for one in comparison.outcomes
        if one.groups
    ]
    body = '\n'.join(
        [
            f'<p class="decision">{best_sentence(lines)}</p>',
            page.table(header, rows, 'numbers'),
            f'<p>{optimum_sentence(comparison)}</p>' if comparison.optima else '',
            page.image(pictures[COSTS], 'Total test error against the cost of the search'),
            page.image(pictures[BUDGETS], 'Total test error against the number of networks'),
            *_differences(comparison),
            correlations,
            '<h2>Chosen groups</h2>',
            page.table(['budget', 'method', 'seed', 'groups'], chosen),
            '<h2>Settings</h2>',
            page.table(None, [(name, str(value)) for name, value in settings.items()]),
            page.to_repeat(command),
        ]
    )
    return page.page(f'Ways to group the tasks of {settings["dataset"]}', body)


def _differences(comparison):
    """Every method against every other one."""
    found = differences(comparison)
    methods = list(dict.fromkeys(method for method, _ in found))
    rows = [
        [method, *('' if one == method else plus_minus(*found[method, one]) for one in methods)]
        for method in methods
    ]
    return [
        '<h2>One against the other</h2>',
        '<p>Total test error of the row minus that of the column, in points of percent, over all '
        'budgets, with the standard error of the difference.</p>',
        page.table(['', *methods], rows, 'numbers'),
    ]


def _cells(lines):
    """Header and rows of the table."""
    header = [
        *('budget', 'method', 'total test error', 'below all in one', 'below random'),
        *('share of optimum', 'cost', 'search', 'time', 'expected', 'own'),
    ]
    rows = [
        [
            'mean' if line.budget is None else f'{line.budget:g}',
            line.method,
            plus_minus(*line.error),
            '' if line.over_all_in_one is None else f'{plus_minus(*line.over_all_in_one, 1)} %',
            f'{plus_minus(*line.over_random, 1)} %',
            '' if line.share is None else f'{line.share:.2f}',
            f'{line.cost:.2f}',
            f'{line.steps:.1f}',
            f'{line.seconds:.1f}',
            f'{line.expected:.2f}',
            f'{line.own:.2f}',
        ]
        for line in lines
    ]
    return header, rows


def _styles(lines):
    """A style for each line; baselines are dashed."""
    for number, line in enumerate(lines):
        dashed = line.method in (RANDOM, ALL_IN_ONE)
        yield {'label': line.method, 'linestyle': '--' if dashed else '-', **style(number)}
