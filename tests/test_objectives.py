import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import evaluation, gradients, objectives
from tag_jax.data import Split
from tag_jax.problem import Batch, from_nnx


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


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('objective', 'output', 'targets'),
    [
        (objectives.classification(3), (4, 3), [-1, 3, 100, 0.5]),
        (objectives.classification(3, [1, 2, 3]), (4, 3), [-1, 3, 100, np.nan]),
        (objectives.binary(), (4, 1), [-1, 2, 1.5, np.nan]),
        (objectives.binary(2.0), (4, 1), [-1, 2, 1.5, np.nan]),
    ],
)
def test_a_loss_in_a_loop_of_ones_own_shows_labels_that_cannot_be(objective, output, targets):
    """Its gradient is NaN as well: a finite one would train as if nothing were wrong."""
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=output), jnp.float32)
    good = jnp.zeros(4, jnp.float32)
    for row, target in enumerate(targets):
        bad = good.at[row].set(target)
        losses = objective.loss(outputs, bad)
        assert np.isnan(losses[row])
        np.testing.assert_array_equal(
            np.delete(losses, row), np.delete(objective.loss(outputs, good), row)
        )
        slope = jax.grad(lambda z, bad=bad: objective.loss(z, bad).sum())(outputs)
        assert np.isnan(slope[row]).all()
        assert np.isfinite(np.delete(slope, row, axis=0)).all()


def test_labels_of_another_shape_are_named():
    outputs = jnp.zeros((4, 3))
    for target in (jnp.zeros((4, 1), int), jnp.zeros((4, 3))):
        with pytest.raises(ValueError, match=r'class labels must be integers \[N\], not'):
            objectives.classification(3).loss(outputs, target)


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


def pixels(seed=0, num_classes=5, shape=(3, 4, 6)):
    """Logits, labels among which class 3 is absent, and a mask with about a third missing."""
    rng = np.random.default_rng(seed)
    output = rng.normal(size=(*shape, num_classes)).astype(np.float32)
    output[..., 3] -= 100
    target = rng.choice([0, 1, 2, 4], shape).astype(np.int32)
    return output, target, rng.random(shape) < 0.7


def test_segmentation_by_hand():
    output, target, mask = pixels()
    objective = objectives.segmentation(5)
    assert objective.width == 5
    exponents = np.exp(output.astype(np.float64))
    chosen = np.take_along_axis(exponents, target[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(
        objective.loss(output, target), -np.log(chosen / exponents.sum(axis=-1)), rtol=1e-5
    )
    found = output.argmax(axis=-1)[mask]
    labels = target[mask]
    ious = [
        np.sum((found == c) & (labels == c)) / np.sum((found == c) | (labels == c))
        for c in (0, 1, 2, 4)
    ]
    wrong_behind_the_mask = np.where(mask, target, 255).astype(np.uint8)
    finished = objective.metric.finish(
        scored(objective.metric, output, wrong_behind_the_mask, mask)
    )
    assert finished == pytest.approx(
        {
            'error': 100 * (1 - np.mean(ious)),
            'miou': np.mean(ious),
            'pixel_accuracy': np.mean(found == labels),
        }
    )


def test_a_class_that_is_only_predicted_counts_as_missed():
    metric = objectives.segmentation(3).metric
    target = np.zeros((1, 1, 4), np.int32)
    output = np.eye(3, dtype=np.float32)[[[[0, 0, 0, 1]]]]
    finished = metric.finish(scored(metric, output, target, np.ones(1, bool)))
    assert finished == pytest.approx({'error': 62.5, 'miou': 0.375, 'pixel_accuracy': 0.75})


@pytest.mark.parametrize('wrong', [-1, 5, 255])
def test_labels_of_pixels_outside_the_classes_are_named(wrong):
    metric = objectives.segmentation(5).metric
    output, target, mask = pixels()
    target[0, 0, :2], mask[0, 0, :2] = wrong, True
    with pytest.raises(ValueError, match='2 pixels have labels outside of the classes 0 to 4'):
        metric.finish(scored(metric, output, target, mask))
    with pytest.raises(ValueError, match=f'the label {wrong} is not one of the classes 0 to 4'):
        metric.reference(target, mask)
    assert metric.reference(np.where(mask, target, 255) % 5, mask) is None
    with pytest.raises(ValueError, match=r'must be integers \[N, H, W\], not float64 \[3\]'):
        metric.reference(np.zeros(3), np.ones(3, bool))


@pytest.mark.parametrize('absolute', [False, True])
@pytest.mark.parametrize('shape', [(4, 5, 6), (4, 5, 6, 1), (4, 5, 6, 2), (9,), (9, 3)])
def test_regression_of_examples_and_pixels_by_hand(shape, absolute):
    rng = np.random.default_rng(0)
    size = 1 if len(shape) in (1, 3) else shape[-1]
    objective = objectives.regression(size, absolute)
    columns = (*shape, 1) if len(shape) in (1, 3) else shape
    output, target = rng.normal(size=columns), (3 + rng.normal(size=shape)).astype(np.float32)
    distance = (np.abs if absolute else np.square)(output - target.reshape(columns))
    np.testing.assert_allclose(
        objective.loss(jnp.asarray(output), jnp.asarray(target)), distance.mean(axis=-1), rtol=1e-5
    )
    mask = rng.random(columns[:-1]) < 0.6
    labels = target.reshape(columns).astype(np.float64)[mask]
    variance = labels.var(axis=0).mean()
    target.reshape(columns)[~mask] = np.nan
    sums = scored(objective.metric, output, target, mask)
    expected = {
        'mae' if absolute else 'mse': distance[mask].mean(),
        'error': 100 * distance[mask].mean() / (np.sqrt(variance) if absolute else variance),
    }
    for reference in ([], [objective.metric.reference(target, mask)]):
        assert objective.metric.finish(sums, *reference) == pytest.approx(expected, rel=1e-5)


def test_masks_of_whole_examples_hide_all_their_pixels():
    output, target, _ = pixels()
    rows = np.array([True, False, True])
    for objective, labels in (
        (objectives.segmentation(5), target),
        (objectives.regression(5, absolute=True), output + 1),
    ):
        hidden = scored(objective.metric, output, labels, rows)
        left = scored(objective.metric, output[rows], labels[rows], np.ones(2, bool))
        for name, total in hidden.items():
            np.testing.assert_allclose(total, left[name], rtol=1e-5)


@pytest.mark.parametrize('value', [0.0, 0.1, 1 / 3, 1e4])
def test_targets_without_variance_have_no_error_by_sums_either(value):
    metric = objectives.regression().metric
    target = np.full((2, 30, 50), value, np.float32)
    with pytest.raises(ValueError, match='all its targets are equal'):
        metric.finish(scored(metric, target[..., None] + 1, target, np.ones(2, bool)))


def test_images_of_another_shape_do_not_fit():
    with pytest.raises(ValueError, match=r'targets \[2, 3, 4\] do not fit .* \[2, 4, 3, 1\]'):
        objectives.regression().loss(jnp.zeros((2, 4, 3, 1)), jnp.zeros((2, 3, 4)))


PIXEL_TASKS = {
    'classes': objectives.segmentation(5),
    'depth': objectives.pixel_regression(absolute=True),
    'normals': objectives.pixel_regression(3),
}


@pytest.fixture(scope='module')
def pixel_problem():
    """A convolution and heads of one pixel each; (problem, params, model state)."""
    problem = from_nnx(
        lambda rngs: nnx.Conv(3, 4, (3, 3), rngs=rngs),
        PIXEL_TASKS,
        jax.ShapeDtypeStruct((1, 4, 6, 3), jnp.float32),
        {
            task: lambda rngs, width=goal.width: nnx.Conv(4, width, (1, 1), rngs=rngs)
            for task, goal in PIXEL_TASKS.items()
        },
    )
    return problem, *jax.jit(problem.init)(jax.random.key(0))


def pixel_split():
    """Six images, whose labels are missing in part: 255 or NaN behind masks."""
    rng = np.random.default_rng(1)
    _, classes, known = pixels(shape=(6, 4, 6))
    depth = rng.normal(size=(6, 4, 6)).astype(np.float32)
    normals = rng.normal(size=(6, 4, 6, 3)).astype(np.float32)
    seen = rng.random((6, 4, 6)) < 0.5
    return Split(
        rng.normal(size=(6, 4, 6, 3)).astype(np.float32),
        {
            'classes': np.where(known, classes, 255),
            'depth': np.where(seen, depth, np.nan),
            'normals': normals,
        },
        {'classes': known, 'depth': seen},
    )


def by_hand(outputs, split):
    """{task: mean loss over labelled pixels}, in plain jax.numpy."""
    known, seen = split.mask['classes'], split.mask['depth']
    chosen = jax.nn.log_softmax(outputs['classes'][known])
    chosen = chosen[np.arange(known.sum()), split.targets['classes'][known]]
    depth = outputs['depth'][..., 0][seen] - split.targets['depth'][seen]
    return {
        'classes': -jnp.mean(chosen),
        'depth': jnp.mean(jnp.abs(depth)),
        'normals': jnp.mean(jnp.square(outputs['normals'] - split.targets['normals'])),
    }


def test_the_gradient_of_a_pixel_problem(pixel_problem):
    problem, params, state = pixel_problem
    split = pixel_split()

    @jax.jit
    def found(params):
        batch = Batch(*jax.tree.map(jnp.asarray, tuple(split)))
        task_gradients, _ = gradients.task_gradients(problem, params, state, batch)
        return task_gradients.losses, task_gradients.combine(jnp.ones(3))

    def total(params):
        losses = by_hand(problem.predict(params, state, split.inputs), split)
        return sum(losses.values()), losses

    losses, gradient = found(params)
    expected, expected_losses = jax.jit(jax.grad(total, has_aux=True))(params)
    np.testing.assert_allclose(losses, [expected_losses[task] for task in PIXEL_TASKS], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradient, expected
    )


def test_pixel_problems_are_evaluated_in_batches(pixel_problem):
    problem, params, state = pixel_problem
    split = pixel_split()
    evaluation.check_split(problem, split, 'train')
    found = evaluation.evaluate(problem, params, state, split, 4)
    outputs = problem.predict(params, state, split.inputs)
    losses = by_hand(outputs, split)
    depth = split.targets['depth'][split.mask['depth']]
    assert found['depth']['mae'] == pytest.approx(float(losses['depth']), rel=1e-5)
    assert found['depth']['error'] == pytest.approx(
        100 * float(losses['depth']) / depth.std(), rel=1e-5
    )
    assert found['normals']['mse'] == pytest.approx(float(losses['normals']), rel=1e-5)
    known = split.mask['classes']
    right = np.argmax(outputs['classes'], axis=-1) == split.targets['classes']
    assert found['classes']['pixel_accuracy'] == pytest.approx(right[known].mean())
    wrong = split._replace(mask={**split.mask, 'classes': np.ones_like(known)})
    with pytest.raises(ValueError, match="of 'classes' will not do: the label 255 is not one of"):
        evaluation.check_split(problem, wrong, 'train')


def probabilities_by_hand(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


@pytest.mark.parametrize('weight', [None, 3.0])
def test_binary_by_hand(weight):
    objective = objectives.binary(weight)
    assert (objective.kind, objective.width) == ('binary', 1)
    logits = np.array([[2.0], [-1.0], [0.5], [-3.0]], np.float32)
    labels = np.array([1, 1, 0, 0])
    chances = probabilities_by_hand(logits[:, 0])
    expected = -np.where(labels, (weight or 1) * np.log(chances), np.log(1 - chances))
    np.testing.assert_allclose(objective.loss(logits, labels), expected, rtol=1e-5)
    finished = objective.metric.finish(scored(objective.metric, logits, labels, np.ones(4, bool)))
    assert finished == {'error': 50, 'accuracy': 0.5}
    assert objective.answer(logits).tolist() == [1, 0, 1, 0]
    np.testing.assert_allclose(objective.probabilities(logits)[:, 1], chances, rtol=1e-6)
    np.testing.assert_allclose(objective.probabilities(logits).sum(axis=1), 1)
    with pytest.raises(ValueError, match='must be 0 or 1, .* not 2'):
        objective.metric.reference(np.array([0, 2]), np.ones(2, bool))
    with pytest.raises(ValueError, match='do not fit the outputs of the head'):
        objective.loss(np.zeros((4, 2), np.float32), labels)


def test_losses_of_large_logits_are_finite():
    objective = objectives.binary()
    logits = jnp.array([[1000.0], [-1000.0]])
    np.testing.assert_allclose(objective.loss(logits, jnp.array([0, 1])), [1000, 1000])
    slopes = jax.grad(lambda z: objective.loss(z, jnp.array([1, 0])).sum())(logits)
    np.testing.assert_array_equal(slopes, 0)


def test_several_labels_by_hand():
    objective = objectives.multilabel(3)
    assert (objective.kind, objective.width) == ('multilabel', 3)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 3)).astype(np.float32), rng.integers(2, size=(5, 3))
    chances = probabilities_by_hand(logits)
    expected = -np.where(labels, np.log(chances), np.log(1 - chances))
    np.testing.assert_allclose(objective.loss(logits, labels), expected, rtol=1e-5)
    mask = rng.random((5, 3)) < 0.6
    found = objective.metric.finish(scored(objective.metric, logits, labels, mask))
    right = ((chances > 0.5) == labels)[mask].mean()
    assert found == pytest.approx({'error': 100 * (1 - right), 'accuracy': right})
    np.testing.assert_allclose(objective.probabilities(logits), chances, rtol=1e-6)
    with pytest.raises(ValueError, match='there are 2 labels an example, not 3'):
        objective.metric.reference(labels[:, :2], np.ones(5, bool))


def test_tokens_by_hand():
    objective = objectives.tokens(4)
    assert (objective.kind, objective.width) == ('tokens', 4)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 4)).astype(np.float32)
    labels, mask = rng.integers(4, size=(2, 5)), rng.random((2, 5)) < 0.7
    logs = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(logs, labels[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(objective.loss(logits, labels), expected, rtol=1e-5)
    found = objective.metric.finish(scored(objective.metric, logits, labels, mask))
    right = (logits.argmax(axis=-1) == labels)[mask].mean()
    assert found == pytest.approx({'error': 100 * (1 - right), 'accuracy': right})
    assert objective.answer(logits).shape == (2, 5)
    assert objective.probabilities(logits).shape == (2, 5, 4)
    with pytest.raises(ValueError, match=r'must be integers \[N, L\]'):
        objective.metric.reference(labels[0], np.ones(5, bool))


def test_weights_of_classes_multiply_losses_and_no_errors():
    plain, weighted = objectives.classification(3), objectives.classification(3, [1, 0, 2.5])
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2])
    expected = plain.loss(logits, labels) * np.array([1, 0, 2.5])[labels]
    np.testing.assert_allclose(weighted.loss(logits, labels), expected, rtol=1e-6)
    scores = [scored(one.metric, logits, labels, np.ones(6, bool)) for one in (plain, weighted)]
    assert plain.metric.finish(scores[0]) == weighted.metric.finish(scores[1])


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('make', 'shape'), [(objectives.tokens, (2, 5)), (objectives.segmentation, (2, 3, 4))]
)
def test_weights_of_classes_of_tokens_and_pixels(make, shape):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(*shape, 3)).astype(np.float32)
    labels, weights = rng.integers(3, size=shape), np.array([1, 0, 2.5])
    plain, weighted = make(3), make(3, weights)
    expected = plain.loss(logits, labels) * weights[labels]
    np.testing.assert_allclose(weighted.loss(logits, labels), expected, rtol=1e-6)
    assert weighted.options == {'class_weights': [1, 0, 2.5]}
    mask = np.ones(shape, bool)
    scores = [scored(one.metric, logits, labels, mask) for one in (plain, weighted)]
    assert plain.metric.finish(scores[0]) == weighted.metric.finish(scores[1])


@pytest.mark.parametrize('weight', [3.0, [3.0, 0.5]])
def test_weights_of_positive_labels_by_hand(weight):
    logits = np.random.default_rng(0).normal(size=(5, 2))
    labels = np.array([[0, 1], [1, 0], [1, 1], [0, 0], [1, 0]])
    chance = 1 / (1 + np.exp(-logits))
    expected = -(weight * labels * np.log(chance) + (1 - labels) * np.log(1 - chance))
    found = objectives.multilabel(2, weight)
    np.testing.assert_allclose(found.loss(logits, labels), expected, rtol=1e-5)
    assert found.options == {'pos_weight': np.broadcast_to(weight, 2).tolist()}


@pytest.mark.parametrize('weight', [[1, 2, 3], 0, [1, -1], 'two', [1, np.inf]])
def test_weights_of_several_labels_are_positive(weight):
    with pytest.raises(ValueError, match='pos_weight must be a positive number, or 2 of them'):
        objectives.multilabel(2, weight)


@pytest.mark.parametrize('weights', [[1, 2], [1, 2, -1], [1, 2, np.nan], [[1, 2, 3]], 'even'])
def test_weights_that_fit_no_classes_are_refused(weights):
    with pytest.raises(ValueError, match='class_weights must be 3 numbers of at least 0'):
        objectives.classification(3, weights)


@pytest.mark.parametrize('weight', [0, -1, np.inf, 'two'])
def test_a_weight_of_positives_is_positive(weight):
    with pytest.raises(ValueError, match='pos_weight must be a positive number'):
        objectives.binary(weight)


@pytest.mark.parametrize(
    'objective',
    [
        objectives.classification(3),
        objectives.binary(),
        objectives.multilabel(2),
        objectives.regression(2),
        objectives.segmentation(4),
        objectives.pixel_regression(3),
        objectives.tokens(5),
    ],
    ids=lambda objective: objective.kind,
)
def test_a_saved_run_reads_answers_by_the_kind(objective):
    outputs = np.random.default_rng(0).normal(size=(2, 3, 3, objective.width))
    found = objectives.of_kind(objective.kind, objective.width)
    np.testing.assert_array_equal(found.answer(outputs), objective.answer(outputs))
    assert (found.probabilities is None) == (objective.probabilities is None)
    assert objectives.of_kind('mine', 7).answer is None
