"""Heads that lie stacked train as they would one by one, whatever the optimizer does with them."""

import dataclasses
import functools
from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tag_jax import objectives, training, weighting
from tag_jax.data import Split
from tag_jax.problem import (
    Batch,
    StackedHeads,
    alike,
    from_functions,
    from_linen,
    heads_apart,
    is_stacked,
    stack_heads,
)
from tag_jax.training import NetworkPlan, TrainingConfig, slots, stacked, step
from tag_jax.training.program import Program

MANY = [f'b{n}' for n in range(12)]
TASKS = dict.fromkeys(MANY, objectives.binary()) | {'r': objectives.regression()}
CONFIG = TrainingConfig(steps=6, batch_size=8, learning_rate=0.05, eval_every=3, patience=0)


def make_problem():
    return from_linen(nn.Dense(4), TASKS, np.zeros((1, 5), np.float32))


def make_split(size, seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(size, 5)).astype(np.float32)
    targets = {task: (inputs[:, n % 5] > 0).astype(np.float32) for n, task in enumerate(TASKS)}
    return Split(inputs, targets, {task: rng.random(size) < 0.8 for task in TASKS})


SPLITS = make_split(40, 0), make_split(20, 1)


def train(config=CONFIG, measures=False, problem=None, **settings):
    plans = [
        NetworkPlan('all', tuple(TASKS), 0, 0.05, measures),
        NetworkPlan('some', ('b1', 'b3', 'r'), 1, 0.02, False),
    ]
    settings = {'progress_bar': False, **settings}
    return training.train_networks(problem or make_problem(), *SPLITS, plans, config, **settings)


def assert_close(left, right):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), left, right)


def clipped(rate):
    return optax.chain(optax.clip_by_global_norm(0.1), optax.adam(rate))


def decayed(rate):
    """Biases, which have one axis, do not decay; in a stack they would have two."""
    mask = functools.partial(jax.tree.map, lambda x: x.ndim > 1)
    return optax.adamw(rate, weight_decay=0.5, mask=mask)


def on_plateau(rate):
    return optax.chain(optax.adam(rate), optax.contrib.reduce_on_plateau())


def by_name(rate):
    """One of the heads stands still."""
    label = lambda path, _: 'still' if 'b3' in str(path) else 'moves'
    return optax.partition(
        {'still': optax.set_to_zero(), 'moves': optax.sgd(rate)},
        functools.partial(jax.tree_util.tree_map_with_path, label),
    )


def accumulating(rate):
    return optax.MultiSteps(optax.adam(rate), 2).gradient_transformation()


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


ALIKE = [momentum, optax.adam, optax.lamb, optax.adafactor, clipped, decayed, on_plateau]


@pytest.mark.variants(4)
@pytest.mark.parametrize('optimizer', ALIKE)
def test_an_optimizer_moves_stacked_heads_as_it_moves_them_one_by_one(optimizer):
    problem = make_problem()
    update = stacked.stacked_update(problem, optimizer)
    params, _ = problem.init(jax.random.key(0))
    state = optimizer(0.05).init(params)
    rate, value = jnp.float32(0.05), jnp.float32(2)
    stack = functools.partial(stack_heads, families=update.families)
    found = stack(params), stack(state)

    @jax.jit
    def one_by_one(gradients, params, state):
        transform = optax.with_extra_args_support(optimizer(rate))
        updates, state = transform.update(gradients, state, params, value=value)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def together(gradients, params, state):
        updates, state = update(rate, gradients, state, params, value)
        return optax.apply_updates(params, updates), state

    for n in range(3):
        gradients = jax.tree.map(lambda x, n=n: jnp.cos(x * (n + 1)), params)
        params, state = one_by_one(gradients, params, state)
        found = together(stack(gradients), *found)
    assert jax.tree.structure(heads_apart(found)) == jax.tree.structure((params, state))
    assert_close(heads_apart(found), (params, state))


@pytest.mark.parametrize('optimizer', [by_name, accumulating, optax.noisy_sgd])
@pytest.mark.filterwarnings('ignore:Specifying a key will be required:UserWarning')
def test_heads_are_not_stacked_where_an_optimizer_tells_them_apart(optimizer):
    assert stacked.stacked_update(make_problem(), optimizer) is None


def test_an_optimizer_may_go_by_names():
    config = dataclasses.replace(CONFIG, optimizer=by_name)
    problem = make_problem()
    start, _ = problem.init(jax.random.split(jax.random.key(0))[0])
    whole, _ = train(config, problem=problem)
    still = {
        task
        for task, head in whole.params['heads'].items()
        if np.array_equal(head['kernel'], start['heads'][task]['kernel'])
    }
    assert still == {'b3'}


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'keep': 'each_task', 'if_not_finite': 'drop', 'optimizer': decayed},
        {'weighting': weighting.mgda_ub, 'optimizer': clipped},
        {'weighting': weighting.uncertainty, 'optimizer': optax.lamb},
    ],
    ids=['plain', 'each_task', 'mgda_ub', 'uncertainty'],
)
def test_networks_train_as_with_heads_one_by_one(settings, monkeypatch):
    config = dataclasses.replace(CONFIG, **settings)
    found = train(config)
    monkeypatch.setattr(alike, 'LEAST', 100)
    for one, other in zip(found, train(config), strict=True):
        assert type(one.params['heads']) is dict
        assert {type(x) for x in jax.tree.leaves(one.params)} == {
            type(x) for x in jax.tree.leaves(other.params)
        }
        assert_close((one.params, one.model_state), (other.params, other.model_state))
        assert [copy.best_step for copy in one.copies] == [copy.best_step for copy in other.copies]
        for copy, expected in zip(one.copies, other.copies, strict=True):
            assert_close(copy.params, expected.params)


@pytest.mark.variants(1)
@pytest.mark.parametrize('step', ['sgd', 'optimizer'])
def test_affinities_are_those_of_heads_one_by_one(step, monkeypatch):
    config = dataclasses.replace(CONFIG.measuring(step=step, every=2), optimizer=clipped)
    found, _ = train(config, measures=True)
    monkeypatch.setattr(alike, 'LEAST', 100)
    expected, _ = train(config, measures=True)
    np.testing.assert_allclose(found.affinities.mean, expected.affinities.mean, atol=1e-4)


def renamed_and_summed():
    """A weighting of one's own that goes by names and remembers what it did to the heads."""
    inner = weighting.equal()

    def init(params):
        return inner.init(params), jax.tree.map(jnp.zeros_like, params['heads'])

    def update(gradients, state, params=None, **extra):
        assert type(gradients.heads) is dict
        assert type(params['heads']) is dict
        updates, own = inner.update(gradients, state[0], params)
        still = jax.tree.map(jnp.zeros_like, updates['heads']['b2'])
        updates = {**updates, 'heads': {**updates['heads'], 'b2': still}}
        return updates, (own, jax.tree.map(jnp.add, state[1], updates['heads']))

    return optax.GradientTransformationExtraArgs(init, update)


def test_a_weighting_of_ones_own_sees_heads_one_by_one(monkeypatch):
    config = dataclasses.replace(CONFIG, weighting=renamed_and_summed, optimizer=momentum)
    problem = make_problem()
    assert stacked.stacked_update(problem, momentum) is not None
    found, _ = train(config, problem=problem)
    start, _ = problem.init(jax.random.split(jax.random.key(0))[0])
    np.testing.assert_array_equal(
        found.params['heads']['b2']['kernel'], start['heads']['b2']['kernel']
    )
    monkeypatch.setattr(alike, 'LEAST', 100)
    expected, _ = train(config)
    assert_close(found.params, expected.params)


def corrected():
    """A correction of one's own that looks at each array of the heads."""

    def correct(by_task, weights, combined, step, descent):
        heads = jax.tree.map(lambda x: x / (0.1 + jnp.linalg.norm(x)), combined['heads'])
        return weights, {**combined, 'heads': heads}, descent

    rule = weighting.Rule(lambda size: (), lambda tasks, state, step: (tasks.active, state))
    return weighting.weighting('corrected', rule, correction=correct)


def replaced():
    """A weighting of the package with an update of one's own."""
    inner = weighting.equal()

    def update(gradients, state, params=None, **extra):
        updates, state = inner.update(gradients, state, params)
        return jax.tree.map(lambda x: x / (0.1 + jnp.linalg.norm(x)), updates), state

    return inner._replace(update=update)


@pytest.mark.sweep  # Its short form: a weighting of one's own sees heads one by one.
@pytest.mark.parametrize('own', [corrected, replaced])
def test_what_alters_a_weighting_sees_heads_one_by_one(own, monkeypatch):
    config = dataclasses.replace(CONFIG, weighting=own, optimizer=momentum)
    found = train(config)
    monkeypatch.setattr(alike, 'LEAST', 100)
    for one, other in zip(found, train(config), strict=True):
        assert_close(one.params, other.params)


def masked_by_constants(depth):
    """An optimizer of functions that differ in nothing but the array that they close over."""

    def wrapped(function, depth):
        return wrapped(jax.jit(lambda x: function(x)), depth - 1) if depth else function

    def update(updates, state, params=None):
        heads = {
            task: {**head, 'kernel': wrapped(_times(MASKS[task]), depth)(head['kernel'])}
            for task, head in updates['heads'].items()
        }
        return {**updates, 'heads': heads}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _times(mask):
    return lambda x: x * mask


MASKS = {
    task: jnp.asarray([n % 2, 1, 1, n % 3], jnp.float32)[:, None] for n, task in enumerate(TASKS)
}


@pytest.mark.parametrize('depth', [0, 1, 2])
def test_constants_tell_heads_apart(depth):
    optimizer = lambda rate: optax.chain(optax.sgd(rate), masked_by_constants(depth))
    assert stacked.stacked_update(make_problem(), optimizer) is None


def factors(rate):
    """A step of its own length for each head."""

    def update(updates, params):
        heads = {
            task: jax.tree.map(lambda x, n=n: x * (1 + n / 1e6), head)
            for n, (task, head) in enumerate(updates['heads'].items())
        }
        return {**updates, 'heads': heads}

    return optax.chain(optax.sgd(rate), optax.stateless(update))


def telling(rate):
    """Says something at every step."""

    def update(updates, params):
        jax.debug.callback(lambda: None)
        return updates

    return optax.chain(optax.sgd(rate), optax.stateless(update))


@pytest.mark.parametrize('optimizer', [factors, telling])
def test_numbers_and_effects_tell_heads_apart(optimizer):
    assert stacked.stacked_update(make_problem(), optimizer) is None


def test_a_head_whose_numbers_are_not_finite_sits_out(monkeypatch):
    """And a head outside the task set does not decay."""
    monkeypatch.setitem(SPLITS[0].targets, 'b2', SPLITS[0].targets['b2'].copy())
    SPLITS[0].targets['b2'][::7] = np.inf
    config = dataclasses.replace(CONFIG, if_not_finite='drop', optimizer=decayed)
    found = train(config)
    assert found[0].not_finite['b2'] > 0
    start, _ = make_problem().init(jax.random.split(jax.random.key(1))[0])
    for task in set(TASKS) - set(found[1].plan.tasks):
        np.testing.assert_array_equal(
            found[1].params['heads'][task]['kernel'], start['heads'][task]['kernel']
        )
    monkeypatch.setattr(alike, 'LEAST', 100)
    for one, other in zip(found, train(config), strict=True):
        assert_close(one.params, other.params)


def plain():
    """A weighting that takes no other arguments."""
    inner = weighting.equal()
    return optax.GradientTransformation(
        inner.init, lambda gradients, state, params=None: inner.update(gradients, state, params)
    )


def head_of_own(head, state, representation, train, key):
    return representation @ head['w'], state


def scaled_by_task(shared, inputs):
    """Uses a parameter for each task in the order in which JAX has them."""
    scales = jnp.stack(jax.tree.leaves(shared['scale']))
    return inputs @ shared['w'] * jnp.sum(scales * jnp.arange(len(TASKS)) / 10)


def test_what_an_encoder_has_for_each_task_stays_as_it_is(monkeypatch):
    scale = {task: jnp.float32(n + 1) / 50 for n, task in enumerate(TASKS)}

    def init(key):
        heads = {task: {'w': jnp.full((4, 1), 0.1)} for task in TASKS}
        params = {'shared': {'w': jnp.eye(5, 4), 'scale': scale}, 'heads': heads}
        return params, {'shared': {}, 'heads': {task: {} for task in TASKS}}

    make = lambda: from_functions(init, scaled_by_task, dict.fromkeys(TASKS, head_of_own), TASKS)
    assert stacked.stacked_update(make(), momentum) is not None
    params, _ = make().init(jax.random.key(0))
    assert type(stack_heads(params, [tuple(TASKS)])['shared']['scale']) is dict
    config = dataclasses.replace(CONFIG, optimizer=momentum, weighting=plain)
    found = train(config, problem=make())
    monkeypatch.setattr(alike, 'LEAST', 100)
    for one, other in zip(found, train(config, problem=make()), strict=True):
        assert_close(one.params, other.params)


def test_parts_that_an_optimizer_masks_stay_as_they_are():
    optimizer = lambda rate: optax.masked(optax.adam(rate), {'shared': True, 'heads': False})
    assert stacked.stacked_update(make_problem(), optimizer) is not None


def test_a_head_like_a_stack_of_others_is_not_taken_for_one():
    names = [f'h{n}' for n in range(12)]
    tasks = dict.fromkeys([*names, 'large'], objectives.regression())

    def init(key):
        heads = {task: {'w': jnp.ones((4, 1))} for task in names} | {
            'large': {'w': jnp.ones((12, 4, 1))}
        }
        return {'shared': {'w': jnp.ones((5, 4))}, 'heads': heads}, {
            'shared': {},
            'heads': {task: {} for task in tasks},
        }

    def head(params, state, representation, train, key):
        return representation @ jnp.reshape(params['w'], (-1, 4, 1)).sum(0), state

    problem = from_functions(
        init, lambda shared, x: x @ shared['w'], dict.fromkeys(tasks, head), tasks
    )
    inputs = SPLITS[0].inputs
    split = Split(inputs, {task: inputs[:, 0] for task in tasks})
    plans = [NetworkPlan('all', tuple(tasks), 0, 0.001, False)]
    (found,) = training.train_networks(problem, split, split, plans, CONFIG, progress_bar=False)
    assert found.params['heads']['large']['w'].shape == (12, 4, 1)


def in_float32(rate):
    """Its updates have the dtype of the gradients only if nobody narrows these."""
    return optax.chain(optax.stateless(_with_dtypes), optax.sgd(rate))


def _with_dtypes(updates, params):
    return jax.tree.map(lambda x: x * (2 if x.dtype == jnp.float32 else 1), updates)


def wider():
    """A weighting of one's own whose updates are wider than the parameters."""
    inner = weighting.equal()

    def update(gradients, state, params=None, **extra):
        updates, state = inner.update(gradients, state, params)
        return jax.tree.map(lambda x: x.astype(jnp.float32), updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


@pytest.mark.sweep  # Its short form: a weighting of one's own sees heads one by one.
def test_updates_of_another_dtype_are_taken(monkeypatch):
    module = nn.Dense(4, param_dtype=jnp.bfloat16)
    heads = {task: nn.Dense(1, param_dtype=jnp.bfloat16) for task in TASKS}
    make = lambda: from_linen(module, TASKS, np.zeros((1, 5), np.float32), heads)
    config = dataclasses.replace(CONFIG, weighting=wider, optimizer=in_float32)
    assert stacked.stacked_update(make(), in_float32) is not None
    found, _ = train(config, problem=make())
    monkeypatch.setattr(alike, 'LEAST', 100)
    expected, _ = train(config, problem=make())
    wide = functools.partial(jax.tree.map, lambda x: np.asarray(x, np.float32))
    assert {x.dtype for x in jax.tree.leaves(found.params)} == {jnp.bfloat16.dtype}
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=0.02),
        wide(found.params),
        wide(expected.params),
    )


def test_a_network_goes_on_from_its_checkpoint(tmp_path):
    """Bit by bit; a checkpoint has heads one by one."""
    config = dataclasses.replace(CONFIG, checkpoint_seconds=0, steps=9)
    whole = train(config)

    def stop(record):
        if record.step == 6:
            raise OSError('interrupted')

    folders = {'checkpoints': lambda plan: tmp_path / plan.name}
    with pytest.raises(OSError, match='interrupted'):
        train(config, on_record=stop, **folders)
    assert [path.name for path in tmp_path.iterdir()]
    for one, other in zip(whole, train(config, **folders), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
        assert one.validation == other.validation


def test_heads_without_parameters_are_taken():
    tasks = dict.fromkeys(MANY, objectives.regression())

    def init(key):
        shared = {'w': jax.random.normal(key, (5, 1))}
        return {'shared': shared, 'heads': {task: {} for task in tasks}}

    as_it_is = lambda head, state, representation, train, key: (representation, state)
    problem = from_functions(
        init, lambda shared, inputs: inputs @ shared['w'], dict.fromkeys(tasks, as_it_is), tasks
    )
    assert len(set(problem.programs.values())) == 1
    split = Split(SPLITS[0].inputs, {task: SPLITS[0].targets[task] for task in tasks})
    plans = [NetworkPlan('all', tuple(tasks), 0, 0.05, False)]
    (found,) = training.train_networks(problem, split, split, plans, CONFIG, progress_bar=False)
    assert found.params['heads'] == {task: {} for task in tasks}


def test_passes_and_the_optimizer_do_not_grow_with_the_heads():
    """Steps of the program are counted: each costs time to compile."""

    def steps_of(size):
        tasks = {f'b{n}': objectives.binary() for n in range(size)}
        problem = from_linen(nn.Dense(4), tasks, np.zeros((1, 5), np.float32))
        program = Program(problem, weighting.equal, optax.adam, 'vmap', False, None)
        begin = lambda: slots.initial(program, 0, jnp.ones(size, bool), jnp.float32(0.1))
        network = jax.eval_shape(begin)
        assert is_stacked(network.params['heads'])
        labels = {task: np.zeros(8, np.float32) for task in tasks}
        batch = Batch(np.zeros((8, 5), np.float32), labels)
        taken = functools.partial(step.take, program, None)
        return jax.make_jaxpr(taken)(network, batch).jaxpr.eqns

    few, many = (Counter(one.primitive.name for one in steps_of(size)) for size in (12, 40))
    # (A square root for each parameter, which Adam takes; matrix products of all passes.)
    for name in ('sqrt', 'dot_general', 'select_n', 'div'):
        assert few[name] == many[name] > 0, name


def test_stacked_heads_are_a_mapping_of_tasks():
    heads = {task: {'w': np.full(3, n), 'b': np.array(n)} for n, task in enumerate('abcd')}
    found = stack_heads({'heads': heads, 'shared': 1}, [('c', 'a', 'd'), ('b',)])['heads']
    assert isinstance(found, StackedHeads)
    assert sorted(found) == list('abcd')
    assert len(found) == 4
    assert found.stacks['c', 'a', 'd']['w'].shape == (3, 3)
    for task, head in heads.items():
        jax.tree.map(np.testing.assert_array_equal, found[task], head)
    with pytest.raises(KeyError):
        found['e']
    doubled = jax.tree.map(lambda x: x * 2, found)
    assert int(doubled['d']['b']) == 6
    twice = jax.tree.map(lambda x: np.stack([x, x]), found)
    apart = heads_apart(twice, axis=1)
    np.testing.assert_array_equal(apart['d']['w'], np.full((2, 3), 3))
