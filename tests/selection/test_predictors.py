import numpy as np
import pytest
from brute_force import all_groups, group_gains

from tag_jax import selection

NAN = np.nan


def test_all_groups_small_ones_first():
    found = [tuple(np.flatnonzero(row).tolist()) for row in selection.all_groups(4)]
    assert found == all_groups(4)
    assert len(selection.all_groups(5, min_size=3)) == 16
    with pytest.raises(ValueError, match='21 tasks have 2.21 groups, too many to list'):
        selection.all_groups(21)


def pairs():
    """Three tasks: two single networks, all pairs, and one network of three."""
    return selection.Candidates(
        [[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]],
        [[9, NAN, NAN], [NAN, 8, NAN], [1, 2, NAN], [3, NAN, 4], [NAN, 5, 6], [7, 7, 7]],
        [0.5, 0.5, 1, 1, 1, 1],
        ('a', 'b', 'c'),
    )


def test_higher_orders_are_means_over_pairs():
    predicted = selection.higher_order_approximation(pairs())
    assert len(predicted) == 6
    np.testing.assert_array_equal(predicted.scores[:5], pairs().scores[:5])
    np.testing.assert_allclose(predicted.scores[5], [2, 3.5, 5])
    assert predicted.costs[5] == 1
    assert predicted.network_names[5] == 'a + b + c (predicted)'


def test_groups_by_name():
    by_name = selection.higher_order_approximation(pairs(), groups=[('c', 'a', 1)])
    by_index = selection.higher_order_approximation(pairs())
    np.testing.assert_array_equal(by_name.scores, by_index.scores)
    names = ('x', 'y', 'z')
    found = selection.affinity_candidates(np.ones((3, 3)), task_names=names, groups=[('z', 'x')])
    assert found.members.tolist() == [[True, False, True]]
    found = selection.additive_model(pairs(), groups=[('c', 'b')])
    assert found.members.tolist() == [[False, True, True]]
    with pytest.raises(ValueError, match="a group names 'd', which is not among a, b, c"):
        selection.higher_order_approximation(pairs(), groups=[('a', 'b', 'd')])
    with pytest.raises(ValueError, match="a set of tasks, not the text 'abc'"):
        selection.higher_order_approximation(pairs(), groups=['abc'])


def test_only_the_groups_that_are_asked_for():
    assert len(selection.higher_order_approximation(pairs(), groups=[])) == 5
    assert len(selection.higher_order_approximation(pairs(), groups=[(0, 1, 2)])) == 6


@pytest.mark.parametrize(
    ('networks', 'message'),
    [
        ([0, 1, 2, 3], "no network of 'b' and 'c' alone"),
        ([0, 1, 5], 'there is no network of two tasks to predict'),
    ],
)
def test_missing_pairs_are_named(networks, message):
    with pytest.raises(ValueError, match=message):
        selection.higher_order_approximation(pairs().take(networks))


def test_pairs_of_two_costs_are_refused():
    with pytest.raises(ValueError, match='networks of two tasks cost 1 and 2'):
        selection.higher_order_approximation(pairs().replace(costs=[1, 1, 1, 1, 2, 1]))


@pytest.mark.parametrize('alone', [False, True])
def test_affinity_candidates_give_the_groups_of_select_groups(alone):
    rng = np.random.default_rng(0)
    for budget in (1, 2, 3):
        affinity = rng.normal(size=(5, 5))
        scores = rng.normal(size=5) if alone else None
        candidates = selection.affinity_candidates(affinity, singleton_scores=scores)
        groups = all_groups(5, min_size=1 if alone else 2)
        expected = group_gains(affinity, groups, scores)
        np.testing.assert_allclose(candidates.scores, np.where(np.isinf(expected), NAN, expected))
        from_networks = selection.select_networks(candidates, budget, maximize=True)
        by_groups = selection.select_groups(affinity, budget, scores)
        assert from_networks.objective == pytest.approx(by_groups.objective)
    with pytest.raises(ValueError, match='square matrix'):
        selection.affinity_candidates(np.zeros((2, 3)))


def test_bad_groups_and_affinities_are_named():
    for groups in ([(0, 1)], [(0, 1, 3)], [(0, 1, -1)], [('a', 'b', 'b')]):
        with pytest.raises(ValueError, match='a group is 3 or more different tasks'):
            selection.higher_order_approximation(pairs(), groups=groups)
    with pytest.raises(ValueError, match='there is no network of one or two tasks'):
        selection.higher_order_approximation(pairs().take([5]))
    with pytest.raises(ValueError, match=r'affinity\[0, 1\] is nan'):
        selection.affinity_candidates([[0, NAN], [1, 0]])
    with pytest.raises(ValueError, match='2 tasks need 2 singleton scores'):
        selection.affinity_candidates(np.zeros((2, 2)), singleton_scores=[1])
    with pytest.raises(ValueError, match='there is no group of two tasks'):
        selection.affinity_candidates([[0.0]])
