"""The min-norm point against closed forms, brute force and float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import nnls

from tag_jax.weighting import active_set, min_norm

MOST = 40


def weights_of(stack):
    """The weights of several matrices of gradients of at most MOST tasks, in one program."""
    grams, active = map(np.stack, zip(*map(padded_gram, stack), strict=True))
    answers = np.asarray(jax.jit(jax.vmap(min_norm.min_norm_weights))(grams, active))
    return [weights[: len(found)] for found, weights in zip(stack, answers, strict=True)]


def assert_least_norm(found, weights, worst=(1e-5, 1e-10)):
    """Weights of a simplex whose combination, of all, is the shortest: see `excesses`."""
    weights = np.asarray(weights, np.float64)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    violation, excess = excesses(found, weights)
    assert violation <= worst[0]
    assert excess <= worst[1]


def random_gradients(count, seed):
    """Task gradients `[T, P]` in float64, of 2 to 40 tasks, of all the kinds that are hard."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        size = int(rng.integers(2, MOST + 1))
        kind = ('gaussian', 'deficient', 'scales', 'duplicate', 'zero', 'correlated')[n % 6]
        width = int(rng.integers(1, 2 * size + 10))
        if kind == 'deficient':
            width = int(rng.integers(1, max(2, size // 2 + 1)))
        found = rng.normal(size=(size, width))
        if kind == 'correlated':
            found += 3 * rng.random() * rng.normal(size=width)
        if kind not in ('gaussian', 'deficient'):
            found *= 10 ** rng.uniform(-3, 3, size=(size, 1))
        if kind == 'duplicate':
            found[rng.integers(size)] = found[rng.integers(size)]
        if kind == 'zero':
            found[rng.integers(size)] = 0
        yield found


def padded_gram(found):
    """The Gram matrix in float32 with inactive tasks up to 40, and which are active."""
    size = len(found)
    gram = np.zeros((MOST, MOST), np.float32)
    gram[:size, :size] = found @ found.T
    return gram, np.arange(MOST) < size


def least_norm(found):
    """The squared norm of the min-norm point in float64, by non-negative least squares.

    The min-norm point of a hull is a multiple of the projection of (0, 1) onto the cone of
    (g_t, 1); here with gradients scaled to norm one.
    """
    norms = np.linalg.norm(found, axis=1)
    if not norms.all():
        return 0.0
    lifted = np.vstack([(found / norms[:, None]).T, norms.min() / norms])
    right = np.zeros(len(lifted))
    right[-1] = 1
    weights = nnls(lifted, right, maxiter=10_000)[0] / norms
    return np.sum((weights / weights.sum() @ found) ** 2)


def excesses(found, weights):
    """How far float64 finds weights from the optimum, relative to the lengths that went in.

    Returns:
      max_t (w'Gw - (Gw)_t) / (|g_t| s) and (w'Gw - 1.0001 optimum) / s^2, s = sum_t w_t |g_t|.
    """
    norms = np.linalg.norm(found, axis=1)
    spread = weights @ norms
    products = found @ (weights @ found)
    norm = weights @ products
    if spread == 0:
        return 0.0, 0.0
    with np.errstate(divide='ignore', invalid='ignore'):
        violations = (norm - products) / (norms * spread)
    return np.nanmax(violations), (norm - 1.0001 * least_norm(found)) / spread**2


@pytest.mark.parametrize('count', [200, pytest.param(10_000, marks=pytest.mark.sweep)])
def test_gram_matrices_in_float32(count):
    instances = list(random_gradients(count, seed=0))
    grams, active = map(np.stack, zip(*map(padded_gram, instances), strict=True))
    solve = jax.jit(jax.vmap(min_norm.min_norm_weights))
    answers = np.concatenate(
        [solve(grams[n : n + 500], active[n : n + 500]) for n in range(0, len(grams), 500)]
    )
    assert answers.dtype == np.float32
    for found, weights in zip(instances, answers, strict=True):
        assert not weights[len(found) :].any()
        assert_least_norm(found, weights[: len(found)])


def test_frank_wolfe_has_its_own_looser_bound():
    """After n steps the gap is of order 1 / n, relative to the largest squared norm."""
    grams, active = map(
        np.stack, zip(*map(padded_gram, random_gradients(600, seed=1)), strict=True)
    )
    weights = jax.jit(jax.vmap(min_norm.frank_wolfe_weights))(grams, active)
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, rtol=1e-5)
    gaps = jax.vmap(min_norm.duality_gap)(grams, weights, active)
    longest = np.max(np.diagonal(grams, axis1=1, axis2=2), axis=1)
    assert (gaps <= 0.1 * longest + 1e-30).all()


def test_frank_wolfe_stops_on_the_gap():
    gram = jnp.asarray([[1.0, 0.2, 0.1], [0.2, 2.0, -0.1], [0.1, -0.1, 0.7]])
    weights = min_norm.frank_wolfe_weights(gram, max_steps=100_000, tolerance=1e-3)
    assert min_norm.duality_gap(gram, weights) <= 1e-3 * (weights @ gram @ weights) + 1e-7
    rough = min_norm.frank_wolfe_weights(gram, max_steps=1)
    assert min_norm.duality_gap(gram, rough) > min_norm.duality_gap(gram, weights)


def test_it_is_the_best_of_all_supports():
    """Brute force over the sets of tasks with weight, in float64."""
    rng = np.random.default_rng(0)
    stack = [
        rng.normal(size=(5, rng.integers(3, 8))) * rng.uniform(0.1, 3, size=(5, 1))
        for _ in range(20)
    ]
    for found, weights in zip(stack, weights_of(stack), strict=True):
        gram = found @ found.T
        best = np.inf
        for size in range(1, 6):
            for support in map(list, itertools.combinations(range(5), size)):
                # G w = a constant and sum(w) = 1; G is singular where the point may be the origin.
                system = np.ones((size + 1, size + 1))
                system[:size, :size], system[size, size] = gram[np.ix_(support, support)], 0
                mixed = np.linalg.lstsq(system, np.eye(size + 1)[size])[0][:size]
                if (mixed > 0).all():
                    best = min(best, np.sum((mixed / mixed.sum() @ found[support]) ** 2))
        np.testing.assert_allclose(np.sum((weights @ found) ** 2), best, rtol=1e-4, atol=1e-6)


@example(cosine=1.0, log_ratio=1e-4, log_scale=0.0)  # |g_1 - g_2|^2 is lost in float32.
@given(st.floats(-1, 1), st.floats(-6, 6), st.floats(-4, 4))
def test_two_tasks_have_a_closed_form(cosine, log_ratio, log_scale):
    """Equation 4, in float64; scales over many decades."""
    norms = 10.0 ** np.array([log_scale, log_scale + log_ratio])
    other = [cosine, np.sqrt(1 - cosine**2)]
    found = norms[:, None] * np.array([[1, 0], other])
    gram = found @ found.T
    assert_least_norm(found, min_norm.min_norm_weights(jnp.asarray(gram, jnp.float32)))


def test_ends_of_algorithm_one():
    """As printed, Algorithm 1 compares the wrong products here (see the notes on Equation 4)."""
    first_wins = min_norm.min_norm_weights(jnp.array([[1.0, 2.0], [2.0, 9.0]]))
    second_wins = min_norm.min_norm_weights(jnp.array([[9.0, 2.0], [2.0, 1.0]]))
    between = min_norm.min_norm_weights(jnp.array([[1.0, 0.0], [0.0, 4.0]]))
    np.testing.assert_allclose(first_wins, [1, 0])
    np.testing.assert_allclose(second_wins, [0, 1])
    np.testing.assert_allclose(between, [0.8, 0.2], rtol=1e-6)


@pytest.mark.variants(3)
@pytest.mark.parametrize('solver', [min_norm.min_norm_weights, min_norm.frank_wolfe_weights])
@pytest.mark.parametrize('size', [1, 2, 3, 40])
def test_what_is_degenerate_is_defined(solver, size):
    nobody = solver(jnp.eye(size), jnp.zeros(size, bool))
    np.testing.assert_array_equal(nobody, np.zeros(size))
    np.testing.assert_allclose(np.sum(solver(jnp.zeros((size, size)))), 1, rtol=1e-6)
    np.testing.assert_allclose(np.sum(solver(jnp.ones((size, size)))), 1, rtol=1e-6)
    alone = jnp.arange(size) == size - 1
    np.testing.assert_array_equal(solver(jnp.eye(size), alone), alone)


def test_tasks_of_gradient_zero_share_the_weight():
    gram = jnp.diag(jnp.array([1.0, 0.0, 2.0, 0.0]))
    np.testing.assert_array_equal(min_norm.min_norm_weights(gram), [0, 0.5, 0, 0.5])
    active = jnp.array([True, False, True, False])
    np.testing.assert_allclose(min_norm.min_norm_weights(gram, active), [2 / 3, 0, 1 / 3, 0], 1e-6)


@pytest.mark.parametrize('scale', [1e-20, 1e-10, 1e10, 1e20])
def test_the_shortest_combination_does_not_depend_on_the_scale(scale):
    """Of more tasks than parameters, whose weights are not determined, only it is compared."""
    found = np.random.default_rng(3).normal(size=(7, 4))
    gram = jnp.asarray(found @ found.T, jnp.float32)
    plain, scaled = (np.asarray(min_norm.min_norm_weights(g)) @ found for g in (gram, scale * gram))
    np.testing.assert_allclose(plain, scaled, atol=1e-5)


def test_a_duplicate_changes_nothing():
    found = np.random.default_rng(4).normal(size=(6, 9))
    doubled = np.concatenate([found, found[:1]])
    answers = [
        np.asarray(min_norm.min_norm_weights(jnp.asarray(g @ g.T, jnp.float32))) @ g
        for g in (found, doubled)
    ]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_inactive_tasks_do_not_exist():
    found = np.random.default_rng(5).normal(size=(6, 9))
    active = np.array([True, False, True, True, False, True])
    gram = jnp.asarray(found @ found.T, jnp.float32).at[1].set(jnp.nan).at[:, 1].set(jnp.nan)
    kept = min_norm.min_norm_weights(gram[active][:, active])
    np.testing.assert_allclose(min_norm.min_norm_weights(gram, active)[active], kept, atol=1e-6)


def test_nan_is_not_hidden():
    assert np.isnan(min_norm.min_norm_weights(jnp.full((3, 3), jnp.nan))).all()


def test_jit_vmap_and_eager_agree():
    """In the shortest combination: nine gradients in six dimensions determine no weights."""
    rng = np.random.default_rng(8)
    stack = rng.normal(size=(20, 9, 6)) * 10 ** rng.uniform(-2, 2, size=(20, 9, 1))
    grams = jnp.stack([jnp.asarray(g @ g.T, jnp.float32) for g in stack])
    eager = [min_norm.min_norm_weights(gram) for gram in grams]
    jitted = [jax.jit(min_norm.min_norm_weights)(gram) for gram in grams]
    batched = jax.vmap(min_norm.min_norm_weights)(grams)
    for found, *answers in zip(stack, eager, jitted, batched, strict=True):
        for weights in answers:
            assert_least_norm(found, weights)


def test_float64_is_kept():
    with jax.enable_x64(True):
        found = np.random.default_rng(6).normal(size=(9, 12))
        weights = min_norm.min_norm_weights(jnp.asarray(found @ found.T))
        assert weights.dtype == jnp.float64
        violation, _ = excesses(found, np.asarray(weights))
        assert violation <= 1e-13


def test_the_gap_bounds_the_error():
    rng = np.random.default_rng(7)
    for _ in range(50):
        found = rng.normal(size=(6, 8))
        weights = rng.dirichlet(np.ones(6))
        gap = min_norm.duality_gap(found @ found.T, weights)
        excess = np.sum((weights @ found) ** 2) - least_norm(found)
        assert -1e-6 <= excess <= 2 * gap + 1e-5


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ((jnp.zeros((2, 3)),), r'a Gram matrix is square, \[T, T\]'),
        ((jnp.zeros((3, 3)), jnp.ones(2, bool)), 'active needs one entry for each of the 3 tasks'),
    ],
)
def test_bad_input(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        min_norm.min_norm_weights(*arguments)


def programs(count, most, seed, scaled=False):
    """(gradients `[T, P]`, the linear term `[T]`) of programs in up to `most` variables."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = int(rng.integers(2, most))
        found = rng.normal(size=(size, int(rng.integers(1, 25))))
        found *= 10 ** rng.uniform(-2, 2, size=(size, 1)) if scaled else 1
        yield found, found @ rng.normal(size=found.shape[1])


def solutions(minimize, cases, hints=None):
    """The solutions of some programs, filled up to MOST variables, in one compiled program."""
    grams, active = map(np.stack, zip(*(padded_gram(g) for g, _ in cases), strict=True))
    linear = np.stack([np.pad(toward, (0, MOST - len(toward))) for _, toward in cases])
    hints = () if hints is None else (hints,)
    found = jax.jit(jax.vmap(minimize))(grams, np.float32(linear), active, *hints)
    found = np.asarray(found, np.float64)
    return [row[: len(toward)] for row, (_, toward) in zip(found, cases, strict=True)]


def test_programs_on_the_cone_meet_their_conditions():
    """x >= 0, Gx + c >= 0, x'(Gx + c) = 0, in float64 for the answer in float32."""
    cases = list(programs(60, 20, 0, scaled=True))
    for (found, toward), solution in zip(
        cases, solutions(active_set.minimize_on_cone, cases), strict=True
    ):
        norms = np.linalg.norm(found, axis=1)
        slopes = (found @ found.T @ solution + toward) / norms
        reach = solution @ norms + np.max(np.abs(toward / norms))
        assert (solution >= 0).all()
        assert slopes.min() >= -2e-5 * reach
        assert abs(solution @ (slopes * norms)) <= 2e-5 * reach**2


@pytest.mark.parametrize(
    ('wide', 'tolerance'), [pytest.param(True, 1e-12, marks=pytest.mark.sweep), (False, 1e-3)]
)
def test_programs_on_the_cone_of_dependent_gradients(wide, tolerance):
    """Against non-negative least squares: min |V'x + t| over x >= 0, t one of the rows of V."""
    rng = np.random.default_rng(0)
    for shape in ((3, 2), (8, 4), (12, 3), (6, 1)):
        stack = rng.normal(size=(20, *shape))
        products = stack @ stack.swapaxes(1, 2)
        with jax.enable_x64(wide):
            rows = jax.vmap(active_set.minimize_on_cone, (None, 0))
            found = jax.jit(jax.vmap(rows))(jnp.asarray(products), jnp.asarray(products))
        for gradients, answers in zip(stack, np.asarray(found, np.float64), strict=True):
            for target, solution in zip(gradients, answers, strict=True):
                _, best = nnls(gradients.T, -target, maxiter=10_000)
                reached = np.linalg.norm(gradients.T @ solution + target)
                assert (solution >= 0).all()
                assert reached <= best + tolerance * (1 + np.linalg.norm(target))


def test_programs_on_the_simplex_meet_their_conditions():
    """Whatever tasks are hinted at."""
    cases = list(programs(60, 20, 1))
    hints = np.random.default_rng(2).random((60, MOST)) < 0.5
    for given_hints in (None, hints):
        for (found, toward), solution in zip(
            cases, solutions(active_set.minimize_on_simplex, cases, given_hints), strict=True
        ):
            np.testing.assert_allclose(solution.sum(), 1, rtol=1e-5)
            gram = found @ found.T
            slopes = gram @ solution + toward
            limit = 1e-4 * (np.abs(gram).max() + np.abs(toward).max())
            assert solution @ slopes - slopes.min() <= limit
