import jax
import numpy as np
import pytest
from architectures import abstract, filled
from flax import nnx

from tag_jax.models import PlainDecoder
from tag_jax.models.xception import XceptionBlock


def separable(x, layer):
    """A 3 x 3 separable convolution as sums over shifted images, and BatchNorm in evaluation."""
    depthwise = layer['convolution']['depthwise']['kernel']
    pointwise = layer['convolution']['pointwise']['kernel']
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = sum(
        padded[:, row : row + height, column : column + width] * depthwise[row, column, 0]
        for row in range(3)
        for column in range(3)
    )
    return normalise(x @ pointwise[0, 0], layer['norm'])


def normalise(x, norm):
    return (x - norm['mean']) / np.sqrt(norm['var'] + 1e-5) * norm['scale'] + norm['bias']


@pytest.mark.parametrize(('halves', 'activates_first'), [(False, True), (True, False)])
def test_blocks_by_hand(halves, activates_first):
    num_outputs = 3 if halves else 2
    options = {'halves': halves, 'activates_first': activates_first}
    graph, variables = nnx.split(abstract(XceptionBlock, 2, num_outputs, **options))
    values = filled(nnx.to_pure_dict(variables))
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 2)).astype(np.float32)

    @jax.jit
    def apply(values, x):
        nnx.replace_by_pure_dict(variables, values)
        return nnx.merge(graph, variables)(x)

    hidden = np.maximum(images, 0) if activates_first else images
    hidden = separable(hidden, values['layers'][0])
    hidden = separable(np.maximum(hidden, 0), values['layers'][1])
    shortcut = images
    if halves:
        kernel = values['shrink']['kernel']
        hidden = values['shrink']['bias'] + sum(
            hidden[:, row::2, column::2] @ kernel[row, column]
            for row in (0, 1)
            for column in (0, 1)
        )
        kernel = values['shortcut']['convolution']['kernel'][0, 0]
        shortcut = normalise(images[:, ::2, ::2] @ kernel, values['shortcut']['norm'])
    np.testing.assert_allclose(apply(values, images), hidden + shortcut, rtol=1e-4, atol=1e-5)


def test_the_plain_decoder_by_hand():
    """Transposed convolutions as blocks of 2 x 2 pixels, plain ones as sums over shifted maps."""
    graph, variables = nnx.split(abstract(PlainDecoder, 2, 3))
    values = filled(nnx.to_pure_dict(variables))
    maps = np.random.default_rng(0).normal(size=(2, 1, 2, 2)).astype(np.float32)

    @jax.jit
    def apply(values, x):
        nnx.replace_by_pure_dict(variables, values)
        return nnx.merge(graph, variables)(x)

    def doubled(x, layer):
        kernel = layer['kernel']
        batch, height, width, _ = x.shape
        found = np.zeros((batch, 2 * height, 2 * width, kernel.shape[-1]))
        for row in (0, 1):
            for column in (0, 1):
                # (Flax counts the kernel of a transposed convolution from its end.)
                found[:, row::2, column::2] = x @ kernel[1 - row, 1 - column]
        return found + layer['bias']

    def plain(x, layer):
        kernel = layer['kernel']
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return layer['bias'] + sum(
            padded[:, row : row + height, column : column + width] @ kernel[row, column]
            for row in range(3)
            for column in range(3)
        )

    hidden = maps
    for n, layer in sorted(values['layers'].items()):
        convolve = plain if n % 2 else doubled
        hidden = np.maximum(normalise(convolve(hidden, layer['convolution']), layer['norm']), 0)
    assert hidden.shape == (2, 16, 32, 32)
    np.testing.assert_allclose(
        apply(values, maps), plain(hidden, values['output']), rtol=1e-3, atol=1e-3
    )
