"""Datasets of other libraries as sources of examples."""

import grain
import jax
import numpy as np
import pytest
from small import make_problem, make_split

from tag_jax import data, training
from tag_jax.data import Split
from tag_jax.training import NetworkPlan, TrainingConfig

POINTS = make_split(30)
# A row a record, in 64 bits and Python numbers, as other libraries have them.
RECORDS = [
    {
        'point': point.astype(np.float64),
        **{task: target[n].item() for task, target in POINTS.targets.items()},
    }
    for n, point in enumerate(POINTS.inputs)
]


def example(record):
    return Split(record['point'], {task: record[task] for task in POINTS.targets})


def assert_is_points(found):
    jax.tree.map(np.testing.assert_array_equal, found, POINTS)
    jax.tree.map(lambda one, other: np.testing.assert_equal(one.dtype, other.dtype), found, POINTS)


def test_a_grain_dataset_is_a_source():
    source = data.from_records(grain.MapDataset.source(RECORDS), example)
    assert len(source) == 30
    assert_is_points(source.in_memory())
    rows = np.random.default_rng(0).integers(30, size=(5, 4))
    for batch, own in zip(source.batches(rows), rows, strict=True):
        np.testing.assert_array_equal(batch.inputs, POINTS.inputs[own])


@pytest.mark.sweep
def test_a_network_trains_on_a_grain_dataset_as_on_arrays():
    """Bit for bit: the same batches in the same order."""
    records = grain.MapDataset.source(range(30)).map(lambda n: RECORDS[n])
    config, plan = (
        TrainingConfig(steps=6, batch_size=8, eval_every=3),
        NetworkPlan('one', tuple(POINTS.targets), 0, 1e-2),
    )
    found, expected = (
        training.train_networks(make_problem(), split, POINTS, [plan], config)[0].params
        for split in (data.from_records(records, example), POINTS)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_several_records_are_asked_for_at_once():
    asked = []

    class Columns:
        """As Hugging Face and TensorFlow Datasets have it."""

        def __len__(self):
            return 30

        def __getitem__(self, row):
            raise AssertionError('one by one')

        def __getitems__(self, rows):
            asked.append(list(rows))
            return [RECORDS[row] for row in rows]

    source = data.from_records(Columns(), example)
    np.testing.assert_array_equal(source.read([4, 2, 4]).inputs, POINTS.inputs[[4, 2, 4]])
    assert asked == [[4, 2, 4]]


def test_what_is_labelled_is_handed_on():
    known = lambda tasks: np.array([1, 2])
    assert data.from_records(RECORDS, example, known).labelled(['sign']).tolist() == [1, 2]


def test_masks_and_nested_inputs_stay_as_they_are():
    nested = lambda record: Split(
        {'point': record['point'], 'pair': (record['sign'], [1.5, 2.5])},
        {'radius': record['radius'], 'sign': 0},
        {'radius': record['sign'] == 1},
    )
    found = data.from_records(RECORDS, nested).in_memory()
    np.testing.assert_array_equal(found.inputs['pair'][0], POINTS.targets['sign'])
    assert found.inputs['pair'][1].shape == (30, 2)
    np.testing.assert_array_equal(found.mask['radius'], POINTS.targets['sign'] == 1)
    assert found.mask['radius'].dtype == bool


def test_a_stream_is_read_into_memory():
    assert_is_points(data.from_stream(iter(RECORDS), example))
    endless = grain.MapDataset.source(RECORDS).repeat().to_iter_dataset()
    assert_is_points(data.from_stream(endless, example, most=30))


def test_a_torch_dataset_is_a_source():
    torch = pytest.importorskip('torch')
    tensors = [torch.from_numpy(part) for part in (POINTS.inputs, POINTS.targets['sign'])]
    pairs = torch.utils.data.TensorDataset(*tensors)
    first = torch.utils.data.Subset(pairs, range(10, 30))
    found = data.from_records(first, lambda pair: Split(pair[0], {'sign': pair[1]})).in_memory()
    np.testing.assert_array_equal(found.inputs, POINTS.inputs[10:])
    np.testing.assert_array_equal(found.targets['sign'], POINTS.targets['sign'][10:])

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(pairs)

    with pytest.raises(ValueError, match='Stream has no length.* data.from_stream'):
        data.from_records(Stream(), example)
    read = data.from_stream(Stream(), lambda pair: Split(pair[0], {'sign': pair[1]}))
    np.testing.assert_array_equal(read.inputs, POINTS.inputs)


def test_a_tensorflow_dataset_is_read():
    tensorflow = pytest.importorskip('tensorflow')
    columns = {'point': POINTS.inputs, **POINTS.targets}
    stream = tensorflow.data.Dataset.from_tensor_slices(columns)
    assert_is_points(data.from_stream(stream, example))
    with pytest.raises(ValueError, match=r'data\.from_stream'):
        data.from_records(stream, example)


class Counted:
    """A length without records by number."""

    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ('records', 'message'),
    [
        (iter(RECORDS), 'list_iterator has no length.* read it into memory with data.from_stream'),
        (Counted(), 'Counted does not give records by number: read it into memory with data.from'),
        (grain.MapDataset.source(RECORDS).repeat(), 'has no end: leave repeat'),
        ({'train': RECORDS}, 'dict is asked by names: give one of its parts'),
        ([], 'list has no record'),
    ],
)
def test_what_is_no_source_is_refused(records, message):
    with pytest.raises(ValueError, match=message):
        data.from_records(records, example)


def test_records_that_are_no_examples_are_named():
    sparse = grain.MapDataset.source(RECORDS).filter(lambda record: record['sign'] == 1)
    dropped = int(np.flatnonzero(POINTS.targets['sign'] == 0)[0])
    with pytest.raises(ValueError, match=f'the record {dropped} is None: leave filters out'):
        data.from_records(sparse, example).in_memory()
    sentence = r'must give a data.Split\(inputs, {task: target}\) of one record, not dict'
    for read in (
        lambda: data.from_records(RECORDS, dict)[0],
        lambda: data.from_stream(RECORDS, dict),
    ):
        with pytest.raises(ValueError, match=sentence):
            read()
    for stream, message in ((iter(()), 'tuple_iterator has no example'), (3, 'int cannot be gone')):
        with pytest.raises(ValueError, match=message):
            data.from_stream(stream, example)
