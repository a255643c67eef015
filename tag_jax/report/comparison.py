"""Ways to group tasks side by side: a table, error against search cost, error against budget."""

import math
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from tag_jax.comparison import (
    ALL_IN_ONE,
    RANDOM,
    Comparison,
    Line,
    summary,
)
from tag_jax.report import differences, page, words
from tag_jax.report.downloads import downloads, figure_files, table_files
from tag_jax.report.styles import style
from tag_jax.report.svg import svg
from tag_jax.runs import storage
from tag_jax.runs import workdir as workdirs
from tag_jax.tables import LINE_LENGTH, plus_minus, text_table, without_empty

COSTS, BUDGETS, TABLE, REPORT = 'costs.png', 'budgets.png', 'comparison', 'report.html'
_MOST_TICKS = 6
_SHOWN = {
    COSTS: 'Total test error against the cost of the search',
    BUDGETS: 'Total test error against the cost at inference',
}


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
    storage.write_json(
        path / workdirs.RESULTS,
        {
            'settings': settings,
            'task_names': list(task_names),
            'outcomes': [outcome.to_json() for outcome in comparison.outcomes],
            **differences.to_json(comparison),
            'remarks': list(comparison.remarks),
            'optima': {
                str(budget): optimum._asdict() for budget, optimum in comparison.optima.items()
            },
            'within_task_correlations': {
                method: [None if np.isnan(value) else value for value in values.tolist()]
                for method, values in comparison.correlations.items()
            },
        },
    )
    by = comparison.select_by
    figures = {COSTS: costs_figure(lines, by), BUDGETS: budgets_figure(lines, by)}
    files = {name: figure_files(name, figure) for name, figure in figures.items()}
    files[TABLE] = table_files(TABLE, *_cells(lines, words.measure(by)))
    for name, figure in figures.items():
        storage.write_bytes(path / name, page.png(figure))
    for name, data in (pair for found in files.values() for pair in found.items()):
        storage.write_bytes(path / name, data)
    command = workdirs.command_of(path)
    text = _page(comparison, lines, task_names, settings, figures, files, command)
    storage.write_bytes(path / REPORT, text.encode())
    told = f'{differences.headline(comparison)}. {differences.verdict_sentence(comparison)}'
    text = textwrap.fill(told, LINE_LENGTH) + '\n\n' + comparison_table(lines, by)
    text += '\n\n' + differences.differences_text(comparison)
    for remark in comparison.remarks:
        text += '\n\n' + textwrap.fill(remark, LINE_LENGTH)
    if comparison.optima:
        text += '\n\n' + textwrap.fill(optimum_sentence(comparison), LINE_LENGTH)
    if comparison.correlations:
        text += '\n\n' + correlations_table(comparison, task_names)
    return f'{text}\n\nreport: {path / REPORT}'


def comparison_table(lines: Sequence[Line], select_by: str = 'error') -> str:
    """The lines as text.

    Args:
      lines: from `comparison.summary`.
      select_by: what their errors are, see `training.TrainingConfig`.
    """
    measure = words.measure(select_by)
    header, rows = _cells(lines, measure)
    rules = [n for n, row in enumerate(rows) if not n or row[0] != rows[n - 1][0]]
    table = text_table(header, rows, (1,), rules, keys=2)
    return f'{table}\n\n{textwrap.fill(columns_sentence(lines, select_by), LINE_LENGTH)}'


def columns_sentence(lines: Sequence[Line], select_by: str = 'error') -> str:
    """Says what the columns of the table are.

    Args:
      lines: from `comparison.summary`.
      select_by: see `comparison_table`.
    """
    name = words.measure(select_by).name
    tested = (
        f'Own: total test {name} of those networks; the column total test {name} is that of '
        'networks of other seeds, which had no part in the choice.'
        if all(line.afresh for line in lines)
        else f'Total test {name}: of those networks as well.'
    )
    return (
        'Search and time: steps and time of the search, in units of one network for all tasks. '
        f'Expected: total validation {name} of the chosen networks, as they were chosen. {tested}'
    )


def optimum_sentence(comparison: Comparison) -> str:
    """Says what the best groups are worth, by budget.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    measure = words.measure(comparison.select_by)
    values = ', '.join(
        f'{measure.text(optimum.error)}{measure.unit} at {budget:g}'
        for budget, optimum in comparison.optima.items()
    )
    of = {'error': 'errors'}.get(measure.name, 'losses')
    return (
        f'The optimum (groups chosen on the validation {of} of half the seeds, scored on the test '
        f'{of} of the other half): {values}.'
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
    of = 'errors' if comparison.select_by == 'error' else 'losses'
    title = f'Correlation of predicted with test {of}, within a task, over its groups of three up'
    return f'{title}\n{text_table(["", *found], rows, rules=())}'


def costs_figure(lines: Sequence[Line], select_by: str = 'error') -> Figure:
    """Total test error against the cost of the search: Figure 2 of Fifty et al. 2021.

    On the left in steps of networks; on the right in time, which measuring takes as well. The mean
    over budgets, where there are several. Ways that need no search stand on the left of each.

    Args:
      lines: from `comparison.summary`.
      select_by: see `comparison_table`.
    """
    of_means = [line for line in lines if line.budget is None] or lines
    figure = Figure(figsize=(9, 5), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_costs(left, of_means, [line.steps for line in of_means])
    _draw_costs(right, of_means, [line.seconds for line in of_means])
    left.set_xlabel('steps of the search, all-in-one networks')
    right.set_xlabel('time of the search, all-in-one networks')
    left.set_ylabel(_axis(select_by))
    figure.suptitle('What a grouping costs to find, and what it gains')
    figure.legend(*left.get_legend_handles_labels(), loc='outside right upper', fontsize=8)
    return figure


def _draw_costs(axes, lines, costs):
    """Errors over costs, which may be zero, on a logarithmic axis."""
    searched = [cost for cost in costs if cost > 0]
    lowest, highest = min(searched, default=1), max(searched, default=1)
    # (Of a wide range a factor of four is too little for two labels.)
    nothing = lowest / max(4, (highest / lowest) ** 0.2)
    for line, cost, look in zip(lines, costs, _styles(lines), strict=True):
        mean, error = line.error
        axes.errorbar(
            cost or nothing, mean, yerr=0 if np.isnan(error) else error, capsize=3, **look
        )
    axes.set_xscale('log')
    axes.set_xlim(nothing / 1.5, 1.5 * highest)
    axes.set_xticks([nothing, *cost_ticks(searched)])
    # Without labels of its own: minor ticks of a short axis have some, over those of the others.
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: 'none' if np.isclose(x, nothing) else f'{x:g}')
    )


def cost_ticks(costs: Sequence[float]) -> list[float]:
    """The ticks of a logarithmic axis of costs: 1, 2 and 5 of each power of ten, or powers alone.

    Args:
      costs: above 0; none for no costs.
    """
    if not costs:
        return []
    lowest, highest = min(costs) / 1.5, 1.5 * max(costs)
    powers = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [one * 10.0**power for power in powers for one in digits]
        ticks = [tick for tick in ticks if lowest <= tick <= highest]
        if len(ticks) <= _MOST_TICKS:
            return ticks
    return ticks[:: -(-len(ticks) // _MOST_TICKS)]


def budgets_figure(lines: Sequence[Line], select_by: str = 'error') -> Figure:
    """Total test error against the cost at inference, as in Figure 3 of Standley et al. 2020.

    Args:
      lines: from `comparison.summary`.
      select_by: see `comparison_table`.
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
    ticks = budget_ticks(lines)
    axes.set_xticks(ticks, [f'{round(tick, 2):g}' for tick in ticks])
    axes.set_xlabel('cost of the networks at inference, in standard networks')
    axes.set_ylabel(_axis(select_by))
    figure.legend(loc='outside right upper', fontsize=8)
    return figure


def budget_ticks(lines: Sequence[Line]) -> list[float]:
    """The ticks of an axis of costs at inference: budgets, and costs that are none of these.

    A cost that is so near to a budget, or to a lower cost, that labels would touch has no tick.

    Args:
      lines: from `comparison.summary`.
    """
    budgets = sorted({line.budget for line in lines if line.budget})
    costs = sorted({line.cost for line in lines if line.budget})
    apart = (max(budgets + costs) - min(budgets + costs)) / 12
    ticks = []
    for tick in budgets + costs:
        if all(abs(tick - other) > apart for other in ticks):
            ticks.append(tick)
    return sorted(ticks)


def _page(comparison, lines, task_names, settings, figures, files, command):
    found = comparison.correlations
    return page.render(
        'comparison.html',
        f'Ways to group the tasks of {settings["dataset"]}',
        command,
        best=differences.headline(comparison),
        verdict=differences.verdict_sentence(comparison),
        measure=words.measure(comparison.select_by),
        columns=columns_sentence(lines, comparison.select_by),
        remarks=comparison.remarks,
        totals=_cells(lines, words.measure(comparison.select_by)),
        optimum=optimum_sentence(comparison) if comparison.optima else '',
        files=downloads(files[TABLE]),
        figures=[
            (svg(figure, _SHOWN[name], 'diagram'), downloads(files[name]))
            for name, figure in figures.items()
        ],
        pairs=differences.pair_rows(comparison),
        covers=differences.covers_sentence(comparison),
        differences=differences.matrix(comparison),
        correlations=(
            ['task', *found],
            [
                [task, *(f'{of_tasks[n]:.2f}' for of_tasks in found.values())]
                for n, task in enumerate(task_names)
            ],
        )
        if found
        else None,
        chosen=[
            [f'{o.budget:g}', o.method, _seed(o), _networks(o)]
            for o in comparison.outcomes
            if o.groups
        ],
        settings=[(name, str(value)) for name, value in settings.items()],
    )


def _seed(outcome):
    """The seed of a search, with the number of its split where that is another one."""
    return f'{outcome.seed}' + (f' (split {outcome.split})' if outcome.split else '')


def _networks(outcome):
    """The networks of an outcome: which tasks each serves, which help to train it, and its cost."""
    groups = [
        {'tasks': tasks, 'serves': serves, 'cost': cost}
        for tasks, serves, cost in zip(
            outcome.groups,
            outcome.serves or outcome.groups,
            outcome.costs or (1.0,) * len(outcome.groups),
            strict=True,
        )
    ]
    return ' | '.join(words.group_lines({'groups': groups}))


def _axis(select_by):
    measure = words.measure(select_by)
    return f'total test {measure.name}{" (%)" if measure.unit else ""}'


def _cells(lines, measure):
    """Header and rows of the table."""
    header = [
        *('budget', 'method', f'total test\n{measure.name}{" (%)" if measure.unit else ""}'),
        *('below all\nin one (%)', 'below\nrandom (%)', 'share of\noptimum', 'cost'),
        *('search', 'time', 'expected', 'own'),
    ]
    rows = [
        [
            'mean' if line.budget is None else f'{line.budget:g}',
            line.method,
            plus_minus(*line.error, measure.digits),
            '' if line.over_all_in_one is None else plus_minus(*line.over_all_in_one, 1),
            plus_minus(*line.over_random, 1),
            '' if line.share is None else f'{line.share:.2f}',
            f'{line.cost:.2f}',
            f'{line.steps:.1f}',
            f'{line.seconds:.1f}',
            measure.text(line.expected),
            measure.text(line.own) if line.afresh else '',
        ]
        for line in lines
    ]
    return without_empty(header, rows)


def _styles(lines):
    """A style for each line; baselines are dashed."""
    for number, line in enumerate(lines):
        dashed = line.method in (RANDOM, ALL_IN_ONE)
        yield {'label': line.method, 'linestyle': '--' if dashed else '-', **style(number)}
