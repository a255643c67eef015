"""The cost of inter-task affinities: time, compiled FLOPs and memory, beside a plain training step.

    python -m experiments.benchmarks.affinity [--tasks=2,5,9,20,40] [--encoders=mlp,small,celeba]

One process. The plain step is `jax.grad` of the summed losses and Adam; measuring is a pass of its
own, so a run that measures at every step costs one plus the ratio, at every tenth step one plus a
tenth of it. Ratios are medians over rounds (`benchmarks.timing`). The encoders: 'mlp', two dense
layers on batches of 256 x 144; 'small', two convolutions and a dense layer on 64 x 32 x 32 x 3;
'celeba', the network of the TAG authors for CelebA on 64 x 64 x 64 x 3; 'small_xla' and
'celeba_xla', the same with XLA's own gradients of convolutions and pooling. The bounds of the last
column count a backward pass as two forward passes: (1 + 3T) / 3 plain steps for exact affinities,
(1 + 2T) / 3 for first order. 'exact, as in training' is what `slots.in_pieces` does. With torch
(`pip install -e '.[bench]'`) the same exact affinities are measured in PyTorch, in units of its own
plain step and of our time. --clock=cpu measures the processor time of the process instead of the
time that passes: run so on one core (`taskset -c 0`) it hardly depends on other work, and PyTorch's
threads do not wait for each other.

--compile prints the compile times of measuring exactly on the small encoder as training does it,
where convolutions run on CPU: in one call up to nine tasks, three source tasks a call beyond.
"""

import functools
import importlib.util

import jax
import numpy as np
from absl import flags

from experiments.benchmarks import encoders, steps, timing
from tag_jax import affinity, gradients
from tag_jax.launchers import launch
from tag_jax.training import slots

flags.DEFINE_list('tasks', ['2', '5', '9', '20', '40'], 'Numbers of tasks.')
flags.DEFINE_list('encoders', ['mlp', 'small', 'celeba'], f'Of {", ".join(encoders.ENCODERS)}.')
flags.DEFINE_integer('rounds', 11, 'Times that each is timed.')
flags.DEFINE_integer('most_unrolled', 20, 'Most tasks for which convolutions are unrolled at once.')
flags.declare_key_flag('clock')
flags.DEFINE_bool('compile', False, 'Compile times of the way that training takes, only.')

FLAGS = flags.FLAGS
AS_TRAINING = 'exact, as in training'


def main():
    print(f'{jax.devices()[0].device_kind}, {jax.default_backend()}')
    sizes = [int(size) for size in FLAGS.tasks]
    if FLAGS.compile:
        for size in sizes:
            print_compile_time(size)
        return
    for name in FLAGS.encoders:
        encoder, shape = launch.choose('encoder', name, encoders.ENCODERS)
        for size in sizes:
            measure(name, size, *encoders.make_problem(encoder, shape, size))


def measure(name, size, problem, batch):
    """Prints the ratios for one encoder and number of tasks."""
    params, state = problem.init(jax.random.key(0))
    arguments = params, state, batch
    adam, step = steps.plain_step(problem, state)
    functions = {'plain step': lambda params, _, batch: step(params, adam.init(params), batch)}
    for kind in affinity.KINDS:
        functions[kind] = functools.partial(measured, problem, (kind,), None)
    functions['all kinds'] = functools.partial(measured, problem, affinity.KINDS, None)
    unrolled = gradients.preferred_batching(problem, params, state, batch.inputs) == 'unroll'
    if not unrolled:
        functions['exact, four at a time'] = functools.partial(measured, problem, ('exact',), 4)
    if unrolled and size > FLAGS.most_unrolled:
        functions = {'plain step': functions['plain step']}
    compiled, compiling = {}, {}
    for kind, function in functions.items():
        compiled[kind], compiling[kind] = timing.compile_timed(function, *arguments)
    calls = {kind: functools.partial(one, *arguments) for kind, one in compiled.items()}
    if unrolled:
        calls[AS_TRAINING] = lambda: in_pieces(problem, *arguments)
    seconds = timing.side_by_side(calls, FLAGS.rounds, timing.clock())
    plain = seconds['plain step']
    print(f'\n{name}, {size} tasks')
    print(f'{"":24} {"ms":>8} {"time":>6} {"FLOPs":>6} {"MB":>6} {"compile, s":>10} {"bound":>6}')
    flops = compiled['plain step'].cost_analysis()['flops']
    for kind in calls:
        line = timing.row(kind, seconds[kind], plain)
        if kind in compiled:
            share = compiled[kind].cost_analysis()['flops'] / flops
            memory = compiled[kind].memory_analysis().temp_size_in_bytes / 1e6
            line += f' {share:6.2f} {memory:6.0f} {compiling[kind]:10.1f}'
        else:
            line += ' ' * 25
        bound = {'exact': (1 + 3 * size) / 3, 'first_order': (1 + 2 * size) / 3}
        print(line + (f' {bound[kind]:6.2f}' if kind in bound else ''), flush=True)
    if importlib.util.find_spec('torch') and not name.endswith('_xla'):
        print_torch(name, batch, np.median(seconds['exact' if 'exact' in calls else AS_TRAINING]))


def print_torch(name, batch, ours):
    """Prints the same measurement in PyTorch; the last column is its time in units of ours."""
    from experiments.benchmarks import torch_affinity

    seconds = timing.side_by_side(torch_affinity.calls(name, batch), FLAGS.rounds, timing.clock())
    plain = seconds['PyTorch plain']
    for way, taken in seconds.items():
        line = timing.row(way, taken, plain)
        versus = '' if way == 'PyTorch plain' else f'   {np.median(taken) / ours:.2f} x ours'
        print(line + versus, flush=True)


def measured(problem, kinds, batching, params, state, batch, sources=None):
    return affinity.inter_task_affinities(
        problem, params, state, batch, 1e-3, kinds, sources=sources, batching=batching
    )


@functools.partial(jax.jit, static_argnums=0)
def piece(problem, params, state, batch, sources=None):
    return measured(problem, ('exact',), 'unroll', params, state, batch, sources)['exact']


def in_pieces(problem, params, state, batch):
    """Exact affinities as training takes them where passes are unrolled."""
    return slots.in_pieces(
        lambda sources: piece(problem, params, state, batch, sources), len(problem.task_names)
    )


def print_compile_time(size):
    problem, batch = encoders.make_problem(*encoders.ENCODERS['small'], size)
    arguments = *problem.init(jax.random.key(0)), batch
    sources = None
    if size > slots.TASKS_IN_ONE_CALL:
        sources = np.eye(slots.SOURCES_A_CALL, size, dtype=np.float32)
    _, seconds = timing.compile_timed(functools.partial(piece, problem), *arguments, sources)
    print(f'{size} tasks: {seconds:.1f} s', flush=True)


if __name__ == '__main__':
    launch.launch(main)
