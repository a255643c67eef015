"""What the tests of several architectures need."""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def abstract(make, *args, **options):
    """A module in evaluation mode with shapes in place of arrays."""
    module = nnx.eval_shape(lambda: make(*args, rngs=nnx.Rngs(0), **options))
    module.eval()
    return module


def num_params(module):
    """Trained parameters of a module."""
    params = jax.tree.leaves(nnx.state(module, nnx.Param))
    return sum(math.prod(param.shape) for param in params)


def output_shape(module, input_shape):
    """The shape of what a module returns for one example, nothing computed."""
    example = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return nnx.eval_shape(lambda module, x: module(x), module, example).shape[1:]


def as_dicts(module):
    """(params, other variables) as nested dicts."""
    _, params, state = nnx.split(module, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(state)


def filled(shapes):
    """Random arrays of the given shapes, in place of an `init` that takes long to compile.

    Scales and variances lie between 0.5 and 1.5; the others are normal, with deviation 0.2.
    """

    def values(path, shape):
        name = jax.tree_util.keystr(path, simple=True, separator='.')
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith(('.scale', '.var')):
            return rng.uniform(0.5, 1.5, shape.shape).astype(shape.dtype)
        return rng.normal(0, 0.2, shape.shape).astype(shape.dtype)

    return jax.tree.map_with_path(values, shapes)
