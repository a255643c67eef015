"""Numbers and tables as text, for the terminal and for pages."""

from collections.abc import Sequence

import numpy as np

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


def text_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    rules: Sequence[int] = (0,),
) -> str:
    """A table as text in columns, two spaces apart.

    Args:
      header: a cell for each column.
      rows: the cells of each row.
      left: the columns that are aligned to the left; numbers are aligned to the right.
      rules: the rows above which a line is drawn.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        '  '.join(
            cell.ljust(width) if n in left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
    rule = '-' * max(map(len, lines))
    found = lines[:1]
    for n, line in enumerate(lines[1:]):
        found += [rule, line] if n in rules else [line]
    return '\n'.join(found)
