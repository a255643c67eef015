"""STCH against automatic differentiation of the scalarization that it stands for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tag_jax import weighting


def scalarization(losses, mu, preference, ideal):
    return mu * jax.nn.logsumexp(preference * (losses - ideal) / mu)


def update(losses, stack, active=None, **options):
    """Weights and combined gradient of one step."""
    transform, params = weighting.stch(num_tasks=len(losses), **options), jnp.zeros(stack.shape[1])
    return transform.update(
        jnp.asarray(stack, jnp.float32),
        transform.init(params),
        params,
        losses=jnp.asarray(losses, jnp.float32),
        active=active,
    )


@functools.cache
def quadratics():
    """Three losses of two parameters, and their Jacobian."""
    centres = jnp.array([[1.0, 0], [-1, 2], [0, -1]])
    losses = lambda p: jnp.sum((p[None] - centres) ** 2, axis=1) + jnp.array([0.5, 0, 3])
    return losses, jax.jacrev(losses)


@pytest.mark.variants(3)
@pytest.mark.parametrize('mu', [0.01, 0.5, 20.0])
@pytest.mark.parametrize('preference', [None, [0.2, 0.7, 0.1], [1.0, 0.0, 2.0]])
def test_it_is_the_gradient_of_the_smooth_maximum(mu, preference):
    losses, jacobian = quadratics()
    point, ideal = jnp.array([0.3, -0.4]), jnp.array([0.5, 0, 3])
    chosen = jnp.full(3, 1 / 3) if preference is None else jnp.array(preference)
    expected = jax.grad(lambda p: scalarization(losses(p), mu, chosen, ideal))(point)
    combined, state = update(
        losses(point), jacobian(point), mu=mu, preference=preference, ideal=ideal
    )
    np.testing.assert_allclose(combined, expected, rtol=1e-4, atol=1e-5)
    assert state.gram is None


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=2),
    st.floats(1e-6, 1e6),
    st.floats(0, 1e3),
)
def test_weights_are_shares_of_the_preferences(losses, mu, preference):
    """At any scale: they sum to at most the largest, and the largest p (L - z) has the largest."""
    _, state = update(losses, np.eye(2), mu=mu, preference=[preference, 1.0])
    weights = np.asarray(state.weights, np.float64)
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert weights.sum() <= max(preference, 1) * (1 + 1e-5)
    relative = weights / np.where(np.array([preference, 1]) > 0, [preference, 1], 1)
    above = preference * losses[0] - losses[1]
    if preference and abs(above) > 1e-3 * (1 + preference * losses[0] + losses[1]):
        # Where mu is large both are nearly alike, and float32 rounds them.
        assert (relative[0] - relative[1]) * np.sign(above) >= -1e-6


def test_the_ends_of_mu():
    """Small: the task with the largest loss takes all. Large: the preferences alone."""
    losses = [1.0, 3, 2]
    _, state = update(losses, np.eye(3), mu=1e-6)
    np.testing.assert_allclose(state.weights, [0, 1 / 3, 0], atol=1e-6)
    _, state = update(losses, np.eye(3), mu=1e6, preference=[1.0, 2, 3])
    np.testing.assert_allclose(state.weights, np.array([1, 2, 3]) / 3, rtol=1e-4)


def test_an_inactive_task_is_in_no_sum():
    losses = [1.0, 100, 2]
    active = jnp.array([True, False, True])
    _, state = update(losses, np.eye(3), active=active)
    _, alone = update([1.0, 2], np.eye(2))
    np.testing.assert_allclose(state.weights, np.insert(alone.weights, 1, 0), rtol=1e-6)


def test_preferences_by_name_need_names():
    with pytest.raises(ValueError, match='preference must be 2 numbers: stacked gradients have no'):
        update([1.0, 1.0], np.eye(2), preference={'a': 1.0, 'b': 1.0})


def test_it_reaches_points_that_no_weighted_sum_does():
    """Losses 1 - exp(-(x -+ 1)^2), whose trade-off is concave: the even point is a maximum of the
    sum, and the minimum of the largest."""
    losses = lambda x: 1 - jnp.exp(-jnp.square(x - jnp.array([1.0, -1.0])))

    def descend(transform, x):
        def step(_, now):
            x, state = now
            direction, state = transform.update(
                jax.jacrev(losses)(x)[:, None], state, x[None], losses=losses(x)
            )
            return x - 0.05 * direction[0], state

        return jax.lax.fori_loop(0, 2000, step, (x, transform.init(x[None])))[0]

    start = jnp.float32(0.3)
    assert abs(descend(weighting.stch(0.1, preference=1.0, num_tasks=2), start)) < 1e-3
    assert descend(weighting.equal(num_tasks=2), start) > 0.9
