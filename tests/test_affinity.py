import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import make_problem, make_split

from tag_jax import affinity, gradients, objectives
from tag_jax.problem import Batch, from_functions

COUNTEREXAMPLE_START = np.array([-2.0, -1.0])
CURVATURE = np.array([1.0, 10.0])


def functions_of_a_point(losses):
    """A problem whose tasks are functions of one shared point, without heads or data."""
    metric = objectives.regression().metric
    return from_functions(
        lambda key: {'shared': jnp.zeros(2), 'heads': {task: {} for task in losses}},
        lambda shared, inputs: shared[None],
        {task: lambda head, representation: representation for task in losses},
        {
            task: lambda output, target, loss=loss: jax.vmap(loss)(output)
            for task, loss in losses.items()
        },
        dict.fromkeys(losses, metric),
    )


def measure(problem, point, learning_rate, **options):
    """Affinities of functions of a point, at that point."""
    params = {'shared': jnp.asarray(point), 'heads': {task: {} for task in problem.task_names}}
    state = {'shared': {}, 'heads': {task: {} for task in problem.task_names}}
    batch = Batch(jnp.zeros((1, 1)), {task: jnp.zeros(1) for task in problem.task_names})
    return affinity.inter_task_affinities(
        problem, params, state, batch, learning_rate, affinity.KINDS, **options
    )


def quadratic(point):
    return 0.5 * jnp.sum(CURVATURE * point**2)


def along(direction):
    """A linear loss whose gradient has the length of the quadratic's at the start."""
    gradient = CURVATURE * COUNTEREXAMPLE_START
    direction = np.asarray(direction, float)
    slope = np.linalg.norm(gradient) * direction / np.linalg.norm(direction)
    return lambda point: 100 + jnp.sum(slope * point)


def test_counterexample_of_the_paper():
    """Fifty et al. 2021, Appendix A.3: the losses printed there, which a step of 0.009 gives.

    (With the step of 0.09 that the text names, b and c lead to 7.199 and 7.222.)
    """
    with jax.enable_x64(True):
        problem = functions_of_a_point(
            {'a': quadratic, 'b': along([8, -2]), 'c': along([-12, 2]), 'd': along([-0.2, 15])}
        )
        found = measure(problem, COUNTEREXAMPLE_START, 0.009)['exact'][:, 0]
        np.testing.assert_allclose(7 * (1 - found[1:]), [6.96, 6.98, 7.96], atol=0.005)
        stated = measure(problem, COUNTEREXAMPLE_START, 0.09)['exact'][:, 0]
        np.testing.assert_allclose(7 * (1 - stated[1:3]), [7.199, 7.222], atol=0.0005)


@given(st.integers(0, 2**32 - 1))
def test_closed_form_on_quadratics(seed):
    """L = g.x + x'Hx / 2 + c at 0: Z[i, j] = (eta g_i.g_j - eta^2 g_i'H_j g_i / 2) / c_j."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(size=(3, 2))
    roots = rng.normal(size=(3, 2, 2))
    hessians = roots @ roots.transpose(0, 2, 1)
    offsets, eta = rng.uniform(0.5, 2, size=3), 0.1
    with jax.enable_x64(True):
        problem = functions_of_a_point(
            {
                f'task_{n}': lambda x, n=n: (
                    jnp.dot(slopes[n], x) + 0.5 * jnp.dot(x, hessians[n] @ x) + offsets[n]
                )
                for n in range(3)
            }
        )
        found = measure(problem, np.zeros(2), eta)
    first_order = eta * slopes @ slopes.T / offsets
    curvature = np.einsum('id,jde,ie->ij', slopes, hessians, slopes)
    np.testing.assert_allclose(found['first_order'], first_order, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        found['exact'], first_order - eta**2 / 2 * curvature / offsets, rtol=1e-9, atol=1e-12
    )
    lengths = np.linalg.norm(slopes, axis=1)
    np.testing.assert_allclose(
        found['cosine'], slopes @ slopes.T / np.outer(lengths, lengths), rtol=1e-9, atol=1e-12
    )


def by_hand(problem, params, state, batch, eta, key=None, other=None):
    """Exact affinities by an independent loop: perturb, evaluate, divide."""
    other = batch if other is None else other

    def loss(params, task, batch):
        def encoder_key():
            return None if key is None else jax.random.fold_in(key, zlib.crc32(b'shared'))

        z, _ = problem.encode(params['shared'], state['shared'], batch.inputs, True, encoder_key())
        head = params['heads'][task], state['heads'][task]
        output, _ = problem.decode[task](*head, z, True, None)
        rows = slice(None) if batch.mask is None else np.flatnonzero(batch.mask[task])
        return jnp.mean(problem.losses[task](output[rows], batch.targets[task][rows]))

    names = problem.task_names
    result = np.full((len(names), len(names)), np.nan)
    for i, source in enumerate(names):
        step = jax.grad(loss)(params, source, batch)['shared']
        moved = jax.tree.map(lambda p, g: p - eta * g, params['shared'], step)
        for j, target in enumerate(names):
            before = loss(params, target, other)
            after = loss({**params, 'shared': moved}, target, other)
            result[i, j] = 1 - float(after) / float(before)
    return result


def in_float64(tree):
    as_wide = lambda x: np.asarray(x, np.float64) if np.issubdtype(x.dtype, np.floating) else x
    return jax.tree.map(as_wide, tree)


@pytest.mark.parametrize('labelled', [None, 0.6])
@pytest.mark.parametrize('batching', ['vmap', 'unroll'])
def test_equality_with_a_loop_by_hand(problem, labelled, batching):
    with jax.enable_x64(True):
        params, state = in_float64(problem.init(jax.random.key(0)))
        batch = Batch(*in_float64(make_split(32, labelled=labelled)))
        found = affinity.inter_task_affinity(problem, params, state, batch, 0.1, batching=batching)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, by_hand(problem, params, state, batch, 0.1), rtol=1e-6)


def test_equality_with_a_loop_by_hand_under_batch_norm_and_dropout(noisy_problem):
    with jax.enable_x64(True):
        params, state = in_float64(noisy_problem.init(jax.random.key(0)))
        batch, key = Batch(*in_float64(make_split(32))), jax.random.key(5)
        found = affinity.inter_task_affinity(noisy_problem, params, state, batch, 0.1, key=key)
        expected = by_hand(noisy_problem, params, state, batch, 0.1, key)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_float32_agrees_with_float64(problem, point, batch):
    single = affinity.inter_task_affinities(problem, *point, batch, 0.1, affinity.KINDS)
    with jax.enable_x64(True):
        wide = in_float64(point)
        double = affinity.inter_task_affinities(problem, *wide, batch, 0.1, affinity.KINDS)
    for kind in affinity.KINDS:
        np.testing.assert_allclose(single[kind], double[kind], rtol=1e-3, atol=1e-6)


def test_losses_can_be_compared_on_other_data(problem):
    with jax.enable_x64(True):
        params, state = in_float64(problem.init(jax.random.key(0)))
        batch, other = (Batch(*in_float64(make_split(32, seed))) for seed in (0, 1))
        found = affinity.inter_task_affinities(
            problem, params, state, batch, 1e-4, ('exact', 'first_order'), eval_batch=other
        )
        expected = by_hand(problem, params, state, batch, 1e-4, other=other)
        np.testing.assert_allclose(found['exact'], expected, rtol=1e-6)
        np.testing.assert_allclose(found['first_order'], expected, rtol=1e-2, atol=1e-7)


def test_first_order_is_the_limit_of_exact(problem):
    with jax.enable_x64(True):
        params, state = in_float64(problem.init(jax.random.key(0)))
        batch = Batch(*in_float64(make_split(32)))
        errors = []
        for eta in (1e-3, 5e-4, 2.5e-4):
            found = affinity.inter_task_affinities(
                problem, params, state, batch, eta, ('exact', 'first_order')
            )
            errors.append(np.abs((found['exact'] - found['first_order']) / eta).max())
        orders = np.log2(np.array(errors[:-1]) / errors[1:])
        np.testing.assert_allclose(orders, 1, atol=0.1)


def test_the_step_of_an_optimizer(problem, point, batch):
    params, state = point
    optimizer = optax.adam(1e-2)
    optimizer_state = optimizer.init(params['shared'])
    found = affinity.inter_task_affinities(
        problem,
        params,
        state,
        batch,
        0.0,
        ('exact', 'first_order'),
        lookahead=lambda gradient: optimizer.update(gradient, optimizer_state)[0],
    )
    by_task, _ = gradients.task_gradients(problem, params, state, batch)
    for n in range(3):
        gradient = jax.tree.map(lambda g, n=n: g[n], by_task.shared())
        update, _ = optimizer.update(gradient, optimizer_state)
        moved = optax.apply_updates(params['shared'], update)
        after, _ = gradients.task_losses(problem, {**params, 'shared': moved}, state, batch)
        np.testing.assert_allclose(
            found['exact'][n], 1 - after / by_task.losses, rtol=1e-3, atol=1e-5
        )
    assert np.any(found['first_order'] != 0)


def test_a_masked_task_contributes_nothing(problem, point, batch):
    everything = affinity.inter_task_affinities(problem, *point, batch, 0.1, affinity.KINDS)
    without = affinity.inter_task_affinities(
        problem, *point, batch, 0.1, affinity.KINDS, task_mask=jnp.array([True, False, True])
    )
    unlabelled = affinity.inter_task_affinities(
        problem,
        *point,
        Batch(batch.inputs, batch.targets, {'octant': np.zeros(32, bool)}),
        0.1,
        affinity.KINDS,
    )
    rest = np.ix_([0, 2], [0, 2])
    for kind in affinity.KINDS:
        for found in (without[kind], unlabelled[kind]):
            assert np.isnan(found[1]).all()
            assert np.isnan(found[:, 1]).all()
            np.testing.assert_allclose(found[rest], everything[kind][rest], rtol=1e-5, atol=1e-7)


def test_losses_that_are_not_positive_give_no_sample():
    problem = functions_of_a_point(
        {'zero': lambda x: 0 * x[0], 'negative': lambda x: x[0] - 1, 'fine': lambda x: x[0] + 1}
    )
    found = measure(problem, np.zeros(2, np.float32), 0.1)
    for kind in ('exact', 'first_order'):
        assert np.isnan(found[kind][:, :2]).all()
        assert np.isfinite(found[kind][:, 2]).all()
    np.testing.assert_allclose(found['exact'][:, 2], [0, 0.1, 0.1], rtol=1e-5)


def test_measuring_leaves_no_trace(noisy_problem, batch):
    params, state = noisy_problem.init(jax.random.key(0))
    before = jax.tree.map(np.array, (params, state))
    affinity.inter_task_affinity(noisy_problem, params, state, batch, 0.1, key=jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, before, (params, state))


def test_batchings_are_equal(convolutional_problem, batch):
    params, state = convolutional_problem.init(jax.random.key(0))
    found = [
        affinity.inter_task_affinities(
            convolutional_problem, params, state, batch, 0.1, affinity.KINDS, batching=batching
        )
        for batching in ('vmap', 'unroll', None)
    ]
    for kind in affinity.KINDS:
        np.testing.assert_allclose(found[0][kind], found[1][kind], rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(found[1][kind], found[2][kind])


def test_one_task_and_duplicate_tasks():
    single = make_problem({'radius': ('regression', 1)})
    split = make_split(32)
    batch = Batch(split.inputs, {'radius': split.targets['radius']})
    assert affinity.inter_task_affinity(single, *single.init(jax.random.key(0)), batch, 0.1) > 0

    twins = functions_of_a_point({'one': quadratic, 'other': quadratic})
    found = measure(twins, np.array([1.0, 1.0], np.float32), 0.01)
    for matrix in found.values():
        np.testing.assert_allclose(matrix, np.full((2, 2), matrix[0, 0]))
    np.testing.assert_allclose(found['cosine'], 1, rtol=1e-6)


def test_unknown_kinds_are_refused(problem, point, batch):
    with pytest.raises(ValueError, match="not 'exakt'"):
        affinity.inter_task_affinity(problem, *point, batch, 0.1, 'exakt')


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_statistics_against_numpy(seed, length):
    rng = np.random.default_rng(seed)
    history = rng.normal(size=(length, 3, 3)).astype(np.float32)
    history[rng.random(history.shape) < 0.3] = np.nan
    history[rng.random(history.shape) < 0.1] = np.inf
    statistics = affinity.init(make_problem())
    for step, matrix in enumerate(history):
        statistics = affinity.update(statistics, jnp.asarray(matrix), 10 * step)
    found = affinity.summary(statistics)

    samples = np.where(np.isfinite(history), history, np.nan).astype(np.float64)
    np.testing.assert_array_equal(found.count, np.isfinite(samples).sum(axis=0))
    for i, j in np.ndindex(3, 3):
        pair = samples[np.isfinite(samples[:, i, j]), i, j]
        expected = [
            pair.mean() if len(pair) else np.nan,
            pair.var(ddof=1) if len(pair) > 1 else np.nan,
            pair.std(ddof=1) / np.sqrt(len(pair)) if len(pair) > 1 else np.nan,
        ]
        summarised = [found.mean[i, j], found.variance[i, j], found.stderr[i, j]]
        np.testing.assert_allclose(summarised, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(found.steps, 10 * np.arange(length))
    np.testing.assert_array_equal(found.history, np.where(np.isfinite(history), history, np.nan))
    assert found.task_names == ('sign', 'octant', 'radius')


def test_statistics_refuse_another_shape(problem):
    with pytest.raises(ValueError, match='3 tasks is 3 x 3'):
        affinity.update(affinity.init(problem), np.zeros((2, 2)), 0)


def test_an_encoder_without_parameters_has_no_affinities():
    metric = objectives.regression().metric
    problem = from_functions(
        lambda key: {'shared': {}, 'heads': {'a': jnp.ones((2, 1))}},
        lambda shared, inputs: inputs,
        {'a': lambda head, z: z @ head},
        {'a': objectives.regression().loss},
        {'a': metric},
    )
    batch = Batch(jnp.ones((4, 2)), {'a': jnp.ones(4)})
    with pytest.raises(ValueError, match='the encoder has no parameters'):
        affinity.inter_task_affinity(problem, *problem.init(jax.random.key(0)), batch, 0.1)


def test_compute_in_bfloat16(problem, point, batch):
    """Float32 parameters, everything else in bfloat16: noisy, but not drowned in rounding."""

    def encode(shared, state, inputs, train, key):
        half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (shared, inputs))
        return problem.encode(half[0], state, half[1], train, key)

    low = dataclasses.replace(problem, encode=encode)
    learning_rate = jnp.float32(0.1)
    expected = affinity.inter_task_affinity(problem, *point, batch, learning_rate)
    found = affinity.inter_task_affinity(low, *point, batch, learning_rate)
    assert found.dtype == jnp.float32
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_the_step_keeps_the_dtype_of_the_parameters(problem, point, batch):
    """Float32 eta beside bfloat16 parameters, and float64 beside float32 ones."""
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), point[0])
    seen = []

    def encode(shared, state, inputs, train, key):
        seen.extend(leaf.dtype for leaf in jax.tree.leaves(shared))
        return problem.encode(shared, state, inputs.astype(jnp.bfloat16), train, key)

    low = dataclasses.replace(problem, encode=encode)
    affinity.inter_task_affinity(low, half, point[1], batch, jnp.float32(0.1), batching='unroll')
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    with jax.enable_x64(True):
        found = affinity.inter_task_affinity(problem, *point, batch, jnp.float64(0.1))
        assert found.dtype == jnp.float32
