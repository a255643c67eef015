"""Training over a mesh of devices, of which the tests have eight, against one device."""

import dataclasses
import functools
import pickle
import signal

import jax
import numpy as np
import pytest
import several_processes
from launching import run_two_processes
from small import Broken, breaks_off

from tag_jax import affinity, evaluation, parallel, training, weighting
from tag_jax.data import Source
from tag_jax.problem import Batch
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig

CONFIG = TrainingConfig(
    steps=50,
    batch_size=32,
    learning_rate=1e-2,
    eval_every=10,
    affinity=Measurement(every=10),
    patience=0,
    weighting=weighting.mgda_ub,
    checkpoint_seconds=0,
)


def train(problem, dataset, config, **options):
    tasks = problem.task_names
    plans = [NetworkPlan(f'{seed}', tasks[:size], seed, 1e-2, seed == 0) for seed, size in PLANS]
    records = []
    found = training.train_networks(
        problem,
        dataset.train,
        dataset.validation,
        plans,
        config,
        on_record=records.append,
        **options,
    )
    return found, sorted(records, key=lambda record: (record.network, record.step))


PLANS = ((0, 3), (1, 2), (2, 1))


def assert_alike(found, expected):
    """Losses, parameters and affinities, to 1e-5."""
    (networks, records), (others, other_records) = found, expected
    for one, other in zip(records, other_records, strict=True):
        assert one.step == other.step
        for task, loss in one.training_loss.items():
            np.testing.assert_allclose(loss, other.training_loss[task], rtol=1e-5, atol=1e-5)
    for one, other in zip(networks, others, strict=True):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
            (one.params, one.model_state),
            (other.params, other.model_state),
        )
    history = networks[0].affinities.history
    np.testing.assert_allclose(history, others[0].affinities.history, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def alone(problem, dataset):
    return train(problem, dataset, CONFIG)


@pytest.mark.parametrize(
    ('mesh', 'in_parts'),
    [
        pytest.param((1, 8), False, marks=pytest.mark.sweep),
        ((2, 4), False),
        pytest.param((1, 8), True, marks=pytest.mark.sweep),
        pytest.param((2, 4), True, marks=pytest.mark.sweep),
    ],
)
def test_a_mesh_gives_what_one_device_does(problem, dataset, alone, mesh, in_parts):
    """MGDA-UB's Gram matrix among it, which sums over the examples of all devices."""
    config = dataclasses.replace(CONFIG, mesh=mesh, shard_parameters=in_parts)
    assert_alike(train(problem, dataset, config), alone)


@pytest.mark.parametrize(
    ('fixture', 'mesh', 'in_parts'),
    [
        pytest.param('normalised_problem', (1, 2), False, marks=pytest.mark.sweep),
        pytest.param('nnx_convolutional_problem', (2, 1), False, marks=pytest.mark.sweep),
        ('nnx_convolutional_problem', (1, 2), True),
    ],
)
def test_batch_statistics_and_convolutions_lie_over_a_mesh(
    request, dataset, fixture, mesh, in_parts
):
    problem = request.getfixturevalue(fixture)
    config = dataclasses.replace(CONFIG.measuring(every=5), steps=10, eval_every=5)
    over_mesh = dataclasses.replace(config, mesh=mesh, shard_parameters=in_parts)
    assert_alike(train(problem, dataset, over_mesh), train(problem, dataset, config))


@pytest.mark.sweep
def test_examples_that_are_read_lie_over_a_mesh(problem, dataset, alone):
    decode = lambda row: jax.tree.map(lambda x: x[row], dataset.train)
    read = dataset._replace(train=Source(decode, len(dataset.train.inputs)))
    assert_alike(train(problem, read, dataclasses.replace(CONFIG, mesh=(2, 4))), alone)


def train_until(step, problem, dataset, config, folder_of):
    """Trains one network, with checkpoints, and breaks off at the record of a step."""
    plan = NetworkPlan('0', problem.task_names, 0, 1e-2, True)
    splits = dataset.train, dataset.validation
    with pytest.raises(Broken):
        training.train_networks(
            problem, *splits, [plan], config, on_record=breaks_off(step), checkpoints=folder_of
        )


def test_a_network_goes_on_on_another_number_of_devices(problem, dataset, alone, tmp_path):
    over_mesh = dataclasses.replace(CONFIG, mesh=(2, 4))
    options = {'checkpoints': lambda plan: tmp_path / plan.name}
    train_until(30, problem, dataset, over_mesh, options['checkpoints'])
    assert sorted(path.name for path in (tmp_path / '0').iterdir()) == ['10', '20']
    assert_alike(train(problem, dataset, CONFIG, **options), alone)


@pytest.mark.sweep  # Its short form: each device holds an eighth.
def test_parts_go_on_on_another_number_of_devices(problem, dataset, alone, tmp_path):
    """From eight devices to one, to two, and back to eight, each for an evaluation."""

    folder_of = lambda plan: tmp_path / plan.name
    for step, devices in ((20, 8), (30, 1), (40, 2)):
        mesh = {'mesh': (1, devices), 'shard_parameters': devices > 1}
        config = dataclasses.replace(CONFIG, slots=2, **mesh)
        train_until(step, problem, dataset, config, folder_of)
        written = sorted(int(path.name) for path in (tmp_path / '0').iterdir())
        assert written[-1] == step - 10
    config = dataclasses.replace(CONFIG, mesh=(1, 8), shard_parameters=True)
    assert_alike(train(problem, dataset, config, checkpoints=folder_of), alone)


@pytest.mark.variants(1)
@pytest.mark.parametrize('size', [5, 37, 200])
def test_a_split_of_any_size_is_evaluated_over_a_mesh(problem, point, dataset, size):
    split = jax.tree.map(lambda x: x[:size], dataset.test)
    prepared = evaluation.prepare(problem, split, parallel.make_mesh((2, 4)))
    found = evaluation.evaluate(problem, *point, prepared, batch_size=30)
    expected = evaluation.evaluate(problem, *point, split, batch_size=30)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected)


def test_affinities_over_sharded_examples(problem, dataset):
    """At given parameters, in a loop of one's own."""
    mesh = parallel.make_mesh((1, 8))
    params, state = problem.init(jax.random.key(0))
    batch = Batch(*jax.tree.map(lambda x: x[:64], dataset.train)[:2])

    @functools.partial(jax.jit, static_argnames='mesh')
    def measured(batch, mesh):
        batch = parallel.constrain(mesh, batch, parallel.BATCH)
        return affinity.inter_task_affinity(problem, params, state, batch, 0.05)

    found, expected = measured(batch, mesh), measured(batch, None)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_mesh_that_does_not_fit_is_refused(problem, dataset):
    with pytest.raises(ValueError, match=r'networks:4,batch:4 needs 16 devices, and there are 8'):
        train(problem, dataset, dataclasses.replace(CONFIG, mesh=(4, 4)))
    with pytest.raises(ValueError, match='32 examples cannot be split evenly over 3 devices'):
        train(problem, dataset, dataclasses.replace(CONFIG, mesh=(1, 3)))
    few = dataset._replace(validation=jax.tree.map(lambda x: x[:30], dataset.validation))
    config = dataclasses.replace(CONFIG, steps=10, mesh=(1, 4))
    train(problem, few, config)  # Only evaluated on 30.
    with pytest.raises(ValueError, match='30 examples cannot be split evenly over 4 devices'):
        train(
            problem,
            few,
            config.measuring(split='validation'),
        )
    for mesh in (0, (1, 0), (1, 2, 3), ('a', 1)):
        with pytest.raises(ValueError, match='mesh must be two numbers of devices'):
            dataclasses.replace(CONFIG, mesh=mesh)
    assert parallel.make_mesh((1, 1)) is None


def test_one_process_speaks_for_itself():
    assert parallel.first_says(lambda: [1, 2]) == [1, 2]
    assert parallel.any_process(True, False) == (True, False)
    assert parallel.is_first()
    with pytest.raises(OSError, match='full'):
        parallel.first_says(lambda: (_ for _ in ()).throw(OSError('full')))


def both_processes(folder, *more):
    """What each of two processes found, before the second was terminated."""
    processes, said = run_two_processes(several_processes.__file__, folder, *more)
    assert processes[1].returncode == 128 + signal.SIGTERM, said[1]
    assert processes[0].returncode != 0, said[0]
    return [pickle.loads((folder / str(n)).read_bytes()) for n in range(2)]


def test_two_processes_agree(tmp_path):
    first, second = both_processes(tmp_path, 'short')
    evaluated = several_processes.evaluated(None)
    for found in (first, second):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
            found['evaluated'],
            evaluated,
        )
        assert found['said'] == [0, 1]
        assert found['first'] == [0, 'ä']
        assert found['any'] == (True, False)
        np.testing.assert_array_equal(found['window'], np.arange(9)[::-1])
        assert found['damaged'] == ('OSError', 'damaged')
        for name in ('masks', 'dtypes', 'shapes'):
            kind, sentence = found[name]
            assert kind == 'ValueError'
            assert 'processes have read examples that differ from each other' in sentence
        assert 'float32[6] and int32[6]' in found['dtypes'][1]
    assert first['strange'] == ('KeyError', "'strange'")
    assert first['targets'] == ('RuntimeError', "KeyError: 'sign'")
    assert second['targets'] == ('KeyError', "'sign'")
    assert second['strange'] == ('RuntimeError', "KeyError: 'strange'")


@pytest.mark.sweep  # Its short form: two processes agree.
def test_two_processes_read_their_shares_of_the_examples(tmp_path):
    first, second = both_processes(tmp_path)
    held = several_processes.trained(several_processes.splits(), several_processes.CONFIG)
    evaluated = several_processes.evaluated(None)
    predicted = several_processes.predicted(None, False)
    total = lambda sums: jax.tree.map(lambda *parts: sum(parts), *sums)
    sums = total(several_processes.sums_by_one(None))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for alone in second['evaluated_alone']:
        jax.tree.map(close, alone, evaluated)
    for found in (first, second):
        jax.tree.map(close, found['evaluated'], evaluated)
        jax.tree.map(close, found['evaluated_in_memory'], evaluated)
        jax.tree.map(close, found['trained'], held)
        jax.tree.map(close, found['trained_in_parts'], held)
        jax.tree.map(close, found['predicted_in_parts'], predicted)
        jax.tree.map(close, total(found['sums']), sums)
        # Half of 8 steps and of 2 evaluations of 130 examples, in batches of 32; and a look before.
        of_training, of_validation = (len(rows) for rows in found['rows_read'])
        assert 128 <= of_training < 140
        assert of_validation == 160
