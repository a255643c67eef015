"""The cost of an encoder, and the width that it needs for a given cost."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import jaxprs_in_params


def multiply_adds_of(function: Callable, *arguments: Any) -> int:
    """Multiplications (each with an addition) of the convolutions and matrix products.

    Counted from the traced program, nothing computed. A convolution counts all taps of its kernel
    at every output, those on the padding as well; a transposed one does not count the zeros between
    its inputs. Element-wise work (BatchNorm, ReLU, pooling by windows) is not counted.
    `jax.image.resize` is a matrix product to JAX and counts.

    Args:
      function: of arrays.
      *arguments: arrays, or `jax.ShapeDtypeStruct`s, or trees of them.

    Raises:
      ValueError: if it branches or loops depending on its data, so that nobody can tell.
    """
    return _multiply_adds(jax.make_jaxpr(function)(*arguments).jaxpr)


def multiply_adds(make_encoder: Callable, input_shape: tuple[int, ...]) -> int:
    """`multiply_adds_of` a module, for one example in evaluation mode.

    Args:
      make_encoder: `nnx.Rngs -> nnx.Module`, called with its inputs alone; a head will do as well.
      input_shape: of one example, `(H, W, 3)` say.

    Returns:
      A number. Standley et al. 2020 measure inference time by it: 2.28 billion for their encoder.
    """
    module = nnx.eval_shape(lambda: make_encoder(nnx.Rngs(0)))
    module.eval()
    graph, variables = nnx.split(module)
    example = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return multiply_adds_of(lambda values, x: nnx.merge(graph, values)(x), variables, example)


def width_for(
    make_encoder: Callable,
    input_shape: tuple[int, ...],
    size: float,
    precision: float = 2**-10,
    at_most: bool = False,
) -> float:
    """The `width` at which an encoder costs `size` times the multiply-adds of width 1.

    Standley et al. 2020 name their networks so: half size, .6, triple. Channels are whole numbers,
    so that costs go in steps: the nearer of two widths that are within `precision` of each other
    and have the target between them. (For `Xception` the cost is then right to 0.5 %.)

    Args:
      make_encoder: called with `width=` and `rngs=`: a class of this package, say, or a
        `functools.partial` of one.
      input_shape: of one example, `(H, W, 3)` say.
      size: of the cost, 1 for the encoder as it is.
      precision: of the width.
      at_most: whether the lower of the two is taken where the nearer one costs more.

    Returns:
      A float.

    Raises:
      ValueError: if the size is not positive, or no width is small enough.
    """
    if not 0 < size < math.inf:
        raise ValueError(f'the size must be positive and finite, not {size}')

    def cost(width):
        return multiply_adds(lambda rngs: make_encoder(width=width, rngs=rngs), input_shape)

    low, high = 0.0, 1.0
    costs = {low: cost(low), high: cost(high)}
    target = size * costs[high]
    if target < costs[low]:
        raise ValueError(
            f'no width makes an encoder of size {size}: with one channel a layer it is '
            f'{costs[low] / costs[high]:.3g}'
        )
    while costs[high] < target:
        low, high = high, 2 * high
        costs[high] = cost(high)
    while high - low > precision:
        middle = (low + high) / 2
        costs[middle] = cost(middle)
        low, high = (middle, high) if costs[middle] < target else (low, middle)
    if at_most:
        return high if costs[high] <= target else low
    return min((high, low), key=lambda width: abs(costs[width] - target))


def _multiply_adds(jaxpr):
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation):
    name, params = equation.primitive.name, equation.params
    outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name == 'conv_general_dilated':
        kernel = equation.invars[1].aval.shape
        out_channels = kernel[params['dimension_numbers'].rhs_spec[0]]
        taps = math.prod(kernel) // out_channels
        return outputs * taps // math.prod(params['lhs_dilation'])
    if name == 'dot_general':
        (contracted, _), _ = params['dimension_numbers']
        return outputs * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    inner = sum(_multiply_adds(jaxpr) for jaxpr in jaxprs_in_params(params))
    if inner and name in ('cond', 'while'):
        raise ValueError(f'the cost of this module depends on its data: it has a {name} inside')
    return inner * params['length'] if name == 'scan' else inner
