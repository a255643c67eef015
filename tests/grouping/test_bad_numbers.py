"""What a run says of numbers that are not finite; the steps themselves: tests/test_progress.py."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tag_jax import grouping
from tag_jax.training import Measurement, TrainingConfig

CONFIG = TrainingConfig(
    steps=20,
    batch_size=32,
    learning_rate=1e-2,
    eval_every=10,
    affinity=Measurement(every=5),
    if_not_finite='drop',
)


def with_metric(problem, task, **changes):
    """The problem with other metrics of a task: their names and values."""
    metric = problem.tasks[task].metric

    def finish(*arguments):
        return {**metric.finish(*arguments), **changes}

    own = problem.tasks[task]._replace(metric=metric._replace(finish=finish))
    return dataclasses.replace(problem, tasks={**problem.tasks, task: own})


def test_a_run_tells_of_them_and_its_files_hold_none(problem, dataset, tmp_path):
    def loss(output, target):
        found = problem.tasks['radius'].loss(output, target)
        return jnp.where(target > 2.9, jnp.nan, found)

    own = problem.tasks['radius']._replace(loss=loss)
    faulty = dataclasses.replace(problem, tasks={**problem.tasks, 'radius': own})
    faulty = with_metric(faulty, 'sign', odds=np.inf)
    result = grouping.group_tasks(faulty, dataset, 2, grouping.tag(), CONFIG, tmp_path / 'run')
    assert any('were not finite: radius in' in remark for remark in result.remarks)
    assert np.isfinite(result.affinity[~np.eye(3, dtype=bool)]).all()
    assert result.metrics['sign']['odds'] == np.inf

    def refuse(name):
        raise AssertionError(f'{name} is not JSON')

    for file in ('results.json', 'config.json'):
        json.loads((tmp_path / 'run' / file).read_text(), parse_constant=refuse)
    for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert grouping.load(tmp_path / 'run').metrics['sign']['odds'] is None


@pytest.mark.sweep
def test_a_test_error_that_is_not_finite_ends_the_run(problem, dataset):
    """Here from a head that no other split leads into overflow."""
    targets = {**dataset.test.targets, 'radius': dataset.test.targets['radius'] * 1e30}
    strange = dataset._replace(test=dataset.test._replace(targets=targets))
    with pytest.raises(FloatingPointError, match=r"the test error of 'radius' in .* is not finite"):
        grouping.group_tasks(problem, strange, 2, grouping.random(), CONFIG)


@pytest.mark.sweep
def test_parameters_that_are_bad_from_the_start_are_no_matter_of_the_learning_rate(
    problem, dataset
):
    def init(key):
        params, state = problem.init(key)
        return {**params, 'shared': jax.tree.map(lambda x: x * jnp.nan, params['shared'])}, state

    config = dataclasses.replace(CONFIG, if_not_finite='stop')
    with pytest.raises(FloatingPointError, match=r'at step 0: .* parameters that it begins with$'):
        grouping.group_tasks(
            dataclasses.replace(problem, init=init), dataset, 1, grouping.all_in_one(), config
        )
