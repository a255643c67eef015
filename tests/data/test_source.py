import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from tag_jax import data, objectives
from tag_jax.data import Dataset, Source, Split

ROWS = np.random.default_rng(0).integers(20, size=(7, 4))


def decode(row):
    """An image, a class, and a map that every third example lacks in a corner."""
    image = np.full((2, 3, 1), row, np.float32)
    corner = np.ones((2, 3), bool)
    corner[0, 0] = False
    return Split(
        image,
        {'class': np.int32(row % 5), 'map': image[..., 0] / 2},
        {'map': corner} if row % 3 == 0 else None,
    )


@pytest.fixture
def source():
    return Source(decode, 20)


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.inputs, expected.inputs)
    assert found.targets.keys() == expected.targets.keys()
    for task, target in expected.targets.items():
        np.testing.assert_array_equal(found.targets[task], target)
        assert found.targets[task].dtype == target.dtype
    assert (found.mask is None) == (expected.mask is None)
    for task, mask in (expected.mask or {}).items():
        np.testing.assert_array_equal(found.mask[task], mask)


def test_examples_by_row(source):
    assert len(source) == 20
    assert_equal(source[7], decode(7))
    assert_equal(source.example(), decode(0))
    assert [example.targets['class'] for example in source] == [n % 5 for n in range(20)]
    for row in (-1, 20):
        with pytest.raises(IndexError, match=f'no example {row}: the source has 20'):
            source[row]
    with pytest.raises(TypeError):
        source[:3]


def test_rows_are_read_in_the_order_asked_for(source):
    found = source.read([5, 3, 5])
    np.testing.assert_array_equal(found.inputs[:, 0, 0, 0], [5, 3, 5])
    np.testing.assert_array_equal(found.targets['class'], [0, 3, 0])
    np.testing.assert_array_equal(found.targets['map'][1], np.full((2, 3), 1.5))
    assert found.targets['class'].dtype == np.int32
    assert found.mask.keys() == {'map'}
    np.testing.assert_array_equal(found.mask['map'][:, 0, 0], [True, False, True])
    assert found.mask['map'][:, 1].all()
    assert source.read([1, 2]).mask is None
    with pytest.raises(ValueError, match='no rows to read'):
        source.read([])


def test_examples_of_one_batch_have_one_shape():
    grows = Source(lambda row: Split(np.zeros(row), {'a': np.int32(0)}), 3)
    with pytest.raises(
        ValueError, match=r'inputs of row 2 has shape \[2\], and that of row 1 \[1\]'
    ):
        grows.read([1, 2])


class Tokens(NamedTuple):
    ids: np.ndarray
    mask: np.ndarray


@pytest.mark.parametrize(
    'make',
    [
        lambda row: {'ids': np.arange(3) + row, 'mask': np.arange(3) < row},
        lambda row: (np.arange(3) + row, {'mask': np.arange(3) < row}),
        lambda row: [np.float32(row), np.arange(3)],
        lambda row: Tokens(np.arange(3) + row, np.arange(3) < row),
        lambda row: np.float32(row),
    ],
    ids=['dict', 'nested', 'list', 'named', 'number'],
)
def test_inputs_may_be_nested(make):
    nested = Source(lambda row: Split(make(row), {'a': np.int32(row)}), 5)
    found, expected = nested.read([4, 1]).inputs, [make(4), make(1)]
    assert jax.tree.structure(found) == jax.tree.structure(expected[0])
    jax.tree.map(
        lambda stacked, *parts: np.testing.assert_array_equal(stacked, np.stack(parts)),
        found,
        *expected,
    )
    jax.tree.map(np.testing.assert_array_equal, nested[4].inputs, make(4))


NUMBER = np.float32(1)


@pytest.mark.parametrize(
    ('second', 'sentence'),
    [
        (
            Split(NUMBER, {'a': None}),
            "the target of 'a' of row 1 is None: give any value, behind a",
        ),
        (Split(None, {'a': NUMBER}), 'the inputs of row 1 is None'),
        (Split(NUMBER, {}), 'the example of row 1 has targets , and that of row 0 a'),
        (Split(NUMBER, {'a': NUMBER, 'b': NUMBER}), 'row 1 has targets a, b, and that of row 0 a'),
        (
            Split(NUMBER, {'a': np.ones(2)}),
            r"target of 'a' of row 1 has shape \[2\], and that of row",
        ),
        (
            (NUMBER, {'a': NUMBER}),
            r'row 1 must be a Split\(inputs, targets, mask\), targets a dict',
        ),
        (Split(NUMBER, NUMBER), r'row 1 must be a Split\(inputs, targets, mask\), targets a dict'),
        (Split({'x': NUMBER}, {'a': NUMBER}), 'the inputs of row 1'),
        (Split((NUMBER, NUMBER), {'a': NUMBER}), 'the inputs of row 1'),
    ],
)
def test_examples_that_do_not_go_together_are_named(second, sentence):
    examples = [Split(NUMBER, {'a': NUMBER}), second]
    with pytest.raises(ValueError, match=sentence):
        Source(examples.__getitem__, 2).read([0, 1])


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_batches_are_what_read_gives(source, workers):
    found = list(source.batches(ROWS, workers))
    assert len(found) == len(ROWS)
    for batch, rows in zip(found, ROWS, strict=True):
        assert_equal(batch, source.read(rows))


def test_resuming_is_starting_at_another_batch(source):
    resumed = source.batches(ROWS[3:], 2)
    for batch, expected in zip(resumed, list(source.batches(ROWS))[3:], strict=True):
        assert_equal(batch, expected)


def test_batches_may_differ_in_length_and_be_made_when_needed(source):
    class Rows:
        def __len__(self):
            return 10**9

        def __getitem__(self, n):
            return [n % 20] * (1 + n % 3)

    batches = source.batches(Rows())
    for n in range(5):
        np.testing.assert_array_equal(next(batches).inputs[:, 0, 0, 0], [n] * (1 + n % 3))


def test_errors_of_decoding_are_raised_in_order():
    def broken(row):
        if row == 2:
            raise ValueError('image 2 is cut off')
        return decode(row)

    batches = Source(broken, 5).batches([[0], [1], [2], [3]])
    assert [next(batches).inputs[0, 0, 0, 0] for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match='image 2 is cut off'):
        next(batches)


def test_in_memory(source):
    assert_equal(source.in_memory(), source.read(range(20)))


def test_some_tasks_of_a_dataset_of_sources(source):
    tasks = {'class': objectives.classification(5), 'map': objectives.pixel_regression()}
    dataset = Dataset('numbers', tasks, source, source.in_memory(), source).only(['class'])
    assert list(dataset.tasks) == list(dataset.train[0].targets) == ['class']
    assert list(dataset.validation.targets) == ['class']
    assert not dataset.train[0].mask
    assert not dataset.validation.mask
    assert len(dataset.test) == 20


def test_what_is_slow_to_import_is_imported_when_needed():
    code = (
        'import sys, tag_jax.data;'
        'assert not {"grain", "PIL", "tensorflow_datasets"} & set(sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
    assert data.Source is Source


def test_what_is_left_for_many_examples_is_done_for_one_as_well():
    """Labels of all tasks in one array, and images in bytes, until a batch is read."""

    def decode(row):
        return Split(np.full((2, 2), row, np.uint8), {'both': np.array([row, -row])})

    def finish(split):
        first, second = split.targets['both'].T
        return Split(split.inputs / 255, {'a': first, 'b': second})

    source = Source(decode, 5, finish=finish)
    found = source.read([3, 1])
    np.testing.assert_array_equal(found.inputs[:, 0, 0], np.array([3, 1]) / 255)
    np.testing.assert_array_equal(found.targets['b'], [-3, -1])
    one = source[3]
    assert one.inputs.shape == (2, 2)
    assert (one.targets['a'], one.targets['b'], one.mask) == (3, -3, None)
    assert set(source.only(['b']).read([0]).targets) == set(source.only(['b'])[0].targets) == {'b'}
    (batch,) = source.batches([[4, 0]])
    np.testing.assert_array_equal(batch.targets['a'], [4, 0])
    with pytest.raises(IndexError, match='there is no example 5'):
        source.read([5])


def test_records_of_a_batch_are_fetched_at_once():
    asked = []

    def fetch(rows):
        asked.append(rows)
        return [f'record {row}' for row in rows]

    def decode(record):
        return Split(np.float32(record.removeprefix('record ')), {'a': np.int32(len(record))})

    source = Source(decode, 5, fetch)
    np.testing.assert_array_equal(source.read(np.array([3, 1, 3])).inputs, [3, 1, 3])
    assert asked == [[3, 1, 3]]
    assert source[4].inputs == source.only(['a'])[4].inputs == 4
    with pytest.raises(IndexError, match='there is no example 5'):
        source.read([0, 5])
    with pytest.raises(ValueError, match='no rows to read'):
        source.read([])
    assert asked == [[3, 1, 3], [4], [4]], 'only what exists is fetched'
    few = Source(decode, 5, lambda rows: fetch(sorted(set(rows))))
    with pytest.raises(ValueError, match='fetch gives 2 records for 3 rows'):
        few.read([3, 1, 3])


def test_the_example_that_shows_shapes_is_decoded_once():
    decoded = []
    source = Source(lambda row: decoded.append(row) or decode(row), 20)
    assert_equal(source.example(), decode(0))
    assert_equal(source.example(), decode(0))
    assert decoded == [0]
