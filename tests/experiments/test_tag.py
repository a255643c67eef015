"""The launcher through its real command, and its answers to bad input."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from launching import ENVIRONMENT, answers, check_sentences, files, launch, launch_afresh

from tag_jax import grouping
from tag_jax.runs import storage

QUICK = ('--steps=20', '--eval_every=10', '--affinity_every=10', '--batch_size=64')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder in which the launcher ran, and what it said."""
    folder = tmp_path_factory.mktemp('here')
    return folder, launch_afresh('tag', *QUICK, cwd=folder)


def without_times(path):
    results = storage.read_json(path / 'results.json')
    results['cost'] = {k: v for k, v in results['cost'].items() if not k.endswith('_seconds')}
    return results


def without_progress(said):
    """The lines of stderr without those about progress: a slow machine prints more of them."""
    progress = re.compile(r'(training|compiling).*: [\d,]+ of')
    return [line for line in said.splitlines() if not progress.match(line)]


def test_the_main_job(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    run = folder / 'runs' / 'tag_multi_digits_001'
    assert done.stdout.splitlines()[-1] == 'report: runs/tag_multi_digits_001/report.html'
    assert 'Total test ' in done.stdout
    # No progress bar and no noise where output is not a terminal: a line now and then.
    assert not without_progress(done.stderr)
    assert {file.name for file in run.iterdir()} == {
        'config.json', 'metrics.jsonl', 'affinity.npz', 'results.json', 'checkpoints',
        'affinity.png', 'groups.png', 'curves.png', 'report.html', 'networks', '.lock',
        'dendrogram.png', 'errors.csv', 'errors.tex', 'affinity.csv', 'affinity.tex',
        *(f'{stem}.{kind}' for stem in ('affinity', 'groups', 'curves', 'dendrogram')
          for kind in ('svg', 'pdf')),
    }  # fmt: skip
    results = storage.read_json(run / 'results.json')
    assert len(results['task_names']) == 8
    assert f'{results["total_test_error"]:.2f}' in done.stdout
    inputs = np.zeros((3, 12, 12, 1), np.float32)
    assert grouping.load(run).outputs(inputs)['left_digit'].shape == (3, 10)


@pytest.mark.sweep  # Short: grouping/test_affinity_methods.py, one seed, one result.
def test_the_same_command_gives_the_same_results_and_on_a_terminal_a_progress_bar(finished):
    folder, _ = finished
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
    command = [sys.executable, '-m', 'experiments.tag', *QUICK]
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, stderr=stderr, timeout=300, check=True)
    shown = os.read(terminal, 10_000).decode()
    assert shown.lstrip().startswith('compiling:'), 'and not a bar that stands still'
    assert 'training 1 network, measuring affinities:' in shown
    assert 'training 2 networks:' in shown
    assert 'training 2 networks (1 done):' in shown
    assert 'evaluating on the test split ...' in shown
    assert 'drawing the report ...' in shown
    os.close(stderr)
    os.close(terminal)
    first, second = (folder / 'runs' / f'tag_multi_digits_00{n}' for n in (1, 2))
    assert without_times(first) == without_times(second)


@pytest.mark.sweep  # Its short form: given affinities are selected from.
def test_another_budget_without_measuring_again(finished):
    folder, _ = finished
    measured = 'runs/tag_multi_digits_001/affinity.npz'
    done = launch(
        'tag', *QUICK, f'--affinity={measured}', '--budget=3', '--workdir=three', cwd=folder
    )
    assert done.returncode == 0, done.stderr
    results = storage.read_json(folder / 'three' / 'results.json')
    assert results['cost']['search_steps'] == 0
    assert 2 <= len(results['groups']) <= 3
    assert 'mtl' in results['baselines']


@pytest.mark.sweep
def test_a_finished_run_is_resumed_at_once(finished):
    folder, done = finished
    again = launch('tag', *QUICK, '--workdir=runs/tag_multi_digits_001', '--resume', cwd=folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    run = folder / 'runs' / 'tag_multi_digits_001'
    command = f'python -m experiments.tag {" ".join(QUICK)}'
    assert storage.read_json(run / 'config.json')['command'] == command
    assert command in (run / 'report.html').read_text(), 'without what belongs to one folder'


def test_a_signal_saves_the_run_and_says_how_to_go_on(tmp_path):
    command = ['-m', 'experiments.tag', '--steps=1000000', '--patience=0']
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / 'runs' / 'tag_multi_digits_001'
    metrics = run / 'metrics.jsonl'
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert without_progress(said) == [
        'stopping when the networks in training are saved; once more ends at once',
        f'error: interrupted: python {" ".join(command)} --workdir=runs/tag_multi_digits_001 '
        '--resume goes on',
    ]
    (series,) = (run / 'running').iterdir()
    last = storage.read_records(metrics)[-1]['step']
    assert [path.name for path in series.iterdir()] == [str(last)]


@pytest.mark.sweep
def test_help_is_grouped_and_a_dry_run_leaves_nothing(tmp_path):
    told, tried = answers(
        'tag',
        [['--help'], ['--dry_run', '--dataset=digit_attributes', '--method=all_in_one']],
        tmp_path,
    )
    assert (told.returncode, tried.returncode) == (0, 0), tried.stderr
    lines = told.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line.endswith(':') and line[0].isupper()] == [
        *('The run:', 'What is asked:', 'Data:', 'Networks:', 'Training:', 'Affinities:'),
        'Devices:',
    ]
    assert '1 network  of 1,500 steps: all tasks' in tried.stdout
    assert not files(tmp_path)


@pytest.mark.sweep  # Its short form: test_sizes.py.
def test_the_wider_encoder_of_a_recommendation_is_within_the_budget(tmp_path):
    """With seven inputs the encoder nearest to twice the cost is one above it."""
    rng = np.random.default_rng(0)
    names = [*'abcdefg', 'y', 'z']
    rows = [','.join(f'{x:.3f}' for x in row) for row in rng.normal(size=(60, len(names)))]
    (tmp_path / 't.csv').write_text('\n'.join([','.join(names), *rows]))
    flags = ['--table=t.csv', '--targets=y,z', '--method=recommended', '--dry_run']
    (tried,) = answers('tag', [flags], tmp_path)
    assert tried.returncode == 0, tried.stderr
    assert 'all tasks on a wider encoder' in tried.stdout


@pytest.mark.sweep  # Its short form: test_describing.py.
def test_lines_about_columns_come_before_a_dry_run_too(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f'{n // 3},{x:.3f},{n % 2},{-x:.3f}' for n, x in enumerate(rng.normal(size=120))]
    (tmp_path / 't.csv').write_text('\n'.join(['patient_id,x,y,z', *rows]))
    table = ['--table=t.csv', '--targets=y,z', '--steps=4', '--eval_every=2', '--batch_size=8']
    plain, grouped, raw, wrong = answers(
        'tag',
        [
            [*table, '--dry_run'],
            [*table, '--dry_run', '--groups=patient_id'],
            [*table, '--dry_run', '--standardise=false'],
            [*table, '--dry_run', '--standardise=false', '--dataset=multi_digits'],
        ],
        tmp_path,
    )
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.startswith(
        'patient_id: a number, 40 different values (an identifier? --leave_out=patient_id or '
        '--groups=patient_id)\nx: a number\n'
        'y: classification, 2 classes: 0, 1; the rarest is 0, 60 rows\nz: regression, mean '
    )
    assert '\nrows: 72 train, 24 validation, 24 test\n' in plain.stdout
    assert 'steps in all' in plain.stdout
    assert '\npatient_id: keeps rows together, 40 groups\n' in grouped.stdout
    assert grouped.stdout.startswith('x: a number\n')
    assert '\nx: a number as it is\n' in raw.stdout
    assert wrong.returncode == 2
    assert files(tmp_path) == [str(tmp_path / 't.csv')]


def test_bad_input_ends_with_one_sentence(finished):
    folder, _ = finished
    (folder / 'file').write_text('')
    check_sentences(
        'tag',
        [
            (['--dataset=celeba'], "there is no dataset called 'celeba': choose multi_digits"),
            (['--method=tagg'], "there is no method called 'tagg': choose tag"),
            (['--method=hoa', '--affinity=a.csv'], '--affinity is for --method=tag'),
            (['--smaller=0.5'], '--smaller is for --method=hoa or esa or exhaustive'),
            (
                ['--method=exhaustive', '--smaller=1'],
                '--smaller must be above 0 and below 1, not 1',
            ),
            (
                ['--method=recommended', '--workdir=runs/tag_multi_digits_001'],
                'runs/tag_multi_digits_001 already holds a run',
            ),
            (['--cluster=dask'], "there is no cluster 'dask': choose ray, ray://host:port or proc"),
            (
                ['--weighting=magic'],
                "there is no weighting called 'magic': choose equal or mgda_ub",
            ),
            (['--weighting=gradnorm:-1'], "'gradnorm:-1': alpha must be a number at least 0, not"),
            (['--weighting=fairgrad:inf'], "the alpha of 'fairgrad:inf' is no number"),
            (['--weighting=mgda:2'], 'only gradnorm, fairgrad, db_mtl, stch take a number'),
            (
                ['--budget=0'],
                'budget must be an integer between 1 and the number of tasks, 8, not 0',
            ),
            (
                ['--budget=9'],
                'budget must be an integer between 1 and the number of tasks, 8, not 9',
            ),
            (['--slots=0'], "--slots must be an integer from 1 to 4096, or measure, not '0'"),
            (['--slots=mesure'], "--slots must be an integer from 1 to 4096, or measure, not 'mes"),
            (['--steps=0'], 'steps must be an integer of at least 1 and at most 2147483647, not 0'),
            (['--batch_size=-3'], 'batch_size must be an integer of at least 1 and at most'),
            (['--learning_rate=0'], 'learning_rate must be positive and finite, not 0.0'),
            (['--learning_rate=nan'], 'learning_rate must be positive and finite, not nan'),
            (['--seed=-1'], 'seed must be an integer of at least 0 and at most 4294967295, not -1'),
            (
                ['--workdir=runs/tag_multi_digits_001'],
                'runs/tag_multi_digits_001 already holds a run',
            ),
            (['--workdir=file'], 'cannot write to the workdir file'),
            (['--workdir=file/run'], 'cannot write to the workdir file/run'),
            (['--workdir='], '--workdir is empty'),
            (
                ['--affinity_kind=exakt'],
                'affinity.kind must be one of exact, first_order, cosine, not',
            ),
            (
                ['--affinity_window=0.5'],
                'affinity.window must be two shares of training, 0 <= start',
            ),
            (
                ['--seed=99999999999'],
                'seed must be an integer of at least 0 and at most 4294967295',
            ),
            (['--resume'], '--resume needs --workdir'),
            (['--affinity=no.npz'], 'there is no file of affinities no.npz'),
            (['--affinity=file'], 'file is neither .npz nor .csv'),
            (['tag'], "there is no argument 'tag': flags begin with --"),
        ],
        folder,
    )


def test_unknown_flags_and_values_are_named(finished):
    for flags in (['--stepz=3'], ['--steps=many']):
        done = launch('tag', *flags, cwd=finished[0])
        assert done.returncode != 0
        assert flags[0][2:7] in done.stderr


@pytest.mark.sweep  # In one process: tests/grouping/test_remote.py.
def test_other_processes_train_the_networks_of_a_search(tmp_path):
    flags = ('--method=subsets:count=5', *QUICK, '--workdir=run', '--cluster=processes:1')
    done = launch_afresh('tag', *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Total test ' in done.stdout
    rows = (tmp_path / 'run' / 'networks' / 'networks.jsonl').read_text().splitlines()
    assert len(rows) >= 5
    answer = launch('tag', *QUICK, '--workdir=other', '--cluster=nowhere', cwd=tmp_path)
    assert answer.returncode == 2
    assert "there is no cluster 'nowhere': choose ray" in answer.stderr
    assert not (tmp_path / 'other').exists()
