"""Selection among candidate networks, against every set of networks and against a MILP."""

import json

import numpy as np
import pytest
from brute_force import selections
from scipy.optimize import Bounds, LinearConstraint, milp

from tag_jax import selection
from tag_jax.selection import networks as solver
from tag_jax.selection.covers import best_covers, first_cover, irredundant, undominated
from tag_jax.selection.result import certificate

COSTS = [0.5, 1, 1.7, 3]


def random_scores(rng, size, num_tasks):
    """Scores of several kinds: ties, negative values, scales; some are missing, some rows equal."""
    members = rng.random((size, num_tasks)) < rng.choice([0.3, 0.5, 0.8])
    members[np.arange(size), rng.integers(num_tasks, size=size)] = True
    kind = rng.integers(4)
    if kind == 0:
        scores = rng.normal(size=members.shape)
    elif kind == 1:
        scores = rng.integers(-3, 4, size=members.shape).astype(float)
    elif kind == 2:
        scores = np.round(rng.random(members.shape), 1)
    else:
        scores = rng.exponential(size=members.shape) * 10.0 ** rng.integers(-10, 11)
    scores = np.where(members & (rng.random(members.shape) < 0.95), scores, np.nan)
    if size > 2 and rng.random() < 0.3:
        members[1], scores[1] = members[0], scores[0]
    return members, scores


def random_candidates(rng, most_networks, most_tasks=8):
    """Candidates, or None if some task has no score."""
    size, num_tasks = rng.integers(1, most_networks + 1), rng.integers(1, most_tasks + 1)
    members, scores = random_scores(rng, size, num_tasks)
    costs = rng.choice(COSTS, size) if rng.random() < 0.7 else 3 * rng.random(size)
    if np.isnan(scores).all(axis=0).any():
        return None
    names = tuple(f't{n}' for n in range(num_tasks))
    return selection.Candidates(members, scores, costs, names)


def weighted_gains(candidates, maximize=False, weights=None, limits=None):
    """What each network gains on each task, -inf where it may not serve."""
    gains = candidates.scores if maximize else -candidates.scores
    gains = np.where(np.isnan(gains), -np.inf, gains)
    if limits is not None:
        missed = candidates.scores < limits if maximize else candidates.scores > limits
        gains[missed] = -np.inf
    known = np.isfinite(gains)
    weights = 1 if weights is None else weights
    return np.where(known, weights * np.where(known, gains, 0), -np.inf)


def by_milp(gains, costs, budget):
    """The best gain according to HiGHS; None if there is no selection."""
    scale = np.abs(gains[np.isfinite(gains)]).max() or 1.0
    size, num_tasks = gains.shape
    serving = np.argwhere(np.isfinite(gains))
    objective = np.concatenate([np.zeros(size), [-gains[n, t] / scale for n, t in serving]])
    once = np.zeros((num_tasks, len(objective)))
    opened = np.zeros((len(serving), len(objective)))
    for column, (n, t) in enumerate(serving, size):
        once[t, column] = 1
        opened[column - size, [column, n]] = 1, -1
    paid = np.concatenate([costs, np.zeros(len(serving))])
    found = milp(
        objective,
        integrality=np.ones(len(objective)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(opened, -np.inf, 0),
            LinearConstraint(paid, -np.inf, budget + 1e-9),
        ],
        options={'mip_rel_gap': 0},
    )
    return -found.fun * scale if found.status == 0 else None


def check(candidates, answer, budget, gains, maximize, weights):
    """Whether a selection is what it says."""
    assert candidates.costs[list(answer.networks)].sum() <= budget + 1e-8
    weights = np.ones(gains.shape[1]) if weights is None else weights
    total = 0.0
    for network, group, serves in zip(answer.networks, answer.groups, answer.serves, strict=True):
        assert group == tuple(np.flatnonzero(candidates.members[network]))
        assert serves
        for task in serves:
            rivals = gains[list(answer.networks), task]
            assert gains[network, task] == pytest.approx(rivals.max(), rel=1e-12)
            total += weights[task] * candidates.scores[network, task]
    assert sorted(task for serves in answer.serves for task in serves) == list(range(len(weights)))
    assert answer.objective == pytest.approx(total, rel=1e-12)
    assert answer.optimal
    assert answer.bound == answer.objective


def test_equality_with_every_set_of_networks(request):
    rng = np.random.default_rng(0)
    found = infeasible = 0
    wanted_cases = 500 if request.config.getoption('all') else 120
    while found < wanted_cases:
        candidates = random_candidates(rng, 10)
        if candidates is None:
            continue
        num_tasks = len(candidates.task_names)
        budget, wanted = (
            float(rng.choice([0.5, 1, 1.5, 2, 2.7, 4, 5.2])),
            int(rng.choice([1, 3, 9])),
        )
        maximize = bool(rng.random() < 0.5)
        weights = rng.integers(0, 4, num_tasks) / 2 if rng.random() < 0.3 else None
        limits = None
        if rng.random() < 0.3:
            limits = np.where(rng.random(num_tasks) < 0.4, np.nanmedian(candidates.scores), np.nan)
        gains = weighted_gains(candidates, maximize, weights, limits)
        scale = np.abs(gains[np.isfinite(gains)]).max(initial=0)
        expected = selections(gains, candidates.costs, budget, 1e-13 * scale)
        try:
            answer = selection.select_networks(
                candidates,
                budget,
                maximize,
                task_weights=weights,
                limits=limits,
                num_solutions=wanted,
            )
        except ValueError:
            assert not expected
            infeasible += 1
            continue
        answer = answer if wanted > 1 else (answer,)
        sign = 1 if maximize else -1
        np.testing.assert_allclose(
            [sign * one.objective for one in answer],
            [gain for gain, _ in expected[:wanted]],
            atol=1e-11 * scale,
        )
        assert len({one.networks for one in answer}) == len(answer)
        for one in answer:
            check(candidates, one, budget, gains, maximize, weights)
        found += 1
    assert infeasible > wanted_cases / 5


def test_both_solvers_equal_a_milp():
    rng = np.random.default_rng(1)
    found = infeasible = 0
    while found < 150:
        candidates = random_candidates(rng, 30)
        if candidates is None:
            continue
        budget = float(rng.choice([1, 2, 3.2, 5]))
        gains = weighted_gains(candidates)
        expected = by_milp(gains, candidates.costs, budget)
        regrets = gains.max(axis=0) - gains
        covers = best_covers(regrets, candidates.costs, budget)
        if expected is None:
            assert not covers.covers
            assert covers.proven == np.inf
            with pytest.raises(ValueError, match=r'budget of|or less may serve'):
                selection.select_networks(candidates, budget)
            infeasible += 1
            continue
        scale = np.abs(gains[np.isfinite(gains)]).max()
        selected = selection.select_networks(candidates, budget)
        assert -selected.objective == pytest.approx(expected, abs=1e-6 * scale)
        total = gains.max(axis=0).sum() - covers.covers[0][0]
        assert -selected.objective == pytest.approx(total, abs=1e-9 * scale)
        found += 1
    assert infeasible > 10


def planted_list(size, num_tasks, seed, halves=False):
    """A list of networks as the benchmark has them."""
    rng = np.random.default_rng(seed)
    members = np.zeros((size, num_tasks), bool)
    for row in members:
        row[rng.choice(num_tasks, rng.integers(2, min(11, num_tasks)), replace=False)] = True
    scores = np.exp(rng.normal(0, 0.3, num_tasks)) * np.exp(rng.normal(0, 0.25, members.shape))
    costs = np.ones(size)
    if halves:
        costs[rng.permutation(size)[: size // 2]] = 0.5
    names = tuple(f't{n}' for n in range(num_tasks))
    return selection.Candidates(members, np.where(members, scores, np.nan), costs, names)


@pytest.mark.variants(1)
@pytest.mark.parametrize('halves', [False, True])
def test_many_networks_over_many_tasks_are_proven(halves):
    candidates = planted_list(400, 18, 0, halves)
    selected = selection.select_networks(candidates, 4)
    assert selected.optimal
    gains = weighted_gains(candidates)
    assert -selected.objective == pytest.approx(by_milp(gains, candidates.costs, 4), rel=1e-6)


def test_many_different_costs():
    rng = np.random.default_rng(0)
    candidates = planted_list(60, 12, 1)
    candidates = candidates.replace(costs=rng.uniform(0.2, 2, 60))
    for budget in (2, 4, 7):
        selected = selection.select_networks(candidates, budget)
        expected = by_milp(weighted_gains(candidates), candidates.costs, budget)
        assert selected.optimal
        assert -selected.objective == pytest.approx(expected, rel=1e-6)


def test_a_tight_budget_has_a_cover_if_there_is_one():
    candidates = planted_list(3000, 27, 2)
    gains = weighted_gains(candidates)
    cover, complete = first_cover(-gains, candidates.costs, 3.0, np.arange(3000))
    assert complete
    assert len(cover) == 3
    assert np.isfinite(gains[list(cover)].max(axis=0)).all()
    with pytest.raises(ValueError, match='no selection within a budget of 2 covers every task'):
        selection.select_networks(candidates, 2)


def test_a_search_cut_short_says_so():
    candidates = planted_list(400, 18, 0)
    best = selection.select_networks(candidates, 4)
    short = selection.select_networks(candidates, 4, max_nodes=0)
    assert not short.optimal
    gap = short.objective - short.bound
    said = f'not proven optimal: at most {gap:g} from the best, by its bound {short.bound:g}'
    assert certificate(short) == said
    assert short.bound <= best.objective <= short.objective
    several = selection.select_networks(candidates, 4, num_solutions=3, max_nodes=0)
    assert several[-1].bound <= best.objective


def test_rules_on_networks():
    rng = np.random.default_rng(3)
    checked = 0
    while checked < 100:
        candidates = random_candidates(rng, 14, 6)
        if candidates is None or len(candidates.task_names) < 4:
            continue
        members, sizes = candidates.members, candidates.members.sum(axis=1)
        allowed = (sizes >= 2) & (sizes <= 4) & (members[:, 0] == members[:, 1])
        allowed &= ~(members[:, 2] & members[:, 3])
        gains = weighted_gains(candidates)
        gains[~allowed] = -np.inf
        expected = selections(gains, candidates.costs, 4)
        rules = {'min_size': 2, 'max_size': 4, 'must_link': [('t0', 1)], 'cannot_link': [(2, 't3')]}
        try:
            selected = selection.select_networks(candidates, 4, **rules)
        except ValueError:
            assert not expected
            continue
        assert -selected.objective == pytest.approx(expected[0][0])
        assert allowed[list(selected.networks)].all()
        checked += 1


def small():
    """Three tasks, five networks; network 4 is as good as 0 on a and also trains b."""
    nan = np.nan
    return selection.Candidates(
        [[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 1, 0]],
        [[1, nan, nan], [nan, 2, 2], [3, 3, 3], [nan, nan, 1], [1, 5, nan]],
        [1, 1, 1, 0.5, 1],
        ('a', 'b', 'c'),
    )


def test_of_equal_networks_the_one_that_trains_more_tasks_is_chosen():
    selected = selection.select_networks(small(), 2)
    assert selected.networks == (4, 1)
    assert selected.groups == ((0, 1), (1, 2))
    assert selected.serves == ((0,), (1, 2))
    assert selection.select_networks(small(), 2, num_solutions=3)[0].objective == 5


def test_no_network_is_chosen_that_serves_nothing():
    selected = selection.select_networks(small(), 100)
    assert selected.objective == 4
    assert len(selected.networks) == 3
    assert irredundant(np.array([[0, np.inf], [0, 0.0], [1, 1]]), [0, 1, 2]) == (1,)


def test_several_budgets_in_one_call():
    one, two = selection.select_networks(small(), [1, 2.5])
    assert (one.objective, two.objective) == (9, 4)
    assert selection.select_networks(small(), np.array([1.0]))[0].objective == 9
    nested = selection.select_networks(small(), [1, 2.5], num_solutions=2)
    assert [len(answers) for answers in nested] == [1, 2]


def test_a_hard_limit_of_a_task():
    selected = selection.select_networks(small(), 2, limits={'b': 2.5, 'c': 2.5})
    assert selected.objective == 5
    assert selection.select_networks(small(), 1.5, limits={'a': 3}).objective == 7
    with pytest.raises(ValueError, match='no selection within a budget of 1 covers every task'):
        selection.select_networks(small(), 1, limits={'b': 2})
    with pytest.raises(ValueError, match="no candidate may serve 'b'"):
        selection.select_networks(small(), 1, limits={'b': 1})


def test_serving_by_other_scores():
    final = small().replace(scores=[[2, np.nan, np.nan], *small().scores.tolist()[1:]])
    served = selection.serve(final, [0, 1, 3])
    assert served.networks == (0, 1, 3)
    assert served.serves == ((0,), (1,), (2,))
    assert served.objective == 5
    np.testing.assert_array_equal(selection.served_scores(served, small()), [1, 2, 1])
    with pytest.raises(ValueError, match="none of the networks serves 'b'"):
        selection.serve(final, [0, 3])
    with pytest.raises(ValueError, match='there is no network 5 among 5 candidates'):
        selection.serve(final, [5])


def test_partitions_and_branch_and_bound_agree_on_what_is_dominated():
    rng = np.random.default_rng(0)
    for _ in range(30):
        members, scores = random_scores(rng, 40, 5)
        regrets = np.where(np.isnan(scores), np.inf, scores)
        costs, sizes = rng.choice(COSTS, 40), members.sum(axis=1)
        kept = undominated(regrets, costs, sizes)
        for n in set(range(40)) - set(kept.tolist()):
            better = (regrets[kept] <= regrets[n]).all(axis=1) & (costs[kept] <= costs[n])
            assert better.any()
        for n in kept:
            others = kept[kept != n]
            strictly = (regrets[others] <= regrets[n]).all(axis=1) & (costs[others] < costs[n])
            assert not strictly.any()


def test_the_road_is_a_matter_of_size_only(monkeypatch):
    candidates = planted_list(40, 6, 0)
    first = selection.select_networks(candidates, 3)
    monkeypatch.setattr(solver, '_MAX_WORK', 0)
    assert selection.select_networks(candidates, 3).objective == pytest.approx(first.objective)


def test_a_task_that_no_candidate_solves_is_named():
    with pytest.raises(ValueError, match="no candidate solves the task 'b'"):
        selection.select_networks(small().take([0, 3]), 2)


@pytest.mark.parametrize(
    ('budget', 'settings', 'message'),
    [
        (0.4, {}, "no candidate that costs 0.4 or less may serve 'a'"),
        (0.5, {}, "no candidate that costs 0.5 or less may serve 'a'"),
        (np.nan, {}, 'budget must be finite and not negative, not nan'),
        (-1, {}, 'budget must be finite and not negative, not -1'),
        ('1', {}, "budget must be a number, not '1'"),
        (1, {'task_weights': [1, 2]}, r'3 tasks need 3 task_weights, not \(2,\)'),
        (1, {'task_weights': [1, -2, 1]}, 'task_weights must be 0 or more, but one is -2'),
        (1, {'limits': {'d': 1}}, "limits name 'd', which is not among a, b, c"),
        (1, {'limits': [1]}, r'3 tasks need 3 limits, not \(1,\)'),
        (1, {'num_solutions': 1.5}, 'num_solutions must be an integer, not 1.5'),
        (1, {'max_size': 0}, 'sizes must be at least 1'),
        (1, {'must_link': [('a', 'd')]}, "must_link names 'd'"),
    ],
)
def test_bad_input_is_named(budget, settings, message):
    with pytest.raises(ValueError, match=message):
        selection.select_networks(small(), budget, **settings)


def test_what_does_not_fit_into_memory_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(solver, '_MOST_SCORES', 10)
    with pytest.raises(ValueError, match='5 networks over 3 tasks do not fit into memory'):
        selection.select_networks(small(), 1)


def test_a_network_that_no_budget_pays_for_blurs_nothing():
    rng = np.random.default_rng(0)
    scores = rng.random((25, 5))
    scores[:, 4] = 1e11
    scores[-1] = [9, 9, 9, 9, 0]
    costs = np.ones(25)
    costs[-1] = 100
    candidates = selection.Candidates(np.ones((25, 5), bool), scores, costs, tuple('abcde'))
    expected = selections(-scores[:-1, :4], costs[:-1], 3)
    for wanted in (1, 3):
        answer = selection.select_networks(candidates, [3, 3], num_solutions=wanted)[0]
        for one, (gain, _) in zip((answer,) if wanted == 1 else answer, expected, strict=False):
            total = scores[list(one.networks), :4].min(axis=0).sum()
            assert total == pytest.approx(-gain, rel=1e-9)


def test_answers_are_plain_numbers():
    for one in (
        selection.select_networks(small(), 2),
        *selection.select_networks(small(), 2, num_solutions=2),
        selection.pessimal(small(), 2),
        selection.select_groups(np.eye(3), 2),
        selection.select_groups(np.random.default_rng(0).normal(size=(21, 21)), 2),
    ):
        assert json.loads(json.dumps(one._asdict()))['optimal'] in (True, False)


@pytest.mark.sweep
def test_a_thousand_tasks_with_a_network_each():
    size = 1100
    candidates = selection.Candidates(
        np.eye(size), np.where(np.eye(size), 1.0, np.nan), np.ones(size), [*map(str, range(size))]
    )
    assert selection.select_networks(candidates, size).objective == size


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: selection.select_networks({'validation': small()}, 1), 'take one split of it'),
        (lambda: selection.serve(small(), [0.0, 1.0]), 'networks must be a list of indices'),
        (lambda: selection.serve(small(), [True, False]), 'networks must be a list of indices'),
        (
            lambda: selection.served_scores(selection.select_groups(np.zeros((3, 3)), 1), small()),
            'the selection is not one of these candidates',
        ),
        (lambda: selection.pessimal(small(), '1'), "budget must be a number, not '1'"),
        (lambda: selection.pessimal(small(), 2, max_nodes=0), 'max_nodes must be at least 1'),
        (
            lambda: selection.random_selections(small(), 2, outcomes=small().take([0, 1])),
            'outcomes must be scores of the same networks',
        ),
        (
            lambda: selection.random_selections(
                small(), 2, outcomes=small().replace(network_names=tuple('vwxyz'))
            ),
            'outcomes must be scores of the same networks .* but their network_names differ',
        ),
        (
            lambda: selection.correlation(small(), small().replace(costs=np.ones(5))),
            'second must be scores of the same networks .* but their costs differ',
        ),
        (lambda: selection.select_networks(small(), 1, must_link=[0, 1]), 'not of single tasks: 0'),
        (
            lambda: selection.select_networks(small(), 1, task_weights={'d': 1}),
            "task_weights name 'd'",
        ),
        (
            lambda: selection.select_networks(small(), 1, task_weights=[1e300, 1, 1]),
            'too large to be added',
        ),
    ],
)
def test_slips_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
