import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import selection
from tag_jax.selection import Candidates

NAMES = ('a', 'b', 'c', 'd')


def truth(seed, members, pairs=1.0):
    """Scores that are what the model says, without noise."""
    rng = np.random.default_rng(seed)
    size = members.shape[1]
    level, common = rng.normal(size=size), rng.normal(size=2)
    own, onto = rng.normal(size=size), pairs * rng.normal(size=(size, size))
    np.fill_diagonal(onto, 0)
    share = (members.sum(axis=1, keepdims=True) - 1) / (size - 1)
    scores = level + share * (common[0] + own) + common[1] * share**2 + members @ onto
    return np.where(members, scores, np.nan)


def candidates(members, scores, names=NAMES):
    return Candidates(members, scores, np.ones(len(members)), names)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-10, 1.0, 1e10]))
def test_what_is_additive_is_found_out(seed, scale):
    """Trained on all groups but a few, without shrinking, the others are predicted exactly."""
    members = selection.all_groups(4, min_size=1)
    scores = scale * truth(seed, members)
    known = np.random.default_rng(seed).permutation(len(members))[:13]
    if not np.isfinite(scores[known]).any(axis=0).all():
        return
    found = selection.additive_model(
        candidates(members, scores).take(np.sort(known)), size_ridge=0, pair_ridge=0
    )
    trained = np.isfinite(scores) & np.isin(np.arange(len(members)), known)[:, None]
    np.testing.assert_allclose(found.scores[trained], scores[trained], rtol=1e-6, atol=1e-9 * scale)
    np.testing.assert_array_equal(np.isfinite(found.scores), members)


@given(st.integers(0, 2**32 - 1))
def test_a_ridge_by_the_normal_equations(seed):
    """Against a second route, entry by entry, with levels and common size effects free."""
    rng = np.random.default_rng(seed)
    members = selection.all_groups(3, min_size=1)[rng.permutation(7)[:6]]
    scores = np.where(members, rng.normal(size=members.shape), np.nan)
    if not members.any(axis=0).all():
        return
    rows, values = [], []
    for group, line in zip(members, scores, strict=True):
        for task in np.flatnonzero(group):
            share = (group.sum() - 1) / 2
            row = np.zeros(3 + 2 + 3 + 9)
            row[task], row[3], row[4], row[5 + task] = 1, share, share**2, share
            for other in np.flatnonzero(group):
                if other != task:
                    row[8 + 3 * task + other] = 1
            rows.append(row)
            values.append(line[task])
    rows = np.array(rows)
    ridge = np.concatenate([np.zeros(3), np.full(2, 0.002), np.full(3, 2.0), np.full(9, 5.0)])
    left = rows.T @ rows + np.diag(ridge)
    coefficients = np.linalg.pinv(left, rcond=1e-10) @ rows.T @ np.array(values)
    found = selection.additive_model(
        candidates(members, scores, NAMES[:3]), size_ridge=2.0, pair_ridge=5.0
    )
    by_group = {tuple(group): line for group, line in zip(found.members, found.scores, strict=True)}
    for group in members:
        predicted = [v for v in by_group[tuple(group)] if np.isfinite(v)]
        known = np.isfinite(scores[(members == group).all(axis=1)][0]).sum()
        assert len(predicted) == known
    entries = np.concatenate(
        [line[np.isfinite(line)] for line in (by_group[tuple(g)] for g in members)]
    )
    np.testing.assert_allclose(entries, rows @ coefficients, atol=1e-6)


def test_the_effect_of_size_is_learnt_where_affinities_see_nothing():
    """Every member more costs every task the same: the best are groups as small as can be."""
    members = selection.all_groups(4, min_size=1)
    scores = np.where(members, 10.0 + members.sum(axis=1, keepdims=True), np.nan)
    few = np.flatnonzero(members.sum(axis=1) != 2)
    found = selection.additive_model(candidates(members, scores).take(few))
    pairs = found.scores[found.members.sum(axis=1) == 2]
    np.testing.assert_allclose(pairs[np.isfinite(pairs)], 12, atol=0.05)
    chosen = selection.select_networks(found, 2)
    assert sorted(map(len, chosen.groups)) == [2, 2]


@pytest.mark.parametrize('ridge', [0.0, 3.0])
def test_a_task_that_is_0_everywhere_decides_nothing(ridge):
    """As one whose error is not defined: it is 0 in all groups, and dilutes no effect of size."""
    members = selection.all_groups(4, min_size=1)
    scores = np.where(members, 10.0 + 5 * members.sum(axis=1, keepdims=True), np.nan)
    scores[members[:, 3], 3] = 0
    few = np.flatnonzero(members.sum(axis=1) != 2)
    some = candidates(members, scores).take(few)
    model = selection.fit_additive_model(some, ridge, ridge)
    assert (model.scores(members)[members[:, 3], 3] == 0).all()
    pairs = model.scores(members)[members.sum(axis=1) == 2][:, :3]
    np.testing.assert_allclose(pairs[np.isfinite(pairs)], 20, atol=0.05 if ridge else 2)
    chosen = selection.select_additive(model, 2)
    assert chosen.objective == pytest.approx(
        min(
            np.nanmin(model.scores(members)[list(both), :3], axis=0).sum()
            for both in itertools.combinations(range(len(members)), 2)
            if members[list(both)].any(axis=0).all()
        )
    )


def test_groups_and_costs():
    members = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [1, 0, 1, 0]], bool)
    scores = np.where(members, 1.0, np.nan)
    some = candidates(members, scores).replace(costs=np.array([1.0, 1, 2, 4]))
    found = selection.additive_model(some, groups=[(0, 1, 2), (3,)])
    assert found.network_names == ('a + b + c', 'd')
    np.testing.assert_array_equal(found.costs, [2, 2])
    np.testing.assert_allclose(found.scores[np.isfinite(found.scores)], 1, rtol=1e-6)


def test_what_cannot_be_modelled_is_refused():
    members = np.array([[1, 1, 0, 0], [0, 0, 1, 0]], bool)
    some = candidates(members, np.where(members, 1.0, np.nan))
    with pytest.raises(ValueError, match="no network has a score on 'd': train a group with it"):
        selection.additive_model(some)
    with pytest.raises(ValueError, match='must be 0 or more'):
        selection.additive_model(some, pair_ridge=-1)
