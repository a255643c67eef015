"""An exhaustive search that is killed at random moments, and goes on, against an unbroken one.

    python -m experiments.benchmarks.faults --kills=10

runs `python -m experiments.tag --method=exhaustive` on DigitAttributes with few steps, sends it
SIGKILL at random moments, as often as asked, and lets it finish. The rows of its networks and its
results must be those of the run that nobody killed, bit for bit, but for times, and no network may
have trained twice to its end.
"""

import pathlib
import random
import subprocess
import sys
import tempfile
import time

from absl import flags

from experiments import launch
from tag_jax import workdir

flags.DEFINE_integer('kills', 10, 'How often the search is killed.')
flags.DEFINE_integer('seed', 0, 'Of the moments.')

FLAGS = flags.FLAGS

SEARCH = (
    *(sys.executable, '-m', 'experiments.tag', '--method=exhaustive', '--resume'),
    *('--dataset=digit_attributes', '--steps=100', '--eval_every=50'),
)


def main():
    rng = random.Random(FLAGS.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = (pathlib.Path(folder) / name for name in ('whole', 'broken'))
        began = time.perf_counter()
        finish(whole)
        seconds = time.perf_counter() - began
        # Now while it starts, now after some more networks.
        size = len(rows(whole))
        after = sorted(rng.choice([0, rng.randrange(size)]) for _ in range(FLAGS.kills))
        for least in after:
            process = search(broken)
            while len(rows(broken)) < least and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 5 if least == 0 else 0.2))
            process.kill()
            process.wait()
            print(f'killed with {len(rows(broken))} of {size} networks', flush=True)
        finish(broken)
        same_rows = sorted(rows(whole), key=str) == sorted(rows(broken), key=str)
        same_results = results(whole) == results(broken)
        written = [row['key'] for row in rows(broken)]
    print(f'{FLAGS.kills} kills; the unbroken run took {seconds:.1f} s')
    once = len(set(written)) == len(written)
    print(f'the same {len(written)} networks: {same_rows}; each once: {once}')
    print(f'the same results: {same_results}')
    if not (same_rows and same_results):
        raise ValueError('the search that was killed came to something else')


def search(folder):
    """Starts the search in a folder, or goes on with it."""
    return subprocess.Popen([*SEARCH, f'--workdir={folder}'], stdout=subprocess.DEVNULL)


def finish(folder):
    """Lets the search in a folder come to its end."""
    if search(folder).wait():
        raise ValueError('the search failed; what it said stands above')


def rows(folder):
    """The rows of the networks in a folder, without times."""
    path = folder / 'networks' / 'networks.jsonl'
    found = workdir.read_records(path) if path.exists() else []
    return [{**row, 'seconds': None} for row in found]


def results(folder):
    """results.json without times."""
    found = workdir.read_results(folder)
    found['cost'] = {k: v for k, v in found['cost'].items() if not k.endswith('_seconds')}
    return found


if __name__ == '__main__':
    launch.launch(main)
