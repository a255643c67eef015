"""The bytes that a step moves between devices, and what follows for up to 64 of them, on paper.

    python -m experiments.benchmarks.scaling [--encoders=mlp,celeba] [--num_tasks=9]

The batch lies over a mesh of eight devices of this machine's CPU, each with the batch of
`encoders.ENCODERS` as its share. The bytes that its devices reduce in a step are read from the
compiled program; the time of a step is measured on one device with its share of the batch. The
efficiency of D devices is then

    t / (t + 2 (D - 1) / D x bytes / bandwidth),

a ring that reduces while nothing is computed, at no latency: the share of D times the throughput of
one device. It is given for devices as fast as this machine with 10 Gbit/s between them, and for
--faster times as fast ones with --links GB/s. Steps: equal weights, MGDA-UB, and measuring exact
affinities.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from experiments.benchmarks import encoders, timing
from tag_jax import affinity, gradients, parallel, weighting
from tag_jax.launchers import launch

flags.DEFINE_list('encoders', ['mlp', 'celeba'], f'Of {", ".join(encoders.ENCODERS)}.')
flags.DEFINE_integer('num_tasks', 9, 'Number of tasks.')
flags.DEFINE_integer('rounds', 11, 'Times that each is timed.')
flags.DEFINE_float('faster', 1000, 'Of an accelerator: how many times as fast as this machine.')
flags.DEFINE_float('links', 50, 'Between accelerators: GB/s in each direction.')

FLAGS = flags.FLAGS

HOST_DEVICES = 8
DEVICES = (2, 8, 64)
ETHERNET = 1.25e9  # Bytes a second: 10 Gbit/s.

_REDUCTION = re.compile(r'= (.*?) all-reduce(?:-start)?\(')
_ARRAY = re.compile(r'f(16|32|64)\[([\d,]*)\]')


def main():
    jax.config.update('jax_num_cpu_devices', HOST_DEVICES)
    print(f'{jax.devices()[0].device_kind}; {FLAGS.num_tasks} tasks')
    counts = ''.join(f'{count:>8}' for count in DEVICES)
    print(f'{"":34} {"ms":>8} {"MB":>7}  Ethernet:{counts}  accelerators:{counts}')
    for name in FLAGS.encoders:
        encoder, shape = launch.choose('encoder', name, encoders.ENCODERS)
        problem, batch = encoders.make_problem(encoder, shape, FLAGS.num_tasks)
        for step_name, step in steps(problem).items():
            moved = bytes_reduced(problem, step, batch)
            seconds = time_of(problem, step, batch)
            slow = efficiencies(seconds, moved, ETHERNET)
            fast = efficiencies(seconds / FLAGS.faster, moved, FLAGS.links * 1e9)
            print(
                f'{name + ", " + step_name:34} {1e3 * seconds:8.1f} {moved / 1e6:7.2f}  {"":9}'
                + ''.join(f'{one:8.3f}' for one in slow)
                + f'  {"":13}'
                + ''.join(f'{one:8.3f}' for one in fast),
                flush=True,
            )


def steps(problem):
    """`{name: (params, model_state, batch) -> arrays}`."""

    def train(weigh, params, state, batch):
        transform = optax.chain(weigh, optax.adam(1e-3))
        by_task, state = gradients.task_gradients(problem, params, state, batch)
        updates, _ = transform.update(by_task, transform.init(params), params)
        return optax.apply_updates(params, updates), state

    return {
        'equal weights': functools.partial(train, weighting.equal()),
        'MGDA-UB': functools.partial(train, weighting.mgda_ub()),
        'exact affinities': lambda params, state, batch: affinity.inter_task_affinity(
            problem, params, state, batch, 1e-3
        ),
    }


def bytes_reduced(problem, step, batch):
    """Bytes of floating-point numbers that each device has reduced over all of them in a step."""
    mesh = parallel.make_mesh((1, HOST_DEVICES))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (parallel.BATCH,)))
    many = jax.tree.map(lambda x: jnp.tile(x, (HOST_DEVICES, *(1,) * (x.ndim - 1))), batch)
    jitted = jax.jit(step, in_shardings=(whole, whole, split), out_shardings=whole)
    text = jitted.lower(*problem.init(jax.random.key(0)), many).compile().as_text()
    sizes = (
        int(bits) // 8 * np.prod([int(length) for length in shape.split(',') if length])
        for shapes in _REDUCTION.findall(text)
        for bits, shape in _ARRAY.findall(shapes)
    )
    return float(sum(sizes))


def time_of(problem, step, batch):
    """Seconds of a step on one device, the median over rounds."""
    arguments = *problem.init(jax.random.key(0)), batch
    compiled, _ = timing.compile_timed(step, *arguments)
    call = functools.partial(compiled, *arguments)
    return float(np.median(timing.side_by_side({'step': call}, FLAGS.rounds)['step']))


def efficiencies(seconds, moved, bandwidth):
    """For every number of devices, the share of that many times the throughput of one."""
    return [seconds / (seconds + 2 * (n - 1) / n * moved / bandwidth) for n in DEVICES]


if __name__ == '__main__':
    launch.launch(main)
