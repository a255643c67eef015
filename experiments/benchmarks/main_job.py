"""The main job as a newcomer runs it: wall time, groups and gain over several seeds.

    python -m experiments.benchmarks.main_job

runs `python -m experiments.tag --seed=S` for seeds 0 to 4, each in a process of its own, and prints
the wall time of each, whether it found {left tasks} and {right tasks}, and the total test errors of
its groups and of the network for all tasks, with means and standard errors.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from tag_jax.launchers import common, launch
from tag_jax.numbers import mean_and_error
from tag_jax.tables import plus_minus

flags.DEFINE_integer('seeds', 5, 'Number of seeds.')
flags.adopt_module_key_flags(common)

FLAGS = flags.FLAGS


def main():
    rows = []
    print('seed  seconds  left | right  groups  all together  gain')
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(FLAGS.seeds):
            seconds, results = run_once(pathlib.Path(folder) / str(seed), seed)
            together = results['baselines']['mtl']['total_test_error']
            rows.append((seconds, parted(results), results['total_test_error'], together))
            seconds, sides, groups, together = rows[-1]
            gain = 1 - groups / together
            print(
                f'{seed:4}  {seconds:7.1f}  {"yes" if sides else "no":>12}  '
                f'{groups:6.2f}  {together:12.2f}  {gain:4.0%}',
                flush=True,
            )
    seconds, sides, groups, together = np.array(rows, float).T
    print(f'\nwall time: median {np.median(seconds):.1f} s, at most {seconds.max():.1f} s')
    print(f'{{left tasks}} and {{right tasks}}: {sides.sum():.0f} of {len(rows)} seeds')
    print(f'total test error of the groups: {plus_minus(*mean_and_error(groups))} %')
    print(f'of one network for all tasks:   {plus_minus(*mean_and_error(together))} %')
    print(f'mean gain: {1 - groups.mean() / together.mean():.1%}')


def run_once(folder, seed):
    """Wall time and results of one run of the launcher."""
    began = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, '-m', 'experiments.tag'),
            *(f'--seed={seed}', f'--workdir={folder}'),
            *([] if FLAGS.steps is None else [f'--steps={FLAGS.steps}']),
        ],
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - began
    return seconds, json.loads((folder / 'results.json').read_text())


def parted(results):
    """Whether the groups are the tasks of the left digit and those of the right digit."""
    sides = {
        frozenset(task.split('_')[0] for task in group['tasks']) for group in results['groups']
    }
    return sides == {frozenset({'left'}), frozenset({'right'})}


if __name__ == '__main__':
    launch.launch(main)
