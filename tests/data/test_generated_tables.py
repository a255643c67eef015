"""Whatever pyarrow writes is read as pandas reads it, or refused in one sentence."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from tag_jax.data.columns import Format
from tag_jax.data.opening import open_table

SIZE = 12

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
words = st.text(st.characters(codec='latin-1', exclude_categories=['Cc', 'Cs']), max_size=5)
VALUES = {
    'float64': finite | st.floats(),
    'float32': st.floats(width=32),
    'int64': st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9),
    'int8': st.integers(-128, 127),
    'uint64': st.integers(0, 2**64 - 1) | st.integers(0, 9),
    'bool': st.booleans(),
    'string': words | st.sampled_from(['NA', 'inf', '1', '?', 'true', '1,5', '2020-01-01', ' 7 ']),
    'numbers as text': finite.map(repr) | st.sampled_from(['-', '1e5', '', ' 3', '+4', '.5']),
    'decimal': st.decimals(-999, 999, allow_nan=False, places=2),
    'date': st.dates(datetime.date(1700, 1, 1), datetime.date(2200, 1, 1)),
    'category': st.sampled_from(['a', 'b', 'NA', 'ü']),
    'list': st.lists(st.integers(0, 3), max_size=2),
    'nothing': st.none(),
}
TYPES = {
    'float64': pyarrow.float64(),
    'float32': pyarrow.float32(),
    'int64': pyarrow.int64(),
    'int8': pyarrow.int8(),
    'uint64': pyarrow.uint64(),
    'bool': pyarrow.bool_(),
    'string': pyarrow.string(),
    'numbers as text': pyarrow.string(),
    'decimal': pyarrow.decimal128(9, 2),
    'date': pyarrow.date32(),
    'category': pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    'list': pyarrow.list_(pyarrow.int64()),
    'nothing': pyarrow.null(),
}


@st.composite
def columns(draw):
    """(the name of a kind, an array of it with nulls here and there)."""
    kind = draw(st.sampled_from(sorted(VALUES)))
    cells = st.none() | VALUES[kind] if draw(st.booleans()) else VALUES[kind]
    values = draw(st.lists(cells, min_size=SIZE, max_size=SIZE))
    if kind == 'category':
        return kind, pyarrow.array(values, pyarrow.string()).dictionary_encode()
    return kind, pyarrow.array(values, TYPES[kind], from_pandas=False)


def read(path):
    """Our column, or the sentence that refuses it."""
    try:
        return open_table(path).column('x', None)
    except ValueError as error:
        return str(error)


def check(found, expected):
    """Against a pandas Series."""
    missing = expected.isna().to_numpy()
    np.testing.assert_array_equal(found.missing, missing)
    known, ours = expected[~missing].tolist(), found.values[~missing].tolist()
    if found.kind == 'number':
        np.testing.assert_allclose(ours, [float(value) for value in known], rtol=1e-15)
    elif found.kind == 'date':
        days = [np.datetime64(str(value)[:10], 'D') for value in known]
        assert found.values[~missing].astype('datetime64[D]').tolist() == np.array(days).tolist()
    elif found.kind == 'boolean':
        assert ours == [bool(value) if not isinstance(value, str) else value for value in known]
    else:
        assert ours == [str(value) for value in known]


def check_refusal(sentence, name='x'):
    assert '\n' not in sentence
    assert f'{name!r}' in sentence or 'table' in sentence or 'at least one row' in sentence
    if 'where other rows are numbers' in sentence or 'lose digits' in sentence:
        assert sentence.startswith('row ')


@settings(max_examples=150)
@given(columns())
def test_parquet(tmp_path_factory, column):
    kind, array = column
    path = tmp_path_factory.getbasetemp() / 'any.parquet'
    parquet.write_table(pyarrow.table({'x': array}), path)
    found = read(path)
    if isinstance(found, str):
        check_refusal(found)
        assert kind in ('list', 'int64', 'uint64', 'float64', 'float32')
        return
    check(found, pd.read_parquet(path)['x'])


@settings(max_examples=250)
@given(columns(), st.sampled_from([',', ';', '\t']))
def test_text(tmp_path_factory, column, delimiter):
    kind, array = column
    if kind in ('list', 'nothing'):
        return
    if kind == 'category':
        array = array.dictionary_decode()
    if kind in ('decimal', 'date'):
        array = array.cast(pyarrow.string())
    path = tmp_path_factory.getbasetemp() / 'any.csv'
    options = csv.WriteOptions(delimiter=delimiter)
    csv.write_csv(pyarrow.table({'n': range(SIZE), 'x': array}), path, options)
    try:
        table = open_table(path, Format(delimiter=delimiter))
        found = table.column('x', None)
    except ValueError as error:
        check_refusal(str(error))
        return
    as_text = pd.read_csv(path, sep=delimiter, dtype=str)['x']
    if found.kind in ('text', 'date'):
        return check(found, as_text)
    expected = pd.read_csv(path, sep=delimiter)['x']
    if expected.dtype == object and found.kind == 'boolean':
        words = as_text.map(lambda v: v if not isinstance(v, str) else v.strip().lower() == 'true')
        return check(found, words)
    assert found.kind == 'boolean' or expected.dtype != object or as_text.isna().all()
    return check(found, expected)


@given(st.lists(st.sampled_from(['1', '2.5', '-3', 'x', '?', '', 'NA', '7%']), min_size=2))
def test_a_bad_cell_among_numbers_is_named_with_its_row(tmp_path_factory, cells):
    path = tmp_path_factory.getbasetemp() / 'cells.csv'
    path.write_text('n,x\n' + ''.join(f'0,{cell}\n' for cell in cells))
    numbers = [cell in ('1', '2.5', '-3') for cell in cells]
    bad = [cell not in ('', 'NA') and not known for cell, known in zip(cells, numbers, strict=True)]
    found = read(path)
    if any(numbers) and any(bad):
        row = bad.index(True)
        assert found.startswith(f"row {row + 1} of the column 'x' is {cells[row]!r}")
        return
    assert found.kind == ('text' if any(bad) else 'number')
    assert found.missing.tolist() == [cell in ('', 'NA') for cell in cells]


def test_decimals_are_numbers_to_pandas_too(tmp_path):
    values = [decimal.Decimal('1.25'), None, decimal.Decimal('-3.50')]
    parquet.write_table(pyarrow.table({'x': pyarrow.array(values)}), tmp_path / 'd.parquet')
    found = read(tmp_path / 'd.parquet')
    assert found.values.tolist() == [1.25, 0, -3.5]
    assert found.missing.tolist() == [False, True, False]
