"""Tables as people have them: what is missing, what is a number, what is refused with its row."""

import bz2
import datetime
import decimal
import errno
import gzip
import json
import lzma

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from small import kinds

from tag_jax import data
from tag_jax.data import encoding
from tag_jax.data.columns import Format
from tag_jax.data.opening import open_table


def rows(**columns):
    """The text of a .csv file; cells as they are."""
    lines = zip(*columns.values(), strict=True)
    return '\n'.join([','.join(columns), *(','.join(map(str, line)) for line in lines)]) + '\n'


def write(tmp_path, text, name='t.csv', encoding='utf-8'):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def write_parquet(tmp_path, **columns):
    parquet.write_table(pyarrow.table(columns), tmp_path / 't.parquet')
    return tmp_path / 't.parquet'


NUMBERS = np.random.default_rng(0).normal(size=40).round(4).tolist()
CLASSES = [n % 2 for n in range(40)]


def table(path, targets=('y',), **options):
    return data.table(path, targets, **options)


def every(found, task=None):
    """The inputs, or the labels and the mask of a task, of all rows in the order of the file."""
    splits = found[2:5]
    order = np.argsort(np.random.default_rng(0).permutation(sum(len(s.inputs) for s in splits)))
    if task is None:
        return np.concatenate([split.inputs for split in splits])[order]
    masks = [
        np.ones(len(s.inputs), bool) if not s.mask or task not in s.mask else s.mask[task]
        for s in splits
    ]
    labels = np.concatenate([split.targets[task] for split in splits])
    return labels[order], np.concatenate(masks)[order]


# What is missing.


@pytest.mark.parametrize(
    'array',
    [
        pyarrow.array(['a', None, 'b', 'z'] * 15).dictionary_encode(),
        pyarrow.chunked_array(
            [pyarrow.array(part * 10).dictionary_encode() for part in (['a', None], ['b', 'z'])]
            + [pyarrow.array(['a', None] * 10).dictionary_encode()]
        ),
        pyarrow.array(['a', None, 'b', 'z'] * 15),
        pyarrow.array(['a', None, 'b', 'z'] * 15, pyarrow.large_string()),
    ],
    ids=['dictionary', 'dictionaries', 'text', 'large'],
)
def test_missing_categories_have_a_mask_and_no_class(tmp_path, array):
    path = write_parquet(tmp_path, x=array, y=array, z=np.arange(60.0))
    found = table(path, inputs=('x',))
    assert kinds(found.tasks)['y'] == ('classification', 3)
    labels, there = every(found, 'y')
    known = array.to_pylist()
    assert there.tolist() == [value is not None for value in known]
    classes = found.encoding.targets['y'].classes
    assert [classes[n] for n in labels[there]] == [value for value in known if value is not None]
    inputs = every(found)
    assert inputs.shape == (60, 3)
    assert not inputs[~there].any()
    assert (inputs[there].sum(axis=1) == 1).all()


@pytest.mark.parametrize('word', ['', 'NA', 'n/a', 'None', 'null', 'NaN', '<NA>', '#N/A'])
def test_words_of_pandas_are_missing(tmp_path, word):
    found = table(write(tmp_path, rows(x=NUMBERS, y=[word, *NUMBERS[1:]])))
    assert kinds(found.tasks)['y'] == ('regression', 1)
    assert every(found, 'y')[1].tolist() == [False] + [True] * 39


@pytest.mark.parametrize(
    ('missing', 'cell'),
    [(['?'], '?'), ({'y': ['-']}, '-'), ({'y': [-999]}, -999), ({'y': ['-999.0']}, -999)],
)
@pytest.mark.parametrize('suffix', ['csv', 'parquet', 'npz'])
def test_values_that_are_declared_missing(tmp_path, missing, cell, suffix):
    values = [cell, *NUMBERS[1:]]
    if suffix == 'csv':
        path = write(tmp_path, rows(x=NUMBERS, y=values))
    elif isinstance(cell, str):
        pytest.skip('numbers are typed here')
    else:
        path = write_parquet(tmp_path, x=NUMBERS, y=values)
        if suffix == 'npz':
            path = tmp_path / 't.npz'
            np.savez(path, x=NUMBERS, y=values)
    found = table(path, missing=missing)
    assert kinds(found.tasks)['y'] == ('regression', 1)
    assert every(found, 'y')[1].tolist() == [False] + [True] * 39
    assert found.encoding.targets['y'].means[0] > -1


# Numbers stay numbers.


@pytest.mark.parametrize(
    ('cell', 'mend'),
    [
        ('n.d.', 'declare it missing'),
        ('?', r"missing=\{'y': \['\?'\]\}"),
        ('-', 'declare it missing'),
        ('12.5%', 'give it the kind text'),
        ('"1,234"', r"thousands=',' \(--thousands=,\) reads such numbers"),
        ('"1,5"', r"decimal=',' \(--decimal=,\) reads such numbers"),
        ('1 234', 'declare it missing'),
        ('0x1F', 'declare it missing'),
        ('1_000', 'declare it missing'),
        ('$5', 'declare it missing'),
        ('true', 'declare it missing'),
    ],
)
@pytest.mark.parametrize('column', ['x', 'y'])
def test_one_cell_that_is_no_number_is_named(tmp_path, cell, mend, column):
    columns = {'x': list(NUMBERS), 'y': list(NUMBERS)}
    columns[column][7] = cell
    sentence = rf'row 8 of the column .{column}. is .*, where other rows are numbers: .*'
    with pytest.raises(ValueError, match=sentence + mend.replace("'y'", f"'{column}'")):
        table(write(tmp_path, rows(**columns)))


def test_a_cell_that_is_no_date_is_named_with_the_format(tmp_path):
    dates = [f'2024-01-{n % 28 + 1:02}' for n in range(40)]
    dates[4] = '05/01/2024'
    path = write(tmp_path, rows(x=dates, z=NUMBERS, y=CLASSES))
    sentence = "row 5 of the column 'x' is '05/01/2024', neither a number nor a date such as 2024-"
    with pytest.raises(ValueError, match=sentence):
        table(path, kinds={'x': 'number'})
    found = table(path, kinds={'x': 'number'}, missing={'x': ['05/01/2024']})
    assert 'x: a number' in found.encoding.describe()
    with pytest.raises(ValueError, match="the column 'x' holds text: save its numbers or dates"):
        table(write_parquet(tmp_path, x=['2024-01-01'] * 40, y=CLASSES), kinds={'x': 'number'})


def test_a_class_that_looks_like_a_number_can_be_text(tmp_path):
    path = write(tmp_path, rows(x=['0', '1', '2', '3+'] * 10, y=['1', '2', '3a', '4'] * 10))
    with pytest.raises(ValueError, match="row 4 of the column 'x' is '3\\+'"):
        table(path, kinds={'y': 'text'})
    found = table(path, kinds={'x': 'text', 'y': 'text'})
    assert found.encoding.inputs[0].categories == ('0', '1', '2', '3+')
    assert found.encoding.targets['y'].classes == ('1', '2', '3a', '4')


def test_text_of_very_many_values_is_no_target(tmp_path):
    path = write(tmp_path, rows(x=NUMBERS, y=[f'name {n}' for n in range(40)]))
    with pytest.raises(ValueError, match="'y' is text of 40 different values in 40 rows"):
        table(path)
    assert table(path, kinds={'y': 'classification'}).tasks['y'].width == 40


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (pyarrow.array([decimal.Decimal(n) / 8 for n in range(40)]), np.arange(40) / 8),
        (pyarrow.array([n > 20 for n in range(40)]), np.arange(40) > 20),
        (pyarrow.array(range(40), pyarrow.uint8()), np.arange(40)),
        (pyarrow.array(np.arange(40, dtype=np.float16)), np.arange(40)),
        (pyarrow.array([2**53, *range(39)]), [2**53, *range(39)]),
    ],
    ids=['decimal', 'boolean', 'uint8', 'float16', 'the largest exact integer'],
)
def test_numbers_of_all_types_are_numbers(tmp_path, array, expected):
    found = table(write_parquet(tmp_path, x=array, y=CLASSES))
    inputs = every(found)[:, 0].astype(np.float64)
    expected = np.array(expected, np.float64)
    np.testing.assert_allclose(np.corrcoef(inputs, expected)[0, 1], 1, rtol=1e-6)
    assert inputs.shape == (40,)


def test_boolean_arrays_of_several_axes_are_numbers(tmp_path):
    np.savez(tmp_path / 't.npz', x=np.random.default_rng(0).random((40, 3)) > 0.5, y=CLASSES)
    assert table(tmp_path / 't.npz').train.inputs.shape == (24, 3)


@pytest.mark.parametrize('value', [2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_integers_that_would_lose_digits_are_refused(tmp_path, value):
    values = [3, value, *range(38)]
    np.savez(tmp_path / 't.npz', x=values, y=CLASSES)
    for path in (
        write(tmp_path, rows(x=values, y=CLASSES)),
        write_parquet(tmp_path, x=values, y=CLASSES),
        tmp_path / 't.npz',
    ):
        with pytest.raises(ValueError, match=f"row 2 of the column 'x' is {value}, an integer"):
            table(path)


@pytest.mark.parametrize('value', ['inf', '-inf', 'Infinity'])
def test_infinity_is_refused_by_name_and_not_taken_for_missing(tmp_path, value):
    values = [1.0, 2.0, float(value), *NUMBERS[3:]]
    np.savez(tmp_path / 't.npz', x=values, y=CLASSES)
    cells = [1, 2, value, *NUMBERS[3:]]
    for path in (
        write(tmp_path, rows(x=cells, y=CLASSES)),
        write_parquet(tmp_path, x=values, y=CLASSES),
        tmp_path / 't.npz',
    ):
        with pytest.raises(ValueError, match="row 3 of the column 'x' is -?inf: set it to NaN, or"):
            table(path)
        assert every(table(path, missing={'x': [value]}))[2, -1] == 1


# Constant columns.


@pytest.mark.parametrize('value', [0.1, 1e-30, 1e30, 1 / 3, 7])
def test_constant_columns_are_left_out_and_said(tmp_path, value):
    """By equality: 0.1 has a standard deviation of 1e-17 over 36 rows."""
    part = ['train'] * 36 + ['validation'] * 2 + ['test'] * 2
    x = [value] * 36 + [2 * value] * 4
    path = write(tmp_path, rows(x=x, w=NUMBERS, y=CLASSES, part=part))
    found = table(path, split='part')
    assert found.train.inputs.shape == (36, 1)
    assert 'x: a number, constant: left out' in found.encoding.describe()
    with pytest.raises(ValueError, match="the target 'x' has one value only in the training split"):
        table(path, ('x',), split='part', kinds={'x': 'regression'})
    with pytest.raises(ValueError, match='no input of .* has two different values'):
        table(path, inputs=('x',), split='part')


# Only what is used is read.


UNUSABLE = {
    'a date': (pyarrow.array([datetime.date(2020, 1, 1)] * 40), 'holds dates, which are no inputs'),
    'a time stamp': (
        pyarrow.array([datetime.datetime(2020, 1, 1)] * 40),
        'holds dates, which are no inputs',
    ),
    'a list': (pyarrow.array([[1, 2]] * 40), 'holds list<.*>, and neither numbers, text nor dates'),
    'a struct': (pyarrow.array([{'a': 1}] * 40), 'holds struct<a: int64>'),
    'bytes': (pyarrow.array([b'a'] * 40), 'holds binary'),
    'a time': (pyarrow.array([datetime.time(1)] * 40), 'holds time64'),
    'a duration': (pyarrow.array([datetime.timedelta(1)] * 40), 'holds duration'),
}


@pytest.mark.parametrize('name', UNUSABLE)
def test_columns_that_are_not_used_are_not_read(tmp_path, name):
    array, sentence = UNUSABLE[name]
    path = write_parquet(tmp_path, x=NUMBERS, other=array, y=CLASSES)
    for options in ({'inputs': ['x']}, {'leave_out': ['other']}):
        assert table(path, **options).train.inputs.shape == (24, 1)
    with pytest.raises(ValueError, match=f"the column 'other' {sentence}.*leave it out"):
        table(path)


def test_arrays_that_are_not_used_are_not_read(tmp_path):
    path = tmp_path / 't.npz'
    others = {'scalar': 3, 'short': [1, 2], 'when': np.array(['2020-01-01'] * 40, 'datetime64[D]')}
    np.savez(path, x=NUMBERS, y=CLASSES, objects=np.array([{}], object), **others)
    assert table(path, inputs=['x']).train.inputs.shape == (24, 1)
    for name, sentence in (
        ('scalar', "the column 'scalar' is a single value"),
        ('short', "columns of one length, but 'y' has 40 rows and 'short' 2"),
        ('when', "the column 'when' holds dates"),
        ('objects', "the column 'objects' of .* cannot be read"),
    ):
        with pytest.raises(ValueError, match=sentence):
            table(path, inputs=['x', name])


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_dates_become_days_on_request(tmp_path, suffix):
    days = [datetime.date(1970, 1, 2) + datetime.timedelta(n) for n in range(40)]
    if suffix == 'csv':
        path = write(tmp_path, rows(x=days, y=CLASSES))
    else:
        path = write_parquet(tmp_path, x=days, y=CLASSES)
    with pytest.raises(ValueError, match="'x' holds dates, .* kind number .* for days since 1970"):
        table(path)
    (found,) = table(path, kinds={'x': 'number'}).encoding.inputs
    assert 1 < found.means[0] < 40
    column = open_table(path).column('x', 'number')
    np.testing.assert_array_equal(column.values, np.arange(1, 41))


# Formats of text.


EUROPEAN = 'x;y;name\n' + ''.join(f'1.234,{n};{n % 2};é\n' for n in range(40))


@pytest.mark.parametrize(
    ('name', 'pack'),
    [
        ('t.csv', bytes),
        ('t.csv.gz', gzip.compress),
        ('t.csv.bz2', bz2.compress),
        ('t.csv.xz', lzma.compress),
    ],
)
def test_decimal_commas_thousands_encodings_and_compressed_files(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(EUROPEAN.encode('latin-1')))
    form = Format(delimiter=';', decimal=',', thousands='.', encoding='latin-1')
    column = open_table(path, form).column('x', None)
    np.testing.assert_allclose(column.values, [float(f'1234.{n}') for n in range(40)])
    assert set(open_table(path, form).column('name', None).values) == {'é'}
    with pytest.raises(ValueError, match='is not in the encoding utf-8: see its line 2'):
        open_table(path, form._replace(encoding='utf-8'))


def test_tabs_comments_marks_of_order_and_blank_lines(tmp_path):
    text = '# made by a machine\nx\ty\n# more\n' + ''.join(f' {n} \t{n % 2}\n\n' for n in range(40))
    path = write(tmp_path, text, 't.tsv', 'utf-8-sig')
    found = open_table(path, Format(comment='#'))
    assert found.names == ('x', 'y')
    np.testing.assert_array_equal(found.column('x', None).values, range(40))


def test_the_index_of_pandas_is_no_input(tmp_path):
    lines = ''.join(f'{n},{x},{n % 2}\n' for n, x in enumerate(NUMBERS))
    found = table(write(tmp_path, f',x,y\n{lines}'))
    assert [one.name for one in found.encoding.inputs] == ['x']
    index = write_parquet(tmp_path, x=NUMBERS, y=CLASSES, __index_level_0__=list(range(40)))
    assert [one.name for one in table(index).encoding.inputs] == ['x']


def test_damaged_files_are_named(tmp_path):
    for name in ('t.csv.gz', 't.csv.bz2', 't.csv.xz'):
        path = tmp_path / name
        path.write_bytes(b'nothing of the kind')
        with pytest.raises(ValueError, match=f'{name} is no'):
            open_table(path)
    whole = gzip.compress(EUROPEAN.encode())
    (tmp_path / 't.csv.gz').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match='t.csv.gz is no .gz file'):
        open_table(tmp_path / 't.csv.gz')


def test_archives_without_a_table_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no table .*no.parquet'):
        open_table(tmp_path / 'no.parquet')
    (tmp_path / 'bad.parquet').write_bytes(b'nothing of the kind')
    with pytest.raises(ValueError, match='bad.parquet is no table'):
        open_table(tmp_path / 'bad.parquet')
    (tmp_path / 'bad.npz').write_bytes(b'PK')
    with pytest.raises(ValueError, match='bad.npz is no table: it is not an .npz archive'):
        open_table(tmp_path / 'bad.npz')
    np.savez(tmp_path / 'empty.npz')
    parquet.write_table(pyarrow.table({'x': []}), tmp_path / 'empty.parquet')
    for name in ('empty.npz', 'empty.parquet'):
        with pytest.raises(ValueError, match=f'{name} must hold columns .* at least one row'):
            open_table(tmp_path / name)


def test_a_damaged_footer_is_named_and_an_error_of_the_disk_is_told_as_it_is(tmp_path, monkeypatch):
    path = write_parquet(tmp_path, x=NUMBERS)
    content = bytearray(path.read_bytes())
    content[-40:-8] = b'\xff' * 32
    path.write_bytes(content)
    with pytest.raises(ValueError, match='t.parquet is no table: .+'):
        open_table(path)

    def full(*arguments, **options):
        raise PermissionError(errno.EACCES, 'not allowed')

    monkeypatch.setattr(parquet, 'ParquetFile', full)
    with pytest.raises(PermissionError, match='not allowed'):
        open_table(path)


@pytest.mark.parametrize('at', [5, -1000])
def test_a_damaged_column_is_named_with_its_file(tmp_path, at):
    """By the form of its pages, or by their checksums."""
    path = tmp_path / 't.parquet'
    values = np.random.default_rng(0).normal(size=400)
    columns = pyarrow.table({'x': values})
    parquet.write_table(columns, path, use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[at : at + 9] = bytes(255 - byte for byte in content[at : at + 9])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"the column 'x' of .*t.parquet cannot be read: .+"):
        open_table(path).column('x', None)


def test_columns_of_other_kinds(tmp_path):
    """Nothing at all, words of several dictionaries, numbers as text."""
    words = [
        pyarrow.array(['a', 'b']).dictionary_encode(),
        pyarrow.array(['c']).dictionary_encode(),
    ]
    path = write_parquet(
        tmp_path,
        nothing=pyarrow.nulls(3),
        words=pyarrow.chunked_array(words),
        numbers=[1.0, 2.0, 3.0],
        halves=[1.0, 2.5, 3.0],
    )
    found = open_table(path)
    assert found.column('nothing', None).missing.all()
    assert found.column('words', None).values.tolist() == ['a', 'b', 'c']
    assert found.column('numbers', 'text').values.tolist() == ['1', '2', '3']
    assert found.column('halves', 'text').values.tolist() == ['1.0', '2.5', '3.0']
    np.savez(tmp_path / 'wide.npz', x=np.ones((3, 2)), z=np.ones(3, complex))
    wide = open_table(tmp_path / 'wide.npz')
    with pytest.raises(ValueError, match=r"the column 'x' has \(2,\) values a row, no text"):
        wide.column('x', 'text')
    with pytest.raises(ValueError, match=r"the column 'z' holds complex128 \[3\], and neither"):
        wide.column('z', None)


# What was learned of the columns.


def test_an_encoding_comes_back_from_json(tmp_path):
    values = ['', *NUMBERS[1:]]
    text = rows(x=values, c=['a', 'b'] * 20, y=NUMBERS, z=[True, False] * 20)
    found = table(write(tmp_path, text), ('y', 'z'), missing={'x': [-999]}).encoding
    text = json.dumps(encoding.to_json(found), allow_nan=False)
    again = encoding.from_json(json.loads(text))
    assert encoding.to_json(again) == encoding.to_json(found)
    assert again.form == found.form
    assert again.targets == found.targets
    assert again.targets['z'].classes == (False, True)
    file = open_table(tmp_path / 't.csv', found.form)
    columns = {name: file.column(name, None) for name in file.names}
    np.testing.assert_array_equal(
        encoding.encode_inputs(again.inputs, columns), encoding.encode_inputs(found.inputs, columns)
    )


def test_what_was_inferred_is_described(tmp_path):
    text = rows(x=['', *NUMBERS[1:]], c=['a', 'b'] * 20, y=CLASSES, z=NUMBERS)
    lines = table(write(tmp_path, text), ('y', 'z')).encoding.describe().splitlines()
    assert lines[:2] == ['x: a number, 2.5 % missing', 'c: text, 2 categories']
    assert lines[2] == 'y: classification, 2 classes: 0, 1; the rarest is 0, 20 rows'
    assert lines[3].startswith('z: regression, mean ')
    assert lines[4:] == ['rows: 24 train, 8 validation, 8 test']
