"""The lines about columns and rows."""

import re

import numpy as np
import pandas
import pytest

from tag_jax import data, objectives
from tag_jax.data.columns import column_of
from tag_jax.data.describing import identifier_values

SIZE = 1200


@pytest.fixture(scope='module')
def frame():
    rng = np.random.default_rng(0)
    gaps = lambda values, count: np.where(np.arange(SIZE) < count, None, values)
    frame = pandas.DataFrame(
        {
            'age': gaps(rng.normal(50, 9, SIZE).round(1), 60),
            'ward': gaps(rng.choice(['a', 'b'], SIZE), 120),
            'empty': [None] * SIZE,
            'patient': [f'p{n}' for n in rng.integers(300, size=SIZE)],
            'day': pandas.date_range('2020-01-01', periods=SIZE).strftime('%Y-%m-%d'),
            'part': ['train'] * 1000 + ['validation'] * 120 + ['test'] * 80,
            'trust': rng.random(SIZE).round(3),
            'grade': gaps(np.where(np.arange(SIZE) % 40 == 1, 'high', 'low'), 360),
            'score': gaps(rng.normal(size=SIZE).round(4), 3),
        }
    )
    # Rows of all labels are in all splits of rows that are in order.
    shuffled = frame.drop(columns=['part', 'day']).sample(frac=1, random_state=0)
    return shuffled.reset_index(drop=True).assign(day=frame['day'], part=frame['part'])


RULES = ('day', 'patient', 'part', 'trust')
PLAIN = [
    'age: a number, 5 % missing',
    'ward: text, 2 categories, 10 % missing',
    'empty: a number, constant: left out, all missing',
    'grade: classification, 2 classes: high, low; the rarest is high, 21 rows, 30 % missing',
]


def lines(path, **options):
    return data.table(path, ['grade', 'score'], leave_out=RULES, **options).encoding.describe()


def test_what_is_missing_and_rare(frame, tmp_path):
    path = tmp_path / 't.csv'
    frame.to_csv(path, index=False)
    found = lines(path).splitlines()
    assert found[:4] == PLAIN
    assert found[4].startswith('score: regression, mean ')
    assert found[4].endswith(', 0.25 % missing')
    assert found[5:] == ['rows: 720 train, 240 validation, 240 test']


@pytest.mark.parametrize(
    ('rules', 'expected'),
    [
        ({'groups': 'patient'}, r'patient: keeps rows together, \d+ groups'),
        ({'stratify': 'grade'}, 'grade: has alike labels in all splits'),
        ({'order': 'day'}, 'day: orders the rows, of which the first ones train'),
        ({'split': 'part'}, 'part: says of which split a row is'),
        ({'weights': 'trust'}, 'trust: weighs the losses of training rows'),
    ],
    ids=str,
)
def test_which_column_splits_and_weighs(frame, tmp_path, rules, expected):
    path = tmp_path / 't.csv'
    frame.to_csv(path, index=False)
    told = data.table(path, ['grade', 'score'], leave_out=RULES, **rules)
    *_, rule, rows = told.encoding.describe().splitlines()
    assert re.fullmatch(expected, rule)
    sizes = [len(split.inputs) for split in told[2:5]]
    assert rows == 'rows: {:,} train, {:,} validation, {:,} test'.format(*sizes)
    if 'groups' in rules:
        assert f' {frame["patient"].nunique()} groups' in rule
    tasks = {'grade': objectives.classification(2), 'score': objectives.regression()}
    inputs = frame.assign(day=pandas.to_datetime(frame['day']))
    inputs = inputs[['age', 'ward', *(set(rules.values()) - {'grade'})]]
    by_frame = data.from_arrays(inputs, frame, tasks, **rules).encoding.describe().splitlines()
    assert by_frame[-2:] == [rule, rows]
    assert by_frame[:2] == PLAIN[:2]


def test_rules_that_are_arrays_are_called_after_their_argument(frame):
    tasks = {'score': objectives.regression()}
    found = data.from_arrays(
        frame[['age']], frame, tasks, groups=frame['patient'].to_numpy()
    ).encoding.describe()
    assert f'groups: keeps rows together, {frame["patient"].nunique()} groups' in found


def column(values):
    return column_of('x', np.asarray(values))


RNG = np.random.default_rng(1)


@pytest.mark.parametrize(
    ('name', 'values', 'identifies'),
    [
        ('row', np.arange(500), True),
        ('row', RNG.permutation(500) + 7, True),
        ('number', RNG.choice(900_000, 500, replace=False) + 100_000, True),
        ('patient_id', np.repeat(np.arange(100), 5), True),
        ('ID', np.repeat(np.arange(100), 5), True),
        ('PatientID', np.repeat(np.arange(100), 5), True),
        ('patientId', np.repeat(np.arange(100), 5), True),
        # What is none.
        ('patient', np.repeat(np.arange(100), 5), False),
        ('ward_id', np.arange(500) % 8, False),
        ('covid', np.repeat(np.arange(100), 5), False),
        ('paid', np.repeat(np.arange(100), 5), False),
        ('MADRID', np.repeat(np.arange(100), 5), False),
        ('age', RNG.integers(18, 95, 500), False),
        ('income', RNG.lognormal(10, 1, 500).round(), False),
        ('cells', RNG.lognormal(12, 2, 500).round(), False),
        ('weight', RNG.normal(70, 9, 500), False),
        ('patient_id', RNG.normal(70, 9, 500), False),
        ('change', RNG.choice(2_000_000, 500, replace=False) - 1_000_000, False),
        ('few', np.arange(30), False),
        ('pair', RNG.integers(500, size=(500, 2)), False),
        ('flag_id', np.arange(500) % 2 == 0, False),
    ],
)
def test_what_looks_like_an_identifier(name, values, identifies):
    different = len(np.unique(values)) if identifies else 0
    assert identifier_values(name, column(values)) == different


def test_an_identifier_is_said_and_may_be_insisted_on(tmp_path):
    frame = pandas.DataFrame({'patient_id': np.repeat(np.arange(1430), 2)})
    frame['x'] = np.random.default_rng(0).normal(size=2860)
    frame['y'] = np.arange(2860) % 2
    frame.to_csv(tmp_path / 't.csv', index=False)
    read = lambda **options: data.table(tmp_path / 't.csv', ['y'], **options).encoding
    line = 'patient_id: a number, 1,430 different values (an identifier? '
    assert line + ('--leave_out=patient_id or --groups=patient_id)') in read().describe(flags=True)
    assert line + "leave_out=['patient_id'] or groups='patient_id')" in read().describe()
    assert 'identifier' not in read(kinds={'patient_id': 'number'}).describe()
    assert 'identifier' not in read(groups='patient_id').describe()
    both = read(groups='x', inputs=['patient_id', 'x']).describe(flags=True)
    assert '(an identifier? --leave_out=patient_id)' in both, 'other groups are given already'
