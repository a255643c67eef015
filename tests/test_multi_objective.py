"""Weightings side by side, on the small problem."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import TASKS, make_problem, make_split

from tag_jax import gradients, multi_objective, numbers, report, weighting
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
    with pytest.raises(ValueError, match='needs two tasks and 1 to 99 points'):
        multi_objective.static_weights(('a', 'b', 'c'), 3)


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
    assert [line.split('  ')[0] for line in table.splitlines()][1:] == [o.name for o in outcomes]
    results = json.loads((tmp_path / 'results.json').read_text())
    assert np.shape(results['outcomes'][0]['test_error']) == (3, 3)
    assert (tmp_path / 'errors.png').exists()
    best = min(outcomes, key=lambda outcome: outcome.test_error.mean())
    page = (tmp_path / 'report.html').read_text()
    assert f'Lowest mean test error: {best.name}, {best.test_error.mean():.2f} ± ' in page


def test_of_many_tasks_there_is_a_row_each():
    names = tuple(f'task_{n}' for n in range(40))
    errors = np.arange(40.0)[None]
    ways = [multi_objective.Outcome(way, (0.1,), errors, errors, {}, 1.0) for way in ('a', 'b')]
    header, *lines = report.multi_objective_table(ways, names).splitlines()
    assert header.split() == ['test', 'error', '(%)', 'a', 'b']
    assert [line.split() for line in lines[::39]] == [
        ['task_0', '0.00', '0.00'], ['task_39', '39.00', '39.00'],
    ]  # fmt: skip
    assert lines[-2].split() == ['mean', '19.50', '19.50']


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
