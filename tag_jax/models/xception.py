"""The encoders and the decoders of Standley et al. and of Fifty et al. for Taskonomy."""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from tag_jax.models.layers import (
    HE_NORMAL,
    Conv,
    Normalised,
    convolution,
    normalised_convolution,
    scaled,
)
from tag_jax.models.pspnet import resized


class SeparableConvolution(nnx.Module):
    """A convolution of each channel by itself, then one of 1 x 1 (Chollet 2017).

    `[B, H, W, num_inputs]` to `[B, H, W, num_outputs]`, without bias; `size` is that of the first.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        size: int = 3,
        *,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.depthwise = convolution(
            num_inputs, num_inputs, size, groups=num_inputs, dtype=dtype, rngs=rngs
        )
        self.pointwise = convolution(num_inputs, num_outputs, 1, dtype=dtype, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        return self.pointwise(self.depthwise(inputs))


class XceptionBlock(nnx.Module):
    """Separable convolutions, added to a shortcut; ReLU stands before each convolution.

    Args:
      num_inputs, num_outputs: channels.
      halves: half the height and the width, by a 2 x 2 convolution of stride 2 (in Xception: max
        pooling) and in the shortcut by a 1 x 1 convolution; otherwise the shortcut is the identity.
      activates_first: whether the first ReLU is there.
      depth: separable convolutions.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        halves: bool = False,
        activates_first: bool = True,
        depth: int = 2,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {'dtype': dtype, 'rngs': rngs}
        self.activates_first = activates_first
        self.layers = nnx.List(
            Normalised(SeparableConvolution(inputs, num_outputs, **options), num_outputs, **options)
            for inputs in (num_inputs, *[num_outputs] * (depth - 1))
        )
        self.shrink = self.shortcut = nnx.data(None)
        if halves:
            self.shrink = Conv(num_outputs, num_outputs, (2, 2), strides=2, **options)
            self.shortcut = normalised_convolution(num_inputs, num_outputs, 1, stride=2, **options)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        first, *others = self.layers
        hidden = first(nnx.relu(inputs) if self.activates_first else inputs)
        for layer in others:
            hidden = layer(nnx.relu(hidden))
        if self.shrink is None:
            return hidden + inputs
        return self.shrink(hidden) + self.shortcut(inputs)


class Xception(nnx.Module):
    """The simplified Xception of Standley et al. 2020, section 4: 17 layers.

    Two convolutions, three blocks that halve the map, four blocks of 512 channels in the middle
    and a last separable convolution; the channels are those of the authors' code
    (`xception_taskonomy_small`). At full width 4.1 million parameters and 2.26 billion
    multiply-adds at 256 x 256 (in the paper "about 4 million" and 2.28 billion).

    `later` is the larger encoder of the authors' later code (`xception_taskonomy_new`), which Fifty
    et al. 2021 train (Appendix B.7): eight blocks of 728 channels and three separable convolutions
    in the middle, and no ReLU at the end.

    Args:
      channels: of the representation. `width` leaves them alone, as in the authors' half-size
        network, so that the same decoder fits behind an encoder of any size.
      depth: blocks in the middle.
      later: whether it is the encoder of the later code.
      width: multiplies the channels of every other layer; `width_for` finds that of a given cost.
      dtype: of the computation, bfloat16 say; parameters are float32.
      rngs: for the initial parameters.

    Called with images `[B, H, W, 3]`, H and W multiples of 16, returns `[B, H/16, W/16, channels]`.
    """

    def __init__(
        self,
        channels: int = 256,
        depth: int = 4,
        *,
        later: bool = False,
        width: float = 1.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {'dtype': dtype, 'rngs': rngs}
        channels_of = (32, 64, 128, 256, 728) if later else (24, 48, 96, 192, 512)
        sizes = [scaled(size, width) for size in channels_of]
        self.channels, self.later = channels, later
        self.stem = nnx.List(
            (
                normalised_convolution(3, sizes[0], 3, stride=2, **options),
                normalised_convolution(sizes[0], sizes[1], 3, **options),
            )
        )
        self.blocks = nnx.List(
            XceptionBlock(inputs, outputs, halves=True, activates_first=stage > 0, **options)
            for stage, (inputs, outputs) in enumerate(itertools.pairwise(sizes[1:]))
        )
        self.blocks.extend(
            XceptionBlock(sizes[-1], sizes[-1], depth=3 if later else 2, **options)
            for _ in range(depth)
        )
        last = SeparableConvolution(sizes[-1], channels, **options)
        self.last = Normalised(last, channels, **options)

    def __call__(self, images: jax.Array) -> jax.Array:
        for layer in self.stem:
            images = nnx.relu(layer(images))
        for block in self.blocks:
            images = block(images)
        if self.later:
            return self.last(nnx.relu(images))
        return nnx.relu(self.last(images))


class XceptionDecoder(nnx.Module):
    """Four times a transposed convolution that doubles the map and a separable convolution.

    Standley et al. 2020, section 4, "about 116,000 parameters"; the layers are those of the
    authors' code, 115,760 parameters and 48 for each output channel. Beside the four of the text it
    has two separable convolutions on the representation: to 96 channels, and to 16 that are resized
    (bilinearly) and join before the last layer.

    Args:
      channels: of the representation.
      num_outputs: channels of the output.
      dtype: of the computation, bfloat16 say; parameters are float32, and so is the output.
      rngs: for the initial parameters.

    Called with a representation `[B, h, w, channels]`, returns `[B, 16 h, 16 w, num_outputs]`.
    """

    def __init__(
        self, channels: int, num_outputs: int, *, dtype: DTypeLike | None = None, rngs: nnx.Rngs
    ):
        options = {'dtype': dtype, 'rngs': rngs}

        def normalised(layer, outputs):
            return Normalised(layer, outputs, **options)

        double = functools.partial(_doubled, **options)

        def separable(inputs, outputs, size):
            return normalised(SeparableConvolution(inputs, outputs, size, **options), outputs)

        self.coarse = separable(channels, 16, 3)
        self.first = separable(channels, 96, 3)
        self.layers = nnx.List(
            (
                double(96, 96),
                separable(96, 64, 3),
                double(64, 64),
                separable(64, 64, 5),
                double(64, 32),
                separable(32, 32, 5),
            )
        )
        self.last_double = double(32, 32)
        self.output = SeparableConvolution(32 + 16, num_outputs, 5, **options)

    def __call__(self, representation: jax.Array) -> jax.Array:
        hidden = self.first(representation)
        for layer in self.layers:
            hidden = nnx.relu(layer(hidden))
        hidden = self.last_double(hidden)
        coarse = resized(self.coarse(representation), hidden.shape[1:3])
        joined = jnp.concatenate((hidden, coarse), axis=-1)
        return self.output(nnx.relu(joined)).astype(jnp.float32)


class PlainDecoder(nnx.Module):
    """Four times a transposed convolution that doubles the map and a 3 x 3 convolution.

    Fifty et al. 2021, Appendix B.7. The channels are those of the code that the paper trained (the
    smaller of its two decoders): 128, 64, 48 and 32, then the outputs. BatchNorm and ReLU follow
    every layer but the last.

    Args:
      channels: of the representation.
      num_outputs: channels of the output.
      dtype: of the computation, bfloat16 say; parameters are float32, and so is the output.
      rngs: for the initial parameters.

    Called with a representation `[B, h, w, channels]`, returns `[B, 16 h, 16 w, num_outputs]`.
    """

    def __init__(
        self, channels: int, num_outputs: int, *, dtype: DTypeLike | None = None, rngs: nnx.Rngs
    ):
        options = {'dtype': dtype, 'rngs': rngs}

        def plain(inputs, outputs):
            return Conv(inputs, outputs, (3, 3), kernel_init=HE_NORMAL, **options)

        sizes = (channels, 128, 64, 48, 32)
        self.layers = nnx.List()
        for inputs, outputs in itertools.pairwise(sizes):
            self.layers.append(_doubled(inputs, outputs, **options))
            if outputs != sizes[-1]:
                self.layers.append(Normalised(plain(outputs, outputs), outputs, **options))
        self.output = plain(sizes[-1], num_outputs)

    def __call__(self, representation: jax.Array) -> jax.Array:
        for layer in self.layers:
            representation = nnx.relu(layer(representation))
        return self.output(representation).astype(jnp.float32)


def _doubled(inputs, outputs, **options):
    """A transposed convolution that doubles the map, with BatchNorm."""
    layer = nnx.ConvTranspose(inputs, outputs, (2, 2), 2, padding='VALID', **options)
    return Normalised(layer, outputs, **options)
