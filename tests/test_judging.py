"""Objectives judged by another measure, against scikit-learn."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk
from small import make_problem, make_split

from tag_jax import grouping, objectives, report, training
from tag_jax.data import Dataset
from tag_jax.grouping import result as results_of
from tag_jax.grouping.metrics import metrics
from tag_jax.objectives.judging import BINS

MADE = {
    'binary': objectives.binary(pos_weight=2.0),
    'multilabel': objectives.multilabel(3),
    'two classes': objectives.classification(2),
    'four classes': objectives.classification(4, [1, 2, 1, 1]),
}
MEASURES = ('roc_auc', 'average_precision', 'balanced_accuracy', 'f1')


def examples(name, size=300, seed=0):
    """Outputs that know something of the labels, and a mask."""
    rng = np.random.default_rng(seed)
    width = MADE[name].width
    if name in ('binary', 'multilabel'):
        target = (rng.random((size, width)) < 0.3).astype(np.int32)
        output = rng.normal(size=(size, width)) + 1.2 * target
        target = target[:, 0] if name == 'binary' else target
    else:
        target = rng.integers(0, width, size).astype(np.int32)
        output = rng.normal(size=(size, width)) + 1.5 * np.eye(width)[target]
    mask = rng.random(target.shape if name == 'multilabel' else size) < 0.8
    return output.astype(np.float32), target, mask


def judged(objective, output, target, mask):
    """Its metrics, of sums over two batches, in a compiled program."""
    objective.metric.reference(target, mask)
    parts = [slice(0, 100), slice(100, None)]
    sums = [jax.jit(objective.metric.sums)(output[p], target[p], mask[p]) for p in parts]
    totals = jax.tree.map(lambda *x: sum(np.asarray(one, np.float64) for one in x), *sums)
    return objective.metric.finish(totals)


@pytest.mark.variants(7)
@pytest.mark.parametrize('measure', MEASURES)
@pytest.mark.parametrize('name', MADE)
def test_measures_are_those_of_scikit_learn(name, measure):
    """The exact value; scores in one bin are ties, which few of these are."""
    output, target, mask = examples(name)
    objective = objectives.judged_by(MADE[name], measure)
    found = judged(objective, output, target, mask)
    exact = metrics(objective, output, target, mask)[measure]
    tolerance = 2e-4 if measure in ('roc_auc', 'average_precision') else 1e-9
    assert found[measure] == pytest.approx(exact, abs=tolerance)
    assert found['error'] == pytest.approx(100 * (1 - found[measure]))
    usual = judged(MADE[name], output, target, mask)
    assert found['accuracy'] == usual['accuracy'] != found[measure]
    np.testing.assert_array_equal(
        objective.loss(output, jnp.asarray(target)), MADE[name].loss(output, jnp.asarray(target))
    )


@pytest.mark.parametrize('scale', [1e-3, 1.0, 30.0, 1e4])
def test_areas_are_exact_but_for_ties_in_a_bin(scale):
    """scikit-learn on the numbers of the bins, and the bound that the docstring states."""
    rng = np.random.default_rng(1)
    target = (rng.random(2000) < 0.2).astype(np.int32)
    output = (scale * (rng.normal(size=(2000, 1)) + target[:, None])).astype(np.float32)
    scores = output[:, 0].astype(np.float64)
    bins = np.clip(np.floor((1 + scores / (1 + np.abs(scores))) / 2 * BINS), 0, BINS - 1)
    mask = np.ones(2000, bool)
    for measure, of_scores in (
        ('roc_auc', sk.roc_auc_score),
        ('average_precision', sk.average_precision_score),
    ):
        found = judged(objectives.judged_by(objectives.binary(), measure), output, target, mask)
        assert found[measure] == pytest.approx(of_scores(target, bins), abs=2e-3)
        if measure == 'roc_auc':
            pairs = [np.bincount(bins[target == t].astype(int), minlength=BINS) for t in (0, 1)]
            bound = (pairs[0] * pairs[1]).sum() / 2 / pairs[0].sum() / pairs[1].sum()
            assert abs(found[measure] - sk.roc_auc_score(target, scores)) <= bound + 2e-3


def test_numbers_are_judged_in_other_units():
    rng = np.random.default_rng(0)
    target = rng.normal(size=200).astype(np.float32)
    output, mask = (
        (target + rng.normal(size=200))[:, None].astype(np.float32),
        rng.random(200) < 0.7,
    )
    objective = objectives.judged_by(objectives.regression(), 'mae')
    totals = jax.tree.map(np.asarray, objective.metric.sums(output, target, mask))
    found = objective.metric.finish(totals, objective.metric.reference(target, mask))
    mae = sk.mean_absolute_error(target[mask], output[mask])
    assert found['mae'] == pytest.approx(mae, rel=1e-5)
    assert found['error'] == pytest.approx(100 * mae / target[mask].std(), rel=1e-4)
    np.testing.assert_allclose(objective.loss(output, target), np.square(output[:, 0] - target))


def test_other_measures_are_refused():
    with pytest.raises(ValueError, match="kind 'regression' cannot be judged by 'f1': choose mse"):
        objectives.judged_by(objectives.regression(), 'f1')
    with pytest.raises(ValueError, match="cannot be judged by 'recall': choose balanced_accuracy"):
        objectives.judged_by(objectives.binary(), 'recall')
    with pytest.raises(ValueError, match='roc_auc needs examples of every class'):
        objectives.judged_by(objectives.binary(), 'roc_auc').metric.reference(
            np.ones(5, int), np.ones(5, bool)
        )


@pytest.mark.sweep
def test_networks_are_kept_and_chosen_by_it(problem, dataset):
    """In training, in results, and in the words of a run."""
    tasks = {**problem.tasks, 'sign': objectives.judged_by(problem.tasks['sign'], 'roc_auc')}
    own = make_problem(tasks)
    config = training.TrainingConfig(steps=40, batch_size=64, eval_every=10)
    data = Dataset('points', tasks, make_split(256), make_split(100, 1), make_split(100, 2))
    result = grouping.group_tasks(own, data, 2, grouping.tag(), config)
    area = result.metrics['sign']['roc_auc']
    assert result.test_error['sign'] == pytest.approx(100 * (1 - area), abs=0.05)
    assert any('the error of sign is 100 x (1 - roc_auc)' in one.lower() for one in result.remarks)
    results = results_of.to_json(result)
    assert results['judged_by'] == {'sign': 'roc_auc'}
    assert [f'{area:.4g}'] == re.findall(r'roc_auc +(\S+)\n', report.result_text(results))
    by_loss = dataclasses.replace(config, select_by='relative_loss')
    other = grouping.group_tasks(own, data, 2, grouping.tag(), by_loss)
    text = report.result_text(results_of.to_json(other))
    assert max(map(len, text.splitlines())) <= 100
    (row,) = [line.split() for line in text.splitlines() if line.startswith('sign  ')]
    assert row[-2:] == ['roc_auc', f'{other.metrics["sign"]["roc_auc"]:.4g}']
    assert row[2] == f'{other.test_score["sign"]:.2f}', 'the loss stands beside it'
    (told,) = [one for one in other.remarks if 'roc_auc' in one]
    assert told.startswith('Networks were selected by their relative loss, so reports show that.')
    assert told.endswith('`test_error` has them as errors (sign: 100 x (1 - roc_auc)).')
    one_class = make_split(256)
    one_class.targets['sign'][:] = 0
    with pytest.raises(ValueError, match="train split .*'sign'.*roc_auc needs examples of every"):
        grouping.group_tasks(own, data._replace(train=one_class), 2, grouping.tag(), config)
