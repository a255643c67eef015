"""Many networks trained at once: throughput of the engine, and how far it is from arithmetic.

    python -m experiments.benchmarks.networks [--networks=32] [--steps=500] [--rounds=3]

trains networks for sets of the tasks of MultiDigits without early stopping, in three ways, in one
process: by `training.train_networks`; one after another, each in scanned chunks (one slot, one
worker); and one after another in a Python loop over a jitted step. It prints milliseconds a
network-step, medians over rounds, the ratios to the engine, and how long all 255 sets of tasks
would take for 3,000 steps. Evaluation on the validation split is part of the first two.

Among the ways stands the arithmetic floor on this machine: the same matrix products, batched over
the slots, and one pass of Adam over parameters and moments. A table follows, for several numbers of
slots (--candidates=4,8,16) and threads: the compiled program that the engine runs, without batches
being drawn and without evaluation, and its floor. The last line is the choice of
`slots='measure'`. All is timed in turns, so that ratios stay on a busy machine; with --clock=cpu
the times are those of processors.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments.benchmarks import floor, timing
from tag_jax import data, examples, gradients, training
from tag_jax.grouping.task_sets import all_sets
from tag_jax.launchers import compiled, launch, networks
from tag_jax.problem import Batch
from tag_jax.training import measured
from tag_jax.training.work import make_work

flags.DEFINE_integer('networks', 32, 'Networks of the engine; an eighth of them in the others.')
flags.DEFINE_integer('rounds', 3, 'Times that each is timed.')
flags.DEFINE_integer('steps', 500, 'Of each network.')
flags.DEFINE_list(
    'candidates', list(map(str, measured.CANDIDATES)), 'Numbers of slots that the table has.'
)
for name in ('widths', 'clock'):
    flags.declare_key_flag(name)
flags.adopt_module_key_flags(compiled)

FLAGS = flags.FLAGS
FLOOR = PRODUCTS, OPTIMIZER = 'matrix products', 'pass of the optimizer'


def main():
    dataset = data.multi_digits()
    problem = networks.make_problem(dataset)
    config = training.TrainingConfig(steps=FLAGS.steps, patience=0)
    engine = compare_ways(problem, dataset, config)
    print(f'255 networks x 3,000 steps: {255 * 3000 * engine:.0f} s')
    compare_candidates(problem, dataset, config)
    asked = dataset.train, dataset.validation, 255, config
    chosen = training.measured_slots(problem, *asked)
    print(
        f"slots='measure', 255 networks x {config.steps:,} steps: {chosen.slots} slots, "
        f'{chosen.workers} threads' + ' (the usual ones: not measured)' * (not chosen.milliseconds)
    )


def compare_ways(problem, dataset, config):
    """Prints the time of every way; returns the seconds of a network-step of the engine."""
    sets = all_sets(problem.task_names)
    plans = [
        training.NetworkPlan(str(n), sets[n], n, config.learning_rate)
        for n in np.random.default_rng(0).choice(len(sets), FLAGS.networks, replace=False)
    ]
    few = plans[: max(1, len(plans) // 8)]
    one_by_one = dataclasses.replace(config, slots=1, workers=1)
    inputs = examples.input_shapes(dataset.train)
    slots = training.num_slots(problem, len(plans), inputs, config)
    workers = training.num_workers(config, len(plans), slots)
    ways = {
        'engine': (functools.partial(train, problem, dataset, plans, config), len(plans)),
        'scanned, one by one': (
            functools.partial(train, problem, dataset, few, one_by_one),
            len(few),
        ),
        'Python loop, one by one': (
            functools.partial(loop, problem, dataset, few, config),
            len(few),
        ),
    }
    calls = floor_calls(problem, dataset, config, slots, config.steps)
    for name, call in calls.items():
        ways[name] = functools.partial(call, workers), slots * workers
    seconds = timed({name: (way, count * config.steps) for name, (way, count) in ways.items()})
    for name, found in seconds.items():
        print(
            f'{name:24} {1e3 * np.median(found):6.3f} ms a network-step, '
            f'{np.median(found / seconds["engine"]):5.2f} x the engine'
        )
    least = sum(seconds[name] for name in FLOOR)
    print(f'the engine is {np.median(seconds["engine"] / least):.2f} x the arithmetic floor')
    return np.median(seconds['engine'])


def compare_candidates(problem, dataset, config):
    """Prints the time of the program and of its floor for every number of slots and threads."""
    products = floor.products_of(problem, dataset.train, config.batch_size)
    operations = sum(product.operations for product in products)
    splits, ways = (dataset.train, dataset.validation, None), {}
    for slots in map(int, FLAGS.candidates):
        own = dataclasses.replace(config, slots=slots)
        work = make_work(problem, splits, own, FLAGS.networks)
        calls = {'program': measured.stepping(work, slots, work.chunk)}
        calls |= floor_calls(problem, dataset, config, slots, work.chunk)
        for workers in sorted({max(1, work.num_workers // 2), work.num_workers}):
            for name, call in calls.items():
                steps = slots * workers * work.chunk
                ways[slots, workers, name] = functools.partial(call, workers), steps
    seconds = timed(ways)
    print(f'{len(products)} matrix products, {operations / 1e6:.1f} million operations a step')
    print('slots threads  program  products  optimizer  program / floor, ms a network-step')
    for slots, workers in dict.fromkeys(way[:2] for way in ways):
        program, *parts = (seconds[slots, workers, name] for name in ('program', *FLOOR))
        found = ' '.join(f'{1e3 * np.median(one):9.3f}' for one in (program, *parts))
        print(f'{slots:5} {workers:7} {found} {np.median(program / sum(parts)):10.2f}')


def floor_calls(problem, dataset, config, slots, steps):
    """`{part of the floor: function of a number of threads}`."""
    products = floor.products_of(problem, dataset.train, config.batch_size)
    return {
        PRODUCTS: floor.multiplying(products, slots, steps),
        OPTIMIZER: floor.updating(problem, slots, steps),
    }


def timed(ways):
    """Seconds a network-step `{name: [rounds]}` of `{name: (call, network-steps)}`, in turns."""
    now, seconds = timing.clock(), {name: [] for name in ways}
    for round_ in range(FLAGS.rounds + 1):
        for name, (way, count) in ways.items():
            began = now()
            way()
            if round_:  # The first round compiles.
                seconds[name].append((now() - began) / count)
    return {name: np.array(found) for name, found in seconds.items()}


def train(problem, dataset, plans, config):
    training.train_networks(problem, dataset.train, dataset.validation, plans, config)


def loop(problem, dataset, plans, config):
    """A jitted step in a Python loop, with the batch taken on the host."""
    adam = optax.adam(config.learning_rate)
    step = _step_of(problem, config.learning_rate)
    split = dataset.train
    for plan in plans:
        params, state = problem.init(jax.random.key(plan.seed))
        opt_state = adam.init(params)
        mask = jnp.array([task in plan.tasks for task in problem.task_names])
        for n in range(config.steps):
            rows = training.batch_rows(plan.seed, n, config.batch_size, len(split.inputs))
            targets = {task: target[rows] for task, target in split.targets.items()}
            batch = Batch(split.inputs[rows], targets)
            params, opt_state = step(params, opt_state, state, batch, mask)
        jax.block_until_ready(params)


@functools.lru_cache
def _step_of(problem, learning_rate):
    adam = optax.adam(learning_rate)

    @jax.jit
    def step(params, opt_state, state, batch, mask):
        total = lambda p: jnp.sum(
            jnp.where(mask, gradients.task_losses(problem, p, state, batch)[0], 0)
        )
        updates, opt_state = adam.update(jax.grad(total)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


if __name__ == '__main__':
    launch.launch(main)
