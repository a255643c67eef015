"""Groups only where validation prefers them, after as many steps as they had."""

import math

import numpy as np
import pytest
from small import TASKS

from tag_jax import grouping
from tag_jax.runs import storage
from tag_jax.training import TrainingConfig

NAMES = tuple(TASKS)
GROUPS = (NAMES[:2], NAMES[2:])
# So few steps that every network is still far better after twice as many.
CONFIG = TrainingConfig(
    steps=16, batch_size=32, learning_rate=1e-2, eval_every=4, patience=0, slots=1
)


@pytest.fixture(scope='module')
def found(problem, dataset, tmp_path_factory):
    """(`Result`, `{tasks: curve of validation errors}`) of a search in few steps."""
    folder = tmp_path_factory.mktemp('recommended')
    method = grouping.recommended(grouping.given(GROUPS))
    result = grouping.group_tasks(problem, dataset, 2, method, CONFIG, scores=folder)
    rows = storage.read_records(folder / 'networks.jsonl')
    return result, {tuple(row['tasks']): row['curve'] for row in rows if 'curve' in row}


def best_by(curve, steps):
    """`{task: validation error}` of the best evaluation up to some steps."""
    seen = [n for n, step in enumerate(curve['step']) if step <= steps]
    by = curve['validation_error']
    best = min(seen, key=lambda n: math.fsum(values[n] for values in by.values()))
    return {task: values[best] for task, values in by.items()}


def test_networks_are_compared_after_as_many_steps(found):
    result, curves = found
    tried = {task: error for group in GROUPS for task, error in best_by(curves[group], 8).items()}
    together = best_by(curves[NAMES], 8)
    gains = np.array([1 - tried[task] / together[task] for task in NAMES])
    (remark,) = (one for one in result.remarks if 'by validation' in one or 'Do not group' in one)
    error = 100 * gains.std(ddof=1) / math.sqrt(3)
    assert f'{100 * abs(gains.mean()):.1f} ± {error:.1f} %' in remark
    assert remark.endswith('after 8 steps.')
    whole = best_by(curves[NAMES], 16)
    assert sum(whole.values()) < 0.95 * sum(together.values())


def test_a_refusal_names_the_groups(found, problem, dataset):
    method = grouping.recommended(grouping.given(GROUPS), errors=1e9)
    result = grouping.group_tasks(problem, dataset, 2, method, CONFIG)
    assert [group.tasks for group in result.groups] == [NAMES]
    assert '{sign, octant} and {radius}' in result.remarks[0]


def test_the_beginning_of_a_network_costs_nothing_more(found):
    """One network for all tasks for all steps, and two groups for half of them."""
    result, _ = found
    assert result.cost['search_steps'] == 16 + 2 * 8
