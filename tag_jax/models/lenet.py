"""The encoder of Sener & Koltun for MultiMNIST."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from tag_jax.models.convolution import max_pool
from tag_jax.models.layers import Conv, scaled


class LeNet(nnx.Module):
    """Two convolutions with max pooling and a dense layer, each with ReLU.

    Sener & Koltun 2018, supplement C.1 and Figure 5: all layers of LeNet but the last, which is
    the task's head, `nnx.Linear(encoder.num_features, 10)`. 5 x 5 convolutions of 10 and of 20
    channels without padding, 50 dense units; 21,840 parameters with the last layer.

    The authors' code departs from their text in what is left out here: dropout of half the
    channels after the second convolution, and heads with a hidden layer of 50 units and dropout.

    Args:
      image_shape: height, width and channels. (The authors shrink their 36 x 36 canvas to 28 x 28.)
      width: multiplies the channels of every layer.
      dtype: of the computation, bfloat16 say; parameters are float32.
      rngs: for the initial parameters.

    Called with images `[B, H, W, C]`, returns a representation `[B, num_features]`.

    Raises:
      ValueError: if the images are too small, less than 16 x 16 pixels.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        *,
        width: float = 1.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        *size, num_inputs = image_shape
        if min(size) < 16:
            raise ValueError(f'LeNet needs images of 16 x 16 pixels or more, not {tuple(size)}')
        first, second, self.num_features = (scaled(channels, width) for channels in (10, 20, 50))
        self.convolutions = nnx.List(
            Conv(inputs, outputs, (5, 5), padding='VALID', dtype=dtype, rngs=rngs)
            for inputs, outputs in ((num_inputs, first), (first, second))
        )
        height, breadth = (((pixels - 4) // 2 - 4) // 2 for pixels in size)
        self.dense = nnx.Linear(
            height * breadth * second, self.num_features, dtype=dtype, rngs=rngs
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        for convolve in self.convolutions:
            images = nnx.relu(max_pool(convolve(images), (2, 2), (2, 2)))
        return nnx.relu(self.dense(jnp.reshape(images, (images.shape[0], -1))))
