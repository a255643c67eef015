"""Residual networks (He et al. 2016): encoders for CelebA, Cityscapes and Taskonomy."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from tag_jax.models.convolution import max_pool
from tag_jax.models.layers import Normalised, convolution, normalised_convolution, scaled


class ResidualBlock(nnx.Module):
    """Normalised convolutions with ReLU between them, added to a shortcut: relu(f(x) + s(x)).

    Args:
      layers: the convolutions.
      shortcut: a module where the shape changes, None for the identity.
    """

    def __init__(self, layers: Sequence[nnx.Module], shortcut: nnx.Module | None):
        self.layers = nnx.List(layers)
        self.shortcut = shortcut

    def __call__(self, inputs: jax.Array) -> jax.Array:
        *layers, last = self.layers
        hidden = inputs
        for layer in layers:
            hidden = nnx.relu(layer(hidden))
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs)
        return nnx.relu(last(hidden) + shortcut)


def basic_block(num_inputs, channels, stride, dilations, make):
    """Two 3 x 3 convolutions; see `ResNet` for the arguments."""
    before, after = dilations
    layers = (
        make(num_inputs, channels, 3, stride=stride, dilation=before),
        make(channels, channels, 3, dilation=after),
    )
    return _block(layers, num_inputs, channels, stride, make), channels


def bottleneck_block(num_inputs, channels, stride, dilations, make):
    """A 1 x 1, a 3 x 3 and a 1 x 1 convolution, the last with four times the channels.

    The 3 x 3 convolution has the stride, as in torchvision; in He et al. the first has it.
    """
    outputs = 4 * channels
    layers = (
        make(num_inputs, channels, 1),
        make(channels, channels, 3, stride=stride, dilation=dilations[0]),
        make(channels, outputs, 1),
    )
    return _block(layers, num_inputs, outputs, stride, make), outputs


def _block(layers, num_inputs, num_outputs, stride, make):
    same = stride == 1 and num_inputs == num_outputs
    return ResidualBlock(layers, None if same else make(num_inputs, num_outputs, 1, stride=stride))


class ResNet(nnx.Module):
    """Four stages of residual blocks, of 64, 128, 256 and 512 channels, before any pooling.

    He et al. 2016, Table 1, with BatchNorm after every convolution. Where a stage may not stride,
    its convolutions are dilated instead, so that they see as far: the first block by the dilation
    of the stage before, the others by twice that (as torchvision and Sener & Koltun's code).

    Args:
      block: `(num_inputs, channels, stride, dilations, make) -> (module, num_outputs)`: dilations
        of the convolution that strides and of those after it; `make` makes a convolution.
      depths: blocks in each of the four stages.
      small_images: begin with a 3 x 3 convolution without stride, not with a 7 x 7 convolution
        and max pooling, both of stride 2.
      output_stride: pixels of the image to one of the representation: 32, 16 or 8 (at most 8 with
        `small_images`).
      width: multiplies the channels of every layer.
      dtype: of the computation, bfloat16 say; parameters are float32.
      rngs: for the initial parameters.

    Attributes:
      channels: of the representation.

    Called with images `[B, H, W, 3]`, returns a representation `[B, h, w, channels]`: h and w are
    H and W divided by the output stride, rounded up.

    Raises:
      ValueError: if there is no such output stride.
    """

    def __init__(
        self,
        block: Callable,
        depths: Sequence[int],
        *,
        small_images: bool = False,
        output_stride: int = 32,
        width: float = 1.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        if output_stride not in (8, 16, 32):
            raise ValueError(f'the output stride must be 8, 16 or 32, not {output_stride}')
        make = functools.partial(normalised_convolution, dtype=dtype, rngs=rngs)
        channels = scaled(64, width)
        self.small_images = small_images
        self.stem = make(3, channels, 3) if small_images else make(3, channels, 7, stride=2)
        self.stages = nnx.List()
        reached, dilation = 1 if small_images else 4, 1
        for stage, depth in enumerate(depths):
            shrinks = stage > 0 and reached < output_stride
            reached *= 2 if shrinks else 1
            before, dilation = dilation, dilation if stage == 0 or shrinks else 2 * dilation
            blocks = nnx.List()
            for position in range(depth):
                stride = 2 if shrinks and position == 0 else 1
                dilations = (before if position == 0 else dilation, dilation)
                made, channels = block(
                    channels, scaled(64 * 2**stage, width), stride, dilations, make
                )
                blocks.append(made)
            self.stages.append(blocks)
        self.channels = channels

    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nnx.relu(self.stem(images))
        if not self.small_images:
            hidden = max_pool(hidden, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage in self.stages:
            for block in stage:
                hidden = block(hidden)
        return hidden


def resnet18(**options: Any) -> ResNet:
    """ResNet-18 as a feature map, 11.2 million parameters; the options of `ResNet`.

    Standley et al. 2020, Table 1, trained it on Taskonomy. With `output_stride=16` it takes the
    place of `Xception` before an `XceptionDecoder`. (The authors' larger and smaller networks keep
    64 channels in the stem; here all layers are scaled.)
    """
    return ResNet(basic_block, (2, 2, 2, 2), **options)


def resnet50(**options: Any) -> ResNet:
    """ResNet-50 as a feature map, 23.5 million parameters; the options of `ResNet`.

    Sener & Koltun 2018, supplement C.3, used it with `output_stride=8` before `PyramidPooling`,
    on Cityscapes at 256 x 512, beginning with weights from ImageNet (see `from_torchvision`).
    """
    return ResNet(bottleneck_block, (3, 4, 6, 3), **options)


class CelebAResNet18(nnx.Module):
    """ResNet-18 for small images with 4 x 4 average pooling at the end, flattened.

    Sener & Koltun 2018, supplement C.2 and Figure 7, with the stem of the authors' code (3 x 3, no
    stride, no pooling). A head is one dense layer, `nnx.Linear(encoder.num_features, 2)`: at
    64 x 64 pixels it takes 2 x 2 x 512 = 2048 numbers. (Initialised as torchvision's networks; the
    authors' code leaves it to PyTorch.)

    Args:
      image_size: height and width.
      width: multiplies the channels of every layer.
      dtype: of the computation, bfloat16 say; parameters are float32.
      rngs: for the initial parameters.

    Called with images `[B, H, W, 3]`, returns a representation `[B, num_features]`.

    Raises:
      ValueError: if the images are so small that nothing is left of them.
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (64, 64),
        *,
        width: float = 1.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.residual = resnet18(small_images=True, width=width, dtype=dtype, rngs=rngs)
        height, breadth = (-(-pixels // 8) // 4 for pixels in image_size)
        self.num_features = _positive(height * breadth * self.residual.channels, image_size)

    def __call__(self, images: jax.Array) -> jax.Array:
        pooled = nnx.avg_pool(self.residual(images), (4, 4), (4, 4))
        return jnp.reshape(pooled, (images.shape[0], -1))


class SmallResNet(nnx.Module):
    """A convolution, max pooling, one residual block and average pooling, flattened.

    The network of Fifty et al. 2021 for CelebA ("based loosely on ResNet 18", appendix B.6), after
    the authors' code: 3 x 3 convolutions of 64 channels, 3 x 3 max pooling of stride 2 and 2 x 2
    average pooling, both without padding; Keras's BatchNorm (momentum 0.99, epsilon 0.001) and
    Glorot's uniform initialisation. A head is one dense layer, `nnx.Linear(encoder.num_features,
    2)`: at 64 x 64 pixels it takes 15 x 15 x 64 = 14,400 numbers.

    Args:
      image_size: height and width.
      width: multiplies the channels of every layer.
      dtype: of the computation, bfloat16 say; parameters are float32.
      rngs: for the initial parameters.

    Called with images `[B, H, W, 3]`, returns a representation `[B, num_features]`.

    Raises:
      ValueError: if the images are so small that nothing is left of them.
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (64, 64),
        *,
        width: float = 1.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        channels = scaled(64, width)
        glorot_uniform = nnx.initializers.glorot_uniform()

        def make(num_inputs):
            convolve = convolution(
                num_inputs, channels, 3, kernel_init=glorot_uniform, dtype=dtype, rngs=rngs
            )
            return Normalised(
                convolve, channels, momentum=0.99, epsilon=1e-3, dtype=dtype, rngs=rngs
            )

        self.stem = make(3)
        self.block = ResidualBlock((make(channels), make(channels)), None)
        height, breadth = ((pixels - 1) // 2 // 2 for pixels in image_size)
        self.num_features = _positive(height * breadth * channels, image_size)

    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = max_pool(nnx.relu(self.stem(images)), (3, 3), (2, 2))
        pooled = nnx.avg_pool(self.block(hidden), (2, 2), (2, 2))
        return jnp.reshape(pooled, (images.shape[0], -1))


def _positive(num_features, image_size):
    if num_features == 0:
        raise ValueError(f'nothing is left of images of {" x ".join(map(str, image_size))} pixels')
    return num_features
