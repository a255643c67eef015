"""Checks of a config against devices, data and optimizer, before any training."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tag_jax import examples, parallel, sharding
from tag_jax.data import Source, Split
from tag_jax.problem import MultiTaskProblem, names_of
from tag_jax.training.config import NetworkPlan, TrainingConfig


class AtRate(NamedTuple):
    """An optimizer at a learning rate that is a number of Python."""

    optimizer: Callable
    learning_rate: float

    def __call__(self, rate):
        del rate
        return self.optimizer(self.learning_rate)


def takes_traced_rate(problem, optimizer):
    """Whether an optimizer can be made of a learning rate that is traced."""
    params, _ = problem.shapes

    def step(rate, params):
        transform = optax.with_extra_args_support(optimizer(rate))
        return transform.update(params, transform.init(params), params, value=0.0)

    try:
        jax.eval_shape(step, jax.ShapeDtypeStruct((), np.float32), params)
    except jax.errors.ConcretizationTypeError:
        return False
    return True


def check_optimizer(
    problem: MultiTaskProblem, plans: Sequence[NetworkPlan], config: TrainingConfig
) -> None:
    """Raises ValueError where the affinities that are asked for would be those of no step.

    Args:
      problem: a `MultiTaskProblem`.
      plans: the networks to train.
      config: a `TrainingConfig`.
    """
    if config.affinity.step != 'optimizer' or not any(plan.measures_affinity for plan in plans):
        return
    params, _ = problem.shapes
    state = jax.eval_shape(config.optimizer(config.learning_rate).init, params)
    several = lambda node: isinstance(node, optax.MultiStepsState)
    if any(map(several, jax.tree.leaves(state, is_leaf=several))):
        raise ValueError(
            "affinity.step='optimizer' cannot be measured behind optax.MultiSteps, whose steps in "
            "between move nothing: take affinity.step='sgd', or a larger batch_size"
        )


def still_parameters(problem: MultiTaskProblem, config: TrainingConfig) -> tuple[str, ...]:
    """Names the parameters of the encoder that the optimizer leaves in place, while others move.

    `optax.partition` with `optax.set_to_zero` does so. Affinities of plain gradient steps
    (`Measurement.step='sgd'`) move these parameters all the same.

    Args:
      problem: a `MultiTaskProblem`.
      config: a `TrainingConfig`.

    Returns:
      Their names, such as 'dense/kernel'.
    """
    ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), problem.shapes[0])
    transform = optax.with_extra_args_support(config.optimizer(config.learning_rate))
    updates, _ = transform.update(ones, transform.init(ones), ones, value=jnp.ones(()))
    moves = {
        '/'.join(names_of(path)): bool(jnp.any(update != 0))
        for path, update in jax.tree_util.tree_leaves_with_path(updates['shared'])
        if update.size
    }
    return tuple(name for name, on in moves.items() if not on) if any(moves.values()) else ()


def check_devices(
    problem: MultiTaskProblem,
    config: TrainingConfig,
    train_split: Split | Source,
    validation_split: Split | Source,
) -> None:
    """Raises ValueError unless batches and parameters can lie over the devices of the mesh.

    Args:
      problem: a `MultiTaskProblem`.
      config: a `TrainingConfig`.
      train_split, validation_split: what networks are trained and evaluated on.
    """
    mesh = parallel.make_mesh(config.mesh)
    sharding.parts_of(problem, mesh, config.shard_parameters)
    unknown = isinstance(train_split, Source) and train_split.labelled is None
    if config.sampling != 'proportional' and unknown:
        raise ValueError(
            f'sampling={config.sampling!r} draws by task, and this data.Source does not say which '
            "examples have labels of which: give it labelled=, or take sampling='proportional'"
        )
    for split in splits_of_steps(config, train_split, validation_split):
        batch, devices = min(examples.count(split), config.batch_size), config.mesh[1]
        if batch % devices:
            raise ValueError(
                f'a batch of {batch} examples cannot be split evenly over {devices} devices: '
                'choose another batch_size, or another mesh'
            )


def splits_of_steps(config, train, validation):
    """The splits that a step takes batches of: training, and validation where affinities do."""
    return (train, validation) if config.affinity.split == 'validation' else (train,)
