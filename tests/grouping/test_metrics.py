"""Metrics against scikit-learn, by its own functions on the labels that there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as sk
from small import TASKS, make_problem, make_split

from tag_jax import data, grouping, objectives
from tag_jax.data import Dataset
from tag_jax.data.encoding import Target
from tag_jax.grouping.metrics import metrics
from tag_jax.training import TrainingConfig


def drawn(seed, size, width):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(size, width)), rng.random(size) < 0.7


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_classes(seed, count):
    rng, output, mask = drawn(seed, 60, count)
    labels = rng.integers(count, size=60)
    mask[:count], labels[:count] = True, np.arange(count)
    found = metrics(objectives.classification(count), output, labels, mask)
    own, chances = labels[mask], special.softmax(output[mask], axis=1)
    chosen = chances.argmax(axis=1)
    expected = {
        'accuracy': sk.accuracy_score(own, chosen),
        'balanced_accuracy': sk.balanced_accuracy_score(own, chosen),
        'f1': sk.f1_score(own, chosen, average='macro', zero_division=0),
        'log_loss': sk.log_loss(own, chances, labels=np.arange(count)),
    }
    one_hot = np.eye(count)[own]
    if count == 2:
        expected['roc_auc'] = sk.roc_auc_score(own, chances[:, 1])
        expected['average_precision'] = sk.average_precision_score(own, chances[:, 1])
    else:
        expected['roc_auc'] = sk.roc_auc_score(own, chances, multi_class='ovr')
        expected['average_precision'] = sk.average_precision_score(one_hot, chances)
    assert found == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 10**6))
def test_one_logit(seed):
    rng, output, mask = drawn(seed, 60, 1)
    labels = rng.integers(2, size=60)
    mask[:2], labels[:2] = True, (0, 1)
    found = metrics(objectives.binary(), output, labels, mask)
    own, chances = labels[mask], special.expit(output[mask, 0])
    assert found['roc_auc'] == pytest.approx(sk.roc_auc_score(own, chances), abs=1e-6)
    assert found['log_loss'] == pytest.approx(sk.log_loss(own, chances), abs=1e-6)
    assert found['accuracy'] == pytest.approx(sk.accuracy_score(own, chances > 0.5))


@given(st.integers(0, 10**6))
def test_several_labels(seed):
    rng, output, _ = drawn(seed, 60, 3)
    labels, mask = rng.integers(2, size=(60, 3)), rng.random((60, 3)) < 0.7
    mask[:2], labels[:2] = True, [[0] * 3, [1] * 3]
    found = metrics(objectives.multilabel(3), output, labels, mask)
    columns = [(labels[mask[:, n], n], special.expit(output[mask[:, n], n])) for n in range(3)]
    mean = lambda function: np.mean([function(*one) for one in columns])
    assert found['roc_auc'] == pytest.approx(mean(sk.roc_auc_score), abs=1e-6)
    assert found['average_precision'] == pytest.approx(mean(sk.average_precision_score), abs=1e-6)
    assert found['log_loss'] == pytest.approx(mean(sk.log_loss), abs=1e-6)
    whole = metrics(objectives.multilabel(3), output, labels, None)
    every = metrics(objectives.multilabel(3), output, labels, np.ones(60, bool))
    assert whole == every


@given(st.integers(0, 10**6), st.sampled_from([1, 3]))
def test_values_in_natural_units(seed, size):
    rng, output, mask = drawn(seed, 40, size)
    mask[:3] = True
    target = rng.normal(size=(40, size))
    scales = tuple(rng.uniform(0.1, 50, size).tolist())
    means = tuple(rng.normal(size=size).tolist())
    encoded = Target('regression', (), means, scales)
    shaped = target[:, 0] if size == 1 else target
    found = metrics(objectives.regression(size), output, shaped, mask, encoded)
    natural = lambda x: (x * scales + means)[mask]
    expected = {
        'r2': sk.r2_score(natural(target), natural(output)),
        'mse': sk.mean_squared_error(natural(target), natural(output)),
        'mae': sk.mean_absolute_error(natural(target), natural(output)),
    }
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_what_the_labels_do_not_determine_is_no_number():
    found = metrics(objectives.binary(), np.ones((4, 1)), np.ones(4), None)
    assert np.isnan([found['roc_auc'], found['average_precision']]).all()
    assert found['accuracy'] == 1
    constant = metrics(objectives.regression(), np.ones((4, 1)), np.ones(4), None)
    assert np.isnan(constant['r2'])
    assert constant['mae'] == 0
    assert metrics(objectives.tokens(3), np.ones((4, 2, 3)), np.ones((4, 2)), None) == {}


def as_source(split):
    def take(row):
        targets = {task: target[row] for task, target in split.targets.items()}
        mask = {task: known[row] for task, known in split.mask.items()}
        return data.Split(split.inputs[row], targets, mask)

    return data.Source(take, len(split.inputs))


@pytest.mark.sweep
def test_a_result_has_all_metrics_of_the_test_split():
    """In memory and read in batches, with missing labels."""
    splits = [make_split(size, seed, labelled=0.8) for seed, size in enumerate((256, 100, 90))]
    dataset = Dataset('points', TASKS, *splits)
    config = TrainingConfig(steps=20, batch_size=32, eval_every=10)
    result = grouping.group_tasks(make_problem(), dataset, 2, grouping.random_even(), config)
    test = splits[2]
    outputs = result.outputs(test.inputs)
    for task, objective in TASKS.items():
        expected = metrics(objective, outputs[task], test.targets[task], test.mask[task])
        found = {name: result.metrics[task][name] for name in expected}
        assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)
        assert 'error' in result.metrics[task]
    read = dataset._replace(test=as_source(test))
    again = grouping.group_tasks(make_problem(), read, 2, grouping.random_even(), config)
    for task in TASKS:
        assert again.metrics[task] == pytest.approx(result.metrics[task], rel=1e-4, nan_ok=True)
