"""Selections of networks over a range of budgets, as tables and pictures.

Examples:
  >>> from tag_jax import report, selection
  >>> networks = [{'a': 1, 'b': 4}, {'a': 2}, {'b': 2}]
  >>> candidates = selection.Candidates.from_table([{'scores': scores} for scores in networks])
  >>> print(report.choices_table(selection.trade_off(candidates, [1, 2]), candidates))
  budget  optimal  higher order approximation  pessimal
  -----------------------------------------------------
  1       AB       AB                          AB
  2       Ab, B    Ab, B                       AB
"""

import csv
import io
import math
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tag_jax.report import page
from tag_jax.report.styles import style
from tag_jax.runs import storage
from tag_jax.selection import Candidates, Choice, Selection
from tag_jax.selection.result import certificate, check_selected
from tag_jax.tables import LINE_LENGTH, text_table

TRADE_OFF, CHOICES, TABLE, RESULTS = 'trade_off.png', 'choices.png', 'choices.csv', 'results.json'
TASK_SETS = 'task_sets.png'

NAMES = {
    'optimal': 'optimal',
    'hoa': 'higher order approximation',
    'esa': 'early stopping',
    'all_in_one': 'all in one',
    'independent_equal': 'independent, equal sizes',
    'independent': 'independent, mixed sizes',
    'random': 'random',
    'pessimal': 'pessimal',
}
# A colour and a marker of its own for each method: there are eight of them, and seven colours.
_STYLES = {name: {**style(n), 'linestyle': '-' if n < 3 else '--'} for n, name in enumerate(NAMES)}
# The pessimal selection often equals another: its hollow markers leave that one in sight.
_STYLES['pessimal'] |= {'color': '#7f7f7f', 'linestyle': ':', 'markerfacecolor': 'none'}
_STYLES['pessimal'] |= {'markersize': 12}
# The area of the dot of a network of the greatest cost, and how many costs a legend shows.
_AREA, _MOST_COSTS = 110, 4
_SELECTED = ('optimal', 'hoa', 'esa', 'pessimal')
_CERTIFIED = ('optimal', 'pessimal')  # These search by the scores that networks serve by.


def write_trade_off(
    path: str | os.PathLike,
    choices: Sequence[Choice],
    candidates: Candidates,
    settings: Mapping[str, Any],
    maximize: bool = False,
    means: Sequence[Choice] = (),
    remarks: Sequence[str] = (),
) -> str:
    """Writes the tables and pictures of a comparison of selections.

    Args:
      path: the folder, which exists.
      choices: from `selection.trade_off`.
      candidates: the candidate networks.
      settings: what was asked for, for results.json.
      maximize: whether scores are to be high.
      means: over sets of fewer tasks, from `selection.mean_trade_off`, if there are any.
      remarks: sentences to end with.

    Returns:
      The tables as text.
    """
    path = pathlib.Path(path)
    rows = [_row(choice, candidates) for choice in choices]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    storage.write_bytes(path / TABLE, table.getvalue().encode())
    storage.write_json(
        path / RESULTS,
        settings
        | {
            'task_names': list(candidates.task_names),
            'choices': [_record(choice, candidates) for choice in choices],
            'means': [_record(choice, candidates) for choice in means],
            'remarks': list(remarks),
        },
    )
    pictures = {
        TRADE_OFF: trade_off_figure(choices, maximize),
        CHOICES: choices_figure(choices, candidates),
    }
    tables = [totals_table(choices), choices_table(choices, candidates)]
    if means:
        pictures[TASK_SETS] = trade_off_figure(means, maximize)
        tables.append(f'Mean over all sets of fewer tasks\n\n{totals_table(means)}')
    for name, figure in pictures.items():
        storage.write_bytes(path / name, page.png(figure))
    tables.append(textwrap.fill(key_of(candidates), LINE_LENGTH))
    tables.append(certificates_text(choices))
    told = '\n'.join(textwrap.fill(remark, LINE_LENGTH) for remark in remarks)
    return '\n\n'.join([*tables, told]).rstrip()


def letters(task_names: Sequence[str]) -> list[str]:
    """A short sign for each task: its first letters, as many as make all of them differ."""
    for length in range(1, 1 + max(map(len, task_names))):
        signs = [name[:length].capitalize() for name in task_names]
        if len(set(map(str.lower, signs))) == len(signs) and all(sign.isalpha() for sign in signs):
            return signs
    return [f'T{n}' for n in range(len(task_names))]


def notation(selected: Selection, candidates: Candidates) -> str:
    """Chosen networks as in the paper: capitals for tasks that a network serves.

    `SDn, K(0.5)` is a network that serves S and D and trains n beside, and one of cost 0.5 for K.
    Costs are left out for networks of the most frequent cost.

    Args:
      selected: a `selection.Selection` of candidates.
      candidates: the candidate networks.

    Raises:
      ValueError: if the selection is not one of these candidates.
    """
    check_selected(selected, candidates)
    signs = letters(candidates.task_names)
    costs, counts = np.unique(candidates.costs, return_counts=True)
    standard = costs[counts.argmax()]
    networks = []
    for n, tasks, serves in zip(selected.networks, selected.groups, selected.serves, strict=True):
        shown = [signs[task] if task in serves else signs[task].lower() for task in tasks]
        joined = ('' if max(map(len, signs)) == 1 else '.').join(shown)
        cost = candidates.costs[n]
        networks.append(joined if cost == standard else f'{joined}({cost:g})')
    return ', '.join(networks)


def key_of(candidates: Candidates) -> str:
    """The letters of tasks, as `notation` has them, with the names that they stand for.

    Args:
      candidates: the candidate networks.
    """
    pairs = zip(letters(candidates.task_names), candidates.task_names, strict=True)
    return 'Key: ' + ', '.join(f'{sign} {name}' for sign, name in pairs)


def certificates_text(choices: Sequence[Choice]) -> str:
    """The networks by name that are optimal for each budget, and whether that is proven.

    Args:
      choices: from `selection.trade_off`.
    """
    return '\n'.join(
        textwrap.fill(
            f'Budget {choice.budget:g}: {", ".join(choice.selected.network_names)}; '
            f'{certificate(choice.selected)}',
            LINE_LENGTH,
            subsequent_indent='  ',
        )
        for choice in choices
        if choice.method == 'optimal'
    )


def totals_table(choices: Sequence[Choice]) -> str:
    """Total score by method and budget, as text: the paper's Table 7.

    Args:
      choices: from `selection.trade_off`.
    """
    budgets = sorted({choice.budget for choice in choices})
    totals = {(choice.method, choice.budget): f'{choice.total:.5f}' for choice in choices}
    rows = [['budget', *(f'{budget:g}' for budget in budgets)]]
    for method, name in NAMES.items():
        cells = [totals.get((method, budget), '') for budget in budgets]
        if any(cells):
            rows.append([name, *cells])
    return text_table(rows[0], rows[1:])


def choices_table(choices: Sequence[Choice], candidates: Candidates) -> str:
    """The selected networks by method and budget, as text: the paper's Table 6.

    Args:
      choices: from `selection.trade_off`.
      candidates: the candidate networks.
    """
    budgets = sorted({choice.budget for choice in choices})
    shown = {
        (choice.method, choice.budget): notation(choice.selected, candidates)
        for choice in choices
        if choice.selected is not None
    }
    methods = [method for method in _SELECTED if any(key[0] == method for key in shown)]
    rows = [['budget', *(NAMES[method] for method in methods)]]
    for budget in budgets:
        rows.append([f'{budget:g}', *(shown.get((method, budget), '') for method in methods)])
    return text_table(rows[0], rows[1:], left=range(len(rows[0])))


def trade_off_figure(choices: Sequence[Choice], maximize: bool = False) -> Figure:
    """Total score against budget, a line for each method: the paper's Figure 3.

    Args:
      choices: from `selection.trade_off`.
      maximize: whether scores are to be high.
    """
    figure = Figure(figsize=(8.5, 4.5), layout='constrained')
    axes = figure.subplots()
    for method, name in NAMES.items():
        of_method = [choice for choice in choices if choice.method == method]
        if of_method:
            budgets, totals = zip(*((c.budget, c.total) for c in of_method), strict=True)
            axes.plot(budgets, totals, label=name, **{'markersize': 5, **_STYLES[method]})
    axes.set_xlabel('inference budget (in the unit of the costs of networks)')
    axes.set_ylabel(f'total score ({"higher" if maximize else "lower"} is better)')
    axes.set_title('What an inference budget buys')
    axes.grid(alpha=0.25)
    figure.legend(loc='outside right upper', frameon=False, fontsize=9)
    return figure


def choices_figure(choices: Sequence[Choice], candidates: Candidates) -> Figure:
    """Which networks each method selects and whom they serve: the paper's Figure 2.

    The area of a dot is the cost of its network.

    Args:
      choices: from `selection.trade_off`.
      candidates: the candidate networks.
    """
    budgets = sorted({choice.budget for choice in choices})
    methods = [m for m in _SELECTED if any(choice.method == m for choice in choices)]
    size = len(candidates.task_names)
    figure = Figure(
        figsize=(max(2.4, 0.45 * size) * len(methods), 1.5 * len(budgets) + 0.8),
        layout='constrained',
    )
    grid = figure.subplots(len(budgets), len(methods), squeeze=False)
    by_place = {(choice.budget, choice.method): choice for choice in choices}
    for row, budget in zip(grid, budgets, strict=True):
        for axes, method in zip(row, methods, strict=True):
            axes.set_axis_off()
            if choice := by_place.get((budget, method)):
                _draw_choice(axes, choice, candidates)
            axes.set_xlim(-0.6, size - 0.4)
            axes.set_ylim(-0.45, 1.35)
    for axes, method in zip(grid[0], methods, strict=True):
        axes.set_title(NAMES[method], fontsize=10)
    handles = [
        Line2D([], [], color='0.3', label='serves'),
        Line2D([], [], color='0.3', linestyle=':', label='trains only'),
        *_dots(candidates),
    ]
    names = zip(letters(candidates.task_names), candidates.task_names, strict=True)
    key = ', '.join(f'{sign}: {name}' for sign, name in names)
    figure.legend(
        handles=handles,
        title=textwrap.fill(key, 24 * len(methods)),
        title_fontsize=9,
        loc='outside lower center',
        ncols=len(handles),
        frameon=False,
    )
    return figure


def _dots(candidates):
    """Entries of a legend for the sizes of dots: each cost, or the ends of many."""
    costs = np.unique(candidates.costs)
    shown = costs if len(costs) <= _MOST_COSTS else costs[[0, -1]]
    return [
        Line2D(
            [],
            [],
            color='0.3',
            linestyle='',
            marker='o',
            markersize=math.sqrt(_area(cost, candidates)),
            label=f'cost {cost:g}',
        )
        for cost in shown[::-1].tolist()
    ]


def _area(cost, candidates):
    """The area of the dot of a network, in square points."""
    return _AREA * max(cost / (candidates.costs.max() or 1.0), 0.1)


def _draw_choice(axes, choice, candidates):
    """Networks above, tasks below, a line wherever a network trains a task."""
    selected, signs = choice.selected, letters(candidates.task_names)
    check_selected(selected, candidates)
    colours = colormaps['tab10'].colors
    places = np.linspace(0, len(signs) - 1, len(selected.groups) + 2)[1:-1]
    for n, (network, tasks, serves) in enumerate(
        zip(selected.networks, selected.groups, selected.serves, strict=True)
    ):
        colour = colours[n % len(colours)]
        for task in tasks:
            line = '-' if task in serves else ':'
            axes.plot([places[n], task], [1, 0.18], color=colour, linestyle=line, linewidth=1.4)
        area = _area(candidates.costs[network], candidates)
        axes.scatter([places[n]], [1], s=area, color=colour, zorder=3)
    for task, sign in enumerate(signs):
        axes.text(task, 0, sign, ha='center', va='center', fontsize=9)
    axes.text(
        (len(signs) - 1) / 2,
        -0.33,
        f'budget {choice.budget:g}: {choice.total:.4g}',
        ha='center',
        va='center',
        fontsize=8,
    )


def _row(choice, candidates):
    """A line of the CSV file."""
    chosen = choice.selected
    cost = '' if chosen is None else candidates.costs[list(chosen.networks)].sum()
    row = {
        'method': choice.method,
        'budget': choice.budget,
        'cost': cost,
        'networks': '' if chosen is None else notation(chosen, candidates),
        'total': choice.total,
    }
    row |= {'optimal': '', 'bound': ''}
    if chosen is not None and choice.method in _CERTIFIED:
        row |= {'optimal': chosen.optimal, 'bound': chosen.bound}
    outcomes = [''] * len(candidates.task_names) if chosen is None else choice.outcomes.tolist()
    names = [f'task {name}' if name in row else name for name in candidates.task_names]
    return row | dict(zip(names, outcomes, strict=True))


def _record(choice, candidates):
    """An entry of results.json."""
    names, chosen = candidates.task_names, choice.selected
    record = {'method': choice.method, 'budget': choice.budget, 'total': choice.total}
    if chosen is None:
        return record
    if choice.method in _CERTIFIED:
        record |= {'optimal': chosen.optimal, 'bound': chosen.bound}
    return record | {
        'objective': chosen.objective,
        'networks': [
            {
                'name': candidates.network_names[n],
                'cost': candidates.costs[n],
                'tasks': [names[task] for task in tasks],
                'serves': [names[task] for task in serves],
            }
            for n, tasks, serves in zip(chosen.networks, chosen.groups, chosen.serves, strict=True)
        ],
        'scores': dict(zip(names, choice.outcomes.tolist(), strict=True)),
    }
