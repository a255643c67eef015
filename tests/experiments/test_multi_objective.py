"""The launcher of weightings side by side, through its real command."""

import json

import jax
import pytest
from launching import check_sentences, launch

SMALL = ('--steps=20', '--eval_every=10', '--seeds=2')


def test_two_digits(tmp_path):
    folder = tmp_path / 'run'
    flags = ('--methods=equal,gradnorm:0.5', '--grid=1', '--retrain', f'--workdir={folder}')
    printed = launch('multi_objective', *SMALL, *flags).stdout
    assert printed.endswith(f'report: {folder}/report.html\n')
    command = 'python -m experiments.multi_objective --steps=20 --eval_every=10 --seeds=2'
    assert command in (folder / 'report.html').read_text()
    for name in ('single task', 'static weight 0.50', 'equal', 'gradnorm:0.5'):
        assert name in printed
    results = json.loads((folder / 'results.json').read_text())
    assert results['task_names'] == ['left_digit', 'right_digit']
    errors = {o['name']: o['test_error'] for o in results['outcomes']}
    assert errors['equal'] == errors['static weight 0.50']
    settings = results['settings']
    assert settings['retrain']
    assert (settings['loss_reduction'], settings['optimizer']) == ('sum', 'adam')
    assert settings['versions']['jax'] == jax.__version__
    assert json.loads((folder / 'config.json').read_text())['versions'] == settings['versions']
    assert 'Lowest mean validation error: ' in printed
    assert (folder / 'accuracies.png').exists()


@pytest.mark.sweep  # Two of them: test_two_digits.
def test_all_tasks_in_a_radar(tmp_path):
    folder = tmp_path / 'run'
    launch(
        'multi_objective',
        *SMALL,
        '--tasks=all',
        '--methods=equal',
        '--seeds=1',
        f'--workdir={folder}',
    )
    assert (folder / 'errors.png').exists()


def test_static_weights_are_tuned_on_validation(tmp_path):
    folder = tmp_path / 'run'
    printed = launch(
        'multi_objective',
        *SMALL,
        *('--tasks=left_digit,left_even,right_even', '--methods=equal', '--grid=0'),
        '--tune_static=5',
        f'--workdir={folder}',
    ).stdout
    results = json.loads((folder / 'results.json').read_text())
    _, *tried, equal = results['outcomes']
    weights = results['settings']['static_weights']
    assert [one['name'] for one in tried] == list(weights)
    assert len(tried) == 5
    # Equal weights are the sum of the losses.
    assert tried[0]['test_error'] == equal['test_error']
    best = min(tried, key=lambda one: sum(map(sum, one['validation_error'])))
    assert f'static weight: 5 were tried, and {best["name"]} has the lowest' in printed
    networks = 5 * results['settings']['seeds']
    assert f'The 5 static weights that were proposed took {networks} networks.' in printed


def test_bad_flags_end_with_one_sentence(tmp_path):
    check_sentences(
        'multi_objective',
        [
            (['--methods=magic'], "there is no weighting called 'magic': choose equal or mgda_ub"),
            (['--tasks=nothing'], "multi_digits has no task 'nothing': choose from left_digit"),
            (['--learning_rates=fast'], "--learning_rates needs numbers, not 'fast'"),
            (['--learning_rates=-1'], 'learning_rate must be positive and finite, not -1'),
            (['--widths=8,x'], "--widths needs positive integers, not '8,x'"),
            (['--tune_static=-1'], 'count must be at least 1, not -1'),
            (['--seeds=0'], 'seeds must be at least 1, not 0'),
            (['--tasks=all', '--grid=20'], '8 tasks and 20 points are not that'),
        ],
        tmp_path,
    )
