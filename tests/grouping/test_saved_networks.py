"""Trained networks on disk, with what they stand on: checkpoints and exported functions."""

import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import TASKS, make_problem

from tag_jax import grouping, objectives, training
from tag_jax.grouping import saved_networks
from tag_jax.problem import from_functions, from_nnx
from tag_jax.runs import checkpoint, exported, storage
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig

PLAN = NetworkPlan('all', tuple(TASKS), 0, 1e-2, True)
CONFIG = TrainingConfig(steps=10, batch_size=32, eval_every=5, affinity=Measurement(every=5))


def trained(problem, dataset, plan=PLAN):
    return training.train_networks(problem, dataset.train, dataset.validation, [plan], CONFIG)[0]


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    tree = {'a': [jnp.arange(3), jnp.ones((2, 2), jnp.bfloat16)], 'b': {}, 'c': {0: jnp.float32(1)}}
    checkpoint.save(tmp_path / 'tree', tree)
    found = checkpoint.restore(tmp_path / 'tree', jax.eval_shape(lambda: tree))
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, found, tree)
    with pytest.raises(ValueError, match='exists'):
        checkpoint.save(tmp_path / 'tree', tree)


def test_a_network_comes_back_as_it_was(tmp_path, noisy_problem, dataset):
    network = trained(noisy_problem, dataset)
    folder = tmp_path / 'networks' / 'all'
    assert saved_networks.load(folder, noisy_problem, PLAN) is None
    saved_networks.save(folder, noisy_problem, network, dataset.train.inputs, 64)
    found = saved_networks.load(folder, noisy_problem, PLAN)
    for field in ('plan', 'validation', 'best_step', 'steps', 'seconds', 'best_of_tasks'):
        assert getattr(found, field) == getattr(network, field)
    for field in ('params', 'model_state'):
        jax.tree.map(np.testing.assert_array_equal, getattr(found, field), getattr(network, field))
    for mine, theirs in zip(found.affinities, network.affinities, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_network_that_was_not_written_whole_is_not_there(tmp_path, problem, dataset):
    network = trained(problem, dataset)
    saved_networks.save(tmp_path / 'all', problem, network, dataset.train.inputs, 64)
    (tmp_path / 'all' / 'network.json').unlink()
    assert saved_networks.load(tmp_path / 'all', problem, PLAN) is None
    saved_networks.save(tmp_path / 'all', problem, network, dataset.train.inputs, 64)
    assert saved_networks.load(tmp_path / 'all', problem, PLAN) is not None


@pytest.mark.parametrize(
    'change', [{'tasks': ('sign',)}, {'seed': 1}, {'learning_rate': 0.5}, {'name': 'other'}]
)
def test_a_network_of_another_plan_is_not_taken_for_it(tmp_path, problem, dataset, change):
    saved_networks.save(
        tmp_path / 'all', problem, trained(problem, dataset), dataset.train.inputs, 64
    )
    assert saved_networks.load(tmp_path / 'all', problem, PLAN) is not None
    assert saved_networks.load(tmp_path / 'all', problem, PLAN._replace(**change)) is None


def test_a_full_disk_is_not_taken_for_a_model_that_cannot_be_exported(
    tmp_path, problem, dataset, monkeypatch
):
    def full(path, data):
        raise OSError(28, 'No space left on device')

    network = trained(problem, dataset)
    monkeypatch.setattr(storage, 'write_bytes', full)
    with pytest.raises(OSError, match='No space left'):
        saved_networks.save(tmp_path / 'all', problem, network, dataset.train.inputs, 64)


def test_the_exported_function_needs_no_model_code(tmp_path, noisy_problem, dataset):
    network = trained(noisy_problem, dataset)
    saved_networks.save(tmp_path / 'all', noisy_problem, network, dataset.train.inputs, 64)
    inputs = dataset.test.inputs[:100]
    expected = noisy_problem.predict(network.params, network.model_state, inputs)
    found = saved_networks.predictor(tmp_path / 'all', 64)(inputs)
    for task in TASKS:
        np.testing.assert_allclose(found[task], expected[task], rtol=1e-4, atol=1e-5)

    np.savez(tmp_path / 'inputs.npz', inputs=inputs)
    code = f"""
        import sys
        import numpy as np
        from tag_jax.grouping import saved_networks
        inputs = np.load({str(tmp_path / 'inputs.npz')!r})['inputs']
        found = saved_networks.predictor({str(tmp_path / 'all')!r}, 64)(inputs)
        np.savez({str(tmp_path / 'found.npz')!r}, **found)
    """
    subprocess.run([sys.executable, '-c', textwrap.dedent(code)], check=True)
    with np.load(tmp_path / 'found.npz') as elsewhere:
        for task in TASKS:
            np.testing.assert_allclose(elsewhere[task], found[task], rtol=1e-5, atol=1e-6)


def test_parameters_are_matched_by_name():
    """Eleven layers: as strings, their indices do not sort as numbers do."""
    params = {'layers': {n: jnp.full((2, 2), n + 1.0) for n in range(11)}}

    def predict(params, inputs):
        for n in range(11):
            inputs = jnp.tanh(inputs @ params['layers'][n] / (n + 1) + n)
        return {'a': inputs}

    inputs = jnp.ones((3, 2))
    data = exported.export_function(predict, params, inputs)
    renamed = {'layers': {str(n): leaf for n, leaf in params['layers'].items()}}
    found = exported.import_function(data, renamed)(inputs)
    np.testing.assert_allclose(found['a'], predict(params, inputs)['a'], rtol=1e-6)


def test_names_with_separators_do_not_collide():
    params = {'a/b': jnp.ones(2), 'a': {'b': 2 * jnp.ones(2)}}
    predict = lambda params, inputs: {'a/b': inputs * params['a/b'] - params['a']['b']}
    data = exported.export_function(predict, params, jnp.ones(2))
    np.testing.assert_array_equal(
        exported.import_function(data, params)(jnp.ones(2))['a/b'], [-1, -1]
    )


def test_answers_of_an_objective_of_ones_own_are_refused_without_it(dataset, tmp_path):
    """Raw outputs under the name of the task would be another answer without a word."""
    squared = objectives.regression()._replace(kind='mine', answer=lambda output: output[:, 0] ** 2)
    own = dataset._replace(tasks={**TASKS, 'radius': squared})
    config = TrainingConfig(steps=4, batch_size=32, eval_every=2)
    asked = make_problem(own.tasks), own, 1, grouping.all_in_one(), config, tmp_path
    result = grouping.group_tasks(*asked)
    inputs = own.test.inputs[:3]
    loaded = grouping.load(tmp_path)
    with pytest.raises(ValueError, match="the answers of 'radius' come from an objective of your"):
        loaded.predict(inputs)
    outputs = result.outputs(inputs)['radius']
    np.testing.assert_allclose(loaded.outputs(inputs)['radius'], outputs, rtol=1e-5)
    answers = grouping.load(tmp_path, asked[0]).predict(inputs)['radius']
    np.testing.assert_allclose(answers, outputs[:, 0] ** 2, rtol=1e-5)


def test_inputs_that_are_not_finite_have_no_answer(dataset, tmp_path):
    config = TrainingConfig(steps=4, batch_size=32, eval_every=2)
    result = grouping.group_tasks(make_problem(), dataset, 1, grouping.all_in_one(), config)
    inputs = dataset.test.inputs[:3].copy()
    inputs[1, 0] = np.nan
    for answer in (result.predict, result.predict_proba, result.outputs):
        with pytest.raises(ValueError, match='row 2 of the inputs is not finite'):
            answer(inputs)


def test_an_interrupt_says_how_to_go_on(problem, dataset, tmp_path):
    def interrupt(record):
        raise KeyboardInterrupt

    config = TrainingConfig(steps=4, batch_size=32, eval_every=2)
    asked = problem, dataset, 1, grouping.all_in_one(), config
    with pytest.raises(KeyboardInterrupt) as caught:
        grouping.group_tasks(*asked, tmp_path, on_record=interrupt)
    assert 'resume=True' in caught.value.__notes__[0]


def test_the_exported_function_takes_inputs_of_any_number_type():
    data = exported.export_function(
        lambda p, x: {'a': x * p['w']}, {'w': jnp.ones(())}, jnp.ones((4, 3))
    )
    function = exported.import_function(data, {'w': jnp.float32(2)})
    for inputs in (np.ones((4, 3), int), np.ones((4, 3)), np.ones((4, 3), bool)):
        np.testing.assert_array_equal(function(inputs)['a'], np.full((4, 3), 2.0))
    with pytest.raises(ValueError, match=r'inputs are of shape \[N, 3\], not \[N\]'):
        function(np.ones(3))


def test_a_model_that_cannot_be_exported_is_kept_all_the_same(tmp_path, dataset, caplog):
    regression = objectives.regression()

    def head(head, representation):
        shape = jax.ShapeDtypeStruct((len(representation), 1), jnp.float32)
        first = lambda z: np.asarray(z)[:, :1]
        return jax.pure_callback(first, shape, representation, vmap_method='sequential') + head

    problem = from_functions(
        lambda key: {'shared': jnp.eye(3), 'heads': {'radius': jnp.zeros(1)}},
        lambda shared, inputs: inputs @ shared,
        {'radius': lambda params, z: head(params[None], jax.lax.stop_gradient(z))},
        {'radius': regression},
    )
    network = trained(problem, dataset, NetworkPlan('one', ('radius',), 0, 1e-2))
    saved_networks.save(tmp_path / 'one', problem, network, dataset.train.inputs, 64)
    assert 'will need the problem' in caplog.text
    assert saved_networks.load(tmp_path / 'one', problem, network.plan) is not None
    with pytest.raises(ValueError, match='give the problem to predict'):
        saved_networks.predictor(tmp_path / 'one', 64)(dataset.test.inputs)


class Adapted(nnx.Module):
    """An encoder of which the first layer has adapters of some rank."""

    def __init__(self, rngs, rank=2, size=8):
        base = nnx.Linear(3, size, rngs=rngs)
        self.first = nnx.LoRA(3, rank, size, base_module=base, rngs=rngs)
        self.normalise = nnx.BatchNorm(size, rngs=rngs)

    def __call__(self, inputs):
        return nnx.relu(self.normalise(self.first(inputs)))


def adapted(trainable=nnx.LoRAParam, heads=None, **options):
    make = lambda rngs: Adapted(rngs, **options)
    return from_nnx(make, TASKS, np.zeros((1, 3), np.float32), heads, trainable=trainable)


@pytest.fixture(scope='module')
def run_with_adapters(tmp_path_factory, dataset):
    """The folder of a finished run with a frozen backbone."""
    path = tmp_path_factory.mktemp('adapted') / 'run'
    grouping.group_tasks(adapted(), dataset, 1, grouping.all_in_one(), CONFIG, path)
    return path


@pytest.mark.variants(2)
@pytest.mark.filterwarnings('error::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize(
    ('other', 'sentence'),
    [
        (
            {'rank': 4},
            r"another encoder .'first/lora_a' has the shape \[3, 2\] in the run, and \[3, 4\] here",
        ),
        ({'size': 4}, r"another encoder \('first/lora_b' has the shape \[2, 8\] in the run"),
        (
            {'trainable': lambda path: path[0] == 'normalise'},
            "'first/lora_a' trained there, so give the same",
        ),
        (
            {'trainable': lambda path: path[-1] in ('lora_a', 'lora_b', 'scale')},
            "'normalise/scale' was frozen there, so give the same",
        ),
        (
            {'heads': {'radius': lambda rngs: nnx.Linear(8, 1, use_bias=False, rngs=rngs)}},
            r"another head \(the run alone has 'radius/bias'\)",
        ),
    ],
)
def test_another_problem_than_that_of_the_run_is_named(run_with_adapters, other, sentence):
    with pytest.raises(ValueError, match=rf'mtl was trained with .*{sentence}') as raised:
        grouping.load(run_with_adapters, adapted(**other))
    assert str(raised.value).endswith('with the functions that the run exported')
    assert '\n' not in str(raised.value)


def test_a_problem_without_the_names_of_the_run_is_named(run_with_adapters, problem):
    with pytest.raises(ValueError, match="another encoder .* alone has '(first|layers)/"):
        grouping.load(run_with_adapters, problem)


def test_files_that_a_run_lacks_are_named(run_with_adapters, dataset, tmp_path):
    def without(name):
        path = tmp_path / name.replace('*', '')
        shutil.copytree(run_with_adapters, path)
        (gone,) = (path / 'checkpoints').glob(name)
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        return path

    whole = grouping.load(run_with_adapters, adapted()).outputs(dataset.test.inputs[:3])
    assert set(whole) == set(TASKS)
    for name in ('frozen_*', 'mtl/parameters', 'mtl/network.json'):
        path = without(name)
        for given in (adapted(), None):
            with pytest.raises(FileNotFoundError, match=f'there is no .*{name[:7]}.*of the run'):
                grouping.load(path, given)


def test_arrays_that_cannot_be_read_are_named(tmp_path):
    checkpoint.save(tmp_path / 'tree', {'a': np.ones(3)})
    shutil.rmtree(tmp_path / 'tree' / 'd')
    with pytest.raises(OSError, match='cannot read the arrays in .*tree .*copy of the run'):
        checkpoint.restore(tmp_path / 'tree', {'a': np.ones(3)})
