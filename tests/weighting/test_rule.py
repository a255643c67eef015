"""The mechanism: what goes in, what comes out, and what it composes with."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec
from small import TASKS, make_split
from weighting.properties import EACH, METHODS

from tag_jax import gradients, weighting
from tag_jax.problem import Batch, from_functions
from tag_jax.weighting import min_norm

# Every method in the representation space where it has one, as launchers use it.
IN_ONE_PASS = {
    'equal': weighting.equal,
    'fixed': functools.partial(weighting.fixed, {'sign': 1.0, 'octant': 0.5, 'radius': 2.0}),
    'mgda_ub': weighting.mgda_ub,
    'mgda_ub, loss+': functools.partial(weighting.mgda_ub, 'loss+'),
    'mgda_ub, safe': functools.partial(weighting.mgda_ub, safeguard=2),
    'uncertainty': weighting.uncertainty,
    'gradnorm': weighting.gradnorm,
    'dwa': functools.partial(weighting.dwa, 5),
    'rlw': weighting.rlw,
    'famo': weighting.famo,
    'stch': weighting.stch,
    'db_mtl': functools.partial(weighting.db_mtl, 0, space='representation'),
    'imtl_g, projections': functools.partial(
        weighting.imtl_g, 'projections', space='representation'
    ),
    **{
        name: functools.partial(getattr(weighting, name), space='representation')
        for name in ['pcgrad', 'cagrad', 'upgrad', 'imtl_g', 'aligned_mtl', 'nash_mtl', 'fairgrad']
    },
}


# With --all, the variants of a method and the slower ones as well.
SLOW = ('pcgrad', 'cagrad', 'upgrad', 'aligned_mtl', 'fairgrad')
EACH_IN_ONE_PASS = [
    pytest.param(name, marks=[pytest.mark.sweep] if ',' in name or name in SLOW else [])
    for name in IN_ONE_PASS
]


@pytest.fixture(scope='module')
def problem():
    """One layer and linear heads in plain functions, which compile fast."""
    return make_functions(('sign', 'octant', 'radius'))


def make_functions(tasks):
    kinds = {task: TASKS[task] for task in tasks}

    def init(key):
        draw = lambda n, *shape: 0.5 * jax.random.normal(jax.random.fold_in(key, n), shape)
        order = list(TASKS)
        heads = {t: {'w': draw(order.index(t), 8, kinds[t].width)} for t in tasks}
        return {'shared': {'w': draw(9, 3, 8)}, 'heads': heads}

    decode = dict.fromkeys(tasks, lambda head, representation: representation @ head['w'])
    encode = lambda shared, inputs: jnp.tanh(inputs @ shared['w'])
    return from_functions(init, encode, decode, kinds)


def assert_trees_close(found, expected, rtol=1e-4, atol=1e-6):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected
    )


def one_step(problem, point, batch, transform, opt_state=None, **extra):
    """Updates and optax state after one jitted step."""
    params, state = point
    opt_state = transform.init(params) if opt_state is None else opt_state

    @jax.jit
    def step(params, opt_state):
        by_task, _ = gradients.task_gradients(problem, params, state, batch)
        return transform.update(by_task, opt_state, params, **extra)

    return step(params, opt_state)


@pytest.mark.variants(4)
@pytest.mark.parametrize('name', EACH_IN_ONE_PASS)
def test_a_chain_trains(problem, point, batch, name):
    schedule = optax.cosine_decay_schedule(1e-2, 60)
    transform = optax.chain(
        IN_ONE_PASS[name](), optax.clip_by_global_norm(1.0), optax.adamw(schedule)
    )

    @jax.jit
    def step(params, state, opt_state):
        by_task, state = gradients.task_gradients(problem, params, state, batch)
        updates, opt_state = transform.update(by_task, opt_state, params, value=0.0)
        return optax.apply_updates(params, updates), state, opt_state, by_task.losses

    params, state = point
    opt_state, losses = transform.init(params), []
    for _ in range(60):
        params, state, opt_state, now = step(params, state, opt_state)
        losses.append(now.sum())
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]
    found = weighting.diagnostics(opt_state)
    assert found['weights'].shape == (3,)
    assert found['active'].all()


@pytest.mark.variants(2)
@pytest.mark.parametrize(
    'name', ['mgda', 'pcgrad', 'cagrad', 'upgrad', 'imtl_g', 'nash_mtl', 'fairgrad']
)
def test_the_gram_route_is_the_stacked_route(problem, point, batch, name):
    """TaskGradients in 'shared' space against the same gradients stacked by hand."""
    params, state = point
    by_task, _ = gradients.task_gradients(problem, params, state, batch)
    transform = METHODS[name]()
    updates, _ = transform.update(by_task, transform.init(params), params)
    stacked = METHODS[name](num_tasks=3)
    expected, _ = stacked.update(
        by_task.shared(), stacked.init(params['shared']), params['shared'], losses=by_task.losses
    )
    assert_trees_close(updates['shared'], expected, 1e-3, 1e-5)
    assert_trees_close(updates['heads'], by_task.heads)


def test_representation_space_needs_one_backward_pass(convolutional_problem, batch):
    """In compiled FLOPs: MGDA-UB takes little more than the plain sum, MGDA much more."""
    problem = convolutional_problem
    params, state = problem.init(jax.random.key(0))

    def flops(transform):
        def step(params, opt_state):
            by_task, _ = gradients.task_gradients(problem, params, state, batch)
            return transform.update(by_task, opt_state, params)

        compiled = jax.jit(step).lower(params, transform.init(params)).compile()
        return compiled.cost_analysis()['flops']

    plain = flops(weighting.equal())
    assert flops(weighting.mgda_ub()) < 1.2 * plain
    assert flops(weighting.mgda()) > 1.5 * plain


def test_heads_are_plain_or_scaled(problem, point, batch):
    params, state = point
    by_task, _ = gradients.task_gradients(problem, params, state, batch)
    plain, opt_state = one_step(problem, point, batch, weighting.mgda_ub())
    scaled, _ = one_step(problem, point, batch, weighting.mgda_ub(scale_heads=True))
    assert_trees_close(plain['heads'], by_task.heads)
    assert_trees_close(plain['shared'], scaled['shared'])
    for weight, task in zip(opt_state.weights, by_task.task_names, strict=True):
        expected = jax.tree.map(lambda g, w=weight: w * g, by_task.heads[task])
        assert_trees_close(scaled['heads'][task], expected)


@pytest.mark.variants(2)
@pytest.mark.parametrize(
    'make',
    [
        lambda: optax.chain(optax.clip_by_global_norm(1.0), weighting.mgda_ub()),
        lambda: optax.adam(1e-3),
        lambda: optax.chain(optax.adam(1e-3), weighting.mgda_ub()),
        lambda: optax.MultiSteps(weighting.mgda_ub(), 2),
        lambda: optax.chain(weighting.mgda_ub),
    ],
)
def test_words_of_optax_are_explained(problem, point, batch, make):
    by_task, _ = gradients.task_gradients(problem, *point, batch)

    def use(transform):
        transform.update(by_task, transform.init(point[0]), point[0])

    with pytest.raises((AttributeError, TypeError, ValueError)) as caught:
        use(make())
    page = pathlib.Path(__file__).parents[2] / 'docs' / 'own_loop.md'
    explained = re.findall(r'^\| `(.*?)` \|', page.read_text(), re.MULTILINE)
    assert len(explained) == 3
    assert sum(words in str(caught.value) for words in explained) == 1


def test_nothing_is_known_before_the_first_step(point):
    found = weighting.diagnostics(weighting.mgda_ub(report_every=2).init(point[0]))
    assert not found.pop('active').any()
    assert set(found) == {'weights', 'gram', 'cosines', 'gap', 'descent', 'shared_descent'}
    assert all(np.isnan(value).all() for value in found.values())


def test_diagnostics_of_a_step(problem, point, batch):
    params, state = point
    by_task, _ = gradients.task_gradients(problem, params, state, batch)
    for transform, stack in (
        (weighting.mgda_ub(), by_task.representation),
        (weighting.mgda(), by_task.shared()),
    ):
        _, opt_state = one_step(problem, point, batch, optax.chain(transform, optax.sgd(0.1)))
        found = weighting.diagnostics(opt_state)
        gram = np.asarray(gradients.products(stack, stack))
        np.testing.assert_allclose(found['gram'], gram, rtol=1e-3, atol=1e-7)
        np.testing.assert_allclose(found['cosines'], gradients.cosines(stack, stack), atol=1e-4)
        np.testing.assert_allclose(found['descent'], gram @ found['weights'], rtol=1e-2, atol=1e-6)
        weights = min_norm.min_norm_weights(gram)
        np.testing.assert_allclose(found['weights'], weights, atol=1e-3)
        assert abs(found['gap']) <= 1e-4 * np.abs(gram).max()


def test_diagnostics_are_found_wherever_they_are(problem, point, batch):
    params, _ = point
    for transform in (
        weighting.mgda_ub(),
        optax.chain(weighting.mgda_ub(), optax.adam(1e-3)),
        optax.inject_hyperparams(weighting.cagrad)(c=0.3),
    ):
        assert weighting.diagnostics(transform.init(params))['weights'].shape == (3,)
    with pytest.raises(ValueError, match='holds 0 task weightings, not one'):
        weighting.diagnostics(optax.adam(1e-3).init(params))


def test_a_masked_task_is_no_task(problem, point, batch):
    """Where labels of a task are missing, the others are combined as if it did not exist."""
    params, state = point
    hidden = batch._replace(mask={'octant': jnp.zeros(32, bool)})
    two = make_functions(('sign', 'radius'))
    _, opt_state = one_step(problem, point, hidden, weighting.mgda_ub())
    fewer = (
        {**params, 'heads': {t: params['heads'][t] for t in two.task_names}},
        {**state, 'heads': {t: state['heads'][t] for t in two.task_names}},
    )
    _, expected = one_step(two, fewer, batch, weighting.mgda_ub())
    assert opt_state.weights[1] == 0
    np.testing.assert_allclose(opt_state.weights[jnp.array([0, 2])], expected.weights, atol=1e-5)


@pytest.mark.sweep
def test_inject_hyperparams(problem, point, batch):
    """Numbers may be injected, and scheduled; what must be static says so."""
    transform = optax.inject_hyperparams(weighting.cagrad)(c=optax.linear_schedule(0.0, 0.8, 2))
    _, state = one_step(problem, point, batch, transform)
    again, state = one_step(problem, point, batch, transform, state)
    assert float(state.hyperparams['c']) == pytest.approx(0.4)
    expected, _ = one_step(problem, point, batch, weighting.cagrad(c=0.4))
    assert_trees_close(again, expected, 1e-3, 1e-5)
    chain = lambda rate: optax.chain(weighting.mgda_ub(), optax.sgd(rate))
    whole = optax.inject_hyperparams(chain)(0.1)
    updates, _ = one_step(problem, point, batch, whole)
    direction, _ = one_step(problem, point, batch, weighting.mgda_ub())
    assert_trees_close(updates, jax.tree.map(lambda g: -0.1 * g, direction))
    updates, _ = one_step(problem, point, batch, optax.inject_hyperparams(weighting.mgda_ub)())
    assert_trees_close(updates, direction)
    with pytest.raises(ValueError, match="safeguard must be static: .* static_args='safeguard'"):
        optax.inject_hyperparams(weighting.mgda_ub)(safeguard=1).init(point[0])
    static = optax.inject_hyperparams(weighting.mgda_ub, static_args='safeguard')(safeguard=1)
    one_step(problem, point, batch, static)


@pytest.mark.sweep  # Its short form: test_a_chain_trains.
def test_multi_steps_inside_the_chain(problem, point):
    """Accumulation after the weighting: the mean of the combined gradients of two batches."""
    batches = [Batch(*make_split(32, seed)) for seed in (1, 2)]
    accumulate = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=2)
    transform = optax.chain(weighting.mgda_ub(), accumulate.gradient_transformation())
    first, state = one_step(problem, point, batches[0], transform)
    second, _ = one_step(problem, point, batches[1], transform, state)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(first))
    singles = [one_step(problem, point, batch, weighting.mgda_ub())[0] for batch in batches]
    expected = jax.tree.map(lambda a, b: -(a + b) / 2, *singles)
    assert_trees_close(second, expected)


def test_apply_if_finite_after_it(problem, point, batch):
    transform = optax.chain(weighting.mgda_ub(), optax.apply_if_finite(optax.adam(1e-2), 3))
    updates, state = one_step(problem, point, batch, transform)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(updates))
    bad = batch._replace(targets={**batch.targets, 'radius': jnp.full(32, jnp.nan)})
    updates, state = one_step(problem, point, bad, transform, state)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
    updates, _ = one_step(problem, point, batch, transform, state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.variants(1)
@pytest.mark.parametrize('name', ['uncertainty', 'gradnorm', 'famo', 'dwa'])
def test_one_broken_batch_changes_nothing_learned(problem, point, batch, name):
    transform = optax.chain(IN_ONE_PASS[name](), optax.apply_if_finite(optax.adam(1e-2), 3))
    params, model_state = point
    bad = batch._replace(targets={**batch.targets, 'radius': jnp.full(32, jnp.nan)})

    @jax.jit
    def step(params, state, batch):
        by_task, _ = gradients.task_gradients(problem, params, model_state, batch)
        updates, state = transform.update(by_task, state, params)
        return optax.apply_updates(params, updates), state

    state = transform.init(params)
    for n in range(6):
        before = state[0].rule
        params, state = step(params, state, bad if n == 2 else batch)
        if n == 2:
            assert_trees_close(state[0].rule, before)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert np.isfinite(weighting.diagnostics(state)['weights']).all()


@pytest.mark.parametrize(
    'wrap',
    [
        lambda inner: optax.chain(optax.centralize(), inner),
        lambda inner: optax.chain(optax.adam(1e-3), inner),
        lambda inner: optax.chain(optax.trace(0.9), inner),
        lambda inner: optax.chain(optax.add_decayed_weights(0.1), inner),
        lambda inner: optax.chain(optax.clip_by_global_norm(1e-3), inner),
        lambda inner: optax.chain(optax.scale(0.5), inner),
        lambda inner: optax.chain(optax.clip(1e-3), inner),
        lambda inner: optax.MultiSteps(inner, 2).gradient_transformation(),
        lambda inner: optax.apply_if_finite(inner, 3),
        lambda inner: optax.masked(inner, {'shared': True, 'heads': False}),
    ],
    ids=[
        'centralize',
        'adam',
        'trace',
        'decay',
        'norm',
        'scale',
        'clip',
        'MultiSteps',
        'if_finite',
        'masked',
    ],
)
def test_nothing_in_front_or_around_it_passes_silently(problem, point, batch, wrap):
    """Some fail in our words, some in optax's."""
    transform = wrap(weighting.mgda_ub())
    with pytest.raises((TypeError, ValueError, AttributeError)):
        one_step(problem, point, batch, transform)


@pytest.mark.sweep  # Its short form: networks side by side of test_training.py.
def test_networks_side_by_side(problem, batch):
    """vmap over K networks gives each what it gives alone, the weightings' states included."""
    keys = jax.random.split(jax.random.key(3), 4)
    for name in ('gradnorm', 'mgda_ub, safe'):
        transform = optax.chain(IN_ONE_PASS[name](), optax.sgd(0.1))

        def step(key, transform=transform):
            params, state = problem.init(key)
            by_task, _ = gradients.task_gradients(problem, params, state, batch)
            return transform.update(by_task, transform.init(params), params)

        together, states = jax.jit(jax.vmap(step))(keys)
        for k, key in enumerate(keys):
            alone, state = jax.jit(step)(key)
            assert_trees_close(jax.tree.map(lambda x, k=k: x[k], together), alone, 1e-3, 1e-5)
            found = weighting.diagnostics(states)['weights'][k]
            np.testing.assert_allclose(found, weighting.diagnostics(state)['weights'], atol=1e-4)


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'make', [weighting.mgda_ub, weighting.mgda, weighting.upgrad], ids=['ub', 'mgda', 'up']
)
def test_sharded_over_the_batch(problem, point, batch, make):
    """The Gram matrix is reduced over devices before it is used."""
    devices = jax.devices()
    if len(devices) < 8:
        pytest.skip('needs 8 devices')
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    place = lambda spec: lambda x: jax.device_put(x, NamedSharding(mesh, spec))
    spread = jax.tree.map(place(PartitionSpec('data')), batch)
    copied = jax.tree.map(place(PartitionSpec()), point)
    transform = optax.chain(make(), optax.sgd(0.1))
    found, states = one_step(problem, copied, spread, transform)
    expected, state = one_step(problem, point, batch, transform)
    assert_trees_close(found, expected, 1e-5, 1e-6)
    weights = [weighting.diagnostics(s)['weights'] for s in (states, state)]
    np.testing.assert_allclose(*weights, atol=1e-5)


def test_meshes_with_explicit_axes_are_refused(problem, point, batch):
    mesh = jax.make_mesh((2,), ('data',), axis_types=(jax.sharding.AxisType.Explicit,))
    place = lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match='axis_types=.*AxisType.Auto'):
        gradients.task_gradients(problem, *point, jax.tree.map(place, batch))


def test_the_train_state_of_flax(problem, point, batch):
    params, model_state = point
    transform = optax.chain(weighting.mgda_ub(), optax.adam(1e-2))
    state = TrainState.create(apply_fn=problem.predict, params=params, tx=transform)
    by_task, _ = gradients.task_gradients(problem, params, model_state, batch)
    updates, _ = transform.update(by_task, transform.init(params), params)
    found = state.apply_gradients(grads=by_task).params
    assert_trees_close(found, optax.apply_updates(params, updates))


@pytest.mark.variants(5)
@pytest.mark.parametrize('name', EACH)
def test_states_can_be_donated(name):
    """In a loop that carries them on, from the first."""
    transform, params = METHODS[name](num_tasks=3), jnp.ones(4)
    found = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)

    @functools.partial(jax.jit, donate_argnums=0)
    def train(carry):
        def step(carry, _):
            params, state = carry
            updates, state = transform.update(found, state, params, losses=jnp.ones(3))
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, length=2)[0]

    params, state = train(train((params, transform.init(params))))
    assert np.isfinite(params).all()
    assert state.step == 4


@pytest.mark.parametrize('name', ['cagrad', 'nash_mtl', 'upgrad', 'mgda'])
def test_eager_updates_compile_once(name):
    transform, params = METHODS[name](num_tasks=3), jnp.zeros(4)
    found, state = jnp.eye(3, 4), transform.init(params)
    compiled = []
    listen = lambda event, seconds, **_: compiled.append(event)
    for n in range(3):
        if n == 2:
            jax.monitoring.register_event_duration_secs_listener(listen)
        _, state = transform.update(found, state, params)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert '/jax/core/compile/backend_compile_duration' not in compiled


def test_what_does_not_fit_the_tasks_is_named(problem, point, batch):
    for mask in (jnp.ones(2, bool), [True] * 4):
        with pytest.raises(ValueError, match='task_mask needs one entry for each of the 3 tasks'):
            gradients.task_gradients(problem, *point, batch, task_mask=mask)
    misspelt = batch._replace(mask={'radios': jnp.ones(32, bool)})
    with pytest.raises(ValueError, match="a mask for 'radios', and no targets of that name"):
        gradients.task_losses(problem, *point, misspelt)
    transform = weighting.pcgrad(num_tasks=3)
    with pytest.raises(ValueError, match='pcgrad.. has no shared parameters to work on'):
        transform.update({}, transform.init({}), {}, losses=jnp.ones(3))
    with pytest.raises(TypeError, match='stacked gradients are for methods with space="shared"'):
        weighting.gradnorm(num_tasks=3).update(
            jnp.ones((3, 2)), weighting.gradnorm(num_tasks=3).init(None)
        )


@pytest.mark.sweep
def test_losses_after_a_step_that_are_not_finite_teach_nothing():
    transform, params = weighting.famo(num_tasks=2), jnp.zeros(2)
    state = transform.init(params)
    for losses, after in (([1.0, 1], [0.9, 0.9]), ([0.9, 0.9], [0.5, jnp.nan]), ([0.5, 0.9], None)):
        extra = {} if after is None else {'losses_after': jnp.array(after)}
        _, state = transform.update(jnp.eye(2), state, params, losses=jnp.array(losses), **extra)
        assert np.isfinite(state.weights).all()
        assert np.isfinite(state.rule.logits).all()


@pytest.mark.parametrize('make', [weighting.mgda_ub, weighting.db_mtl])
def test_task_gradients_as_an_extra_argument_for_nnx_optimizers(problem, batch, make):
    """`nnx.Optimizer.update` unpacks its gradients, so they go in by name."""

    class Model(nnx.Module):
        def __init__(self, params):
            self.shared = nnx.data(jax.tree.map(nnx.Param, params['shared']))
            self.heads = nnx.data(jax.tree.map(nnx.Param, params['heads']))

    params, state = problem.init(jax.random.key(0))
    by_task, _ = gradients.task_gradients(problem, params, state, batch)
    transform = optax.chain(make(), optax.adam(1e-2))
    updates, _ = transform.update(by_task, transform.init(params), params)
    expected = optax.apply_updates(params, updates)

    model = Model(params)
    optimizer = nnx.Optimizer(model, transform, wrt=nnx.Param)
    optimizer.update(model, nnx.state(model, nnx.Param), task_gradients=by_task)
    found = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert_trees_close(found, expected)


def test_the_number_of_tasks_must_be_known(problem, point, batch):
    with pytest.raises(ValueError, match=r'mgda\(\) cannot count the tasks: .* pass num_tasks='):
        weighting.mgda().init({'w': jnp.zeros(3)})
    form = r"TaskGradients .* setup.*{'shared': old\['encoder'\], 'heads': {task: old\[task\]}}"
    with pytest.raises(ValueError, match=rf'mgda_ub\(\) cannot count .* {form}'):
        weighting.mgda_ub().init({'w': jnp.zeros(3)})
    params, state = point
    by_task, _ = gradients.task_gradients(problem, params, state, batch)
    other = weighting.mgda_ub(num_tasks=2)
    with pytest.raises(ValueError, match='initialised for 2 tasks, and .* gradients of 3'):
        other.update(by_task, other.init(params), params)


@pytest.mark.parametrize(
    ('stack', 'sentence'),
    [
        (
            {'w': jnp.zeros((3, 4))},
            r"over 2 tasks: \['w'\] has shape \[3, 4\], not \[2, 4\]",
        ),
        ({'w': jnp.zeros(4)}, r'has shape \[4\], not \[2, 4\]'),
        ({'w': jnp.zeros((2, 4)), 'b': jnp.zeros(2)}, 'of the structure of the params'),
    ],
)
def test_stacked_gradients_are_checked_against_the_params(stack, sentence):
    params, transform = {'w': jnp.zeros(4)}, weighting.mgda(num_tasks=2)
    with pytest.raises(TypeError, match=sentence):
        transform.update(stack, transform.init(params), params)


def test_stacked_gradients_say_what_they_lack():
    params, stack = {'w': jnp.zeros(4)}, {'w': jnp.ones((2, 4))}
    needs = weighting.mgda('loss', num_tasks=2)
    with pytest.raises(ValueError, match=r'mgda\(\) needs losses: pass losses= to update'):
        needs.update(stack, needs.init(params), params)
    wrong = weighting.mgda(num_tasks=2)
    with pytest.raises(ValueError, match='active= needs one entry for each of the 2 tasks'):
        wrong.update(stack, wrong.init(params), params, active=jnp.ones(3, bool))
    named = weighting.fixed({'a': 1.0, 'b': 2.0}, num_tasks=2)
    with pytest.raises(ValueError, match='stacked gradients have no task names'):
        named.update(stack, named.init(params), params)
    by_representation, uncounted = weighting.mgda_ub(num_tasks=2), weighting.mgda()
    state = wrong.init(params)
    with pytest.raises(TypeError, match=r'mgda_ub\(\) takes TaskGradients .* first in the chain'):
        by_representation.update(stack, state, params)
    with pytest.raises(TypeError, match='or pass num_tasks= for stacked arrays'):
        uncounted.update(stack, state, params)


def test_fixed_weights_by_name(problem, point, batch):
    _, state = one_step(
        problem, point, batch, weighting.fixed({'radius': 3.0, 'sign': 1.0, 'octant': 2.0})
    )
    np.testing.assert_array_equal(state.weights, [1, 2, 3])
    with pytest.raises(ValueError, match='weights needs an entry for each of the tasks sign'):
        one_step(problem, point, batch, weighting.fixed({'radius': 3.0}))
    with pytest.raises(ValueError, match='weights needs one number for each of the 3 tasks'):
        one_step(problem, point, batch, weighting.fixed([1.0, 2.0]))


def test_a_rule_of_ones_own(problem, point, batch):
    """Inverse losses in four lines."""
    rule = weighting.Rule(
        init=lambda size: (),
        weigh=lambda tasks, state, step: (1 / (tasks.losses + 1e-8), state),
        needs_losses=True,
    )
    updates, state = one_step(problem, point, batch, weighting.weighting('inverse', rule))
    params, model_state = point
    by_task, _ = gradients.task_gradients(problem, params, model_state, batch)
    np.testing.assert_allclose(state.weights, 1 / by_task.losses, rtol=1e-5)
    assert_trees_close(updates, by_task.combine(1 / by_task.losses, scale_heads=True))


def test_descent_is_the_shared_gradients_times_the_direction(problem, batch):
    check_descent(problem, batch)


def test_descent_through_batch_norm_and_dropout(noisy_problem, batch):
    check_descent(noisy_problem, batch)


def test_descent_through_convolutions(convolutional_problem, batch):
    check_descent(convolutional_problem, batch)


def check_descent(problem, batch):
    params, state = problem.init(jax.random.key(0))
    by_task, _ = gradients.task_gradients(problem, params, state, batch, jax.random.key(1))
    direction = by_task.combine(jnp.array([0.2, 0.5, 0.3]))['shared']
    expected = gradients.products(by_task.shared(), jax.tree.map(lambda g: g[None], direction))
    np.testing.assert_allclose(by_task.descent(direction), expected[:, 0], rtol=1e-3, atol=1e-5)


def test_stacked_gradients_of_heads_are_refused(problem, point, batch):
    """They would count in the Gram matrix, so that tasks were weighed by their heads as well."""
    params, _ = point
    stacked = jax.tree.map(lambda x: jnp.stack([x] * 3), params)
    transform = weighting.mgda(num_tasks=3)
    with pytest.raises(TypeError, match="weigh the tasks by their heads .* of 'shared' alone"):
        transform.update(stacked, transform.init(params), params)
    transform.update(stacked['shared'], transform.init(params['shared']), params['shared'])
