import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from small import kinds

from tag_jax import data

ROWS = """size,colour,flag,weight,grade,kind,part
1,red,true,10,1,a,train
3,blue,false,30,2,b,train
,red,,20,,a,train
5,blue,true,,1,b,validation
7,green,false,50,2,,validation
9,red,true,70,1,a,test
"""
TARGETS = ('weight', 'grade', 'kind')


def write(tmp_path, text=ROWS, name='things.csv'):
    path = tmp_path / name
    path.write_text(text)
    return path


def read(tmp_path, text=ROWS, **options):
    return data.table(write(tmp_path, text), TARGETS, split='part', **options)


def test_a_table_by_hand(tmp_path):
    found = read(tmp_path)
    assert found.name == 'things'
    assert kinds(found.tasks) == {
        'weight': ('regression', 1),
        'grade': ('classification', 2),
        'kind': ('classification', 2),
    }
    # size: mean 2, deviation 1; colour: blue, red; flag: mean 1/2; whether size, and flag, miss.
    np.testing.assert_array_equal(
        found.train.inputs,
        [[-1, 0, 1, 1, 0, 0], [1, 1, 0, -1, 0, 0], [0, 0, 1, 0, 1, 1]],
    )
    np.testing.assert_array_equal(
        found.validation.inputs, [[3, 1, 0, 1, 0, 0], [5, 0, 0, -1, 0, 0]]
    )
    spread = np.std([10, 20, 30])
    np.testing.assert_allclose(found.train.targets['weight'], [-10 / spread, 10 / spread, 0])
    np.testing.assert_allclose(found.validation.targets['weight'][1], 30 / spread, rtol=1e-6)
    np.testing.assert_array_equal(found.train.mask['grade'], [True, True, False])
    assert 'weight' not in found.train.mask
    np.testing.assert_array_equal(found.validation.mask['weight'], [False, True])
    np.testing.assert_array_equal(found.train.targets['kind'], [0, 1, 0])
    assert found.test.mask is None
    assert found.train.inputs.dtype == np.float32
    assert found.train.targets['kind'].dtype == np.int32


def test_kinds_and_inputs_can_be_chosen(tmp_path):
    found = read(tmp_path, kinds={'grade': 'regression'}, inputs=('size',))
    assert kinds(found.tasks)['grade'] == ('regression', 1)
    assert found.train.inputs.shape == (3, 2)


def test_the_same_from_every_format(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        'x': rng.normal(size=50),
        'n': rng.integers(3, size=50),
        'y': np.where(rng.random(50) < 0.2, np.nan, rng.normal(size=50)),
    }
    lines = zip(*columns.values(), strict=True)
    cells = lambda line: ','.join('' if value != value else repr(float(value)) for value in line)
    text = '\n'.join(['x,n,y', *map(cells, lines)]) + '\n'
    parquet.write_table(pyarrow.table(columns), tmp_path / 'same.parquet')
    np.savez(tmp_path / 'same.npz', **columns)
    paths = write(tmp_path, text, 'same.csv'), tmp_path / 'same.parquet', tmp_path / 'same.npz'
    first, *others = (data.table(path, ('n', 'y')) for path in paths)
    assert kinds(first.tasks) == {'n': ('classification', 3), 'y': ('regression', 1)}
    sizes = [len(split.inputs) for split in first[2:5]]
    assert sizes == [30, 10, 10]
    for other in others:
        for left, right in zip(first[2:5], other[2:5], strict=True):
            np.testing.assert_array_equal(left.inputs, right.inputs)
            for task in first.tasks:
                np.testing.assert_array_equal(left.targets[task], right.targets[task])


def test_arrays_of_several_axes_are_inputs(tmp_path):
    np.savez(
        tmp_path / 'images.npz',
        image=np.random.default_rng(0).random((20, 4, 3)),
        y=np.arange(20) % 2,
    )
    assert data.table(tmp_path / 'images.npz', ['y']).train.inputs.shape == (12, 12)


def test_splits_are_seeded(tmp_path):
    path = write(tmp_path, 'x,y\n' + ''.join(f'{n},{n % 2}\n' for n in range(30)))
    rows = lambda seed: data.table(path, ['y'], seed=seed).train.inputs[:, 0]
    np.testing.assert_array_equal(rows(1), rows(1))
    assert not np.array_equal(rows(1), rows(2))
    assert len(data.table(path, ['y'], fractions=(8, 1, 1)).train.inputs) == 24


@pytest.mark.parametrize(
    ('change', 'options', 'message'),
    [
        (('weight', 'mass'), {}, "has no column 'weight': it has size, colour"),
        (
            ('x', 'x'),
            {'kinds': {'kind': 'regression'}},
            "'kind' is 'a', neither a number nor",
        ),
        (
            ('x', 'x'),
            {'kinds': {'size': 'regression'}},
            "kind of the input 'size' is number or text",
        ),
        (('x', 'x'), {'kinds': {'kind': 'number'}}, "kind of the target 'kind' is class"),
        (('x', 'x'), {'kinds': {'kinds': 'text'}}, "has no column 'kinds'"),
        (('x', 'x'), {'missing': {'sizes': [3]}}, "has no column 'sizes'"),
        (('x', 'x'), {'missing': '?'}, 'missing must be a list of values'),
        (('x', 'x'), {'delimiter': ';;'}, "delimiter must be one character, not ';;'"),
        (('x', 'x'), {'encoding': 'latin-17'}, "no encoding called 'latin-17'"),
        (('x', 'x'), {'inputs': ('kind',)}, "'kind' cannot be an input: it is a target"),
        ((',train', ',training'), {}, "must say train, validation, test in every row, not 'tra"),
        ((',test', ',train'), {}, 'the test split of .* has no rows'),
        (('grade', 'size'), {}, "two columns called 'size'"),
        (('10,1,a', '10,1,a,9'), {}, 'is no table: CSV parse error'),
        ((',b,', ',a,'), {}, "'kind' has one class only, 'a'"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, change, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, ROWS.replace(*change), **options)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(ValueError, match='neither .csv, .tsv, .parquet, .npz nor .arff'):
        data.table(write(tmp_path, name='things.xls'), TARGETS)
    with pytest.raises(FileNotFoundError):
        data.table(tmp_path / 'nothing.csv', TARGETS)
    with pytest.raises(ValueError, match='is named twice'):
        data.table(write(tmp_path), ('kind', 'kind'))
    with pytest.raises(ValueError, match='name the target columns'):
        data.table(write(tmp_path), ())
    (tmp_path / 'cut.npz').write_bytes(b'PK')
    with pytest.raises(ValueError, match='cut.npz is no table: it is not an .npz archive'):
        data.table(tmp_path / 'cut.npz', ['y'])
    parquet.write_table(pyarrow.table({'x': [[1, 2], [3]], 'y': [0, 1]}), tmp_path / 'list.parquet')
    with pytest.raises(
        ValueError,
        match="the column 'x' holds list<element: int64>, and neither numbers, text nor dates",
    ):
        data.table(tmp_path / 'list.parquet', ['y'])
    names = 'x,y\n' + ''.join(f'name {n},{n % 2}\n' for n in range(300))
    with pytest.raises(ValueError, match="the text in 'x' has 180 different values"):
        data.table(write(tmp_path, names), ['y'])


COSTS = np.random.default_rng(0).lognormal(size=400).round(5)


def costs(tmp_path, **columns):
    """A table of a few hundred rows: what it holds beside x, ill and cost."""
    columns = {'x': np.arange(400) / 8, 'ill': np.arange(400) % 2, 'cost': COSTS, **columns}
    lines = [
        ','.join(columns),
        *(','.join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    return write(tmp_path, '\n'.join(lines) + '\n')


def refused(path, **options):
    with pytest.raises(ValueError, match='.') as error:
        data.table(path, ['ill', 'cost'], **options)
    return str(error.value)


def test_numbers_of_which_most_are_in_one_row_are_no_classes(tmp_path):
    said = refused(costs(tmp_path), kinds={'cost': 'classification'})
    assert said == (
        f"the target 'cost' has {len(set(COSTS))} different numbers in 400 rows, "
        f'{sum((cost == COSTS).sum() == 1 for cost in COSTS)} of them in one row only, which are '
        "no classes: give it the kind regression (kinds={'cost': 'regression'}, "
        '--kinds=cost:regression)'
    )
    found = data.table(costs(tmp_path), ['ill', 'cost'], kinds={'cost': 'text'})
    assert found.tasks['cost'].width == len(set(COSTS)), 'the kind text insists'
    some = costs(tmp_path, grade=np.arange(400) // 2)
    assert (
        data.table(some, ['grade'], kinds={'grade': 'classification'}).tasks['grade'].width == 200
    )


def test_a_measure_that_a_target_cannot_have_names_the_target(tmp_path):
    said = refused(costs(tmp_path), metrics={'ill': 'roc_auc', 'cost': 'roc_auc'})
    assert said.startswith("metrics has 'cost', and a task of the kind 'regression' cannot be judg")


def test_rules_that_exclude_each_other_are_told_first(tmp_path):
    """Before columns are looked at, and whatever else is wrong."""
    path = costs(tmp_path, day=['2020-01-01'] * 400, patient=np.arange(400) // 2)
    rules = {'groups': 'patient', 'order': 'day'}
    for options in (
        {'kinds': {'day': 'number'}},
        {'kinds': {'x': 'nothing'}},
        {'inputs': ['nothing']},
        {},
    ):
        assert refused(path, **rules, **options).startswith('order cannot be combined with groups')
        assert "column 'x' says of which split" in refused(path, split='x', order='day', **options)
    said = refused(path, order='day', kinds={'day': 'number'})
    assert said == (
        "kinds has 'day', which is neither a target nor an input: it is the column of order, leave "
        'it out of kinds'
    )


def test_text_of_many_values_may_name_what_keeps_rows_together(tmp_path):
    path = costs(tmp_path, patient=[f'p{n // 2}' for n in range(400)])
    said = refused(path)
    assert "leave it out (leave_out=['patient'], --leave_out=patient)" in said
    assert "keep its rows together (groups='patient', --groups=patient)" in said
    assert 'numbers' not in said
    codes = costs(tmp_path, zip=np.arange(400) // 2 + 10000)
    said = refused(codes, kinds={'zip': 'text'})
    assert 'leave_out=zip' in said
    assert 'turn it into numbers' not in said, 'text was asked for'


def test_a_target_of_dates_names_its_mend(tmp_path):
    path = costs(tmp_path, day=[f'2020-01-{n % 28 + 1:02}' for n in range(400)])
    with pytest.raises(ValueError, match='dates: give it the kind regression .*--kinds=day:regre'):
        data.table(path, ['ill', 'day'])
    found = data.table(path, ['ill', 'day'], kinds={'day': 'regression'})
    assert found.encoding.targets['day'].means[0] > 18000


def test_an_input_is_named_once(tmp_path):
    assert 'an input column is named twice: x, x' in refused(costs(tmp_path), inputs=['x', 'x'])


def test_inputs_of_a_table_may_stay_as_they_are(tmp_path):
    found = data.table(costs(tmp_path, same=[7] * 400), ['ill', 'cost'], standardise=False)
    rows = np.random.default_rng(0).permutation(400)[:240]
    np.testing.assert_array_equal(found.train.inputs, np.column_stack([rows / 8, [7] * 240]))
