import functools
import itertools
import time

import numpy as np
import pytest
from brute_force import all_groups, group_gains, selections
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import selection


def group_score(affinity, group, task, singleton_scores):
    return group_gains(affinity, [group], singleton_scores)[0, task]


def brute_force(affinity, budget, singleton_scores=None, **rules):
    """The best objective over every set of `budget` groups, each task served by the best."""
    groups = all_groups(len(affinity), **rules)
    gains = group_gains(affinity, groups, singleton_scores)
    best = -np.inf
    for sets in np.array_split(sets_of_groups(len(gains), min(budget, len(gains))), 8):
        if len(sets):
            served = functools.reduce(np.maximum, (gains[column] for column in sets.T))
            best = max(best, served.sum(axis=1).max())
    return best


@functools.cache
def sets_of_groups(num_groups, size):
    """Every set of `size` groups, `[sets, size]`."""
    flat = itertools.chain.from_iterable(itertools.combinations(range(num_groups), size))
    return np.fromiter(flat, np.int8).reshape(-1, size)


def brute_force_over_partitions(affinity, singleton_scores=None):
    """The same for budgets 1 to T: each part of a partition of the tasks takes its best group."""
    size = len(affinity)
    scores = group_gains(affinity, all_groups(size), singleton_scores)
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


@pytest.mark.variants(5)
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


@pytest.mark.variants(1)
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


@pytest.mark.variants(1)
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


@pytest.mark.parametrize(
    ('affinity', 'budget', 'scores', 'message'),
    [
        (np.zeros((2, 3)), 1, None, r'square matrix \[T, T\], not of shape \(2, 3\)'),
        (np.zeros(4), 1, None, 'square matrix'),
        (np.zeros((0, 0)), 1, None, 'at least one task'),
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


def random_rules(rng, size):
    """Rules that may or may not leave a selection."""
    rules = {}
    if rng.random() < 0.4:
        rules['min_size'] = int(rng.integers(1, 3))
    if rng.random() < 0.4:
        rules['max_size'] = int(rng.integers(2, size + 1))
    if rng.random() < 0.4:
        rules['must_link'] = [rng.choice(size, 2, replace=False).tolist()]
    if rng.random() < 0.4:
        rules['cannot_link'] = [rng.choice(size, rng.integers(2, 4), replace=False).tolist()]
    return rules


def test_several_solutions_and_rules_equal_brute_force():
    rng = np.random.default_rng(0)
    found = infeasible = 0
    while found < 250:
        size = int(rng.integers(3, 7))
        affinity, rules = random_affinity(rng, size), random_rules(rng, size)
        scores = rng.choice(affinity.ravel(), size) if rng.random() < 0.5 else None
        budget, wanted = int(rng.integers(1, 4)), int(rng.choice([1, 2, 5, 20]))
        groups = all_groups(size, **rules)
        scale = np.abs(affinity).max()
        gains = group_gains(affinity, groups, scores)
        best = selections(gains, np.ones(len(groups)), budget, 1e-12 * scale) if groups else []
        try:
            answer = selection.select_groups(affinity, budget, scores, wanted, **rules)
        except ValueError:
            assert not best
            infeasible += 1
            continue
        answer = answer if wanted > 1 else (answer,)
        np.testing.assert_allclose(
            [one.objective for one in answer],
            [gain for gain, _ in best[:wanted]],
            atol=1e-11 * scale,
        )
        assert len({frozenset(one.groups) for one in answer}) == len(answer)
        for one in answer:
            assert set(one.groups) <= set(groups)
            check_selection(affinity, one, budget, scores)
        found += 1
    assert infeasible > 10


def test_several_solutions_of_more_tasks():
    rng = np.random.default_rng(0)
    affinity = rng.normal(size=(12, 12))
    answers = selection.select_groups(affinity, 3, num_solutions=10)
    objectives = [one.objective for one in answers]
    assert len({frozenset(one.groups) for one in answers}) == 10
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[0] == pytest.approx(selection.select_groups(affinity, 3).objective)
    for one in answers:
        check_selection(affinity, one, 3)
    fewer = selection.select_groups(affinity, 3, num_solutions=4)
    assert [one.groups for one in fewer] == [one.groups for one in answers[:4]]


def test_several_budgets_in_one_call():
    affinity = np.random.default_rng(0).normal(size=(7, 7))
    together = selection.select_groups(affinity, [1, 3, 2], num_solutions=2)
    for budget, answers in zip([1, 3, 2], together, strict=True):
        alone = selection.select_groups(affinity, budget, num_solutions=2)
        assert [one[:3] for one in answers] == [one[:3] for one in alone]


def test_linked_tasks_train_together_and_others_apart():
    affinity = np.full((5, 5), 1.0)
    selected = selection.select_groups(
        affinity, 3, must_link=[(0, 1), (1, 2)], cannot_link=[(0, 3)], max_size=4
    )
    for group in selected.groups:
        assert {0, 1, 2} <= set(group) or not {0, 1, 2} & set(group)
        assert not {0, 3} <= set(group)


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ({'min_size': 4}, 'min_size is 4, but there are 3 tasks'),
        ({'min_size': 3, 'max_size': 2}, 'min_size at most max_size, not 3 and 2'),
        ({'max_size': 1.5}, 'max_size must be an integer, not 1.5'),
        ({'must_link': [(0, 3)]}, 'must_link names task 3, but there are 3 tasks'),
        ({'must_link': [(0, 0)]}, 'must_link needs two different tasks'),
        ({'must_link': ['ab']}, "a list of sets of tasks, not of single tasks: 'ab'"),
        ({'cannot_link': [('x', 'y')]}, "cannot_link names 'x', which is not among task 0"),
        ({'must_link': [(0, 1)], 'cannot_link': [(1, 0)]}, 'in a must_link and in a cannot_link'),
        ({'must_link': [(0, 1)], 'max_size': 1}, 'are linked, but a network may train 1 at most'),
        (
            {'max_size': 2},
            'at most 1 groups that keeps the rules .at most 2 tasks. and holds every task',
        ),
        ({'num_solutions': 0}, 'num_solutions must be at least 1, not 0'),
    ],
)
def test_rules_that_mean_nothing_are_named(rules, message):
    with pytest.raises(ValueError, match=message):
        selection.select_groups(np.zeros((3, 3)), 1, **rules)


def planted(blocks, noise, seed, size=40):
    rng = np.random.default_rng(seed)
    block = np.arange(size) % blocks
    return np.where(block[:, None] == block, 1.0, -0.5) + rng.normal(0, noise, (size, size))


@pytest.mark.variants(1)
@pytest.mark.parametrize(('blocks', 'noise'), [(2, 0.75), (4, 0.5), (8, 0.5)])
def test_forty_tasks_in_planted_blocks_are_proven(blocks, noise):
    selected = selection.select_groups(planted(blocks, noise, 0), blocks)
    assert selected.optimal
    assert selected.bound == selected.objective
    expected = {tuple(range(block, 40, blocks)) for block in range(blocks)}
    assert set(selected.serves) == expected


@pytest.mark.sweep  # Its short form: test_bound.py.
def test_many_tasks_of_noise_have_a_certified_gap():
    affinity = np.random.default_rng(0).normal(size=(21, 21))
    selected = selection.select_groups(affinity, 3)
    assert not selected.optimal
    assert selected.objective < selected.bound < affinity.max(axis=0).sum()
    several = selection.select_groups(affinity, 3, num_solutions=3)
    assert several[0][:4] == selected[:4], 'the same search always'
    assert [one.objective for one in several] == sorted(
        (o.objective for o in several), reverse=True
    )
    for one in (selected, *several):
        total = sum(
            group_score(affinity, group, task, None)
            for group, served in zip(one.groups, one.serves, strict=True)
            for task in served
        )
        assert one.objective == pytest.approx(total)
        assert sorted(itertools.chain(*one.serves)) == list(range(21))


def test_what_does_not_fit_into_memory_is_refused_at_once():
    with pytest.raises(ValueError, match='200 groups of 400 tasks do not fit into memory'):
        selection.select_groups(np.zeros((400, 400)), 200)


@pytest.mark.parametrize(('size', 'seeds'), [(6, 20), pytest.param(22, 1, marks=pytest.mark.sweep)])
def test_a_forbidden_value_blurs_nothing(size, seeds):
    """However large an affinity is that no allowed group holds, the rest is decided exactly."""
    for seed in range(seeds):
        affinity = np.random.default_rng(seed).normal(size=(size, size))
        plain = selection.select_groups(affinity, 2, cannot_link=[(0, 1)])
        affinity[1, 0] = 1e12
        selected = selection.select_groups(affinity, 2, cannot_link=[(0, 1)])
        assert selected.groups == plain.groups
        assert selected.objective == pytest.approx(plain.objective, rel=1e-12)
        assert selected.optimal == plain.optimal
        assert selected.bound == pytest.approx(plain.bound, rel=1e-6)
