"""Convolutions and max pooling whose gradients are faster than XLA's on the CPU.

(Convolutions as patches times a matrix: Chellapilla, Puri & Simard 2006.)
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike

# Where patches pay on the CPU, as `experiments.benchmarks.convolutions` measured it: few numbers a
# patch (taps times input channels), outputs enough to share the work of making patches, and patches
# of a batch that memory has room for near at hand, or pictures that become many channels.
MOST_NUMBERS_A_PATCH = 150
LEAST_OUTPUTS, LEAST_OUTPUTS_A_CHANNEL = 16, 2
MOST_NUMBERS_OF_PATCHES = 2_500_000
PICTURE_CHANNELS, MANY_OUTPUTS = 4, 32
# Larger filters were not measured, nor were strides.
MOST_TAPS_AN_AXIS = 5
# The forward pass of max pooling is written out, one place of a window after another.
MOST_PLACES_A_WINDOW = 16


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    **others: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, with a filter gradient that is faster on the CPU.

    XLA takes the gradient of a filter as a convolution with a window as large as the image. Here it
    is a matrix product: patches of the input times the gradient of the output. The result and the
    gradient of the input are XLA's. Forward mode, reverse mode, higher derivatives and `jax.vmap`
    work. The patches are made again in each backward pass, so that nothing but the input is kept
    for it; backward passes of several tasks in one program share them.

    The function is XLA's own on GPU and TPU, for grouped, transposed and integer convolutions, and
    where a patch has more numbers than patches pay for. `nn.Conv` and `nnx.Conv` of Flax take it as
    `conv_general_dilated=`.

    Args:
      lhs: the input, `[B, H, W, C]` in Flax; other layouts and numbers of axes will do.
      rhs: the filter, `[h, w, C, O]` in Flax.
      window_strides, padding: as in `jax.lax.conv_general_dilated`, like all that follows.
      lhs_dilation, rhs_dilation: of the input and of the filter.
      dimension_numbers: the layouts.
      feature_group_count, batch_group_count: groups.
      precision, preferred_element_type: of products and results.
      **others: with any of them the function is XLA's own.

    Returns:
      The output, `[B, H', W', O]` in Flax.

    Examples:
      >>> from flax import nnx
      >>> from tag_jax import models
      >>> options = {'conv_general_dilated': models.conv_general_dilated, 'rngs': nnx.Rngs(0)}
      >>> convolve = nnx.Conv(3, 16, (3, 3), **options)
      >>> convolve(jnp.ones((2, 8, 8, 3))).shape
      (2, 8, 8, 16)
    """
    native = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        **others,
    )
    plain = (
        feature_group_count == batch_group_count == 1
        and all(step == 1 for step in lhs_dilation or ())
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and lhs.dtype == rhs.dtype
        and not others
    )
    if jax.default_backend() != 'cpu' or not plain:
        return native(lhs, rhs)
    form = _form(lhs.shape, rhs.shape, window_strides, padding, rhs_dilation, dimension_numbers)
    if not _patches_pay(form, lhs.shape[form.lhs[0]], rhs.shape[form.rhs[0]]):
        return native(lhs, rhs)
    return _convolution(native, form, precision, preferred_element_type)(lhs, rhs)


def max_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = 'VALID',
) -> jax.Array:
    """`flax.linen.max_pool`, with a faster gradient on the CPU where windows lie side by side.

    XLA's searches every window in turn for the place of its largest number. Here the places of all
    windows are found at once, and the gradient is written in one pass over the input. The result is
    bitwise the same, and so is the gradient but for the sign of zeros: all of it goes to the first
    largest number of each window. In a window with NaN it goes to the last place; XLA's goes to a
    place that is not said.

    The function is Flax's own on GPU and TPU, for windows that overlap or are large, and for
    integers.

    Args:
      inputs: `[B, H, W, C]`; other numbers of axes before the channels will do.
      window_shape: of each axis between batch and channels.
      strides: of each of these axes; None for 1.
      padding: 'VALID', 'SAME' or `(low, high)` of each of these axes.

    Returns:
      `[B, H', W', C]`.
    """
    window = tuple(window_shape)
    strides = (1,) * len(window) if strides is None else tuple(strides)
    if (
        jax.default_backend() != 'cpu'
        or not jnp.issubdtype(inputs.dtype, jnp.floating)
        or strides != window
        or not 0 < len(window) < inputs.ndim
        or (not isinstance(padding, str) and len(padding) != len(window))
        or math.prod(window) > MOST_PLACES_A_WINDOW
    ):
        return nn.max_pool(inputs, window, strides, padding)
    pixels = inputs.shape[-1 - len(window) : -1]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(pixels, window, strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    sizes = tuple(
        (size + low + high - far) // step + 1
        for size, (low, high), far, step in zip(pixels, pads, window, strides, strict=True)
    )
    if min(sizes) < 1 or min(map(min, pads)) < 0:
        return nn.max_pool(inputs, window, strides, padding)
    return _pooled(_Windows(window, pads, sizes), inputs)


class _Form(NamedTuple):
    """A convolution as patches times a matrix, over D axes of pixels.

    Attributes:
      pads: zeros `(low, high)` before and after each axis.
      taps: of the filter, by axis.
      sizes: pixels of the output, by axis.
      strides, dilation: by axis.
      lhs, rhs, out: the axes of input, filter and output: batch (or outputs), channels, pixels.
      channels: C.
    """

    pads: tuple
    taps: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    out: tuple[int, ...]
    channels: int


def _form(lhs_shape, rhs_shape, strides, padding, dilation, dimension_numbers):
    """The `_Form` of a convolution without groups or dilation of its input."""
    numbers = jax.lax.conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    pixels = [lhs_shape[axis] for axis in numbers.lhs_spec[2:]]
    taps = tuple(rhs_shape[axis] for axis in numbers.rhs_spec[2:])
    dilation = tuple(dilation or (1,) * len(taps))
    reach = [1 + (size - 1) * step for size, step in zip(taps, dilation, strict=True)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(pixels, reach, strides, padding)
    padding = tuple((int(low), int(high)) for low, high in padding)
    sizes = tuple(
        max(0, (size + low + high - far) // step + 1)
        for size, (low, high), far, step in zip(pixels, padding, reach, strides, strict=True)
    )
    return _Form(
        padding, taps, sizes, tuple(strides), dilation, *numbers, lhs_shape[numbers.lhs_spec[1]]
    )


def _patches_pay(form, batch, outputs):
    """Whether the filter gradient by patches is the faster one, by what was measured."""
    taps, channels = math.prod(form.taps), form.channels
    numbers = batch * math.prod(form.sizes) * taps * channels
    from_pictures = channels <= PICTURE_CHANNELS and outputs >= MANY_OUTPUTS
    return (
        taps > 1
        and max(form.taps) <= MOST_TAPS_AN_AXIS
        and all(step == 1 for step in form.strides)
        and taps * channels <= MOST_NUMBERS_A_PATCH
        and outputs >= max(LEAST_OUTPUTS, LEAST_OUTPUTS_A_CHANNEL * channels)
        and numbers > 0
        and (from_pictures or numbers <= MOST_NUMBERS_OF_PATCHES)
    )


def _convolution(native, form, precision, preferred_element_type):
    """`(lhs, rhs) -> output`: forward by XLA, its derivative by the filter through patches."""
    by_filter = jax.checkpoint(
        functools.partial(_by_filter, form, precision, preferred_element_type), prevent_cse=False
    )

    @jax.custom_jvp
    def convolution(lhs, rhs):
        return native(lhs, rhs)

    @functools.partial(convolution.defjvp, symbolic_zeros=True)
    def _(primals, tangents):
        lhs, rhs = primals
        output = convolution(lhs, rhs)
        parts = [
            function(tangent)
            for function, tangent in zip(
                (lambda tangent: native(tangent, rhs), functools.partial(by_filter, lhs)),
                tangents,
                strict=True,
            )
            if not isinstance(tangent, SymbolicZero)
        ]
        return output, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(output)

    return convolution


def _by_filter(form, precision, preferred_element_type, lhs, rhs):
    """The convolution as patches times the filter, so that its transpose is a matrix product."""
    batch, outputs = lhs.shape[form.lhs[0]], rhs.shape[form.rhs[0]]
    matrix = jnp.transpose(rhs, (*form.rhs[2:], form.rhs[1], form.rhs[0]))
    product = jax.lax.dot_general(
        _patches(form, lhs),
        matrix.reshape(-1, outputs),
        (((0,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    product = product.reshape(batch, *form.sizes, outputs)
    order = (0, len(form.sizes) + 1, *range(1, len(form.sizes) + 1))  # Batch, outputs, pixels.
    inverse = sorted(range(len(order)), key=lambda axis: form.out[axis])
    return jnp.transpose(product, [order[axis] for axis in inverse])


def _patches(form, lhs):
    """The patches that the filter meets, `[taps * C, B * pixels]`.

    Channels go first and pixels last: the numbers of one tap at all pixels are then long runs.
    """
    batch, channels, *pixels = form.lhs
    moved = jnp.transpose(lhs, (channels, batch, *pixels))
    widths = ((0, 0, 0), (0, 0, 0), *((low, high, 0) for low, high in form.pads))
    padded = jax.lax.pad(moved, jnp.zeros((), lhs.dtype), widths)
    found = []
    for tap in itertools.product(*map(range, form.taps)):
        starts = [place * step for place, step in zip(tap, form.dilation, strict=True)]
        ends = [
            start + (size - 1) * step + 1
            for start, size, step in zip(starts, form.sizes, form.strides, strict=True)
        ]
        found.append(
            jax.lax.slice(
                padded, (0, 0, *starts), (*padded.shape[:2], *ends), (1, 1, *form.strides)
            )
        )
    return jnp.stack(found).reshape(len(found) * moved.shape[0], -1)


class _Windows(NamedTuple):
    """Windows over D axes of pixels, the last axes but one.

    Attributes:
      shape: of the windows, by axis; it is their stride as well.
      pads: `(low, high)` around each axis, of numbers below all others.
      sizes: windows along each axis.
    """

    shape: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _pooled(windows, inputs):
    """The largest number of each window."""
    return functools.reduce(jnp.maximum, _places(windows, inputs))


@_pooled.defjvp
def _pooled_jvp(windows, primals, tangents):
    """The tangents at the first largest numbers: axes of pixels as windows and places in them."""
    (inputs,), (tangent,) = primals, tangents
    output = _pooled(windows, inputs)
    first = jnp.full(output.shape, math.prod(windows.shape) - 1, jnp.int32)
    for place, numbers in reversed(list(enumerate(_places(windows, inputs)[:-1]))):
        first = jnp.where(numbers == output, place, first)
    before = inputs.ndim - len(windows.shape) - 1
    inside = tuple(before + 2 * axis + 1 for axis in range(len(windows.shape)))
    number = np.expand_dims(
        np.arange(math.prod(windows.shape), dtype=np.int32).reshape(windows.shape),
        [axis for axis in range(before + 2 * len(inside) + 1) if axis not in inside],
    )
    chosen = jnp.expand_dims(first, inside) == number
    moved = jnp.where(chosen, _apart(windows, tangent, before), 0)
    return output, jnp.sum(moved, axis=inside)


def _places(windows, inputs):
    """The numbers at each place of all windows, a list of arrays as large as the output."""
    before = inputs.ndim - len(windows.shape) - 1
    lowest = jnp.array(-jnp.inf, inputs.dtype)
    padded = jax.lax.pad(inputs, lowest, _padding(before, windows.pads))
    found = []
    for place in itertools.product(*map(range, windows.shape)):
        ends = [
            start + (size - 1) * step + 1
            for start, size, step in zip(place, windows.sizes, windows.shape, strict=True)
        ]
        found.append(
            jax.lax.slice(
                padded,
                (0,) * before + place + (0,),
                (*inputs.shape[:before], *ends, inputs.shape[-1]),
                (1,) * before + windows.shape + (1,),
            )
        )
    return found


def _padding(before, pads):
    """`pads` of the axes of pixels, for `jax.lax.pad` of all axes."""
    return [(0, 0, 0)] * before + [(low, high, 0) for low, high in pads] + [(0, 0, 0)]


def _apart(windows, tangent, before):
    """The tangent with each axis of pixels as two: windows, and places in a window."""
    pads, shape = [], list(tangent.shape[:before])
    for axis, ((low, _), size, step) in enumerate(zip(*windows[1:], windows.shape, strict=True)):
        pads.append((low, size * step - low - tangent.shape[before + axis]))
        shape += [size, step]
    padded = jax.lax.pad(tangent, jnp.zeros((), tangent.dtype), _padding(before, pads))
    return padded.reshape(*shape, tangent.shape[-1])
