"""A dense encoder. The heads that go with it are single `nnx.Linear` layers."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from tag_jax.models.layers import scaled


class MLP(nnx.Module):
    """Dense layers with ReLU, on flattened inputs.

    Args:
      num_inputs: entries of one example, whatever its shape.
      widths: units of each layer; the last is the width of the representation.
      width: multiplies the units of every layer.
      dtype: of the computation, bfloat16 say; parameters are float32.
      rngs: for the initial parameters.

    Attributes:
      num_features: of the representation.

    Called with inputs `[B, ...]`, returns a representation `[B, num_features]`.
    """

    def __init__(
        self,
        num_inputs: int,
        widths: Sequence[int],
        *,
        width: float = 1.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        sizes = (num_inputs, *(scaled(units, width) for units in widths))
        self.num_features = sizes[-1]
        self.layers = nnx.List(
            nnx.Linear(size, units, dtype=dtype, rngs=rngs)
            for size, units in itertools.pairwise(sizes)
        )

    def __call__(self, inputs: jax.Array) -> jax.Array:
        hidden = jnp.reshape(inputs, (inputs.shape[0], -1))
        for layer in self.layers:
            hidden = nnx.relu(layer(hidden))
        return hidden
