"""Splits by groups, by the labels of a task, and in time."""

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tag_jax import data, objectives
from tag_jax.data.columns import column_of
from tag_jax.data.dealing import spread
from tag_jax.data.splitting import SPLITS, Strata, split_rows

FRACTIONS = (0.6, 0.2, 0.2)


def split(size, fractions=FRACTIONS, seed=0, groups=None, stratify=None, order=None, classes=True):
    """`split_rows` on arrays."""
    column = lambda name, array: None if array is None else column_of(name, np.asarray(array))
    labels = None if stratify is None else Strata('a', column('a', stratify), classes)
    rules = column('groups', groups), labels, column('order', order)
    return split_rows(size, fractions, seed, *rules)


def check_whole(found, size):
    """Every row is in one split."""
    assert list(found) == list(SPLITS)
    everything = np.concatenate(list(found.values()))
    np.testing.assert_array_equal(np.sort(everything), np.arange(size))


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=30, max_size=60),
    seed=st.integers(0, 2**40),
    share=st.sampled_from([0.1, 0.2, 0.3]),
)
def test_no_group_is_in_two_splits(sizes, seed, share):
    groups = np.repeat([f'p{n}' for n in range(len(sizes))], sizes)
    groups = np.random.default_rng(seed).permutation(groups)
    found = split(len(groups), (1 - 2 * share, share, share), seed, groups=groups)
    check_whole(found, len(groups))
    members = [set(groups[rows]) for rows in found.values()]
    assert sum(map(len, members)) == len(sizes)
    ends = np.cumsum([len(rows) for rows in found.values()])
    expected = np.array([1 - 2 * share, 1 - share, 1]) * len(groups)
    assert np.abs(ends - expected).max() <= max(sizes) / 2 + 1e-9


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(5, 60), min_size=2, max_size=5), seed=st.integers(0, 2**40))
def test_shares_of_classes_are_alike(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(range(len(counts)), counts))
    found = split(len(labels), seed=seed, stratify=labels)
    check_whole(found, len(labels))
    for rows in found.values():
        exact = np.array(counts) * len(rows) / len(labels)
        assert np.abs(np.bincount(labels[rows], minlength=len(counts)) - exact).max() < 2
    np.testing.assert_array_equal(
        found['test'], split(len(labels), seed=seed, stratify=labels)['test']
    )


def test_rows_without_a_label_are_spread_as_well():
    labels = np.where(np.arange(200) % 4 == 0, np.nan, np.arange(200) % 3)
    found = split(200, stratify=labels)
    check_whole(found, 200)
    assert [np.isnan(labels[rows]).sum() for rows in found.values()] == [30, 10, 10]


def test_a_regression_is_stratified_by_tenths():
    values = np.random.default_rng(0).lognormal(sigma=2, size=300)
    found = split(300, stratify=values, classes=False)
    check_whole(found, 300)
    tenth = np.argsort(np.argsort(values)) // 30
    for name, count in zip(SPLITS, (18, 6, 6), strict=True):
        np.testing.assert_array_equal(np.bincount(tenth[found[name]], minlength=10), [count] * 10)


def test_groups_with_alike_labels():
    """Fractions are met to a fold, shares of a rare class better than by groups alone."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 5)
    labels = (rng.random(80) < 0.15).astype(int)[groups]
    far = {}
    for stratify in (None, labels):
        shares = []
        for seed in range(5):
            found = split(400, seed=seed, groups=groups, stratify=stratify)
            check_whole(found, 400)
            assert not set(groups[found['train']]) & set(groups[found['test']])
            assert not set(groups[found['train']]) & set(groups[found['validation']])
            assert not set(groups[found['validation']]) & set(groups[found['test']])
            shares += [abs(labels[rows].mean() - labels.mean()) for rows in found.values()]
        far[stratify is None] = max(shares)
    assert [len(rows) for rows in found.values()] == pytest.approx([240, 80, 80], abs=20)
    assert far[False] < 0.04 < far[True]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), moments=st.integers(20, 200))
def test_the_first_rows_are_training_rows(seed, moments):
    times = np.random.default_rng(seed).integers(moments, size=150)
    found = split(150, order=times, seed=seed)
    check_whole(found, 150)
    train, validation, test = (times[rows] for rows in found.values())
    assert train.max() < validation.min() <= validation.max() < test.min()
    assert all((np.diff(part) >= 0).all() for part in (train, validation, test))
    most = np.bincount(times).max()
    assert abs(len(train) - 90) <= most / 2 + 1e-9
    np.testing.assert_array_equal(split(150, order=times, seed=seed + 1)['test'], found['test'])


@settings(max_examples=60, deadline=None)
@given(rare=st.integers(3, 6), seed=st.integers(0, 2**32), classes=st.integers(1, 2))
def test_a_class_of_three_groups_is_in_all_splits(rare, seed, classes):
    """Also one whose groups scikit-learn would put into few of them."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, size=60))
    labels = np.zeros(len(groups), int)
    for number in range(classes):
        for group in rng.choice(60, rare, replace=False):
            labels[rng.choice(np.flatnonzero(groups == group))] = number + 1
    counts = [len(np.unique(groups[labels == number])) for number in np.unique(labels)]
    if min(counts) < 3:
        return
    found = split(len(groups), seed=seed, groups=groups, stratify=labels)
    check_whole(found, len(groups))
    members = [set(groups[rows]) for rows in found.values()]
    assert sum(map(len, members)) == 60
    for rows in found.values():
        assert set(labels[rows]) == set(labels)


def test_parts_give_the_smallest_group_that_they_can_spare():
    classes = np.array([[1, 1], [1, 0], [1, 1], [1, 0]], bool)
    owners, sizes = np.array([0, 0, 0, 1]), np.array([3, 1, 2, 1])
    found, lost = spread(owners, 2, classes, sizes)
    assert (found.tolist(), lost) == ([0, 0, 1, 1], None)
    classes[0, 1] = False  # Now the first part cannot spare its only group of class 1.
    assert spread(owners, 2, classes, sizes)[1] == 1
    found, lost = spread(np.zeros(4, int), 2, np.ones((4, 1), bool), sizes)
    assert (found.tolist(), lost) == ([0, 1, 0, 0], None), 'a part that has nothing'


def test_classes_that_cannot_be_in_all_splits_together_are_refused():
    """Each class is in three of four groups, but no three parts of these have all classes."""
    groups = np.repeat(np.arange(4), 6)
    labels = np.concatenate([[0, 1, 2] * 2, [0, 1] * 3, [0, 2] * 3, [1, 2] * 3])
    with pytest.raises(ValueError, match='of .a. has 3 groups, and cannot be in all three splits'):
        split(24, groups=groups, stratify=labels)


def test_seeds_differ():
    groups, labels = np.arange(90) // 3, np.arange(90) % 2
    for rules in ({'groups': groups}, {'stratify': labels}, {'groups': groups, 'stratify': labels}):
        one, again, other = (split(90, seed=seed, **rules)['test'] for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, again)
        assert set(one) != set(other)


FEW = np.repeat([0, 1], [28, 2])
# Groups of three rows; the two rows of class 1 are of one group, or of two.
THREES = np.arange(30) // 3


@pytest.mark.parametrize(
    ('rules', 'sentence'),
    [
        ({'order': np.arange(30), 'groups': FEW}, 'order cannot be combined with groups'),
        ({'order': np.arange(30), 'stratify': FEW}, 'order cannot be combined with groups or str'),
        ({'order': np.array(['a'] * 30)}, 'order holds text, and no order in time'),
        ({'order': np.where(np.arange(30) == 3, np.nan, 1)}, 'row 4 has no place in the order'),
        ({'order': np.ones(30)}, 'split of 30 examples has none: .* every moment in order stays'),
        ({'groups': np.where(np.arange(30) == 3, np.nan, 1)}, 'row 4 has no group'),
        ({'groups': FEW}, 'split of 30 examples has none: .* every group stays in one split'),
        ({'groups': FEW, 'stratify': FEW}, 'there are 2 groups, too few for the splits'),
        ({'groups': np.ones((30, 2))}, r'groups must be \[N\], a value an example, not \[30, 2\]'),
        ({'stratify': FEW}, "the class 1 of 'a' has 2 rows, and cannot be in all three splits:"),
        ({'stratify': np.arange(30) == 7}, "the class True of 'a' has 1 row, and cannot be in all"),
        (
            {'stratify': FEW, 'groups': THREES},
            "the class 1 of 'a' has 1 group, and cannot be in all three splits: leave them out",
        ),
        (
            {
                'stratify': np.where(np.isin(np.arange(30), [0, 1, 5]), 'rare', 'x'),
                'groups': THREES,
            },
            "the class rare of 'a' has 2 groups, and cannot be in all three splits: leave them out",
        ),
        (
            {'stratify': np.arange(30) // 3},
            'has 6 rows with a label of .a., less than its 10',
        ),
        ({'stratify': np.full(30, np.nan)}, "the task 'a' has no label to stratify by"),
        ({'fractions': (1, 1, 1e-9)}, 'the test split of 30 examples has none'),
    ],
)
def test_rules_that_cannot_be_met_are_refused(rules, sentence):
    with pytest.raises(ValueError, match=sentence):
        split(30, **rules)


@pytest.fixture(scope='module')
def frame():
    rng = np.random.default_rng(0)
    patient = rng.integers(25, size=150)
    return pandas.DataFrame(
        {
            'x': rng.normal(size=150),
            'patient': [f'p{n}' for n in patient],
            'day': pandas.date_range('2020-01-01', periods=150)[rng.permutation(150)],
            'ill': np.where(rng.random(150) < 0.3, 'yes', 'no'),
            'age': rng.normal(50, 9, 150),
        }
    )


TASKS = {'ill': objectives.binary(), 'age': objectives.regression()}
RULES = [
    {'groups': 'patient'},
    {'order': 'day'},
    {'stratify': 'ill'},
    {'stratify': 'age'},
    {'groups': 'patient', 'stratify': 'ill'},
]


@pytest.mark.parametrize('rules', RULES, ids=str)
def test_arrays_data_frames_and_files_are_split_alike(frame, rules, tmp_path):
    frame.to_csv(tmp_path / 'ill.csv', index=False)
    from_file = data.table(tmp_path / 'ill.csv', list(TASKS), leave_out=['day', 'patient'], **rules)
    inputs = frame[['x', *(rules[rule] for rule in ('groups', 'order') if rule in rules)]]
    from_frame = data.from_arrays(inputs, frame, TASKS, **rules)
    arrays = {k: v if k == 'stratify' else frame[v].to_numpy() for k, v in rules.items()}
    from_array = data.from_arrays(frame[['x']].to_numpy(), frame, TASKS, **arrays)
    for name in SPLITS:
        one, two, three = (getattr(each, name) for each in (from_file, from_frame, from_array))
        np.testing.assert_array_equal(one.inputs, two.inputs)
        np.testing.assert_array_equal(one.inputs, three.inputs)
        np.testing.assert_array_equal(one.targets['age'], two.targets['age'])
    assert [one.name for one in from_frame.encoding.inputs] == ['x']


def test_a_column_that_splits_can_be_an_input_of_a_table(frame, tmp_path):
    frame.assign(day=np.arange(150)).to_csv(tmp_path / 'ill.csv', index=False)
    found = data.table(tmp_path / 'ill.csv', list(TASKS), ['x', 'day'], order='day')
    assert [one.name for one in found.encoding.inputs] == ['x', 'day']
    assert found.train.inputs[:, 1].max() < found.test.inputs[:, 1].min()


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'groups': 'ward'}, "groups names the column 'ward', which is none .*: it has x, ill"),
        ({'groups': np.zeros(3)}, 'there are 150 examples, but 3 values in groups'),
        ({'stratify': 'x'}, "stratify is no task: 'x'; choose from ill, both"),
        (
            {'stratify': 'both'},
            r"an example, and 'both' is multilabel with labels \[150, 2\]",
        ),
    ],
)
def test_rules_that_name_nothing_are_refused(frame, options, sentence):
    tasks = {'ill': objectives.binary(), 'both': objectives.multilabel(2)}
    targets = {'ill': frame['ill'], 'both': np.arange(300).reshape(150, 2) % 2}
    inputs = frame[['x', 'ill']].rename(columns={'ill': 'ill?'})
    with pytest.raises(ValueError, match=sentence.replace('x, ill', r'x, ill\?')):
        data.from_arrays(inputs, targets, tasks, **options)


def test_a_table_refuses_what_it_cannot_split_by(frame, tmp_path):
    path = tmp_path / 'ill.csv'
    frame.assign(part='train').to_csv(path, index=False)
    for options, sentence in (
        ({'split': 'part', 'groups': 'patient'}, "column 'part' says of which split a row is"),
        ({'groups': 'ward'}, "has no column 'ward' for groups: it has x"),
        ({'stratify': 'x'}, "stratify is no target: 'x'; choose from ill, age"),
    ):
        with pytest.raises(ValueError, match=sentence):
            data.table(path, list(TASKS), leave_out=['day'], **options)
    with pytest.raises(ValueError, match='no column left for inputs'):
        data.from_arrays(frame[['patient']], frame, TASKS, groups='patient')


def folds(size, count, **rules):
    """The rows of all folds, by `split_rows`."""
    column = lambda name: column_of(name, rules[name]) if name in rules else None
    strata = Strata('a', column_of('a', rules['stratify']), True) if 'stratify' in rules else None
    return [
        split_rows(size, FRACTIONS, 3, column('groups'), strata, fold=(n, count))
        for n in range(count)
    ]


@pytest.mark.parametrize('names', [(), ('groups',), ('stratify',), ('groups', 'stratify')], ids=str)
def test_each_row_is_tested_in_one_fold(names):
    """By the same rules as splits: groups stay whole, classes have alike shares."""
    rng = np.random.default_rng(1)
    given = {'groups': rng.integers(40, size=200), 'stratify': rng.integers(2, size=200)}
    rules = {name: given[name] for name in names}
    found = folds(200, 4, **rules)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([own['test'] for own in found])), np.arange(200)
    )
    for own in found:
        check_whole(own, 200)
        sizes = [len(own[name]) for name in SPLITS]
        np.testing.assert_allclose(sizes, [112.5, 37.5, 50], atol=16 if 'groups' in names else 2)
        if 'groups' in names:
            members = [set(given['groups'][rows]) for rows in own.values()]
            assert sum(map(len, members)) == 40
        if names == ('stratify',):
            shares = [given['stratify'][rows].mean() for rows in own.values()]
            np.testing.assert_allclose(shares, given['stratify'].mean(), atol=0.03)


def test_the_groups_of_test_examples_are_kept(frame, tmp_path):
    frame.to_csv(tmp_path / 'ill.csv', index=False)
    by_file = data.table(tmp_path / 'ill.csv', list(TASKS), groups='patient', leave_out=['day'])
    by_frame = data.from_arrays(frame[['x', 'patient']], frame, TASKS, groups='patient')
    groups = by_frame.test_groups
    np.testing.assert_array_equal(groups, by_file.test_groups)
    assert len(groups) == len(by_frame.test.inputs)
    patients = dict(zip(frame['x'], frame['patient'], strict=True))
    values = by_frame.encoding.inputs[0]
    rows = by_frame.test.inputs[:, 0] * values.scales[0] + values.means[0]
    of = [patients[min(patients, key=lambda x, row=row: abs(x - row))] for row in rows]
    assert len(set(zip(groups.tolist(), of, strict=True))) == len(set(of)) == groups.max() + 1
    assert data.from_arrays(frame[['x']], frame, TASKS).test_groups is None
    assert by_frame.only(['ill']).test_groups is groups


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'fold': 3}, r'fold must be \(k, K\), the k-th from 0 of K folds, .* not 3'),
        ({'fold': (5, 5)}, 'fold must be .* not \\(5, 5\\)'),
        ({'fold': (0, 1)}, 'at least two, not'),
        ({'fold': (0, 3), 'order': np.arange(150)}, 'order cannot be combined with fold'),
        ({'fold': (0, 3), 'split': ['train'] * 150}, 'leave groups, stratify, order and fold out'),
        ({'fold': (0, 70), 'stratify': 'ill'}, 'cannot be in all 70 parts|has . rows with a label'),
    ],
)
def test_folds_that_cannot_be_are_refused(frame, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.from_arrays(frame[['x']], frame, TASKS, **options)
