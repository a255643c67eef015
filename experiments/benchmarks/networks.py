"""Many networks trained at once: throughput of the engine.

    python -m experiments.benchmarks.networks [--networks=32] [--steps=500] [--rounds=3]

trains networks for sets of the tasks of MultiDigits without early stopping, in three ways, in one
process: by `training.train_networks`; one after another, each in scanned chunks (one slot, one
worker); and one after another in a Python loop over a jitted step. It prints milliseconds a
network-step, medians over rounds, the ratios to the engine, and how long all 255 sets of tasks
would take for 3,000 steps. Evaluation on the validation split is part of the first two.
"""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from tag_jax import data, gradients, training
from tag_jax.grouping.task_sets import all_sets
from tag_jax.launchers import compiled, launch, networks
from tag_jax.problem import Batch

flags.DEFINE_integer('networks', 32, 'Networks of the engine; an eighth of them in the others.')
flags.DEFINE_integer('rounds', 3, 'Times that each is timed.')
flags.DEFINE_integer('steps', 500, 'Of each network.')
flags.declare_key_flag('widths')
flags.adopt_module_key_flags(compiled)

FLAGS = flags.FLAGS


def main():
    dataset = data.multi_digits()
    problem = networks.make_problem(dataset)
    steps = FLAGS.steps
    config = training.TrainingConfig(steps=steps, patience=0)
    sets = all_sets(problem.task_names)
    plans = [
        training.NetworkPlan(str(n), sets[n], n, config.learning_rate)
        for n in np.random.default_rng(0).choice(len(sets), FLAGS.networks, replace=False)
    ]
    few = plans[: max(1, len(plans) // 8)]
    one_by_one = dataclasses.replace(config, slots=1, workers=1)
    ways = {
        'engine': (functools.partial(train, problem, dataset, plans), config, len(plans)),
        'scanned, one by one': (
            functools.partial(train, problem, dataset, few),
            one_by_one,
            len(few),
        ),
        'Python loop, one by one': (
            functools.partial(loop, problem, dataset, few),
            config,
            len(few),
        ),
    }
    seconds = {name: [] for name in ways}
    for round_ in range(FLAGS.rounds + 1):
        for name, (way, settings, count) in ways.items():
            began = time.perf_counter()
            way(settings)
            if round_:  # The first round compiles.
                seconds[name].append((time.perf_counter() - began) / count / steps)
    engine = np.array(seconds['engine'])
    for name, found in seconds.items():
        print(
            f'{name:24} {1e3 * np.median(found):6.3f} ms a network-step, '
            f'{np.median(np.array(found) / engine):5.2f} x the engine'
        )
    print(f'255 networks x 3,000 steps: {255 * 3000 * np.median(engine):.0f} s')


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
