"""How often a step raises some task's loss to first order, on MultiDigits.

    python -m experiments.benchmarks.descent [--steps=1000] [--seeds=3]

Trains the MLP of the main job with Adam behind each weighting, on the two digits and on all eight
tasks, and looks at every step's combined gradient d in the space of the shared parameters: the
share of steps at which cos(g_t, d) < -0.001 for some task t, and the mean number of such tasks a
step. What the safeguard costs is for benchmarks.weighting.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from tag_jax import data, gradients, training, weighting
from tag_jax.launchers import common, launch, networks
from tag_jax.problem import Batch

flags.DEFINE_integer('seeds', 3, 'Networks for each weighting.')
flags.adopt_module_key_flags(common)

FLAGS = flags.FLAGS

WEIGHTINGS = {
    'equal': weighting.equal,
    'mgda_ub': weighting.mgda_ub,
    'mgda_ub, safeguard=1': functools.partial(weighting.mgda_ub, safeguard=1),
    'mgda_ub, safeguard=2': functools.partial(weighting.mgda_ub, safeguard=2),
    'mgda_ub, safeguard=T': None,
    'mgda': weighting.mgda,
}


def main():
    whole = data.multi_digits()
    config = common.training_config(whole)
    for tasks in (('left_digit', 'right_digit'), None):
        dataset = whole if tasks is None else whole.only(tasks)
        problem = networks.make_problem(dataset)
        size = len(problem.task_names)
        print(f'\n{size} tasks, {config.steps} steps, {FLAGS.seeds} seeds')
        print(f'{"weighting":24} {"steps that raise a loss":>24} {"tasks a step":>13}')
        for name, make in WEIGHTINGS.items():
            make = make or functools.partial(weighting.mgda_ub, safeguard=size)
            transform = optax.chain(make(), optax.adam(config.learning_rate))
            cosines = np.concatenate(
                [
                    run(problem, dataset.train, transform, config, seed)
                    for seed in range(FLAGS.seeds)
                ]
            )
            raised = cosines < -1e-3
            print(
                f'{name:24} {raised.any(axis=1).mean():24.1%} {raised.sum(axis=1).mean():13.2f}',
                flush=True,
            )


def run(problem, split, transform, config, seed):
    """cos(g_t, d) at every step of a training run, `[steps, T]`."""
    step, state = stepper(problem, transform, seed)
    found = []
    for n in range(config.steps):
        state, cosines = step(state, batch_of(split, config.batch_size, seed, n))
        found.append(cosines)
    return np.stack(jax.device_get(found))


def stepper(problem, transform, seed):
    """A jitted training step, and the state to start from."""
    params, model_state = problem.init(jax.random.key(seed))

    @jax.jit
    def step(state, batch):
        params, opt_state = state
        by_task, _ = gradients.task_gradients(problem, params, model_state, batch)
        updates, new_opt_state = transform.update(by_task, opt_state, params)
        # What the weighting weighed, read from its state, gives its direction.
        stack = by_task.shared()
        direction = gradients.weighted_sum(optax.tree.get(new_opt_state, 'weights'), stack)
        direction = jax.tree.map(lambda g: g[None], direction)
        cosines = gradients.cosines(stack, direction)[:, 0]
        return (optax.apply_updates(params, updates), new_opt_state), cosines

    return step, (params, transform.init(params))


def batch_of(split, batch_size, seed, step):
    """The batch of one step, as training draws it."""
    rows = training.batch_rows(seed, step, batch_size, len(split.inputs))
    take = lambda array: jnp.asarray(array[rows])
    return Batch(take(split.inputs), {task: take(t) for task, t in split.targets.items()})


if __name__ == '__main__':
    launch.launch(main)
