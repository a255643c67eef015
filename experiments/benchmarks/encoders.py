"""The encoders that benchmarks measure on, and problems with them on batches of noise."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import models, objectives
from tag_jax.problem import Batch, from_linen


def layers(ours):
    """A convolution and max pooling: `models`' own or, for comparison, Flax's."""
    if ours:
        options = {'conv_general_dilated': models.conv_general_dilated}
        return functools.partial(nn.Conv, **options), models.max_pool
    return nn.Conv, nn.max_pool


class MLP(nn.Module):
    """Two dense layers."""

    @nn.compact
    def __call__(self, inputs):
        return nn.relu(nn.Dense(32)(nn.relu(nn.Dense(128)(inputs))))


class Small(nn.Module):
    """Two convolutions and a dense layer."""

    ours: bool = True

    @nn.compact
    def __call__(self, images):
        convolution, max_pool = layers(self.ours)
        for channels in (16, 32):
            images = nn.relu(convolution(channels, (3, 3))(images))
            images = max_pool(images, (2, 2), (2, 2))
        return nn.relu(nn.Dense(64)(images.reshape(len(images), -1)))


class CelebA(nn.Module):
    """Fifty et al. 2021, their code: a convolution, max pooling, a residual block, average pooling.

    (3 x 3 convolutions of 64 channels with BatchNorm; each head is one dense layer.)
    """

    ours: bool = True

    @nn.compact
    def __call__(self, images, train):
        convolution, max_pool = layers(self.ours)
        convolve = functools.partial(convolution, 64, (3, 3), use_bias=False)
        normalise = functools.partial(nn.BatchNorm, use_running_average=not train)
        images = nn.relu(normalise()(convolve()(images)))
        images = max_pool(images, (3, 3), (2, 2), padding='SAME')
        residual = nn.relu(normalise()(convolve()(images)))
        images = nn.relu(images + normalise()(convolve()(residual)))
        return jnp.mean(images, axis=(1, 2))


# With the shape of their batches. The last two have XLA's gradients of convolutions and pooling.
ENCODERS = {
    'mlp': (MLP(), (256, 144)),
    'small': (Small(), (64, 32, 32, 3)),
    'celeba': (CelebA(), (64, 64, 64, 3)),
    'small_xla': (Small(ours=False), (64, 32, 32, 3)),
    'celeba_xla': (CelebA(ours=False), (64, 64, 64, 3)),
}


def make_problem(encoder, shape, num_tasks, num_classes=2):
    """A problem of several classifications, and a batch of noise."""
    names = [f'task_{n:02}' for n in range(num_tasks)]
    tasks = dict.fromkeys(names, objectives.classification(num_classes))
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=shape).astype(np.float32)
    targets = {name: rng.integers(num_classes, size=shape[0]).astype(np.int32) for name in names}
    problem = from_linen(encoder, tasks, inputs[:1])
    return problem, Batch(jnp.asarray(inputs), jax.tree.map(jnp.asarray, targets))
