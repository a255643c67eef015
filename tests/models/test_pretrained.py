import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import abstract, as_dicts, filled
from flax import nnx

from tag_jax import models
from tag_jax.models.resnet import basic_block, bottleneck_block

KINDS = {'basic': basic_block, 'bottleneck': bottleneck_block}


def make_resnet(kind, depths=(1, 2, 1, 1), width=1 / 32):
    return models.ResNet(KINDS[kind], depths, output_stride=8, width=width, rngs=nnx.Rngs(0))


def torchvision_weights(kind, depths=(1, 2, 1, 1), width=1 / 32):
    """Names, shapes and values of a state dict, as torchvision lays it out."""
    rng = np.random.default_rng(0)
    arrays = {}

    def add(convolution, norm, outputs, inputs, size):
        shape = (outputs, inputs, size, size)
        arrays[f'{convolution}.weight'] = rng.normal(0, (inputs * size**2) ** -0.5, shape)
        arrays[f'{norm}.weight'] = rng.uniform(0.5, 1.5, outputs)
        arrays[f'{norm}.bias'] = rng.normal(size=outputs)
        arrays[f'{norm}.running_mean'] = rng.normal(0, 0.1, outputs)
        arrays[f'{norm}.running_var'] = rng.uniform(0.5, 1.5, outputs)
        arrays[f'{norm}.num_batches_tracked'] = np.int64(7)

    inputs = int(64 * width)
    add('conv1', 'bn1', inputs, 3, 7)
    for stage, depth in enumerate(depths):
        channels = int(64 * 2**stage * width)
        for position in range(depth):
            block = f'layer{stage + 1}.{position}'
            if kind == 'basic':
                sizes = (channels, inputs, 3), (channels, channels, 3)
            else:
                sizes = (channels, inputs, 1), (channels, channels, 3), (4 * channels, channels, 1)
            for number, size in enumerate(sizes, 1):
                add(f'{block}.conv{number}', f'{block}.bn{number}', *size)
            outputs = sizes[-1][0]
            if position == 0 and (stage > 0 or inputs != outputs):
                add(f'{block}.downsample.0', f'{block}.downsample.1', outputs, inputs, 1)
            inputs = outputs
    arrays['fc.weight'], arrays['fc.bias'] = np.ones((10, inputs)), np.ones(10)
    return {
        name: array if array.dtype == np.int64 else np.asarray(array, np.float32)
        for name, array in arrays.items()
    }


def reference(weights, images, depths=(1, 2, 1, 1)):
    """A bottleneck network of output stride 8, from a state dict, channels first.

    Images are to have the margin of three pixels that the first convolution wants.
    """

    def convolve(x, name, stride=1, dilation=1, margin=None):
        kernel = weights[f'{name}.weight']
        margin = dilation * (kernel.shape[-1] - 1) // 2 if margin is None else margin
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), [(margin, margin)] * 2, rhs_dilation=(dilation, dilation)
        )

    def normalise(x, name):
        scale, bias, mean, var = (
            weights[f'{name}.{part}'][:, None, None][None]
            for part in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    x = nnx.relu(normalise(convolve(images, 'conv1', 2, margin=0), 'bn1'))
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    x = jax.lax.reduce_window(padded, -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), 'VALID')
    for stage, depth in enumerate(depths):
        for position in range(depth):
            name = f'layer{stage + 1}.{position}'
            stride = 2 if stage == 1 and position == 0 else 1
            dilation = ((1, 1), (1, 1), (1, 2), (2, 4))[stage][position > 0]
            y = nnx.relu(normalise(convolve(x, f'{name}.conv1'), f'{name}.bn1'))
            y = convolve(y, f'{name}.conv2', stride, dilation)
            y = nnx.relu(normalise(y, f'{name}.bn2'))
            y = normalise(convolve(y, f'{name}.conv3'), f'{name}.bn3')
            if position == 0:
                x = convolve(x, f'{name}.downsample.0', stride)
                x = normalise(x, f'{name}.downsample.1')
            x = nnx.relu(x + y)
    return x


@pytest.mark.variants(1)
@pytest.mark.parametrize('normalised', [True, False])
def test_weights_of_torchvision_compute_what_they_do_there(tmp_path, normalised):
    """On images that torchvision would normalise first, or that somebody has."""
    depths = (1, 1, 1, 2)
    weights = torchvision_weights('bottleneck', depths)
    np.savez(tmp_path / 'weights.npz', **weights)
    module = nnx.eval_shape(lambda: make_resnet('bottleneck', depths))
    module.eval()
    graph, params, state = nnx.split(module, nnx.Param, ...)
    loaded = models.load_weights(
        tmp_path / 'weights.npz',
        nnx.to_pure_dict(params),
        nnx.to_pure_dict(state),
        functools.partial(models.from_torchvision, normalised=normalised),
    )
    images = np.random.default_rng(1).uniform(size=(2, 3, 32, 40)).astype(np.float32)
    bordered = np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)))
    if not normalised:
        mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        bordered = np.asarray((bordered - mean) / deviation, np.float32)

    @functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
    def both(loaded, weights, images, bordered):
        for variables, values in zip((params, state), loaded, strict=True):
            nnx.replace_by_pure_dict(variables, values)
        found = nnx.merge(graph, params, state)(jnp.transpose(images, (0, 2, 3, 1)))
        return jnp.transpose(found, (0, 3, 1, 2)), reference(weights, bordered, depths)

    found, expected = both(loaded, weights, images, bordered)
    assert found.shape == (2, 64, 4, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('make', 'kind', 'depths', 'count'),
    [
        (models.resnet18, 'basic', (2, 2, 2, 2), 20 * 5),
        (models.resnet50, 'bottleneck', (3, 4, 6, 3), 53 * 5),
    ],
)
def test_every_name_of_torchvision_has_its_place(tmp_path, make, kind, depths, count):
    np.savez(tmp_path / 'weights.npz', **torchvision_weights(kind, depths, 1 / 32))
    old = as_dicts(abstract(make, width=1 / 32))
    new = models.load_weights(tmp_path / 'weights.npz', *old, models.from_torchvision)
    assert len(jax.tree.leaves(new)) == count
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), old, new)


def test_weights_saved_are_weights_loaded(tmp_path):
    shapes = as_dicts(nnx.eval_shape(lambda: make_resnet('basic')))
    params, state = filled(shapes)
    models.save_weights(tmp_path / 'weights.npz', params, state)
    jax.tree.map(
        np.testing.assert_array_equal,
        (params, state),
        models.load_weights(tmp_path / 'weights.npz', *shapes),
    )


def test_what_does_not_fit_is_named(tmp_path):
    file = tmp_path / 'weights.npz'
    params, state = {'dense': {'kernel': np.ones((2, 3)), 'bias': np.ones(3)}}, {}

    def load(**arrays):
        np.savez(file, **arrays)
        return models.load_weights(file, params, state)

    kernel, bias = {'dense.kernel': np.zeros((2, 3))}, {'dense.bias': np.zeros(3)}
    assert load(**kernel, **bias)[0]['dense']['bias'].sum() == 0
    with pytest.raises(ValueError, match="weights.npz has no 'dense.bias'"):
        load(**kernel)
    with pytest.raises(ValueError, match="has 'norm.mean', which the encoder does not have"):
        load(**kernel, **bias, **{'norm.mean': np.zeros(3)})
    with pytest.raises(ValueError, match=r"'dense.bias' is \(4,\) .* the encoder wants \(3,\)"):
        load(**kernel, **{'dense.bias': np.zeros(4)})
    for name in (
        'features.0.weight',
        'conv2.weight',
        'layer1.0.conv1.bias',
        'layer1.0.conv.weight',
    ):
        with pytest.raises(ValueError, match=f"'{name}' is not a weight of a residual network"):
            models.from_torchvision({name: np.zeros(3)})
