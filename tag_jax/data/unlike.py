"""New rows that are unlike any row that a network was trained on: what is odd about them, in words.

A network answers every row. Text that no training row had, or an age of 5000, gets an answer that
looks like the others, so whoever asks is told of such cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tag_jax.data.columns import Column
from tag_jax.data.encoding import Input

# Numbers further from the mean of the training rows, in standard deviations, are another unit.
FARTHEST = 100
# Arrays are on another scale if they reach so many times as far out of the range of training as
# that is wide; or if they lie within 0 and 1, and training went from 0 to at least HIGH.
OUTSIDE, HIGH = 10, 100
# So much is told of a table: columns, and values of one column.
_MOST_COLUMNS, _MOST_VALUES = 8, 3


def describe_unlike(inputs: Sequence[Input], columns: Mapping[str, Column]) -> str:
    """Says in which columns rows are unlike all training rows, how many, and an example of each.

    Args:
      inputs: an `Input` for each column.
      columns: `{name: Column}` of the new rows.

    Returns:
      A sentence; '' where no row is.
    """
    parts = []
    for input_ in inputs:
        tell = _text if input_.kind == 'text' else _numbers
        parts += tell(input_, columns[input_.name])
    if not parts:
        return ''
    more = len(parts) - _MOST_COLUMNS
    told = [*parts[:_MOST_COLUMNS], *([f'and so on, {more} more'] if more > 0 else [])]
    return (
        'some rows are unlike all that the networks were trained on, and answers for them may mean '
        f'little: {"; ".join(told)}'
    )


def ranges_of(inputs: Any) -> dict[str, tuple[float, float]]:
    """The least and the greatest number of arrays that are inputs as they are.

    Args:
      inputs: an array, or a pytree of arrays.

    Returns:
      `{place: (least, greatest)}` of all arrays of numbers that have a finite one; the place in the
      pytree as JAX writes it, '' for an array by itself.
    """
    return {
        place: (float(values.min()), float(values.max()))
        for place, values in _finite(inputs).items()
    }


def describe_scale(inputs: Any, ranges: Mapping[str, tuple[float, float]]) -> str:
    """Says if arrays are on another scale than those of training: 0 to 255 in place of 0 to 1.

    Args:
      inputs: an array, or a pytree of arrays.
      ranges: of the training inputs, from `ranges_of`.

    Returns:
      A clause for each such array, joined by semicolons; '' where there is none.
    """
    parts = []
    for place, values in _finite(inputs).items():
        least, greatest = float(values.min()), float(values.max())
        low, high = ranges.get(place, (least, greatest))
        far = max(low - least, greatest - high) > OUTSIDE * (high - low) > 0
        shrunk = low >= 0 and high >= HIGH and 0 <= least < greatest <= 1
        # (Whole numbers may be few tokens of many.)
        if far or (shrunk and (values != np.rint(values)).any()):
            parts.append(
                f'inputs{place} go from {least:.6g} to {greatest:.6g}, and those of the training '
                f'split from {low:.6g} to {high:.6g}'
            )
    return '; '.join(parts)


def _finite(inputs):
    """The finite numbers of each array in a pytree that has any, `{place: array}`."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(inputs):
        array = np.asarray(leaf)
        if array.dtype.kind not in 'biuf':
            continue
        known = np.isfinite(array)
        values = array if known.all() else array[known]  # (Pictures are large: no copy of them.)
        if values.size:
            found[jax.tree_util.keystr(path)] = values
    return found


def _text(input_, column):
    """Says what is odd about a column of text."""
    if column.missing.any() and not input_.missing:
        yield f'{_no_value(repr(input_.name), column.missing)}, which no row of the dataset lacked'
    new = ~np.isin(column.values.astype(str), input_.categories) & ~column.missing
    if new.any():
        rows = np.flatnonzero(new)
        values = list(dict.fromkeys(column.values[rows].tolist()))
        some = ', '.join(map(repr, values[:_MOST_VALUES])) + ', ...' * (len(values) > _MOST_VALUES)
        yield (
            f'{_share(new)} of {input_.name!r} have text that no training row had ({some}, first '
            f'in row {rows[0] + 1}), which counts as missing'
        )


def _numbers(input_, column):
    """Says what is odd about a column of one or several numbers a row."""
    size = len(column.values)
    values = column.values.astype(np.float64).reshape(size, -1)
    gaps = column.missing.reshape(size, -1)
    for n in np.flatnonzero(input_.scales > 0):
        mean, scale = input_.means[n], input_.scales[n]
        name = f'{input_.name!r}' if not input_.shape else f'number {n + 1} of {input_.name!r}'
        if gaps[:, n].any() and not input_.indicated[n]:
            yield (
                f'{_no_value(name, gaps[:, n])}, which no training row lacked: the mean of the '
                f'training rows, {mean:.6g}, is put in'
            )
        far = (np.abs(values[:, n] - mean) > FARTHEST * scale) & ~gaps[:, n]
        if far.any():
            row = np.flatnonzero(far)[0]
            yield (
                f'{_share(far)} of {name} are further than {FARTHEST} standard deviations from the '
                f'mean of the training rows ({values[row, n]:.6g} in row {row + 1}; mean '
                f'{mean:.6g}, standard deviation {scale:.6g}): look for another unit'
            )


def _no_value(name, gaps):
    return f'{_share(gaps)} of {name} have no value (first row {np.flatnonzero(gaps)[0] + 1})'


def _share(rows):
    return f'{np.sum(rows)} of {len(rows)} rows'
