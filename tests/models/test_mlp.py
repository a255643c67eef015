import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tag_jax import models


def test_layers_by_hand():
    model = models.MLP(6, (5, 4), rngs=nnx.Rngs(0))
    inputs = jax.random.normal(jax.random.key(0), (7, 2, 3))
    hidden = np.asarray(inputs).reshape(7, 6)
    for layer in model.layers:
        hidden = np.maximum(hidden @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), 0)
    found = model(inputs)
    assert found.shape == (7, 4)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, hidden, rtol=1e-5, atol=1e-6)
