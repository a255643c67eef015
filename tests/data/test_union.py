"""A split for each task, joined; and networks that draw from rows of their tasks alone."""

import collections
import dataclasses

import jax
import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import data, evaluation, examples, training
from tag_jax.data import Source, Split
from tag_jax.training import NetworkPlan, TrainingConfig, batch_rows

SIZES = {'sign': 30, 'octant': 50, 'radius': 20}


def parts():
    return {
        task: make_split(size, seed).only([task]) for seed, (task, size) in enumerate(SIZES.items())
    }


def as_source(split):
    targets = {task: np.asarray(target) for task, target in split.targets.items()}
    take = lambda row: Split(*jax.tree.map(lambda array: array[row], (split.inputs, targets)))
    return Source(take, len(next(iter(targets.values()))))


def test_every_example_has_the_labels_that_it_has():
    given = parts()
    joined = data.union(given)
    assert len(joined.inputs) == 100
    start = 0
    for task, size in SIZES.items():
        rows = slice(start, start + size)
        np.testing.assert_array_equal(joined.inputs[rows], given[task].inputs)
        np.testing.assert_array_equal(joined.targets[task][rows], given[task].targets[task])
        np.testing.assert_array_equal(
            np.flatnonzero(joined.mask[task]), np.arange(start, start + size)
        )
        start += size


def test_labels_that_are_missing_stay_missing():
    given = parts()
    known = np.arange(30) % 3 > 0
    given['sign'] = given['sign']._replace(mask={'sign': known})
    joined = data.union(given)
    np.testing.assert_array_equal(joined.mask['sign'][:30], known)
    assert not joined.mask['sign'][30:].any()


def test_sources_are_joined_as_splits_are():
    given = parts()
    whole = data.union(given)
    mixed = data.union({**given, 'octant': as_source(given['octant'])})
    assert len(mixed) == 100
    read = mixed.in_memory()
    np.testing.assert_array_equal(read.inputs, whole.inputs)
    for task in SIZES:
        np.testing.assert_array_equal(read.targets[task], whole.targets[task])
        np.testing.assert_array_equal(read.mask[task], whole.mask[task])
    np.testing.assert_array_equal(mixed.labelled(['sign', 'radius']), [*range(30), *range(80, 100)])


def with_pixels(size, seed):
    """Examples whose labels are images, a third of them missing."""
    rng = np.random.default_rng(seed)
    known = rng.random((size, 2, 2)) < 0.7
    known[0] = False
    depth = rng.normal(size=(size, 2, 2)).astype(np.float32)
    return Split(rng.normal(size=(size, 3)).astype(np.float32), {'depth': depth}, {'depth': known})


def test_masks_of_unlike_shape_are_joined():
    """Of images that are read and of images in memory, beside labels that are never missing."""
    pixels, signs = with_pixels(6, 0), make_split(4, 1).only(['sign'])
    whole = data.union({'sign': signs, 'depth': pixels})
    row = lambda n: Split(
        pixels.inputs[n], {'depth': pixels.targets['depth'][n]}, {'depth': pixels.mask['depth'][n]}
    )
    for parts_read in (
        {'sign': as_source(signs), 'depth': pixels},
        {'sign': signs, 'depth': Source(row, 6)},
    ):
        read = data.union(parts_read).in_memory()
        np.testing.assert_array_equal(read.inputs, whole.inputs)
        for task in ('sign', 'depth'):
            np.testing.assert_array_equal(read.targets[task], whole.targets[task])
            np.testing.assert_array_equal(read.mask[task], whole.mask[task])
    assert whole.mask['depth'].shape == (10, 2, 2)
    mixed = data.union({'sign': as_source(signs), 'depth': pixels})
    assert mixed.labelled(['depth']).tolist() == [5, 6, 7, 8, 9], 'row 4 has no label of any pixel'
    changing = Source(lambda n: row(n)._replace(mask=None) if n == 3 else row(n), 6)
    with pytest.raises(ValueError, match=r"'depth' is \[\] an example in row 7, and \[2, 2\]"):
        data.union({'sign': signs, 'depth': changing}).in_memory()


def test_weights_of_labels_are_kept():
    """Beside labels without weights, in memory and read."""
    given, weights = parts(), np.linspace(0, 2, 30)
    given['sign'] = given['sign']._replace(mask={'sign': weights})
    whole = data.union(given)
    read = data.union({**given, 'octant': as_source(given['octant'])})
    for found in (whole, read.in_memory()):
        np.testing.assert_array_equal(found.mask['sign'], np.r_[weights, np.zeros(70)])
        assert found.mask['octant'].dtype == bool
    assert read.labelled(['sign']).tolist() == list(range(1, 30)), 'a weight of 0 is no label'


def test_what_parts_know_of_their_labels_is_kept():
    given = parts()
    known = dataclasses.replace(as_source(given['octant']), labelled=lambda tasks: np.array([7, 3]))
    joined = data.union({**given, 'octant': known})
    assert joined.labelled(['octant']).tolist() == [33, 37]
    assert len(joined.labelled(['sign', 'octant'])) == 32


def test_nested_inputs_are_joined():
    tokens = lambda size, seed: {
        'tokens': np.random.default_rng(seed).integers(9, size=(size, 4)),
        'known': np.ones((size, 4), bool),
    }
    given = {
        'a': Split(tokens(3, 0), {'a': np.arange(3)}),
        'b': Split(tokens(2, 1), {'b': np.arange(2.0)}),
    }
    joined = data.union(given)
    assert joined.inputs['tokens'].shape == (5, 4)
    given['b'] = Split(
        {'tokens': np.zeros((2, 5), int), 'known': np.ones((2, 4), bool)}, {'b': [0, 1]}
    )
    with pytest.raises(
        ValueError, match=r"inputs of 'b' are int64 \[5\] an example, and those of .a. int64 \[4\]"
    ):
        data.union(given)
    given['b'] = Split(np.zeros((2, 4)), {'b': [0, 1]})
    for one in (given, {task: as_source(part) for task, part in given.items()}):
        with pytest.raises(ValueError, match="the inputs of 'b' are not those of 'a': let all"):
            data.union(one)


def test_inputs_in_tuples_are_joined():
    """Named ones too; as arrays and as they are read."""
    pair = lambda n, kind: kind(np.arange(3.0 * n).reshape(n, 3), np.arange(n))
    for kind in (collections.namedtuple('Pair', 'left right'), lambda *both: both):
        given = {
            'a': Split(pair(3, kind), {'a': np.arange(3)}),
            'b': Split(pair(2, kind), {'b': np.arange(2.0)}),
        }
        read = data.union({'a': as_source(given['a']), 'b': given['b']}).in_memory()
        for joined in (data.union(given), read):
            assert type(joined.inputs) is type(given['a'].inputs)
            left, right = joined.inputs
            assert left.shape == (5, 3)
            assert right.tolist() == [0, 1, 2, 0, 1]
        first = data.Dataset('pairs', {}, *[data.union(given)] * 3).example_inputs
        assert type(first) is type(given['a'].inputs)
        assert [part.shape for part in first] == [(1, 3), (1,)]


def test_inputs_of_unlike_numbers_are_refused():
    """Tokens and features of one shape, in memory or read."""
    given = {
        'a': Split(np.zeros((3, 4), int), {'a': np.arange(3)}),
        'b': Split(np.zeros((2, 4), np.float32), {'b': np.arange(2)}),
    }
    sentence = r"inputs of 'b' are float32 \[4\] an example, and those of 'a' int64 \[4\]"
    for one in (given, {task: as_source(part) for task, part in given.items()}):
        with pytest.raises(ValueError, match=sentence):
            data.union(one)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({}, 'at least one task'),
        ([make_split(3)], 'a dict {task: Split or Source}'),
        ({'sign': np.zeros(3)}, "the part of 'sign' must be a data.Split or a data.Source, not nd"),
        ({'depth': make_split(3)}, "the part of 'depth' has no targets of that name: it has sign"),
    ],
)
def test_what_cannot_be_joined_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        data.union(given)


def drawn_rows(split, tasks, config):
    """The rows that a network for some tasks draws."""
    problem = make_problem()
    found = examples.examples(problem, split)
    rows = examples.labelled_rows(found, tasks)
    batch = min(config.batch_size, found.size)
    return np.array([batch_rows(0, n, batch, found.size, rows) for n in range(config.steps)])


@pytest.mark.parametrize('kind', ['split', 'source'])
@pytest.mark.parametrize('tasks', [('radius',), ('sign', 'radius'), ('octant',)])
def test_no_work_is_done_on_rows_of_other_tasks(kind, tasks):
    joined = data.union(parts())
    if kind == 'source':
        joined = data.union({task: as_source(split) for task, split in parts().items()})
    own = np.any([data.union(parts()).mask[task] for task in tasks], axis=0)
    rows = drawn_rows(joined, tasks, TrainingConfig(steps=30, batch_size=25))
    assert rows.shape == (30, 25)
    assert own[rows].all()
    times = np.bincount(rows.ravel(), minlength=100)[own]
    assert times.min() > 0
    assert times.max() <= 2 * times.min() + 2, 'every row as often as any other'


def test_all_rows_are_drawn_as_before_where_all_have_labels():
    """Whatever the masks say, if they hide nothing."""
    split = make_split(64)
    config = TrainingConfig(steps=5, batch_size=16)
    masked = split._replace(mask={task: np.ones(64, bool) for task in TASKS})
    plain = np.array([batch_rows(0, n, 16, 64) for n in range(5)])
    for one in (split, masked):
        np.testing.assert_array_equal(drawn_rows(one, tuple(TASKS), config), plain)


@pytest.mark.sweep
def test_a_network_for_a_small_task_learns_as_much_as_by_itself():
    """The same network, trained on the union and on the examples of the task alone."""
    problem, given, config = (
        make_problem(),
        parts(),
        TrainingConfig(steps=60, batch_size=10, eval_every=20),
    )
    joined = data.union(given)
    validation = make_split(100, 9)
    plan = NetworkPlan('one', ('radius',), 0, 1e-2)
    (found,) = training.train_networks(problem, joined, validation, [plan], config)
    alone = dataclasses.replace(config)
    only = make_split(20, 2)
    (expected,) = training.train_networks(problem, only, validation, [plan], alone)
    scores = [
        evaluation.evaluate(problem, one.params, one.model_state, validation, 50)['radius']['error']
        for one in (found, expected)
    ]
    # Other batches, as the rows have other numbers; the same examples.
    assert scores[0] == pytest.approx(scores[1], rel=0.35)
