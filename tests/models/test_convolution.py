"""Convolutions and max pooling against XLA's own, by every kind of derivative."""

import functools

import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import strategies as st

from tag_jax import gradients, models
from tag_jax.models import convolution

IN_FLAX = ('NHWC', 'HWIO', 'NHWC')
SAME = {'window_strides': (1, 1), 'padding': 'SAME', 'dimension_numbers': IN_FLAX}


@pytest.fixture
def always(monkeypatch):
    """Patches wherever they fit at all, however small the convolution."""
    monkeypatch.setattr(convolution, '_patches_pay', lambda *_: True)


def arrays(*shapes, seed=0, dtype=None):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def with_gradients(convolve, lhs, rhs, cotangent):
    """Output and both gradients."""
    output, pull = jax.vjp(convolve, lhs, rhs)
    return output, *pull(cotangent[tuple(map(slice, output.shape))])


def both(convolve, options, *arguments):
    """The same of ours and of XLA's, in one program."""
    ours = functools.partial(models.conv_general_dilated, **options)
    native = functools.partial(jax.lax.conv_general_dilated, **options)
    return jax.jit(lambda *given: (convolve(ours, *given), convolve(native, *given)))(*arguments)


def check(found, expected, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, float), np.asarray(b, float), rtol=tolerance, atol=tolerance
        ),
        found,
        expected,
    )


@hypothesis.settings(
    max_examples=8, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    size=st.tuples(st.integers(5, 8), st.integers(5, 8)),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.sampled_from(['SAME', 'VALID', ((0, 2), (1, 0)), ((2, 2), (-1, 1))]),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_gradients_are_those_of_xla(always, size, taps, strides, dilation, padding, channels):
    options = {
        'window_strides': strides,
        'padding': padding,
        'rhs_dilation': dilation,
        'dimension_numbers': IN_FLAX,
    }
    inputs, outputs = channels
    with jax.enable_x64(True):
        given = arrays((2, *size, inputs), (*taps, inputs, outputs), (2, 12, 12, outputs))
        found, expected = both(with_gradients, options, *given)
        check(found, expected, 1e-12)


@pytest.mark.parametrize(
    ('lhs', 'rhs', 'numbers'),
    [
        ((2, 7, 3), (3, 3, 4), ('NHC', 'HIO', 'NHC')),
        ((2, 3, 6, 5), (4, 3, 3, 2), ('NCHW', 'OIHW', 'NCHW')),
        ((6, 2, 3, 5), (3, 4, 3, 2), ('HNCW', 'IOHW', 'HWNC')),
        ((2, 4, 5, 4, 2), (2, 3, 2, 2, 3), ('NDHWC', 'DHWIO', 'NDHWC')),
        ((2, 3, 6, 5), (4, 3, 3, 2), None),
    ],
)
def test_layouts_and_numbers_of_axes(always, lhs, rhs, numbers):
    options = {'window_strides': (1,) * (len(lhs) - 2), 'padding': 'SAME'}
    with jax.enable_x64(True):
        given = arrays(lhs, rhs, (12,) * len(lhs))
        found, expected = both(with_gradients, options | {'dimension_numbers': numbers}, *given)
        check(found, expected, 1e-12)


def every_derivative(convolve, lhs, rhs, lhs_tangent, rhs_tangent):
    """Forward mode by either argument and both, vmapped gradients, a second derivative."""
    loss = lambda lhs, rhs: jnp.sum(jnp.sin(convolve(lhs, rhs)))
    by_filter = jax.grad(loss, 1)
    stacked = jnp.stack([rhs, rhs_tangent])
    return {
        'jvp': jax.jvp(convolve, (lhs, rhs), (lhs_tangent, rhs_tangent)),
        'jvp by the filter': jax.jvp(lambda rhs: convolve(lhs, rhs), (rhs,), (rhs_tangent,)),
        'jvp by the input': jax.jvp(lambda lhs: convolve(lhs, rhs), (lhs,), (lhs_tangent,)),
        'gradients of a stack of filters': jax.vmap(functools.partial(by_filter, lhs))(stacked),
        'gradients by a stack of inputs': jax.vmap(by_filter, (0, None))(
            jnp.stack([lhs, lhs_tangent]), rhs
        ),
        'forward over reverse': jax.jvp(
            jax.grad(loss, (0, 1)), (lhs, rhs), (lhs_tangent, rhs_tangent)
        ),
        'reverse over reverse': jax.grad(lambda rhs: jnp.sum(by_filter(lhs, rhs) ** 2))(rhs),
    }


def test_every_derivative(always):
    with jax.enable_x64(True):
        given = arrays(*[(2, 4, 4, 2), (3, 3, 2, 3)] * 2)
        found, expected = both(every_derivative, SAME, *given)
        check(found, expected, 1e-11)


def test_derivatives_by_finite_differences(always):
    with jax.enable_x64(True):
        convolve = functools.partial(models.conv_general_dilated, **SAME)
        lhs, rhs, *tangents = arrays(*[(2, 4, 4, 2), (3, 3, 2, 3)] * 2)
        loss = jax.jit(lambda lhs, rhs: jnp.sum(jnp.sin(convolve(lhs, rhs))))
        step = 1e-5
        ahead, behind = (
            loss(lhs + sign * tangents[0], rhs + sign * tangents[1]) for sign in (step, -step)
        )
        found = jax.jit(jax.grad(loss, (0, 1)))(lhs, rhs)
        slope = sum(jnp.vdot(g, t) for g, t in zip(found, tangents, strict=True))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-8)


@pytest.mark.parametrize(
    ('dtype', 'tolerance', 'options'),
    [
        (jnp.float32, 1e-5, {}),
        (jnp.float32, 1e-5, {'precision': jax.lax.Precision.HIGHEST}),
        (jnp.bfloat16, 0.03, {}),
        (jnp.bfloat16, 0.03, {'preferred_element_type': jnp.float32}),
    ],
)
def test_number_types(always, dtype, tolerance, options):
    shapes = (2, 4, 4, 2), (3, 3, 2, 3), (2, 4, 4, 3)
    lhs, rhs, cotangent = arrays(*shapes, dtype=dtype)
    cotangent = cotangent.astype(options.get('preferred_element_type', dtype))
    found, expected = both(with_gradients, SAME | options, lhs, rhs, cotangent)
    assert [x.dtype for x in found] == [x.dtype for x in expected]
    np.testing.assert_array_equal(*(np.asarray(x[0], np.float32) for x in (found, expected)))
    check(found, expected, tolerance * float(jnp.max(jnp.abs(expected[2].astype(float)))))


def test_modules_of_flax_take_them():
    """Linen and NNX, at a size at which patches are chosen: outputs bitwise, gradients rounded."""
    (images,) = arrays((2, 8, 8, 3), dtype=jnp.float32)
    options = {'conv_general_dilated': models.conv_general_dilated}
    ours, plain = nn.Conv(16, (3, 3), **options), nn.Conv(16, (3, 3))
    variables = plain.init(jax.random.key(0), images)
    graph, state = nnx.split(nnx.Conv(3, 16, (3, 3), **options, rngs=nnx.Rngs(0)))
    nnx.replace_by_pure_dict(state, dict(variables['params']))

    def pooled(apply):
        def loss(params):
            output = apply(params)
            return jnp.sum(jnp.sin(models.max_pool(output, (2, 2), (2, 2)))), output

        return jax.grad(loss, has_aux=True)

    def of_nnx(params):
        nnx.replace_by_pure_dict(state, dict(params))
        return nnx.merge(graph, state)(images)

    runs = [lambda p, m=m: m.apply({'params': p}, images) for m in (ours, plain)] + [of_nnx]
    (found, output), (expected, native), (in_nnx, output_of_nnx) = jax.jit(
        lambda params: [pooled(run)(params) for run in runs]
    )(variables['params'])
    np.testing.assert_array_equal(output, native)
    np.testing.assert_array_equal(output_of_nnx, native)
    check(found, expected, 1e-4)
    check(in_nnx, found, 1e-6)


def names_of(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments))


def by_patches(lhs, rhs, dtype=jnp.float32, **options):
    given = [jax.ShapeDtypeStruct(shape, dtype) for shape in (lhs, rhs)]
    convolve = functools.partial(models.conv_general_dilated, **(SAME | options))
    return 'custom_jvp' in names_of(convolve, *given)


def test_where_patches_are_chosen(monkeypatch):
    picture, filters = (64, 32, 32, 3), (3, 3, 3, 32)
    assert by_patches(picture, filters)
    assert by_patches((64, 64, 64, 3), (3, 3, 3, 64))
    assert by_patches((64, 16, 16, 16), (3, 3, 16, 32))
    assert not by_patches((64, 32, 32, 16), (3, 3, 16, 32))  # Too many patches.
    assert not by_patches((64, 16, 16, 16), (3, 3, 16, 16))  # Too few outputs.
    assert not by_patches((4, 16, 16, 64), (3, 3, 64, 128))  # Too many numbers a patch.
    assert not by_patches((4, 16, 16, 16), (1, 1, 16, 64))  # A matrix product already.
    assert not by_patches((2, 2, 2, 3), filters, padding='VALID')  # No output.
    assert not by_patches(picture, (3, 3, 1, 33), feature_group_count=3)
    assert not by_patches(picture, filters, batch_group_count=2)
    assert not by_patches(picture, filters, lhs_dilation=(2, 1), padding=((1, 1), (1, 1)))
    assert not by_patches(picture, filters, dtype=jnp.int32)
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert not by_patches(picture, filters)


def test_what_does_not_fit_is_xlas():
    """Groups and dilated inputs, with patches allowed."""
    with jax.enable_x64(True):
        for options, filters in (
            ({'feature_group_count': 2}, (3, 3, 2, 6)),
            ({'batch_group_count': 2}, (3, 3, 4, 6)),
            ({'lhs_dilation': (2, 1), 'padding': ((1, 1), (1, 1))}, (3, 3, 4, 6)),
        ):
            given = arrays((2, 5, 5, 4), filters, (2, 10, 10, 6))
            found, expected = both(with_gradients, SAME | options, *given)
            check(found, expected, 0)


def test_costs_and_batching_see_the_convolution():
    make = functools.partial(
        nnx.Conv, 3, 32, (3, 3), conv_general_dilated=models.conv_general_dilated
    )
    expected = 8 * 8 * 9 * 3 * 32
    assert models.multiply_adds(lambda rngs: make(rngs=rngs), (8, 8, 3)) == expected
    convolve = functools.partial(models.conv_general_dilated, **SAME)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 8, 8, 3), (3, 3, 3, 32))]
    assert gradients.faster_batching(convolve, *shapes) == 'unroll'


def pooled(pool, inputs, tangent):
    """Output, gradient, tangent, and gradients under vmap."""
    output, pull = jax.vjp(pool, inputs[0])
    gradients = jax.vmap(jax.grad(lambda x: jnp.sum(jnp.cos(pool(x)))))(inputs)
    return output, jax.jvp(pool, (inputs[0],), (tangent[0],)), *pull(jnp.sin(output) + 2), gradients


def pooled_both(shape, window, padding):
    """The same by ours and by Flax's, on integers with ties and zeros of both signs."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.integers(-1, 3, size=(2, *shape)) * rng.choice([1.0, -1.0], shape))
    tangent = jnp.asarray(rng.normal(size=(2, *shape)), inputs.dtype)
    ours, flax = (
        functools.partial(pool, window_shape=window, strides=window, padding=padding)
        for pool in (models.max_pool, nn.max_pool)
    )
    return jax.jit(lambda *given: (pooled(ours, *given), pooled(flax, *given)))(inputs, tangent)


@pytest.mark.variants(3)
@pytest.mark.parametrize(
    ('shape', 'window', 'padding'),
    [
        ((2, 6, 8, 3), (2, 2), 'VALID'),
        ((2, 6, 8, 3), (3, 2), 'SAME'),
        ((2, 7, 9, 3), (2, 3), 'VALID'),
        ((2, 7, 9, 3), (2, 4), 'SAME'),
        ((2, 7, 9, 3), (3, 3), ((1, 1), (0, 2))),
        ((2, 6, 3), (3,), 'VALID'),
        ((4, 4, 3), (2, 2), 'VALID'),
        ((2, 2, 4, 4, 2), (2, 2, 2), 'VALID'),
    ],
)
def test_max_pooling_is_bitwise_that_of_flax(shape, window, padding):
    found, expected = pooled_both(shape, window, padding)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    np.testing.assert_array_equal(np.signbit(found[0]), np.signbit(expected[0]))


def test_max_pooling_keeps_nan_and_infinity():
    inputs = jnp.array([[jnp.nan, 1, -jnp.inf, -jnp.inf, 2, jnp.inf]])[..., None]
    found, expected = (pool(inputs, (2,), (2,)) for pool in (models.max_pool, nn.max_pool))
    np.testing.assert_array_equal(found, expected)


def test_where_max_pooling_is_ours(monkeypatch):
    def ours(window, strides, padding='VALID', dtype=jnp.float32):
        given = jax.ShapeDtypeStruct((2, 6, 8, 3), dtype)
        return 'custom_jvp' in names_of(
            lambda x: models.max_pool(x, window, strides, padding), given
        )

    assert ours((2, 2), (2, 2))
    assert ours((3, 3), (3, 3), 'SAME')
    assert not ours((3, 3), (2, 2), 'SAME')
    assert not ours((2, 2), None)
    assert not ours((6, 8), (6, 8))
    assert not ours((2, 2), (2, 2), dtype=jnp.int32)
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert not ours((2, 2), (2, 2))
