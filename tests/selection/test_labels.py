"""Labels of data frames decide which task is which, and not the order of their rows."""

import numpy as np
import pandas
import pytest

from tag_jax import selection

NAMES = ['d', 'b', 'a', 'c', 'e']
MATRIX = np.random.default_rng(0).normal(size=(5, 5))
FRAME = pandas.DataFrame(MATRIX, index=NAMES, columns=NAMES)


def sorted_rows(frame=FRAME):
    return frame.sort_index()


def test_rows_in_another_order_than_columns():
    plain = selection.select_groups(MATRIX, 2)
    for frame in (FRAME, sorted_rows()):
        found = selection.select_groups(frame, 2)
        assert (found.groups, found.serves) == (plain.groups, plain.serves)
        assert found.objective == plain.objective
        assert found.task_names == tuple(NAMES)
    several = selection.select_groups(sorted_rows(), [1, 2], num_solutions=2)
    assert several[1][0].groups == plain.groups
    assert several[1][1].task_names == tuple(NAMES)
    found = selection.affinity_candidates(sorted_rows())
    np.testing.assert_array_equal(found.scores, selection.affinity_candidates(MATRIX).scores)
    assert found.task_names == tuple(NAMES)


def test_numbers_for_labels():
    numbered = pandas.DataFrame(MATRIX)
    plain = selection.select_groups(MATRIX, 2)
    assert selection.select_groups(numbered, 2)[:3] == plain[:3]
    assert selection.select_groups(numbered[[2, 0, 1, 4, 3]], 2).objective == plain.objective
    assert selection.select_groups(numbered.loc[[2, 0, 1, 4, 3]], 2).objective == plain.objective


def test_a_frame_without_names_of_rows_stays_as_it_is():
    frame = pandas.DataFrame(MATRIX, columns=NAMES)
    found = selection.select_groups(frame, 2, must_link=[('d', 'e')])
    assert found.groups == selection.select_groups(MATRIX, 2, must_link=[(0, 4)]).groups
    assert found.task_names == tuple(NAMES)


def test_names_in_rules_and_in_what_is_printed():
    found = selection.select_groups(sorted_rows(), 2, must_link=[('a', 'e')])
    assert found.groups == selection.select_groups(MATRIX, 2, must_link=[(2, 4)]).groups
    lines = str(found).splitlines()
    assert lines[0] == f'objective {found.objective:g}, proven optimal'
    first = ', '.join(NAMES[task] for task in found.groups[0])
    assert lines[1].startswith(f'group 1: trains {first}; serves {NAMES[found.serves[0][0]]}')
    assert len(lines) == 1 + len(found.groups)


def test_singleton_scores_by_name():
    alone = pandas.Series(np.arange(5.0), index=NAMES)
    plain = selection.select_groups(MATRIX, 3, alone.to_numpy())
    for scores in (alone.sort_index(), alone[::-1], alone.to_dict()):
        assert selection.select_groups(FRAME, 3, scores).groups == plain.groups
    with pytest.raises(ValueError, match="the labels of singleton_scores lack 'd'"):
        selection.select_groups(FRAME, 3, alone.rename({'d': 'x'}))
    with pytest.raises(ValueError, match='and the tasks have no names: name each task once'):
        selection.select_groups(MATRIX, 3, alone.to_dict())


def test_candidates_of_frames():
    members = pandas.DataFrame([[1, 1], [0, 1]], index=['m', 'n'], columns=['a', 'b'])
    scores = pandas.DataFrame([[0.2, np.nan], [0.3, 0.1]], index=['n', 'm'], columns=['b', 'a'])
    costs = pandas.Series([2.0, 1.0], index=['n', 'm'])
    found = selection.Candidates(members, scores, costs, ('a', 'b'), ('m', 'n'))
    np.testing.assert_array_equal(found.scores, [[0.1, 0.3], [np.nan, 0.2]])
    assert found.costs.tolist() == [1, 2]
    with pytest.raises(ValueError, match="the columns of scores lack 'x'"):
        selection.Candidates(members, scores, costs, ('a', 'x'))
    weights = pandas.Series([0.0, 1.0], index=['b', 'a'])
    by_label = selection.select_networks(found, 3, task_weights=weights)
    assert by_label.objective == pytest.approx(0.1)


@pytest.mark.parametrize(
    ('affinity', 'message'),
    [
        (FRAME.rename(index={'d': 'x'}), "the rows of affinity lack 'd'"),
        (FRAME.rename(columns={'b': 'd'}), "the label 'd' stands twice"),
        (FRAME.reset_index(), r'pandas.read_csv\(file, index_col=0\)'),
        ('aff.csv', r'read_csv\(file, index_col=0\), or run tag-jax select --affinity=FILE'),
    ],
)
def test_other_labels_are_named(affinity, message):
    for function in (selection.select_groups, selection.affinity_candidates):
        with pytest.raises(ValueError, match=message):
            function(affinity, 2)
