"""Tables of a study."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tag_jax.comparison import summary
from tag_jax.report import page
from tag_jax.report.comparison import comparison_table
from tag_jax.report.figures import affinity_figure
from tag_jax.report.run import REPORT
from tag_jax.report.svg import svg
from tag_jax.runs import storage
from tag_jax.runs import workdir as workdirs
from tag_jax.studies import Study, Table
from tag_jax.tables import significant, text_table


def write_study(
    path: str | os.PathLike, name: str, study: Study, settings: Mapping[str, Any]
) -> str:
    """Writes results.json, report.html and the heat maps of a study.

    Args:
      path: the folder, which exists.
      name: of the study.
      study: a `studies.Study`.
      settings: what was asked for.

    Returns:
      The tables as text, ending with the path of the report.
    """
    path = pathlib.Path(path)
    lines = [] if study.comparison is None else summary(study.comparison)
    storage.write_json(
        path / workdirs.RESULTS,
        {
            'study': name,
            'settings': settings,
            'tables': [
                table._replace(rows=[list(map(_plain, row)) for row in table.rows])._asdict()
                for table in study.tables
            ],
            'outcomes': [
                outcome.to_json() for outcome in (study.comparison.outcomes if lines else ())
            ],
        },
    )
    heat_maps = []
    for number, heat_map in enumerate(study.heat_maps, 1):
        figure = affinity_figure(heat_map.mean, heat_map.task_names)
        storage.write_bytes(path / f'affinity_{number}.png', page.png(figure))
        heat_maps.append((heat_map.title, svg(figure, heat_map.title, 'diagram')))
    page_text = page.render(
        'study.html',
        f'{name}: {settings["dataset"]}',
        workdirs.command_of(path),
        tables=[
            (table.title, list(table.header), [list(map(cell_text, row)) for row in table.rows])
            for table in study.tables
        ],
        heat_maps=heat_maps,
        settings=[(key, str(value)) for key, value in settings.items()],
    )
    storage.write_bytes(path / REPORT, page_text.encode())
    text = [table_text(table) for table in study.tables]
    if lines:
        text.append(comparison_table(lines))
    return '\n\n'.join([*text, f'report: {path / REPORT}'])


def table_text(table: Table) -> str:
    """A `studies.Table` as text."""
    rows = [list(map(cell_text, row)) for row in table.rows]
    return f'{table.title}\n{text_table(table.header, rows)}'


def cell_text(cell: Any) -> str:
    """A cell of a `studies.Table` as text: numbers to three digits, errors behind them."""
    match cell:
        case None:
            return ''
        case str():
            return cell
        case (mean, error):
            return significant(mean, error, 3)
    return '' if np.isnan(cell) else f'{cell:.3g}'


def _plain(cell):
    """A cell as JSON types: None for what is not known."""
    if isinstance(cell, tuple):
        return [_plain(value) for value in cell]
    return None if isinstance(cell, float) and np.isnan(cell) else cell
