import dataclasses
import functools
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec
from small import make_problem, make_split

from tag_jax import affinity, gradients, objectives
from tag_jax.problem import Batch, from_functions, from_linen

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
            task: objectives.Objective(
                1, lambda output, target, loss=loss: jax.vmap(loss)(output), metric
            )
            for task, loss in losses.items()
        },
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
    """Fifty et al. 2021, Appendix A.2: the losses printed there, which a step of 0.009 gives.

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


@jax.jit
def affinities_of_quadratics(slopes, hessians, offsets, eta):
    """Affinities of three quadratics at 0, in one program for all of them."""
    problem = functions_of_a_point(
        {
            f'task_{n}': lambda x, n=n: (
                jnp.dot(slopes[n], x) + 0.5 * jnp.dot(x, hessians[n] @ x) + offsets[n]
            )
            for n in range(3)
        }
    )
    return measure(problem, np.zeros(2), eta)


@given(st.integers(0, 2**32 - 1))
def test_closed_form_on_quadratics(seed):
    """L = g.x + x'Hx / 2 + c at 0: Z[i, j] = (eta g_i.g_j - eta^2 g_i'H_j g_i / 2) / c_j."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(size=(3, 2))
    roots = rng.normal(size=(3, 2, 2))
    hessians = roots @ roots.transpose(0, 2, 1)
    offsets, eta = rng.uniform(0.5, 2, size=3), 0.1
    with jax.enable_x64(True):
        found = affinities_of_quadratics(slopes, hessians, offsets, eta)
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


def by_hand(problem, params, state, batch, eta, key=None, other=None, step=None, sources=None):
    """Exact affinities by an independent loop: perturb, evaluate, divide.

    Args:
      step: gradient -> update of one array of parameters, by name; None for -eta * gradient.
      sources: `[S, T]`, see `inter_task_affinities`.
    """
    other = batch if other is None else other
    step = (lambda name, gradient: -eta * gradient) if step is None else step

    def loss(params, task, batch):
        def encoder_key():
            return None if key is None else jax.random.fold_in(key, zlib.crc32(b'shared'))

        z, _ = problem.encode(params['shared'], state['shared'], batch.inputs, True, encoder_key())
        head = params['heads'][task], state['heads'][task]
        output, _ = problem.decode[task](*head, z, True, None)
        rows = slice(None) if batch.mask is None else np.flatnonzero(batch.mask[task])
        return jnp.mean(problem.tasks[task].loss(output[rows], batch.targets[task][rows]))

    names = problem.task_names
    sources = np.eye(len(names)) if sources is None else np.asarray(sources, float)
    result = np.full((len(sources), len(names)), np.nan)
    for i, source in enumerate(sources):
        total = lambda p, source=source: sum(
            weight * loss(p, task, batch) for weight, task in zip(source, names, strict=True)
        )
        gradient = jax.grad(total)(params)['shared']
        moved = jax.tree_util.tree_map_with_path(
            lambda path, p, g: p + step(jax.tree_util.keystr(path), g), params['shared'], gradient
        )
        for j, target in enumerate(names):
            before = loss(params, target, other)
            after = loss({**params, 'shared': moved}, target, other)
            result[i, j] = 1 - float(after) / float(before)
    return result


def in_float64(tree):
    as_wide = lambda x: np.asarray(x, np.float64) if np.issubdtype(x.dtype, np.floating) else x
    return jax.tree.map(as_wide, tree)


@pytest.mark.parametrize(
    ('batching', 'labelled'),
    [
        ('vmap', 0.6),
        ('unroll', None),
        pytest.param('vmap', None, marks=pytest.mark.sweep),
        pytest.param('unroll', 0.6, marks=pytest.mark.sweep),
    ],
)
def test_equality_with_a_loop_by_hand(problem, labelled, batching):
    with jax.enable_x64(True):
        params, state = in_float64(problem.init(jax.random.key(0)))
        batch = Batch(*in_float64(make_split(32, labelled=labelled)))
        found = affinity.inter_task_affinity(problem, params, state, batch, 0.1, batching=batching)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, by_hand(problem, params, state, batch, 0.1), rtol=1e-6)


@pytest.mark.sweep
def test_equality_with_a_loop_by_hand_under_batch_norm_and_dropout(noisy_problem):
    with jax.enable_x64(True):
        params, state = in_float64(noisy_problem.init(jax.random.key(0)))
        batch, key = Batch(*in_float64(make_split(32))), jax.random.key(5)
        found = affinity.inter_task_affinity(noisy_problem, params, state, batch, 0.1, key=key)
        expected = by_hand(noisy_problem, params, state, batch, 0.1, key)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.variants(1)
@pytest.mark.parametrize('name', ['convolutional_problem', 'nnx_convolutional_problem'])
def test_equality_with_a_loop_by_hand_under_convolutions(name, request):
    problem = request.getfixturevalue(name)
    with jax.enable_x64(True):
        params, state = in_float64(problem.init(jax.random.key(0)))
        batch = Batch(*in_float64(make_split(32)))
        found = affinity.inter_task_affinity(problem, params, state, batch, 0.1)
        expected = by_hand(problem, params, state, batch, 0.1)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.sweep
def test_tasks_that_step_together_and_loss_weights(problem):
    """Rows of `sources`: a group, a weighted sum, one task with a weight; and no task at all."""
    sources = np.array([[1, 0, 1], [0.5, 2, 0.1], [0, 3, 0], [0, 0, 0]])
    with jax.enable_x64(True):
        params, state = in_float64(problem.init(jax.random.key(0)))
        batch = Batch(*in_float64(make_split(32)))
        measured = lambda **options: jax.device_get(
            affinity.inter_task_affinities(
                problem, params, state, batch, 0.01, affinity.KINDS, **options
            )
        )
        found, plain = measured(sources=sources), measured()
        expected = by_hand(problem, params, state, batch, 0.01, sources=sources[:3])
        np.testing.assert_allclose(found['exact'][:3], expected, rtol=1e-6)
        same = measured(sources=np.eye(3, dtype=bool))
    np.testing.assert_allclose(
        found['first_order'][:3], sources[:3] @ plain['first_order'], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(found['cosine'][2], plain['cosine'][1], rtol=1e-9)
    for kind in affinity.KINDS:
        assert np.isnan(found[kind][3]).all()
        np.testing.assert_allclose(same[kind], plain[kind], rtol=1e-9, atol=1e-12)


@pytest.mark.sweep
def test_a_source_needs_all_its_tasks(problem, point, batch):
    hidden = Batch(batch.inputs, batch.targets, {'octant': np.zeros(32, bool)})
    sources = np.array([[1, 1, 0], [1, 0, 1]], bool)
    found = affinity.inter_task_affinity(problem, *point, hidden, 0.1, sources=sources)
    np.testing.assert_array_equal(np.isnan(found), [[True] * 3, [False, True, False]])


@pytest.mark.parametrize('sources', [np.ones(3), np.ones((2, 2)), np.ones((0, 3))])
def test_sources_that_do_not_fit_are_refused(problem, point, batch, sources):
    with pytest.raises(ValueError, match=r'sources must be \[S, 3\], a row for each source'):
        affinity.inter_task_affinity(problem, *point, batch, 0.1, sources=sources)


@pytest.mark.sweep
def test_affinities_by_the_learning_rate(problem, point, batch):
    plain, divided = (
        affinity.inter_task_affinities(
            problem, *point, batch, 0.05, affinity.KINDS, divide_by_learning_rate=divide
        )
        for divide in (False, True)
    )
    for kind, scale in (('exact', 20), ('first_order', 20), ('cosine', 1)):
        np.testing.assert_allclose(divided[kind], scale * plain[kind], rtol=1e-5, atol=1e-7)


def test_cosines_of_matrices_only(problem, point, batch):
    """The authors' code leaves out gradients of one axis."""
    by_task, _ = gradients.task_gradients(problem, *point, batch)
    flat = np.concatenate(
        [np.reshape(g, (3, -1)) for g in jax.tree.leaves(by_task.shared()) if g.ndim > 2], axis=1
    )
    units = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    found = affinity.inter_task_affinity(problem, *point, batch, 0.1, 'cosine', matrices_only=True)
    np.testing.assert_allclose(found, units @ units.T, atol=1e-5)
    assert not np.allclose(
        found, affinity.inter_task_affinity(problem, *point, batch, 0.1, 'cosine'), atol=1e-4
    )
    vectors = functions_of_a_point({'a': quadratic, 'b': quadratic})
    with pytest.raises(ValueError, match='no parameters with two axes or more'):
        measure(vectors, np.ones(2, np.float32), 0.1, matrices_only=True)


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


def momentum_by_hand(moments, params):
    """0.9 momentum + gradient, and weight decay of 0.01, at a rate of 0.1."""
    return lambda name, g: -0.1 * (0.9 * moments[name] + g + 0.01 * params[name])


def adam_by_hand(moments, params):
    """The fourth step of Adam at a rate of 0.01, after three with the gradient `moments`."""
    del params

    def step(name, g):
        mean, square = (1 - 0.9**3) * moments[name], (1 - 0.999**3) * moments[name] ** 2
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        return -0.01 * (mean / (1 - 0.9**4)) / (np.sqrt(square / (1 - 0.999**4)) + 1e-8)

    return step


@pytest.mark.parametrize(
    ('optimizer', 'steps', 'hand'),
    [
        (optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, 0.9)), 1, momentum_by_hand),
        pytest.param(optax.adam(0.01), 3, adam_by_hand, marks=pytest.mark.sweep),
    ],
    ids=['momentum', 'adam'],
)
def test_the_step_of_an_optimizer_from_where_it_stands(problem, optimizer, steps, hand):
    """Momentum and moments of steps before take part in the step of every task."""
    with jax.enable_x64(True):
        params, state = in_float64(problem.init(jax.random.key(0)))
        batch = Batch(*in_float64(make_split(32)))
        rng = np.random.default_rng(0)
        before = jax.tree.map(lambda p: 0.01 * rng.normal(size=p.shape), params)
        opt_state = optimizer.init(params)
        for _ in range(steps):
            _, opt_state = optimizer.update(before, opt_state, jax.tree.map(np.zeros_like, params))
        found = affinity.inter_task_affinity(
            problem,
            params,
            state,
            batch,
            0.1,
            lookahead=affinity.optimizer_step(optimizer, opt_state, params),
        )
        by_name = lambda tree: {
            jax.tree_util.keystr(path): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree['shared'])
        }
        step = hand(by_name(before), by_name(params))
        expected = by_hand(problem, params, state, batch, 0.1, step=step)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


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


@pytest.mark.sweep  # Its short form: each equals a loop by hand.
def test_batchings_are_equal(convolutional_problem, batch):
    params, state = convolutional_problem.init(jax.random.key(0))
    found = [
        affinity.inter_task_affinities(
            convolutional_problem, params, state, batch, 0.1, affinity.KINDS, batching=batching
        )
        for batching in (None, 'unroll', 'vmap', 2, 1)
    ]
    for kind in affinity.KINDS:
        np.testing.assert_array_equal(found[0][kind], found[1][kind])
        for other in found[2:]:
            np.testing.assert_allclose(other[kind], found[1][kind], rtol=1e-3, atol=1e-6)
    # Alone, exact affinities never hold the gradients of all tasks.
    for batching in ('unroll', 2):
        alone = affinity.inter_task_affinity(
            convolutional_problem, params, state, batch, 0.1, batching=batching
        )
        np.testing.assert_allclose(alone, found[0]['exact'], rtol=1e-3, atol=1e-6)
    for wrong in ('chunk', 0, True):
        with pytest.raises(ValueError, match="batching must be 'vmap', 'unroll' or a positive"):
            affinity.inter_task_affinity(
                convolutional_problem, params, state, batch, 0.1, batching=wrong
            )


def test_memory_is_bounded(problem, point, batch, monkeypatch):
    """What does not fit is measured some tasks at a time, with the same result."""
    measure = lambda: affinity.inter_task_affinities(problem, *point, batch, 0.1, affinity.KINDS)
    loops = lambda: str(jax.make_jaxpr(lambda: measure())()).count('scan[')
    expected = measure()
    assert not loops()
    monkeypatch.setattr(gradients.batching, 'MAX_BATCHED_BYTES', 1)
    assert loops()
    found = measure()
    for kind in affinity.KINDS:
        np.testing.assert_allclose(found[kind], expected[kind], rtol=1e-4, atol=1e-6)


def test_sharded_over_the_batch(problem, point, batch):
    """Eight devices with an eighth of the batch each give what one gives."""
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda spec: lambda x: jax.device_put(x, NamedSharding(mesh, spec))
    spread = jax.tree.map(place(PartitionSpec('data')), batch)
    copied = jax.tree.map(place(PartitionSpec()), point)
    measured = jax.jit(affinity.inter_task_affinities, static_argnums=(0, 5))
    found = measured(problem, *copied, spread, 0.1, affinity.KINDS)
    expected = measured(problem, *point, batch, 0.1, affinity.KINDS)
    for kind in affinity.KINDS:
        np.testing.assert_allclose(found[kind], expected[kind], rtol=1e-5, atol=1e-6)


def test_a_step_that_moves_nothing_is_no_sample(problem, point, batch):
    """As where a warm-up begins: zeros would be averaged with the measurements after it."""
    kinds = ('exact', 'first_order', 'cosine')
    measure = jax.jit(affinity.inter_task_affinities, static_argnames=('problem', 'kinds'))
    still = optax.chain(optax.sgd(optax.linear_schedule(0.0, 1e-2, 10)))
    params, _ = point
    lookahead = affinity.optimizer_step(still, still.init(params), params)
    for found in (
        measure(problem, *point, batch, 0.0, kinds),
        affinity.inter_task_affinities(problem, *point, batch, 0.0, kinds),
        affinity.inter_task_affinities(problem, *point, batch, 1e-2, kinds, lookahead=lookahead),
    ):
        assert np.isnan(found['exact']).all()
        assert np.isnan(found['first_order']).all()
        assert np.isfinite(found['cosine']).all()


def test_a_task_at_its_optimum_moves_nothing_and_is_a_sample():
    tasks = dict.fromkeys(('flat', 'steep'), objectives.regression())
    own = from_linen(nn.Dense(2), tasks, jnp.ones((1, 1)))
    params, state = own.init(jax.random.key(0))
    batch = Batch(jnp.ones((4, 1)), {'flat': jnp.zeros(4), 'steep': jnp.ones(4)})
    params['heads']['flat'] = {'kernel': jnp.zeros((2, 1)), 'bias': jnp.ones(1)}
    sgd = optax.sgd(1e-2)
    lookahead = affinity.optimizer_step(sgd, sgd.init(params), params)
    for options in ({}, {'lookahead': lookahead}):
        found = affinity.inter_task_affinity(own, params, state, batch, 1e-2, **options)
        np.testing.assert_array_equal(found[0], [0, 0])
        assert found[1, 1] > 0


@pytest.mark.parametrize(
    ('rate', 'message'),
    [
        (optax.constant_schedule(1e-2), 'must be a number, not a schedule'),
        (-1e-3, 'must be at least 0, not -0.001'),
        (np.nan, 'must be at least 0, not nan'),
    ],
)
def test_learning_rates_that_are_none(problem, point, batch, rate, message):
    with pytest.raises(ValueError, match=message):
        affinity.inter_task_affinity(problem, *point, batch, rate)


def test_one_task_and_duplicate_tasks():
    single = make_problem({'radius': objectives.regression()})
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


def test_an_encoder_without_parameters_has_no_affinities():
    problem = from_functions(
        lambda key: {'shared': {}, 'heads': {'a': jnp.ones((2, 1))}},
        lambda shared, inputs: inputs,
        {'a': lambda head, z: z @ head},
        {'a': objectives.regression()},
    )
    batch = Batch(jnp.ones((4, 2)), {'a': jnp.ones(4)})
    with pytest.raises(ValueError, match='the encoder has no parameters'):
        affinity.inter_task_affinity(problem, *problem.init(jax.random.key(0)), batch, 0.1)


@pytest.mark.sweep
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
    """Float32 eta beside bfloat16 parameters, and float64 beside float32 ones; nothing computed."""
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), point[0])
    seen = []

    def encode(shared, state, inputs, train, key):
        seen.extend(leaf.dtype for leaf in jax.tree.leaves(shared))
        return problem.encode(shared, state, inputs.astype(jnp.bfloat16), train, key)

    low = dataclasses.replace(problem, encode=encode)
    measure = functools.partial(affinity.inter_task_affinity, batching='unroll')
    jax.eval_shape(functools.partial(measure, low), half, point[1], batch, jnp.float32(0.1))
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    with jax.enable_x64(True):
        measure = functools.partial(affinity.inter_task_affinity, problem)
        found = jax.eval_shape(measure, *point, batch, jnp.float64(0.1))
        assert found.dtype == jnp.float32
