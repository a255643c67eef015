import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import TASKS, make_problem, make_split

from tag_jax import affinity, evaluation, gradients, training
from tag_jax.problem import Batch, from_nnx
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig, slots, work

ALL = tuple(TASKS)
CONFIG = TrainingConfig(
    steps=40, batch_size=32, learning_rate=1e-2, eval_every=20, affinity=Measurement(every=10)
)


def plan(name, tasks=ALL, seed=0, learning_rate=1e-2, measures_affinity=False):
    return NetworkPlan(name, tasks, seed, learning_rate, measures_affinity)


def train(problem, dataset, plans, config=CONFIG, **callbacks):
    return training.train_networks(
        problem, dataset.train, dataset.validation, plans, config, **callbacks
    )


def assert_equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def assert_close(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


def test_training_learns(problem, dataset):
    config = dataclasses.replace(CONFIG, steps=300, eval_every=50)
    (network,) = train(problem, dataset, [plan('all')], config)
    params, state = problem.init(jax.random.key(0))
    before = evaluation.evaluate(problem, params, state, dataset.test, 64)
    after = evaluation.evaluate(problem, network.params, network.model_state, dataset.test, 64)
    for task in ALL:
        assert after[task]['error'] < 0.5 * before[task]['error']


@pytest.mark.parametrize('steps', [pytest.param(100, marks=pytest.mark.sweep), 90])
def test_a_network_is_the_same_whatever_runs_beside_it(problem, dataset, steps):
    """Bitwise, in slots: alone, in another order, and after others that stopped early.

    (All measure affinities: a program that does is another one, which may round otherwise.)
    """
    config = dataclasses.replace(CONFIG, slots=2, steps=steps, patience=1)
    measured = functools.partial(plan, measures_affinity=True)
    plans = [
        measured('one', ('sign', 'octant'), seed=3),
        measured('two', learning_rate=0.3),
        measured('three', ('radius',), seed=1),
        measured('four', seed=2, learning_rate=0.1),
    ]
    together = {n.plan.name: n for n in train(problem, dataset, plans, config)}
    assert len({network.steps for network in together.values()}) > 1, 'some stop early'
    for order in (plans[::-1], *([one] for one in plans)):
        for network in train(problem, dataset, order, config):
            other = together[network.plan.name]
            assert_equal((network.params, network.model_state), (other.params, other.model_state))
            assert network.validation == other.validation
            assert (network.steps, network.best_step) == (other.steps, other.best_step)
            np.testing.assert_array_equal(network.affinities.history, other.affinities.history)


@pytest.mark.sweep  # Its short form: ..._whatever_runs_beside_it.
def test_a_network_is_the_same_whoever_trains_it(problem, dataset):
    """Bitwise, with any number of workers, and in what this thread has set JAX to."""
    plans = [plan(str(n), seed=n) for n in range(5)]
    with jax.enable_x64(True):
        one, three = (
            train(problem, dataset, plans, dataclasses.replace(CONFIG, slots=2, workers=workers))
            for workers in (1, 3)
        )
    for left, right in zip(one, three, strict=True):
        assert left.plan == right.plan
        assert_equal((left.params, left.model_state), (right.params, right.model_state))
        assert left.validation == right.validation


def test_compiling_is_not_training(problem, dataset):
    """The first period counts as the second, where it took longer."""
    records = []
    config = dataclasses.replace(CONFIG, patience=0)
    (network,) = train(problem, dataset, [plan('a')], config, on_record=records.append)
    first, second, *rest = (record.seconds for record in records)
    assert network.seconds == pytest.approx(min(first, second) + second + sum(rest))


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('finish', 'error', 'message'),
    [
        (lambda sums, reference=None: {'rank': 1.0}, ValueError, '\'octant\' gives no "error"'),
        (
            lambda sums, reference=None: {'error': float('nan')},
            FloatingPointError,
            "validation error of 'octant' in all is not finite at step 4: .* the metric of that",
        ),
    ],
)
def test_metrics_of_ones_own_that_give_no_error_are_named(dataset, finish, error, message):
    octant = TASKS['octant']
    own = octant._replace(metric=octant.metric._replace(finish=finish))
    problem = make_problem({**TASKS, 'octant': own})
    config = TrainingConfig(steps=4, batch_size=32, eval_every=4)
    plans = [NetworkPlan('all', tuple(TASKS), 0, 1e-2)]
    with pytest.raises(error, match=message):
        training.train_networks(problem, dataset.train, dataset.validation, plans, config)


def test_what_one_worker_meets_ends_all(problem, dataset):
    def on_finish(network):
        raise OSError('the disk is full')

    config = dataclasses.replace(CONFIG, slots=1, workers=2)
    plans = [plan(str(n)) for n in range(50)]
    with pytest.raises(OSError, match='the disk is full'):
        train(problem, dataset, plans, config, on_finish=on_finish)


def test_networks_need_not_be_kept(problem, dataset):
    config = dataclasses.replace(CONFIG, steps=20, slots=1, workers=2)
    finished = []
    kept = train(problem, dataset, [plan('a')], config, on_finish=finished.append, keep=False)
    assert kept == ()
    assert [network.plan.name for network in finished] == ['a']


@pytest.mark.sweep
@pytest.mark.parametrize('slots', [1, pytest.param(3, marks=pytest.mark.sweep)])
def test_it_is_the_same_on_the_unrolled_road(convolutional_problem, dataset, slots):
    """Bitwise, with steps that are no multiple of the evaluations, whatever the slots."""
    config = TrainingConfig(steps=7, batch_size=16, eval_every=3, affinity=Measurement(every=3))
    plans = [plan('a', seed=1), plan('b', ('sign',), learning_rate=0.1), plan('c', seed=2)]
    expected = train(convolutional_problem, dataset, plans, dataclasses.replace(config, slots=2))
    config = dataclasses.replace(config, slots=slots)
    found = train(convolutional_problem, dataset, plans[::-1], config)[::-1]
    for one, other in zip(found, expected, strict=True):
        assert_equal((one.params, one.model_state), (other.params, other.model_state))
        assert one.steps == 7


def test_a_network_among_others_equals_one_alone(problem, dataset):
    plans = [plan(f'{n}', seed=n) for n in range(5)]
    together = train(problem, dataset, plans)
    for network in together[:2]:
        (alone,) = train(problem, dataset, [network.plan])
        assert_close(network.params, alone.params, rtol=1e-4, atol=1e-5)


def test_networks_differ_in_seed_and_learning_rate(problem, dataset):
    plans = [plan('a'), plan('b', seed=1), plan('c', learning_rate=1e-4)]
    a, b, c = train(problem, dataset, plans, dataclasses.replace(CONFIG, steps=20))
    start, _ = problem.init(jax.random.split(jax.random.key(0))[0])
    moved = [
        sum(
            float(jnp.abs(x - y).sum())
            for x, y in zip(*map(jax.tree.leaves, (n.params, start)), strict=True)
        )
        for n in (a, c)
    ]
    assert moved[1] < 0.1 * moved[0]
    assert np.any(a.params['heads']['radius']['kernel'] != b.params['heads']['radius']['kernel'])


def decaying(learning_rate):
    return optax.adamw(learning_rate, weight_decay=0.1)


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'optimizer', [decaying, lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True)]
)
def test_heads_outside_the_task_set_never_move(problem, dataset, optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    network, _ = train(problem, dataset, [plan('part', ('octant',)), plan('all')], config)
    start, _ = problem.init(jax.random.split(jax.random.key(0))[0])
    for task in ALL:
        moved = np.any(network.params['heads'][task]['kernel'] != start['heads'][task]['kernel'])
        assert moved == (task == 'octant')
    assert set(network.validation) == {'octant'}


@pytest.mark.sweep
def test_batch_statistics_of_heads_outside_the_task_set_never_move(dataset):
    class Head(nnx.Module):
        def __init__(self, width, rngs):
            self.dense = nnx.Linear(8, width, rngs=rngs)
            self.normalise = nnx.BatchNorm(width, rngs=rngs)

        def __call__(self, representation):
            return self.normalise(self.dense(representation))

    heads = {t: lambda rngs, width=goal.width: Head(width, rngs) for t, goal in TASKS.items()}
    problem = from_nnx(
        lambda rngs: nnx.Linear(3, 8, rngs=rngs),
        TASKS,
        np.zeros((1, 3), np.float32),
        heads,
    )
    (network,) = train(problem, dataset, [plan('part', ('octant',))])
    _, start = problem.init(jax.random.split(jax.random.key(0))[0])
    for task in ALL:
        pairs = zip(
            *map(jax.tree.leaves, (network.model_state['heads'][task], start['heads'][task])),
            strict=True,
        )
        assert any(np.any(a != b) for a, b in pairs) == (task == 'octant')


def scheduled(learning_rate):
    return optax.chain(
        optax.sgd(learning_rate, momentum=0.9),
        optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, 20)),
    )


def on_plateau(learning_rate):
    return optax.chain(
        optax.adam(learning_rate),
        optax.contrib.reduce_on_plateau(patience=2, factor=0.5, accumulation_size=5),
    )


@pytest.mark.variants(1)
@pytest.mark.parametrize('optimizer', [scheduled, on_plateau])
def test_schedules_go_into_the_optimizer(problem, dataset, optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer, patience=0)
    plans = [plan('fast', learning_rate=0.05), plan('slow', learning_rate=1e-4)]
    fast, slow = train(problem, dataset, plans, config)
    total = lambda network: sum(scores['error'] for scores in network.validation.values())
    assert total(fast) < total(slow)
    if optimizer is scheduled:
        assert fast.best_step == 20, 'nothing moves after the schedule has come to zero'


def test_the_best_evaluation_is_kept(problem, dataset):
    records = []
    config = dataclasses.replace(CONFIG, steps=400, patience=3)
    plans = [plan('fast', learning_rate=0.1), plan('slow')]
    networks = train(problem, dataset, plans, config, on_record=records.append)
    for network in networks:
        own = [record for record in records if record.network == network.plan.name]
        totals = [record.total_validation_error for record in own]
        assert [record.step for record in own] == list(range(20, network.steps + 1, 20))
        best = own[int(np.argmin(totals))]
        assert network.best_step == best.step
        if network.steps < config.steps:
            assert network.steps == network.best_step + 3 * config.eval_every
        found = evaluation.evaluate(
            problem, network.params, network.model_state, dataset.validation, 200
        )
        for task in ALL:
            assert found[task]['error'] == pytest.approx(best.validation_error[task], rel=1e-4)
            assert network.validation[task]['error'] == best.validation_error[task]
    assert networks[0].steps < config.steps


def test_patience_zero_trains_to_the_end(problem, dataset):
    config = dataclasses.replace(CONFIG, steps=200, patience=0)
    (network,) = train(problem, dataset, [plan('fast', learning_rate=0.3)], config)
    assert network.steps == 200


@pytest.mark.sweep
def test_steps_need_not_be_a_multiple_of_the_evaluations(problem, dataset):
    records = []
    config = dataclasses.replace(CONFIG, steps=50, slots=2)
    plans = [plan('a', measures_affinity=True), plan('b'), plan('c')]
    networks = train(problem, dataset, plans, config, on_record=records.append)
    assert [network.steps for network in networks] == [50] * 3
    assert [r.step for r in records if r.network == 'a'] == [20, 40, 50]
    np.testing.assert_array_equal(networks[0].affinities.steps, [0, 10, 20, 30, 40])

    exact = dataclasses.replace(config, eval_every=50)
    for network, other in zip(networks, train(problem, dataset, plans, exact), strict=True):
        if network.best_step == 50:
            assert_close(network.params, other.params, rtol=1e-4, atol=1e-5)
    (short,) = train(problem, dataset, [plan('a')], dataclasses.replace(CONFIG, steps=3))
    assert short.steps == short.best_step == 3


def test_affinities_are_measured_on_the_way(problem, dataset):
    plans = [plan('measured', ('sign', 'radius'), measures_affinity=True), plan('plain')]
    measured, plain = train(problem, dataset, plans, dataclasses.replace(CONFIG, slots=2))
    assert plain.affinities is None
    found = measured.affinities
    np.testing.assert_array_equal(found.steps, [0, 10, 20, 30])
    np.testing.assert_array_equal(found.count, 4 * np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1]]))
    assert np.isfinite(found.mean[np.ix_([0, 2], [0, 2])]).all()


def test_the_first_affinities_are_those_of_the_first_batch(problem, dataset):
    (network,) = train(problem, dataset, [plan('all', seed=4, measures_affinity=True)])
    init_key, _ = jax.random.split(jax.random.key(4))
    rows = training.batch_rows(4, 0, 32, 512)
    batch = Batch(
        dataset.train.inputs[rows], {t: y[rows] for t, y in dataset.train.targets.items()}
    )
    expected = affinity.inter_task_affinity(problem, *problem.init(init_key), batch, 1e-2)
    np.testing.assert_allclose(network.affinities.history[0], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.sweep  # Its short form: test_measurement.py.
@pytest.mark.parametrize('road', ['vmap', 'unroll'])
def test_how_affinities_are_measured_can_be_chosen(problem, dataset, monkeypatch, road):
    """On both roads what the options say: here all of them at once, against a direct call."""
    monkeypatch.setattr(gradients, 'preferred_batching', lambda *arguments: road)
    config = dataclasses.replace(
        CONFIG.measuring(
            every=1,
            kind='first_order',
            step='optimizer',
            window=(0.05, 0.15),
            examples=16,
            split='validation',
        ),
        steps=20,
        eval_every=10,
    )
    (network,) = train(problem, dataset, [plan('all', seed=4, measures_affinity=True)], config)
    np.testing.assert_array_equal(network.affinities.steps, [1, 2])
    init_key, _ = jax.random.split(jax.random.key(4))
    params, state = problem.init(init_key)

    def batch(split, step, examples=32):
        rows = training.batch_rows(4, step, 32, len(split.inputs))[:examples]
        return Batch(split.inputs[rows], {t: y[rows] for t, y in split.targets.items()})

    # By hand: the first step, then a measurement from where Adam stands.
    adam = optax.adam(1e-2)
    total = lambda p: gradients.task_losses(problem, p, state, batch(dataset.train, 0))[0].sum()
    updates, adam_state = adam.update(jax.grad(total)(params), adam.init(params), params)
    params = optax.apply_updates(params, updates)
    expected = affinity.inter_task_affinity(
        problem,
        params,
        state,
        batch(dataset.train, 1, 16),
        1e-2,
        'first_order',
        lookahead=affinity.optimizer_step(adam, adam_state, params),
        eval_batch=batch(dataset.validation, 1, 16),
    )
    np.testing.assert_allclose(network.affinities.history[0], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.sweep
def test_the_step_of_an_optimizer_that_looks_at_the_loss(problem, dataset):
    config = dataclasses.replace(CONFIG.measuring(step='optimizer'), optimizer=on_plateau)
    (network,) = train(problem, dataset, [plan('all', measures_affinity=True)], config)
    assert np.isfinite(network.affinities.mean).all()


def test_affinities_of_many_tasks_in_pieces(convolutional_problem, dataset, monkeypatch):
    """Where passes are unrolled, some sources a call give what one call gives."""
    plans = [plan('all', measures_affinity=True)]
    config = dataclasses.replace(CONFIG, steps=10, eval_every=10)
    (whole,) = train(convolutional_problem, dataset, plans, config)
    monkeypatch.setattr(slots, 'TASKS_IN_ONE_CALL', 2)
    monkeypatch.setattr(slots, 'SOURCES_A_CALL', 2)
    calls, measure = [], slots._measure_alone
    monkeypatch.setattr(slots, '_measure_alone', lambda *a: calls.append(a[-1]) or measure(*a))
    (pieces,) = train(convolutional_problem, dataset, plans, config)
    np.testing.assert_array_equal(calls, [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 0]]])
    np.testing.assert_allclose(whole.affinities.mean, pieces.affinities.mean, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('size', [1, 9, 10, 12, 40])
def test_pieces_are_put_together_again(size):
    matrix = np.random.default_rng(0).normal(size=(size, size))
    calls = []

    def measure(sources):
        calls.append(sources)
        return matrix if sources is None else sources @ matrix

    np.testing.assert_allclose(slots.in_pieces(measure, size), matrix)
    assert len(calls) == (1 if size <= 9 else -(-size // 3))


def test_measuring_does_not_change_training(problem, dataset):
    config = dataclasses.replace(CONFIG, slots=1)
    (measured,) = train(problem, dataset, [plan('a', measures_affinity=True)], config)
    (plain,) = train(problem, dataset, [plan('a')], config)
    assert_close(measured.params, plain.params, rtol=1e-4, atol=1e-5)


def test_convolutions_on_cpu_take_the_unrolled_road(convolutional_problem, dataset):
    config = dataclasses.replace(CONFIG.measuring(every=5), steps=10, eval_every=5)
    plans = [plan('a', measures_affinity=True), plan('b', ('sign',), seed=1)]
    if jax.default_backend() == 'cpu':
        assert training.num_slots(convolutional_problem, 2, dataset.train.inputs, CONFIG) == 1
    networks = train(convolutional_problem, dataset, plans, config)
    assert [network.steps for network in networks] == [10, 10]
    np.testing.assert_array_equal(networks[0].affinities.steps, [0, 5])
    params, state = networks[0].params, networks[0].model_state
    found = evaluation.evaluate(convolutional_problem, params, state, dataset.validation, 64)
    assert found['sign']['error'] == pytest.approx(networks[0].validation['sign']['error'])


def test_both_roads_give_the_same_network(noisy_problem, dataset, monkeypatch):
    plans = [plan('a', measures_affinity=True), plan('b', ('sign',), seed=1)]
    config = dataclasses.replace(CONFIG, steps=20, slots=2)
    scanned = train(noisy_problem, dataset, plans, config)
    monkeypatch.setattr(work, 'batching_of', lambda *_: 'unroll')
    unrolled = train(noisy_problem, dataset, plans, config)
    for one, other in zip(scanned, unrolled, strict=True):
        assert_close(
            (one.params, one.model_state), (other.params, other.model_state), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_allclose(
        scanned[0].affinities.history, unrolled[0].affinities.history, rtol=1e-2, atol=1e-4
    )


def test_missing_labels(problem, dataset):
    split = make_split(512, labelled=0.3)
    (network,) = train(problem, dataset._replace(train=split, validation=split), [plan('all')])
    assert np.isfinite([network.validation[task]['error'] for task in ALL]).all()
    found = evaluation.evaluate(problem, network.params, network.model_state, split, 100)
    outputs = problem.predict(network.params, network.model_state, split.inputs)
    rows = split.mask['octant']
    wrong = np.argmax(outputs['octant'], axis=1)[rows] != split.targets['octant'][rows]
    assert found['octant']['error'] == pytest.approx(100 * wrong.mean())


def test_every_epoch_is_a_permutation():
    epochs = [
        np.concatenate([training.batch_rows(5, 4 * epoch + n, 25, 107) for n in range(4)])
        for epoch in range(3)
    ]
    for rows in epochs:
        assert len(set(rows.tolist())) == 100
        assert rows.min() >= 0
        assert rows.max() < 107
    assert np.any(epochs[0] != epochs[1])
    np.testing.assert_array_equal(epochs[1][:25], training.batch_rows(5, 4, 25, 107))
    assert np.any(epochs[0][:25] != training.batch_rows(6, 0, 25, 107))


def test_a_batch_larger_than_the_split_is_the_split(problem, dataset):
    config = dataclasses.replace(CONFIG, steps=4, batch_size=4096)
    (network,) = train(problem, dataset, [plan('all')], config)
    assert network.steps == 4


def test_a_loss_that_is_not_finite_is_named(problem, dataset):
    radius = dataset.train.targets['radius'].copy()
    radius[training.batch_rows(0, 7, 32, 512)[3]] = np.inf
    split = dataset.train._replace(targets={**dataset.train.targets, 'radius': radius})
    with pytest.raises(
        FloatingPointError, match="the loss of 'radius' in all is not finite at step 7"
    ):
        train(problem, dataset._replace(train=split), [plan('all')])


def test_networks_report_when_they_finish(problem, dataset):
    finished = []
    config = dataclasses.replace(CONFIG, steps=20, slots=1)
    networks = train(problem, dataset, [plan('a'), plan('b')], config, on_finish=finished.append)
    assert {network.plan.name: network for network in finished} == dict(
        zip('ab', networks, strict=True)
    )
    assert all(network.seconds > 0 for network in networks)
    assert train(problem, dataset, []) == ()


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('steps', 0),
        ('steps', 2.5),
        ('batch_size', -1),
        ('eval_every', 0),
        ('seed', -1),
        ('seed', 2**32),
        ('patience', -1),
        ('slots', 0),
        ('learning_rate', 0.0),
        ('learning_rate', -1e-3),
        ('learning_rate', float('nan')),
        ('learning_rate', float('inf')),
        ('learning_rate', '1e-3'),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f'{name} must be .*, not {re.escape(repr(value))}'):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('every', 0),
        ('examples', 0),
        ('kind', 'exakt'),
        ('step', 'adam'),
        ('split', 'test'),
        ('window', (0.5, 0.5)),
        ('window', 0.5),
    ],
)
def test_settings_of_measuring_out_of_range_are_named(name, value):
    wanted = f'affinity.{name} must be .*, not {re.escape(repr(value))}'
    with pytest.raises(ValueError, match=wanted):
        Measurement(**{name: value})


def test_a_window_without_a_measurement_is_refused():
    with pytest.raises(ValueError, match='holds no multiple of affinity.every, 15: nothing would'):
        TrainingConfig(steps=20, affinity=Measurement(every=15, window=(0.8, 1.0)))


def test_numbers_of_numpy_become_numbers():
    config = TrainingConfig(steps=np.int64(5), learning_rate=np.float32(0.5), slots=np.int32(2))
    assert [type(x) for x in (config.steps, config.learning_rate, config.slots)] == [
        int,
        float,
        int,
    ]
    assert config == TrainingConfig(steps=5, learning_rate=0.5, slots=2)


def test_functions_must_be_functions():
    with pytest.raises(
        ValueError, match='optimizer must be a function .* as optax.adam.*; Gradient'
    ):
        TrainingConfig(optimizer=optax.sgd(0.1))
    with pytest.raises(
        ValueError, match='weighting must be a function .* as tag_jax.weighting.equal'
    ):
        TrainingConfig(weighting=None)


def warmed_up(rate):
    return optax.adamw(optax.warmup_cosine_decay_schedule(0.0, rate, 5, 40))


def test_a_schedule_may_ask_in_python_whether_its_rate_is_zero(problem, dataset):
    """No traced number can answer that. The first of these steps has a rate of zero."""
    start, _ = problem.init(jax.random.split(jax.random.key(0))[0])
    brief = dataclasses.replace(CONFIG, optimizer=warmed_up, patience=0, steps=2, eval_every=2)
    for steps, moves in ((1, False), (2, True)):
        brief = dataclasses.replace(brief, steps=steps, eval_every=steps)
        (network,) = train(problem, dataset, [plan('fast', learning_rate=0.05)], brief)
        pairs = zip(*map(jax.tree.leaves, (network.params, start)), strict=True)
        assert any(np.any(a != b) for a, b in pairs) == moves


@pytest.mark.sweep  # Its short form: a schedule may ask in Python whether its rate is zero.
def test_networks_of_several_rates_whose_schedules_ask_in_python(problem, dataset):
    config = dataclasses.replace(CONFIG, optimizer=warmed_up, patience=0)
    plans = [plan('fast', learning_rate=0.05), plan('slow', learning_rate=1e-5), plan('again')]
    fast, slow, again = train(problem, dataset, plans, config)
    assert [network.plan for network in (fast, slow, again)] == plans
    total = lambda network: sum(scores['error'] for scores in network.validation.values())
    assert total(fast) < total(slow)
    (alone,) = train(problem, dataset, [plan('again')], dataclasses.replace(config, slots=1))
    assert_close(alone.params, again.params, rtol=1e-4, atol=1e-5)


def test_a_schedule_is_no_learning_rate():
    with pytest.raises(ValueError, match='not a schedule: give the schedule to optimizer, as lamb'):
        TrainingConfig(learning_rate=optax.cosine_decay_schedule(0.1, 10))


def accumulating(rate):
    return optax.MultiSteps(optax.adam(rate), 4).gradient_transformation()


def test_the_step_of_an_optimizer_that_mostly_stands_still_is_not_measured(problem, dataset):
    config = dataclasses.replace(CONFIG.measuring(step='optimizer'), optimizer=accumulating)
    with pytest.raises(ValueError, match="affinity.step='optimizer' cannot be measured behind opt"):
        train(problem, dataset, [plan('all', measures_affinity=True)], config)


@pytest.mark.sweep  # Its short form: ..._mostly_stands_still_is_not_measured.
def test_the_step_of_sgd_is_measured_beside_an_optimizer_that_mostly_stands_still(problem, dataset):
    config = dataclasses.replace(CONFIG.measuring(step='optimizer'), optimizer=accumulating)
    plans = [plan('all', measures_affinity=True)]
    sgd = dataclasses.replace(config.measuring(step='sgd', every=4), steps=4, eval_every=4)
    (network,) = train(problem, dataset, plans, sgd)
    assert np.abs(network.affinities.mean).max() > 1e-4


@pytest.mark.sweep  # Its short form: test_own_parts.py has hooks that do.
def test_a_hook_may_end_the_training_of_a_network(problem, dataset):
    """At an evaluation of its choice; the others go on, and each is kept at its best."""
    seen = []

    def on_record(record):
        seen.append((record.network, record.step))
        assert record.seconds > 0
        return record.network == 'short' and record.step == 20

    config = dataclasses.replace(CONFIG, steps=60)
    plans = [plan('short'), plan('long', seed=1)]
    short, long = train(problem, dataset, plans, config, on_record=on_record)
    assert (short.steps, short.best_step, long.steps) == (20, 20, 60)
    assert sorted(seen) == [('long', 20), ('long', 40), ('long', 60), ('short', 20)]
    (alone,) = train(problem, dataset, plans[1:], dataclasses.replace(config, slots=2))
    jax.tree.map(np.testing.assert_array_equal, long.params, alone.params)
