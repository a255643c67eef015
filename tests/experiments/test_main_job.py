"""The benchmark of the main job, on few steps. (The main job itself: test_tag.py.)"""

import pytest
from launching import launch, loaded


@pytest.mark.sweep
def test_the_benchmark_runs():
    done = launch('benchmarks.main_job', '--seeds=1', '--steps=20')
    assert done.returncode == 0, done.stderr
    assert 'of 1 seeds' in done.stdout
    assert 'mean gain' in done.stdout


def test_left_and_right_are_told_apart():
    def groups(*names):
        return {'groups': [{'tasks': tasks.split()} for tasks in names]}

    main_job = loaded('benchmarks.main_job')

    assert main_job.parted(groups('left_digit left_loop', 'right_even'))
    assert not main_job.parted(groups('left_digit right_loop', 'right_even'))
    assert not main_job.parted(groups('left_digit left_loop'))
