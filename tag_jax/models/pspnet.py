"""The pyramid pooling decoder for tasks of pixels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from tag_jax.models.layers import Conv, normalised_convolution


class PyramidPooling(nnx.Module):
    """A feature map beside its averages over coarser grids, then two convolutions.

    Zhao et al. 2017, Figure 3, as a head of Sener & Koltun 2018, supplement C.3. The averages over
    1 x 1, 2 x 2, 3 x 3 and 6 x 6 cells each pass a 1 x 1 convolution and are resized to the map.

    Departures: resizing is bilinear with half-pixel centres (that of the authors' code aligned the
    corners), and there is neither dropout nor an auxiliary loss, as in the authors' code.

    Args:
      channels: of the feature map.
      num_outputs: channels of the output: 19 for segmentation, 2 for instances, 1 for depth.
      output_size: height and width of the output, those of the image.
      cells: cells along each side of the image, for each average.
      hidden: channels of every convolution but the last.
      dtype: of the computation, bfloat16 say; parameters are float32, and so is the output.
      rngs: for the initial parameters.

    Called with a feature map `[B, h, w, channels]`, returns `[B, *output_size, num_outputs]`.
    """

    def __init__(
        self,
        channels: int,
        num_outputs: int,
        output_size: tuple[int, int],
        *,
        cells: Sequence[int] = (1, 2, 3, 6),
        hidden: int = 512,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.output_size = tuple(output_size)
        self.cells = tuple(cells)
        self.reduce = nnx.List(
            normalised_convolution(channels, hidden, 1, dtype=dtype, rngs=rngs) for _ in cells
        )
        joined = channels + len(cells) * hidden
        self.join = normalised_convolution(joined, hidden, 3, dtype=dtype, rngs=rngs)
        self.output = Conv(hidden, num_outputs, (1, 1), dtype=dtype, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        size = features.shape[1:3]
        averages = (
            nnx.relu(reduce(average_over_cells(features, cells)))
            for cells, reduce in zip(self.cells, self.reduce, strict=True)
        )
        joined = [features, *(resized(average, size) for average in averages)]
        hidden = nnx.relu(self.join(jnp.concatenate(joined, axis=-1)))
        return resized(self.output(hidden).astype(jnp.float32), self.output_size)


def average_over_cells(images: jax.Array, cells: int) -> jax.Array:
    """Averages over a grid of `cells` x `cells` cells, which overlap where they do not divide.

    Cell n of a side of `size` pixels reaches from floor(n * size / cells) up to
    ceil((n + 1) * size / cells), as PyTorch's `AdaptiveAvgPool2d`.

    Args:
      images: `[B, H, W, C]`.
      cells: cells along each side.

    Returns:
      `[B, cells, cells, C]`.
    """
    rows, columns = (_shares(size, cells) for size in images.shape[1:3])
    return jnp.einsum(
        'ih,jw,bhwc->bijc', rows.astype(images.dtype), columns.astype(images.dtype), images
    )


def resized(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Images `[B, H, W, C]` made larger to `[B, *size, C]`, bilinearly."""
    shape = (images.shape[0], *size, images.shape[-1])
    return jax.image.resize(images, shape, 'bilinear', antialias=False)


def _shares(size, cells):
    """The share of each pixel in each cell, `[cells, size]`."""
    pixels, cell = np.arange(size), np.arange(cells)[:, None]
    inside = (pixels >= cell * size // cells) & (pixels < -(-(cell + 1) * size // cells))
    return inside / inside.sum(axis=1, keepdims=True)
