"""Finished runs side by side: tables for the terminal and a page."""

import json
import os
import pathlib
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tag_jax.numbers import mean_and_error
from tag_jax.report import configs, page, styles, words
from tag_jax.report.figures import by_network, sum_of_groups
from tag_jax.report.lines import Line, chart
from tag_jax.report.pictures import methods_figure
from tag_jax.report.run import FinishedRun, read, write_page, write_report
from tag_jax.runs import workdir as workdirs
from tag_jax.tables import LINE_LENGTH, plus_minus, text_table, without_empty

_TITLE = 'Runs side by side'
_MOST_RUNS_IN_A_TABLE = 8


class Settings(NamedTuple):
    """Runs that were asked for the same, but for the seed.

    Attributes:
      numbers: of the runs, from 1.
      runs: `FinishedRun`s, in the same order.
    """

    numbers: tuple[int, ...]
    runs: tuple[FinishedRun, ...]


def write_runs(paths: Sequence[str | os.PathLike], out: str | os.PathLike) -> str:
    """Writes the reports of finished runs, and a page that compares them.

    Args:
      paths: workdirs of at least two runs. Their pictures and report.html are written anew.
      out: the page. A file that is there is replaced if it is such a page, and else left alone.

    Returns:
      The tables as text, ending with the path of the page.

    Raises:
      ValueError: if something is no finished run (see `report.read`), a run is named twice, or
        `out` is another file or in no folder. Then nothing has been written.
      OSError: if the page cannot be written.
    """
    out = pathlib.Path(out)
    resolved = [pathlib.Path(path).resolve() for path in paths]
    for n, path in enumerate(paths):
        if resolved[n] in resolved[:n]:
            raise ValueError(f'the run {path} is named twice')
    runs = [read(path) for path in paths]
    _check_out(out)
    for run in runs:
        write_report(run)
    write_page(out, runs_page(runs).encode())
    return f'{runs_text(runs)}\n\ncomparison: {out}'


def runs_text(runs: Sequence[FinishedRun]) -> str:
    """Finished runs side by side, as text.

    Args:
      runs: `FinishedRun`s.
    """
    warned, runs = warnings_of(runs), _by_errors(runs)
    parts = [_text(*_run_rows(runs))]
    if several := _several_seeds(runs):
        parts.append(_text(*_mean_rows(several)))
    return '\n\n'.join([*parts, *(textwrap.fill(one, LINE_LENGTH) for one in warned)])


def runs_page(runs: Sequence[FinishedRun]) -> str:
    """The same as a page that needs no other file.

    Args:
      runs: `FinishedRun`s.
    """
    warned, runs = warnings_of(runs), _by_errors(runs)
    several = _several_seeds(runs)
    same_tasks = _same(runs, lambda run: run.results['task_names'])
    lines = _lines(runs)
    return page.render(
        'runs.html',
        _TITLE,
        measure=_measure(runs),
        best=None if warned else _best(runs),
        warnings=warned,
        means=_mean_rows(several) if several else ((), ()),
        runs=_run_rows(runs),
        groups=[[str(n), ' | '.join(words.group_lines(r.results))] for n, r in enumerate(runs, 1)],
        tasks=_task_tables(runs) if same_tasks else [],
        key=[(line.colour, line.dashed, line.name) for line in lines],
        curves=[chart('sum over tasks', lines)],
        predictions=_predictions(runs),
        differing=_differing(runs),
    )


def warnings_of(runs) -> list[str]:
    """Sentences on what stands in the way of comparing runs.

    Args:
      runs: `FinishedRun`s.
    """
    found = []
    if not _same(runs, lambda run: run.results['task_names']):
        found.append('The runs are about different tasks: their totals cannot be compared.')
    elif not _same(runs, lambda run: run.config.get('test_data')):
        found.append('The runs were tested on different data: their errors cannot be compared.')
    if not _same(runs, _select_by):
        found.append(
            'The runs were selected by different measures: test errors are shown, which not all of '
            'them were selected by.'
        )
    return found


def by_settings(runs: Sequence[FinishedRun]) -> list[Settings]:
    """Runs in sets that were asked for the same but for the seed, each seed once.

    Args:
      runs: `FinishedRun`s.
    """
    found = {}
    for n, run in enumerate(runs, 1):
        asked = {k: v for k, v in run.config.items() if k not in ('seed', *workdirs.INCIDENTAL)}
        of_seed = found.setdefault(json.dumps(asked, sort_keys=True), {})
        of_seed.setdefault(run.results['seed'], (n, run))
    return [Settings(*zip(*of_seed.values(), strict=True)) for of_seed in found.values()]


def _several_seeds(runs):
    """`by_settings`, without those of a single seed."""
    return [one for one in by_settings(runs) if len(one.runs) > 1]


def _best(runs):
    """Which settings have the lowest error, and how sure that is."""
    asked = by_settings(runs)
    totals = [_over_seeds(one, _total) for one in asked]
    best = int(np.argmin([mean for mean, _ in totals]))
    chosen, (mean, error) = asked[best], totals[best]
    numbers = ', '.join(map(str, chosen.numbers))
    who = f'run {numbers}' if len(chosen.runs) == 1 else f'mean of runs {numbers}'
    first = chosen.runs[0]
    if any(_groups(run) != _groups(first) for run in chosen.runs):
        who += f'; the groups are those of run {chosen.numbers[0]}'
    found = _measure(runs)
    value = plus_minus(mean, error, found.digits) + found.unit
    sure = [
        'Settings are in the order of their test errors: the lowest of several is likely to be '
        'lower than what its settings reach on other examples.'
        if len(asked) > 1
        else '',
        'Errors after ± are standard errors over seeds of training.'
        if any(len(one.runs) > 1 for one in asked)
        else '',
        'Where there is one seed there is no standard error: another may turn the order around.'
        if any(len(one.runs) == 1 for one in asked)
        else '',
    ]
    return {
        'sentence': f'Lowest total test {found.name}: {value} ({who})',
        'groups': words.group_lines(first.results),
        'sure': ' '.join(filter(None, sure)),
    }


def _run_rows(runs):
    """Header and rows of the table of runs."""
    several_datasets = not _same(runs, lambda run: run.results['dataset'])
    header = ['', 'run', *(['dataset'] if several_datasets else []), 'method', 'budget', 'seed']
    header += [f'total test {_measure(runs).name}', 'all together', 'gain', 'verdict']
    header += ['search steps', 'search time']
    rows = []
    for n, run in enumerate(runs, 1):
        results = run.results
        together, steps = _together(run), results['cost'].get('search_steps', 0)
        text = words.measure(_select_by(run)).text
        rows.append(
            [
                *(str(n), str(run.path), *([results['dataset']] if several_datasets else [])),
                *(results['method'], f'{results["budget"]:g}', str(results['seed'])),
                text(_total(run)),
                '' if together is None else text(together),
                words.gain_words(results),
                words.gain_verdict(results),
                f'{steps:,.0f}',
                words.duration(results['cost']['search_seconds']) if steps else '',
            ]
        )
    return without_empty(header, rows)


def _mean_rows(several):
    """Header and rows of the table of means over seeds."""
    found = _measure([run for one in several for run in one.runs])
    header = ['runs', 'method', 'budget', 'seeds', f'total test {found.name}', 'all together']
    header += ['lower by', 'search steps', 'same groups']
    rows = []
    for one in several:
        results, digits = one.runs[0].results, words.measure(_select_by(one.runs[0])).digits
        chosen = [_groups(run) for run in one.runs]
        most = max(chosen.count(groups) for groups in chosen)
        rows.append(
            [
                ', '.join(map(str, one.numbers)),
                *(results['method'], f'{results["budget"]:g}', str(len(one.runs))),
                plus_minus(*_over_seeds(one, _total), digits),
                _known(*_over_seeds(one, _together), digits),
                _known(*_over_seeds(one, lambda run: words.gain(run.results)), 1, ' %'),
                f'{np.mean([run.results["cost"].get("search_steps", 0) for run in one.runs]):,.0f}',
                f'{most} of {len(chosen)}',
            ]
        )
    return header, rows


def _task_tables(runs):
    """Tables of the errors of each task, some runs a table."""
    names, tables, text = runs[0].results['task_names'], [], _measure(runs).text
    for start in range(0, len(runs), _MOST_RUNS_IN_A_TABLE):
        part = runs[start : start + _MOST_RUNS_IN_A_TABLE]
        header = ['task', *(f'run {n}' for n in range(start + 1, start + len(part) + 1))]
        rows = [[task, *(text(words.scores(run.results)[task]) for run in part)] for task in names]
        total = ['total', *(text(_total(run)) for run in part)]
        tables.append((header, [*rows, total]))
    return tables


def _lines(runs):
    """The validation errors of all runs, a line each."""
    return [
        Line(
            *sum_of_groups(by_network(run.records), run.results['groups'], 'validation_error'),
            *(f'run {n + 1}', *styles.of_network(n)),
        )
        for n, run in enumerate(runs)
    ]


def _predictions(runs):
    """(picture as a URL, description) of the predictions of all runs, for each example."""
    names = [f'run {n}: {run.results["method"]}' for n, run in enumerate(runs, 1)]
    first = runs[0].pictures
    labels = [name for name in first or () if not name.startswith('predictions/')]
    if not labels or not all(_pictures_same(run.pictures, first, labels) for run in runs):
        return []
    of_runs = dict(zip(names, (run.pictures for run in runs), strict=True))
    return [
        (page.data_url(page.png(methods_figure(of_runs, row))), f'Predictions of example {row + 1}')
        for row in range(len(first[labels[0]]))
    ]


def _pictures_same(pictures, others, names):
    """Whether a run has pictures of the same examples and labels."""
    return bool(pictures) and all(
        name in pictures and np.array_equal(pictures[name], others[name], equal_nan=True)
        for name in names
    )


def _differing(runs):
    """Tables of the entries of config.json that are not the same in all runs."""
    names = [
        name
        for name in dict.fromkeys(name for run in runs for name in run.config)
        if name != 'command' and not _same(runs, lambda run, name=name: run.config.get(name))
    ]
    tables = []
    for start in range(0, len(runs) if names else 0, _MOST_RUNS_IN_A_TABLE):
        part = runs[start : start + _MOST_RUNS_IN_A_TABLE]
        header = ['', *(f'run {n}' for n in range(start + 1, start + len(part) + 1))]
        rows = [[name, *(_shown(run.config.get(name)) for run in part)] for name in names]
        tables.append((header, rows))
    return tables


def _check_out(out):
    """Raises ValueError unless a comparison may be written there."""
    if not out.parent.is_dir():
        raise ValueError(f'there is no folder {out.parent} for the comparison: name another --out')
    if out.is_dir():
        raise ValueError(f'{out} is a folder: name a file with --out')
    if out.exists() and f'<title>{_TITLE}</title>'.encode() not in out.read_bytes()[:2000]:
        raise ValueError(f'{out} is there and is no comparison of runs: name another with --out')


def _text(header, rows):
    """A table for the terminal: text to the left, numbers to the right."""
    left = [n for n in range(len(header)) if not any(row[n][:1].isdigit() for row in rows)]
    return text_table(header, rows, left)


def _over_seeds(settings, value):
    """Mean and standard error over the seeds of a value of each run; NaN where one is not known."""
    values = [value(run) for run in settings.runs]
    mean, error = mean_and_error(np.array([[np.nan if x is None else x] for x in values], float))
    return float(mean[0]), float(error[0])


def _by_errors(runs):
    """Runs as they are; with errors alone, where they were selected by different measures."""
    if _same(runs, _select_by):
        return runs
    return [run._replace(results=words.with_errors(run.results)) for run in runs]


def _select_by(run):
    return run.results.get('select_by')


def _measure(runs):
    """The measure that runs were selected by; errors, where they differ in it."""
    return words.measure(_select_by(runs[0]) if _same(runs, _select_by) else None)


def _total(run):
    return words.total(run.results)


def _together(run):
    baseline = run.results['baselines'].get('mtl')
    return baseline and words.total(baseline)


def _groups(run):
    """The groups of a run, in an order of their own."""
    return sorted(
        (sorted(group['tasks']), sorted(group['serves'])) for group in run.results['groups']
    )


def _same(runs, value):
    return all(value(run) == value(runs[0]) for run in runs)


def _known(mean, error, digits, unit=''):
    return '' if np.isnan(mean) else page.number(plus_minus(mean, error, digits) + unit)


def _shown(value):
    return '' if value is None else configs.plain(value)
