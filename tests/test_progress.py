"""Networks in training: they go on from their checkpoints, and say what went wrong in them."""

import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import TASKS, Broken, breaks_off

from tag_jax import gradients, models, objectives, training, weighting
from tag_jax.problem import Batch, from_nnx
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig, slots
from tag_jax.training.step import take

ALL = tuple(TASKS)
CONFIG = TrainingConfig(
    steps=60,
    batch_size=32,
    learning_rate=1e-2,
    eval_every=10,
    affinity=Measurement(every=10),
    patience=0,
    checkpoint_seconds=0,
)


def plan(name, tasks=ALL, seed=0):
    return NetworkPlan(name, tasks, seed, 1e-2, tasks == ALL)


def train(problem, dataset, plans, config=CONFIG, **options):
    return training.train_networks(
        problem, dataset.train, dataset.validation, plans, config, **options
    )


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.validation == other.validation
        assert (one.plan, one.steps, one.best_step) == (other.plan, other.steps, other.best_step)
        for name in ('params', 'model_state'):
            jax.tree.map(np.testing.assert_array_equal, getattr(one, name), getattr(other, name))
        if one.affinities is not None:
            np.testing.assert_array_equal(one.affinities.history, other.affinities.history)


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


EPOCHS_OF_TEN = functools.partial(weighting.dwa, 10)


@pytest.mark.parametrize(
    ('fixture', 'changes'),
    [
        ('problem', {'slots': 2}),
        pytest.param(
            *('problem', {'slots': 1, 'workers': 2, 'weighting': weighting.gradnorm}),
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            *('problem', {'patience': 2, 'weighting': weighting.rlw, 'steps': 65}),
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            'normalised_problem',
            {'optimizer': momentum, 'weighting': functools.partial(weighting.dwa, 10)},
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            *('nnx_convolutional_problem', {'steps': 20, 'eval_every': 4}),
            marks=pytest.mark.sweep,
        ),
    ],
)
def test_training_goes_on_as_if_nothing_had_happened(request, dataset, tmp_path, fixture, changes):
    """Bitwise, wherever it broke, and so do its records."""
    found = request.getfixturevalue(fixture)
    config = dataclasses.replace(CONFIG, **changes)
    plans = [plan('all'), plan('part', ('sign',), 1), plan('more', ('sign', 'radius'), 2)]
    expected_records, records = [], []
    expected = train(found, dataset, plans, config, on_record=expected_records.append)

    folder_of = lambda plan: tmp_path / plan.name
    for last in (2 * config.eval_every, 4 * config.eval_every):
        with pytest.raises(Broken):
            train(
                found,
                dataset,
                plans,
                config,
                on_record=breaks_off(last, 'all'),
                checkpoints=folder_of,
            )
        assert list(tmp_path.iterdir()), 'there are checkpoints'
    again = train(found, dataset, plans, config, on_record=records.append, checkpoints=folder_of)
    assert_same(again, expected)
    lines = lambda found: [one.to_json() for one in found]
    in_order = lambda found: sorted(lines(found), key=lambda one: (one['network'], one['step']))
    assert in_order(records) == in_order(expected_records)
    assert not list(tmp_path.iterdir()), 'checkpoints go when their networks have finished'


def test_a_checkpoint_of_another_network_is_not_used(problem, dataset, tmp_path, caplog):
    folder_of = lambda plan: tmp_path / 'one'
    with pytest.raises(Broken):
        train(problem, dataset, [plan('a')], on_record=breaks_off(30), checkpoints=folder_of)
    with caplog.at_level(logging.WARNING):
        found = train(problem, dataset, [plan('a', seed=1)], checkpoints=folder_of)
    assert 'it is of another network' in caplog.text
    assert_same(found, train(problem, dataset, [plan('a', seed=1)]))


def faulty(problem, task, fault):
    """The problem with a loss of one task that is at fault at some of the examples.

    Args:
      fault: (losses `[B]`, bool `[B]`, where) -> losses `[B]`.
    """

    def loss(output, target):
        return fault(problem.tasks[task].loss(output, target), target > 2.9)

    tasks = {**problem.tasks, task: problem.tasks[task]._replace(loss=loss)}
    return dataclasses.replace(problem, tasks=tasks)


def infinite(losses, where):
    return jnp.where(where, jnp.inf, losses)


def without_gradient(losses, where):
    """Finite, but its gradient is 0 / 0 there."""
    return losses + jnp.sqrt(jnp.where(where, 0 * losses, 1.0))


FAULTS = pytest.mark.parametrize(
    ('fault', 'named'),
    [pytest.param(infinite, 'loss', marks=pytest.mark.sweep), (without_gradient, 'gradient')],
)


def first_fault(dataset):
    for step in range(CONFIG.steps):
        rows = training.batch_rows(0, step, CONFIG.batch_size, 512)
        if (dataset.train.targets['radius'][rows] > 2.9).any():
            return step
    raise AssertionError('no example is at fault')


@FAULTS
def test_numbers_that_are_not_finite_are_named(problem, dataset, fault, named):
    step = first_fault(dataset)
    sentence = f"the {named} of 'radius' in all is not finite at step {step}"
    with pytest.raises(FloatingPointError, match=sentence):
        train(faulty(problem, 'radius', fault), dataset, [plan('all')])
    # Whoever does not train that task does not mind.
    train(faulty(problem, 'radius', fault), dataset, [plan('part', ('sign', 'octant'))])


@pytest.mark.variants(1)
@FAULTS
@pytest.mark.parametrize('policy', ['skip', 'drop'])
def test_training_survives_them(problem, dataset, caplog, fault, named, policy):
    """As a loop by hand, which skips these steps, or trains the other tasks in them."""
    config = dataclasses.replace(CONFIG, if_not_finite=policy, optimizer=momentum, slots=1)
    records = []
    with caplog.at_level(logging.WARNING):
        (network,) = train(
            faulty(problem, 'radius', fault),
            dataset,
            [plan('all')],
            config,
            on_record=records.append,
        )
    assert f"the {named} of 'radius' in all is not finite at step" in caplog.text
    params, steps = by_hand(problem, dataset, config, policy, last=network.best_step)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        network.params,
        params,
    )
    assert network.not_finite == {'radius': steps}
    assert sum(record.not_finite.get('radius', 0) for record in records) == steps
    summary = network.affinities
    assert np.isfinite(summary.mean).all()
    assert np.isfinite([record.training_loss['radius'] for record in records]).all()


def by_hand(problem, dataset, config, policy, last):
    """(params at a step, steps with faults in all)."""
    key, _ = jax.random.split(jax.random.key(0))
    params, state = problem.init(key)
    tx = optax.chain(weighting.equal(), momentum(1e-2))
    opt_state = tx.init(params)

    @jax.jit
    def step(params, opt_state, batch, mask):
        by_task, _ = gradients.task_gradients(problem, params, state, batch, task_mask=mask)
        updates, opt_state = tx.update(by_task, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    faults, found = 0, None
    for n in range(config.steps):
        if n == last:
            found = params
        rows = training.batch_rows(0, n, config.batch_size, 512)
        batch = Batch(*jax.tree.map(lambda x, rows=rows: x[rows], dataset.train)[:2])
        bad = bool((batch.targets['radius'] > 2.9).any())
        faults += bad
        if bad and policy == 'skip':
            continue
        mask = np.array([task != 'radius' or not bad for task in ALL])
        params, opt_state = step(params, opt_state, batch, mask)
    return params if found is None else found, faults


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('policy', 'sentence'),
    [
        ('skip', 'none of the 10 steps from 0 on could be taken'),
        ('drop', "'radius' could be trained in none of the 10 steps from 0 on"),
    ],
)
def test_training_ends_where_none_of_its_steps_can_be_taken(problem, dataset, policy, sentence):
    found = faulty(problem, 'radius', lambda losses, where: losses * jnp.nan)
    config = dataclasses.replace(CONFIG, if_not_finite=policy)
    with pytest.raises(FloatingPointError, match=sentence):
        train(found, dataset, [plan('all')], config)


@pytest.mark.sweep
def test_bad_inputs_leave_the_network_as_it_was(normalised_problem, dataset):
    """A batch with an infinite input spoils every gradient, and the statistics of BatchNorm."""
    inputs = np.array(dataset.train.inputs)
    inputs[7] = np.inf
    split = dataset.train._replace(inputs=inputs)
    for policy in ('skip', 'drop'):
        config = dataclasses.replace(CONFIG, if_not_finite=policy)
        (network,) = training.train_networks(
            normalised_problem, split, dataset.validation, [plan('all')], config
        )
        arrays = (network.params, network.model_state)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(arrays))
        assert sum(network.not_finite.values()) >= 3
        assert np.isfinite(network.affinities.mean).all()


@pytest.mark.sweep
def test_a_loss_that_is_always_zero_is_named(problem, dataset, caplog):
    found = faulty(problem, 'radius', lambda losses, where: 0 * losses)
    records = []
    with caplog.at_level(logging.WARNING):
        train(found, dataset, [plan('all')], on_record=records.append)
    assert caplog.text.count("the loss of 'radius' in all is exactly zero from step 0 on") == 1
    assert all(record.zero_losses == {'radius': 10} for record in records)


@pytest.mark.sweep
@pytest.mark.parametrize(
    'policy', ['stop', *(pytest.param(one, marks=pytest.mark.sweep) for one in ('skip', 'drop'))]
)
def test_watching_costs_at_most_a_hundredth(policy):
    """Compiled FLOPs of a step with and without it, at the size of the main job."""
    kinds = {f'task{n}': objectives.classification(10) for n in range(8)}
    found = from_nnx(
        lambda rngs: models.MLP(144, (256, 128), rngs=rngs),
        kinds,
        jax.ShapeDtypeStruct((1, 144), jnp.float32),
    )
    program = slots.Program(found, weighting.equal, optax.adam, 'vmap', False, None, policy)
    batch = Batch(
        jax.ShapeDtypeStruct((256, 144), jnp.float32),
        {task: jax.ShapeDtypeStruct((256,), jnp.int32) for task in kinds},
    )
    slot = jax.eval_shape(
        lambda: slots.initial(program, np.uint32(0), jnp.ones(8, bool), np.float32(1e-3))
    )

    def plain(slot, batch):
        by_task, state = gradients.task_gradients(
            found, slot.params, slot.model_state, batch, slot.key, task_mask=slot.task_mask
        )
        updates, opt_state = program.transform(slot.learning_rate).update(
            by_task, slot.opt_state, slot.params
        )
        params = optax.apply_updates(slot.params, updates)
        return params, state, opt_state, by_task.losses, by_task.active

    flops = lambda step: jax.jit(step).lower(slot, batch).compile().cost_analysis()['flops']
    watched = flops(functools.partial(take, program, None))
    assert watched <= 1.01 * flops(plain)
