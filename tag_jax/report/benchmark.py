"""The leaderboard of ways to group tasks over recorded tables."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tag_jax.comparison import ALL_IN_ONE
from tag_jax.report import page
from tag_jax.report.run import REPORT
from tag_jax.report.styles import style
from tag_jax.report.svg import svg
from tag_jax.runs import storage
from tag_jax.runs import workdir as workdirs
from tag_jax.studies import judging
from tag_jax.studies.judging import Judged, Standing
from tag_jax.tables import plus_minus, text_table

LEADERBOARD = 'leaderboard.png'
BEGIN, END = '<!-- tables of tag-jax benchmark -->', '<!-- end of the tables -->'
_TITLE = 'How much higher the score is than that of the best groups that could be known'


def write_benchmark(
    path: str | os.PathLike,
    judged: Sequence[Judged],
    settings: Mapping[str, Any],
    markdown: str | os.PathLike | None = None,
) -> str:
    """Writes results.json, the picture and report.html of a benchmark.

    Args:
      path: the folder, which exists.
      judged: from `judging.judge`, a problem each.
      settings: what was asked for; its 'rivals' are the methods that others are tested against.
      markdown: a file with the lines BEGIN and END, between which the tables are written; or None.

    Returns:
      The tables as text, ending with the path of the report.

    Raises:
      ValueError: if the Markdown file lacks a line, before anything is written.
    """
    path = pathlib.Path(path)
    around = None if markdown is None else _around(pathlib.Path(markdown))
    standings = judging.standings(judged, settings['rivals'])
    storage.write_json(
        path / workdirs.RESULTS,
        {
            'settings': settings,
            'standings': [_plain(one._asdict()) for one in standings],
            'problems': {
                one.problem: _plain(
                    {
                        'scores': one.scores,
                        'own': one.own,
                        'correlations': dict(one.correlations),
                        'ceiling': one.ceiling,
                        'optimum': one.optimum,
                    }
                )
                for one in judged
            },
        },
    )
    figure = leaderboard_figure(standings)
    storage.write_bytes(path / LEADERBOARD, page.png(figure))
    tables = _tables(standings, judged, settings['rivals'])
    text = page.render(
        'study.html',
        'Ways to group tasks, on recorded tables',
        workdirs.command_of(path),
        tables=tables,
        heat_maps=[(_TITLE, svg(figure, _TITLE, 'diagram'))],
        settings=[(name, str(value)) for name, value in settings.items()],
    )
    storage.write_bytes(path / REPORT, text.encode())
    if around is not None:
        found = '\n\n'.join(f'**{title}**\n\n{_markdown(*rest)}' for title, *rest in tables)
        storage.write_bytes(markdown, f'{around[0]}{BEGIN}\n\n{found}\n\n{END}{around[1]}'.encode())
    shown = [f'{title}\n{text_table(header, rows, rules=(0,))}' for title, header, rows in tables]
    return '\n\n'.join([*shown, f'report: {path / REPORT}'])


def _tables(standings, judged, rivals):
    """(title, header, rows) of each table."""
    others = [one for one in judged if one.problem not in judging.DEVELOPED]
    parts = [('all problems', standings, len(judged))]
    if 0 < len(others) < len(judged):
        what = 'problems on which no method was developed'
        parts.append((what, judging.standings(others, rivals), len(others)))
    return [
        *((f'Leaderboard: {what}', *leaderboard(found, count)) for what, found, count in parts),
        ('Total test scores, means over budgets and seeds', *problems_table(standings, judged)),
        (
            'Correlation of predicted scores with those that other seeds reach, within a task',
            *correlations_table(standings, judged),
        ),
        (
            "The same totals of the networks of each search's own seed, which its user would have",
            *own_table(standings, judged),
        ),
    ]


def _around(path):
    """The texts before and behind the tables of a Markdown file."""
    text = path.read_text(encoding='utf-8')
    before, begins, rest = text.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not (begins and ends):
        raise ValueError(
            f'{path} must have the lines {BEGIN} and {END}, for the tables between them'
        )
    return before, after


def _markdown(header, rows):
    """A table in Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def leaderboard(standings: Sequence[Standing], problems: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the leaderboard.

    Args:
      standings: from `judging.standings`.
      problems: how many there are.
    """
    header = [
        *('method', 'rank', 'regret', 'below all in one', 'search'),
        *('cost / budget', 'worse than a rival', 'better than one'),
    ]
    return header, [
        [
            one.method,
            f'{one.rank:.1f}',
            plus_minus(*one.regret, 2),
            plus_minus(*one.over_all_in_one, 2),
            f'{one.cost:.1f}',
            f'{one.inference:.2f}',
            _on(one.losses, problems),
            _on(one.wins, problems),
        ]
        for one in standings
    ]


def problems_table(
    standings: Sequence[Standing], judged: Sequence[Judged]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the total test scores, a problem a column.

    Args:
      standings, judged: see `write_benchmark`.
    """
    rows = [[s.method, *(f'{one.scores[s.method]:.1f}' for one in judged)] for s in standings]
    rows.append(['best that could be known', *(f'{one.optimum:.1f}' for one in judged)])
    return ['method', *(one.problem for one in judged)], rows


def own_table(
    standings: Sequence[Standing], judged: Sequence[Judged]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of `Judged.own`, a problem a column, and what is below all in one.

    Args:
      standings, judged: see `write_benchmark`.
    """
    rows = []
    for one in standings:
        own = [problem.own[one.method] for problem in judged]
        gains = [
            (problem.own.get(ALL_IN_ONE, math.nan) - value) / len(problem.task_names)
            for problem, value in zip(judged, own, strict=True)
        ]
        rows.append([one.method, *(f'{value:.1f}' for value in own), _number(np.mean(gains))])
    return ['method', *(one.problem for one in judged), 'below all in one'], rows


def correlations_table(
    standings: Sequence[Standing], judged: Sequence[Judged]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the correlations within a task, the ceiling last.

    Args:
      standings, judged: see `write_benchmark`.
    """
    rows = [
        [s.method, *(_number(one.correlations.get(s.method, math.nan)) for one in judged)]
        for s in standings
        if any(s.method in one.correlations for one in judged)
    ]
    rows.append(['half of the seeds, by the other half', *(_number(one.ceiling) for one in judged)])
    return ['method', *(one.problem for one in judged)], rows


def leaderboard_figure(standings: Sequence[Standing]) -> Figure:
    """Regret of each method, with its standard error over problems, best rank on top.

    Args:
      standings: from `judging.standings`.
    """
    figure = Figure(figsize=(7.5, 0.4 * len(standings) + 1.2), layout='constrained')
    axes = figure.add_subplot()
    places = np.arange(len(standings))[::-1]
    for place, one in zip(places, standings, strict=True):
        mean, error = one.regret
        look = style(0 if one.method == ALL_IN_ONE else 1)
        axes.errorbar(
            mean, place, xerr=0 if math.isnan(error) else error, capsize=3,
            color=look['color'], marker=look['marker'], linestyle='none',
        )  # fmt: skip
    axes.axvline(0, linewidth=0.8, color='gray')
    axes.set_yticks(places, [one.method for one in standings])
    axes.set_xlabel('regret, points a task')
    return figure


def _on(verdicts, problems):
    """In words, on how many problems a method is worse or better than some rival."""
    found = {problem for of_rival in verdicts.values() for problem in of_rival}
    return f'on {len(found)} of {problems}' if found else 'on none'


def _number(value):
    return '' if math.isnan(value) else f'{value:.2f}'


def _plain(value):
    """JSON types, with null for NaN."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
