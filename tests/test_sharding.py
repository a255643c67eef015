"""Parameters in parts over a mesh: what devices hold of them, and what rules are refused.

(tests/test_parallel.py has networks that train so, beside those of one device.)
"""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec
from small import TASKS, make_problem, make_split
from weighting.properties import METHODS

from tag_jax import affinity, gradients, grouping, parallel, sharding, training, weighting
from tag_jax.data import Dataset
from tag_jax.problem import Batch, from_nnx
from tag_jax.training import NetworkPlan, TrainingConfig, slots

CONFIG = TrainingConfig(
    steps=20,
    batch_size=32,
    learning_rate=1e-2,
    eval_every=10,
    patience=0,
    mesh=(1, 8),
    shard_parameters=True,
)
SPLIT = PartitionSpec('batch')


@pytest.fixture(scope='module')
def mesh():
    return parallel.make_mesh((1, 8))


def bytes_of_devices(tree):
    """Bytes that each device holds of a tree, by the shards that are there."""
    found = collections.Counter()
    for leaf in jax.tree.leaves(tree):
        # (Asking for the data of a shard would make another array that is live.)
        shape = leaf.sharding.shard_shape(leaf.shape)
        for device in leaf.sharding.addressable_devices:
            found[device.id] += math.prod(shape) * leaf.dtype.itemsize
    return found


def specs(problem, mesh, rule):
    return {'/'.join(part.names): part.spec for part in sharding.parts_of(problem, mesh, rule)}


def test_each_device_holds_an_eighth(mesh):
    """Parameters, the two moments of Adam, best copies and moving averages of task gradients."""
    problem = make_problem(widths=(128, 128))
    make = functools.partial(weighting.db_mtl, 0.9)
    whole = slots.Program(problem, make, optax.adam, 'vmap', False, None, mesh=mesh)
    found = {}
    for program in (whole, whole._replace(parts=sharding.parts_of(problem, mesh, True))):
        slot = slots.initial(program, np.uint32(0), np.ones(3, bool), np.float32(0.1))
        stacked = slots.repeat(program, slot, 1)
        improved = np.ones(1, bool), np.ones((1, 3), bool)
        stacked = slots.keep_best(program, stacked, *improved)
        held = (stacked.params, stacked.opt_state, stacked.best)
        found[bool(program.parts)] = bytes_of_devices(held)
    numbers = sum(x.size for x in jax.tree.leaves(problem.shapes[0]))
    assert min(found[False].values()) > 4 * 4 * numbers
    assert len(found[True]) == 8
    assert max(found[True].values()) <= (1 / 8 + 0.02) * min(found[False].values())


def test_how_arrays_are_split(mesh):
    assert sharding.along_largest_axis((24, 16, 8), 8) == SPLIT
    assert sharding.along_largest_axis((25, 16, 8), 8) == PartitionSpec(None, 'batch')
    assert sharding.along_largest_axis((7, 0), 8) == PartitionSpec()
    assert sharding.along_largest_axis((), 8) == PartitionSpec()
    problem = make_problem()
    found = specs(problem, mesh, True)
    assert found['shared/layers/0/kernel'] == PartitionSpec(None, 'batch')
    assert found['heads/radius/bias'] == PartitionSpec()
    rule = {'layers/0': PartitionSpec(), 'kernel$': PartitionSpec(None, 'batch')}  # The first wins.
    own = {'layers/0': PartitionSpec(), 'layers/1/kernel': PartitionSpec(None, 'batch')}
    assert specs(problem, mesh, own)['shared/layers/0/kernel'] == PartitionSpec()
    assert specs(problem, mesh, own)['shared/layers/1/kernel'] == PartitionSpec(None, 'batch')
    assert specs(problem, mesh, own)['heads/octant/kernel'] == SPLIT
    with pytest.raises(ValueError, match=r"'heads/radius/kernel' of shape \[8, 1\]: 1 entries"):
        specs(problem, mesh, rule)

    def of_path(path, shape):
        return PartitionSpec() if path[0] == 'heads' and len(shape) == 2 else None

    found = specs(problem, mesh, of_path)
    assert found['heads/octant/kernel'] == PartitionSpec()
    assert found['heads/octant/bias'] == SPLIT
    assert sharding.parts_of(problem, mesh, False) == ()


@pytest.mark.parametrize(
    ('rule', 'sentence'),
    [
        ({'kernal': SPLIT}, "'kernal', which matches no parameter: there are .*layers/0/kernel"),
        ({'sign/kernel': PartitionSpec('rows')}, "'heads/sign/kernel' names the axis 'rows'"),
        ({'sign/kernel': PartitionSpec('networks')}, "names the axis 'networks'"),
        ({'sign/bias': PartitionSpec(None, 'batch')}, r'has 2 entries for its shape \[2\]'),
        ({'sign/bias': SPLIT}, 'does not divide .* 2 entries cannot be split evenly over 8'),
        ({'octant/kernel': PartitionSpec('batch', 'batch')}, "'batch' more than once"),
        (lambda path, shape: None, 'returns None for every parameter'),
        (lambda path, shape: 'batch', "must be a jax.sharding.PartitionSpec, not 'batch'"),
        ({'.*': PartitionSpec()}, 'splits nothing: no parameter has an axis that 8 devices'),
    ],
)
def test_rules_that_do_not_fit_are_refused_before_training(rule, sentence):
    config = TrainingConfig(mesh=(1, 8), shard_parameters=rule)
    splits = make_split(64), make_split(64)
    with pytest.raises(ValueError, match=sentence):
        training.check_devices(make_problem(), config, *splits)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ({'shard_parameters': True}, r'needs a mesh with several devices .* not \(1, 1\)'),
        ({'mesh': (8, 1), 'shard_parameters': True}, r'along the batch, .* not \(8, 1\)'),
        ({'mesh': (1, 8), 'shard_parameters': 3}, 'must be true or false, a dict .* not 3'),
        ({'mesh': (1, 8), 'shard_parameters': {}}, 'must be true or false, a dict'),
        ({'mesh': (1, 8), 'shard_parameters': {'*': SPLIT}}, r"'\*', which is no regular expr"),
        ({'mesh': (1, 8), 'shard_parameters': {'a': 'batch'}}, 'must be a jax.sharding.Partition'),
    ],
)
def test_configs_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainingConfig(**options)


def test_affinities_at_given_parameters(mesh):
    problem = make_problem()
    parts = sharding.parts_of(problem, mesh, True)
    params, state = problem.init(jax.random.key(0))
    batch = Batch(*make_split(64)[:2])

    @functools.partial(jax.jit, static_argnames='mesh')
    def measured(params, batch, mesh):
        batch = parallel.constrain(mesh, batch, parallel.BATCH)
        return affinity.inter_task_affinities(problem, params, state, batch, 0.05, affinity.KINDS)

    found = measured(sharding.place(mesh, parts, params), batch, mesh)
    expected = measured(params, batch, None)
    for kind in affinity.KINDS:
        np.testing.assert_allclose(found[kind], expected[kind], rtol=1e-5, atol=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize(
    'names',
    [
        pytest.param(('equal', 'mgda', 'gradnorm', 'nash_mtl', 'db_mtl, beta = 0'), id='some'),
        pytest.param(tuple(METHODS), id='all', marks=pytest.mark.sweep),
    ],
)
def test_weightings_give_what_they_give_on_one_device(mesh, names):
    problem = make_problem()
    parts = sharding.parts_of(problem, mesh, True)
    params, state = problem.init(jax.random.key(0))
    transforms = {name: METHODS[name]() for name in names}

    @functools.partial(jax.jit, static_argnames=('mesh', 'parts'))
    def updates_of(params, batch, mesh, parts):
        batch = parallel.constrain(mesh, batch, parallel.BATCH)
        by_task, _ = gradients.task_gradients(problem, params, state, batch)
        found = {
            name: transform.update(by_task, transform.init(params), params, value=1.0)[0]
            for name, transform in transforms.items()
        }
        return sharding.constrain(mesh, parts, found)

    batch = Batch(*make_split(64)[:2])
    found = updates_of(sharding.place(mesh, parts, params), batch, mesh, parts)
    expected = updates_of(params, batch, None, ())
    for name in names:
        assert found[name]['shared']['layers'][1]['kernel'].sharding.spec == SPLIT, name
        for mine, theirs in zip(
            jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True
        ):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5, err_msg=name)


class Adapted(nnx.Module):
    """A backbone in bfloat16 with a small adapter."""

    def __init__(self, rngs):
        base = nnx.Linear(256, 256, param_dtype=jnp.bfloat16, rngs=rngs)
        self.first = nnx.Linear(3, 256, param_dtype=jnp.bfloat16, rngs=rngs)
        self.second = nnx.LoRA(256, 2, 256, base_module=base, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.second(nnx.relu(self.first(x))))


@pytest.fixture(scope='module')
def points():
    splits = (make_split(size, seed) for seed, size in enumerate((256, 64, 64)))
    return Dataset('points', TASKS, *splits)


@pytest.mark.sweep
@pytest.mark.parametrize('over_mesh', [pytest.param(False, marks=pytest.mark.sweep), True])
def test_a_frozen_backbone_is_on_the_devices_once(points, over_mesh):
    """Live bytes while networks train side by side: in bfloat16, and in eighths over a mesh."""
    problem = from_nnx(Adapted, TASKS, points.example_inputs, trainable=nnx.LoRAParam)
    _, state = problem.shapes
    backbone = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state['frozen']))
    assert {x.dtype for x in jax.tree.leaves(state['frozen'])} == {jnp.dtype(jnp.bfloat16)}
    assert backbone == 2 * (256 * 256 + 256 + 3 * 256 + 256)
    options = {} if over_mesh else {'mesh': (1, 1), 'shard_parameters': False}
    config = TrainingConfig(**{**vars(CONFIG), **options, 'slots': 4, 'workers': 1})
    plans = [NetworkPlan(f'n{seed}', tuple(TASKS), seed, 1e-2, seed == 0) for seed in range(4)]
    arrays, seen = jax.live_arrays(), []  # Held, so that no new one gets the id of one of them.
    before = {id(x) for x in arrays}

    def look(record):
        new = [x for x in jax.live_arrays() if id(x) not in before]
        narrow = [x for x in new if x.dtype == jnp.bfloat16]
        assert max(x.size for x in new if x.dtype != jnp.bfloat16) < 256 * 256
        seen.append(bytes_of_devices(narrow))

    networks = training.train_networks(
        problem, points.train, points.validation, plans, config, on_record=look
    )
    for held in seen:
        assert set(held.values()) == {backbone / 8 if over_mesh else backbone}
        assert len(held) == (8 if over_mesh else 1)
    first, second = (jax.tree.leaves(one.model_state['frozen']) for one in networks[:2])
    assert all(a is b for a, b in zip(first, second, strict=True))


@pytest.mark.sweep  # Its short form: each device holds an eighth.
def test_a_whole_run_in_parts_predicts_as_one_device_does(points, tmp_path):
    problem = from_nnx(Adapted, TASKS, points.example_inputs, trainable=nnx.LoRAParam)
    method = grouping.given([['sign', 'octant'], ['radius']])
    result = grouping.group_tasks(problem, points, 2, method, CONFIG, tmp_path / 'run')
    inputs = points.test.inputs[:13]
    found = result.outputs(inputs)
    exported = grouping.load(tmp_path / 'run').outputs(inputs)
    again = grouping.load(tmp_path / 'run', problem, CONFIG).outputs(inputs)
    for task in TASKS:
        np.testing.assert_allclose(found[task], exported[task], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found[task], again[task])
    with pytest.raises(ValueError, match='give its problem as well'):
        grouping.load(tmp_path / 'run', config=CONFIG)
