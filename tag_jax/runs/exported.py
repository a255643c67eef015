"""Answering inputs: batches of one size, and trained networks kept on disk as functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')


def export_function(predict: Callable, params: Any, inputs: Any) -> bytes:
    """A prediction function as bytes that JAX can run without the code that defined it.

    The format is StableHLO (`jax.export`), for CPU, GPU and TPU. JAX promises to read it for six
    months after it was written. Parameters are no part of it: they are arguments, by name.

    Args:
      predict: `(params, inputs [B, ...]) -> {task: [B, ...]}`.
      params: pytree of arrays or shapes.
      inputs: pytree of arrays or shapes, with the batch size B that the function will have.
    """
    structure = jax.tree.structure(params)
    names = list(_by_name(params))

    def of_names(leaves, inputs):
        return predict(jax.tree.unflatten(structure, [leaves[name] for name in names]), inputs)

    struct = lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x))
    arguments = jax.tree.map(struct, (_by_name(params), inputs))
    return bytes(export.export(jax.jit(of_names), platforms=PLATFORMS)(*arguments).serialize())


def import_function(data: bytes, params: Any) -> Callable:
    """The function `inputs [B, ...] -> {task: output}` from the bytes that `export_function` gave.

    Args:
      data: the bytes.
      params: the parameters; containers may have become dicts and list indices strings on the way.

    Raises:
      ValueError: from the function, if inputs have another shape than those it was exported with.
    """
    made = export.deserialize(bytearray(data))
    function, leaves = jax.jit(made.call), _by_name(params)
    _, expected = jax.tree.unflatten(made.in_tree, made.in_avals)[0]

    def predict(inputs):
        def fitting(x, aval):
            if np.shape(x)[1:] != aval.shape[1:]:
                expected, found = (
                    ', '.join(['N', *map(str, shape[1:])]) for shape in (aval.shape, np.shape(x))
                )
                raise ValueError(f'inputs are of shape [{expected}], not [{found}]')
            return jnp.asarray(x, aval.dtype)

        return function(leaves, jax.tree.map(fitting, inputs, expected))

    return predict


def _by_name(tree):
    """`{path: leaf}` in the order of the leaves, with paths that no task name can imitate."""
    return {
        jax.tree_util.keystr(path, simple=True, separator='\x1f'): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
