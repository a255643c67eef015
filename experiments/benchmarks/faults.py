"""Runs that are killed at random moments and go on, against unbroken ones; and one that is long.

    python -m experiments.benchmarks.faults --job=training --kills=30

runs `python -m experiments.tag` on MultiDigits with few steps, with a checkpoint after every
evaluation. Each time SIGKILL comes at a random moment, while it starts, trains, writes a
checkpoint, selects or reports, and the same command goes on to the end. results.json (but for
times), affinity.npz and the records of training must be those of a run that nobody killed, bit for
bit.

    python -m experiments.benchmarks.faults --job=search --kills=10

does the same to one exhaustive search on DigitAttributes, killed as often as asked: no network may
have trained twice to its end.

    python -m experiments.benchmarks.faults --job=workers --kills=10

gives such a search to two workers of Ray, one of which is killed each time: the rows must be those
of threads of one process, bit for bit, and no network may have trained twice to its end.

    python -m experiments.benchmarks.faults --job=soak

trains 20,000 steps of MultiDigits with checkpoints and affinities: memory must be flat within 2 %
after the first tenth, and metrics.jsonl whole.
"""

import collections
import contextlib
import os
import pathlib
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from tag_jax.launchers import launch
from tag_jax.runs import storage, workdir

flags.DEFINE_string('job', 'training', 'training, search, workers or soak.')
flags.DEFINE_string('search', 'exhaustive', 'The way to group whose networks are trained.')
flags.DEFINE_integer('kills', 30, 'How often SIGKILL is sent.')

FLAGS = flags.FLAGS

TRAINING = ('--steps=300', '--eval_every=20', '--patience=0', '--checkpoint_seconds=0')
SEARCH = ('--dataset=digit_attributes', '--steps=100', '--eval_every=50')
SOAK = ('--steps=20000', '--patience=0', '--checkpoint_seconds=5')
SOAK_STEPS, MOST_GROWTH = 20_000, 0.02
SEED = 0  # Of the moments.


def main():
    jobs = {'training': training, 'search': search, 'workers': workers, 'soak': soak}
    launch.choose('job', FLAGS.job, jobs)()


def training():
    """Many runs, killed once each."""
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / 'whole'
        seconds = finish(whole, TRAINING)
        print(f'the unbroken run took {seconds:.1f} s', flush=True)
        stages, different = collections.Counter(), 0
        for n in range(FLAGS.kills):
            broken = pathlib.Path(folder) / f'{n}'
            stage = killed_at(broken, TRAINING, rng.uniform(0, seconds))
            finish(broken, TRAINING)
            same = outcome(broken) == outcome(whole)
            stages[stage] += 1
            different += not same
            print(f'killed {stage}: the same in the end: {same}', flush=True)
    print(f'{FLAGS.kills} kills ({", ".join(f"{n} {stage}" for stage, n in stages.items())})')
    print(f'runs that came to something else: {different}')
    if different:
        raise ValueError('runs that were killed came to something else')


def search():
    """One search, killed many times."""
    asked = (f'--method={FLAGS.search}', *SEARCH)
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = (pathlib.Path(folder) / name for name in ('whole', 'broken'))
        seconds = finish(whole, asked)
        # Now while it starts, now after some more networks.
        size = len(rows(whole))
        after = sorted(rng.choice([0, rng.randrange(size)]) for _ in range(FLAGS.kills))
        for least in after:
            process = start(broken, asked)
            while len(rows(broken)) < least and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 5 if least == 0 else 0.2))
            process.kill()
            process.wait()
            print(f'killed with {len(rows(broken))} of {size} networks', flush=True)
        finish(broken, asked)
        same_rows = sorted(rows(whole), key=str) == sorted(rows(broken), key=str)
        same_results = results(whole) == results(broken)
        written = [row['key'] for row in rows(broken)]
    print(f'{FLAGS.kills} kills; the unbroken run took {seconds:.1f} s')
    once = len(set(written)) == len(written)
    print(f'the same {len(written)} networks: {same_rows}; each once: {once}')
    print(f'the same results: {same_results}')
    if not (same_rows and same_results):
        raise ValueError('the search that was killed came to something else')


def workers():
    """One search by workers of Ray, of which some are killed."""
    asked = (f'--method={FLAGS.search}', *SEARCH)
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = (pathlib.Path(folder) / name for name in ('whole', 'broken'))
        finish(whole, asked)
        size = len(rows(whole))
        after = sorted(rng.randrange(size) for _ in range(FLAGS.kills))
        kills, answers = kill_workers(broken, asked, after)
        same_rows = sorted(rows(whole), key=str) == sorted(rows(broken), key=str)
        path = broken / 'networks' / 'networks.jsonl'
        twice = answers - {row['seconds'] for row in storage.read_records(path)}
    print(f'{kills} kills; the same {size} rows: {same_rows}')
    print(f'networks that had trained to their end and did so again: {len(twice)}')
    if kills < FLAGS.kills or not same_rows or twice:
        raise ValueError('workers that were killed came to something else')


def kill_workers(folder, asked, after):
    """Starts a search by Ray, and kills a worker at work when there are so many rows, each time.

    Args:
      folder: of the run.
      asked: its flags.
      after: numbers of rows, ascending.

    Returns:
      How many were killed, and the seconds of all networks that a worker was done with.
    """
    rng, after, kills, answers = random.Random(SEED), list(after), 0, set()
    process = start(folder, (*asked, '--cluster=ray', '--checkpoint_seconds=0'))
    try:
        while process.poll() is None:
            answers |= seconds_of_answers(folder)
            at_work = [pid for pid in descendants(process.pid) if is_at_work(pid)]
            if after and len(rows(folder)) >= after[0] and at_work:
                time.sleep(rng.uniform(0, 0.2))
                pid = rng.choice(at_work)
                if is_at_work(pid):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
                    print(f'killed a worker after {after.pop(0)} rows', flush=True)
            time.sleep(0.01)
    finally:
        process.kill()
    if process.wait():
        raise ValueError('the search failed; what it said stands above')
    return kills, answers


def soak():
    """One long run, whose memory is watched while it trains its first network."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / 'run'
        process = start(run, SOAK)
        memory = []
        while process.poll() is None:
            records = storage.read_records(run / workdir.METRICS)
            step = max((r['step'] for r in records if r['network'] == 'mtl'), default=0)
            if step >= SOAK_STEPS or any(r['network'] != 'mtl' for r in records):
                break
            if step >= SOAK_STEPS / 10:
                memory.append(resident_bytes(process.pid))
            time.sleep(0.5)
        if process.wait():
            raise ValueError('the run failed; what it said stands above')
        steps = [
            record['step']
            for record in storage.read_records(run / workdir.METRICS)
            if record['network'] == 'mtl'
        ]
    tenth = max(1, len(memory) // 10)
    early, late = (float(np.median(part)) for part in (memory[:tenth], memory[-tenth:]))
    growth = late / early - 1
    whole = steps == list(range(100, SOAK_STEPS + 1, 100))
    print(f'resident memory: {early / 1e6:.0f} MB, and {late / 1e6:.0f} MB at the end')
    print(f'growth: {100 * growth:+.2f} %, in {len(memory)} samples')
    print(f'{len(steps)} records, every one in its place: {whole}')
    if growth > MOST_GROWTH or not whole:
        raise ValueError('memory grew, or records are missing')


def start(folder, asked):
    """Starts a run in a folder, or goes on with it."""
    command = [sys.executable, '-m', 'experiments.tag', '--resume', *asked]
    return subprocess.Popen([*command, f'--workdir={folder}'], stdout=subprocess.DEVNULL)


def finish(folder, asked):
    """Lets the run in a folder come to its end; the seconds that it took."""
    began = time.perf_counter()
    if start(folder, asked).wait():
        raise ValueError('the run failed; what it said stands above')
    return time.perf_counter() - began


def killed_at(folder, asked, seconds):
    """Starts a run, kills it after some time, and says what it had come to."""
    process = start(folder, asked)
    time.sleep(seconds)
    process.kill()
    process.wait()
    if (folder / workdir.RESULTS).exists():
        return 'while or after it reported'
    if any(folder.glob(f'{workdir.RUNNING}/*/*tmp*')):
        return 'while a checkpoint was written'
    if storage.read_records(folder / workdir.METRICS):
        return 'while it trained'
    return 'while it started'


def outcome(folder):
    """The result of a run, without times."""
    with np.load(folder / workdir.AFFINITY) as file:
        affinities = {name: file[name].tobytes() for name in file}
    return results(folder), affinities, sorted_records(folder)


def sorted_records(folder):
    """The records of training; networks that train side by side take turns."""
    records = storage.read_records(folder / workdir.METRICS)
    return sorted(records, key=lambda record: (record['network'], record['step']))


def rows(folder):
    """The rows of the networks in a folder, without times."""
    path = folder / 'networks' / 'networks.jsonl'
    found = storage.read_records(path) if path.exists() else []
    return [{**row, 'seconds': None} for row in found]


def results(folder):
    """results.json without times."""
    found = workdir.read_results(folder)
    found['cost'] = {k: v for k, v in found['cost'].items() if not k.endswith('_seconds')}
    return found


def seconds_of_answers(folder):
    """The seconds of networks whose answers workers have left, and nobody has taken yet."""
    found, running = set(), folder / 'networks' / workdir.RUNNING
    for name in os.listdir(running) if running.exists() else ():
        with contextlib.suppress(FileNotFoundError):  # It has been taken since.
            if name.endswith('.answer'):
                found.add(pickle.loads((running / name).read_bytes()).row['seconds'])
    return found


def descendants(pid):
    """The processes that a process has begun, and those that these have (Linux)."""
    children = collections.defaultdict(list)
    for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
        try:
            parent = path.read_text().rpartition(')')[2].split()[1]
        except OSError:  # It has ended since.
            continue
        children[int(parent)].append(int(path.parent.name))
    found, new = [], [pid]
    while new:
        new = [child for parent in new for child in children[parent]]
        found += new
    return found


def is_at_work(pid):
    """Whether a process is a worker of Ray that trains networks (Linux)."""
    try:
        return b'train_job' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
    except OSError:
        return False


def resident_bytes(pid):
    """The memory that a process has in RAM (Linux)."""
    pages = int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * 4096


if __name__ == '__main__':
    launch.launch(main)
