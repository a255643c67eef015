import functools
import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import selection
from tag_jax.selection import groups as solver


def group_score(affinity, group, task, singleton_scores):
    """The score of a group onto one of its tasks, straight from its definition."""
    others = [other for other in group if other != task]
    if others:
        return sum(affinity[other][task] for other in others) / len(others)
    if singleton_scores is not None:
        return singleton_scores[task]
    return 0.0 if len(affinity) == 1 else -np.inf


def all_group_scores(affinity, singleton_scores):
    """The score of every group onto every task, -inf outside the group, `[2^T - 1, T]`."""
    size = len(affinity)
    groups = [group for n in range(1, size + 1) for group in itertools.combinations(range(size), n)]
    scores = np.full((len(groups), size), -np.inf)
    for n, group in enumerate(groups):
        for task in group:
            scores[n, task] = group_score(affinity, group, task, singleton_scores)
    return scores


@functools.cache
def sets_of_groups(num_groups, size):
    """Every set of `size` groups, `[sets, size]`."""
    flat = itertools.chain.from_iterable(itertools.combinations(range(num_groups), size))
    return np.fromiter(flat, np.int8).reshape(-1, size)


def brute_force(affinity, budget, singleton_scores=None):
    """The best objective over every set of `budget` groups, each task served by the best."""
    scores = all_group_scores(affinity, singleton_scores)
    best = -np.inf
    for sets in np.array_split(sets_of_groups(len(scores), budget), 8):
        if len(sets):
            served = functools.reduce(np.maximum, (scores[column] for column in sets.T))
            best = max(best, served.sum(axis=1).max())
    return best


def brute_force_over_partitions(affinity, singleton_scores=None):
    """The same for budgets 1 to T: each part of a partition of the tasks takes its best group."""
    scores = all_group_scores(affinity, singleton_scores)
    size = len(affinity)
    best = np.full(size + 1, -np.inf)

    def extend(parts, task):
        if task == size:
            value = sum(scores[:, part].sum(axis=1).max() for part in parts)
            best[len(parts)] = max(best[len(parts)], value)
            return
        for n in range(len(parts)):
            extend([*parts[:n], [*parts[n], task], *parts[n + 1 :]], task + 1)
        extend([*parts, [task]], task + 1)

    extend([], 0)
    return np.maximum.accumulate(best)[1:]


def check_selection(affinity, selected, budget, singleton_scores=None):
    """Whether a selection is what it says: valid, worth its objective, and in order."""
    size = len(affinity)
    assert 1 <= len(selected.groups) <= budget
    assert len(set(selected.groups)) == len(selected.groups) == len(selected.serves)
    assert sorted(itertools.chain(*selected.serves)) == list(range(size))
    assert [served[0] for served in selected.serves] == sorted(s[0] for s in selected.serves)
    total = 0.0
    for group, served in zip(selected.groups, selected.serves, strict=True):
        assert list(group) == sorted(set(group))
        assert served
        assert set(served) <= set(group)
        for task in served:
            score = group_score(affinity, group, task, singleton_scores)
            total += score
            for other in selected.groups:
                if task in other:
                    rival = group_score(affinity, other, task, singleton_scores)
                    assert rival <= score + 1e-9 * max(1, abs(score))
    assert selected.objective == pytest.approx(total, rel=1e-9, abs=1e-9 * np.abs(affinity).max())
    assert selected.bound == selected.objective
    assert selected.optimal
    assert selected.networks is None
    assert selected.elapsed >= 0


def random_affinity(rng, size):
    """Matrices of several kinds, with ties, zeros, duplicates and scales."""
    kind = rng.integers(4)
    if kind == 0:
        matrix = rng.normal(size=(size, size))
    elif kind == 1:
        matrix = rng.integers(-2, 3, size=(size, size)).astype(float)
    elif kind == 2:
        matrix = -rng.exponential(size=(size, size))
    else:
        blocks = rng.integers(2, size=size)
        matrix = np.where(blocks[:, None] == blocks, 1.0, -0.5) + rng.normal(0, 0.2, (size, size))
    return matrix * 10.0 ** rng.integers(-10, 11)


def check_against(affinity, budget, singleton_scores, best):
    selected = selection.select_groups(affinity, budget, singleton_scores)
    check_selection(affinity, selected, budget, singleton_scores)
    tolerance = 1e-12 * len(affinity) * np.abs(affinity).max()
    assert selected.objective == pytest.approx(best, abs=tolerance)


@pytest.mark.parametrize(
    ('size', 'repeats', 'budgets'),
    [(1, 5, 1), (2, 100, 2), (3, 100, 3), (4, 100, 4), (5, 60, 5), (6, 60, 3), (6, 1, 5)],
)
@pytest.mark.parametrize('alone', [False, True])
def test_equality_with_brute_force_over_every_set_of_groups(size, repeats, budgets, alone):
    rng = np.random.default_rng([size, repeats, alone])
    for _ in range(repeats):
        affinity = random_affinity(rng, size)
        scores = rng.choice(affinity.ravel(), size) if alone else None
        for budget in range(1, budgets + 1):
            check_against(affinity, budget, scores, brute_force(affinity, budget, scores))


@pytest.mark.parametrize('alone', [False, True])
def test_equality_with_brute_force_over_partitions(alone):
    rng = np.random.default_rng(alone)
    for _ in range(100):
        affinity = random_affinity(rng, 6)
        scores = rng.choice(affinity.ravel(), 6) if alone else None
        for budget, best in enumerate(brute_force_over_partitions(affinity, scores), 1):
            check_against(affinity, budget, scores, best)


def test_the_two_brute_forces_agree():
    rng = np.random.default_rng(0)
    for _ in range(10):
        affinity = random_affinity(rng, 4)
        by_sets = [brute_force(affinity, budget) for budget in range(1, 5)]
        np.testing.assert_allclose(brute_force_over_partitions(affinity), by_sets)


@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_properties(seed, size):
    rng = np.random.default_rng(seed)
    affinity = random_affinity(rng, size)
    selections = [selection.select_groups(affinity, budget) for budget in range(1, size + 1)]
    scale = np.abs(affinity).max()
    for budget, selected in enumerate(selections, 1):
        check_selection(affinity, selected, budget)
    objectives = [selected.objective for selected in selections]
    assert all(np.diff(objectives) >= -1e-11 * scale), 'a larger budget is never worse'
    off_diagonal = np.where(np.eye(size, dtype=bool), -np.inf, affinity)
    assert objectives[-1] == pytest.approx(off_diagonal.max(axis=0).sum(), abs=1e-11 * scale)

    order = rng.permutation(size)
    relabelled = selection.select_groups(affinity[np.ix_(order, order)], 2 if size > 1 else 1)
    assert relabelled.objective == pytest.approx(objectives[1], abs=1e-11 * scale)
    ignoring_diagonal = selection.select_groups(affinity + np.diag(rng.normal(size=size)), 2)
    assert ignoring_diagonal[:3] == selections[1][:3]


def test_one_task_is_its_own_group():
    selected = selection.select_groups([[np.nan]], 1)
    assert selected[:3] == (((0,),), ((0,),), 0.0)
    assert selection.select_groups([[1.0]], 3, [2.5]).objective == 2.5


def test_ties_take_the_fewest_groups():
    for matrix in (np.zeros((6, 6)), np.full((6, 6), 0.1), np.full((6, 6), -1e-7)):
        for budget in range(1, 7):
            selected = selection.select_groups(matrix, budget)
            assert selected.groups == ((0, 1, 2, 3, 4, 5),)


def test_a_task_may_help_where_it_is_not_served():
    affinity = np.array([[0, 5, 0, 5], [9, 0, -9, -9], [0, -9, 0, 1], [0, -9, 1, 0]], float)
    selected = selection.select_groups(affinity, 3)
    assert selected.groups == ((0, 1), (2, 3), (0, 3))
    assert selected.serves == ((0, 1), (2,), (3,))


def test_a_task_goes_alone_only_where_its_score_says_so():
    affinity = np.array([[0, 1, -1], [1, 0, -1], [-1, -1, 0]], float)
    assert selection.select_groups(affinity, 2).objective == 1
    selected = selection.select_groups(affinity, 2, np.zeros(3))
    assert selected.groups == ((0, 1), (2,))
    assert selected.objective == 2


def test_sixteen_tasks_in_planted_blocks():
    rng = np.random.default_rng(0)
    blocks = rng.permutation(np.repeat(np.arange(4), 4))
    affinity = np.where(blocks[:, None] == blocks, 1.0, -0.5) + rng.normal(0, 0.1, (16, 16))
    began = time.perf_counter()
    selected = selection.select_groups(affinity, 4)
    assert time.perf_counter() - began < 60
    expected = {tuple(np.flatnonzero(blocks == block).tolist()) for block in range(4)}
    assert set(selected.serves) == expected
    check_selection(affinity, selected, 4)


@pytest.mark.parametrize('never', [-1e15, -1e18, -1e200])
def test_one_huge_value_does_not_blur_the_rest(never):
    """Values that say 'never' leave the other decisions exact."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        affinity = rng.normal(size=(5, 5))
        singles = np.full(5, never)
        forbidden = affinity.copy()
        forbidden[rng.integers(4), 4] = never
        for matrix, scores in ((affinity, singles), (forbidden, None)):
            for budget in range(1, 6):
                selected = selection.select_groups(matrix, budget, scores)
                best = brute_force(matrix, budget, scores)
                assert selected.objective == pytest.approx(best, rel=1e-9)


def test_a_constant_onto_a_task_changes_nothing():
    rng = np.random.default_rng(1)
    affinity = rng.integers(-8, 9, size=(6, 6)) / 8
    for budget in (2, 3):
        expected = selection.select_groups(affinity, budget)
        shifted = selection.select_groups(affinity + 2.0**20 * np.arange(6), budget)
        assert shifted.groups == expected.groups
        assert shifted.serves == expected.serves


def test_subset_convolution_by_definition(monkeypatch):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 32, 3))
    expected = np.full((32, 3), -np.inf)
    for tasks in range(32):
        for part in range(32):
            if part & tasks == part:
                expected[tasks] = np.maximum(expected[tasks], left[part] + right[tasks ^ part])
    np.testing.assert_array_equal(solver.subset_convolution(left, right), expected)
    monkeypatch.setattr(solver, '_BATCHED_VALUES', 10)
    np.testing.assert_array_equal(solver.subset_convolution(left, right), expected)


@pytest.mark.parametrize(
    ('affinity', 'budget', 'scores', 'message'),
    [
        (np.zeros((2, 3)), 1, None, r'square matrix \[T, T\], not of shape \(2, 3\)'),
        (np.zeros(4), 1, None, 'square matrix'),
        (np.zeros((0, 0)), 1, None, '1 to 20 tasks, not 0'),
        (np.zeros((21, 21)), 1, None, '1 to 20 tasks, not 21'),
        ([[0, np.nan], [0, 0]], 1, None, r'affinity\[0, 1\] is nan'),
        ([[0, 0], [-np.inf, 0]], 1, None, r'affinity\[1, 0\] is -inf'),
        ([[0, 1e308], [0, 0]], 1, None, r'affinity\[0, 1\] is 1e\+308'),
        (np.zeros((2, 2)), 0, None, 'budget must be at least 1, not 0'),
        (np.zeros((2, 2)), 1.5, None, 'budget must be an integer, not 1.5'),
        (np.zeros((2, 2)), 1, [0.0], '2 tasks need 2 singleton scores'),
        (np.zeros((2, 2)), 1, [0.0, np.nan], 'must be finite, but one is nan'),
    ],
)
def test_bad_input_is_named(affinity, budget, scores, message):
    with pytest.raises(ValueError, match=message):
        selection.select_groups(affinity, budget, scores)


def test_numpy_integers_are_budgets():
    assert selection.select_groups(np.zeros((3, 3)), np.int64(2)).objective == 0
