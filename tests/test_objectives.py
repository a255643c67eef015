import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import objectives


def scored(metric, output, target, mask):
    sums = metric.sums(jnp.asarray(output), jnp.asarray(target), jnp.asarray(mask))
    return {name: np.asarray(value, np.float64) for name, value in sums.items()}


def test_classification_by_hand():
    objective = objectives.classification(3)
    output = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    target, mask = np.array([0, 1, 0, 2]), np.array([True, True, True, False])
    assert objective.width == 3
    expected = np.log(np.exp(output).sum(axis=1)) - output[np.arange(4), target]
    np.testing.assert_allclose(objective.loss(output, target), expected, rtol=1e-6)
    objective.metric.reference(target, mask)
    finished = objective.metric.finish(scored(objective.metric, output, target, mask))
    assert finished == pytest.approx({'error': 100 / 3, 'accuracy': 2 / 3})


@pytest.mark.parametrize('shape', [(5, 1), (5,), (5, 2)])
def test_regression_by_hand(shape):
    rng = np.random.default_rng(0)
    size = shape[1] if len(shape) > 1 else 1
    objective = objectives.regression(size)
    output, target = rng.normal(size=(5, size)), rng.normal(size=shape)
    columns = target.reshape(5, size)
    np.testing.assert_allclose(
        objective.loss(jnp.asarray(output), jnp.asarray(target)),
        np.square(output - columns).mean(axis=1),
        rtol=1e-5,
    )
    mask = np.array([True, True, False, True, True])
    sums = scored(objective.metric, output, columns, mask)
    finished = objective.metric.finish(sums, objective.metric.reference(target, mask))
    mse = np.square(output - columns)[mask].mean()
    assert finished['mse'] == pytest.approx(mse, rel=1e-5)
    assert finished['error'] == pytest.approx(
        100 * mse / columns[mask].var(axis=0).mean(), rel=1e-5
    )


def test_the_variance_of_targets_is_exact_however_far_they_are_from_zero():
    target = (1e6 + np.linspace(-1, 1, 64)).astype(np.float32)
    metric = objectives.regression().metric
    sums = scored(metric, target[:, None] + np.float32(0.5), target, np.ones(64, bool))
    finished = metric.finish(sums, metric.reference(target, np.ones(64, bool)))
    assert finished['error'] == pytest.approx(100 * 0.25 / target.astype(float).var(), rel=1e-6)


@pytest.mark.parametrize('value', [0.0, 0.1, 1 / 3, 1e20])
def test_targets_without_variance_have_no_error(value):
    metric = objectives.regression().metric
    target = np.array([value, value, value, 5], np.float32)
    with pytest.raises(ValueError, match='all its targets are equal'):
        metric.reference(target, np.arange(4) < 3)
    assert metric.reference(target, np.ones(4, bool)) > 0


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ([0, 1, -1], 'the label -1 is not one of the classes 0 to 2'),
        ([0, 3, 1], 'the label 3 is not one of the classes 0 to 2'),
        ([0.0, 1.0, 2.0], r'must be integers \[N\], not float64 \[3\]'),
        ([[0], [1], [2]], r'must be integers \[N\], not int64 \[3, 1\]'),
        (['a', 'b', 'c'], 'must be integers'),
    ],
)
def test_labels_outside_the_classes_are_named(target, message):
    reference = objectives.classification(3).metric.reference
    with pytest.raises(ValueError, match=message):
        reference(np.array(target), np.ones(3, bool))


def test_masked_labels_may_be_anything():
    reference = objectives.classification(3).metric.reference
    assert reference(np.array([0, -1, 99]), np.array([True, False, False])) is None


def test_booleans_are_labels_of_two_classes():
    objective = objectives.classification(2)
    output, target = np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([False, True])
    objective.metric.reference(target, np.ones(2, bool))
    np.testing.assert_allclose(
        objective.loss(output, target), objective.loss(output, np.array([0, 1]))
    )
    sums = scored(objective.metric, output, target, np.ones(2, bool))
    assert objective.metric.finish(sums)['error'] == 0


def test_heads_of_another_width_are_named():
    with pytest.raises(ValueError, match='10 classes need 10 outputs of the head, which has 3'):
        objectives.classification(10).loss(jnp.zeros((4, 3)), jnp.zeros(4, int))
    with pytest.raises(ValueError, match=r'targets \[4\] do not fit the outputs .* \[4, 3\]'):
        objectives.regression(3).loss(jnp.zeros((4, 3)), jnp.zeros(4))


@given(st.sampled_from([1, 7]), st.sampled_from([0, 5]), st.integers(0, 2**32 - 1))
def test_sums_of_parts_are_the_sums_of_the_whole(first, second, seed):
    rng = np.random.default_rng(seed)
    size = first + second
    for objective, target in (
        (objectives.classification(4), rng.integers(4, size=size)),
        (objectives.regression(), rng.normal(size=size).astype(np.float32)),
    ):
        output = rng.normal(size=(size, objective.width)).astype(np.float32)
        mask = rng.random(size) < 0.7
        whole = scored(objective.metric, output, target, mask)
        parts = [
            scored(objective.metric, output[rows], target[rows], mask[rows])
            for rows in (slice(first), slice(first, size))
        ]
        for name, total in whole.items():
            np.testing.assert_allclose(parts[0][name] + parts[1][name], total, atol=1e-4)


def test_objectives_by_name():
    assert objectives.objective('classification', 5).width == 5
    assert objectives.objective('regression', 2).width == 2
    with pytest.raises(ValueError, match="no kind of task called 'ranking'"):
        objectives.objective('ranking', 2)


def test_objectives_of_a_dataset():
    goals = objectives.for_tasks({'a': ('classification', 5), 'b': ('regression', 1)})
    assert [goal.width for goal in goals.values()] == [5, 1]
    losses, metrics = objectives.losses_and_metrics(goals)
    assert losses['a'] is goals['a'].loss
    assert metrics['b'] is goals['b'].metric
