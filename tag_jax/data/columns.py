"""Columns: what they hold, and which of their cells are missing.

A column holds numbers if every cell that is not missing is a number; one cell that is none is an
error with its row, never a reason to take the column for text. (Text, Parquet, NumPy and memory
follow one set of rules, which is why they stand together.)
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.cells import INFINITE, MISSING, NUMBER
from tag_jax.data.mends import declare_missing, give_kind, leave_out
from tag_jax.data.signs import other_signs, with_points

KINDS = ('number', 'boolean', 'text', 'date')

_BOOLEANS = {
    **dict.fromkeys(('true', 'True', 'TRUE'), True),
    **dict.fromkeys(('false', 'False', 'FALSE'), False),
}
_DATE = r'^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$'
# Integers are exact in float64 up to here.
_EXACT = 2**53


class Format(NamedTuple):
    """How a file is to be read.

    Attributes:
      delimiter: between the cells of a text file; None for a tab in .tsv files and a comma in
        others.
      decimal: the decimal point of a text file.
      thousands: what separates thousands in its numbers; None for nothing.
      encoding: of a text file.
      comment: what lines begin with that do not count; None for nothing.
      missing: `{column: values}` that stand for missing ones there, beside MISSING in a text file;
        those of the column '' stand for it in all columns.
    """

    delimiter: str | None = None
    decimal: str = '.'
    thousands: str | None = None
    encoding: str = 'utf-8'
    comment: str | None = None
    missing: Mapping[str, tuple[str, ...]] = {}

    def missing_in(self, column: str) -> tuple[str, ...]:
        """The values that are declared missing in a column, as text."""
        return (*self.missing.get('', ()), *self.missing.get(column, ()))


class Column(NamedTuple):
    """One column of a table.

    Attributes:
      kind: of KINDS.
      values: float64 `[N, ...]` for numbers; bool `[N, ...]`; objects `[N]`, text; datetime64
        `[N]`. What stands at missing cells means nothing.
      missing: bool, of the shape of the values.
    """

    kind: str
    values: np.ndarray
    missing: np.ndarray


def missing_values(missing: Sequence | Mapping) -> dict[str, tuple[str, ...]]:
    """Values that stand for missing ones, as `Format` has them.

    Args:
      missing: values for all columns, or `{column: values}`; numbers or text.

    Raises:
      ValueError: if it is neither.
    """
    if not isinstance(missing, Mapping):
        missing = {'': missing}
    found = {}
    for column, values in missing.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise ValueError(
                f'missing must be a list of values, or {{column: list}}, not {values!r}: missing='
                "['?'] or missing={'age': [-999]}"
            )
        found[str(column)] = tuple(map(str, values))
    return found


def column_of(name: str, array: np.ndarray, form: Format = Format()) -> Column:  # noqa: B008
    """A column from an array in memory.

    Args:
      name: for error messages.
      array: `[N, ...]` of numbers or booleans, `[N]` of text, dates, or objects of one kind.
      form: a `Format`, for what is declared missing.

    Raises:
      ValueError: see `opening.open_table`.
    """
    array = np.asarray(array)
    if array.ndim == 0:
        raise ValueError(f'the column {name!r} is a single value, and no array')
    if array.dtype.kind == 'O' and array.ndim == 1:
        import pyarrow

        try:
            return from_arrow(name, pyarrow.array(array, from_pandas=True), form, None)
        except pyarrow.ArrowException as error:
            raise ValueError(
                f'the column {name!r} holds objects of several kinds: {first_line(error)}'
            ) from error
    if array.dtype.kind in 'US' and array.ndim == 1:
        text = array.astype(str).astype(object)
        return _text(text, np.isin(array.astype(str), form.missing_in(name)))
    if array.dtype.kind == 'M' and array.ndim == 1:
        return Column('date', array, np.isnat(array))
    if array.dtype.kind == 'b':
        return Column('boolean', array, np.zeros(array.shape, bool))
    if array.dtype.kind in 'iuf':
        return _numbers(name, array, np.zeros(array.shape, bool), form)
    raise ValueError(_unusable(name, f'{array.dtype} {list(array.shape)}'))


def from_cells(name: str, cells: Any, form: Format, kind: str | None) -> Column:
    """A column of a text file.

    Args:
      name: for error messages.
      cells: a `pyarrow.ChunkedArray` of strings, `[N]`.
      form: a `Format`.
      kind: 'text' to keep cells as text whatever they hold, 'number' where numbers are asked for;
        else None.

    Raises:
      ValueError: at a cell that is no number among numbers, see `opening.open_table`.
    """
    import pyarrow
    from pyarrow import compute

    cells = cells.combine_chunks()
    words = pyarrow.array((*MISSING, *form.missing_in(name)), pyarrow.string())
    missing = compute.is_in(cells, words).to_numpy(zero_copy_only=False)
    everything = cells.to_numpy(zero_copy_only=False)
    if kind == 'text':
        return _text(everything, missing)
    known = cells.filter(~missing)
    if not len(known):
        return Column('number', np.zeros(len(missing)), missing)
    matches = lambda text, pattern: compute.match_substring_regex(text, pattern).to_numpy(
        zero_copy_only=False
    )
    plain = compute.utf8_trim_whitespace(known)
    if compute.all(compute.is_in(plain, pyarrow.array(list(_BOOLEANS)))).as_py():
        values = np.zeros(len(missing), bool)
        values[~missing] = [_BOOLEANS[word] for word in plain.to_pylist()]
        return Column('boolean', values, missing)
    plain = with_points(plain, form.decimal, form.thousands)
    infinite = matches(plain, INFINITE)
    numbers = matches(plain, NUMBER) | infinite
    if numbers.all():
        texts = plain.to_pylist()
        values = np.zeros(len(missing))
        values[~missing] = [float(text) for text in texts]
        _check_exact(name, texts, values[~missing], np.flatnonzero(~missing))
        return _numbers(name, values, missing, form)
    if numbers.any():
        place = np.flatnonzero(~numbers)[0]
        row, cell = np.flatnonzero(~missing)[place] + 1, known[int(place)].as_py()
        raise ValueError(_no_number(name, row, cell, form, kind))
    if matches(plain, _DATE).all():
        days = [text.replace('Z', '') for text in plain.to_pylist()]
        values = np.full(len(missing), np.datetime64('NaT'), 'datetime64[ns]')
        values[~missing] = [np.datetime64(re.sub(r'[+-]\d{2}:?\d{2}$', '', d), 'ns') for d in days]
        return Column('date', values, missing)
    _refuse_other_signs(name, known.to_pylist(), form, kind)
    return _text(everything, missing)


def from_arrow(name: str, array: Any, form: Format, kind: str | None) -> Column:
    """A column of typed values.

    Args:
      name: for error messages.
      array: a `pyarrow.Array` or `pyarrow.ChunkedArray`, `[N]`.
      form: a `Format`, for what is declared missing.
      kind: see `as_kind`.

    Raises:
      ValueError: if it holds neither numbers, text nor dates.
    """
    import pyarrow
    from pyarrow import types

    if isinstance(array, pyarrow.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pyarrow.ChunkedArray):  # Dictionaries that differ stay apart.
        array = pyarrow.concat_arrays([c.dictionary_decode() for c in array.chunks])
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    missing = array.is_null().to_numpy(zero_copy_only=False)
    of = array.type
    if types.is_null(of):
        return Column('number', np.zeros(len(missing)), missing)
    if types.is_boolean(of):
        found = Column('boolean', array.fill_null(False).to_numpy(zero_copy_only=False), missing)
    elif types.is_decimal(of):
        # By their digits: a cast divides, and may be off in the last place.
        digits = ['0' if cell is None else str(cell) for cell in array.to_pylist()]
        found = _numbers(name, np.array(digits, np.float64), missing, form)
    elif types.is_integer(of) or types.is_floating(of):
        found = _numbers(name, _filled(array), missing, form)
    elif types.is_string(of) or types.is_large_string(of) or types.is_string_view(of):
        cells = array.to_numpy(zero_copy_only=False)
        found = _text(cells, missing | np.isin(cells.astype(str), form.missing_in(name)))
    elif types.is_date(of) or types.is_timestamp(of):
        values = array.cast(pyarrow.timestamp('ns', getattr(of, 'tz', None)))
        found = Column('date', values.to_numpy(zero_copy_only=False), missing)
    else:
        raise ValueError(_unusable(name, str(of)))
    return as_kind(name, found, kind)


def _filled(array):
    return array.fill_null(0).to_numpy(zero_copy_only=False)


def as_kind(name: str, column: Column, kind: str | None) -> Column:
    """A column as text, or as numbers: the days since 1970 of dates.

    Args:
      name: for error messages.
      column: a `Column`.
      kind: 'text' or 'number'; None for the kind that it has.

    Raises:
      ValueError: if it holds nothing of that kind.
    """
    if kind == 'number' and column.kind == 'text':
        raise ValueError(_no_number_or_date(name, column))
    if kind == 'number' and column.kind == 'date':
        since = (column.values - np.datetime64(0, 'D')) / np.timedelta64(1, 'D')
        return Column('number', np.where(column.missing, 0, since), column.missing)
    if kind != 'text' or column.kind == 'text':
        return column
    if column.values.ndim != 1:
        raise ValueError(f'the column {name!r} has {column.values.shape[1:]} values a row, no text')
    if column.kind == 'date':
        raise ValueError(
            f'the column {name!r} holds dates, and no text: save it as text, or '
            f'{give_kind(name, "number")}'
        )
    whole = column.kind == 'number' and (column.values == np.rint(column.values)).all()
    values = column.values.astype(np.int64) if whole else column.values
    return _text(np.array([str(value) for value in values.tolist()], object), column.missing)


def _text(cells, missing):
    values = np.array(cells, object)
    values[missing] = None
    return Column('text', values, np.asarray(missing))


def _numbers(name, values, missing, form):
    """A column of numbers: NaN and what is declared is missing, and the rest is finite."""
    if values.dtype.kind in 'iu':
        for row in np.argwhere(~missing & ((values >= _EXACT) | (values <= -_EXACT))):
            value = values[tuple(row)].item()
            if float(value) != value:
                _refuse_inexact(name, row[0] + 1, value)
    values = values.astype(np.float64)
    missing = missing | np.isnan(values)
    for word in form.missing_in(name):
        try:
            missing |= values == float(word)
        except ValueError:
            continue
    if (infinite := np.isinf(values) & ~missing).any():
        row = np.argwhere(infinite)[0]
        value = values[tuple(row)]
        raise ValueError(
            f'row {row[0] + 1} of the column {name!r} is {value}: set it to NaN, or in a file '
            f'{declare_missing(name, str(value))}, or {leave_out(name)}'
        )
    return Column('number', np.where(missing, 0, values), missing)


def _check_exact(name, texts, values, rows):
    """Raises ValueError at an integer in a text file that float64 would change."""
    for place in np.flatnonzero(np.abs(values) >= _EXACT):
        if re.fullmatch(r'[+-]?\d+', texts[place]) and int(texts[place]) != int(values[place]):
            _refuse_inexact(name, rows[place] + 1, texts[place])


def _refuse_inexact(name, row, value):
    raise ValueError(
        f'row {row} of the column {name!r} is {value}, an integer that would lose digits: where it '
        f'only names the row {leave_out(name)}, and where it is a class {give_kind(name, "text")}'
    )


def _refuse_other_signs(name, cells, form, kind):
    """Raises ValueError at text that is numbers, but for other signs than those of the format."""
    ways, example = other_signs(cells, form.decimal, form.thousands)
    if ways:
        text = f', or, if it is text, {give_kind(name, "text")}' if kind is None else ''
        raise ValueError(
            f'the column {name!r} holds numbers with other signs, such as {example!r}: read the '
            f'file with {" or ".join(ways)}{text}'
        )


def _no_number(name, row, cell, form, kind):
    """The sentence about a cell that is no number, in a column where others are.

    It names no other kind where one was asked for, as for the new rows of a trained network.
    """
    ways, _ = other_signs([cell], form.decimal, form.thousands)
    hint = f'{ways[0]} reads such numbers; or ' if ways else ''
    text = f', or {give_kind(name, "text")}' if kind is None else ''
    return (
        f'row {row} of the column {name!r} is {cell!r}, where other rows are numbers: {hint}'
        f'{declare_missing(name, cell)}{text}'
    )


def _no_number_or_date(name, column):
    """The sentence about text where numbers or dates are asked for."""
    for row in np.flatnonzero(~column.missing):
        cell = column.values[row]
        if not re.match(_DATE, cell.strip()) and not re.match(NUMBER, cell.strip()):
            return (
                f'row {row + 1} of the column {name!r} is {cell!r}, neither a number nor a date '
                'such as 2024-05-31 or 2024-05-31 14:30: write it so, or '
                f'{declare_missing(name, cell)}'
            )
    return f'the column {name!r} holds text: save its numbers or dates as such'


def _unusable(name, what):
    return (
        f'the column {name!r} holds {what}, and neither numbers, text nor dates: {leave_out(name)}'
    )


def first_line(error: Exception) -> str:
    """The text of an error up to its first line break.

    Args:
      error: of another package.
    """
    return (str(error) or type(error).__name__).splitlines()[0]
