"""Numbers and tables as text, for the terminal and for pages, and as data frames of pandas."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# The longest line on a terminal.
LINE_LENGTH = 100

_ROUNDING = 1e-12  # Of float64, over a few operations.


def plus_minus(mean: float, error: float, digits: int = 2) -> str:
    """A mean and its standard error, if that is known.

    Args:
      mean, error: numbers.
      digits: behind the point.
    """
    return f'{mean:.{digits}f}' + ('' if np.isnan(error) else f' ± {error:.{digits}f}')


def significant(mean: float, error: float, digits: int) -> str:
    """A mean to so many digits, and its standard error to two, if that is known.

    An error that is nothing but rounding is 0.

    Args:
      mean, error: numbers.
      digits: of the mean that count.
    """
    if np.isnan(error):
        return f'{mean:.{digits}g}'
    if error <= _ROUNDING * abs(mean):
        error = 0
    return f'{mean:.{digits}g} ± {error:.2g}'


def without_empty(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """A table without the columns that say nothing in any row.

    Args:
      header: a cell for each column.
      rows: the cells of each row.

    Returns:
      Header and rows.
    """
    told = [n for n in range(len(header)) if any(row[n] for row in rows)]
    return [header[n] for n in told], [[row[n] for n in told] for row in rows]


def text_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    rules: Sequence[int] = (0,),
    keys: int = 1,
    longest: float = LINE_LENGTH,
) -> str:
    """A table as text in columns, two spaces apart.

    A table that is wider than `longest` goes on below itself, with its first columns once more.

    Args:
      header: a cell for each column, of one line or several.
      rows: the cells of each row.
      left: the columns that are aligned to the left; numbers are aligned to the right.
      rules: the rows above which a line is drawn.
      keys: how many columns, from the left, say what a row is.
      longest: the length of a line, in characters; infinite for a table that never goes on below.
    """
    titles = [cell.split('\n') for cell in header]
    height = max(map(len, titles))
    titles = [[''] * (height - len(lines)) + lines for lines in titles]
    above = list(zip(*titles, strict=True))
    widths = [max(map(len, column)) for column in zip(*above, *rows, strict=True)]
    aligned = [
        [
            cell.ljust(width) if n in left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (*above, *rows)
    ]
    blocks = []
    for columns in _folded(widths, keys, longest):
        lines = ['  '.join(row[n] for n in columns).rstrip() for row in aligned]
        rule = '-' * max(map(len, lines))
        found = [line for line in lines[:height] if line]
        for n, line in enumerate(lines[height:]):
            found += [rule, line] if n in rules else [line]
        blocks.append('\n'.join(found))
    return '\n\n'.join(blocks)


def _folded(widths, keys, longest):
    """The columns of each part of a table, by their widths: as few parts as fit, and even."""
    first, others = list(range(keys)), list(range(keys, len(widths)))
    for size in range(len(others), 0, -1):
        count = -(-len(others) // size)
        size = -(-len(others) // count)
        parts = [[*first, *others[n : n + size]] for n in range(0, len(others), size)]
        if size == 1 or all(_width(widths, part) <= longest for part in parts):
            return parts
    return [first]


def _width(widths, columns):
    """The length of the longest line of these columns."""
    return sum(widths[n] for n in columns) + 2 * (len(columns) - 1)


def data_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a data frame of pandas, which is imported here only.

    Args:
      rows: `{column: value}` for each.

    Returns:
      A pandas DataFrame.

    Raises:
      ImportError: if pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError('to_dataframe() needs pandas: pip install pandas') from error
    return pandas.DataFrame(list(rows))
