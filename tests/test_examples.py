import dataclasses

import jax
import numpy as np
import pytest
from small import TASKS, make_split

from tag_jax import evaluation, examples, grouping, training
from tag_jax.data import Source, Split
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig

CONFIG = TrainingConfig(
    steps=8, batch_size=32, learning_rate=1e-2, eval_every=4, affinity=Measurement(every=2), slots=2
)


def read_from(split):
    """The same examples, read one by one."""

    def decode(row):
        one = lambda arrays: {task: array[row] for task, array in arrays.items()}
        return Split(split.inputs[row], one(split.targets), split.mask and one(split.mask))

    def labelled(tasks):
        return np.flatnonzero(np.any([split.mask[task] for task in tasks], axis=0))

    return Source(decode, len(split.inputs), labelled=labelled if split.mask else None)


@pytest.fixture(scope='module')
def splits():
    return [make_split(size, seed, labelled=0.7) for seed, size in enumerate((300, 130))]


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def assert_close(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), first, second)


@pytest.mark.parametrize(
    ('where', 'window'),
    [pytest.param('train', examples.MAX_WINDOW_BYTES, marks=pytest.mark.sweep), ('validation', 1)],
)
def test_networks_are_the_same_from_memory_and_from_a_source(
    problem, splits, where, window, monkeypatch
):
    """Affinities as well: bitwise in windows of all steps, but for rounding in those of one."""
    monkeypatch.setattr(examples, 'MAX_WINDOW_BYTES', window)
    tasks = tuple(TASKS)
    plans = [
        NetworkPlan('a', tasks, 0, 1e-2, True),
        NetworkPlan('b', tasks[:2], 1, 1e-2, True),
        NetworkPlan('c', tasks[1:], 0, 1e-2, True),
    ]
    config = CONFIG.measuring(split=where)
    held = training.train_networks(problem, *splits, plans, config)
    read = training.train_networks(problem, *map(read_from, splits), plans, config)
    for one, other in zip(held, read, strict=True):
        assert_alike = assert_same if window > 1 else assert_close
        assert_alike(one.params, other.params)
        assert_alike(one.affinities.history, other.affinities.history)
        assert one.validation.keys() == other.validation.keys()
        for task, scores in one.validation.items():
            # The variance of regression comes from sums, where a split is not in memory.
            assert other.validation[task] == pytest.approx(scores, rel=1e-4)


@pytest.mark.sweep
def test_convolutions_take_single_steps_from_a_source(convolutional_problem, splits):
    plans = [NetworkPlan('a', tuple(TASKS), 0, 1e-2)]
    config = dataclasses.replace(CONFIG, slots=None)
    held, read = (
        training.train_networks(convolutional_problem, *found, plans, config)
        for found in (splits, map(read_from, splits))
    )
    assert_same(held[0].params, read[0].params)
    start, _ = convolutional_problem.init(jax.random.split(jax.random.key(0))[0])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start, read[0].params)
    assert all(jax.tree.leaves(moved))


def test_what_is_shared_is_read_once():
    rows = np.arange(24).reshape(2, 3, 4)
    rows[:, 2] = rows[:, 0]
    needed, places = examples._distinct(rows)
    assert len(needed) == 16
    np.testing.assert_array_equal(needed[places], rows)
    needed, places = examples._distinct(np.array([5, 3, 3]))
    np.testing.assert_array_equal(needed[places], [5, 3, 3])


def test_windows_divide_the_steps(problem, splits, monkeypatch):
    found = examples.examples(problem, read_from(splits[0]))
    example = examples.as_batch(problem, found.source.example())
    size = sum(x.nbytes for x in jax.tree.leaves(example))
    for most, steps in ((0, 1), (5, 5), (9, 5), (10, 10), (99, 10)):
        monkeypatch.setattr(examples, 'MAX_WINDOW_BYTES', most * 7 * size)
        assert examples.steps_of_windows(found, 10, 7) == steps
    assert examples.steps_of_windows(examples.examples(problem, splits[0]), 10, 7) == 10


@pytest.mark.sweep  # Its short form: networks are the same from a source.
def test_the_main_job_on_examples_that_are_read(problem, dataset, tmp_path):
    read = dataset._replace(
        train=read_from(dataset.train),
        validation=read_from(dataset.validation),
        test=read_from(dataset.test),
    )
    result = grouping.group_tasks(problem, read, 2, grouping.tag(), CONFIG, tmp_path / 'run')
    held = grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG)
    assert result.groups == held.groups
    assert result.test_error == pytest.approx(held.test_error, rel=1e-4)
    again = grouping.group_tasks(
        problem, read, 2, grouping.tag(), CONFIG, tmp_path / 'run', resume=True
    )
    assert again.test_error == result.test_error
    other = read._replace(train=examples.first(read.train, 100))
    with pytest.raises(ValueError, match='train_data'):
        grouping.group_tasks(
            problem, other, 2, grouping.tag(), CONFIG, tmp_path / 'run', resume=True
        )


def test_a_source_is_looked_at_before_training(problem, splits):
    source = read_from(splits[0])
    evaluation.check_split(problem, source, 'train')
    with pytest.raises(ValueError, match='the train split has no examples'):
        evaluation.check_split(problem, dataclasses.replace(source, size=0), 'train')
    with pytest.raises(ValueError, match="no targets for the task 'radius'"):
        evaluation.check_split(problem, source.only(['sign', 'octant']), 'train')
    shapes = examples.input_shapes(source)
    assert (shapes.shape, shapes.dtype) == ((300, 3), np.float32)
    assert len(examples.first(source, 10)) == examples.count(examples.first(splits[0], 10)) == 10
