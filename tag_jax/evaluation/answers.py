"""Outputs of networks in batches, and what an encoder computes for one example."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tag_jax import models, parallel, sharding
from tag_jax.problem import MultiTaskProblem
from tag_jax.problem.unfit import taking


def predictor(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch_size: int,
    mesh: Mesh | None = None,
    shard_parameters: Any = False,
) -> Callable[[Any], dict[str, Any]]:
    """A trained network as a function `inputs [N, ...] -> {task: NumPy output [N, ...]}`.

    Args:
      problem: a `MultiTaskProblem`.
      params, model_state: of one network.
      batch_size: examples a pass.
      mesh: the devices that parameters in parts lie over; None for one. Of several processes each
        predicts for itself, with its own devices.
      shard_parameters: see `TrainingConfig.shard_parameters`; whole ones are used on one device.

    Raises:
      ValueError: from the function, if there are no examples, or the network cannot take them.
    """
    own = parallel.own_mesh(mesh)
    parts = sharding.parts_of(problem, own, shard_parameters)
    own = own if parts else None
    devices = parallel.size(own, parallel.BATCH)
    batch_size = -(-batch_size // devices) * devices

    def predict(network, inputs):
        with taking('the network', inputs):
            return _predict(problem, network, inputs, own)

    def predict_all(inputs):
        # On the devices for as long as this takes: others may need their memory.
        network = params, model_state
        network = sharding.place(own, parts, network) if parts else network
        return in_batches(functools.partial(predict, network), inputs, batch_size)

    return predict_all


def in_batches(function: Callable, inputs: Any, batch_size: int) -> Any:
    """Applies a function to N examples in batches of one size, so that it is compiled once.

    The last batch is filled up with copies of its first example, whose results are dropped.

    Args:
      function: pytree of `[batch_size, ...]` -> pytree of `[batch_size, ...]`.
      inputs: pytree of arrays `[N, ...]`, N at least 1.
      batch_size: examples a batch.

    Returns:
      Pytree of NumPy arrays `[N, ...]`.

    Raises:
      ValueError: if there are no examples, or not as many in all arrays.
    """
    sizes = {np.shape(x)[:1] for x in jax.tree.leaves(inputs)}
    if len(sizes) != 1 or () in sizes:
        found = ' and '.join(str(*size) if size else 'a single number' for size in sorted(sizes))
        raise ValueError(f'inputs must be arrays of as many examples, one a row, not of {found}')
    ((size,),) = sizes
    if not size:
        raise ValueError('there are no examples to predict for')
    results = []
    for start in range(0, size, batch_size):
        rows = np.arange(start, start + batch_size)
        rows = np.where(rows < size, rows, start)
        results.append(function(jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], inputs)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:size], *results)


def encoder_cost(problem: MultiTaskProblem, inputs: Any) -> int:
    """Multiply-adds of the encoder for one example at inference: see `models.multiply_adds_of`.

    The papers' budgets are in the time of a standard network; by this count it is the same on every
    device.

    Args:
      problem: a `MultiTaskProblem`.
      inputs: `[N, ...]`; only shapes matter.
    """
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    encode = lambda params, state, x: problem.represent(params, state, x, False, None)[0]
    return models.multiply_adds_of(encode, *problem.shapes, one)


@functools.partial(jax.jit, static_argnames=('problem', 'mesh'))
def _predict(problem, network, inputs, mesh):
    return problem.predict(*network, parallel.constrain(mesh, inputs, parallel.BATCH))
