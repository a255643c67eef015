"""How many examples have labels of two tasks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import data
from tag_jax.data import Source, Split
from tag_jax.data.overlaps import describe_pairs, pairs_apart


@given(
    known=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=9)
)
def test_examples_are_counted(known):
    """By going through the examples, one after another."""
    tasks, known = ('a', 'b', 'c'), np.array(known)
    targets = {task: np.zeros(len(known)) for task in tasks}
    mask = {task: known[:, n] for n, task in enumerate(tasks)}
    pixels = np.zeros((len(known), 2, 3), bool)
    pixels[:, 1, 2] = mask['c']
    targets['c'] = np.zeros((len(known), 2, 3))
    split = Split(np.zeros((len(known), 2)), targets, mask | {'c': pixels})
    expected = np.zeros((3, 3), int)
    for row in known:
        for i in range(3):
            for j in range(3):
                expected[i, j] += row[i] and row[j]
    found = data.label_overlaps(split, tasks)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        data.label_overlaps(split, ('c', 'a')), expected[np.ix_([2, 0], [2, 0])]
    )
    rows = lambda some: np.flatnonzero(np.any([known[:, tasks.index(t)] for t in some], axis=0))
    source = Source(lambda row: row, len(known), labelled=rows)
    np.testing.assert_array_equal(data.label_overlaps(source, tasks), expected)
    apart = [(tasks[i], tasks[j]) for i in range(3) for j in range(i + 1, 3) if not expected[i, j]]
    assert pairs_apart(found, tasks) == apart


def test_tasks_without_a_mask_have_all_labels():
    split = Split(np.zeros((4, 2)), {'a': np.zeros(4), 'b': np.zeros(4)}, {'b': np.arange(4) > 2})
    assert data.label_overlaps(split, ('a', 'b')).tolist() == [[4, 1], [1, 1]]
    assert data.label_overlaps(split._replace(mask=None), ('a', 'b')).tolist() == [[4, 4], [4, 4]]


def test_a_source_that_knows_no_labels_has_no_table():
    assert data.label_overlaps(Source(lambda row: row, 3), ('a',)) is None
    assert pairs_apart(None, ('a', 'b')) == []


def test_a_few_pairs_are_named():
    pairs = [('a', str(n)) for n in range(6)]
    assert describe_pairs(pairs[:2]) == 'a and 0, a and 1'
    assert describe_pairs(pairs) == 'a and 0, a and 1, a and 2, a and 3 (and 2 more pairs)'
