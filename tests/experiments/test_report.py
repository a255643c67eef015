"""The launcher that writes reports again, through its real command."""

import shutil

import numpy as np
import pytest
from finished_runs import NAMES, RESULTS, make_run, results_of
from launching import answers, check_sentences

from tag_jax import report
from tag_jax.runs import storage, workdir


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Runs of two seeds, one with other groups, one that is not finished, and what is no run."""
    here = tmp_path_factory.mktemp('here')
    for seed in (0, 1):
        results = results_of(NAMES, [('a', 'b'), ('c',)], seed=seed)
        results['total_test_error'] += seed
        make_run(here / f'seed_{seed}', results, seed=seed)
    other = results_of(NAMES, [('a',), ('b', 'c')], method='random', total_test_error=9.0)
    make_run(here / 'random', other, seed=0, method='random')
    (make_run(here / 'unfinished') / 'results.json').unlink()
    (make_run(here / 'damaged') / 'results.json').write_text('{"gro')
    storage.write_records(make_run(here / 'cut') / 'metrics.jsonl', [])
    workdir.open_run(here / 'comparison', {})
    storage.write_json(here / 'comparison' / 'results.json', {'outcomes': []})
    of_others = {'compared': {'budgets': [2], 'command': 'c'}, 'weighed': {'command': 'w --a=1'}}
    for name, config in of_others.items():
        workdir.open_run(here / name, config)
        storage.write_json(here / name / 'results.json', {'outcomes': []})
    (here / 'empty').mkdir()
    (here / 'notes.txt').write_text('precious')
    return here


@pytest.mark.sweep
def test_reports_are_written_again(folder, tmp_path):
    for name in ('seed_0', 'seed_1'):
        shutil.copytree(folder / name, tmp_path / name)
    before = report.runs_page([report.read(folder / name) for name in ('seed_0', 'random')])
    (tmp_path / 'comparison.html').write_text(before)
    one, several = answers('report', [['seed_1'], ['seed_0', 'seed_1/']], tmp_path)
    assert one.returncode == several.returncode == 0, (one, several)
    assert one.stdout.endswith('report: seed_1/report.html\n')
    assert several.stdout.endswith('comparison: comparison.html\n')
    for name in ('seed_0', 'seed_1'):
        assert (tmp_path / name / 'report.html').exists()
        assert (tmp_path / name / 'affinity.png').exists()
    page = (tmp_path / 'comparison.html').read_text()
    assert page != before, 'such a page is replaced'
    assert 'Lowest total test error: 3.88' in page


def test_bad_input_ends_with_a_sentence(folder):
    both = ('seed_0', 'seed_1')
    check_sentences(
        'report',
        [
            ((), 'name the folder of a run: python experiments.report RUN [RUN ...]'),
            (('nowhere',), 'there is no folder nowhere'),
            (('notes.txt',), 'there is no folder notes.txt'),
            (('empty',), 'empty holds no finished run: it has no results.json'),
            (('seed_0', 'unfinished'), 'goes on with --workdir=unfinished --resume'),
            (('damaged',), 'the run in damaged is damaged'),
            (('cut',), 'metrics.jsonl has no record of network_0'),
            (
                ('comparison',),
                'comparison holds no grouping of tasks, but a run of another',
            ),
            (('compared',), 'this draws its report again: c --workdir=compared --resume'),
            (('weighed',), 'trains again, in a new folder, and draws its report: w --a=1'),
            (('seed_0', './seed_0/'), 'the run ./seed_0/ is named twice'),
            (('seed_0', '--out=x.html'), '--out is the page that compares several runs'),
            ((*both, '--out=notes.txt'), 'notes.txt is there and is no comparison of runs'),
            ((*both, '--out=empty'), 'empty is a folder'),
            ((*both, '--out=no/x.html'), 'there is no folder no for the comparison'),
            (('--workdir=seed_0',), '--workdir is of no use to this command'),
        ],
        folder,
    )


def test_runs_of_the_same_settings_get_errors_over_seeds(folder):
    runs = [report.read(folder / name) for name in ('seed_0', 'random', 'seed_1')]
    assert [one.numbers for one in report.by_settings(runs)] == [(1, 3), (2,)]
    lines = report.runs_text(runs).splitlines()
    (means,) = (line.split() for line in lines if line.startswith('1, 3'))
    # Totals 3.375 and 4.375 after 5.0625 and 5.0625: means, and half the differences.
    assert ' '.join(means) == ('1, 3 tag 2 2 3.88 ± 0.50 5.06 ± 0.00 23.5 ± 9.9 % 20 2 of 2')
    page = report.runs_page(runs)
    assert 'Lowest total test error: 3.88 ± 0.50 % (mean of runs 1, 3)' in page
    assert 'another may turn the order around' in page


def test_predictions_of_runs_stand_side_by_side(folder, tmp_path):
    """A picture for each example, where all runs have pictures of the same labels."""
    labels = {
        'targets/a': np.arange(32).reshape(2, 4, 4) % 3,
        'known/a': np.ones((2, 4, 4), bool),
    }
    runs = []
    for seed in (0, 1):
        shutil.copytree(folder / f'seed_{seed}', tmp_path / str(seed))
        arrays = {**labels, 'predictions/a': np.roll(labels['targets/a'], seed, axis=1)}
        storage.write_arrays(tmp_path / str(seed) / workdir.PICTURES, arrays)
        runs.append(report.read(tmp_path / str(seed)))
    page = report.runs_page(runs)
    assert [f'alt="Predictions of example {n}"' in page for n in (1, 2, 3)] == [True, True, False]
    without = report.read(folder / 'random')
    assert 'alt="Predictions' not in report.runs_page([*runs, without])
    other = runs[1]._replace(pictures={**runs[1].pictures, 'targets/a': np.zeros((2, 4, 4), int)})
    assert 'alt="Predictions' not in report.runs_page([runs[0], other])


def test_what_cannot_be_compared_is_not(folder, tmp_path):
    one = report.read(folder / 'seed_0')
    other = report.read(make_run(tmp_path / 'data', {**RESULTS, 'seed': 1}, test_data='1a'))
    tasks = report.read(make_run(tmp_path / 'tasks', results_of(['x', 'y'], [('x', 'y')])))
    for second, sentence in ((other, 'tested on different data'), (tasks, 'different tasks')):
        for found in (report.runs_text([one, second]), report.runs_page([one, second])):
            assert sentence in found
        assert 'Lowest total test error' not in report.runs_page([one, second])
