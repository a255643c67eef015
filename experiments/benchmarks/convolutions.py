"""Filter gradients on the CPU, by shape: XLA's beside patches times a matrix; and max pooling's.

    taskset -c 0 python -m experiments.benchmarks.convolutions [--clock=cpu]

One process, medians over rounds, in units of XLA's time. 'patches' is
`tag_jax.models.conv_general_dilated` wherever it fits, 'shared' its matrix product alone, which is
what further tasks of one program cost; 'chosen' is what the function takes at that shape. With
--clock=cpu it is processor time that is measured, which other work on the machine disturbs less;
let it run on one core.
"""

import functools
import unittest.mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import timing
from tag_jax import models
from tag_jax.launchers import launch
from tag_jax.models import convolution

flags.DEFINE_integer('rounds', 9, 'Times that each is timed.')
flags.DEFINE_integer('most', None, 'Most shapes that are measured.')
flags.declare_key_flag('clock')

FLAGS = flags.FLAGS
# Batch, height and width, input and output channels, taps along a side.
SHAPES = (
    *((64, 28, 1, 16, 3), (64, 24, 1, 10, 5), (64, 32, 3, 16, 3), (64, 32, 3, 32, 3)),
    *((64, 32, 3, 64, 3), (64, 64, 3, 64, 3), (64, 32, 3, 16, 5), (64, 32, 8, 16, 3)),
    *((64, 16, 16, 16, 3), (64, 16, 16, 32, 3), (64, 32, 16, 32, 3), (64, 12, 10, 20, 5)),
    *((64, 16, 32, 64, 3), (64, 8, 32, 64, 3), (64, 8, 64, 64, 3), (64, 16, 64, 64, 3)),
)
POOLED = ((64, 32, 32, 16), (64, 16, 16, 32), (256, 24, 24, 10), (64, 64, 64, 64))
NUMBERS = ('NHWC', 'HWIO', 'NHWC')
SAME = {'window_strides': (1, 1), 'padding': 'SAME', 'dimension_numbers': NUMBERS}


def main():
    print(f'{"":32} {"XLA, ms":>8} {"patches":>8} {"shared":>8} chosen')
    for shape in SHAPES[: FLAGS.most]:
        measure(shape)
    print(f'{"max pooling, 2 x 2":32} {"XLA, ms":>8} {"ours":>8}')
    for shape in POOLED[: FLAGS.most]:
        measure_pooling(shape)


def measure(shape):
    """Prints a line for one convolution."""
    batch, size, inputs, outputs, taps = shape
    images, kernel, cotangent = noise(
        (batch, size, size, inputs), (taps, taps, inputs, outputs), (batch, size, size, outputs)
    )
    patches, columns = noise((taps * taps * inputs, batch * size**2), (batch * size**2, outputs))
    native = functools.partial(jax.lax.conv_general_dilated, **SAME)
    ours = functools.partial(models.conv_general_dilated, **SAME)
    chosen = 'custom_jvp' in str(jax.make_jaxpr(ours)(images, kernel))
    with unittest.mock.patch.object(convolution, '_patches_pay', return_value=True):
        calls = {
            'patches': timing.compiled_call(by_filter(ours), images, kernel, cotangent),
            'XLA': timing.compiled_call(by_filter(native), images, kernel, cotangent),
            'shared': timing.compiled_call(jnp.matmul, patches, columns),
        }
    found = medians(calls)
    name = f'{batch} x {size} x {size} x {inputs} to {outputs}, {taps} x {taps}'
    ratios = f'{found["patches"] / found["XLA"]:8.2f} {found["shared"] / found["XLA"]:8.2f}'
    print(f'{name:32} {found["XLA"]:8.2f} {ratios} {"patches" if chosen else ""}', flush=True)


def measure_pooling(shape):
    """Prints a line for the gradient of max pooling by windows of 2 x 2."""
    (images,) = noise(shape)
    pools = {'XLA': nn.max_pool, 'ours': models.max_pool}
    calls = {
        name: timing.compiled_call(
            jax.grad(lambda x, pool=pool: jnp.sum(jnp.sin(pool(x, (2, 2), (2, 2))))), images
        )
        for name, pool in pools.items()
    }
    found = medians(calls)
    name = ' x '.join(map(str, shape))
    print(f'{name:32} {found["XLA"]:8.2f} {found["ours"] / found["XLA"]:8.2f}', flush=True)


def by_filter(convolve):
    """`(images, kernel, cotangent) -> gradient of the kernel`."""
    return lambda images, kernel, cotangent: jax.vjp(functools.partial(convolve, images), kernel)[
        1
    ](cotangent)[0]


def medians(calls):
    """Median milliseconds of each call."""
    seconds = timing.side_by_side(calls, FLAGS.rounds, timing.clock())
    return {name: 1e3 * np.median(taken) for name, taken in seconds.items()}


def noise(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


if __name__ == '__main__':
    launch.launch(main)
