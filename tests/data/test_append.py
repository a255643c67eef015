"""Two splits of the same tasks, one behind the other."""

import jax
import numpy as np
import pytest
from small import make_split

from tag_jax import data
from tag_jax.data import Source, Split


def as_source(split, labelled=None):
    take = lambda row: jax.tree.map(lambda array: array[row], split)
    return Source(take, len(split.inputs), labelled=labelled)


def test_rows_and_masks_stand_one_behind_the_other():
    first, second = make_split(7, 0), make_split(5, 1)
    known = np.arange(5) % 2 == 0
    second = second._replace(mask={'octant': known})
    both = data.append(first, second)
    np.testing.assert_array_equal(both.inputs, [*first.inputs, *second.inputs])
    for task, target in both.targets.items():
        np.testing.assert_array_equal(target, [*first.targets[task], *second.targets[task]])
    assert set(both.mask) == {'octant'}
    np.testing.assert_array_equal(both.mask['octant'], [*np.ones(7, bool), *known])
    assert data.append(first, first).mask is None


@pytest.mark.parametrize('whole', [None, 'first', 'second'])
def test_sources_read_what_splits_hold(whole):
    first, second = make_split(7, 0), make_split(5, 1)
    expected = data.append(first, second)
    both = data.append(
        first if whole == 'first' else as_source(first),
        second if whole == 'second' else as_source(second),
    )
    assert len(both) == 12
    rows = [11, 0, 6, 7]
    found = both.read(rows)
    np.testing.assert_array_equal(found.inputs, expected.inputs[rows])
    for task, target in expected.targets.items():
        np.testing.assert_array_equal(found.targets[task], target[rows])


def test_rows_with_a_label_are_those_of_both():
    parts = [
        as_source(make_split(7, 0), lambda tasks: np.array([0, 3])),
        as_source(make_split(5, 1), lambda tasks: np.array([1])),
    ]
    assert data.append(*parts).labelled(('sign',)).tolist() == [0, 3, 8]


def test_other_tasks_or_inputs_are_refused():
    split = make_split(4, 0)
    with pytest.raises(ValueError, match='and of sign are not those of the same tasks'):
        data.append(split, split.only(['sign']))
    with pytest.raises(ValueError, match='dimensions'):
        data.append(split, Split(split.inputs[:, :1], split.targets))
