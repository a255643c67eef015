"""Figures and tables as files for papers: SVG and PDF, CSV and LaTeX, beside what a page shows."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from tag_jax.report import page

_KINDS = {'svg': 'image/svg+xml', 'pdf': 'application/pdf', 'csv': 'text/csv', 'tex': 'text/plain'}
_LARGEST = 60_000  # Bytes that a page takes up.
_NUMBER = re.compile(r'nan|[-+\N{MINUS SIGN}]?[\d.,]+( ± [\d.]+)?( %)?')
_LATEX = {
    **{sign: f'\\{sign}' for sign in '&%$#_{}'},
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '±': r'$\pm$',
    '\N{MINUS SIGN}': '$-$',
    '\n': ' ',
}


class Download(NamedTuple):
    """A file that a page holds, to be taken from it.

    Attributes:
      name: of the file.
      kind: of it, in capitals, as the page says it.
      address: its data, as the address of a link.
    """

    name: str
    kind: str
    address: str


def figure_files(name: str, figure: Figure) -> dict[str, bytes]:
    """A figure as SVG and PDF, the same bytes whenever the figure is the same.

    Args:
      name: of the picture, such as affinity.png.
      figure: what is drawn.

    Returns:
      `{name of a file: its bytes}`.
    """
    stem, files = name.partition('.')[0], {}
    # (A figure with a layout engine fills its page already.)
    box = 'tight' if figure.get_layout_engine() is None else None
    with rc_context({'svg.hashsalt': stem, 'svg.fonttype': 'none', 'pdf.fonttype': 42}):
        for kind, date in (('svg', 'Date'), ('pdf', 'CreationDate')):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, bbox_inches=box, metadata={date: None})
            files[f'{stem}.{kind}'] = buffer.getvalue()
    return files


def table_files(
    stem: str, header: Sequence[str], rows: Sequence[Sequence[str]], totals: bool = False
) -> dict[str, bytes]:
    """A table as CSV and as LaTeX, which needs the package booktabs.

    Args:
      stem: of the names of the files.
      header: a cell for each column.
      rows: the cells of each row.
      totals: whether the last row stands under a line.

    Returns:
      `{name of a file: its bytes}`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    plain = lambda cell: cell.replace('\n', ' ').replace('\N{MINUS SIGN}', '-')
    writer.writerows([plain(cell) for cell in row] for row in (header, *rows))
    return {
        f'{stem}.csv': text.getvalue().encode(),
        f'{stem}.tex': latex(header, rows, totals).encode(),
    }


def latex(header: Sequence[str], rows: Sequence[Sequence[str]], totals: bool = False) -> str:
    """A table for LaTeX, with the lines of booktabs; numbers stand to the right.

    Args:
      header, rows, totals: see `table_files`.
    """
    columns = list(zip(*rows, strict=True))
    numeric = [all(_NUMBER.fullmatch(cell) or not cell for cell in column) for column in columns]
    line = lambda cells: ' & '.join(''.join(_LATEX.get(c, c) for c in cell) for cell in cells)
    body = [f'{line(row)} \\\\' for row in rows]
    if totals:
        body.insert(len(body) - 1, r'\midrule')
    return '\n'.join(
        [
            '% \\usepackage{booktabs}',
            f'\\begin{{tabular}}{{{"".join("r" if one else "l" for one in numeric)}}}',
            r'\toprule',
            f'{line(header)} \\\\',
            r'\midrule',
            *body,
            r'\bottomrule',
            r'\end{tabular}',
            '',
        ]
    )


def downloads(files: Mapping[str, bytes]) -> list[Download]:
    """The links by which a page gives files away. (Large ones lie in the folder of the run alone.)

    Args:
      files: `{name: bytes}`, with endings of SVG, PDF, CSV or LaTeX.
    """
    return [
        Download(name, name.rpartition('.')[2].upper(), page.data_url(data, _KINDS[name[-3:]]))
        for name, data in files.items()
        if len(data) <= _LARGEST
    ]
