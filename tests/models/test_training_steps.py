"""One gradient of each architecture, small, as a multi-task problem."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import as_dicts, filled
from flax import nnx

from tag_jax import gradients, models, objectives
from tag_jax.models.layers import normalised_convolution
from tag_jax.models.resnet import bottleneck_block
from tag_jax.problem import Batch, from_nnx

CLASSES = objectives.classification(3)
PIXELS = objectives.regression(2)._replace(
    loss=lambda output, target: jnp.mean(jnp.square(output - target), axis=-1)
)

tiny_resnet50 = functools.partial(
    models.ResNet, bottleneck_block, (1, 1, 1, 1), output_stride=8, width=1 / 16
)


def linear(num_features, dtype, rngs):
    return nnx.Linear(num_features, 3, dtype=dtype, rngs=rngs)


def pyramid(channels, dtype, rngs):
    return models.PyramidPooling(
        channels, 2, (32, 32), cells=(1, 2), hidden=4, dtype=dtype, rngs=rngs
    )


def decoder(channels, dtype, rngs):
    return models.XceptionDecoder(channels, 2, dtype=dtype, rngs=rngs)


NETWORKS = {
    'LeNet': (functools.partial(models.LeNet, (16, 16, 1), width=0.5), (16, 16, 1), linear),
    'SmallResNet': (
        functools.partial(models.SmallResNet, (16, 16), width=1 / 16),
        (16, 16, 3),
        linear,
    ),
    'CelebAResNet18': (
        functools.partial(models.CelebAResNet18, (32, 32), width=1 / 16),
        (32, 32, 3),
        linear,
    ),
    'ResNet, pyramid pooling': (tiny_resnet50, (32, 32, 3), pyramid),
    'Xception': (functools.partial(models.Xception, 32, 1, width=1 / 16), (32, 32, 3), decoder),
}


# Their blocks are in the others as well, or in test_xception.py.
LONG = ('CelebAResNet18', 'Xception')


def make_problem(tasks, encoder, image, head, dtype):
    """Tasks with the same kind of head."""
    abstract = nnx.eval_shape(lambda: encoder(rngs=nnx.Rngs(0)))
    size = abstract.num_features if head is linear else abstract.channels
    kind = CLASSES if head is linear else PIXELS
    return from_nnx(
        lambda rngs: encoder(dtype=dtype, rngs=rngs),
        dict.fromkeys(tasks, kind),
        jax.ShapeDtypeStruct((1, *image), jnp.float32),
        {task: lambda rngs: head(size, dtype, rngs) for task in tasks},
    )


def make_batch(tasks, image, head):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, *image)).astype(np.float32)
    if head is linear:
        return Batch(images, {task: rng.integers(0, 3, 4) for task in tasks})
    pixels = rng.normal(size=(4, *image[:2], 2)).astype(np.float32)
    return Batch(images, dict.fromkeys(tasks, pixels))


def quickly_compiled(function):
    return jax.jit(function, compiler_options={'xla_backend_optimization_level': 0})


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.sweep if name in LONG else [], id=name)
        for name in NETWORKS
    ],
)
def test_one_gradient(name):
    encoder, image, head = NETWORKS[name]
    tasks = ('first', 'second') if head is linear else ('first',)
    problem = make_problem(tasks, encoder, image, head, None)
    batch = make_batch(tasks, image, head)
    params, state = filled(jax.eval_shape(problem.init, jax.random.key(0)))

    @quickly_compiled
    def gradient_and_state(params, state):
        found, state = gradients.task_gradients(problem, params, state, batch)
        return found.losses, found.combine(jnp.ones(len(tasks))), state

    losses, gradient, new_state = gradient_and_state(params, state)
    assert np.isfinite(losses).all()
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    changes = jax.tree.map(lambda old, new: np.abs(old - new).max(), state, new_state)
    for path, change in jax.tree.leaves_with_path(changes):
        assert change > 0, path


@pytest.mark.variants(1)
@pytest.mark.parametrize('name', [name for name in NETWORKS if name not in LONG])
def test_bfloat16(name):
    """Only the computation is in bfloat16; statistics, parameters and pixels are float32."""
    encoder, image, head = NETWORKS[name]
    problem = make_problem(('first',), encoder, image, head, jnp.bfloat16)
    images = make_batch(('first',), image, head).inputs
    shapes = jax.eval_shape(problem.init, jax.random.key(0))

    def encode(params, state):
        return problem.encode(params['shared'], state['shared'], images, True, None)

    representation, new_state = jax.eval_shape(encode, *shapes)
    assert representation.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((shapes, new_state)))
    predict = quickly_compiled(lambda params, state: problem.predict(params, state, images))
    output = predict(*filled(shapes))['first']
    assert output.dtype == (jnp.bfloat16 if head is linear else jnp.float32)
    assert np.isfinite(output.astype(np.float32)).all()


def test_normalisation_learns_its_statistics_in_training_only():
    module = normalised_convolution(3, 2, 1, rngs=nnx.Rngs(0))
    images = jnp.linspace(-1, 2, 96).reshape(2, 4, 4, 3)
    before = as_dicts(module)
    module.eval()
    module(images)
    jax.tree.map(np.testing.assert_array_equal, before, as_dicts(module))
    module.train()
    module(images)
    params, state = as_dicts(module)
    jax.tree.map(np.testing.assert_array_equal, before[0], params)
    hidden = np.asarray(images) @ np.asarray(module.convolution.kernel[0, 0])
    np.testing.assert_allclose(state['norm']['mean'], 0.1 * hidden.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(state['norm']['var'], 0.9 + 0.1 * hidden.var((0, 1, 2)), rtol=1e-5)
