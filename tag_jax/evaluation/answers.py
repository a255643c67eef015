"""Outputs of networks in batches, and what an encoder computes for one example."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tag_jax import models
from tag_jax.evaluation.unfit import UNFIT, first_line
from tag_jax.problem import MultiTaskProblem


def predictor(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch_size: int,
) -> Callable[[Any], dict[str, Any]]:
    """A trained network as a function `inputs [N, ...] -> {task: NumPy output [N, ...]}`.

    Args:
      problem: a `MultiTaskProblem`.
      params, model_state: of one network.
      batch_size: examples a pass.

    Raises:
      ValueError: from the function, if there are no examples, or the network cannot take them.
    """

    def predict(inputs):
        try:
            return _predict(problem, params, model_state, inputs)
        except UNFIT as error:
            shapes = {str(['N', *np.shape(x)[1:]]) for x in jax.tree.leaves(inputs)}
            shapes = ' and '.join(sorted(shapes)).replace("'", '')
            raise ValueError(
                f'the network cannot take inputs of shape {shapes}: {first_line(error)}'
            ) from error

    return lambda inputs: in_batches(predict, inputs, batch_size)


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


@functools.partial(jax.jit, static_argnames='problem')
def _predict(problem, params, model_state, inputs):
    return problem.predict(params, model_state, inputs)
