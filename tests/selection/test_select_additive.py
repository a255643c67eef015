"""Groups that an additive model of scores prefers: exact, by search, and by brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import selection
from tag_jax.selection import AdditiveModel, Candidates
from tag_jax.selection.bound import largest_price
from tag_jax.selection.group_scores import GroupScores
from tag_jax.selection.rules import rules_of
from tag_jax.selection.search import search
from tag_jax.selection.surrogate import _at_once, _by_tasks


def random_model(rng, size, scale=1.0):
    effects = scale * rng.normal(size=(size, size)) / size
    effects += scale * rng.normal(size=size) / size  # Own effects of size.
    np.fill_diagonal(effects, 0)
    names = tuple(f't{n}' for n in range(size))
    return AdditiveModel(names, 1.0, scale * rng.normal(size=size), effects, scale * rng.normal())


def group_scores(model):
    curve = -model.levels_by_size()
    return GroupScores(-model.effects, curve[1], rules_of(model.task_names), curve)


def by_brute_force(model, budget):
    """The lowest total over all lists of at most so many groups that cover the tasks."""
    size = len(model.levels)
    members = selection.all_groups(size)
    scores = np.where(members, model.scores(members), np.inf)
    best = np.inf
    for count in range(1, budget + 1):
        for chosen in itertools.combinations(range(len(members)), count):
            best = min(best, scores[list(chosen)].min(axis=0).sum())
    return best


@pytest.mark.parametrize('size', [1, 2, 3, 4])
def test_the_chosen_groups_are_the_best_by_brute_force(size):
    rng = np.random.default_rng(size)
    for budget in range(1, min(size, 3) + 1):
        for _ in range(10):
            model = random_model(rng, size)
            found = selection.select_additive(model, budget)
            assert found.objective == pytest.approx(by_brute_force(model, budget), abs=1e-12)
            assert found.optimal
            assert found.bound == found.objective
            assert len(found.groups) <= budget


@given(st.integers(0, 2**32 - 1))
def test_the_same_answer_as_among_all_candidates(seed):
    """Another solver, which is given every group with its score."""
    rng = np.random.default_rng(seed)
    model = random_model(rng, int(rng.integers(2, 9)), 10 ** rng.uniform(-6, 6))
    listed = model.candidates(selection.all_groups(len(model.levels)))
    for budget in range(1, min(len(model.levels), 4) + 1):
        among = selection.select_networks(listed, budget)
        found = selection.select_additive(model, budget)
        assert found.objective == pytest.approx(among.objective, rel=1e-9, abs=1e-12)
        assert sorted(found.groups) == sorted(among.groups)
        assert found.serves == among.serves


def test_the_search_finds_what_is_best_and_bounds_it():
    """Where both can be had, the search beyond exact sizes and its bound enclose the optimum."""
    rng, proven, reached = np.random.default_rng(0), 0, 0
    for _ in range(40):
        model = random_model(rng, int(rng.integers(3, 10)))
        budget = int(rng.integers(1, 4))
        groups = group_scores(model)
        best = selection.select_additive(model, budget)
        found, bound = search(groups, budget)
        members = np.zeros((len(found[0]), len(model.levels)), bool)
        for row, tasks in zip(members, found[0], strict=True):
            row[list(tasks)] = True
        total = np.nanmin(model.scores(members), axis=0).sum()
        assert total >= best.objective - 1e-9
        ideal = total + groups.gain(members)  # What every task would have by itself.
        assert ideal - bound <= best.objective + 1e-9
        reached += total <= best.objective + 1e-9
        proven += bound <= groups.gain(members) + 1e-9
    assert reached == 40
    assert proven > 30


def test_the_largest_price_equals_brute_force():
    rng = np.random.default_rng(1)
    for _ in range(60):
        model = random_model(rng, int(rng.integers(2, 8)))
        groups, size = group_scores(model), len(model.levels)
        multipliers = rng.normal(size=size) - 1
        gains = groups.of(selection.all_groups(size))
        assert gains.max() <= 1e-12
        expected = max(np.maximum(gains - multipliers, 0).sum(axis=1).max(), 0.0)
        found, _, _ = largest_price(groups, multipliers, 0.0, 10**6)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.sweep
def test_planted_blocks_of_many_tasks_are_found():
    """Members of a block lower each other's scores, others raise them: the blocks are the best."""
    rng, size, blocks = np.random.default_rng(3), 40, 4
    block = rng.permutation(np.arange(size) % blocks)
    effects = np.where(block[:, None] == block, -1.0, 1.0) + 0.1 * rng.normal(size=(size, size))
    np.fill_diagonal(effects, 0)
    names = tuple(f't{n}' for n in range(size))
    model = AdditiveModel(names, 1.0, rng.normal(size=size), effects, 0.5)
    found = selection.select_additive(model, blocks)
    assert sorted(map(set, found.groups), key=min) == [
        set(np.flatnonzero(block == b)) for b in dict.fromkeys(block.tolist())
    ]
    assert found.optimal
    assert found.networks is None
    several = selection.select_additive(model, blocks, 2)
    assert several[0].objective == pytest.approx(found.objective)
    assert several[1].objective >= found.objective


@given(st.integers(0, 2**32 - 1))
def test_both_ways_to_fit_agree(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 6))
    members = selection.all_groups(size)
    members = members[rng.integers(0, len(members), size=rng.integers(1, 2 * len(members) + 1))]
    members = np.concatenate([members, np.ones((1, size), bool)])
    names = tuple(f't{n}' for n in range(size))
    scores = np.where(members, 10 + rng.normal(size=members.shape), np.nan)
    scores[:-1][members[:-1] & (rng.random(members[:-1].shape) < 0.2)] = np.nan
    some = Candidates(members, scores, np.ones(len(members)), names)
    ridges = (3.0, 10 ** rng.uniform(-1, 1))
    scored = np.isfinite(scores)
    whole, parts = (solve(some, scored, *ridges) for solve in (_at_once, _by_tasks))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-6)


def test_a_model_of_many_tasks_is_fitted_in_seconds():
    """Effects of 60 tasks on each other are 3,600 numbers; planted ones are recovered in part."""
    rng, size = np.random.default_rng(0), 60
    members = rng.random((200, size)) < 0.5
    members[0] = True
    effects = rng.normal(size=(size, size)) * (rng.random((size, size)) < 0.1)
    np.fill_diagonal(effects, 0)
    scores = np.where(members, members @ effects, np.nan)
    names = tuple(f't{n}' for n in range(size))
    some = Candidates(members, scores, np.ones(len(members)), names)
    model = selection.fit_additive_model(some)
    others = ~np.eye(size, dtype=bool)
    assert np.corrcoef(model.effects[others], effects[others])[0, 1] > 0.8
