"""Candidate networks on two processes against one, on one machine.

    python -m experiments.benchmarks.processes --repeats=3

trains the networks of an exhaustive search on MultiDigits, 255 of them with few steps each, from
the start of the command to its end: in threads of one process, as `python -m experiments.tag` does
it; by two worker processes; by Ray, where it is installed; and in two processes that hold half of
the slots each, over a mesh. --search names a search of fewer networks. The ratios are of wall
times, medians over the repeats.
"""

import importlib.util
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from tag_jax.launchers import launch

flags.DEFINE_integer('repeats', 3, 'Runs of each.')
flags.DEFINE_integer('steps', 600, 'Of each network.')
flags.DEFINE_string('search', 'exhaustive', 'The way to group whose networks are trained.')

FLAGS = flags.FLAGS


def main():
    ways = {
        'one process': lambda folder: [[f'--workdir={folder}']],
        'two workers': lambda folder: [[f'--workdir={folder}', '--cluster=processes:2']],
        'Ray': lambda folder: [[f'--workdir={folder}', '--cluster=ray']],
        'two over a mesh': over_a_mesh,
    }
    if importlib.util.find_spec('ray') is None:
        del ways['Ray']
    seconds = {name: [] for name in ways}
    for _ in range(FLAGS.repeats):
        for name, flags_of in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds[name].append(wall_time(flags_of(pathlib.Path(folder) / 'run')))
            print(f'{name}: {seconds[name][-1]:.1f} s', flush=True)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    for name, time_of in middle.items():
        ratio = middle['one process'] / time_of
        print(f'{name:20} {time_of:6.1f} s   throughput {ratio:.2f} of one process')


def over_a_mesh(folder):
    """The flags of two processes that hold half of the slots each."""
    with socket.socket() as one:
        one.bind(('localhost', 0))
        port = one.getsockname()[1]
    return [
        [
            *(f'--workdir={folder}', '--mesh=networks:2', f'--coordinator=localhost:{port}'),
            *('--num_processes=2', f'--process_id={n}'),
        ]
        for n in range(2)
    ]


def wall_time(flags_of_processes):
    """Seconds until all processes have come to their end."""
    command = [sys.executable, '-m', 'experiments.tag', f'--method={FLAGS.search}', '--patience=0']
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [*command, f'--steps={FLAGS.steps}', *own],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in flags_of_processes
    ]
    for process in running:
        _, said = process.communicate()
        if process.returncode:
            raise ValueError(f'a process failed: {said}')
    return time.perf_counter() - began


if __name__ == '__main__':
    launch.launch(main)
