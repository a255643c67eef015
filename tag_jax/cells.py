"""Text files and their cells: encodings, and the words that stand for a missing value."""

import math
import os
import re

# What a cell says where its value is missing: the words that pandas takes for that.
MISSING = (
    *('', '#N/A', '#N/A N/A', '#NA', '-1.#IND', '-1.#QNAN', '-NaN', '-nan', '1.#IND', '1.#QNAN'),
    *('<NA>', 'N/A', 'NA', 'NULL', 'NaN', 'None', 'n/a', 'nan', 'null'),
)
# A finite number, and an infinite one.
NUMBER = r'^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$'
INFINITE = r'^[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?$'


def decode(path: str | os.PathLike, content: bytes, encoding: str = 'utf-8') -> str:
    """The text of a file.

    Args:
      path: for error messages.
      content: its bytes.
      encoding: a name that Python knows.

    Raises:
      ValueError: if the encoding is unknown, or the file is in another one.
    """
    try:
        return content.decode(encoding).removeprefix('\ufeff')
    except LookupError:
        raise ValueError(
            f'there is no encoding called {encoding!r}: utf-8 and latin-1 are some'
        ) from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b'\n') + 1
        raise ValueError(
            f'{path} is not in the encoding {encoding}: see its line {line}, and name its encoding '
            '(latin-1, say) or save it in this one'
        ) from None


def number(cell: str) -> float:
    """The number in a cell; NaN where it is missing.

    Args:
      cell: its text.

    Raises:
      ValueError: if it is no number.
    """
    cell = cell.strip()
    if cell in MISSING:
        return math.nan
    if not re.match(NUMBER, cell) and not re.match(INFINITE, cell):
        raise ValueError(f'{cell!r} is not a number')
    return float(cell)
