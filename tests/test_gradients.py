import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import make_problem, make_split

from tag_jax import gradients, objectives
from tag_jax.problem import Batch, from_functions


def assert_close(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


def separate_losses(problem, params, state, batch, key=None):
    """The loss of each task by a separate pass, with its mean over labelled rows by hand."""
    losses = []
    for task in problem.task_names:
        z, _ = problem.encode(params['shared'], state['shared'], batch.inputs, True, None)
        head = params['heads'][task], state['heads'][task]
        output, _ = problem.decode[task](*head, z, True, None)
        rows = slice(None) if batch.mask is None else np.flatnonzero(batch.mask[task])
        losses.append(jnp.mean(problem.tasks[task].loss(output[rows], batch.targets[task][rows])))
    return losses


@pytest.mark.variants(1)
@pytest.mark.parametrize('labelled', [None, 0.6])
def test_gradients_are_those_of_separate_losses(problem, point, labelled):
    params, state = point
    batch = Batch(*make_split(32, labelled=labelled))
    found, _ = gradients.task_gradients(problem, params, state, batch)
    assert_close(found.losses, jnp.stack(separate_losses(problem, params, state, batch)), rtol=1e-5)
    assert found.active.dtype == bool
    assert found.active.all()
    shared = found.shared()
    for n, task in enumerate(problem.task_names):
        expected = jax.grad(lambda p, n=n: separate_losses(problem, p, state, batch)[n])(params)
        assert_close(found.heads[task], expected['heads'][task], rtol=1e-4, atol=1e-6)
        assert_close(
            jax.tree.map(lambda g, n=n: g[n], shared), expected['shared'], rtol=1e-4, atol=1e-6
        )


def test_gradients_agree_in_float64(problem, point):
    params, state = point
    batch = Batch(*make_split(32, labelled=0.6))
    single, _ = gradients.task_gradients(problem, params, state, batch)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        double, _ = gradients.task_gradients(problem, wide, state, batch)
        assert double.losses.dtype == jnp.float64
        assert_close(single.losses, double.losses, rtol=1e-5)
        assert_close(single.shared(), double.shared(), rtol=1e-3, atol=1e-6)


def test_representation_gradients_by_finite_differences(problem, point, batch):
    params, state = point
    found, _ = gradients.task_gradients(problem, params, state, batch)
    z, _ = problem.encode(params['shared'], state['shared'], batch.inputs, True, None)
    direction = jax.random.normal(jax.random.key(0), z.shape)
    assert found.representation.shape == (3, *z.shape)
    for n, task in enumerate(problem.task_names):

        def loss(step, task=task):
            head = params['heads'][task], state['heads'][task]
            output, _ = problem.decode[task](*head, z + step * direction, True, None)
            return float(jnp.mean(problem.tasks[task].loss(output, batch.targets[task])))

        slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
        assert float(jnp.sum(found.representation[n] * direction)) == pytest.approx(slope, rel=2e-2)


def test_combining_is_the_gradient_of_the_weighted_sum(problem, point, batch):
    params, state = point
    weights = jnp.array([0.5, 2.0, 0.0])
    found, _ = gradients.task_gradients(problem, params, state, batch)

    def total(params):
        return jnp.dot(weights, jnp.stack(separate_losses(problem, params, state, batch)))

    expected = jax.grad(total)(params)
    assert_close(found.combine(weights)['shared'], expected['shared'], rtol=1e-4, atol=1e-6)
    assert_close(found.combine(weights, scale_heads=True), expected, rtol=1e-4, atol=1e-6)
    assert_close(found.combine(weights)['heads'], found.heads)


def test_combining_costs_one_backward_pass(problem, point, batch):
    params, state = point

    def plain(params):
        return jax.grad(lambda p: gradients.task_losses(problem, p, state, batch)[0].sum())(params)

    def combined(params):
        found, _ = gradients.task_gradients(problem, params, state, batch)
        return found.combine(jnp.ones(3))

    def flops(function):
        return jax.jit(function).lower(params).compile().cost_analysis()['flops']

    assert flops(combined) < 1.1 * flops(plain)


def test_a_task_without_labels_is_inactive(problem, point, batch):
    params, state = point
    mask = {'octant': np.zeros(32, bool), 'radius': np.arange(32) % 2 == 0}
    targets = {**batch.targets, 'octant': np.full(32, -1)}
    found, _ = gradients.task_gradients(problem, params, state, Batch(batch.inputs, targets, mask))
    np.testing.assert_array_equal(found.active, [True, False, True])
    assert found.losses[1] == 0
    shared = jax.tree.map(lambda g: g[1], found.shared())
    for leaf in jax.tree.leaves((found.representation[1], found.heads['octant'], shared)):
        assert not np.any(leaf)
    assert np.any(found.representation[0])


def test_masking_equals_a_task_mask(problem, point, batch):
    params, state = point
    task_mask = jnp.array([True, False, True])
    before, _ = gradients.task_gradients(problem, params, state, batch, task_mask=task_mask)
    everything, _ = gradients.task_gradients(problem, params, state, batch)
    after = everything.mask(task_mask)
    for part in ('losses', 'active', 'representation', 'heads', 'head_sums'):
        assert_close(getattr(before, part), getattr(after, part))
    assert after.losses[1] == 0
    assert after.losses[0] == everything.losses[0]


def test_no_bad_value_behind_a_mask_reaches_a_gradient(problem, point):
    params, state = point
    batch = Batch(*make_split(32, labelled=0.5))
    assert np.isnan(batch.targets['radius']).any()
    found, _ = gradients.task_gradients(problem, params, state, batch)
    parts = found.losses, found.representation, found.heads, found.shared()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parts))


def test_a_head_outside_the_mask_does_no_harm_when_it_is_not_finite(problem, batch):
    params, state = problem.init(jax.random.key(0))
    params['heads']['octant'] = jax.tree.map(lambda p: p * jnp.inf, params['heads']['octant'])
    task_mask = jnp.array([True, False, True])
    found, _ = gradients.task_gradients(problem, params, state, batch, task_mask=task_mask)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.combine(jnp.ones(3))))


def test_task_gradients_cross_a_jit(problem, point, batch):
    params, state = point
    found, _ = jax.jit(gradients.task_gradients, static_argnums=0)(problem, params, state, batch)
    eager, _ = gradients.task_gradients(problem, params, state, batch)
    assert found.task_names == problem.task_names
    assert_close(found.combine(jnp.ones(3)), eager.combine(jnp.ones(3)), rtol=1e-5, atol=1e-6)


def test_batch_statistics_are_returned(noisy_problem, batch):
    params, state = noisy_problem.init(jax.random.key(0))
    key = jax.random.key(1)
    _, trained = gradients.task_gradients(noisy_problem, params, state, batch, key)
    assert jax.tree.structure(trained) == jax.tree.structure(state)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (trained, state)), strict=True))


def test_batchings_are_equal(convolutional_problem, batch):
    params, state = convolutional_problem.init(jax.random.key(0))
    found, _ = gradients.task_gradients(convolutional_problem, params, state, batch)
    assert_close(found.shared('vmap'), found.shared('unroll'), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="not 'map'"):
        found.shared('map')


def test_convolutions_are_unrolled_on_cpu(problem, convolutional_problem, batch):
    for made, expected in ((problem, 'vmap'), (convolutional_problem, 'unroll')):
        params, state = made.init(jax.random.key(0))
        found = gradients.preferred_batching(made, params, state, batch.inputs)
        assert found == (expected if jax.default_backend() == 'cpu' else 'vmap')


def test_held_bytes():
    """Of float32 [100], a chain holds two at a time; what is needed again is a third."""
    array = jax.ShapeDtypeStruct((100,), jnp.float32)
    chain = lambda x: jnp.exp(jnp.sin(jnp.cos(x)))
    again = lambda x: (y := jnp.cos(x)) * jnp.exp(jnp.sin(y))
    assert gradients.held_bytes(chain, array) == 800
    assert gradients.held_bytes(again, array) == 1200
    assert gradients.held_bytes(jax.jit(again), array) == 1200
    assert gradients.held_bytes(lambda x: x, array) == 0


def test_batching_follows_from_memory(monkeypatch):
    """Seven tasks of 800 bytes each: in even parts that fit."""
    stack = jnp.ones((7, 100))
    chain = lambda x: jnp.exp(jnp.sin(x))
    for limit, parts in ((5600, ()), (5599, (4,)), (2399, (2,)), (100, (1,))):
        monkeypatch.setattr(gradients.batching, 'MAX_BATCHED_BYTES', limit)
        np.testing.assert_allclose(gradients.map_stacked(chain, stack), chain(stack), rtol=1e-6)
        found = gradients.batching._batching_within_memory(chain, stack)
        assert found == (parts[0] if parts else 'vmap')


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-10, 1.0, 1e10]))
def test_products_and_cosines(seed, scale):
    rng = np.random.default_rng(seed)
    left, right = (
        {'a': scale * rng.normal(size=(n, 3, 2)), 'b': scale * rng.normal(size=(n, 5))}
        for n in (2, 4)
    )
    flat = [np.concatenate([x['a'].reshape(-1, 6), x['b']], axis=1) for x in (left, right)]
    as_float32 = [jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), x) for x in (left, right)]
    expected = flat[0] @ flat[1].T
    assert_close(gradients.products(*as_float32), expected, rtol=1e-4, atol=1e-5 * scale**2)
    norms = np.outer(*(np.linalg.norm(x, axis=1) for x in flat))
    assert_close(gradients.cosines(*as_float32), expected / norms, rtol=1e-4, atol=1e-5)


def test_cosines_of_very_small_and_very_large_gradients():
    left = jnp.array([[1e-30, 1e-30], [1e30, 0.0]])
    np.testing.assert_allclose(
        gradients.cosines(left, left), [[1, 0.5**0.5], [0.5**0.5, 1]], rtol=1e-5
    )


def test_cosines_beside_a_zero_gradient_are_nan():
    stack = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(gradients.cosines(stack, stack), [[1, np.nan], [np.nan] * 2])


def test_products_of_bfloat16_are_accumulated_in_float32():
    ones = jnp.ones((2, 1000), jnp.bfloat16)
    found = gradients.products(ones, ones)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, np.full((2, 2), 1000))


def test_forty_tasks_and_one():
    for size in (1, 40):
        tasks = {f'task_{n}': objectives.regression() for n in range(size)}
        problem = make_problem(tasks)
        params, state = problem.init(jax.random.key(0))
        split = make_split(16)
        batch = Batch(split.inputs, {task: split.targets['radius'] for task in tasks})
        found, _ = gradients.task_gradients(problem, params, state, batch)
        assert found.losses.shape == (size,)
        assert found.representation.shape == (size, 16, 8)
        combined = found.combine(jnp.ones(size))['shared']
        assert_close(
            combined, jax.tree.map(lambda g: g.sum(axis=0), found.shared()), rtol=1e-4, atol=1e-5
        )


def two_outputs(loss):
    """A problem whose head gives the representation itself, with a loss of one's own."""
    return from_functions(
        lambda key: {'shared': jnp.eye(2), 'heads': {'a': {}}},
        lambda shared, inputs: inputs @ shared,
        {'a': lambda head, representation: representation},
        {'a': objectives.regression()._replace(loss=loss)},
    )


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'loss',
    [
        lambda output, target: jnp.abs(output[:, 0] - target) / target,
        lambda output, target: jnp.square(jnp.log(output[:, 0]) - jnp.log(target)),
    ],
)
def test_losses_that_are_singular_at_the_stand_in_for_masked_targets(loss):
    problem = two_outputs(loss)
    params, state = problem.init(jax.random.key(0))
    inputs, target = jnp.full((4, 2), 2.0), jnp.array([1.0, jnp.nan, 3.0, jnp.nan])
    mask = {'a': np.array([True, False, True, False])}
    found, _ = gradients.task_gradients(problem, params, state, Batch(inputs, {'a': target}, mask))
    rows = Batch(inputs[::2], {'a': target[::2]})
    expected, _ = gradients.task_gradients(problem, params, state, rows)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-6)
    np.testing.assert_allclose(found.representation[0, ::2], expected.representation[0], rtol=1e-6)
    assert not np.any(found.representation[0, 1::2])


def test_a_loss_of_another_shape_is_named():
    target = jnp.ones(4)
    batch = Batch(jnp.ones((4, 2)), {'a': target})
    for loss, shape in (
        (lambda output, target: jnp.mean(jnp.square(output[:, 0] - target)), r'\[\]'),
        (lambda output, target: jnp.square(output[:, :1] - target[None]), r'\[4, 4\]'),
    ):
        problem = two_outputs(loss)
        with pytest.raises(ValueError, match=f"the loss of 'a' must be .*: its shape is {shape}"):
            gradients.task_gradients(problem, *problem.init(jax.random.key(0)), batch)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda batch: tuple(batch[:2]), 'must be a problem.Batch.* not a tuple'),
        (lambda batch: Batch(batch.targets, batch.inputs), 'targets of a Batch must be a dict'),
        (
            lambda batch: batch._replace(mask={'sign': jnp.ones(3, bool)}),
            r"the mask of 'sign' in the batch must have as many rows as its inputs",
        ),
        (
            lambda batch: batch._replace(targets={**batch.targets, 'sign': jnp.zeros(3, int)}),
            r"the targets of 'sign' in the batch must have as many rows as its inputs.* \[3\]",
        ),
        (
            lambda batch: batch._replace(
                targets={**batch.targets, 'octant': batch.targets['octant'][:, None]}
            ),
            "the loss of 'octant' cannot take its targets: class labels must be integers",
        ),
    ],
)
def test_a_batch_that_is_none_is_named(problem, point, batch, change, message):
    for compute in (gradients.task_gradients, gradients.task_losses):
        with pytest.raises(ValueError, match=message):
            compute(problem, *point, change(batch))


def test_a_task_mask_is_an_array(problem, point, batch):
    with pytest.raises(ValueError, match='task_mask must be an array of T booleans'):
        gradients.task_gradients(problem, *point, batch, task_mask={'sign': True})


def test_losses_in_bfloat16_are_averaged_in_float32():
    problem = two_outputs(lambda output, target: (output[:, 0] + 1).astype(jnp.bfloat16))
    batch = Batch(jnp.arange(512.0).reshape(256, 2) / 512, {'a': jnp.ones(256)})
    losses, _ = gradients.task_losses(problem, *problem.init(jax.random.key(0)), batch)
    assert losses.dtype == jnp.float32
    assert float(losses[0]) == pytest.approx(1.498, abs=2e-3)


def test_weights_may_be_a_list(problem, point, batch):
    found, _ = gradients.task_gradients(problem, *point, batch)
    assert_close(
        found.combine([1, 2, 3], scale_heads=True),
        found.combine(jnp.array([1.0, 2, 3]), scale_heads=True),
    )


def test_representations_and_inputs_may_be_trees():
    loss = objectives.regression()
    problem = from_functions(
        lambda key: {'shared': jnp.eye(2), 'heads': {'a': jnp.ones((2, 1)), 'b': jnp.ones((2, 1))}},
        lambda shared, inputs: {'x': inputs['one'] @ shared, 'y': inputs['other'] @ shared},
        {
            'a': lambda head, z: z['x'] @ head,
            'b': lambda head, z: (z['x'] + z['y']) @ head,
        },
        {'a': loss, 'b': loss},
    )
    params, state = problem.init(jax.random.key(0))
    batch = Batch(
        {'one': jnp.ones((4, 2)), 'other': jnp.ones((4, 2))}, {'a': jnp.ones(4), 'b': jnp.zeros(4)}
    )
    found, _ = gradients.task_gradients(problem, params, state, batch)
    assert found.representation['y'].shape == (2, 4, 2)
    expected = jax.grad(lambda p: gradients.task_losses(problem, p, state, batch)[0].sum())(params)
    assert_close(found.combine(jnp.ones(2)), expected, rtol=1e-6)
