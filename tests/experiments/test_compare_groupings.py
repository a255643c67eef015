"""The launcher through its real command, on a table that it has never seen."""

import numpy as np
import pytest
from launching import check_sentences, launch

from tag_jax.runs import storage

QUICK = ('--steps=100', '--eval_every=10', '--batch_size=64', '--budgets=2', '--seeds=2')

STRANGER = ('--dataset=table', '--table=patients.csv', '--targets=Blood pressure,Outcome')
WEIGHTS = ('--weights=Patient ID', '--class_weights=Outcome:ill:2')


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    """A stranger's CSV file: mixed kinds of targets, a fifth of the labels missing, text."""
    folder = tmp_path_factory.mktemp('tables')
    rng = np.random.default_rng(0)
    lines = ['Patient ID,Age (years),Ward,Blood pressure,Outcome']
    for n in range(300):
        age, ward = rng.normal(50, 10), rng.choice(['north', 'south', 'east'])
        cells = [f'{age:.1f}', ward, f'{age + rng.normal():.2f}', 'well' if age > 50 else 'ill']
        cells = [
            '' if column in (0, 2, 3) and rng.random() < 0.2 else cell
            for column, cell in enumerate(cells)
        ]
        lines.append(','.join([str(n), *cells]))
    (folder / 'patients.csv').write_text('\n'.join(lines) + '\n')
    return folder


def test_a_table_goes_through_the_whole_comparison(table):
    done = launch(
        'compare_groupings',
        '--dataset=table',
        '--table=patients.csv',
        '--targets=Age (years),Blood pressure,Outcome',
        '--inputs=Ward,Patient ID',
        '--stratify=Outcome',
        '--groups=Patient ID',
        *WEIGHTS,
        *QUICK,
        cwd=table,
    )
    assert done.returncode == 0, done.stderr
    run = table / 'runs' / 'compare_groupings_patients_001'
    assert done.stdout.splitlines()[-1] == f'report: {run.relative_to(table)}/report.html'
    assert 'The optimum' in done.stdout
    results = storage.read_json(run / 'results.json')
    assert {one['method'] for one in results['outcomes']} == {
        'all_in_one', 'tag', 'cosine_similarity', 'hoa', 'esa', 'subsets', 'exhaustive',
        'random',
    }  # fmt: skip
    assert results['task_names'] == ['Age (years)', 'Blood pressure', 'Outcome']
    again = launch(
        'compare_groupings',
        *('--dataset=table', '--table=patients.csv', '--inputs=Ward,Patient ID', *QUICK),
        *('--targets=Age (years),Blood pressure,Outcome', f'--scores={run}/networks'),
        *('--stratify=Outcome', '--groups=Patient ID', '--methods=exhaustive', '--workdir=again'),
        *WEIGHTS,
        cwd=table,
    )
    assert again.returncode == 0, again.stderr
    same = lambda found: [one for one in found['outcomes'] if one['method'] == 'exhaustive']
    strip = lambda outcome: {name: outcome[name] for name in ('groups', 'test_error', 'seed')}
    assert list(map(strip, same(storage.read_json(table / 'again' / 'results.json')))) == list(
        map(strip, same(results))
    )
    # Of two seeds all sets, and once more for esa, whose 5 steps lie between evaluations.
    assert (run / 'networks' / 'networks.jsonl').read_text().count('\n') == 2 * (7 + 7)


@pytest.mark.sweep  # Its short form: test_splits.py.
def test_folds_of_a_table(table):
    """Each has networks and a score table of its own; the report says what its errors cover."""
    asked = (
        'compare_groupings',
        *('--table=patients.csv', '--targets=Blood pressure,Outcome', '--inputs=Ward,Age (years)'),
        *('--groups=Patient ID', '--folds=3', '--methods=all_in_one,single_task', '--widths=4'),
        *('--steps=8', '--eval_every=4', '--batch_size=16', '--budgets=2', '--seeds=1'),
        '--workdir=folds',
    )
    done = launch(*asked, cwd=table)
    assert done.returncode == 0, done.stderr
    assert 'over 3 splits, with 1 seed of its own each' in ' '.join(done.stdout.split())
    results = storage.read_json(table / 'folds' / 'results.json')
    assert results['covers'] == ['splits', 'seeds', 'test examples']
    assert {one['split'] for one in results['outcomes']} == {0, 1, 2}
    assert len(results['differences']) == 3
    assert (table / 'folds' / 'networks' / 'split_2' / 'networks.jsonl').exists()
    assert 'split 2' in (table / 'folds' / 'report.html').read_text()
    again = launch(*asked, '--resume', cwd=table)
    assert storage.read_json(table / 'folds' / 'results.json') == results
    assert again.stdout == done.stdout
    other = launch(*asked, '--resume', '--seeds=2', cwd=table)
    assert other.returncode == 2
    config = storage.read_json(table / 'folds' / 'config.json')
    assert (config['table_file'], config['table']['groups']) == ('patients.csv', 'Patient ID')
    other = launch(*asked, '--resume', '--stratify=Outcome', cwd=table)
    assert 'settings (table.stratify was None and is Outcome)' in other.stderr


@pytest.mark.sweep  # Its short form: bad input of all methods, which comes as far as their sizes.
def test_all_methods_and_others_beside_them(table):
    """What the command would train: `all` has what tries wider and smaller networks."""
    done = launch(
        'compare_groupings',
        *('--dataset=table', '--table=patients.csv', '--inputs=Ward,Patient ID', *QUICK),
        *('--targets=Age (years),Blood pressure,Outcome', '--dry_run'),
        *('--methods=all,subsets:count=3:fraction=0.2', '--smaller=0.5', '--wider=cost'),
        *('--weightings=equal,mgda_ub',),
        cwd=table,
    )
    assert done.returncode == 0, done.stderr
    for what in (
        'all tasks on a wider encoder',
        'all tasks, measuring',
        'every set of tasks',
        'all tasks, weighed',
    ):
        assert what in done.stdout


def test_bad_input_ends_with_a_sentence(table):
    check_sentences(
        'compare_groupings',
        [
            (['--methods=best'], "there is no method called 'best'"),
            (['--budgets=2.5'], 'the number of tasks, 8, not 2.5'),
            (['--budgets=9'], 'budget must be an integer between 1 and the number of tasks, 8'),
            (['--budgets=inf'], '--budgets must be finite, not inf'),
            (
                ['--dataset=multi_digits', '--table=patients.csv'],
                '--table is of no use to --dataset=multi_digits',
            ),
            (['--budget=2'], '--budget is of no use to this command'),
            (['--smaller=2'], '--smaller must be above 0 and below 1, not 2'),
            (['--width=2', '--size=2'], '--size sets the width: leave --width out'),
            (['--size=inf'], 'the size must be positive and finite, not inf'),
            (['--seeds=0'], 'needs at least one method, one budget and one seed'),
            (
                [
                    *('--methods=all,subsets:count=3', '--smaller=0.5', '--wider=cost'),
                    *('--weightings=mgda_ub', '--budgets=2', '--seeds=0'),
                ],
                'needs at least one method, one budget and one seed',
            ),
            (
                ['--methods=exhaustive', '--smaller=0.5', '--budgets=9'],
                'budget must be between 1, what the cheapest networks for all tasks cost, and 8, ',
            ),
            (['--methods=small_single_task'], 'small_single_task needs a smaller encoder: give -'),
            (['--dataset=table'], '--dataset=table needs --table, a file, and --targets'),
            (
                ['--dataset=table', '--table=patients.csv', '--targets=Outcome'],
                "--targets names one column only, 'Outcome': name two or more, one a task",
            ),
            (
                ['--dataset=table', '--table=patients.csv', '--targets=Weight'],
                "has no column 'Weight': it has Patient ID",
            ),
            (
                [
                    '--dataset=table',
                    '--table=patients.csv',
                    '--targets=Blood pressure,Outcome',
                    '--kinds=Outcome:x',
                ],
                "the kind of the target 'Outcome' is classification or regression or text, not 'x'",
            ),
            ([*STRANGER, '--class_weights=Outcome:ill'], 'needs parts such as ill:yes:5 or ill:ba'),
            ([*STRANGER, '--class_weights=Outcome:ill:x'], "not 'Outcome:ill:x'"),
            ([*STRANGER, '--class_weights=Outcome:dead:2'], "'dead', which is none of its classes"),
            ([*STRANGER, '--weights=Ward'], 'weights must be numbers [N], and are text'),
            ([*STRANGER, '--weights=Age (years)'], 'is missing: give a number of at least 0'),
            (['--weights=Ward'], '--weights is of no use to --dataset=multi_digits'),
            (['--splits=0'], '--splits must be from 1 to 100, not 0'),
            (['--folds=1'], '--folds must be from 2 to 100, or 0 for none, not 1'),
            (['--splits=2', '--folds=3'], '--folds takes the place of --splits'),
            (['--folds=3'], '--folds is for tables: multi_digits is split anew with --splits'),
            ([*STRANGER, '--order=Patient ID', '--splits=2'], '--order gives one split: leave it'),
        ],
        table,
    )


@pytest.mark.sweep  # Its short form is that of test_comparison.py.
def test_encoders_of_other_sizes(table):
    """Budgets in standard networks; two seeds and a budget at which there is nothing to choose."""
    done = launch(
        *(
            'compare_groupings',
            '--dataset=table',
            '--table=patients.csv',
            '--inputs=Ward,Patient ID',
        ),
        *('--targets=Age (years),Blood pressure,Outcome', '--steps=20', '--eval_every=10'),
        *('--budgets=1,1.5', '--seeds=2', '--smaller=0.5', '--wider=cost', '--workdir=sizes'),
        '--methods=wide_all_in_one,small_single_task,equal_single_task,tag,exhaustive',
        cwd=table,
    )
    assert done.returncode == 0, done.stderr
    results = storage.read_json(table / 'sizes' / 'results.json')
    costs = {(one['method'], one['budget']): one['cost'] for one in results['outcomes']}
    assert costs['wide_all_in_one', 1.5] == pytest.approx(1.5, abs=0.03)
    assert costs['small_single_task', 1.5] == pytest.approx(1.5, abs=0.03)
    for budget in (1, 1.5):
        assert costs['equal_single_task', budget] == pytest.approx(budget, abs=0.05)
    assert costs['tag', 1.5] == 1
    assert costs['exhaustive', 1.5] <= 1.5
