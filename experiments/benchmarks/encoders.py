"""The encoders that benchmarks measure on."""

import functools

import flax.linen as nn
import jax.numpy as jnp


class MLP(nn.Module):
    """Two dense layers."""

    @nn.compact
    def __call__(self, inputs):
        return nn.relu(nn.Dense(32)(nn.relu(nn.Dense(128)(inputs))))


class Small(nn.Module):
    """Two convolutions and a dense layer."""

    @nn.compact
    def __call__(self, images):
        for channels in (16, 32):
            images = nn.relu(nn.Conv(channels, (3, 3))(images))
            images = nn.max_pool(images, (2, 2), (2, 2))
        return nn.relu(nn.Dense(64)(images.reshape(len(images), -1)))


class CelebA(nn.Module):
    """Fifty et al. 2021, their code: a convolution, max pooling, a residual block, average pooling.

    (3 x 3 convolutions of 64 channels with BatchNorm; each head is one dense layer.)
    """

    @nn.compact
    def __call__(self, images, train):
        convolve = functools.partial(nn.Conv, 64, (3, 3), use_bias=False)
        normalise = functools.partial(nn.BatchNorm, use_running_average=not train)
        images = nn.relu(normalise()(convolve()(images)))
        images = nn.max_pool(images, (3, 3), (2, 2), padding='SAME')
        residual = nn.relu(normalise()(convolve()(images)))
        images = nn.relu(images + normalise()(convolve()(residual)))
        return jnp.mean(images, axis=(1, 2))
