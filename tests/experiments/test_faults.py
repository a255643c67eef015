"""Runs that are killed, and runs of two processes, through their real commands.

The short forms of the sweeps: grouping/test_by_networks.py kills a search, test_progress.py goes on
from checkpoints, and test_parallel.py has two processes.
"""

import contextlib
import subprocess
import sys
import time

import numpy as np
import pytest
from launching import ENVIRONMENT, check_sentences, free_port, launch

from experiments.benchmarks import faults
from tag_jax.runs import affinity_files, storage, workdir

QUICK = (
    *('--dataset=digit_attributes', '--steps=50', '--eval_every=10', '--patience=0'),
    *('--batch_size=64', '--checkpoint_seconds=0', '--resume'),
)


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    """A run that nobody killed, and the seconds that it took."""
    folder = tmp_path_factory.mktemp('unbroken')
    began = time.perf_counter()
    done = launch('tag', *QUICK, f'--workdir={folder / "run"}')
    assert done.returncode == 0, done.stderr
    return folder / 'run', time.perf_counter() - began


@pytest.mark.sweep
def test_a_run_that_is_killed_comes_to_the_same(unbroken, tmp_path):
    """Bitwise, wherever SIGKILL finds it, three times."""
    whole, seconds = unbroken
    for share in (0.5, 0.6, 0.7):
        process = subprocess.Popen(
            [sys.executable, '-m', 'experiments.tag', *QUICK, f'--workdir={tmp_path / "run"}'],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(share * seconds)
        process.kill()
        process.wait()
    done = launch('tag', *QUICK, f'--workdir={tmp_path / "run"}')
    assert done.returncode == 0, done.stderr
    assert faults.outcome(tmp_path / 'run') == faults.outcome(whole)
    assert not (tmp_path / 'run' / workdir.RUNNING).exists()


@contextlib.contextmanager
def pair(folder):
    """Two processes of four devices each, which end with the block."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, '-m', 'experiments.tag', *QUICK, f'--workdir={folder}'),
                *('--mesh=networks:2,batch:4', f'--coordinator=localhost:{port}'),
                *('--num_processes=2', f'--process_id={n}'),
            ],
            env=ENVIRONMENT | {'JAX_NUM_CPU_DEVICES': '4'},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.sweep
def test_two_processes_give_what_one_does_and_go_on_when_one_is_lost(unbroken, tmp_path):
    whole, _ = unbroken
    series = tmp_path / 'run' / workdir.RUNNING / 'mtl'
    with pair(tmp_path / 'run') as (first, second):
        while second.poll() is None and not (series / '20').exists():
            time.sleep(0.05)
        second.kill()
        lost = time.perf_counter()
        said = first.communicate(timeout=60)[1]
        assert time.perf_counter() - lost < 60
    assert first.returncode != 0
    # JAX may notice before a step does, and ends the process in its own words.
    assert 'error: another process is lost' in said or 'another task died' in said, said
    assert storage.read_records(tmp_path / 'run' / workdir.METRICS)

    with pair(tmp_path / 'run') as again:
        for process in again:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
    results, _, records = faults.outcome(tmp_path / 'run')
    expected, _, expected_records = faults.outcome(whole)
    assert results['groups'] == expected['groups']
    for one, other in zip(records, expected_records, strict=True):
        for task, loss in one['training_loss'].items():
            np.testing.assert_allclose(loss, other['training_loss'][task], rtol=1e-5, atol=1e-5)
    one, other = (
        affinity_files.read_affinity(path / workdir.AFFINITY) for path in (tmp_path / 'run', whole)
    )
    np.testing.assert_allclose(one['history'][0], other['history'][0], rtol=1e-4, atol=1e-5)


@pytest.mark.sweep
def test_workers_of_ray_that_are_killed_come_to_the_same():
    pytest.importorskip('ray')
    done = launch('benchmarks.faults', '--job=workers', '--kills=1', '--search=hoa')
    assert done.returncode == 0, done.stderr
    assert 'did so again: 0' in done.stdout


def test_flags_of_several_processes_are_checked(tmp_path):
    check_sentences(
        'tag',
        [
            (['--num_processes=2'], '--num_processes needs --coordinator'),
            (['--coordinator=localhost:1'], 'several processes need --workdir'),
            (
                ['--coordinator=localhost:1', '--workdir=a', '--num_processes=2'],
                '--coordinator needs --num_processes and --process_id',
            ),
            (['--mesh=rows:2'], "--mesh needs parts such as networks:2 and batch:4, not 'rows:2'"),
            (['--mesh=batch:64'], 'needs 64 devices'),
            (['--shard_parameters'], 'shard_parameters needs a mesh with several devices along'),
            (['--remat=all'], 'remat must be true, one of nothing_saveable, dots_saveable, '),
            (['--if_not_finite=ignore'], 'if_not_finite must be one of stop, skip, drop'),
        ],
        tmp_path,
    )
