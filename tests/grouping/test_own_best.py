"""What it would gain on validation to keep each task at its own best step."""

import pytest
from small import TASKS

from tag_jax import grouping
from tag_jax.report.own_best import own_best_sentence
from tag_jax.runs import workdir
from tag_jax.training import TrainingConfig

CONFIG = TrainingConfig(steps=24, batch_size=32, learning_rate=3e-2, eval_every=3, slots=1)


@pytest.mark.variants(1)
@pytest.mark.parametrize('select_by', ['error', 'loss'])
def test_own_steps_are_those_of_the_records(problem, dataset, tmp_path, select_by):
    config = TrainingConfig(**{**vars(CONFIG), 'select_by': select_by})
    records = []
    asked = problem, dataset, 1, grouping.all_in_one(), config, tmp_path
    result = grouping.group_tasks(*asked, on_record=records.append)
    kept = min(records, key=lambda one: sum(one.validation(select_by).values())).step
    for task in TASKS:
        curve = {one.step: one.validation(select_by)[task] for one in records}
        best = min(curve, key=curve.get)
        assert result.own_best[task] == {
            'step': kept,
            'validation': curve[kept],
            'own_step': best,
            'own_validation': curve[best],
        }
    assert grouping.load(tmp_path, problem).own_best == result.own_best
    assert workdir.read_results(tmp_path)['own_best'] == result.own_best


def test_in_words():
    task = lambda *values: dict(
        zip(('step', 'validation', 'own_step', 'own_validation'), values, strict=True)
    )
    found = {'a': task(10, 6.0, 10, 6.0), 'b': task(10, 4.0, 20, 3.0)}
    sentence = own_best_sentence({'own_best': found})
    assert 'which for 1 of 2 tasks is another one' in sentence
    assert '9.00 % in place of 10.00 %, 10.0 % lower' in sentence
    same = {'a': found['a']}
    assert own_best_sentence({'own_best': same}).startswith('Every task does best at the step')
    assert own_best_sentence({}) == ''
