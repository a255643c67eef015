"""Weightings side by side, on the small problem."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import TASKS, make_problem, make_split

from tag_jax import (
    data,
    evaluation,
    gradients,
    multi_objective,
    numbers,
    parallel,
    report,
    training,
    weighting,
)
from tag_jax.data.cityscapes import TASKS as CITYSCAPES
from tag_jax.problem import Batch
from tag_jax.training import TrainingConfig

CONFIG = TrainingConfig(steps=40, batch_size=64, eval_every=20, learning_rate=1e-2)


@pytest.fixture(scope='module')
def outcomes(problem, dataset):
    weightings = {'equal': weighting.equal, 'mgda_ub': weighting.mgda_ub}
    return multi_objective.compare(problem, dataset, weightings, CONFIG, seeds=3)


def test_every_way_has_errors_of_all_seeds_and_tasks(outcomes):
    assert [outcome.name for outcome in outcomes] == ['single task', 'equal', 'mgda_ub']
    for outcome in outcomes:
        assert outcome.test_error.shape == outcome.validation_error.shape == (3, 3)
        assert np.isfinite(outcome.test_error).all()
        assert set(outcome.learning_rates) == {CONFIG.learning_rate}
        mean, error = numbers.mean_and_error(outcome.test_error)
        np.testing.assert_allclose(mean, outcome.test_error.mean(axis=0))
        np.testing.assert_allclose(error, outcome.test_error.std(axis=0, ddof=1) / np.sqrt(3))


def test_outcomes_as_a_table(outcomes):
    table = multi_objective.to_dataframe(outcomes)
    assert len(table) == 3 * 3 * 3  # Ways, seeds and tasks.
    by_place = table.set_index(['method', 'seed', 'task'])
    for one in outcomes:
        for seed, (n, task) in itertools.product(range(3), enumerate(TASKS)):
            row = by_place.loc[one.name, seed, task]
            assert row['learning_rate'] == CONFIG.learning_rate
            assert row['validation_error'] == one.validation_error[seed, n]
            assert row['test_error'] == one.test_error[seed, n]
            for name, values in one.metrics[task].items():
                assert name == 'error' or row[name] == values[seed]
    assert np.isnan(by_place.loc['equal', 0, 'radius']['accuracy'])


def test_weightings_differ(outcomes):
    assert not np.array_equal(outcomes[1].test_error, outcomes[2].test_error)


def test_the_learning_rate_is_chosen_on_validation(problem, dataset):
    arguments = problem, dataset, {'equal': weighting.equal}
    rates = (1e-6, 1e-2)
    chosen = multi_objective.compare(*arguments, CONFIG, 1, rates)[1]
    alone = [
        multi_objective.compare(*arguments, dataclasses.replace(CONFIG, learning_rate=rate), 1)[1]
        for rate in rates
    ]
    best = min(alone, key=lambda outcome: outcome.validation_error.mean())
    assert chosen.learning_rates == best.learning_rates == (1e-2,)
    np.testing.assert_allclose(chosen.test_error, best.test_error, atol=1e-3)


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('total', 'middle'), [(2, weighting.equal()), (1, weighting.equal(mean=True))]
)
def test_static_weights_meet_in_the_plain_sum_or_mean(total, middle):
    names = ('sign', 'octant')
    grid = multi_objective.static_weights(names, 3, total)
    assert list(grid) == ['static weight 0.25', 'static weight 0.50', 'static weight 0.75']
    problem = make_problem({task: TASKS[task] for task in names})
    params, state = problem.init(jax.random.key(0))
    batch = Batch(*make_split(32).only(names))
    by_task, _ = gradients.task_gradients(problem, params, state, batch, jax.random.key(1))

    def combined(transform):
        updates, _ = transform.update(by_task, transform.init(params), params)
        return ravel_pytree(updates['shared'])[0]

    first, second, third = (combined(make()) for make in grid.values())
    np.testing.assert_allclose(second, combined(middle), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(first + third, 2 * second, rtol=1e-5, atol=1e-7)
    assert not np.allclose(first, third)


def test_a_grid_over_three_tasks_has_all_shares():
    """Beside a search through all multiples that sum to 1; with the sum of the paper, 1 / T."""
    names = ('a', 'b', 'c')
    grid = multi_objective.static_weights(names, 4, 1 / 3)
    found = sorted(tuple(make.args[0][name] for name in names) for make in grid.values())
    shares = [np.array(one) / 5 for one in itertools.product(range(1, 5), repeat=3)]
    expected = sorted(tuple(one / 3) for one in shares if np.isclose(one.sum(), 1))
    np.testing.assert_allclose(found, expected)
    assert len(grid) == 4 * 3 / 2
    assert 'static weight 0.20, 0.20, 0.60' in grid
    equal = multi_objective.static_weights(names, 2)['static weight 0.33, 0.33, 0.33']
    np.testing.assert_allclose(list(equal.args[0].values()), 1)
    for names, points in ((('a',), 7), (('a', 'b', 'c'), 1), (tuple('abcdefgh'), 20)):
        with pytest.raises(ValueError, match=f'{len(names)} tasks and {points} points are not'):
            multi_objective.static_weights(names, points)


def test_what_is_searched_is_chosen_on_validation(tmp_path):
    """Where validation and test disagree, validation decides."""
    validation = {'equal': 5, 'gradnorm:0.5': 4, 'gradnorm:3': 2, 'static weight 0.5': 3}
    validation |= {'static weight 0.2': 6, 'mgda_ub': 8}
    ways = [
        multi_objective.Outcome(name, (0.1,), np.full((2, 2), x), np.full((2, 2), 10 - x), {}, 1.0)
        for name, x in validation.items()
    ]
    assert multi_objective.best(ways).name == 'gradnorm:3'
    found = multi_objective.searched(ways)
    assert {kind: (one.name, count) for kind, (one, count) in found.items()} == {
        'gradnorm': ('gradnorm:3', 2),
        multi_objective.STATIC: ('static weight 0.5', 2),
    }
    ways = [
        one._replace(metrics={task: {'error': one.test_error[:, n]} for n, task in enumerate('ab')})
        for one in ways
    ]
    text = report.write_multi_objective(tmp_path, ways, ('a', 'b'), {})
    page = (tmp_path / 'report.html').read_text()
    for sentence in (
        'Lowest mean validation error: gradnorm:3, mean test error 8.00 ± 0.00 %',
        'gradnorm: 2 were tried, and gradnorm:3 has the lowest mean validation error',
        'static weight: 2 were tried, and static weight 0.5 has the lowest mean validation error',
    ):
        assert sentence in text
        assert sentence in page
    assert 'Lowest mean test error' not in page


@pytest.mark.sweep
def test_training_again_on_validation_examples_too(problem, dataset):
    """The search chooses; what is tested is the last step of another training."""
    arguments = problem, dataset, {'equal': weighting.equal}
    rates = (1e-6, 1e-2)
    again = dataclasses.replace(CONFIG, steps=30, learning_rate=1.0)
    plain = multi_objective.compare(*arguments, CONFIG, 1, rates)[1]
    found = multi_objective.compare(*arguments, CONFIG, 1, rates, retraining=again)[1]
    assert found.learning_rates == plain.learning_rates == (1e-2,)
    np.testing.assert_array_equal(found.validation_error, plain.validation_error)
    assert not np.array_equal(found.test_error, plain.test_error)
    both = data.append(dataset.train, dataset.validation)
    by_hand = training.train_networks(
        problem,
        both,
        dataset.validation,
        [training.NetworkPlan('x', problem.task_names, CONFIG.seed, 1e-2)],
        dataclasses.replace(again, eval_every=30, patience=0),
    )[0]
    test = evaluation.prepare(problem, dataset.test, parallel.make_mesh((1, 1)))
    scores = evaluation.evaluate(problem, by_hand.params, by_hand.model_state, test, 64)
    errors = [scores[task]['error'] for task in problem.task_names]
    np.testing.assert_allclose(found.test_error[0], errors, rtol=1e-5)


def test_training_time_leaves_compilation_out(outcomes):
    """The time of all networks has compilation in it; that of one network has not."""
    for outcome in outcomes:
        assert 0 < outcome.training_seconds < outcome.seconds
    table = report.multi_objective_table(outcomes, tuple(TASKS))
    header, *lines = table.splitlines()
    assert header.split()[-2:] == ['rate', 'training']
    assert all(line.split()[-1] in ('ms', 's', 'min', 'h') for line in lines[: len(outcomes)])


@pytest.mark.parametrize(
    ('weightings', 'seeds', 'rates', 'sentence'),
    [
        ({}, 0, None, 'seeds must be at least 1'),
        ({'single task': weighting.equal}, 1, None, "no weighting may be called 'single task'"),
        ({}, 1, (), 'learning_rates is empty'),
    ],
)
def test_bad_input(problem, dataset, weightings, seeds, rates, sentence):
    with pytest.raises(ValueError, match=sentence):
        multi_objective.compare(problem, dataset, weightings, CONFIG, seeds, rates)


def test_some_tasks_of_a_dataset(dataset):
    two = dataset.only(['radius', 'sign'])
    assert list(two.tasks) == ['radius', 'sign']
    assert set(two.train.targets) == {'radius', 'sign'}
    problem = make_problem({task: TASKS[task] for task in two.tasks})
    assert problem.task_names == ('radius', 'sign')
    with pytest.raises(ValueError, match="points has no task 'x': choose from sign, octant"):
        dataset.only(['x'])
    with pytest.raises(ValueError, match='at least one task, and none twice'):
        dataset.only(['sign', 'sign'])


def test_table_and_pictures(outcomes, tmp_path):
    table = report.write_multi_objective(tmp_path, outcomes, tuple(TASKS), {'seeds': 3})
    lines = [line.split('  ')[0] for line in table.splitlines()]
    assert lines[1 : 1 + len(outcomes)] == [o.name for o in outcomes]
    results = json.loads((tmp_path / 'results.json').read_text())
    assert np.shape(results['outcomes'][0]['test_error']) == (3, 3)
    assert (tmp_path / 'errors.png').exists()
    best = min(outcomes, key=lambda outcome: outcome.validation_error.mean())
    page = (tmp_path / 'report.html').read_text()
    assert f'error: {best.name}, mean test error {best.test_error.mean():.2f} ± ' in page


def test_of_many_tasks_there_is_a_row_each():
    names = tuple(f'task_{n}' for n in range(40))
    errors = np.arange(40.0)[None]
    ways = [multi_objective.Outcome(way, (0.1,), errors, errors, {}, 1.0) for way in ('a', 'b')]
    header, *lines = report.multi_objective_table(ways, names).splitlines()[:-2]
    assert header.split() == ['test', 'error', '(%)', 'a', 'b']
    assert [line.split() for line in lines[::39]] == [
        ['task_0', '0.00', '0.00'], ['task_39', '39.00', '39.00'],
    ]  # fmt: skip
    assert lines[-3].split() == ['mean', '19.50', '19.50']


@pytest.mark.sweep
def test_natural_units(outcomes, tmp_path):
    report.write_multi_objective(tmp_path, outcomes, tuple(TASKS), {})
    kept = json.loads((tmp_path / 'results.json').read_text())['outcomes'][1]['metrics']
    for column, task in enumerate(TASKS):
        np.testing.assert_array_equal(kept[task]['error'], outcomes[1].test_error[:, column])
    np.testing.assert_allclose(
        100 - 100 * np.array(kept['sign']['accuracy']), kept['sign']['error']
    )
    mean, error = numbers.mean_and_error(outcomes[1].metrics['radius']['mse'])
    page = (tmp_path / 'report.html').read_text()
    assert 'radius: mse' in page
    assert f'{mean:.4g} ± {error:.2g}' in page


def test_one_task_and_numbers_that_are_not_finite(outcomes, tmp_path):
    """A metric of the user's own, and a network without an error."""
    metrics = {'sign': {'error': np.zeros(3), 'mse': np.array([0.0, 0, 1e-7])}}
    other = {'sign': {**metrics['sign'], 'own': np.array([np.nan, 1, 2])}}
    odd = [
        o._replace(test_error=o.test_error[:, :1], validation_error=o.validation_error[:, :1])
        for o in outcomes[:2]
    ]
    odd = [one._replace(metrics=found) for one, found in zip(odd, (metrics, other), strict=True)]
    report.write_multi_objective(tmp_path, odd, ('sign',), {})
    kept = json.loads((tmp_path / 'results.json').read_text())['outcomes'][1]['metrics']
    assert kept['sign']['own'] == [None, 1, 2]
    assert (tmp_path / 'errors.png').exists()
    report.scatter_figure(
        [one._replace(metrics={**one.metrics, 'b': one.metrics['sign']}) for one in odd],
        ('sign', 'b'),
    )


@pytest.mark.sweep
def test_pairs_of_tasks_make_scatters(outcomes, tmp_path):
    report.write_multi_objective(tmp_path, outcomes, tuple(TASKS), {})
    assert (tmp_path / 'accuracies.png').exists()
    panels = report.scatter_figure(outcomes, tuple(TASKS)).axes
    of_pairs = {(axes.get_xlabel(), axes.get_ylabel()): axes for axes in panels}
    axes = of_pairs['sign: accuracy (%)', 'radius: 1 / mse']
    assert len(of_pairs) == 3
    metrics = outcomes[1].metrics
    point = 100 * metrics['sign']['accuracy'].mean(), (1 / metrics['radius']['mse']).mean()
    points = [np.ravel(line.get_xydata()) for line in axes.lines]
    assert any(np.allclose(found, point) for found in points if len(found) == 2)


def test_of_many_tasks_there_are_two_radars():
    """Easy tasks on the left, hard ones on the right, and no name upside down."""
    names = tuple(f'task_{n}' for n in range(40))
    errors = np.random.default_rng(0).permutation(np.arange(40.0))[None]
    ways = [
        multi_objective.Outcome(way, (0.1,), errors + n, errors + n, {}, 1.0)
        for n, way in enumerate(['single task', 'static weight 0.1', 'static weight 0.2', 'equal'])
    ]
    figure = report.radar_figure(ways, names)
    easy, hard = figure.axes
    for axes, levels in ((easy, range(20)), (hard, range(20, 40))):
        shown = [text for text in axes.texts if text.get_text()]
        drawn = {text.get_text() for text in shown}
        assert drawn == {names[n] for n in range(40) if errors[0, n] in levels}
        assert all(np.cos(np.radians(text.get_rotation())) >= -1e-9 for text in shown)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.texts]
    assert labels == ['single task', 'equal', 'static weights']
    assert len(report.radar_figure(ways, names[:24]).axes) == 1


def test_the_axis_of_instances_is_one_minus_the_error():
    """Figure 4: offsets are normalised to the image; and Table 4 has pixels of 512."""
    rng = np.random.default_rng(0)
    target, output = rng.normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
    metric = CITYSCAPES['instance_offset'].metric
    measured = metric.finish(
        jax.tree.map(np.asarray, metric.sums(output, target, np.ones((3, 4, 5), bool))),
        metric.reference(target, np.ones((3, 4, 5), bool)),
    )
    mae = np.abs(output - target).mean()
    np.testing.assert_allclose(measured['mae_in_pixels'], 512 * mae, rtol=1e-5)
    metrics = {
        'instance_offset': {name: np.array([value]) for name, value in measured.items()},
        'disparity': {'error': np.array([50.0]), 'mae': np.array([4.0])},
    }
    errors = np.zeros((1, 2))
    way = multi_objective.Outcome('equal', (0.1,), errors, errors, metrics, 1.0)
    (axes,) = report.scatter_figure([way], tuple(metrics)).axes
    assert axes.get_xlabel() == 'instance_offset: 1 - error'
    assert axes.get_ylabel() == 'disparity: 1 / mae'
    (point,) = [line.get_xydata()[0] for line in axes.lines if len(line.get_xydata()) == 1]
    np.testing.assert_allclose(point, [1 - mae, 0.25], rtol=1e-5)
