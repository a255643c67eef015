import jax
import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import evaluation
from tag_jax.data import Split
from tag_jax.grouping.gain import Serving, gain_interval
from tag_jax.report.words import gain_sentence

ALL = list(TASKS)


@pytest.fixture(scope='module')
def networks():
    """Two networks before training, which err on different examples."""

    problem = make_problem()
    return problem, *(problem.init(jax.random.key(seed)) for seed in (0, 1))


def interval(networks, split, select_by='error', tasks=ALL):
    problem, own, together = networks
    prepared = evaluation.prepare(problem, split, select_by=select_by)
    chosen, baseline = Serving(problem, own, tasks), Serving(problem, together, ALL)
    return gain_interval([chosen], [baseline], prepared, select_by)


@pytest.mark.variants(1)
@pytest.mark.parametrize('select_by', ['error', 'loss'])
@pytest.mark.parametrize('size', [60, 600])
def test_the_bounds_are_those_of_examples_drawn_one_by_one(networks, size, select_by):
    """By another route: per-example losses, and draws of NumPy."""
    split = make_split(size, 3)
    problem, *pair = networks
    wrong, losses = [], []
    for params, state in pair:
        outputs = problem.predict(params, state, split.inputs)
        of_tasks = {t: np.asarray(problem.tasks[t].loss(outputs[t], split.targets[t])) for t in ALL}
        losses.append(sum(of_tasks.values()))
        labels = split.targets
        variance = np.var(labels['radius'])
        wrong.append(
            sum(100.0 * (np.argmax(outputs[t], -1) != labels[t]) for t in ('sign', 'octant'))
            + 100 * (np.asarray(outputs['radius'])[:, 0] - labels['radius']) ** 2 / variance
        )
    own, other = wrong if select_by == 'error' else losses
    rows = np.random.default_rng(9).integers(0, size, (4000, size))
    gains = 100 * (1 - own[rows].mean(1) / other[rows].mean(1))
    low, high = interval(networks, split, select_by)
    assert low < high
    np.testing.assert_allclose(
        [low, high], np.quantile(gains, [0.025, 0.975]), atol=0.35 * gains.std()
    )


def test_a_network_gains_nothing_over_itself(networks):
    problem, own, _ = networks
    prepared = evaluation.prepare(problem, make_split(50, 1))
    halves = [Serving(problem, own, tasks) for tasks in (ALL[:1], ALL[1:])]
    found = gain_interval(halves, [Serving(problem, own, ALL)], prepared, 'error')
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_no_interval_where_draws_lack_labels(networks):
    split = make_split(50, 1)
    few = {task: np.arange(50) < (1 if task == 'sign' else 50) for task in ALL}
    assert interval(networks, Split(split.inputs, split.targets, few)) is None
    assert interval(networks, make_split(8)) is None


def test_in_words():
    results = {
        'total_test_error': 8.0,
        'test_error': {'a': 8.0},
        'baselines': {'mtl': {'total_test_error': 10.0, 'test_error': {'a': 10.0}}},
    }
    sentence = gain_sentence(results | {'gain_interval': [10.0, 30.0]})
    assert sentence.endswith(
        '20.0 % lower with this seed (95 % interval over test examples: 10.0 to 30.0 %).'
    )
    sentence = gain_sentence(results | {'gain_interval': [-2.0, 42.0]})
    assert '2.0 % higher to 42.0 % lower, so it cannot be told from none).' in sentence
