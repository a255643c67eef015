import dataclasses
import itertools

import numpy as np
import pytest
from small import TASKS, make_problem

from tag_jax import comparison, grouping, numbers, selection, weighting
from tag_jax.grouping import Searcher
from tag_jax.runs import score_table
from tag_jax.training import Measurement, TrainingConfig

CONFIG = TrainingConfig(
    steps=20,
    batch_size=64,
    learning_rate=1e-2,
    eval_every=4,
    affinity=Measurement(every=4),
    slots=2,
)
ALL = tuple(TASKS)
METHODS = ('all_in_one', 'single_task', 'tag', 'cosine_similarity', 'hoa', 'esa', 'exhaustive')


def made(*names):
    return [getattr(grouping, name)() for name in names]


@pytest.fixture(scope='module')
def compared(problem, dataset):
    seen = []
    found = comparison.compare_groupings(
        problem, dataset, made(*METHODS), (2,), CONFIG, seeds=2, on_outcome=seen.append
    )
    assert tuple(seen) == found.outcomes
    return found


def outcome(compared, method, seed=0):
    (found,) = (o for o in compared.outcomes if (o.method, o.seed) == (method, seed))
    return found


def test_every_method_and_seed_has_an_outcome(compared):
    found = [(one.method, one.seed) for one in compared.outcomes]
    assert sorted(found) == sorted(itertools.product((*METHODS, 'random'), (0, 1)))
    assert outcome(compared, 'all_in_one').groups == (ALL,)
    assert outcome(compared, 'single_task').groups == tuple((task,) for task in ALL)
    assert outcome(compared, 'random').groups == ()


def test_outcomes_say_which_network_serves_each_task_and_what_it_costs(compared):
    for one in compared.outcomes:
        if one.method == 'random':
            assert one.serves == one.costs == ()
            continue
        assert len(one.serves) == len(one.costs) == len(one.groups)
        assert sorted(task for served in one.serves for task in served) == sorted(ALL)
        for group, served in zip(one.groups, one.serves, strict=True):
            assert set(served) <= set(group)
        assert sum(one.costs) == pytest.approx(one.cost)
    assert outcome(compared, 'all_in_one').serves == (ALL,)


@pytest.mark.variants(1)
@pytest.mark.parametrize('methods', [('tag', 'hoa', 'subsets'), ('exhaustive', 'subsets')])
def test_what_it_takes_is_foreseen(methods, problem, dataset, tmp_path):
    """Against the networks of its score table; the others are trained for their time."""
    config = dataclasses.replace(CONFIG, eval_every=1, patience=0)
    asked = problem, dataset, made(*methods), (2,), config
    foreseen = comparison.dry_run(*asked, seeds=2)
    (reference,) = [stage for stage in foreseen.stages if stage.what.endswith('the time of')]
    assert (reference.networks, reference.steps) == (2, config.steps)
    comparison.compare_groupings(*asked, seeds=2, scores=tmp_path)
    with score_table.ScoreTable(tmp_path, {}) as book:
        steps = sum(row['steps_taken'] for row in book.rows())
    known = [stage for stage in foreseen.stages if not stage.measures and stage != reference]
    assert 0 < steps <= sum(stage.networks * stage.steps for stage in known)
    if 'exhaustive' in methods:
        assert steps == sum(stage.networks * stage.steps for stage in known)


@pytest.mark.sweep
def test_weightings_stand_among_the_methods(problem, dataset, compared):
    """Each is a network for all tasks, at the cost of its training; a plain sum is all in one."""
    asked = {'pcgrad': weighting.pcgrad, 'sum': weighting.equal}
    found = comparison.compare_groupings(
        problem, dataset, made('tag'), (2,), CONFIG, seeds=1, weightings=asked
    )
    plain, other = outcome(found, 'sum'), outcome(found, 'pcgrad')
    assert (plain.steps, other.steps) == (1, 1)
    assert plain.groups == other.groups == (ALL,)
    assert plain.seconds > 0
    assert plain.test_error == pytest.approx(outcome(compared, 'all_in_one').test_error, rel=1e-5)
    config = dataclasses.replace(CONFIG, weighting=weighting.pcgrad)
    alone = grouping.group_tasks(problem, dataset, 1, grouping.all_in_one(), config)
    assert other.test_error == pytest.approx(alone.total_test_error, rel=1e-5)
    foreseen = comparison.dry_run(
        problem, dataset, made('tag'), (2,), CONFIG, seeds=2, weightings=asked
    )
    assert [s.networks for s in foreseen.stages if s.what.endswith('weighed')] == [4]
    with pytest.raises(ValueError, match="two methods of a comparison are called 'tag'"):
        comparison.compare_groupings(
            problem, dataset, made('tag'), (2,), CONFIG, weightings={'tag': weighting.equal}
        )


def test_searches_cost_what_they_would_have_trained(compared):
    """In all-in-one networks, whatever another method had trained already."""
    for method, steps in (
        ('all_in_one', 0), ('random', 0), ('tag', 1), ('cosine_similarity', 1), ('hoa', 6),
        ('exhaustive', 7),
    ):  # fmt: skip
        assert outcome(compared, method).steps == steps
    assert outcome(compared, 'esa').steps == pytest.approx(7 / 20)


@pytest.mark.sweep
def test_a_method_chooses_what_its_grouping_function_chooses(compared, problem, dataset):
    for method in ('tag', 'hoa', 'exhaustive'):
        alone = grouping.group_tasks(problem, dataset, 2, getattr(grouping, method)(), CONFIG)
        assert {group.tasks for group in alone.groups} == set(outcome(compared, method).groups)


def test_networks_of_other_seeds_judge_groups_afresh(compared):
    """The optimum of two seeds: chosen on the one, scored on the other."""
    errors = [outcome(compared, 'exhaustive', seed).fresh_errors[1 - seed] for seed in (0, 1)]
    assert compared.optima[2].error == pytest.approx(np.mean(errors))
    assert compared.optima[2].groups[0] == outcome(compared, 'exhaustive', 0).groups
    together = [outcome(compared, 'all_in_one', seed) for seed in (0, 1)]
    assert together[0].fresh_errors == pytest.approx({1: together[1].test_error})


def test_nothing_is_better_on_its_own_validation_than_the_exhaustive_choice(compared):
    for one in compared.outcomes:
        if one.method != 'single_task':
            assert (
                outcome(compared, 'exhaustive', one.seed).validation_error <= one.validation_error
            )


def test_without_the_exhaustive_search_only_what_is_asked_for_is_trained(
    problem, dataset, tmp_path
):
    found = comparison.compare_groupings(
        problem, dataset, made('tag'), (2,), CONFIG, seeds=1, scores=tmp_path / 'store'
    )
    assert found.optima == {}
    assert found.correlations == {}
    assert not any(one.fresh_errors for one in found.outcomes)
    rows = (tmp_path / 'store' / 'networks.jsonl').read_text().count('\n')
    assert rows <= 7


@pytest.mark.sweep  # Its short form: grouping/test_network_methods.py.
def test_encoders_of_other_sizes_take_part(problem, dataset):
    """Single tasks on a smaller encoder, all tasks on a wider one; budgets in their costs."""
    others = [make_problem(widths=widths) for widths in ((8, 8), (32, 16), (6, 8))]
    found = (grouping.cost_of_encoder(one, problem, dataset) for one in others)
    sizes = dict(zip(found, others, strict=True))
    cost, high, least = sizes
    small = sizes[cost]
    small_single_task = grouping.single_task(smaller=cost)._replace(name='small_single_task')
    methods = [
        *made('all_in_one', 'tag'),
        grouping.all_in_one(wider={1.6: high})._replace(name='wide_all_in_one', options={}),
        grouping.single_task(smaller={1.6: least})._replace(name='equal_single_task', options={}),
        small_single_task._replace(options={}),
        grouping.hoa(smaller=cost),
        grouping.exhaustive(smaller=cost),
    ]
    found = comparison.compare_groupings(
        problem, dataset, methods, (1.6,), CONFIG, seeds=1, sizes=sizes
    )
    hoa, exhaustive = (method.displayed for method in methods[-2:])
    assert exhaustive == f'exhaustive(smaller={cost:g})'
    costs = {one.method: one.cost for one in found.outcomes}
    assert costs['all_in_one'] == costs['tag'] == 1
    assert costs['small_single_task'] == pytest.approx(3 * cost)
    assert costs['equal_single_task'] == pytest.approx(3 * least) != 3 * cost
    assert costs['wide_all_in_one'] == high > 2
    assert all(costs[method] <= 1.6 for method in ('random', hoa, exhaustive))
    (best,) = (one for one in found.outcomes if one.method == exhaustive)
    assert best.steps == 7 + 3
    alone = grouping.group_tasks(problem, dataset, 1.6, methods[-1], CONFIG, sizes={cost: small})
    assert {group.tasks for group in alone.groups} == set(best.groups)
    assert sum(group.cost for group in alone.groups) == pytest.approx(best.cost)


@pytest.mark.sweep
def test_a_network_is_measured_with_other_settings(problem, dataset):
    """As if they were those of the comparison."""
    with comparison.training_seeds(problem, dataset, CONFIG, 1) as (found,):
        changed = found.measured(learning_rate=0.1, batch_size=32)[0].history
        again = found.changed(learning_rate=0.1, batch_size=32).measured()[0].history
        np.testing.assert_array_equal(changed, again)
        assert (changed != found.measured()[0].history).any()


def test_without_a_gain_there_is_no_share(compared):
    """With one network for all tasks, random groupings are the optimum."""
    one = comparison.CrossFitted(10.0, ())
    outcomes = tuple(
        outcome._replace(test_error=10.0, fresh_errors={}) for outcome in compared.outcomes
    )
    lines = comparison.summary(compared._replace(outcomes=outcomes, optima={2: one}))
    assert {line.share for line in lines} == {None}


def row(tasks, **errors):
    scores = {task: {'error': error} for task, error in errors.items()}
    return {'tasks': tasks, 'validation': scores, 'test': scores, 'cost': 1.0}


def test_the_optimum_by_hand():
    """Two seeds that disagree: each choice is paid for on the other seed."""
    rows = [
        [row(['a'], a=1.0), row(['b'], b=1.0), row(['a', 'b'], a=2.0, b=2.0)],
        [row(['a'], a=7.0), row(['b'], b=9.0), row(['a', 'b'], a=3.0, b=4.0)],
    ]
    found = comparison.cross_fitted_optimum(rows, ('a', 'b'), 2)
    assert found.groups == ((('a',), ('b',)), (('a', 'b'),))
    assert found.error == (16 + 4) / 2
    assert comparison.cross_fitted_optimum(rows[:1], ('a', 'b'), 2) is None


def test_the_optimum_of_three_seeds_is_chosen_in_all_ways():
    """One seed chooses and two judge, or two choose and one judges."""
    alone, together = (1.0, 5.0, 6.0), 3.25
    rows = [
        [row(['a'], a=one), row(['b'], b=one), row(['a', 'b'], a=together, b=together)]
        for one in alone
    ]
    found = comparison.cross_fitted_optimum(rows, ('a', 'b'), 2)
    # The first seed prefers single tasks, and so does its mean with the second.
    assert found.groups.count((('a',), ('b',))) == 2
    assert len(found.groups) == 6
    assert found.error == pytest.approx((2 * (5 + 6) / 2 + 2 * 6 + 4 * 2 * together) / 6)


def test_correlations_are_within_tasks():
    left, right = np.array([1.0, 2, 3, np.nan]), np.array([2.0, 4, 6, 1])
    assert numbers.correlation(left, right) == pytest.approx(1)
    assert numbers.correlation(left, -right) == pytest.approx(-1)
    assert np.isnan(numbers.correlation(left, np.ones(4)))


def test_affinities_predict_the_mean_over_the_other_members(problem, dataset):
    with comparison.training_seeds(problem, dataset, CONFIG, 1) as (found,):
        predicted = grouping.tag().predict(Searcher(found))
        affinity = found.measured()[0].mean
        chosen = grouping.tag().propose(Searcher(found), 2)
    (together,) = np.flatnonzero(predicted.members.all(axis=1))
    assert predicted.scores[together, 0] == pytest.approx(-affinity[[1, 2], 0].mean())
    assert predicted.members.sum(axis=1).min() == 2
    assert selection.select_groups(affinity, 2).groups == chosen.groups


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'methods': ['tag']}, "must be a value such as grouping.tag\\(\\), not the name 'tag'"),
        ({'methods': [grouping.tag]}, r'this is a function: call it, as tag\(\)'),
        ({'methods': [grouping.tag(), grouping.tag()]}, "two methods .* are called 'tag'"),
        ({'methods': ()}, 'needs at least one method, one budget and one seed'),
        ({'budgets': (2, 9)}, 'budget must be an integer between 1 and the number of tasks, 3'),
        ({'seeds': 0}, 'needs at least one method, one budget and one seed'),
        (
            {'methods': [grouping.all_in_one(wider=2.0)]},
            'networks of cost 2 are asked for: give their problem with sizes={2: problem}',
        ),
        ({'methods': [grouping.all_in_one(wider={3: 2.0})]}, 'no wider encoder for the budget 2'),
        (
            {'methods': [grouping.single_task(smaller={3: 0.5})]},
            'no smaller encoder for the budget 2',
        ),
        ({'methods': [grouping.single_task(smaller=0.5)]}, 'networks of cost 0.5 are asked for'),
    ],
)
def test_what_cannot_be_compared_is_refused(problem, dataset, change, message):
    asked = {'methods': made('tag'), 'budgets': (2,), 'config': CONFIG, 'seeds': 1} | change
    with pytest.raises(ValueError, match=message):
        comparison.compare_groupings(problem, dataset, **asked)


def test_seeds_begin_with_that_of_the_config(problem, dataset):
    config = dataclasses.replace(CONFIG, seed=7)
    found = comparison.compare_groupings(problem, dataset, made('all_in_one'), [2], config, seeds=1)
    assert {one.seed for one in found.outcomes} == {7}


def test_outcomes_as_a_table(compared):
    table = compared.to_dataframe()
    assert len(table) == len(compared.outcomes)
    for row, one in zip(table.to_dict('records'), compared.outcomes, strict=True):
        for name in ('method', 'budget', 'seed', 'split', 'cost', 'test_error', 'steps'):
            assert row[name] == getattr(one, name)
        assert row['groups'].split('; ') == [', '.join(group) for group in one.groups or [()]]
        assert row['fresh_error'] == pytest.approx(np.mean([*one.fresh_errors.values()]))
    unknown = compared._replace(outcomes=(compared.outcomes[0]._replace(fresh_errors={}),))
    assert np.isnan(unknown.to_dataframe()['fresh_error'][0])
