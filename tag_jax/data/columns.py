"""The columns of a file: what they hold, and which of their cells are missing.

A column is read when it is used. It holds numbers if every cell that is not missing is a number;
one cell that is none is an error with its row, never a reason to take the column for text. (The
file is long because text, Parquet, NumPy and memory follow one set of rules.)
"""

import bz2
import csv
import gzip
import io
import lzma
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tag_jax.cells import INFINITE, MISSING, NUMBER, decode
from tag_jax.data.mends import declare_missing, give_kind, leave_out, read_with
from tag_jax.data.signs import other_delimiter, other_signs, with_points

KINDS = ('number', 'boolean', 'text', 'date')

_COMPRESSED = {'.gz': gzip.open, '.bz2': bz2.open, '.xz': lzma.open}
_TEXT = ('.csv', '.tsv', '.txt')
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


class Table(NamedTuple):
    """A file whose columns can be read.

    Attributes:
      path: of the file.
      names: of its columns, in their order.
      column: `(name, kind)` -> `Column`; the kind is 'text' or 'number' where the column is to be
        read as that, else None.
      index: names of columns that only number the rows, as pandas writes them.
    """

    path: pathlib.Path
    names: tuple[str, ...]
    column: Callable[[str, str | None], Column]
    index: tuple[str, ...] = ()


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


def open_table(path: str | os.PathLike, form: Format = Format()) -> Table:  # noqa: B008
    """Opens a file of columns: .csv, .tsv or .txt, these compressed, .parquet, .npz or .arff.

    Args:
      path: of the file.
      form: a `Format`.

    Raises:
      ValueError: if the file is none of these, or damaged. From `Table.column`, with row and value,
        at a cell that is no number among numbers, an infinite one, an integer that float64 cannot
        hold, and at a column of another kind than KINDS.
      OSError: if it cannot be read.
    """
    path = pathlib.Path(path)
    plain = path.with_suffix('') if path.suffix in _COMPRESSED else path
    if plain.suffix in _TEXT:
        table = _open_text(path, form)
    elif path.suffix == '.parquet':
        table = _open_parquet(path, form)
    elif path.suffix == '.npz':
        table = _open_npz(path, form)
    elif path.suffix == '.arff':
        table = _open_arff(path, form)
    else:
        raise ValueError(
            f'{path} is neither .csv, .tsv, .parquet, .npz nor .arff: tables are read from these'
        )
    if twice := [name for name in table.names if table.names.count(name) > 1]:
        raise ValueError(f'{path} has two columns called {twice[0]!r}')
    return table


def column_of(name: str, array: np.ndarray, form: Format = Format()) -> Column:  # noqa: B008
    """A column from an array in memory.

    Args:
      name: for error messages.
      array: `[N, ...]` of numbers or booleans, `[N]` of text, dates, or objects of one kind.
      form: a `Format`, for what is declared missing.

    Raises:
      ValueError: see `open_table`.
    """
    array = np.asarray(array)
    if array.ndim == 0:
        raise ValueError(f'the column {name!r} is a single value, and no array')
    if array.dtype.kind == 'O' and array.ndim == 1:
        import pyarrow

        try:
            return _from_arrow(name, pyarrow.array(array, from_pandas=True), form, None)
        except pyarrow.ArrowException as error:
            raise ValueError(
                f'the column {name!r} holds objects of several kinds: {_first_line(error)}'
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


def _open_text(path, form):
    """A text file: every cell is text before its column is looked at."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    text = _content(path, form.encoding)
    if form.comment:
        lines = text.splitlines(keepends=True)
        text = ''.join(line for line in lines if not line.startswith(form.comment))
    delimiter = form.delimiter
    if delimiter is None:
        delimiter = '\t' if '.tsv' in path.suffixes else ','
    if len(delimiter) != 1:
        raise ValueError(f'delimiter must be one character, not {delimiter!r}')
    if re.match(r'sep=.\r?\n', text):
        raise ValueError(
            f'{path} begins with a line that Excel writes, and no names: leave it out with '
            f'{read_with("comment", "sep=")}, and give {read_with("delimiter", text[4])}'
        )
    header = next((row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row), [])
    if not header or '\0' in text:
        raise ValueError(f'{path} is no table: {"it has no header" if not header else "NUL bytes"}')
    try:
        found = arrow_csv.read_csv(
            pyarrow.BufferReader(text.encode()),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pyarrow.string()), strings_can_be_null=False
            ),
        )
    except pyarrow.ArrowInvalid as error:
        other = other_delimiter(header, delimiter)
        raise ValueError(f'{path} is no table: {other or _first_line(error)}') from error
    if len(header) == 1 and (other := other_delimiter(header, delimiter)):
        raise ValueError(f'{path} has one column only: {other}')
    _check_rows(path, found.num_rows)
    names = tuple(found.column_names)
    read = lambda name, kind: _as_kind(
        name, _from_cells(name, found.column(name), form, kind), kind
    )
    # (df.to_csv() writes the index first, without a name.)
    return Table(path, names, read, ('',) if names[0] == '' else ())


def _content(path, encoding):
    if not path.is_file():
        raise FileNotFoundError(f'there is no table {path}')
    try:
        with _COMPRESSED.get(path.suffix, open)(path, 'rb') as file:
            content = file.read()
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f'{path} is no {path.suffix} file: {_first_line(error)}') from error
    except OSError as error:
        if path.suffix == '.bz2' and error.errno is None:
            raise ValueError(f'{path} is no .bz2 file: {_first_line(error)}') from error
        raise
    return decode(path, content, encoding)


def _open_parquet(path, form):
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        raise FileNotFoundError(f'there is no table {path}')
    try:
        file = parquet.ParquetFile(path)
        names, size = tuple(file.schema_arrow.names), file.metadata.num_rows
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is no table: {_first_line(error)}') from error
    _check_rows(path, size)

    def read(name, kind):
        try:
            array = file.read(columns=[name]).column(name)
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise ValueError(f'{path} is no table: {_first_line(error)}') from error
        return _from_arrow(name, array, form, kind)

    return Table(path, names, read, tuple(n for n in names if n.startswith('__index_level_')))


def _open_npz(path, form):
    if path.exists() and not zipfile.is_zipfile(path):
        raise ValueError(f'{path} is no table: it is not an .npz archive')
    damaged = (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError)
    try:
        file = np.load(path)
    except damaged as error:
        raise ValueError(f'{path} is no table: {_first_line(error)}') from error
    if not file.files:
        raise ValueError(f'{path} must hold columns of one length, with at least one row')

    def read(name, kind):
        try:
            array = file[name]
        except damaged as error:
            raise ValueError(
                f'the column {name!r} of {path} cannot be read: {_first_line(error)}'
            ) from error
        return _as_kind(name, column_of(name, array, form), kind)

    return Table(path, tuple(file.files), read)


def _open_arff(path, form):
    import pyarrow
    from scipy.io import arff

    try:
        content = io.StringIO(decode(path, path.read_bytes(), form.encoding))
        rows, attributes = arff.loadarff(content)
    except (arff.ArffError, NotImplementedError, ValueError, IndexError, StopIteration) as error:
        raise ValueError(
            f'{path} is no table: {_first_line(error)} (sparse files, text and dates of ARFF are '
            'not read)'
        ) from error
    _check_rows(path, len(rows))

    def read(name, kind):
        if attributes[name][0] == 'numeric':
            return _as_kind(name, column_of(name, rows[name], form), kind)
        cells = np.char.decode(rows[name], form.encoding).astype(object)
        cells[cells == '?'] = ''
        words = pyarrow.chunked_array([pyarrow.array(cells, pyarrow.string())])
        return _as_kind(name, _from_cells(name, words, form, kind), kind)

    return Table(path, tuple(attributes.names()), read)


def _check_rows(path, size):
    if not size:
        raise ValueError(f'{path} must hold columns of one length, with at least one row')


def _from_cells(name, cells, form, kind):
    """A column of a text file."""
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


def _from_arrow(name, array, form, kind):
    """A column of typed values."""
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
    return _as_kind(name, found, kind)


def _filled(array):
    return array.fill_null(0).to_numpy(zero_copy_only=False)


def _as_kind(name, column, kind):
    """A column as text, or as numbers: the days since 1970 of dates."""
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


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0]
