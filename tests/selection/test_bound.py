import numpy as np
import pytest
from brute_force import all_groups, group_gains

from tag_jax import selection
from tag_jax.selection.bound import closed, largest_price, upper_bound
from tag_jax.selection.group_scores import GroupScores, members_of_groups
from tag_jax.selection.rules import rules_of
from tag_jax.selection.search import search


def random_problem(rng):
    """Affinities, singleton scores, rules as keywords, or None if no group keeps them."""
    size = int(rng.integers(3, 8))
    affinity = rng.normal(size=(size, size))
    if rng.random() < 0.3:
        affinity = np.round(affinity)
    rules = {}
    if rng.random() < 0.4:
        rules['min_size'] = int(rng.integers(1, 4))
    if rng.random() < 0.4:
        rules['max_size'] = int(rng.integers(rules.get('min_size', 2), size + 1))
    if rng.random() < 0.4 and rules.get('max_size', size) > 1:
        rules['must_link'] = [rng.choice(size, 2, replace=False).tolist()]
    if rng.random() < 0.4:
        rules['cannot_link'] = [rng.choice(size, 2, replace=False).tolist()]
    singles = rng.choice(affinity.ravel(), size) if rng.random() < 0.5 else None
    if rules.get('must_link') and rules.get('must_link') == rules.get('cannot_link'):
        return None
    return affinity, singles, rules


def problems(count, seed):
    rng = np.random.default_rng(seed)
    while count:
        found = random_problem(rng)
        if found and sorted(found[2].get('must_link', [[0]])[0]) != sorted(
            found[2].get('cannot_link', [[1]])[0]
        ):
            count -= 1
            yield rng, *found


def scores_of(affinity, singles, rules):
    size = len(affinity)
    names = [f'task {n}' for n in range(size)]
    alone = np.full(size, -np.inf) if singles is None else singles
    return GroupScores(np.where(np.eye(size), 0, affinity), alone, rules_of(names, **rules))


def test_scores_of_groups_by_definition():
    for _, affinity, singles, rules in problems(50, 0):
        groups = all_groups(len(affinity), **rules)
        if not groups:
            continue
        scores = scores_of(affinity, singles, rules)
        found = scores.of(members_of_groups(groups, len(affinity)))
        expected = group_gains(affinity, groups, singles)
        finite = np.isfinite(expected)
        shift = np.where(finite, expected, 0) - np.where(finite, found, 0)
        np.testing.assert_array_equal(finite, np.isfinite(found))
        for column, known in zip(shift.T, finite.T, strict=True):
            if known.any():
                np.testing.assert_allclose(column[known], column[known][0], atol=1e-12)
        assert np.all(found <= 1e-12)


def test_the_largest_price_equals_brute_force():
    for rng, affinity, singles, rules in problems(300, 1):
        groups = all_groups(len(affinity), **rules)
        scores = scores_of(affinity, singles, rules)
        multipliers = rng.normal(size=len(affinity)) - 1
        expected = 0.0
        if groups:
            gains = scores.of(members_of_groups(groups, len(affinity)))
            expected = np.maximum(gains - multipliers, 0).sum(axis=1).max()
        found, group, _ = largest_price(scores, multipliers, 0.0, 10**6)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
        if group is not None:
            assert tuple(np.flatnonzero(group).tolist()) in groups
        early, _, nodes = largest_price(scores, multipliers, 0.0, 1)
        assert nodes == 1
        assert early >= expected - 1e-9


def test_search_and_bound_enclose_the_optimum():
    proven = 0
    for rng, affinity, singles, rules in problems(60, 2):
        budget = int(rng.integers(1, 4))
        scores = scores_of(affinity, singles, rules)
        found, bound = search(scores, min(budget, len(affinity)))
        try:
            best = selection.select_groups(affinity, budget, singles, **rules)
        except ValueError:
            assert not found
            continue
        best = scores.gain(members_of_groups(best.groups, len(affinity)))
        gain = scores.gain(members_of_groups(found[0], len(affinity)))
        assert gain <= best + 1e-9
        assert bound >= best - 1e-7
        if closed(bound, gain):
            assert gain == pytest.approx(best, abs=1e-7)
            proven += 1
    assert proven > 20


def test_any_selection_is_bounded():
    """The bound holds also when it starts from a bad selection."""
    rng = np.random.default_rng(0)
    affinity = rng.normal(size=(9, 9))
    scores = scores_of(affinity, None, {})
    best = selection.select_groups(affinity, 3)
    best = scores.gain(members_of_groups(best.groups, 9))
    bad = members_of_groups([(0, 1, 2), (3, 4, 5), (6, 7, 8)], 9)
    assert upper_bound(scores, 3, bad, bad) >= best - 1e-9
