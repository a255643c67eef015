"""The seconds that a training run compiles for, by part and by number of tasks.

    python -m experiments.benchmarks.compiling [--tasks=6,20,40]

One process, nothing from a cache. Two dense layers on batches of 256 x 144, a dense head a task,
Adam, eight networks side by side: the first state of a network, the steps between two evaluations,
and an evaluation. Each is traced and compiled --rounds times; the median counts. Totals stand
beside that of the first number of tasks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments.benchmarks import encoders, timing
from tag_jax import weighting
from tag_jax.evaluation.scores import batch_sums
from tag_jax.launchers import launch
from tag_jax.training import slots
from tag_jax.training.program import Program, Schedule

flags.DEFINE_list('tasks', ['6', '20', '40'], 'Numbers of tasks.')
flags.DEFINE_integer('rounds', 3, 'Times that each is compiled.')

FLAGS = flags.FLAGS
NETWORKS, STEPS = 8, 100
PARTS = ('first state', 'training', 'evaluation')


def main():
    jax.config.update('jax_enable_compilation_cache', False)
    print(f'{jax.devices()[0].device_kind}, {jax.default_backend()}')
    print(f'{"tasks":>5} ' + ' '.join(f'{part:>12}' for part in (*PARTS, 'total')) + ' ratio')
    first = None
    for size in map(int, FLAGS.tasks):
        seconds = np.median([seconds_of(size) for _ in range(FLAGS.rounds)], axis=0)
        total = seconds.sum()
        first = first or total
        line = ' '.join(f'{one:12.2f}' for one in (*seconds, total))
        print(f'{size:5} {line} {total / first:5.2f}', flush=True)


def seconds_of(size):
    """The seconds of each of PARTS for a number of tasks, of a problem that was never compiled."""
    problem, batch = encoders.make_problem(*encoders.ENCODERS['mlp'], size)
    program = Program(problem, weighting.equal, optax.adam, 'vmap', False, None)
    examples = len(jax.tree.leaves(batch)[0])

    def begin(seed):
        return slots.initial(program, seed, jnp.ones(size, bool), jnp.float32(0.1))

    def train(networks, batch, schedule):
        return slots.advance(program, networks, (batch, None), schedule)

    def evaluate(network, batch):
        return batch_sums(problem, network, batch, np.ones(examples, bool))

    seed = np.uint32(0)
    network = jax.eval_shape(begin, seed)
    networks = jax.tree.map(lambda x: jax.ShapeDtypeStruct((NETWORKS, *x.shape), x.dtype), network)
    schedule = Schedule(
        rows=np.zeros((STEPS, NETWORKS, examples), np.int32),
        validation_rows=None,
        live=np.ones((STEPS, NETWORKS), bool),
        measure=np.zeros(STEPS, bool),
    )
    return [
        timing.compile_timed(begin, seed)[1],
        timing.compile_timed(train, networks, batch, schedule)[1],
        timing.compile_timed(evaluate, network.best, batch)[1],
    ]


if __name__ == '__main__':
    launch.launch(main)
