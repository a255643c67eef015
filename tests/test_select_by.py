"""What networks and groups are selected by: errors, losses, or losses relative to a constant."""

import dataclasses

import jax
import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import comparison, data, evaluation, gradients, grouping, objectives, report
from tag_jax.evaluation import constant_loss
from tag_jax.problem import Batch
from tag_jax.runs import score_table
from tag_jax.training import NetworkPlan, TrainingConfig, train_networks

ALL = tuple(TASKS)
CONFIG = TrainingConfig(steps=40, batch_size=32, learning_rate=1e-2, eval_every=10, slots=2)


@pytest.mark.variants(1)
@pytest.mark.parametrize('labelled', [None, 0.6])
def test_the_loss_of_a_split_is_the_loss_that_is_trained(labelled):
    problem, split = make_problem(), make_split(150, labelled=labelled)
    network = problem.init(jax.random.key(0))
    whole = Batch(split.inputs, split.targets, split.mask)
    expected, _ = gradients.task_losses(problem, *network, whole, train=False)
    for batch_size in (16, 150):
        found = evaluation.evaluate(problem, *network, split, batch_size)
        losses = [found[task]['loss'] for task in ALL]
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        assert 'relative_loss' not in found['sign']


def entropy(counts, weights=1.0):
    """The weighted cross entropy of the best constant answer, over the number of labels."""
    mass = np.asarray(counts, float) * weights
    shares = mass / mass.sum()
    return -np.sum(mass * np.log(np.where(shares > 0, shares, 1))) / np.sum(counts)


def test_the_best_constant_answer_of_each_objective():
    rng = np.random.default_rng(0)
    labels, on = rng.integers(0, 3, 200), rng.random(200) < 0.3
    several, values = rng.random((200, 4)) < [0.1, 0.4, 0.5, 0.8], rng.normal(size=(200, 2)) * 3
    counts, mask = np.bincount(labels), np.ones(200, bool)
    weights = np.array([1.0, 4.0, 0.5])
    positive = np.array([np.sum(~on), np.sum(on)])
    cases = [
        (objectives.classification(3), (3,), labels, entropy(counts)),
        (objectives.classification(3, weights), (3,), labels, entropy(counts, weights)),
        (objectives.binary(), (1,), on.astype(int), entropy(positive)),
        (objectives.binary(5.0), (1,), on.astype(int), entropy(positive, [1.0, 5.0])),
        (objectives.regression(2), (2,), values, values.var(axis=0).mean()),
        (
            *(objectives.regression(2, absolute=True), (2,), values),
            np.abs(values - np.median(values, axis=0)).mean(),
        ),
        (
            *(objectives.multilabel(4), (4,), several.astype(np.float32)),
            np.mean([entropy([np.sum(~x), np.sum(x)]) for x in several.T]),
        ),
        (objectives.tokens(3), (5, 3), labels.reshape(40, 5), entropy(counts)),
        (objectives.segmentation(3), (4, 5, 3), labels.reshape(10, 4, 5), entropy(counts)),
        (objectives.pixel_regression(), (4, 5, 1), values.reshape(20, 4, 5), values.var()),
    ]
    for objective, shape, target, expected in cases:
        known = mask[: len(target)]
        found = constant_loss(objective, shape, target, known)
        assert found == pytest.approx(expected, rel=2e-3), objective
    half = np.arange(200) < 100
    found = constant_loss(objectives.classification(3), (3,), labels, half)
    assert found == pytest.approx(entropy(np.bincount(labels[:100])), rel=1e-4)


def test_labels_that_a_constant_gets_right_are_refused():
    with pytest.raises(ValueError, match=r"no loss can be relative to that: take select_by='loss'"):
        constant_loss(objectives.regression(), (1,), np.zeros(5, np.float32), np.ones(5, bool))
    source = data.Source(10, lambda n: None)
    with pytest.raises(ValueError, match='needs labels in memory, and this split is a data.Source'):
        evaluation.constant_losses(make_problem(), source)
    with pytest.raises(ValueError, match='select_by must be one of error, loss, relative_loss, no'):
        TrainingConfig(select_by='accuracy')


@pytest.mark.variants(1)
@pytest.mark.parametrize('by', evaluation.CRITERIA)
def test_the_best_evaluation_is_that_of_the_criterion(problem, dataset, by):
    config, records = dataclasses.replace(CONFIG, select_by=by), []
    plans = [NetworkPlan('one', ALL, 0, 0.3), NetworkPlan('two', ('sign', 'radius'), 1, 0.1)]
    networks = train_networks(
        *(problem, dataset.train, dataset.validation, plans, config), records.append
    )
    for network in networks:
        own = [one for one in records if one.network == network.plan.name]
        totals = [sum(one.validation(by).values()) for one in own]
        assert network.best_step == own[int(np.argmin(totals))].step
        best = sum(scores[by] for scores in network.validation.values())
        assert best == pytest.approx(min(totals))
        assert own[0].total_validation_error == pytest.approx(sum(own[0].validation_error.values()))
        assert bool(own[0].validation_relative_loss) == (by == 'relative_loss')
        assert ('validation_relative_loss' in own[0].to_json()) == (by == 'relative_loss')
    relative = records[0].validation_relative_loss
    for task, value in relative.items():
        target = dataset.validation.targets[task]
        shape = (problem.tasks[task].width,)
        constant = constant_loss(problem.tasks[task], shape, target, np.ones(len(target), bool))
        assert value == pytest.approx(100 * records[0].validation_loss[task] / constant)


@pytest.mark.sweep
@pytest.mark.parametrize('by', [pytest.param('loss', marks=pytest.mark.sweep), 'relative_loss'])
def test_groups_and_totals_go_by_losses(problem, dataset, tmp_path, by):
    config = dataclasses.replace(CONFIG, select_by=by)
    result = grouping.group_tasks(problem, dataset, 2, grouping.exhaustive(), config, tmp_path / by)
    assert result.select_by == by
    assert result.total_test_score == pytest.approx(sum(result.test_score.values()))
    for task in ALL:
        assert result.test_score[task] == pytest.approx(result.metrics[task][by])
        assert result.test_error[task] == pytest.approx(result.metrics[task]['error'])
    with score_table.ScoreTable(tmp_path / by / 'networks', {}) as table:
        rows = [row for row in table.rows() if 'curve' in row]
    found = score_table.candidates(rows, ALL)
    chosen = {
        task: min(row['validation'][task][by] for row in rows if task in row['validation'])
        for task in ALL
    }
    np.testing.assert_allclose(np.nanmin(found.scores, axis=0), list(chosen.values()))
    again = grouping.load(tmp_path / by, problem)
    assert again.total_test_score == pytest.approx(result.total_test_score)
    text = report.write(tmp_path / by)
    assert f'Total test {by.replace("_", " ")} ' in text
    assert (tmp_path / by / 'report.html').read_text().count(by.replace('_', ' ')) >= 2


@pytest.mark.sweep  # Its short form: groups and totals go by losses.
def test_a_comparison_and_its_brief_networks_go_by_losses(problem, dataset, tmp_path):
    config = dataclasses.replace(CONFIG, select_by='loss')
    methods = [grouping.esa(0.5), grouping.all_in_one()]
    found = comparison.compare_groupings(
        problem, dataset, methods, (2,), config, seeds=1, scores=tmp_path / 'scores'
    )
    assert found.select_by == 'loss'
    with score_table.ScoreTable(tmp_path / 'scores', {}) as table:
        (whole,) = [
            row
            for row in table.rows()
            if tuple(row['tasks']) == ALL and row['steps'] == CONFIG.steps
        ]
    one = next(one for one in found.outcomes if one.method == 'all_in_one')
    total = sum(scores['loss'] for scores in whole['test'].values())
    assert one.test_error == pytest.approx(total)
    errors = comparison.compare_groupings(
        problem, dataset, methods[1:], (2,), CONFIG, seeds=1, scores=tmp_path / 'scores'
    )
    assert errors.outcomes[0].test_error != pytest.approx(total), 'rows of another criterion'
    text = report.write_comparison(tmp_path, found, ALL, {'dataset': 'points'})
    assert 'total test loss' in text
    assert 'total test loss' in (tmp_path / 'report.html').read_text()


@pytest.mark.sweep
def test_runs_by_different_measures_are_compared_by_their_errors(problem, dataset, tmp_path):
    runs = []
    for by in ('error', 'relative_loss'):
        config = dataclasses.replace(CONFIG, select_by=by)
        method = grouping.all_in_one()
        grouping.group_tasks(problem, dataset, 1, method, config, tmp_path / by)
        runs.append(report.read(tmp_path / by))
    text = report.runs_text(runs)
    assert 'different measures: test errors are shown' in text
    for run in runs:
        assert f'{run.results["total_test_error"]:.2f}' in text
    assert f'{runs[1].results["total_test_score"]:.2f}' not in text
    assert 'test errors are shown' in report.runs_page(runs)
