"""Datasets from arrays, and the way back from answers."""

import re

import numpy as np
import pandas
import pytest

from tag_jax import data, objectives
from tag_jax.data import encode_rows, encoding
from tag_jax.grouping.answers import answers, probabilities

NAMES = np.array(['ash', 'beech', 'cedar'])


def rows(size=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(3, 5, (size, 4)), rng


def make(inputs, targets, **options):
    tasks = {
        'tree': objectives.classification(3),
        'height': objectives.regression(),
        'place': objectives.regression(2),
    }
    return data.from_arrays(inputs, targets, tasks, **options)


@pytest.fixture(scope='module')
def forest():
    inputs, rng = rows()
    targets = {
        'tree': NAMES[rng.integers(3, size=60)],
        'height': np.where(rng.random(60) < 0.2, np.nan, rng.normal(20, 7, 60)),
        'place': rng.normal([10, -4], [1, 100], (60, 2)),
    }
    return inputs, targets, make(inputs, targets)


def test_inputs_and_labels_are_standardised_by_the_training_rows(forest):
    inputs, targets, dataset = forest
    assert [len(split.inputs) for split in dataset[2:5]] == [36, 12, 12]
    np.testing.assert_allclose(dataset.train.inputs.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train.inputs.std(axis=0), 1, rtol=1e-6)
    everything = np.concatenate([split.inputs for split in dataset[2:5]])
    order = np.random.default_rng(0).permutation(60)
    scaled = (inputs - inputs[order[:36]].mean(axis=0)) / inputs[order[:36]].std(axis=0)
    np.testing.assert_allclose(everything, scaled[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dataset.train.targets['place'].std(axis=0), 1, rtol=1e-6)
    known = dataset.train.mask['height']
    np.testing.assert_array_equal(known, ~np.isnan(targets['height'][order[:36]]))
    assert dataset.train.targets['height'][known].std() == pytest.approx(1, rel=1e-6)
    assert set(dataset.train.mask) == {'height'}
    np.testing.assert_array_equal(NAMES[dataset.test.targets['tree']], targets['tree'][order[48:]])
    assert dataset.example_inputs.shape == (1, 4)


def test_answers_are_in_names_and_natural_units(forest):
    """The labels of the training rows, given as outputs, come back as they were."""
    _, targets, dataset = forest
    order = np.random.default_rng(0).permutation(60)[:36]
    outputs = {
        'tree': np.eye(3)[dataset.train.targets['tree']],
        'height': dataset.train.targets['height'][:, None],
        'place': dataset.train.targets['place'],
    }
    found = answers(dataset.tasks, dataset.encoding, outputs)
    np.testing.assert_array_equal(found['tree'], targets['tree'][order])
    known = dataset.train.mask['height']
    np.testing.assert_allclose(found['height'][known], targets['height'][order][known], rtol=1e-5)
    np.testing.assert_allclose(found['place'], targets['place'][order], rtol=1e-5)
    chances = probabilities(dataset.tasks, outputs)
    assert set(chances) == {'tree'}
    np.testing.assert_allclose(chances['tree'].sum(axis=1), 1)


def test_raw_rows_go_in_as_they_were(forest):
    inputs, _, dataset = forest
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(
        encode_rows(dataset.encoding, inputs[order[:36]]), dataset.train.inputs
    )
    came_back = encoding.from_json(encoding.to_json(dataset.encoding))
    np.testing.assert_array_equal(encode_rows(came_back, inputs[order[:36]]), dataset.train.inputs)
    with pytest.raises(ValueError, match='trained on numbers'):
        encode_rows(dataset.encoding, {'inputs': inputs[:, :3]})
    with pytest.raises(ValueError, match=r'inputs must be \[N, 4\], as those .* not \[60, 3\]'):
        encode_rows(dataset.encoding, inputs[:, :3])
    with pytest.raises(ValueError, match='there are no examples to predict for'):
        encode_rows(dataset.encoding, inputs[:0])


def test_data_frames_keep_their_columns():
    values, rng = rows()
    frame = pandas.DataFrame(values[:, :2], columns=['x', 'y'])
    frame['colour'] = pandas.Categorical(rng.choice(['red', 'blue'], 60))
    frame.loc[3, 'x'] = np.nan
    frame['same'] = 1.0
    labels = pandas.DataFrame({'y2': values[:, 3], 'good': values[:, 2] > 3})
    tasks = {'y2': objectives.regression(), 'good': objectives.binary()}
    dataset = data.from_arrays(frame, labels, tasks, fractions=(1, 1, 1))
    assert dataset.train.inputs.shape == (20, 5 - ('x' not in _indicated(dataset)))
    assert 'same: a number, constant: left out' in dataset.encoding.describe()
    order = np.random.default_rng(0).permutation(60)
    again = encode_rows(dataset.encoding, frame.iloc[order[:20]])
    np.testing.assert_array_equal(again, dataset.train.inputs)
    as_columns = {name: frame[name].to_numpy()[order[:20]] for name in frame}
    np.testing.assert_array_equal(encode_rows(dataset.encoding, as_columns), dataset.train.inputs)
    found = answers(tasks, dataset.encoding, {'good': np.array([[-1.0], [1.0]])})
    assert found['good'].tolist() == [False, True]
    with pytest.raises(ValueError, match="no column 'x', which is an input"):
        encode_rows(dataset.encoding, frame[['y', 'colour', 'same']])


def _indicated(dataset):
    return [one.name for one in dataset.encoding.inputs if np.any(one.indicated)]


def test_a_file_of_new_rows(tmp_path):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            'size': rng.normal(10, 2, 50),
            'part': rng.choice(['1', '2'], 50),
            'price': rng.normal(1000, 50, 50),
            'kind': rng.choice(['x', 'y'], 50),
        }
    )
    frame.to_csv(tmp_path / 'all.csv', index=False)
    dataset = data.table(tmp_path / 'all.csv', ['price', 'kind'], kinds={'part': 'text'})
    frame[['part', 'size']].to_csv(tmp_path / 'new.csv', index=False)
    expected = encode_rows(dataset.encoding, frame)
    np.testing.assert_array_equal(encode_rows(dataset.encoding, tmp_path / 'new.csv'), expected)
    np.testing.assert_array_equal(
        encode_rows(dataset.encoding, str(tmp_path / 'new.csv')), expected
    )
    found = answers(
        dataset.tasks,
        dataset.encoding,
        {'price': np.zeros((1, 1)), 'kind': np.array([[0.0, 1.0]])},
    )
    assert 900 < found['price'][0] < 1100
    assert found['kind'].tolist() == ['y']


@pytest.mark.parametrize(
    'inputs',
    [
        np.zeros((30, 4, 4, 1), np.float32),
        np.arange(150).reshape(30, 5),
        {'tokens': np.arange(150).reshape(30, 5), 'mask': np.ones((30, 5), bool)},
        (np.zeros((30, 2)), np.ones((30, 3))),
    ],
)
def test_images_tokens_and_nested_inputs_are_left_as_they_are(inputs):
    labels = np.arange(30) % 2
    dataset = data.from_arrays(inputs, {'a': labels}, {'a': objectives.classification(2)})
    order = np.random.default_rng(0).permutation(30)[:18]
    leaves = [inputs] if isinstance(inputs, np.ndarray) else list(_leaves(inputs))
    found = dataset.train.inputs
    found = [found] if isinstance(found, np.ndarray) else list(_leaves(found))
    for mine, theirs in zip(found, leaves, strict=True):
        np.testing.assert_array_equal(mine, theirs[order])
        assert mine.dtype == theirs.dtype
    assert encode_rows(dataset.encoding, inputs) is inputs
    assert dataset.encoding.describe().startswith('inputs: as they are')
    with pytest.raises(ValueError, match='give arrays, not the file new.csv'):
        encode_rows(dataset.encoding, 'new.csv')


def _leaves(nested):
    return nested.values() if isinstance(nested, dict) else nested


@pytest.mark.parametrize(
    ('labels', 'classes'),
    [
        ([0, 1, 2], (0, 1, 2)),
        ([0, 1, 1], (0, 1, 2)),
        ([1, 2, 3], (1, 2, 3)),
        ([0.0, 2.0, 1.0], (0, 1, 2)),
        (['c', 'a', 'b'], ('a', 'b', 'c')),
        ([True, False, True], (False, True)),
        (np.array(['x', 'y', None], object), ('x', 'y')),
        ([0, 2, np.nan], (0, 1, 2)),
    ],
)
def test_classes_may_have_any_names(labels, classes):
    labels = np.resize(np.asarray(labels), 30)
    inputs = np.arange(30.0)[:, None]
    tasks = {'a': objectives.classification(len(classes))}
    dataset = data.from_arrays(inputs, {'a': labels}, tasks)
    assert dataset.encoding.targets['a'].classes == classes
    order = np.random.default_rng(0).permutation(30)[:18]
    there = np.ones(18, bool) if dataset.train.mask is None else dataset.train.mask['a']
    found = np.array(classes)[dataset.train.targets['a'][there]]
    np.testing.assert_array_equal(found, labels[order][there])


def test_minus_one_and_one_are_two_classes():
    labels = np.resize([-1, 1], 30)
    for objective in (objectives.classification(2), objectives.binary()):
        dataset = data.from_arrays(np.arange(30.0)[:, None], {'a': labels}, {'a': objective})
        assert dataset.encoding.targets['a'].classes == (-1, 1)
        assert set(dataset.train.targets['a']) == {0, 1}


@pytest.mark.parametrize(
    ('labels', 'objective', 'sentence'),
    [
        ([-1, 0, 1], objectives.classification(3), 'and not the 3 classes 0 to 2'),
        ([0, 5, 7], objectives.classification(3), 'and not the 3 classes 0 to 2'),
        ([0.5, 1.0, 2.0], objectives.classification(3), 'and not the 3 classes 0 to 2'),
        (['a', 'b', 'c', 'd'], objectives.classification(3), 'have 4 different values'),
        (['a', 'b', 'c'], objectives.classification(5), 'give objectives.classification(3), or'),
        ([True, False], objectives.classification(3), 'have 2 different values'),
        (np.array(['2020-01-01', '2020-01-02'], 'M8[D]'), objectives.regression(), 'days since'),
        (
            np.array(['2020-01-01', '2020-01-02'], 'M8[D]'),
            objectives.classification(2),
            'are dates',
        ),
        ([np.nan, np.nan], objectives.classification(2), "the task 'a' has no label"),
        (['a', 'a'], objectives.classification(3), 'of one class only in the training'),
        ([1.5, 1.5], objectives.regression(), 'one value only in the training split'),
        ([np.nan, np.nan], objectives.regression(), 'no label in the training split'),
        (['1', 'x'], objectives.regression(), 'are text, which cannot be regressed'),
        ([[1.0, 2.0]], objectives.regression(), 'must be [N], not [30, 2]'),
        ([1.0, 2.0], objectives.regression(2), 'must be [N, 2], not [30]'),
        ([[0, 1]], objectives.classification(3), 'must be [N], one class each'),
        ([[0.5, 1.0]], objectives.multilabel(2), "the labels of 'a' must be integers"),
        ([1.0, np.inf], objectives.regression(), 'is inf'),
        (['1', 'x'], objectives.tokens(3), 'must be numbers'),
    ],
)
def test_labels_that_are_none_of_the_objective_are_refused(labels, objective, sentence):
    shape = (30, *np.shape(labels)[1:])
    labels = np.resize(np.asarray(labels), shape)
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        data.from_arrays(np.arange(30.0)[:, None], {'a': labels}, {'a': objective})
    assert "'a'" in str(raised.value)


def test_missing_labels_of_pixels_tokens_and_several_labels():
    rng = np.random.default_rng(0)
    size = 20
    depth = np.where(rng.random((size, 4, 4)) < 0.5, np.nan, rng.normal(size=(size, 4, 4)))
    normal = np.where(rng.random((size, 4, 4, 1)) < 0.5, np.nan, rng.normal(size=(size, 4, 4, 3)))
    words = np.where(rng.random((size, 6)) < 0.3, np.nan, rng.integers(5, size=(size, 6)))
    tags = np.where(rng.random((size, 2)) < 0.3, np.nan, rng.integers(2, size=(size, 2)))
    targets = {'depth': depth, 'normal': normal, 'words': words, 'tags': tags}
    tasks = {
        'depth': objectives.pixel_regression(),
        'normal': objectives.pixel_regression(3),
        'words': objectives.tokens(5),
        'tags': objectives.multilabel(2),
    }
    dataset = data.from_arrays(np.zeros((size, 8, 8, 1)), targets, tasks)
    order = np.random.default_rng(0).permutation(size)[:12]
    for task, shape in {'depth': (12, 4, 4), 'normal': (12, 4, 4), 'words': (12, 6)}.items():
        assert dataset.train.mask[task].shape == shape
    known = ~np.isnan(targets['words'][order])
    np.testing.assert_array_equal(dataset.train.mask['words'], known)
    np.testing.assert_array_equal(
        dataset.train.targets['words'][known], targets['words'][order][known]
    )
    assert dataset.train.targets['words'].dtype.kind == 'i'
    np.testing.assert_array_equal(dataset.train.mask['tags'], ~np.isnan(tags[order]))
    np.testing.assert_array_equal(dataset.train.mask['normal'], ~np.isnan(normal[order][..., 0]))
    for split in dataset[2:5]:
        assert not any(np.isnan(target).any() for target in split.targets.values())


@pytest.mark.parametrize(
    ('inputs', 'changes', 'sentence'),
    [
        (np.arange(30.0), {}, r'give inputs\[:, None\]'),
        (np.full((30, 2), 'x'), {}, 'give text as columns of a DataFrame'),
        (np.zeros((30, 2)), {}, 'no input has two different values'),
        (np.arange(60.0).reshape(30, 2), {'fractions': (1, 0, 1)}, 'three positive numbers'),
        (np.arange(60.0).reshape(30, 2), {'fractions': (1, 1)}, 'three positive numbers'),
        (np.arange(60.0).reshape(30, 2), {'fractions': 0.2}, 'three positive numbers'),
        (np.arange(60.0).reshape(30, 2), {'fractions': (1, 1, 1e-9)}, 'the test split of 30'),
        (np.arange(58.0).reshape(29, 2), {}, r"29 examples, but targets \[30\] for 'a'"),
        ((np.zeros((30, 2)), np.zeros((29, 2))), {}, 'arrays of one length'),
        (np.arange(60.0).reshape(30, 2), {'tasks': {'b': objectives.regression()}}, "task 'b'"),
        (np.arange(60.0).reshape(30, 2), {'tasks': {'a': 'regression'}}, 'must be an objective'),
    ],
)
def test_arrays_that_are_no_dataset_are_refused(inputs, changes, sentence):
    options = {'tasks': {'a': objectives.classification(2)}} | changes
    with pytest.raises(ValueError, match=sentence):
        data.from_arrays(inputs, {'a': np.resize([0, 1], 30)}, **options)


def test_what_arrays_hide_is_found():
    """NaN in a list of text, a label among the inputs, values behind a mask of NumPy."""
    inputs = np.arange(60.0).reshape(30, 2)
    labels = ['yes', 'no', float('nan')] * 10
    dataset = data.from_arrays(inputs, {'a': labels}, {'a': objectives.binary()})
    assert dataset.encoding.targets['a'].classes == ('no', 'yes')
    assert not all(dataset.train.mask['a'])
    frame = pandas.DataFrame({'x': np.arange(30.0), 'y': np.arange(30.0) ** 2})
    with pytest.raises(ValueError, match="the column 'y' is a task and an input"):
        data.from_arrays(frame, frame, {'y': objectives.regression()})
    hidden = np.ma.masked_equal(np.arange(30.0), 3)
    with pytest.raises(ValueError, match=r"labels of 'y' are a masked array: .*filled\(np.nan\)"):
        data.from_arrays(inputs, {'y': hidden}, {'y': objectives.regression()})
    with pytest.raises(ValueError, match='inputs are a masked array'):
        data.from_arrays(np.ma.masked_equal(inputs, 3), {'a': labels}, {'a': objectives.binary()})


@pytest.mark.parametrize('inputs', [[[1, 2], [3], [4]], {'tokens': [[1, 2], [3], [4]]}])
def test_rows_of_unlike_length_are_refused(inputs):
    with pytest.raises(ValueError, match='inputs have rows of unlike shape: fill them up to one'):
        data.from_arrays(inputs, {'a': [0, 1, 0]}, {'a': objectives.classification(2)})


def test_raw_numbers_go_in_where_they_are_not_standardised():
    """A number that never differs as well; what is missing is the mean, and is said."""
    inputs, rng = rows()
    inputs[:, 1] = 7
    order = np.random.default_rng(0).permutation(60)
    inputs[order[0], 2] = np.nan
    labels = {'height': rng.normal(20, 7, 60)}
    tasks = {'height': objectives.regression()}
    found = data.from_arrays(inputs, labels, tasks, standardise=False)
    everything = np.empty((60, 5))
    everything[order] = np.concatenate([split.inputs for split in found[2:5]])
    filled = np.where(np.isnan(inputs), np.nanmean(inputs[order[:36]], axis=0), inputs)
    np.testing.assert_allclose(everything[:, :4], filled, rtol=1e-6)
    np.testing.assert_array_equal(everything[:, 4], np.arange(60) == order[0])
    np.testing.assert_allclose(found.train.targets['height'].std(), 1, rtol=1e-6)

    again = encoding.from_json(encoding.to_json(found.encoding))
    new = np.array([[1, 2, np.nan, 4], [5, 6, 7, np.nan]])
    seen = encode_rows(again, new)
    means = found.encoding.inputs[0].means
    expected = [[1, 2, means[2], 4, 1], [5, 6, 7, means[3], 0]]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert found.encoding.describe().startswith('inputs: 4 numbers a row as they are, 0.42 % mi')
    with pytest.raises(ValueError, match='no input has two different values'):
        data.from_arrays(np.ones((60, 2)), labels, tasks, standardise=False)


def test_columns_of_a_data_frame_that_are_not_standardised():
    frame = pandas.DataFrame({'x': np.arange(60) / 8, 'same': 3.5, 'word': ['a', 'b'] * 30})
    labels = {'height': np.arange(60.0)}
    tasks = {'height': objectives.regression()}
    found = data.from_arrays(frame, labels, tasks, standardise=False)
    order = np.random.default_rng(0).permutation(60)
    expected = np.column_stack([np.arange(60) / 8, [3.5] * 60, [1, 0] * 30, [0, 1] * 30])
    np.testing.assert_array_equal(found.train.inputs, expected[order[:36]])
    lines = found.encoding.describe().splitlines()
    assert lines[:3] == [
        'x: a number as it is',
        'same: a number as it is',
        'word: text, 2 categories',
    ]


def test_a_date_among_the_columns_of_a_data_frame_names_no_argument_of_files():
    frame = pandas.DataFrame({'day': pandas.date_range('2020-01-01', periods=60), 'x': range(60)})
    with pytest.raises(ValueError, match='holds dates, which are no inputs: leave it out, or turn'):
        data.from_arrays(frame, {'y': np.arange(60.0)}, {'y': objectives.regression()})


def test_dates_in_new_rows_name_their_column_and_the_mend():
    frame = pandas.DataFrame({'day': np.arange(60.0) ** 1.5, 'word': ['a', 'b'] * 30})
    tasks = {'y': objectives.regression()}
    found = data.from_arrays(frame, {'y': np.arange(60.0)}, tasks).encoding
    days = pandas.Series(pandas.date_range('2020-01-01', periods=60))
    with pytest.raises(ValueError, match=r"column 'day' holds dates, .*\(frame\['day'\] - pandas"):
        encode_rows(found, frame.assign(day=days))
    with pytest.raises(ValueError, match="'word' holds dates, .* trained on text: give text"):
        encode_rows(found, frame.assign(word=days))
    mended = (days - pandas.Timestamp(0)) / pandas.Timedelta(days=1)
    assert mended[0] == 18262
    assert encode_rows(found, frame.assign(day=mended)).shape == (60, 3)


def test_several_labels_have_the_names_of_their_columns():
    tags = pandas.DataFrame({'sunny': [0, 1] * 15, 'windy': [1, 1, 0] * 10})
    targets = {'weather': tags, 'plain': tags.to_numpy()}
    tasks = dict.fromkeys(targets, objectives.multilabel(2))
    found = data.from_arrays(np.arange(30.0)[:, None], targets, tasks).encoding
    assert found.targets['weather'].names == ('sunny', 'windy')
    assert found.targets['plain'].names == ()
    assert 'weather: multilabel, 2 labels: sunny, windy, as they are' in found.describe()
    assert encoding.from_json(encoding.to_json(found)).targets == found.targets


def test_targets_that_are_there_are_named_where_one_is_not():
    with pytest.raises(ValueError, match="for the task 'y': those that are given are x, z"):
        data.from_arrays(np.ones((9, 2)), {'x': [], 'z': []}, {'y': objectives.regression()})
