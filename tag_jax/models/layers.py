"""The convolution that several encoders are made of."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.typing import DTypeLike

from tag_jax.models.convolution import conv_general_dilated

# The convolution of all our networks: with our filter gradient.
Conv = functools.partial(nnx.Conv, conv_general_dilated=conv_general_dilated)
HE_NORMAL = nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def scaled(channels: int, width: float) -> int:
    """`width` times as many channels: rounded, and never fewer than one."""
    return max(1, round(channels * width))


def convolution(
    num_inputs: int,
    num_outputs: int,
    size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    kernel_init: Callable = HE_NORMAL,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square convolution without bias, padded by the same zeros on either side as in PyTorch.

    `[B, H, W, num_inputs]` to `[B, ceil(H / stride), ceil(W / stride), num_outputs]`, for odd
    sizes. ('SAME' pads unevenly where it strides, so that weights of PyTorch would not fit.) The
    initial kernel is normal with variance 2 / (size * size * num_outputs), as in torchvision and in
    the code of Standley et al.
    """
    margin = dilation * (size - 1) // 2
    return Conv(
        num_inputs,
        num_outputs,
        (size, size),
        strides=stride,
        padding=((margin, margin), (margin, margin)),
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=kernel_init,
        dtype=dtype,
        rngs=rngs,
    )


class Normalised(nnx.Module):
    """A convolution followed by BatchNorm.

    Args:
      convolve: the convolution, a module.
      num_outputs: its output channels.
      momentum, epsilon: of BatchNorm; the defaults are PyTorch's.
      dtype: of the computation; statistics and parameters are float32.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        convolve: nnx.Module,
        num_outputs: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.convolution = convolve
        self.norm = nnx.BatchNorm(
            num_outputs, momentum=momentum, epsilon=epsilon, dtype=dtype, rngs=rngs
        )

    def __call__(self, inputs: jax.Array) -> jax.Array:
        return self.norm(self.convolution(inputs))


def normalised_convolution(
    num_inputs: int,
    num_outputs: int,
    size: int,
    *,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
    **options: Any,
) -> Normalised:
    """`convolution` with the same options, then BatchNorm."""
    convolve = convolution(num_inputs, num_outputs, size, dtype=dtype, rngs=rngs, **options)
    return Normalised(convolve, num_outputs, dtype=dtype, rngs=rngs)
