"""The report of a finished run, drawn from the files in its workdir.

`report.write('runs/mine')` draws affinity.png, groups.png, curves.png and report.html into it.
"""

import json
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.report import configs, page, styles, words
from tag_jax.report.alternatives import runner_ups
from tag_jax.report.downloads import downloads, figure_files, table_files
from tag_jax.report.figures import (
    CURVES,
    DIAGRAM,
    HEAT_MAP,
    affinity_figure,
    by_network,
    curves_figure,
    groups_figure,
    key_of_networks,
    key_of_totals,
    task_lines,
    total_lines,
)
from tag_jax.report.heat_table import heat_table
from tag_jax.report.lines import Line, chart
from tag_jax.report.own_best import own_best_sentence
from tag_jax.report.pictures import PREDICTIONS, pictured_tasks, predictions_figure
from tag_jax.report.similarity import DENDROGRAM, dendrogram_figure, leaves
from tag_jax.report.svg import svg
from tag_jax.runs import affinity_files, storage
from tag_jax.runs import workdir as workdirs

REPORT = 'report.html'

_DENDROGRAM = 'Which tasks help each other most'
_DIAGRAM = 'Which network trains and which serves each task'
_MANY_TASKS = 12
_BLOCKS = 30
_MOST_OVERLAPS = 20  # Tasks whose common labels are a table of pairs.


class FinishedRun(NamedTuple):
    """The files that a finished run left in its workdir.

    Attributes:
      path: the workdir.
      results: what results.json holds.
      config: what config.json holds.
      records: the lines of metrics.jsonl.
      affinity: the arrays of affinity.npz, see `affinity_files.read_affinity`; None if there is
        none.
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
    results = workdirs.read_results(path)
    try:
        config = storage.read_json(path / workdirs.CONFIG)
        records = storage.read_records(path / workdirs.METRICS)
    except (FileNotFoundError, json.JSONDecodeError) as error:
        names = f'{workdirs.CONFIG} or {workdirs.METRICS}'
        raise ValueError(f'the run in {path} is damaged: {names} cannot be read') from error
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
        affinity=affinity_files.read_affinity(path / workdirs.AFFINITY) if there else None,
        pictures=storage.read_arrays(path / workdirs.PICTURES) if pictured else None,
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
    figures = _figures(run)
    of_papers = _files(run, figures)
    files = {name: page.png(figure) for name, figure in figures.items()}
    for found in of_papers.values():
        files |= found
    for name, data in {**files, REPORT: _page(run, of_papers).encode()}.items():
        write_page(run.path / name, data)


def _figures(run):
    """`{name: figure}`: the pictures of a run."""
    figures = {
        DIAGRAM: groups_figure(run.results),
        CURVES: curves_figure(run.results, run.records),
    }
    if run.pictures:
        figures[PREDICTIONS] = predictions_figure(run.pictures)
    if run.affinity is None:
        return figures
    mean, names = run.affinity['mean'], run.affinity['task_names']
    figures[HEAT_MAP] = affinity_figure(
        *(mean, names, run.affinity.get('stderr')),
        configs.affinity_kind(run.config),
        with_diagonal=configs.on_validation(run.config),
    )
    if (tree := dendrogram_figure(mean, names)) is not None:
        figures[DENDROGRAM] = tree
    return figures


def _files(run, figures):
    """`{picture or table: {name: bytes}}`: what a page gives away, for papers."""
    found = {
        name: figure_files(name, figure) for name, figure in figures.items() if name != PREDICTIONS
    }
    scores = words.with_measures(run.results, *words.compared_rows(run.results))
    found['errors'] = table_files('errors', *scores, totals=True)
    if run.affinity is not None:
        names = list(run.affinity['task_names'])
        rows = [
            [name, *(f'{value:.6g}' for value in row)]
            for name, row in zip(names, run.affinity['mean'], strict=True)
        ]
        found['affinities'] = table_files('affinity', ['', *names], rows)
    return found


def write_page(path, data):
    """Writes a file of a report. Raises OSError, with what can be done, if it cannot be written."""
    try:
        storage.write_bytes(path, data)
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
    return _page(run, _files(run, _figures(run)))


def _page(run, files):
    """See `html_page`; the page gives away what `_files` gives."""
    results, records = run.results, run.records
    title = f'{results["method"]} on {results["dataset"]}, budget {results["budget"]:g}, '
    totals = total_lines(results, records)
    titles = {
        'validation_error': 'Validation error of each task (%)',
        'training_loss': 'Training loss of each task',
    }
    return page.render(
        'run.html',
        title + f'seed {results["seed"]}',
        configs.command(run.config),
        many=len(results['task_names']) > _MANY_TASKS,
        decision=words.decision(results),
        trained=words.trained_words(results),
        group=words.decision(results) == words.GROUP,
        files={name: downloads(found) for name, found in files.items()},
        groups=words.group_lines(results),
        gain=words.gain_words(results),
        total=words.total_words(results),
        sure=words.sure_sentences(results),
        cost=words.cost_sentence(results),
        own_best=own_best_sentence(results),
        map=_heat_map(run),
        measured=None if run.affinity is None else configs.measured_sentence(run.config),
        tree=_dendrogram(run),
        alternatives=_alternatives(run),
        diagram=svg(groups_figure(results), _DIAGRAM, 'diagram', tight=True),
        measure=words.measure(results.get('select_by')),
        scores=words.with_measures(results, *words.compared_rows(results)),
        predictions=_predictions(run),
        remarks=results.get('remarks', ()),
        labels=_labels(results),
        key_of_totals=key_of_totals(results, records),
        totals=[
            chart(name, lines, kind == 'training_loss') for kind, (name, lines) in totals.items()
        ],
        key_of_networks=key_of_networks(results, records),
        curves=[
            (name, _task_charts(task_lines(results, records, kind), kind == 'training_loss'))
            for kind, name in titles.items()
        ],
        over_training=_affinities_over_training(run),
        spent=[*map(_setting, results['cost'].items())],
        configuration=_settings(run.config),
        environment=[*map(_setting, (run.config.get('versions') or {}).items())],
    )


def _labels(results):
    """Header and rows of the labels that training examples have in common, if some lack any.

    Of many tasks, the labels of each and the tasks that it shares no example with.
    """
    overlaps, names = results.get('label_overlaps'), results['task_names']
    if not overlaps:
        return None
    if len(names) <= _MOST_OVERLAPS:
        rows = zip(names, overlaps, strict=True)
        return ['', *names], [[name, *map(str, counts)] for name, counts in rows]
    apart = [[str(own[n]), str(own.count(0))] for n, own in enumerate(overlaps)]
    header = ['', 'training examples', 'tasks without a common example']
    return header, [[name, *cells] for name, cells in zip(names, apart, strict=True)]


def _heat_map(run):
    """The `HeatTable` of the affinities, or None if there are none."""
    if run.affinity is None:
        return None
    kind = configs.affinity_kind(run.config)
    names = list(run.affinity['task_names'])
    place = [names[n] for n in leaves(run.affinity['mean'])]
    measured = {None: 'affinity', 'cosine': 'cosine of gradients'}
    return heat_table(
        run.affinity,
        [sorted(group['serves'], key=place.index) for group in run.results['groups']],
        measured.get(kind, 'share of loss taken away'),
        configs.on_validation(run.config),
    )


def _dendrogram(run):
    """The dendrogram of the affinities as SVG, or None where there is none."""
    if run.affinity is None:
        return None
    figure = dendrogram_figure(run.affinity['mean'], run.affinity['task_names'])
    return None if figure is None else svg(figure, _DENDROGRAM, 'diagram', tight=True)


def _alternatives(run):
    """The rows of `runner_ups`; none for one grouping alone."""
    results = run.results
    found = runner_ups(
        *(run.affinity, results['groups'], results['budget'], configs.on_validation(run.config))
    )
    return found if len(found) > 1 else []


def _predictions(run):
    """(task, picture) of tasks whose labels are images, for a few test examples."""
    if not run.pictures:
        return []
    return [
        (task, page.data_url(page.png(predictions_figure(run.pictures, [task]))))
        for task in pictured_tasks(run.pictures)
    ]


def _task_charts(lines, logarithmic):
    return [chart(task, of_task, logarithmic) for task, of_task in lines.items()]


class _OverTraining(NamedTuple):
    """Affinities as training went: a sentence, a key, and a `Chart` for each target task."""

    sentence: str
    key: list
    charts: list


def _affinities_over_training(run):
    """An `_OverTraining`, or None where there are no two measurements."""
    history = None if run.affinity is None else run.affinity.get('history')
    if history is None or len(history) < 2 or len(run.affinity.get('steps', ())) != len(history):
        return None
    names = list(run.affinity['task_names'])
    steps, blocks = _block_means(run.affinity['steps'], np.asarray(history, float))
    found, key = [], []
    for n, group in enumerate(run.results['groups']):
        key.append(
            (*styles.of_network(n), f'from tasks of network {n + 1}, which serves the target: mean')
        )
        for task in group['serves']:
            lines = _lines_onto(run, names, steps, blocks, n, task)
            found.append(chart(f'onto {task}', lines, zero=True))
    key.append(('muted', True, 'from the other tasks: mean'))
    size = -(-len(history) // len(steps))
    averaged = f', each point the mean of {size} measurements' if size > 1 else ''
    each = ' Thin lines are single source tasks.' if len(names) <= _MANY_TASKS else ''
    sentence = f'Affinity onto each target task{averaged}.{each}'
    return _OverTraining(sentence, key, found)


def _lines_onto(run, names, steps, blocks, network, task):
    """Lines of affinities onto a task: of each source task, and the means of two kinds of them."""
    target, own = names.index(task), styles.of_network(network)
    inside = [names.index(name) for name in run.results['groups'][network]['tasks']]
    itself = configs.on_validation(run.config)
    sources = [source for source in range(len(names)) if source != target or itself]
    lines = []
    for source in sources if len(names) <= _MANY_TASKS else []:
        look = own if source in inside else ('muted', True)
        onto = blocks[:, source, target]
        lines.append(Line(steps, onto, f'from {names[source]}', *look, thin=True))
    for name, look, chosen in (
        ('mean of the others', ('muted', True), [s for s in sources if s not in inside]),
        ('mean of those it trains with', own, [s for s in sources if s in inside]),
    ):
        if chosen:
            lines.append(Line(steps, _mean_over(blocks[:, chosen, target]), name, *look))
    return lines


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
    """The configuration, as rows of a table."""
    apart = ('versions', 'command')
    return [
        _setting(pair) for pair in config.items() if pair[1] is not None and pair[0] not in apart
    ]


def _setting(pair):
    name, value = pair
    return name.replace('_', ' '), configs.plain(value)
