import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tag_jax import models


class Dense(nnx.Module):
    """Three inputs, `100 * width` hidden units, one output."""

    def __init__(self, *, width, rngs):
        units = max(1, round(100 * width))
        self.layers = nnx.List((nnx.Linear(3, units, rngs=rngs), nnx.Linear(units, 1, rngs=rngs)))

    def __call__(self, inputs):
        for layer in self.layers:
            inputs = nnx.relu(layer(inputs))
        return inputs


class Repeated(nnx.Module):
    """A matrix applied three times: in a scan, or in a loop until it is done."""

    def __init__(self, loop, *, rngs):
        self.loop = loop
        self.layer = nnx.Linear(4, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, inputs):
        inputs = self.dropout(inputs)
        kernel = self.layer.kernel[...]
        if self.loop:
            return jax.lax.while_loop(lambda x: jnp.sum(x) > 1, lambda x: x @ kernel, inputs)
        return jax.lax.scan(lambda x, _: (x @ kernel, None), inputs, length=3)[0]


@pytest.mark.parametrize(
    ('make', 'input_shape', 'expected'),
    [
        (functools.partial(nnx.Linear, 7, 5), (7,), 7 * 5),
        (functools.partial(nnx.Linear, 7, 5), (2, 3, 7), 2 * 3 * 7 * 5),
        (functools.partial(nnx.Conv, 3, 8, (5, 5)), (6, 10, 3), 6 * 10 * 25 * 3 * 8),
        (functools.partial(nnx.Conv, 3, 8, (3, 3), strides=2), (6, 10, 3), 3 * 5 * 9 * 3 * 8),
        (functools.partial(nnx.Conv, 6, 8, (3, 3), kernel_dilation=2), (9, 9, 6), 81 * 9 * 6 * 8),
        (
            functools.partial(nnx.Conv, 6, 6, (3, 3), feature_group_count=6),
            (6, 10, 6),
            6 * 10 * 9 * 6,
        ),
        (
            functools.partial(nnx.ConvTranspose, 6, 8, (2, 2), 2, padding='VALID'),
            (5, 7, 6),
            5 * 7 * 4 * 6 * 8,
        ),
        (functools.partial(nnx.BatchNorm, 3), (6, 10, 3), 0),
        (functools.partial(models.MLP, 12, (5, 4)), (3, 4), 12 * 5 + 5 * 4),
        (functools.partial(Repeated, False), (4,), 3 * 4 * 4),
    ],
)
def test_multiply_adds_by_hand(make, input_shape, expected):
    assert models.multiply_adds(lambda rngs: make(rngs=rngs), input_shape) == expected


def test_loops_that_depend_on_data_cannot_be_counted():
    with pytest.raises(ValueError, match='it has a while inside'):
        models.multiply_adds(lambda rngs: Repeated(True, rngs=rngs), (4,))


@pytest.mark.variants(2)
@pytest.mark.parametrize('size', [0.01, 0.5, 0.604, 1, 3])
def test_width_of_a_cost_that_is_linear_in_it(size):
    width = models.width_for(Dense, (3,), size)
    cost = models.multiply_adds(lambda rngs: Dense(width=width, rngs=rngs), (3,))
    assert cost == 4 * round(100 * size)
    assert width == pytest.approx(size, abs=0.01)


@pytest.mark.parametrize('size', [0.019, 0.5, 0.609, 1.006, 2.995])
def test_a_width_may_be_asked_to_cost_no_more(size):
    """The most of all costs, which go in steps of a hundredth, that are no higher."""
    width = models.width_for(Dense, (3,), size, at_most=True)
    cost = models.multiply_adds(lambda rngs: Dense(width=width, rngs=rngs), (3,))
    assert cost == 4 * int(100 * size)


def test_half_of_xception():
    """The authors' half-size encoder has 360 channels in the middle, not 512."""
    whole, half = (
        models.multiply_adds(lambda rngs, w=width: models.Xception(width=w, rngs=rngs), (64, 64, 3))
        for width in (1.0, 360 / 512)
    )
    assert half == pytest.approx(whole / 2, rel=0.02)


def test_widths_that_cannot_be():
    with pytest.raises(ValueError, match='must be positive and finite, not 0'):
        models.width_for(Dense, (3,), 0)
    with pytest.raises(ValueError, match='of size 0.009: with one channel a layer it is 0.01'):
        models.width_for(Dense, (3,), 0.009)
