"""Ways to group judged on recorded tables, where the truth is known."""

import itertools
import math

import numpy as np
import pytest
from made_up_tables import made_up, truth
from scipy import stats

from tag_jax import grouping
from tag_jax.studies import judging


@pytest.fixture(scope='module')
def judged():
    methods = [
        *(grouping.all_in_one(), grouping.tag(), grouping.exhaustive(), grouping.hoa()),
        grouping.given([['a', 'c'], ['b', 'd']]),
        judging.wide_all_in_one((2,)),
    ]
    return judging.judge(made_up(), methods, budgets=(2,))


def test_the_best_groups_are_found_and_have_no_regret(judged):
    best = sum(truth((0, 1)).values()) + sum(truth((2, 3)).values())
    assert judged.optimum == pytest.approx(best, abs=1)
    assert judged.scores['exhaustive'] == pytest.approx(best, abs=1)
    assert judged.scores['tag'] == pytest.approx(best, abs=1)
    assert judged.scores['all_in_one'] == pytest.approx(sum(truth(range(4)).values()), abs=1)
    worst = sum(truth((0, 2)).values()) + sum(truth((1, 3)).values())
    assert judged.scores['given(groups=a + c | b + d)'] == pytest.approx(worst, abs=1)


def test_searches_never_see_the_networks_that_judge_them(judged):
    for one in judged.comparison.outcomes:
        assert one.seed not in one.fresh_errors
        assert len(one.fresh_errors) == 5


def test_predictions_are_compared_within_a_task_and_with_other_seeds(judged):
    # Sets of three and more: every task is in three of three tasks, and in one of four.
    assert judged.ceiling > 0.95
    assert judged.correlations['tag'] > 0.8
    assert judged.correlations['hoa'] > 0.8


def test_standings_tell_who_loses_to_whom(judged):
    found = {one.method: one for one in judging.standings([judged], ('all_in_one', 'tag'))}
    assert found['tag'].losses == {}
    assert found['tag'].wins == {'all_in_one': ('friends',)}
    bad = found['given(groups=a + c | b + d)']
    assert bad.losses == {'all_in_one': ('friends',), 'tag': ('friends',)}
    assert found['tag'].regret[0] == pytest.approx(0, abs=0.5)
    gain = (judged.scores['all_in_one'] - judged.scores['tag']) / 4
    assert found['tag'].over_all_in_one[0] == pytest.approx(gain)
    assert found['tag'].cost == 1
    assert found['hoa'].cost == 10
    assert math.isnan(found['tag'].regret[1])
    order = [one.rank for one in judging.standings([judged], ())]
    assert order == sorted(order)


def test_recommended_groups_where_it_helps_and_not_where_it_does_not():
    right, wrong = made_up(), made_up(sign=-1)
    for table, groups in ((right, 2), (wrong, 1)):
        trainers = [judging.RecordedTrainer(table, seed) for seed in range(3)]
        for trainer in trainers:
            searcher = grouping.Searcher(trainer)
            proposal = grouping.recommended(base=_halved(table)).propose(searcher, 2)
            assert len(proposal.groups) == groups
            verdict = 'worth it' if groups == 2 else 'Do not group'
            assert verdict in proposal.remarks[0]


def _halved(table):
    """Groups by the affinities of a table."""
    return grouping.from_affinities(table.affinities['exact'].mean(axis=(0, 1)))


def test_recommended_takes_the_wider_network_where_it_is_better():
    table = made_up()
    searcher = grouping.Searcher(judging.RecordedTrainer(table, 0))
    bad = grouping.given([['a', 'c'], ['b', 'd']])
    proposal = grouping.recommended(bad, wider={2: 2.0}).propose(searcher, 2)
    assert proposal.groups == ((0, 1, 2, 3),)
    assert proposal.costs == (2.0,)
    assert 'one network of cost 2 for all of them' in proposal.remarks[0]
    assert '% higher, the mean' in proposal.remarks[0]
    assert searcher.steps == 100 + 100 + 2 * 50


def test_holm_equals_its_definition():
    """Bonferroni's procedure on what is left, again and again."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = rng.uniform(size=6) ** 3
        left, fallen = dict(enumerate(p_values)), set()
        while left:
            place = min(left, key=left.get)
            if left[place] * len(left) > 0.05:
                break
            fallen.add(place)
            del left[place]
        assert {n for n, falls in enumerate(judging._holm(p_values, 0.05)) if falls} == fallen
    expected = 2 * stats.t.cdf(-2.5, 7)
    assert judging._p_value(-5.0, 2.0, 8) == pytest.approx(expected)


def test_two_methods_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two methods are called 'tag'"):
        judging.judge(made_up(), [grouping.tag(), grouping.tag()])


def test_the_made_up_optimum_is_the_best_of_all_groupings():
    """Brute force over all partitions into two groups."""

    def total(groups):
        return sum(sum(truth(group).values()) for group in groups)

    two = [
        (tuple(first), tuple(set(range(4)) - set(first)))
        for size in (1, 2)
        for first in itertools.combinations(range(4), size)
    ]
    assert min(map(total, two)) == total(((0, 1), (2, 3)))
