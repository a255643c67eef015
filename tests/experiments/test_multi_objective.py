"""The launcher of weightings side by side, through its real command."""

import json

import jax
import numpy as np
import pytest
from launching import check_sentences, launch

from tag_jax.launchers import weightings

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


def test_a_class_that_only_training_rows_have(tmp_path):
    """ROC AUC is not defined on the other splits: nan, a sentence, and no part of the means."""
    rng, file = np.random.default_rng(0), tmp_path / 'points.csv'
    rows = ['x,y,part,rare,common']
    for n in range(120):
        part = ('train', 'train', 'validation', 'test')[n % 4]
        x, y = rng.normal(size=2)
        rare = 'yes' if part == 'train' and x > 0 else 'no'
        rows.append(f'{x:.3f},{y:.3f},{part},{rare},{"up" if y > 0 else "down"}')
    file.write_text('\n'.join(rows) + '\n')
    flags = (f'--table={file}', '--targets=rare,common', '--split_column=part', '--grid=0')
    folder = tmp_path / 'run'
    asked = ('--tasks=all', '--metrics=rare:roc_auc', '--methods=equal', f'--workdir={folder}')
    printed = launch('multi_objective', *SMALL, *flags, *asked).stdout
    assert 'The test split does not define the errors of rare' in ' '.join(printed.split())
    (row,) = [line.split() for line in printed.splitlines() if line.startswith('equal ')]
    assert row[1] == 'nan'

    def refuse(name):
        raise AssertionError(f'{name} is not JSON')

    read = lambda text: json.loads(text, parse_constant=refuse)
    outcomes = read((folder / 'results.json').read_text())['outcomes']
    assert outcomes[0]['test_error']
    assert all(error[0] is None for one in outcomes for error in one['test_error'])
    for line in (folder / 'metrics.jsonl').read_text().splitlines():
        assert read(line)['error']['rare'] is None


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


@pytest.mark.sweep  # Its short form: test_scalarization.py.
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


@pytest.fixture(scope='module')
def labelled_in_part(tmp_path_factory):
    """Tables whose labels are missing in part: classes, and values that no two tasks share."""
    folder, rng = tmp_path_factory.mktemp('tables'), np.random.default_rng(0)
    inputs = rng.normal(size=(120, 4)).astype(np.float32)
    classes = {f'c{n}': (inputs[:, n] > 0).astype(float) for n in range(3)}
    for labels in classes.values():
        labels[rng.random(120) < 0.2] = np.nan
    np.savez(folder / 'toxic.npz', x=inputs, **classes)
    values = {f'v{n}': np.where(np.arange(120) % 3 == n, inputs[:, n], np.nan) for n in range(3)}
    np.savez(folder / 'schools.npz', x=inputs, **values)
    return folder


# What the command of "Quality on more tables" in docs/methods.md has beside, for each table.
TABLES = {
    'toxic': ('--targets=c0,c1,c2', '--metrics=c0:roc_auc,c1:roc_auc,c2:roc_auc'),
    'schools': ('--targets=v0,v1,v2', '--batch_size=64'),
}


def judged(folder, name, methods):
    """The outcomes of the command of a table, with tiny sizes, `{name: outcome}`."""
    done = launch(
        'multi_objective',
        *(f'--table={name}.npz', '--inputs=x', '--tasks=all', '--tune_static=2', '--grid=0'),
        '--widths=4',
        *('--steps=4', '--eval_every=2', '--seeds=2', '--optimizer=adamw', '--weight_decay=0.1'),
        *(f'--methods={methods}', *TABLES[name], f'--workdir={name}_{methods}'),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((folder / f'{name}_{methods}' / 'config.json').read_text())
    assert config['table_file'] == f'{name}.npz'
    assert [f'--targets={",".join(config["table"]["targets"])}'] == [*TABLES[name][:1]]
    results = json.loads((folder / f'{name}_{methods}' / 'results.json').read_text())
    return {one['name']: one for one in results['outcomes']}


@pytest.mark.sweep
@pytest.mark.parametrize('name', ['toxic', pytest.param('schools', marks=pytest.mark.sweep)])
def test_weightings_are_judged_on_tables(name, labelled_in_part):
    found = judged(labelled_in_part, name, 'equal,imtl_g_projections')
    assert np.shape(found['imtl_g_projections']['test_error']) == (2, 3)
    if name == 'toxic':  # The error is what the area under the curve lacks of one.
        areas = [found['equal']['metrics'][task]['roc_auc'] for task in ('c0', 'c1', 'c2')]
        expected = 100 * (1 - np.transpose(areas))
        np.testing.assert_allclose(found['equal']['test_error'], expected, rtol=1e-4)


@pytest.mark.sweep  # Two of them: the test before.
@pytest.mark.parametrize('name', TABLES)
def test_all_weightings_are_judged_on_tables(name, labelled_in_part):
    found = judged(labelled_in_part, name, 'all')
    assert len(found) == 1 + 2 + len(weightings.WEIGHTINGS)
    assert all(np.isfinite(one['test_error']).all() for one in found.values())


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
