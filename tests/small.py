"""Small problems and data for the tests."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tag_jax import models, objectives
from tag_jax.data import Split
from tag_jax.problem import from_nnx

TASKS = {
    'sign': objectives.classification(2),
    'octant': objectives.classification(8),
    'radius': objectives.regression(),
}


def kinds(tasks):
    """`{task: (kind, width)}` of objectives, whose functions are made anew each time."""
    return {task: (objective.kind, objective.width) for task, objective in tasks.items()}


def make_problem(tasks=None, widths=(16, 8), inputs=3):
    """An MLP on some inputs with heads for tasks, by default those of `make_split`."""
    return from_nnx(
        lambda rngs: models.MLP(inputs, widths, rngs=rngs),
        tasks or TASKS,
        jax.ShapeDtypeStruct((1, inputs), jnp.float32),
    )


def make_split(size, seed=0, labelled=None):
    """Points in space: the sign of x + y, the octant, and the distance to the origin.

    Args:
      labelled: the share of labels that exist; the others are NaN or -1 behind a mask.
    """
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(size, 3)).astype(np.float32)
    targets = {
        'sign': (points[:, 0] + points[:, 1] > 0).astype(np.int32),
        'octant': ((points > 0) @ [1, 2, 4]).astype(np.int32),
        'radius': np.linalg.norm(points, axis=1).astype(np.float32),
    }
    if labelled is None:
        return Split(points, targets)
    mask = {task: rng.random(size) < labelled for task in targets}
    nothing = {'sign': -1, 'octant': -1, 'radius': np.nan}
    hidden = {
        task: np.where(mask[task], target, nothing[task]).astype(target.dtype)
        for task, target in targets.items()
    }
    return Split(points, hidden, mask)


class NormalisedEncoder(nnx.Module):
    """A dense layer with BatchNorm and dropout.

    (No bias before BatchNorm: its gradient is zero but for rounding, which Adam would blow up.)
    """

    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 8, use_bias=False, rngs=rngs)
        self.normalise = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, inputs):
        return self.dropout(self.normalise(self.dense(inputs)))


class LinenNormalisedEncoder(nn.Module):
    """The same in Linen."""

    @nn.compact
    def __call__(self, inputs, train):
        hidden = nn.Dense(8, use_bias=False)(inputs)
        hidden = nn.BatchNorm(use_running_average=not train)(hidden)
        return nn.Dropout(0.5, deterministic=not train)(hidden)


class ConvolutionalEncoder(nnx.Module):
    """A convolution over the points, repeated to 4 x 4 images of three channels."""

    def __init__(self, rngs):
        self.convolve = nnx.Conv(3, 8, (3, 3), rngs=rngs)

    def __call__(self, inputs):
        return jnp.mean(nnx.relu(self.convolve(as_images(inputs))), axis=(1, 2))


class LinenConvolutionalEncoder(nn.Module):
    """The same in Linen."""

    @nn.compact
    def __call__(self, inputs):
        return jnp.mean(nn.relu(nn.Conv(8, (3, 3))(as_images(inputs))), axis=(1, 2))


def as_images(points):
    return jnp.broadcast_to(points[:, None, None, :], (len(points), 4, 4, 3))


class Broken(Exception):
    """Ends training in `breaks_off`."""


def breaks_off(step, network=None):
    """A hook that ends training at the record of a step; of any network, or of one."""

    def on_record(record):
        if record.step == step and network in (None, record.network):
            raise Broken

    return on_record
