"""The report of a finished run, drawn from the files in its workdir.

`report.write('runs/mine')` draws affinity.png, groups.png, curves.png and report.html into it.
"""

import html
import json
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.report import page, words
from tag_jax.report.chart import Line, charts, colour, group_diagram, key, line_chart
from tag_jax.report.figures import (
    CURVES,
    DIAGRAM,
    HEAT_MAP,
    affinity_figure,
    by_network,
    curves_figure,
    groups_figure,
    series,
    sum_of_groups,
)
from tag_jax.report.heat_table import heat_table
from tag_jax.report.pictures import PREDICTIONS, pictured_tasks, predictions_figure
from tag_jax.runs import workdir as workdirs

REPORT = 'report.html'

_MANY_TASKS = 12
_BLOCKS = 30


class FinishedRun(NamedTuple):
    """The files that a finished run left in its workdir.

    Attributes:
      path: the workdir.
      results: what results.json holds.
      config: what config.json holds.
      records: the lines of metrics.jsonl.
      affinity: the arrays of affinity.npz, see `workdir.read_affinity`; None if there is none.
      pictures: the arrays of pictures.npz, see `predictions_figure`; None if no label is an image.
    """

    path: pathlib.Path
    results: Mapping[str, Any]
    config: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    affinity: Mapping[str, Any] | None
    pictures: Mapping[str, np.ndarray] | None = None


def read(path: str | os.PathLike) -> FinishedRun:
    """Reads a finished run.

    Args:
      path: its workdir.

    Raises:
      ValueError: if there is no run, if it has not finished, or if it is none of a grouping method.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ValueError(f'there is no folder {path}: name the workdir of a run')
    if not (path / workdirs.RESULTS).exists() and (path / workdirs.CONFIG).exists():
        raise ValueError(
            f'{path} holds no finished run: it has no {workdirs.RESULTS}; its command goes on with '
            f'--workdir={path} --resume'
        )
    try:
        results = workdirs.read_results(path)
        config = workdirs.read_json(path / workdirs.CONFIG)
        records = workdirs.read_records(path / workdirs.METRICS)
    except (FileNotFoundError, json.JSONDecodeError) as error:
        names = f'{workdirs.CONFIG}, {workdirs.RESULTS} or {workdirs.METRICS}'
        raise ValueError(f'the run in {path} is damaged: {names} cannot be read') from error
    if not isinstance(results, dict) or not {'groups', 'test_error', 'baselines'} <= set(results):
        raise ValueError(
            f'{path} holds no grouping of tasks: its {workdirs.RESULTS} is that of another command'
        )
    for group in results['groups']:
        if group['network'] not in by_network(records):
            raise ValueError(
                f'the run in {path} is damaged: {workdirs.METRICS} has no record of '
                f'{group["network"]}'
            )
    there = (path / workdirs.AFFINITY).exists()
    pictured = (path / workdirs.PICTURES).exists()
    return FinishedRun(
        path=path,
        results=results,
        config=config,
        records=records,
        affinity=workdirs.read_affinity(path / workdirs.AFFINITY) if there else None,
        pictures=workdirs.read_arrays(path / workdirs.PICTURES) if pictured else None,
    )


def write(path: str | os.PathLike) -> str:
    """Writes the pictures and report.html of a finished run, in place of those it has.

    Args:
      path: its workdir.

    Returns:
      The table of test errors as text, ending with the path of the report.

    Raises:
      ValueError: see `read`.
    """
    run = read(path)
    write_report(run)
    return f'{words.result_text(run.results)}\n\nreport: {run.path / REPORT}'


def write_report(run):
    """Writes the pictures and report.html of a `FinishedRun` into its workdir."""
    figures = {
        DIAGRAM: groups_figure(run.results),
        CURVES: curves_figure(run.results, run.records),
    }
    if run.affinity is not None:
        figures[HEAT_MAP] = affinity_figure(
            *(run.affinity['mean'], run.affinity['task_names'], run.affinity.get('stderr')),
            words.affinity_kind(run.config),
            with_diagonal=words.on_validation(run.config),
        )
    if run.pictures:
        figures[PREDICTIONS] = predictions_figure(run.pictures)
    files = {name: page.png(figure) for name, figure in figures.items()}
    for name, data in {**files, REPORT: html_page(run).encode()}.items():
        write_page(run.path / name, data)


def write_page(path, data):
    """Writes a file of a report. Raises OSError, with what can be done, if it cannot be written."""
    try:
        workdirs.write_bytes(path, data)
    except OSError as error:
        raise OSError(
            f'cannot write {path} ({error.strerror or error}): copy the run to a folder that can '
            'be written to, or name another file'
        ) from error


def html_page(run: FinishedRun) -> str:
    """The report as one page that needs no other file: the decision, then what it rests on.

    Args:
      run: a `FinishedRun`.
    """
    results = run.results
    sections = [
        _decision(results),
        *_titled('Inter-task affinity', _affinities(run)),
        *_titled('Networks', group_diagram(results)),
        *_titled('Test error (%)', page.table(*words.compared_rows(results), 'errors')),
        *_titled('Predictions', _predictions(run)),
        *_titled('What the measurements say', _remarks(results)),
        *_titled('Training', _curves(run)),
        *_titled('Affinities over training', _affinities_over_training(run)),
        *_titled('Cost', page.table(None, [*map(_setting, results['cost'].items())])),
        *_titled('Configuration', _settings(run.config)),
        *_titled('Environment', _environment(run.config)),
        page.to_repeat(words.command(run.config)),
    ]
    title = f'{results["method"]} on {results["dataset"]}, budget {results["budget"]:g}, '
    return page.page(title + f'seed {results["seed"]}', '\n'.join(sections))


def _titled(title, body):
    """A section of the page; none if there is nothing in it."""
    return [f'<h2>{title}</h2>', body] if body else []


def _decision(results):
    """Says which tasks to train together, what that gains, how sure it is, and what it cost."""
    many = ' many' if len(results['task_names']) > _MANY_TASKS else ''
    items = ''.join(f'<li>{html.escape(line)}</li>' for line in words.group_lines(results))
    total = html.escape(words.total_words(results))
    facts = [
        ('Total test error', f'<b>{words.gain_words(results)}</b>{total}'),
        ('Standard error of the gain', html.escape(words.sure_sentences(results))),
        ('Cost to find', html.escape(words.cost_sentence(results))),
    ]
    found = ''.join(f'<div><dt>{name}</dt><dd>{what}</dd></div>' for name, what in facts)
    return (
        f'<p class="decision">Train together</p>\n<ol class="decision{many}">{items}</ol>\n'
        f'<dl class="facts">{found}</dl>'
    )


def _affinities(run):
    """The heat map, and what it shows."""
    if run.affinity is None:
        return ''
    kind = words.affinity_kind(run.config)
    measured = {None: 'affinity', 'cosine': 'cosine of gradients'}
    return (
        f'<p>{html.escape(words.measured_sentence(run.config))} Blue helps, red harms.</p>\n'
        + heat_table(
            run.affinity,
            [group['serves'] for group in run.results['groups']],
            measured.get(kind, 'share of loss taken away'),
            words.on_validation(run.config),
        )
    )


def _predictions(run):
    """For tasks whose labels are images: inputs, targets and predictions of a few test examples."""
    if not run.pictures:
        return ''
    images = (
        page.image(
            page.png(predictions_figure(run.pictures, [task])),
            f'Inputs, targets and predictions of {task}',
        )
        for task in pictured_tasks(run.pictures)
    )
    return (
        '<p>Test examples, each task by the network that serves it. Grey has no label.</p>\n'
        f'<div class="charts">{"".join(images)}</div>'
    )


def _remarks(results):
    return ''.join(f'<p>{html.escape(remark)}</p>' for remark in results.get('remarks', ()))


def _curves(run):
    """Training loss and validation error, in total and of every task."""
    groups, names = run.results['groups'], run.results['task_names']
    curves = by_network(run.records)
    together = 'mtl' in curves
    titles = {
        'training_loss': 'Training loss, sum',
        'validation_error': 'Validation error, sum (%)',
    }
    totals, tasks = [], {kind: [] for kind in titles}
    for kind, title in titles.items():
        logarithmic = kind == 'training_loss'
        lines = []
        if together:
            lines.append(Line(*series(curves['mtl'], kind, names), 'all together', 'other dashed'))
        lines.append(Line(*sum_of_groups(curves, groups, kind), 'groups', 'all'))
        totals.append(line_chart(title, lines, logarithmic))
        for n, group in enumerate(groups):
            for task in group['serves']:
                own = Line(
                    *series(curves[group['network']], kind, [task]), f'network {n + 1}', colour(n)
                )
                lines = [own]
                if together:
                    baseline = series(curves['mtl'], kind, [task])
                    lines.insert(0, Line(*baseline, 'all together', 'other dashed'))
                tasks[kind].append(line_chart(task, lines, logarithmic))
    entries = [('other dashed', 'all together')] * together + [('all', 'groups')]
    of_networks = [('other dashed', 'all together')] * together
    of_networks += [(colour(n), f'network {n + 1}') for n in range(len(groups))]
    parts = [key(entries), charts(totals)]
    for kind, title in (
        ('validation_error', 'Validation error of each task (%)'),
        ('training_loss', 'Training loss of each task'),
    ):
        parts += [f'<h3>{title}</h3>', key(of_networks), charts(tasks[kind])]
    return '\n'.join(parts)


def _affinities_over_training(run):
    """A chart for each target task: what every source task did for it, as training went."""
    history = None if run.affinity is None else run.affinity.get('history')
    if history is None or len(history) < 2 or len(run.affinity.get('steps', ())) != len(history):
        return ''
    names = list(run.affinity['task_names'])
    steps, blocks = _block_means(run.affinity['steps'], np.asarray(history, float))
    found = []
    for n, group in enumerate(run.results['groups']):
        inside = [names.index(task) for task in group['tasks']]
        for task in group['serves']:
            target = names.index(task)
            sources = [
                source
                for source in range(len(names))
                if source != target or words.on_validation(run.config)
            ]
            thin = [
                Line(
                    steps,
                    tuple(blocks[:, source, target]),
                    f'from {names[source]}',
                    (colour(n) if source in inside else 'other dashed') + ' thin',
                )
                for source in sources
                if len(names) <= _MANY_TASKS
            ]
            means = [
                Line(steps, _mean_over(blocks[:, chosen, target]), name, kind)
                for name, kind, chosen in (
                    (
                        *('mean of the others', 'other dashed'),
                        [source for source in sources if source not in inside],
                    ),
                    (
                        *('mean of those it trains with', colour(n)),
                        [source for source in sources if source in inside],
                    ),
                )
                if chosen
            ]
            found.append(line_chart(f'onto {task}', [*thin, *means], zero=True))
    entries = [
        (colour(n), f'from tasks of network {n + 1}, which serves the target: mean')
        for n in range(len(run.results['groups']))
    ]
    entries.append(('other dashed', 'from the other tasks: mean'))
    each = ' Thin lines are single source tasks.' if len(names) <= _MANY_TASKS else ''
    size = -(-len(history) // len(steps))
    averaged = f', each point the mean of {size} measurements' if size > 1 else ''
    return (
        f'<p>Affinity onto each target task{averaged}.{each}</p>\n{key(entries)}\n{charts(found)}'
    )


def _block_means(steps, history):
    """Steps, and means `[at most _BLOCKS, T, T]` over blocks of consecutive measurements."""
    size = -(-len(history) // _BLOCKS)
    starts = range(0, len(history), size)
    means = [_mean_over(np.moveaxis(history[n : n + size], 0, -1)) for n in starts]
    return tuple(float(np.mean(steps[n : n + size])) for n in starts), np.array(means)


def _mean_over(values):
    """The mean over the last axis of what is known; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Mean of empty slice', RuntimeWarning)
        return np.nanmean(values, axis=-1)


def _settings(config):
    """The configuration, as a table."""
    apart = ('versions', 'command')
    return page.table(
        None,
        [_setting(pair) for pair in config.items() if pair[1] is not None and pair[0] not in apart],
    )


def _environment(config):
    """The versions and devices of a run."""
    found = config.get('versions')
    return page.table(None, [_setting(pair) for pair in found.items()]) if found else ''


def _setting(pair):
    name, value = pair
    return name.replace('_', ' '), words.plain(value)
