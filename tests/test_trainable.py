"""Frozen parameters of an encoder: no part of `params`, once for all networks, and never moved."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import TASKS, make_split

from tag_jax import affinity, gradients, grouping, training, weighting
from tag_jax.data import Dataset
from tag_jax.grouping import remarks, saved_networks
from tag_jax.grouping.run import Run
from tag_jax.problem import Batch, from_functions, from_linen, from_nnx, split_frozen
from tag_jax.training import NetworkPlan, TrainingConfig

CONFIG = TrainingConfig(steps=20, batch_size=32, eval_every=10, learning_rate=1e-2)
EXAMPLE = np.zeros((1, 3), np.float32)


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, name='last')(nn.relu(nn.Dense(16, name='first')(x)))


class Adapted(nnx.Module):
    def __init__(self, rngs):
        self.base = nnx.LoRA(3, 2, 8, base_module=nnx.Linear(3, 8, rngs=rngs), rngs=rngs)
        self.normalise = nnx.BatchNorm(8, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.normalise(self.base(x)))


def last(path):
    return path[0] == 'last'


def linen(**options):
    return from_linen(Encoder(), TASKS, EXAMPLE, **{'trainable': last, **options})


def functions(**options):
    def init(key):
        draw = lambda n, *shape: jax.random.normal(jax.random.fold_in(key, n), shape)
        shared = [draw(0, 3, 16), {'w': draw(1, 16, 8)}]
        heads = {task: draw(n + 2, 8, one.width) for n, (task, one) in enumerate(TASKS.items())}
        return {'shared': shared, 'heads': heads}

    return from_functions(
        init,
        lambda shared, x: jnp.tanh(x @ shared[0]) @ shared[1]['w'],
        dict.fromkeys(TASKS, lambda head, z: z @ head),
        TASKS,
        **{'trainable': lambda path: path == ('1', 'w'), **options},
    )


def adapters(**options):
    return from_nnx(Adapted, TASKS, EXAMPLE, **{'trainable': nnx.LoRAParam, **options})


PROBLEMS = {'linen': linen, 'nnx': adapters, 'functions': functions}


@pytest.fixture(scope='module', params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]()


@pytest.fixture(scope='module')
def dataset():
    return Dataset(
        'points', TASKS, *(make_split(size, seed) for seed, size in enumerate((256, 64, 64)))
    )


def paths(tree):
    return {
        '/'.join(jax.tree_util.keystr((part,), simple=True) for part in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.variants(1)
def test_frozen_parameters_are_no_part_of_the_parameters(problem):
    params, state = problem.init(jax.random.key(3))
    trained, frozen = paths(params['shared']), paths(state['frozen'])
    assert trained
    assert frozen
    assert not trained & frozen
    other, other_state = problem.init(jax.random.key(4))
    same = jax.tree.map(np.array_equal, state['frozen'], other_state['frozen'])
    assert jax.tree.all(same)
    moved = jax.tree.map(lambda a, b: np.any(a != b), params['heads'], other['heads'])
    assert any(jax.tree.leaves(moved))
    assert set(state) == {'shared', 'heads', 'frozen'}


def test_which_of_them_are_frozen():
    params, state = linen().init(jax.random.key(0))
    assert paths(params['shared']) == {'last/kernel', 'last/bias'}
    assert paths(state['frozen']) == {'first/kernel', 'first/bias'}
    params, state = adapters().init(jax.random.key(0))
    assert paths(params['shared']) == {'base/lora_a', 'base/lora_b'}
    assert 'base/base_module/kernel' in paths(state['frozen'])
    params, state = functions().init(jax.random.key(0))
    assert paths(params['shared']) == {'1/w'}
    assert paths(state['frozen']) == {'0'}


@pytest.mark.parametrize(
    'trainable',
    [
        {'first': False, 'last': True},
        {'first': {'kernel': False, 'bias': False}, 'last': {'kernel': True, 'bias': np.True_}},
        last,
    ],
)
def test_ways_to_say_what_trains(trainable):
    params, _ = linen(trainable=trainable).init(jax.random.key(0))
    assert paths(params['shared']) == {'last/kernel', 'last/bias'}


@pytest.mark.parametrize(
    'trainable',
    [
        nnx.LoRAParam,
        lambda path: path[-1].startswith('lora'),
        lambda path, value: 'lora' in path[-1],
        nnx.All(nnx.Param, nnx.LoRAParam),
        nnx.Not(nnx.Not(nnx.LoRAParam)),
    ],
)
def test_filters_of_nnx_say_what_trains(trainable):
    params, _ = adapters(trainable=trainable).init(jax.random.key(0))
    assert paths(params['shared']) == {'base/lora_a', 'base/lora_b'}


@pytest.mark.parametrize('everything', [None, lambda path: True, True])
def test_where_everything_trains_nothing_is_frozen(everything):
    params, state = linen(trainable=everything).init(jax.random.key(0))
    assert len(paths(params['shared'])) == 4
    assert set(state) == {'shared', 'heads'}


def test_what_names_no_parameter_is_refused():
    with pytest.raises(
        ValueError, match='trainable names no parameter of the encoder.* first/bias'
    ):
        linen(trainable=lambda path: path[0] == 'lora')
    with pytest.raises(ValueError, match='or a pytree of bool like the parameters .* first/bias'):
        linen(trainable={'frist': True})
    with pytest.raises(ValueError, match='must hold true or false, not 1'):
        linen(trainable={'first': 1, 'last': 0})
    with pytest.raises(
        ValueError, match='not LoRAParam: types of variables are for modules of NNX'
    ):
        linen(trainable=nnx.LoRAParam)
    with pytest.raises(ValueError, match='trainable names no parameter of the encoder'):
        from_nnx(lambda rngs: nnx.Linear(3, 8, rngs=rngs), TASKS, EXAMPLE, trainable=nnx.LoRAParam)


class Scale(nnx.Variable):
    """A user's own variable, which is no parameter."""


class Scaled(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 8, rngs=rngs)
        self.scale = Scale(jnp.ones(8))

    def __call__(self, x):
        return self.dense(x) * self.scale


@pytest.mark.parametrize(
    ('trainable', 'mend'),
    [
        (Scale, r'Scale is no subclass of nnx.Param.*class Scale\(nnx.Param\) makes them'),
        (nnx.LoRA, 'LoRA is no type of variables; give one, such as nnx.LoRAParam'),
        (nnx.LoRAParam, 'none of them is an LoRAParam'),
        ('lora', r'trainable=lambda path: \'lora\' in "/".join\(path\)'),
        (['lora', 'neck'], r'trainable=lambda path: \'lora\' in "/".join\(path\)'),
        (nnx.PathContains('neck'), 'the filter is false for all of them'),
        (lambda path: path == 'dense', r"a path is a tuple of names, such as \('dense', 'bias'\)"),
        ({'dense': False}, 'it is false for all'),
    ],
)
def test_what_names_no_parameter_has_a_mend(trainable, mend):
    with pytest.raises(ValueError, match=f'no parameter of the encoder.*{mend}.* dense/bias'):
        from_nnx(Scaled, TASKS, EXAMPLE, trainable=trainable)


def test_what_is_no_filter_is_refused():
    with pytest.raises(ValueError, match='must be a filter of NNX, such as nnx.LoRAParam.* not 3'):
        from_nnx(Scaled, TASKS, EXAMPLE, trainable=3)
    for make in (linen, functions):
        with pytest.raises(ValueError, match="must not be text, 'lora': a predicate filters by"):
            make(trainable='lora')
        with pytest.raises(ValueError, match='not LoRA: types of variables are for modules of NNX'):
            make(trainable=nnx.LoRA)
        with pytest.raises(ValueError, match='a path is a tuple of names, such as'):
            make(trainable=lambda path: path == 'last')


def test_adapters_that_train_with_their_base_are_named(caplog):
    adapters(trainable=None)
    assert 'pass trainable=nnx.LoRAParam to train the adapters alone' in caplog.text


def test_pretrained_parameters_are_taken_by_their_names():
    whole = from_linen(Encoder(), TASKS, EXAMPLE)
    known, _ = whole.init(jax.random.key(7))
    for given in (known['shared'], {'params': known['shared']}):
        params, state = linen(pretrained=given).init(jax.random.key(1))
        both = params['shared'] | state['frozen']
        jax.tree.map(np.testing.assert_array_equal, both, known['shared'])
    params, state = linen(pretrained={'first': known['shared']['first']}).init(jax.random.key(1))
    np.testing.assert_array_equal(
        state['frozen']['first']['kernel'], known['shared']['first']['kernel']
    )
    assert np.any(params['shared']['last']['kernel'] != known['shared']['last']['kernel'])
    with pytest.raises(ValueError, match="parameter 'frist/bias', which the encoder has not"):
        linen(pretrained={'frist': known['shared']['first']})
    with pytest.raises(
        ValueError, match=r"'first/kernel' of shape \[2\], and the encoder \[3, 16\]"
    ):
        linen(pretrained={'first': {'kernel': np.ones(2)}})


def test_pretrained_modules_of_nnx():
    module = Adapted(nnx.Rngs(5))
    module.normalise.mean[...] = jnp.full(8, 2.0)
    params, state = adapters(pretrained=module).init(jax.random.key(1))
    kernel = state['frozen']['base']['base_module']['kernel']
    np.testing.assert_array_equal(kernel, module.base.base_module.kernel[...])
    np.testing.assert_array_equal(params['shared']['base']['lora_a'], module.base.lora_a[...])
    np.testing.assert_array_equal(state['shared']['normalise']['mean'], 2)
    for given in (nnx.state(module), nnx.state(module, nnx.Param)):
        params, state = adapters(pretrained=given).init(jax.random.key(1))
        kernel = state['frozen']['base']['base_module']['kernel']
        np.testing.assert_array_equal(kernel, module.base.base_module.kernel[...])
        mean = 2 if 'mean' in given['normalise'] else 0
        np.testing.assert_array_equal(state['shared']['normalise']['mean'], mean)


def test_the_gradient_is_that_of_the_whole_encoder_where_it_trains():
    """By a second route: the same parameters in a problem in which everything trains."""
    problem, whole = linen(), from_linen(Encoder(), TASKS, EXAMPLE)
    params, state = problem.init(jax.random.key(0))
    batch = Batch(*make_split(32))
    found, after = gradients.task_gradients(problem, params, state, batch)
    everything = {**params, 'shared': params['shared'] | state['frozen']}
    expected, _ = gradients.task_gradients(whole, everything, split_frozen(state)[0], batch)
    mine, theirs = found.combine(jnp.ones(3)), expected.combine(jnp.ones(3))
    assert set(mine['shared']) == {'last'}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        mine['shared']['last'],
        theirs['shared']['last'],
    )
    assert after['frozen'] is state['frozen']


@pytest.mark.sweep
def test_affinities_are_those_of_steps_on_what_trains():
    """By hand: a step of gradient descent on the parameters that train."""
    problem = linen()
    params, state = problem.init(jax.random.key(0))
    batch = Batch(*make_split(64))
    matrix = affinity.inter_task_affinity(problem, params, state, batch, 0.1)
    losses = lambda shared: gradients.task_losses(
        problem, {**params, 'shared': shared}, state, batch
    )[0]
    slopes = jax.jacrev(losses)(params['shared'])
    for source in range(3):
        ahead = jax.tree.map(lambda p, g, n=source: p - 0.1 * g[n], params['shared'], slopes)
        expected = 1 - losses(ahead) / losses(params['shared'])
        np.testing.assert_allclose(matrix[source], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.sweep
def test_weightings_see_the_gradients_of_what_trains():
    """MGDA weighs by the parameters that train, and not by those of the whole encoder."""
    problem, whole = linen(), from_linen(Encoder(), TASKS, EXAMPLE)
    params, state = problem.init(jax.random.key(0))
    batch = Batch(*make_split(32))
    everything = {**params, 'shared': params['shared'] | state['frozen']}

    def weights(problem, params, state):
        by_task, _ = gradients.task_gradients(problem, params, state, batch)
        transform = weighting.mgda()
        _, opt_state = transform.update(by_task, transform.init(params), params)
        return np.asarray(weighting.diagnostics(opt_state)['weights'])

    mine, theirs = (
        weights(problem, params, state),
        weights(whole, everything, split_frozen(state)[0]),
    )
    assert np.max(np.abs(mine - theirs)) > 0.01


def train(problem, dataset, config=CONFIG, **options):
    plans = [NetworkPlan(f'n{seed}', tuple(TASKS), seed, 1e-2, seed == 0) for seed in range(3)]
    return training.train_networks(
        problem, dataset.train, dataset.validation, plans, config, **options
    )


@pytest.mark.variants(1)
def test_frozen_parameters_never_move_and_the_others_do(problem, dataset):
    networks = train(problem, dataset)
    for network in networks:
        params, state = problem.init(jax.random.split(jax.random.key(network.plan.seed))[0])
        jax.tree.map(np.testing.assert_array_equal, network.model_state['frozen'], state['frozen'])
        moved = jax.tree.map(
            lambda a, b: np.any(a != b), network.params['shared'], params['shared']
        )
        assert any(jax.tree.leaves(moved))
    first = jax.tree.leaves(networks[0].model_state['frozen'])
    others = jax.tree.leaves(networks[1].model_state['frozen'])
    assert all(a is b for a, b in zip(first, others, strict=True))
    assert np.isfinite(networks[0].affinities.mean).all()


@pytest.mark.sweep  # Its short form: that of test_training.py.
def test_networks_side_by_side_are_those_one_at_a_time(dataset):
    problem = linen()
    together = train(problem, dataset)
    alone = train(problem, dataset, dataclasses.replace(CONFIG, slots=1))
    for mine, theirs in zip(together, alone, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
            mine.params,
            theirs.params,
        )


def test_slots_hold_no_frozen_parameters(dataset):
    """Checkpoints are of slots, so neither do they."""
    problem = linen()
    _, state = problem.shapes
    frozen = sum(4 * x.size for x in jax.tree.leaves(state['frozen']))
    whole = from_linen(Encoder(), TASKS, EXAMPLE)
    # Parameters, the best of them, and two moments of Adam.
    held, of_whole = (training.slot_bytes(one, CONFIG) for one in (problem, whole))
    assert of_whole - held == 4 * frozen


def test_model_state_counts_where_slots_are_chosen(monkeypatch):
    """Weights that someone keeps in the model state take memory in every slot."""
    large = from_functions(
        lambda key: (
            {'shared': jnp.eye(2), 'heads': {'a': jnp.ones((2, 1))}},
            {'shared': jnp.zeros((300, 2**20), jnp.uint8), 'heads': {'a': {}}},
        ),
        lambda shared, state, inputs, train, key: (inputs @ shared, state),
        {'a': lambda head, z: z @ head},
        {'a': TASKS['radius']},
    )
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    shapes = jax.ShapeDtypeStruct((8, 2), jnp.float32)
    assert training.num_slots(large, 40, shapes, CONFIG) == 1
    assert training.num_slots(linen(), 40, jax.ShapeDtypeStruct((8, 3), jnp.float32), CONFIG) == 16


@pytest.mark.variants(1)
def test_kept_networks_share_their_frozen_parameters(problem, dataset, tmp_path):
    networks = train(problem, dataset)
    for network in networks:
        folder = tmp_path / network.plan.name
        saved_networks.save(folder, problem, network, dataset.train.inputs, 16)
        back = saved_networks.load(folder, problem, network.plan)
        for mine, theirs in zip(
            jax.tree.leaves((back.params, back.model_state)),
            jax.tree.leaves((network.params, network.model_state)),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)
        found = saved_networks.predictor(folder, 16)(dataset.test.inputs)
        expected = problem.predict(network.params, network.model_state, dataset.test.inputs)
        for task in TASKS:
            np.testing.assert_allclose(found[task], expected[task], rtol=1e-5, atol=1e-5)
    assert len([path for path in tmp_path.iterdir() if path.name.startswith('frozen_')]) == 1


def test_checkpoints_bring_networks_back_bit_for_bit(dataset, tmp_path):
    problem = adapters()
    expected = train(problem, dataset)
    finished = []

    def interrupt(record):
        finished.append(record)
        if len(finished) == 3:
            raise KeyboardInterrupt

    folder = lambda plan: tmp_path / plan.name
    config = dataclasses.replace(CONFIG, checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(problem, dataset, config, checkpoints=folder, on_record=interrupt)
    again = train(problem, dataset, config, checkpoints=folder)
    for mine, theirs in zip(again, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, mine.params, theirs.params)


def test_a_whole_run_with_adapters(dataset, tmp_path):
    result = grouping.group_tasks(adapters(), dataset, 2, grouping.tag(), CONFIG, tmp_path / 'run')
    loaded = grouping.load(tmp_path / 'run')
    found, expected = (r.outputs(dataset.test.inputs[:5]) for r in (loaded, result))
    for task in TASKS:
        np.testing.assert_allclose(found[task], expected[task], rtol=1e-5, atol=1e-5)


class Sowing(nn.Module):
    name_of_collection: str
    total: bool = False

    @nn.compact
    def __call__(self, x):
        hidden = nn.Dense(8)(x)
        options = {'reduce_fn': jnp.add, 'init_fn': lambda: jnp.zeros(())} if self.total else {}
        self.sow(self.name_of_collection, 'balance', jnp.sum(hidden**2), **options)
        return hidden


@pytest.mark.parametrize('total', [False, True])
@pytest.mark.parametrize('name', ['losses', 'aux_loss'])
def test_losses_that_a_module_sows_are_refused(name, total):
    with pytest.raises(
        ValueError, match=f"Sowing sows into '{name}', or sets .*: no loss would have it"
    ):
        from_linen(Sowing(name, total), TASKS, EXAMPLE)


@pytest.mark.sweep
@pytest.mark.filterwarnings('ignore:.*sow:DeprecationWarning', 'ignore:.*capture')
def test_what_is_sown_to_look_at_is_left_alone():
    problem = from_linen(Sowing('intermediates'), TASKS, EXAMPLE)
    params, state = problem.init(jax.random.key(0))
    _, after = gradients.task_gradients(problem, params, state, Batch(*make_split(8)))
    assert not jax.tree.leaves(after['shared'])
    with pytest.raises(ValueError, match="sows into 'metrics'"):
        from_linen(Sowing('metrics'), TASKS, EXAMPLE)


def first_stands_still(rate):
    def labels(params):
        del params
        return {'shared': {'first': 'still', 'last': 'moves'}, 'heads': 'moves'}

    return optax.partition({'moves': optax.adam(rate), 'still': optax.set_to_zero()}, labels)


@pytest.mark.sweep
def test_a_mask_of_optax_behind_a_weighting_still_works(dataset):
    """The optimizer moves what it is told to; `trainable=` says it once for everything."""
    problem = from_linen(Encoder(), TASKS, EXAMPLE)
    config = dataclasses.replace(CONFIG, optimizer=first_stands_still)
    (network, *_) = train(problem, dataset, config)
    start, _ = problem.init(jax.random.split(jax.random.key(0))[0])
    jax.tree.map(
        np.testing.assert_array_equal, network.params['shared']['first'], start['shared']['first']
    )
    assert np.any(network.params['shared']['last']['kernel'] != start['shared']['last']['kernel'])


def late(rate):
    return optax.sgd(optax.linear_schedule(0.0, rate, 10))


def test_what_the_optimizer_leaves_in_place_is_named(dataset):
    problem = from_linen(Encoder(), TASKS, EXAMPLE)
    masked = dataclasses.replace(CONFIG, optimizer=first_stands_still)
    assert training.still_parameters(problem, masked) == ('first/bias', 'first/kernel')
    asked = lambda config: Run(problem, dataset, config, 'tag', 2, None)
    (remark,) = remarks.remarks_on_still_parameters(asked(masked))
    assert 'does not move first/bias, first/kernel, and the steps that' in remark
    along = masked.measuring(step='optimizer')
    assert not [*remarks.remarks_on_still_parameters(asked(along))]
    for optimizer in (optax.adam, optax.lion, late):
        own = dataclasses.replace(CONFIG, optimizer=optimizer)
        assert training.still_parameters(problem, own) == ()


@pytest.mark.sweep  # Its short form: what the optimizer leaves in place is named.
def test_a_lookahead_that_moves_what_the_optimizer_does_not_is_named(dataset):
    problem = from_linen(Encoder(), TASKS, EXAMPLE)
    masked = dataclasses.replace(CONFIG, optimizer=first_stands_still)
    result = grouping.group_tasks(problem, dataset, 2, grouping.tag(), masked)
    assert 'does not move first/bias, first/kernel, and the steps that' in result.remarks[0]
    along = masked.measuring(step='optimizer')
    result = grouping.group_tasks(problem, dataset, 2, grouping.tag(), along)
    assert not any('does not move' in remark for remark in result.remarks)
