import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tag_jax import models
from tag_jax.models.pspnet import average_over_cells, resized


@pytest.mark.parametrize('cells', [1, 2, 3, 6, 8])
def test_averages_over_cells_by_hand(cells):
    """Cells overlap where they do not divide the side, or where there are more of them."""
    images = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32)
    found = average_over_cells(jnp.asarray(images), cells)
    assert found.shape == (2, cells, cells, 3)
    edges = lambda size, n: slice(int(np.floor(n * size / cells)), -(-(n + 1) * size // cells))
    for row in range(cells):
        for column in range(cells):
            cell = images[:, edges(7, row), edges(6, column)]
            np.testing.assert_allclose(
                found[:, row, column], cell.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6
            )


def test_resizing_interpolates_between_the_centres_of_pixels():
    ramp = jnp.arange(4.0).reshape(1, 1, 4, 1)
    found = resized(ramp, (3, 8))[0, :, :, 0]
    expected = np.clip(np.arange(8) / 2 - 0.25, 0, 3)
    np.testing.assert_allclose(found, np.tile(expected, (3, 1)), atol=1e-6)


def test_what_is_the_same_everywhere_stays_so_away_from_the_border():
    """Padding is felt within one cell of the border of the map, and nowhere else."""

    @functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
    def outputs_of_the_same_everywhere(key):
        decoder = models.PyramidPooling(3, 2, (40, 40), cells=(1, 2), hidden=4, rngs=nnx.Rngs(key))
        decoder.eval()
        return decoder(jnp.ones((1, 10, 10, 3)))

    outputs = np.asarray(outputs_of_the_same_everywhere(jax.random.key(0)))
    assert outputs.shape == (1, 40, 40, 2)
    inside = outputs[0, 8:-8, 8:-8]
    np.testing.assert_allclose(inside, np.broadcast_to(inside[0, 0], inside.shape), rtol=1e-5)
    assert np.abs(outputs[0, 0, 0] - inside[0, 0]).max() > 1e-3
