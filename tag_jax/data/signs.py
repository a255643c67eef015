"""The signs of a text file: decimal points, thousands and delimiters, and which others would fit.

Nothing here changes how a file is read. A fit of other signs is for errors to say.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tag_jax.cells import NUMBER
from tag_jax.data.mends import read_with

DELIMITERS = (';', '\t', '|', ',')
# What is written between thousands: also an apostrophe, and spaces that do not break.
THOUSANDS = (',', '.', ' ', "'", '\u00a0', '\u202f')
DECIMALS = (',', '.')


def with_points(cells: Any, decimal: str, thousands: str | None) -> Any:
    """Cells whose numbers are as Python writes them.

    Args:
      cells: a pyarrow array of text, `[N]`.
      decimal: their decimal point.
      thousands: what separates thousands; None for nothing.

    Returns:
      A pyarrow array of text `[N]`, in which a cell that is no number by these signs is none.
    """
    from pyarrow import compute

    if thousands:
        mark, point = re.escape(thousands), re.escape(decimal)
        grouped = rf'^[+-]?\d{{1,3}}({mark}\d{{3}})+({point}\d*)?$'
        without = compute.replace_substring(cells, thousands, '')
        cells = compute.if_else(compute.match_substring_regex(cells, grouped), without, cells)
    if decimal != '.':
        # A point is no decimal point then: what has one is left as no number.
        pointed = compute.match_substring(cells, '.')
        replaced = compute.replace_substring(cells, decimal, '.')
        cells = compute.if_else(pointed, compute.binary_join_element_wise(cells, '', '!'), replaced)
    return cells


def other_signs(
    cells: Sequence[str], decimal: str = '.', thousands: str | None = None
) -> tuple[list[str], str]:
    """Which other signs make numbers of most cells, where the present ones make none.

    Args:
      cells: text without missing ones, `[N]`.
      decimal: the present decimal point.
      thousands: what separates thousands at present; None for nothing.

    Returns:
      Ways to read the cells as numbers, in words, those that read the most cells; and a cell that
      they read. `([], '')` if no other signs read more than half of the cells.
    """
    import pyarrow
    from pyarrow import compute

    cells = compute.utf8_trim_whitespace(pyarrow.array(cells, pyarrow.string()))
    different = compute.value_counts(cells)
    text, rows = different.field('values'), different.field('counts').to_numpy()
    matches = lambda text, pattern: compute.match_substring_regex(text, pattern).to_numpy(False)
    # A mark of thousands comes first: 1,234 is read by both, and a whole number more often.
    tried = [{'thousands': mark} for mark in THOUSANDS if mark != decimal]
    tried += [{'decimal': point} for point in DECIMALS]
    tried += [
        {'decimal': point, 'thousands': mark}
        for point in DECIMALS
        for mark in THOUSANDS
        if mark != point and point != decimal
    ]
    best, ways, example = len(cells) // 2, [], ''
    begun = rows[matches(text, r'^[+-]?[\d.,]')].sum()
    for signs in tried if begun > best else ():
        read = with_points(text, **{'decimal': decimal, 'thousands': thousands, **signs})
        numbers = matches(read, NUMBER)
        count = rows[numbers].sum()
        if count > best:
            best, ways, example = count, [_words(signs)], text[int(np.argmax(numbers))].as_py()
        elif ways and count == best and len(signs) == 1:  # (Two signs are no way where one does.)
            ways.append(_words(signs))
    return ways, example


def _words(signs):
    return ' with '.join(read_with(*sign) for sign in signs.items())


def other_delimiter(header: Sequence[str], delimiter: str) -> str:
    """Says by which delimiter the header would have more cells; '' if there is none.

    Args:
      header: its cells, by the present delimiter.
      delimiter: the present one.
    """
    text = ' '.join(header)
    found = max(DELIMITERS, key=text.count)
    if found == delimiter or text.count(found) < len(header):
        return ''
    sign = 'a tab' if found == '\t' else repr(found)
    return f'its header has {sign} between names: give {read_with("delimiter", found)}'
