"""Files with other decimal points, thousands and delimiters end with what would read them."""

import re
import shlex

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tag_jax import data, objectives
from tag_jax.data.mends import flag
from tag_jax.data.signs import other_delimiter, other_signs, with_points
from tag_jax.launchers import group, tables

MEASURED = [36 + n / 8 for n in range(40)]
CLASSES = [n % 2 for n in range(40)]


def write(tmp_path, delimiter=',', **columns):
    lines = [delimiter.join(columns)]
    lines += [delimiter.join(map(str, line)) for line in zip(*columns.values(), strict=True)]
    path = tmp_path / 't.csv'
    path.write_text('\n'.join(lines) + '\n')
    return path


def comma(values):
    return [f'{value:.3f}'.replace('.', ',') for value in values]


def load(path, *arguments):
    """The dataset that a launcher reads by some flags."""
    flags = tables.absl_flags.FLAGS
    flags.unparse_flags()
    for name in flags:
        flags[name].unparse()
    flags([group.__name__, f'--table={path}', *arguments])
    return tables.load(flags)


def mended(path, error, *arguments):
    """The dataset with the last flag that an error names."""
    found = re.findall(r"(--\w+=(?:'[^']*'|[^\s(),;]+|,)+)", str(error))
    return load(path, *arguments, *shlex.split(found[-1]))


@pytest.mark.parametrize('column', ['x', 'y'])
@pytest.mark.parametrize('kind', [None, 'classification'])
def test_decimal_commas_are_no_text(tmp_path, column, kind):
    columns = {'x': MEASURED, 'y': MEASURED, 'z': CLASSES} | {column: comma(MEASURED)}
    path = write(tmp_path, ';', **columns)
    kinds = {'y': kind} if kind and column == 'y' else None
    with pytest.raises(ValueError, match=rf"'{column}' holds numbers .* '36,000': .*decimal=','"):
        data.table(path, ['y', 'z'], delimiter=';', kinds=kinds)
    with pytest.raises(ValueError, match='--decimal=,') as error:
        data.table(path, ['y', 'z'], delimiter=';')
    kept = mended(path, error.value, '--targets=y,z', '--delimiter=;')
    text = {'x': kept.encoding.inputs[0].kind == 'text', 'y': kept.tasks['y'].kind != 'regression'}
    assert text == {'x': column == 'x', 'y': column == 'y'}, 'the kind text insists'


def test_the_decimal_comma_that_the_error_names_reads_the_file(tmp_path):
    path = write(tmp_path, ';', x=comma(MEASURED), y=CLASSES)
    found = data.table(path, ['y'], delimiter=';', decimal=',').encoding.inputs[0]
    assert (found.kind, len(found.means)) == ('number', 1)
    assert 36 < found.means[0] < 41


def test_points_where_commas_were_asked_for(tmp_path):
    x = [f'{value:.3f}' for value in MEASURED]
    path = write(tmp_path, ';', x=x, y=CLASSES)
    with pytest.raises(ValueError, match=r"other signs, such as '36.000': .*decimal='\.'"):
        data.table(path, ['y'], delimiter=';', decimal=',')


def test_half_of_the_cells_are_not_most(tmp_path):
    cells = comma(MEASURED)
    half = write(tmp_path, ';', x=[*cells[:20], *['none'] * 20], y=CLASSES)
    assert data.table(half, ['y'], delimiter=';').encoding.inputs[0].kind == 'text'
    most = write(tmp_path, ';', x=[*cells[:21], *['none'] * 19], y=CLASSES)
    with pytest.raises(ValueError, match="decimal=','"):
        data.table(most, ['y'], delimiter=';')


@pytest.mark.parametrize(
    ('cell', 'ways'),
    [
        ('36,6', ["decimal=',' (--decimal=,)"]),
        ('1,234', ["thousands=',' (--thousands=,)", "decimal=',' (--decimal=,)"]),
        ('1,234.5', ["thousands=',' (--thousands=,)"]),
        ('1.234,5', ["decimal=',' (--decimal=,) with thousands='.' (--thousands=.)"]),
        ('1 234', ["thousands=' ' (--thousands=' ')"]),
        *((cell, []) for cell in ('1,2,3', '12.03.2020', '10:30', '3+', '1,5 mg', 'A1,5', 'b', '')),
    ],
)
def test_which_signs_would_read_a_cell(cell, ways):
    assert other_signs([cell]) == (ways, cell if ways else '')


@settings(max_examples=50, deadline=None)
@given(
    numbers=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=20),
    decimal=st.sampled_from([',', '.']),
    thousands=st.sampled_from([None, ',', '.', ' ', "'"]),
)
def test_what_is_named_reads_all_numbers(numbers, decimal, thousands):
    """However a number is written, the signs that are named give it back."""
    import pyarrow

    if thousands == decimal or (decimal, thousands) == ('.', None):
        return
    plain = [f'{number / 100:,.2f}' for number in numbers]
    signs = {',': thousands or '', '.': decimal}
    cells = [''.join(signs.get(letter, letter) for letter in text) for text in plain]
    ways, _ = other_signs(cells)
    if not ways:  # They are read as they are.
        assert [float(cell) for cell in cells] == [number / 100 for number in numbers]
        return
    named = dict(re.findall(r"(decimal|thousands)=[\"'](.)[\"'] ", ways[0]))
    read = with_points(
        pyarrow.array(cells), named.get('decimal', '.'), named.get('thousands')
    ).to_pylist()
    assert [float(cell) for cell in read] == [number / 100 for number in numbers]


def test_text_of_many_values_says_that_it_is_numbers():
    frame = pandas.DataFrame({'x': comma(np.arange(300) / 7), 'y': np.arange(300) % 2})
    frame['name'] = [f'name {n}' for n in range(300)]
    tasks = {'y': objectives.binary()}
    with pytest.raises(
        ValueError, match=r'180 different .*: turn it into numbers, .* such as .0,0'
    ):
        data.from_arrays(frame[['x']], frame, tasks)
    with pytest.raises(ValueError, match='180 different .*: leave it out, or give it as groups='):
        data.from_arrays(frame[['name']], frame, tasks)


@pytest.mark.parametrize(
    ('delimiter', 'said'), [(';', "delimiter=';' (--delimiter=';')"), ('\t', '--delimiter=tab')]
)
@pytest.mark.parametrize('cell', ['36.6', '36,6'])
def test_another_delimiter_is_named(tmp_path, delimiter, said, cell):
    """Whether cells hold commas, so that rows are of unlike length, or not."""
    path = write(tmp_path, delimiter, x=MEASURED, a=[cell] * 40, y=CLASSES, z=MEASURED)
    with pytest.raises(ValueError, match='its header has .* between names') as error:
        data.table(path, ['y'])
    assert said in str(error.value)
    if cell == '36.6':
        assert list(mended(path, error.value, '--targets=y,z').tasks) == ['y', 'z']


def test_commas_where_semicolons_were_asked_for(tmp_path):
    path = write(tmp_path, x=MEASURED, y=CLASSES)
    with pytest.raises(ValueError, match="has one column only: its header has ',' between names"):
        data.table(path, ['y'], delimiter=';')


def test_a_line_of_excel_is_no_header(tmp_path):
    path = write(tmp_path, ';', x=MEASURED, y=CLASSES)
    path.write_bytes(b'sep=;\r\n' + path.read_bytes())
    with pytest.raises(ValueError, match='begins with a line that Excel writes') as error:
        data.table(path, ['y'])
    assert "comment='sep=' (--comment=sep=), and give delimiter=';' (--delim" in str(error.value)
    found = data.table(path, ['y'], comment='sep=', delimiter=';')
    assert [one.name for one in found.encoding.inputs] == ['x']


def test_a_delimiter_within_names_is_none():
    assert other_delimiter(['size; mm', 'y'], ',') == ''
    assert other_delimiter(['size', 'y'], ',') == ''
    assert other_delimiter(['x'], ',') == ''


@pytest.mark.parametrize('name', ['plain', 'Blutdruck größe', 'a,b', 'it\'s "so"', 'a:b'])
def test_flags_that_errors_name_can_be_typed(name, tmp_path):
    frame = pandas.DataFrame({'x': MEASURED, name: ['2020-01-01', '2020-01-02'] * 20, 'y': CLASSES})
    frame['z'] = MEASURED
    frame.to_csv(tmp_path / 't.csv', index=False)
    typed = [shlex.split(flag('leave_out', name)), shlex.split(flag('kinds', f'{name}:number'))]
    with pytest.raises(ValueError, match='holds dates') as error:
        data.table(tmp_path / 't.csv', ['y', 'z'])
    for argument in typed:
        found = load(tmp_path / 't.csv', '--targets=y,z', *argument)
        assert [one.name for one in found.encoding.inputs] == (
            ['x'] if 'leave_out' in argument[0] else ['x', name]
        )
    assert flag('leave_out', name) in str(error.value)
    assert flag('kinds', f'{name}:number') in str(error.value)
