"""The launcher of studies through its real command."""

import pytest
from launching import check_sentences, launch

from tag_jax.runs import storage

QUICK = ('--dataset=digit_attributes', '--steps=20', '--eval_every=10', '--seeds=1')


@pytest.mark.sweep  # Its short form: named sets of tasks.
def test_a_study_and_its_report(tmp_path):
    done = launch('ablations', *QUICK, '--study=relations', '--smaller=0.5', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / 'runs' / 'relations_digit_attributes_001'
    assert done.stdout.splitlines()[-1] == f'report: {run.relative_to(tmp_path)}/report.html'
    results = storage.read_json(run / 'results.json')
    assert (results['study'], results['settings']['smaller']) == ('relations', 0.5)
    gains, mutual = results['tables']
    assert (len(gains['rows']), len(mutual['rows'])) == (9 + 1, 36)
    rows = storage.read_records(run / 'networks' / 'networks.jsonl')
    # (Units are whole numbers, so that the cost is near what was asked for.)
    assert {(len(row['tasks']), row['cost']) for row in rows} == {(2, 1.0), (1, 0.48)}


@pytest.mark.sweep
def test_named_sets_of_tasks(tmp_path):
    """Two sets with heat maps of their own, beside that of all tasks."""
    sets = '--task_sets=even+loop+prime;prime+even'
    flags = (*QUICK, '--study=task_sets', sets, '--affinity_every=2', '--workdir=run')
    done = launch('ablations', *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / 'run' / 'report.html').read_text()
    for number, title in enumerate(('A network for', 'A network for', 'The network for all'), 1):
        assert (tmp_path / 'run' / f'affinity_{number}.png').exists()
        assert title in page
    assert 'needs four tasks' in done.stdout


def test_bad_input_ends_with_one_sentence(tmp_path):
    check_sentences(
        'ablations',
        [
            (['--study=all'], "there is no study called 'all': choose frequency"),
            (['--smaller=0.5'], '--smaller is for --study=relations'),
            (['--task_sets=a+b'], '--task_sets is for --study=task_sets'),
            (['--study=task_sets', '--task_sets=left_digit+x'], "there is no task 'x' for a set"),
            (['--budget=2'], '--budget is of no use to this command'),
            (['--budgets=10'], 'between 1 and the number of tasks, 8, not 10'),
        ],
        tmp_path,
    )
