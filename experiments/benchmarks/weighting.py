"""The cost of task weighting: time and compiled FLOPs of a training step, beside the plain sum.

    python -m experiments.benchmarks.weighting [--tasks=2,9,40] [--rounds=31]

One process; a small convolutional encoder, batches of 64 pictures of 32 x 32 x 3, a classifier of
ten classes for each task, Adam. The plain step is `jax.grad` of the summed losses. A
method's ratio is the median over rounds of its time over the plain step's of the same round
(`benchmarks.timing`). Methods in parameter space need a backward pass for each
task and are measured up to --most_shared tasks. TorchJD's MGDA stands beside them, each against
its own framework's plain step, where torch and torchjd are installed (`pip install -e '.[bench]'`).
"""

import functools
import importlib.util

import jax
import numpy as np
from absl import flags

from experiments.benchmarks import encoders, steps, timing
from tag_jax import weighting
from tag_jax.launchers import launch

flags.DEFINE_list('tasks', ['2', '9', '40'], 'Numbers of tasks.')
flags.DEFINE_integer('rounds', 31, 'Steps timed for each method.')
flags.DEFINE_integer('most_shared', 40, 'Most tasks for methods in parameter space.')
flags.DEFINE_list('only', [], 'Methods to measure; all if empty.')

FLAGS = flags.FLAGS

IN_ONE_PASS = {
    'equal': weighting.equal,
    'mgda_ub': weighting.mgda_ub,
    'mgda_ub, Frank-Wolfe': functools.partial(weighting.mgda_ub, solver='frank_wolfe'),
    'mgda_ub, reported every 10': functools.partial(weighting.mgda_ub, report_every=10),
    'mgda_ub, safeguard of 1': functools.partial(weighting.mgda_ub, safeguard=1),
    'uncertainty': weighting.uncertainty,
    'gradnorm': weighting.gradnorm,
    'dwa': functools.partial(weighting.dwa, 100),
    'rlw': weighting.rlw,
    'famo': weighting.famo,
    'stch': weighting.stch,
    'db_mtl, beta of 0': functools.partial(weighting.db_mtl, 0, space='representation'),
    **{
        name: functools.partial(getattr(weighting, name), space='representation')
        for name in ['pcgrad', 'cagrad', 'upgrad', 'imtl_g', 'aligned_mtl', 'nash_mtl', 'fairgrad']
    },
}
SHARED = {'mgda': weighting.mgda, 'db_mtl': weighting.db_mtl}


def main():
    print(f'{jax.devices()[0].device_kind}, {jax.default_backend()}')
    for size in map(int, FLAGS.tasks):
        problem, batch = encoders.make_problem(*encoders.ENCODERS['small'], size, num_classes=10)
        methods = dict(IN_ONE_PASS)
        if size <= FLAGS.most_shared:
            methods |= SHARED
        if FLAGS.only:
            methods = {name: make for name, make in methods.items() if name in FLAGS.only}
        measure(problem, batch, methods)
        if importlib.util.find_spec('torchjd') and not FLAGS.only:
            from experiments.benchmarks import torchjd_step

            plain, ratio = torchjd_step.measure(size, batch, FLAGS.rounds)
            print(f'{"mgda of TorchJD":34} {ratio:6.2f}   of its plain step, {1e3 * plain:.1f} ms')


def measure(problem, batch, methods):
    """Prints the ratios of one number of tasks."""
    params, model_state = problem.init(jax.random.key(0))
    ways = {'plain sum': steps.plain_step(problem, model_state)}
    for name, make in methods.items():
        ways[name] = steps.weighted_step(problem, model_state, make())
    compiled, compiling, calls = {}, {}, {}
    for name, (transform, step) in ways.items():
        arguments = params, transform.init(params), batch
        compiled[name], compiling[name] = timing.compile_timed(step, *arguments)
        calls[name] = functools.partial(compiled[name], *arguments)
    seconds = timing.side_by_side(calls, FLAGS.rounds)
    plain = seconds['plain sum']
    flops = {name: step.cost_analysis()['flops'] for name, step in compiled.items()}
    print(f'\n{len(problem.task_names)} tasks; plain step {1e3 * np.median(plain):.1f} ms')
    print(f'{"method":34} {"time":>6} {"FLOPs":>6} {"compile, s":>10}')
    for name in compiled:
        ratio = np.median(seconds[name] / plain)
        share = flops[name] / flops['plain sum']
        print(f'{name:34} {ratio:6.2f} {share:6.2f} {compiling[name]:10.1f}', flush=True)


if __name__ == '__main__':
    launch.launch(main)
