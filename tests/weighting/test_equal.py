import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tag_jax import gradients, weighting


def test_equal_weights_are_the_gradient_of_the_sum(problem, point, batch):
    params, state = point
    found, _ = gradients.task_gradients(problem, params, state, batch)
    transform = weighting.equal()
    updates, _ = transform.update(found, transform.init(params), params)
    expected = jax.grad(lambda p: gradients.task_losses(problem, p, state, batch)[0].sum())(params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), updates, expected
    )


def test_a_chain_trains(problem, point, batch):
    transform = optax.chain(weighting.equal(), optax.clip_by_global_norm(1.0), optax.adamw(1e-2))

    @jax.jit
    def step(params, state, opt_state):
        found, state = gradients.task_gradients(problem, params, state, batch)
        updates, opt_state = transform.update(found, opt_state, params, value=0.0)
        return optax.apply_updates(params, updates), state, opt_state, found.losses.sum()

    params, state = point
    opt_state, losses = transform.init(params), []
    for _ in range(50):
        params, state, opt_state, loss = step(params, state, opt_state)
        losses.append(loss)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'before', [optax.scale(0.5), optax.sgd(0.1), optax.clip(1.0), optax.normalize_by_update_norm()]
)
def test_transforms_before_it_are_refused(problem, point, batch, before):
    """They would scale or clip the gradients that the vjp holds, and so the result."""
    params, state = point
    found, _ = gradients.task_gradients(problem, params, state, batch)
    chain = optax.chain(before, weighting.equal())
    with pytest.raises(TypeError, match='let it stand first in the chain'):
        chain.update(found, chain.init(params), params)


def test_anything_else_than_task_gradients_is_refused(problem, point):
    transform = weighting.equal()
    with pytest.raises(TypeError, match='let it stand first in the chain'):
        transform.update(jax.tree.map(jnp.ones_like, point[0]), transform.init(point[0]))
