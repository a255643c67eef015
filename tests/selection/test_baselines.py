import itertools

import numpy as np
import pytest

from tag_jax import selection
from tag_jax.selection import baselines

NAN = np.nan


def random_list(seed, size=10, num_tasks=4):
    rng = np.random.default_rng(seed)
    members = rng.random((size, num_tasks)) < 0.5
    members[0] = True
    members[np.arange(size), rng.integers(num_tasks, size=size)] = True
    scores = np.where(members, rng.random(members.shape), NAN)
    names = tuple(f't{n}' for n in range(num_tasks))
    return selection.Candidates(members, scores, rng.choice([0.5, 1.0], size), names)


def all_totals(candidates, budget, maximize, outcomes):
    """The outcome and the score of every valid selection, by definition."""
    found = []
    for count in range(1, len(candidates) + 1):
        for networks in itertools.combinations(range(len(candidates)), count):
            chosen = list(networks)
            if candidates.costs[chosen].sum() > budget + 1e-9:
                continue
            scores = candidates.scores[chosen]
            if np.isnan(scores).all(axis=0).any():
                continue
            servers = (np.nanargmax if maximize else np.nanargmin)(scores, axis=0)
            tasks = np.arange(scores.shape[1])
            outcome = outcomes.scores[chosen][servers, tasks].sum()
            found.append((outcome, scores[servers, tasks].sum()))
    return np.array(found).T


@pytest.mark.parametrize('maximize', [False, True])
def test_random_and_pessimal_by_definition(maximize):
    for seed in range(8):
        candidates = random_list(seed)
        outcomes = candidates.replace(scores=candidates.scores + 0.01 * candidates.members)
        totals, scores = all_totals(candidates, 2, maximize, outcomes)
        spread = selection.random_selections(candidates, 2, maximize, outcomes)
        assert spread.exact
        assert spread.stderr == 0
        assert spread.count == len(totals)
        np.testing.assert_allclose(
            spread[:2] + spread[3:5], [totals.mean(), totals.std(), totals.min(), totals.max()]
        )
        worst = selection.pessimal(candidates, 2, maximize)
        assert worst.optimal
        assert worst.objective == pytest.approx(scores.min() if maximize else scores.max())


def test_drawn_selections_agree_with_all_of_them(monkeypatch):
    candidates = random_list(0, 14, 5)
    exact = selection.random_selections(candidates, 3)
    monkeypatch.setattr(baselines, '_ENUMERATED', 10)
    drawn = selection.random_selections(candidates, 3, num_samples=5000)
    assert not drawn.exact
    assert drawn.count == 5000
    assert abs(drawn.mean - exact.mean) < 4 * drawn.stderr
    assert drawn.std == pytest.approx(exact.std, rel=0.1)
    assert drawn == selection.random_selections(candidates, 3, num_samples=5000)
    assert drawn != selection.random_selections(candidates, 3, num_samples=5000, seed=1)


def test_a_pessimal_search_cut_short_says_so():
    candidates = random_list(1, 30, 6)
    best = selection.pessimal(candidates, 3)
    short = selection.pessimal(candidates, 3, max_nodes=1)
    assert not short.optimal
    assert short.bound >= best.objective >= short.objective


def test_all_in_one_and_independent_networks():
    candidates = selection.Candidates(
        [[1, 1], [1, 1], [1, 0], [0, 1], [0, 1]],
        [[3, 3], [2, 5], [1, NAN], [NAN, 2], [NAN, 1]],
        [1, 2, 0.5, 0.5, 1],
        ('a', 'b'),
    )
    assert selection.all_in_one(candidates, 2).objective == 6
    assert selection.all_in_one(candidates, 2, maximize=True).objective == 7
    assert selection.all_in_one(candidates, 1, maximize=True).objective == 6
    assert selection.independent(candidates, 1).objective == 3
    assert selection.independent(candidates, 1.5).objective == 2
    equal = selection.independent(candidates, 1, equal=True)
    assert (equal.networks, equal.objective) == ((2, 3), 3)
    for budget, cost in ((1.5, 0.75), (2, 1)):
        with pytest.raises(selection.Infeasible, match=f"'a' has no network .* that costs {cost},"):
            selection.independent(candidates, budget, equal=True)
    with pytest.raises(ValueError, match='no network that costs 0.5 or less serves every task'):
        selection.all_in_one(candidates, 0.5)
    with pytest.raises(ValueError, match='no selection within a budget of 0.5 covers every task'):
        selection.independent(candidates, 0.5)
    with pytest.raises(ValueError, match='no selection within a budget of 0.5 covers every task'):
        selection.random_selections(candidates, 0.5)
    with pytest.raises(ValueError, match='no selection within a budget of 0.5 covers every task'):
        selection.pessimal(candidates, 0.5)


def test_selections_are_drawn_also_where_most_networks_are_affordable(monkeypatch):
    scores = np.random.default_rng(0).random((40, 3))
    candidates = selection.Candidates(np.ones((40, 3)), scores, np.ones(40), ('a', 'b', 'c'))
    spread = selection.random_selections(candidates, 35, num_samples=200)
    assert not spread.exact
    assert spread.count == 200
    assert spread.least >= scores.min(axis=0).sum()


def test_sums_of_rounded_costs_are_within_the_budget():
    candidates = selection.Candidates([[1]], [[2.0]], [0.1 + 0.2], ('a',))
    assert selection.all_in_one(candidates, 0.3).objective == 2
    assert selection.pessimal(candidates, 0.3).objective == 2
    assert selection.random_selections(candidates, 0.3).mean == 2
