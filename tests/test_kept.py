"""Networks that are kept at the best step of each of their tasks."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from small import TASKS, Broken, breaks_off

from tag_jax import comparison, grouping, multi_objective, training, weighting
from tag_jax.runs import storage, workdir
from tag_jax.training import NetworkPlan, TrainingConfig

TOTAL = TrainingConfig(
    steps=24, batch_size=32, learning_rate=3e-2, eval_every=3, patience=0, slots=1
)
EACH = dataclasses.replace(TOTAL, keep='each_task')
NAMES = tuple(TASKS)
PLANS = [NetworkPlan('all', NAMES, 0, 3e-2), NetworkPlan('two', NAMES[1:], 1, 3e-2)]


def trained(problem, dataset, config, **options):
    """(networks, their records)."""
    records = []
    networks = training.train_networks(
        problem, dataset.train, dataset.validation, PLANS, config, records.append, **options
    )
    return networks, records


@pytest.fixture(scope='module')
def networks(problem, dataset):
    """(networks, their records), kept for each task, of which some have steps of their own."""
    found = trained(problem, dataset, EACH)
    assert any(network.copies for network in found[0])
    return found


def curves(records, name, criterion='error'):
    """`{task: {step: value}}` of a network."""
    own = [record for record in records if record.network == name]
    return {
        task: {record.step: record.validation(criterion)[task] for record in own}
        for task in own[0].validation(criterion)
    }


def test_each_task_is_kept_at_its_best_evaluation(problem, dataset, networks):
    for network in networks[0]:
        validation = training.validation_scores(network)
        scores = training.evaluate(problem, network, dataset.validation, 256)
        of_tasks = curves(networks[1], network.plan.name)
        assert set(of_tasks) == set(validation) == set(scores) == set(network.plan.tasks)
        for task, curve in of_tasks.items():
            assert validation[task]['error'] == min(curve.values())
            assert scores[task]['error'] == pytest.approx(min(curve.values()), rel=1e-5)
            (step,) = (one.best_step for one, own in training.kept(network) if task in own)
            assert step == min(curve, key=curve.get)


def test_the_network_is_that_of_all_tasks_together(problem, dataset, networks):
    others, _ = trained(problem, dataset, TOTAL)
    for network, other in zip(networks[0], others, strict=True):
        close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
        jax.tree.map(close, network.params, other.params)
        assert network.best_step == other.best_step
        assert not other.copies
        assert training.kept(other) == ((other, other.plan.tasks),)


def test_parameters_of_a_step_are_those_of_training_up_to_it(problem, dataset, networks):
    network = networks[0][0]
    for copy in network.copies:
        brief = dataclasses.replace(EACH, steps=copy.best_step)
        short, *_ = trained(problem, dataset, brief)[0]
        (own,) = (one for one, _ in training.kept(short) if one.best_step == copy.best_step)
        jax.tree.map(np.testing.assert_array_equal, own.params, copy.params)


def test_broken_off_training_goes_on_with_what_was_kept(problem, dataset, networks, tmp_path):
    config = dataclasses.replace(EACH, checkpoint_seconds=0)
    folder = lambda plan: tmp_path / plan.name
    asked = problem, dataset.train, dataset.validation, PLANS, config
    with pytest.raises(Broken):
        training.train_networks(*asked, breaks_off(15), checkpoints=folder)
    assert list(tmp_path.iterdir())
    for network, other in zip(
        training.train_networks(*asked, checkpoints=folder), networks[0], strict=True
    ):
        for one, copy in zip(network.copies, other.copies, strict=True):
            jax.tree.map(np.testing.assert_array_equal, one.params, copy.params)


@pytest.mark.sweep  # Its short form: each task is kept at its best evaluation.
def test_side_by_side_and_over_a_mesh(problem, dataset, networks):
    for changes in ({'slots': 2}, {'mesh': (2, 4)}, {'mesh': (1, 8), 'shard_parameters': True}):
        config = dataclasses.replace(EACH, **changes)
        for network, other in zip(trained(problem, dataset, config)[0], networks[0], strict=True):
            found, expected = map(training.validation_scores, (network, other))
            for task in network.plan.tasks:
                assert found[task]['loss'] == pytest.approx(expected[task]['loss'], rel=1e-3)


@pytest.fixture(scope='module')
def run(problem, dataset, tmp_path_factory):
    """(folder, `Result`) of two groups, each task at its own step."""
    folder = tmp_path_factory.mktemp('kept') / 'run'
    method = grouping.given([NAMES[:2], NAMES[2:]])
    return folder, grouping.group_tasks(problem, dataset, 2, method, EACH, folder)


def test_a_run_answers_from_the_steps_of_its_tasks(problem, dataset, run):
    folder, result = run
    for task, of in result.own_best.items():
        assert of['step'] == of['own_step'], task
        assert of['validation'] == of['own_validation']
    assert {group.tasks for group in result.groups} == {NAMES[:2], NAMES[2:]}
    outputs = result.outputs(dataset.test.inputs)
    for task, objective in TASKS.items():
        errors = np.asarray(objective.loss(outputs[task], dataset.test.targets[task]))
        assert errors.mean() == pytest.approx(result.metrics[task]['loss'], rel=1e-5)
    (remark,) = (one for one in result.remarks if 'its own best step' in one)
    assert f'{result.total_test_error:.4g}' in remark
    assert list((folder / 'checkpoints').glob('*/at_*'))


def test_a_run_is_read_back_with_all_of_its_steps(problem, dataset, run):
    folder, result = run
    expected = result.outputs(dataset.test.inputs)
    for given in (problem, None):
        loaded = grouping.load(folder, given)
        found = loaded.outputs(dataset.test.inputs)
        for task in NAMES:
            np.testing.assert_allclose(found[task], expected[task], rtol=1e-5, atol=1e-5)


@pytest.mark.sweep
def test_a_run_that_is_resumed_keeps_its_steps(problem, dataset, run):
    folder, result = run
    (folder / workdir.RESULTS).unlink()
    method = grouping.given([NAMES[:2], NAMES[2:]])
    again = grouping.group_tasks(problem, dataset, 2, method, EACH, folder, resume=True)
    assert (again.metrics, again.remarks) == (result.metrics, result.remarks)
    with pytest.raises(ValueError, match='keep'):
        grouping.group_tasks(problem, dataset, 2, method, TOTAL, folder, resume=True)


@pytest.mark.sweep
def test_searches_judge_networks_at_the_steps_of_their_tasks(problem, dataset, tmp_path):
    """In one table with networks that are kept for all tasks together, whose rows are others."""
    records, results = [], {}
    for config in (TOTAL, EACH):
        results[config.keep] = grouping.group_tasks(
            problem,
            dataset,
            2,
            grouping.exhaustive(),
            config,
            scores=tmp_path,
            on_record=records.append,
        )
    rows = storage.read_records(tmp_path / 'networks.jsonl')
    own = [row for row in rows if row.get('keep') == 'each_task' and 'curve' in row]
    assert len(own) == 7
    assert len([row for row in rows if 'curve' in row]) == 14
    for row in own:
        for task, values in row['curve']['validation_error'].items():
            assert row['validation'][task]['error'] == min(values)
    totals = [result.total_test_error for result in results.values()]
    assert totals[0] != totals[1]


@pytest.mark.sweep
def test_comparisons_and_weightings_take_it_too(problem, dataset):
    method = grouping.random_even()
    found = comparison.compare_groupings(problem, dataset, [method], [2], EACH, seeds=2)
    usual = comparison.compare_groupings(problem, dataset, [method], [2], TOTAL, seeds=2)
    totals = [[one.validation_error for one in each.outcomes] for each in (found, usual)]
    assert totals[0] != totals[1]
    outcomes = {
        config.keep: multi_objective.compare(
            problem, dataset, {'equal': weighting.equal}, config, seeds=1
        )[-1]
        for config in (TOTAL, EACH)
    }
    better = outcomes['each_task'].validation_error <= outcomes['total'].validation_error
    assert better.all()
    assert not (outcomes['each_task'].validation_error == outcomes['total'].validation_error).all()


def test_other_words_are_refused():
    with pytest.raises(ValueError, match="keep must be one of total, each_task, not 'last'"):
        TrainingConfig(keep='last')


def test_memory_counts_every_copy(problem):
    usual, each = (training.slot_bytes(problem, config) for config in (TOTAL, EACH))
    parameters = sum(x.size * 4 for x in jax.tree.leaves(problem.shapes[0]))
    assert each - usual == len(NAMES) * parameters
