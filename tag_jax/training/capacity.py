"""How many networks train side by side, by their memory and the number of cores."""

import os
from typing import Any

import jax
import optax

from tag_jax import gradients, parallel
from tag_jax.problem import MultiTaskProblem, split_frozen
from tag_jax.training.config import EACH_TASK, MEASURE, TrainingConfig

# Slots are limited in number, and by the memory of what they hold.
MAX_SLOTS = 16
MAX_SLOT_BYTES = 2**30
# On CPU more of them in one program are no faster, and programs in several threads are.
CPU_SLOTS = 8


def num_slots(
    problem: MultiTaskProblem, num_networks: int, inputs: Any, config: TrainingConfig
) -> int:
    """How many networks train side by side in one program.

    As many as the config says, if it says a number, or else, by the problem and the number of
    networks only: one where convolutions run on CPU; for dense encoders there, up to CPU_SLOTS, so
    that there is a program for each of two cores at least; elsewhere all of them, up to MAX_SLOTS
    and MAX_SLOT_BYTES. Over a mesh, up to a multiple of the devices along it.

    Args:
      problem: a `MultiTaskProblem`.
      num_networks: K.
      inputs: example inputs `[N, ...]`; only shapes matter.
      config: a `TrainingConfig`.
    """
    devices = config.mesh[0]
    found = config.slots
    if found in (None, MEASURE):
        found = _usual_slots(problem, num_networks, inputs, config)
    return -(-found // devices) * devices


def num_workers(config: TrainingConfig, num_networks: int, slots_each: int) -> int:
    """How many threads train networks at once; one over a mesh.

    Args:
      config: a `TrainingConfig`.
      num_networks: K.
      slots_each: slots of each.
    """
    most = config.workers
    if most is None:
        most = os.cpu_count() if jax.default_backend() == 'cpu' else 1
    if config.mesh != (1, 1):
        most = 1
    return max(1, min(most, -(-num_networks // slots_each)))


def _usual_slots(problem, num_networks, inputs, config):
    if batching_of(problem, inputs) == 'unroll':
        return 1
    if jax.default_backend() == 'cpu':
        return max(1, min(-(-num_networks // 2), CPU_SLOTS))
    at_most = MAX_SLOT_BYTES // max(slot_bytes(problem, config), 1)
    return max(1, min(num_networks, MAX_SLOTS, at_most))


def slot_bytes(problem: MultiTaskProblem, config: TrainingConfig) -> int:
    """The memory that a slot takes: parameters and model state, now and at their best, and moments.

    Frozen parameters are there once for all slots, and do not count.

    Args:
      problem: a `MultiTaskProblem`.
      config: a `TrainingConfig`, for its optimizer and weighting.
    """
    params, model_state = problem.shapes
    model_state, _ = split_frozen(model_state)
    transform = optax.chain(config.weighting(), config.optimizer(config.learning_rate))
    moments = jax.eval_shape(transform.init, params)
    copies = 2 + len(problem.task_names) * (config.keep == EACH_TASK)
    held = ([params, model_state] * copies, moments)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(held))


def batching_of(problem, inputs, mesh=None):
    """How networks are batched: `gradients.preferred_batching`, or vmap over a mesh of them."""
    if parallel.size(mesh, parallel.NETWORKS) > 1:
        return 'vmap'
    params, model_state = problem.shapes
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    return gradients.preferred_batching(problem, params, model_state, example)
