"""The benchmark of the main job, on few steps."""

import pathlib
import subprocess
import sys

from experiments.benchmarks import main_job

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_the_benchmark_runs():
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.benchmarks.main_job', '--seeds=1', '--steps=20'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert 'of 1 seeds' in done.stdout
    assert 'mean gain' in done.stdout


def test_left_and_right_are_told_apart():
    def groups(*names):
        return {'groups': [{'tasks': tasks.split()} for tasks in names]}

    assert main_job.parted(groups('left_digit left_loop', 'right_even'))
    assert not main_job.parted(groups('left_digit right_loop', 'right_even'))
    assert not main_job.parted(groups('left_digit left_loop'))
