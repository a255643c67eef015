"""Metrics of a network that two processes train together, against scikit-learn."""

import dataclasses
import pickle

import measuring_processes
import numpy as np
import pytest
from launching import run_two_processes
from sklearn import metrics as sk


def expected(split, task, outputs):
    """By scikit-learn, over the examples with a label."""
    known = split.mask.get(task, np.ones(len(split.inputs), bool))
    label, output = split.targets[task][known], outputs[task][known].astype(np.float64)
    if task == 'radius':
        return {'mse': sk.mean_squared_error(label, output), 'r2': sk.r2_score(label, output)}
    answer = output.argmax(-1)
    found = {
        'accuracy': sk.accuracy_score(label, answer),
        'balanced_accuracy': sk.balanced_accuracy_score(label, answer),
        'f1': sk.f1_score(label, answer, average='macro'),
    }
    if task == 'sign':
        score = output[:, 1] - output[:, 0]
        found['roc_auc'] = sk.roc_auc_score(label, score)
        found['average_precision'] = sk.average_precision_score(label, score)
    return found


def check(found):
    metrics, outputs = found
    split = measuring_processes.splits()[2]
    for task in measuring_processes.TASKS:
        exact = expected(split, task, outputs)
        mine = {measure: metrics[task][measure] for measure in exact}
        assert mine == pytest.approx(exact, rel=1e-6, abs=1e-6), task
    # (The error that is judged by while training counts scores in bins.)
    area = expected(split, 'sign', outputs)['roc_auc']
    assert metrics['sign']['error'] == pytest.approx(100 * (1 - area), abs=0.1)


@pytest.mark.sweep
def test_in_one_process():
    check(
        measuring_processes.measured(dataclasses.replace(measuring_processes.CONFIG, mesh=(1, 1)))
    )


@pytest.mark.sweep  # Its short form: test_in_one_process.
def test_in_two_processes(tmp_path):
    processes, said = run_two_processes(measuring_processes.__file__, tmp_path)
    assert [process.returncode for process in processes] == [0, 0], said
    for n in range(2):
        check(pickle.loads((tmp_path / str(n)).read_bytes()))
