"""Files of columns: .csv and other text, these compressed, .parquet, .npz and .arff.

A column is read when it is used.
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
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tag_jax.cells import decode
from tag_jax.data.columns import (
    Column,
    Format,
    as_kind,
    column_of,
    first_line,
    from_arrow,
    from_cells,
)
from tag_jax.data.mends import read_with
from tag_jax.data.signs import other_delimiter

_COMPRESSED = {'.gz': gzip.open, '.bz2': bz2.open, '.xz': lzma.open}
_TEXT = ('.csv', '.tsv', '.txt')


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
        raise ValueError(f'{path} is no table: {other or first_line(error)}') from error
    if len(header) == 1 and (other := other_delimiter(header, delimiter)):
        raise ValueError(f'{path} has one column only: {other}')
    _check_rows(path, found.num_rows)
    names = tuple(found.column_names)
    read = lambda name, kind: as_kind(name, from_cells(name, found.column(name), form, kind), kind)
    # (df.to_csv() writes the index first, without a name.)
    return Table(path, names, read, ('',) if names[0] == '' else ())


def _content(path, encoding):
    if not path.is_file():
        raise FileNotFoundError(f'there is no table {path}')
    try:
        with _COMPRESSED.get(path.suffix, open)(path, 'rb') as file:
            content = file.read()
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ValueError(f'{path} is no {path.suffix} file: {first_line(error)}') from error
    except OSError as error:
        if path.suffix == '.bz2' and error.errno is None:
            raise ValueError(f'{path} is no .bz2 file: {first_line(error)}') from error
        raise
    return decode(path, content, encoding)


def _open_parquet(path, form):
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        raise FileNotFoundError(f'there is no table {path}')
    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        names, size = tuple(file.schema_arrow.names), file.metadata.num_rows
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        _raise_errors_of_the_disk(error)
        raise ValueError(f'{path} is no table: {first_line(error)}') from error
    _check_rows(path, size)

    def read(name, kind):
        try:
            array = file.read(columns=[name]).column(name)
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            _raise_errors_of_the_disk(error)
            raise ValueError(
                f'the column {name!r} of {path} cannot be read: {first_line(error)}'
            ) from error
        return from_arrow(name, array, form, kind)

    return Table(path, names, read, tuple(n for n in names if n.startswith('__index_level_')))


def _raise_errors_of_the_disk(error):
    """Raises an OSError of the system again; that of a damaged file has no number."""
    if getattr(error, 'errno', None) is not None:
        raise error


def _open_npz(path, form):
    if path.exists() and not zipfile.is_zipfile(path):
        raise ValueError(f'{path} is no table: it is not an .npz archive')
    damaged = (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError)
    try:
        file = np.load(path)
    except damaged as error:
        raise ValueError(f'{path} is no table: {first_line(error)}') from error
    if not file.files:
        raise ValueError(f'{path} must hold columns of one length, with at least one row')

    def read(name, kind):
        try:
            array = file[name]
        except damaged as error:
            raise ValueError(
                f'the column {name!r} of {path} cannot be read: {first_line(error)}'
            ) from error
        return as_kind(name, column_of(name, array, form), kind)

    return Table(path, tuple(file.files), read)


def _open_arff(path, form):
    import pyarrow
    from scipy.io import arff

    try:
        content = io.StringIO(decode(path, path.read_bytes(), form.encoding))
        rows, attributes = arff.loadarff(content)
    except (arff.ArffError, NotImplementedError, ValueError, IndexError, StopIteration) as error:
        raise ValueError(
            f'{path} is no table: {first_line(error)} (sparse files, text and dates of ARFF are '
            'not read)'
        ) from error
    _check_rows(path, len(rows))

    def read(name, kind):
        if attributes[name][0] == 'numeric':
            return as_kind(name, column_of(name, rows[name], form), kind)
        cells = np.char.decode(rows[name], form.encoding).astype(object)
        cells[cells == '?'] = ''
        words = pyarrow.chunked_array([pyarrow.array(cells, pyarrow.string())])
        return as_kind(name, from_cells(name, words, form, kind), kind)

    return Table(path, tuple(attributes.names()), read)


def _check_rows(path, size):
    if not size:
        raise ValueError(f'{path} must hold columns of one length, with at least one row')
