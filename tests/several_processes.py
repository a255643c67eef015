"""One of two processes, of two devices each, that read their shares of examples.

    JAX_NUM_CPU_DEVICES=2 python tests/several_processes.py PORT PROCESS FILE [short]

writes to FILE what it found; the short form trains nothing. Then the second process is terminated
while the first waits for it.
"""

import dataclasses
import pathlib
import pickle
import signal
import sys

import jax
import numpy as np
from absl import flags
from small import TASKS, make_problem, make_split

from tag_jax import evaluation, examples, parallel, training
from tag_jax.data import Source, Split
from tag_jax.launchers import launch, processes
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig

PLAN = NetworkPlan('a', tuple(TASKS), 0, 1e-2, True)
CONFIG = TrainingConfig(
    steps=8,
    batch_size=32,
    learning_rate=1e-2,
    eval_every=4,
    affinity=Measurement(every=2),
    slots=1,
    patience=0,
)


def trained(splits, config, **options):
    """The network of PLAN, in NumPy arrays."""
    (network,) = training.train_networks(make_problem(), *splits, [PLAN], config, **options)
    arrays = jax.tree.map(np.asarray, network.params), network.affinities.history
    return arrays, network.validation


def splits():
    return [make_split(size, seed, labelled=0.7) for seed, size in enumerate((300, 130))]


def source(split, rows_read):
    def decode(row):
        rows_read.append(row)
        one = lambda arrays: {task: array[row] for task, array in arrays.items()}
        return Split(split.inputs[row], one(split.targets), one(split.mask))

    def labelled(tasks):
        return np.flatnonzero(np.any([split.mask[task] for task in tasks], axis=0))

    return Source(decode, len(split.inputs), labelled=labelled)


def own_mesh():
    """A mesh of the devices of this process alone."""
    return jax.sharding.Mesh(np.array(jax.local_devices())[None], parallel.AXES)


def read_in_windows(decode):
    """What is read of a window of 9 examples, or what is said of them."""
    mesh = parallel.make_mesh((1, 4))
    found = examples.examples(make_problem({'sign': TASKS['sign']}), Source(decode, 9), mesh)
    try:
        ((batch, rows),) = examples.windows(found, [np.arange(9)[::-1]])
    except Exception as error:
        return type(error).__name__, str(error)
    return np.asarray(batch.inputs)[rows]


def evaluated(mesh, read=True):
    """The metrics of a network that is not trained, on 13 examples, of which labels are NaN."""
    problem, split = make_problem(), make_split(13, labelled=0.7)
    prepared = evaluation.prepare(problem, source(split, []) if read else split, mesh)
    return evaluation.evaluate(problem, *problem.init(jax.random.key(0)), prepared, 32)


def sums_by_one(mesh):
    """The sums behind the metrics of a hundred batches of four, asked for at once."""
    problem = make_problem()
    prepared = evaluation.prepare(problem, make_split(400, labelled=0.7), mesh)
    network = problem.init(jax.random.key(0))
    return jax.tree.map(np.asarray, evaluation.sums_of_batches(problem, network, prepared, 1))


def trained_in_parts(folder):
    """The network of PLAN, which is interrupted once, of which each device holds a quarter."""
    config = dataclasses.replace(CONFIG, mesh=(1, 4), shard_parameters=True, checkpoint_seconds=0.0)
    folders = {'checkpoints': lambda plan: folder / plan.name}
    stopped = []

    def interrupt(record):
        stopped.append(record)
        if record.step == 8:
            raise OSError('interrupted')

    try:
        trained(splits(), config, **folders, on_record=interrupt)
    except OSError:
        assert [record.step for record in stopped] == [4, 8]
    return trained(splits(), config, **folders)


def predicted(mesh, in_parts):
    """Outputs of a network that is not trained; each process predicts for itself."""
    problem = make_problem()
    network = problem.init(jax.random.key(0))
    predict = evaluation.predictor(problem, *network, 5, mesh, in_parts)
    return predict(make_split(13).inputs)


def number(row, mask=None):
    return Split(np.float32(row), {'sign': np.int32(0)}, mask)


# Examples of which the first process reads the last six of nine, each of them different there.
DIFFERENT = {
    'masks': lambda row: number(row, {'sign': np.True_} if row > 2 else None),
    'dtypes': lambda row: number(row)._replace(inputs=np.int32(row) if row > 2 else np.float32(0)),
    'shapes': lambda row: number(row)._replace(inputs=np.zeros(2 + (row > 2), np.float32)),
    'targets': lambda row: number(row) if row > 2 else number(row)._replace(targets={}),
}


def failing(error):
    """Fails to decode the last example, which the first process is to read."""

    def decode(row):
        if row == 8:
            raise error
        return number(row)

    return decode


def without_training(process):
    """What processes agree on, what they read, and metrics of a network that is not trained."""
    return {
        'said': parallel.each_says(lambda: process),
        'first': parallel.first_says(lambda: [process, 'ä']),
        'any': parallel.any_process(process == 1, False),
        'evaluated': evaluated(parallel.make_mesh((1, 4))),
        'window': read_in_windows(number),
        'damaged': read_in_windows(failing(OSError('damaged'))),
        'strange': read_in_windows(failing(KeyError('strange'))),
        **{name: read_in_windows(decode) for name, decode in DIFFERENT.items()},
    }


def with_training(process, file):
    """What two networks come to that both processes train, and more ways to evaluate."""
    rows_read = [[], []]
    sources = [source(*found) for found in zip(splits(), rows_read, strict=True)]
    return {
        'trained': trained(sources, dataclasses.replace(CONFIG, mesh=(1, 4))),
        'rows_read': rows_read,
        'trained_in_parts': trained_in_parts(pathlib.Path(file).parent / 'checkpoints'),
        'predicted_in_parts': predicted(parallel.make_mesh((1, 4)), True),
        'evaluated_in_memory': evaluated(parallel.make_mesh((1, 4)), read=False),
        'sums': [sums_by_one(parallel.make_mesh((1, 4))) for _ in range(2)][-1],
        'evaluated_alone': [evaluated(mesh) for mesh in (None, own_mesh())] if process else None,
    }


def main(port, process, file, *short):
    process = int(process)
    jax.distributed.initialize(f'localhost:{port}', 2, process)
    found = without_training(process)
    if not short:
        found |= with_training(process, file)
    with open(file, 'wb') as opened:
        pickle.dump(found, opened)
    flags.FLAGS(['', f'--workdir={file}'])
    with processes.together(), launch.resumable(file):
        if process == 1:
            signal.raise_signal(signal.SIGTERM)
        parallel.any_process(False)


if __name__ == '__main__':
    main(*sys.argv[1:])
