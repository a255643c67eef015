"""FairGrad against closed forms, its own equation in float64, and its problem solved otherwise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from weighting.stacked import PARAMETERS, TASKS, Step, first_updates

from tag_jax import weighting


def first(alpha, found, active=None, dtype=np.float32, max_norm=None):
    """Weights and combined gradient in float64; one program for all alphas, tasks and parameters.

    What is missing to TASKS and PARAMETERS is inactive, or zero.
    """
    size, width = np.shape(found)
    stack, on = np.zeros((TASKS, PARAMETERS), dtype), np.zeros(TASKS, bool)
    stack[:size, :width], on[:size] = found, True if active is None else active
    combined, weights = _first(np.asarray(alpha, dtype), stack, on, max_norm)
    as_numbers = lambda array, count: np.asarray(array, np.float64)[:count]
    return as_numbers(weights, size), as_numbers(combined, width)


@functools.partial(jax.jit, static_argnames='max_norm')
def _first(alpha, stack, active, max_norm):
    params = jnp.zeros(stack.shape[1], stack.dtype)
    transform = weighting.fairgrad(alpha, max_norm, num_tasks=len(stack))
    combined, state = transform.update(stack, transform.init(params), params, active=active)
    return combined, state.weights


def gradients(seed, size, width, decades=0.0, one_sided=True):
    """Random gradients whose norms differ by some decades; one-sided ones can all descend."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(size, width)) * 10 ** rng.uniform(-decades / 2, decades / 2, (size, 1))
    side = np.where(found @ rng.normal(size=(width, 1)) < 0, -1, 1)
    return found * side if one_sided else found


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, TASKS),
    st.integers(0, 6),
    st.floats(0.25, 6),
    st.floats(0, 2),
)
def test_the_weights_solve_their_equation(seed, size, more, alpha, decades):
    """G w = w^(-1/alpha), in float64."""
    found = gradients(seed, size, size + more, decades)
    gram = found @ found.T
    with jax.enable_x64(True):
        weights, combined = first(alpha, found, dtype=np.float64)
    assert (weights > 0).all()
    # The share of each task in |d|^2, which both sides of the equation give.
    shares, expected = weights * (gram @ weights), weights ** (1 - 1 / alpha)
    np.testing.assert_allclose(shares, expected, atol=1e-6 * expected.max())
    np.testing.assert_allclose(combined, weights @ found, atol=1e-9 * np.abs(combined).max())


@pytest.mark.variants(4)
@pytest.mark.parametrize('alpha', [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(('size', 'width'), [(2, 3), (6, 4), (4, 8)])
def test_the_direction_maximises_the_utility(alpha, size, width):
    """A second route: |d|^2 / 2 - sum_t (g_t . d)^(1 - alpha) / (1 - alpha), over d by BFGS."""
    found = gradients(3, size, width, 0.5)

    def objective(d):
        rates = found @ d
        if (rates <= 0).any():
            return np.inf, np.zeros(width)
        utility = np.log(rates) if alpha == 1 else rates ** (1 - alpha) / (1 - alpha)
        return d @ d / 2 - utility.sum(), d - rates**-alpha @ found

    _, combined = first(alpha, found)
    start = weighting_start(found)
    best = minimize(objective, start, jac=True, method='BFGS', options={'gtol': 1e-9})
    np.testing.assert_allclose(combined, best.x, atol=1e-3 * np.abs(best.x).max())


def weighting_start(found):
    """A direction that raises no loss: Nash's, of which the oracle only takes the side."""
    combined, _ = first_updates(weighting.nash_mtl(num_tasks=TASKS), [Step(found)])[0]
    return combined


@pytest.mark.parametrize('alpha', [0.1, 0.5, 1.0, 2.0, 8.0])
def test_closed_forms(alpha):
    norms = np.array([0.2, 1, 7])
    weights, _ = first(alpha, np.diag(norms))
    np.testing.assert_allclose(weights, norms ** (-2 * alpha / (1 + alpha)), rtol=1e-4)
    weights, _ = first(alpha, 3 * np.ones((4, 1)))  # one gradient, four times
    np.testing.assert_allclose(weights, (4 * 9) ** (-alpha / (1 + alpha)), rtol=1e-4)
    # Two of one norm, at 120 degrees.
    pair = [[2.0, 0], [2 * np.cos(2 * np.pi / 3), 2 * np.sin(2 * np.pi / 3)]]
    weights, _ = first(alpha, pair)
    np.testing.assert_allclose(weights, (4 * 0.5) ** (-alpha / (1 + alpha)), rtol=1e-4)


def test_alpha_one_is_nash_mtl():
    """By another solver."""
    shapes = ((3, 5), (6, 4))
    tried = [gradients(seed, *shape, 2) for seed in range(5) for shape in shapes]
    nash = first_updates(weighting.nash_mtl(num_tasks=TASKS), [Step(found) for found in tried])
    for found, expected in zip(tried, nash, strict=True):
        _, combined = first(1.0, found)
        scale = np.abs(expected.combined).max()
        np.testing.assert_allclose(combined, expected.combined, atol=1e-3 * scale)


def test_towards_zero_it_is_the_sum_and_far_up_the_best_for_the_worst_task():
    """At infinity the direction that maximises min_t g_t . d: that of the min-norm point."""
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    for seed in range(5):
        found = np.abs(gradients(seed, 4, 6))
        assert cosine(first(0.01, found)[1], found.sum(axis=0)) > 0.999
        (best,) = first_updates(weighting.mgda(num_tasks=TASKS), [Step(found)])
        assert cosine(first(500.0, found)[1], best.combined) > 0.999
        directions = [first(alpha, found)[1] for alpha in (0.1, 1, 10)]
        least = [(found @ d).min() / np.linalg.norm(d) for d in directions]
        assert least == sorted(least)


@pytest.mark.parametrize('alpha', [0.5, 1.0, 3.0])
def test_scales_of_all_gradients_together(alpha):
    found = gradients(4, 5, 7)
    _, plain = first(alpha, found)
    for scale in (1e-6, 1e6):
        _, scaled = first(alpha, scale * found)
        expected = scale ** ((1 - alpha) / (1 + alpha)) * plain
        np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize('alpha', [0.2, 1.0, 2.0, 6.0])
def test_float32_is_close_to_float64_where_gradients_depend_on_each_other(alpha):
    """Nearly parallel, repeated, of several scales, more than parameters: the direction."""
    rng = np.random.default_rng(5)
    parallel = rng.normal(size=6) + 1e-3 * rng.normal(size=(5, 6))
    repeated = gradients(6, 3, 6)[[0, 0, 1, 1, 2]]
    for found in (parallel, repeated, gradients(7, 6, 4), gradients(8, 9, 4, 3)):
        _, single = first(alpha, found)
        with jax.enable_x64(True):
            _, double = first(alpha, found, dtype=np.float64)
        np.testing.assert_allclose(single, double, atol=5e-3 * np.abs(double).max())


@pytest.mark.parametrize('alpha', [0.05, 0.5, 1.0, 2.0, 8.0, 30.0])
def test_every_gradient_gives_a_finite_step(alpha):
    """Opposed, in balance, zero, inactive, of twenty decades; no task is turned against."""
    rng = np.random.default_rng(9)
    some = rng.normal(size=(5, 4))
    balanced = np.concatenate([some, -some.sum(axis=0, keepdims=True)])
    spread = some * 10.0 ** np.array([[-10], [-4], [0], [4], [10]])
    opposed, with_zero = np.stack([some[0], -some[0]]), some * [[1], [0], [1], [1], [0]]
    for found in (opposed, balanced, spread, 0 * some, with_zero):
        for active in (None, np.arange(len(found)) != 1):
            weights, combined = first(alpha, found, active)
            assert np.isfinite(weights).all()
            assert np.isfinite(combined).all()
            assert (weights >= 0).all()
            zero = (np.abs(found).max(axis=1) == 0) | (False if active is None else ~active)
            assert not weights[zero].any()


def test_near_balance_weights_are_those_of_the_ridge():
    """G has 4 T rounding errors on the diagonal of its cosines; of opposed gradients of norm one
    x + r x - x = x^(-1/alpha)."""
    ridge = 4 * TASKS * 2.0**-23
    for alpha in (0.5, 1.0, 2.0):
        weights, combined = first(alpha, [[1.0, 0], [-1, 0]])
        np.testing.assert_allclose(weights, ridge ** (-alpha / (1 + alpha)), rtol=0.05)
        assert np.abs(combined).max() < 1e-3


def test_a_limited_norm_keeps_the_direction():
    found = gradients(10, 4, 6)
    weights, combined = first(2.0, found)
    limit = float(np.linalg.norm(combined) / 3)
    fewer, shorter = first(2.0, found, max_norm=limit)
    np.testing.assert_allclose(shorter, combined / 3, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fewer, weights / 3, rtol=1e-4)
    np.testing.assert_allclose(first(2.0, found, max_norm=1e3)[1], combined, rtol=1e-6)
