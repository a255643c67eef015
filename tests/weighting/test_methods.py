"""What each method does by its own definition, beyond the properties they share."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from weighting.properties import METHODS
from weighting.stacked import TASKS, Step, first_update, first_updates

from tag_jax import gradients, weighting
from tag_jax.problem import Batch
from tag_jax.weighting import min_norm

PINNED = [[-4.0, 1, 1], [6, 1, 1]]

# Aggregations by TorchJD 0.18.0 in float64 (torch 2.15.0, quadprog 0.1.14), of its pinned matrix
# and of np.random.default_rng(seed).normal(size=size).round(2). Its UPGrad adds 1e-4 to the
# diagonal of the normalised Gram matrix; its MGDA takes 100 Frank-Wolfe steps.
TORCHJD = {
    None: {
        'mgda': [0.0, 1.0, 1.0],
        'cagrad': [0.183503, 1.204124, 1.204124],
        'imtl_g': [0.076697, 1.0, 1.0],
        'aligned_mtl': [0.213279, 0.967333, 0.967333],
        'pcgrad': [0.584795, 3.80117, 3.80117],
        'nash_mtl': [0.054153, 0.706069, 0.706069],
        'upgrad': [0.292902, 1.900352, 1.900352],
    },
    (0, (3, 5)): {
        'mgda': [0.006672, -0.08953, 0.146546, 0.039796, -0.664754],
        'cagrad': [0.043857, 0.316143, 0.18258, -0.206264, -1.382177],
        'imtl_g': [-0.038536, 0.004148, -0.066296, -0.03005, -0.760899],
        'aligned_mtl': [-0.009361, 0.032969, -0.011529, -0.03007, -0.356269],
        'nash_mtl': [-0.003028, 0.194946, 0.007247, -0.138022, -0.971022],
        'upgrad': [-0.033291, 0.352495, -0.146422, -0.247537, -1.330781],
    },
    (1, (5, 7)): {
        'mgda': [0.089662, 0.457786, 0.33386, -0.217206, -0.105969, -0.301128, -0.024084],
        'cagrad': [0.35005, 1.023782, 0.956044, -1.119613, -0.128913, -0.275771, -0.194277],
        'imtl_g': [-0.006043, 0.384164, 0.283611, -0.019582, 0.026274, -0.033539, 0.062187],
        'aligned_mtl': [0.008732, 0.159288, 0.120706, -0.084939, 0.004193, 0.000866, 0.000117],
        'nash_mtl': [0.135564, 0.592721, 0.508523, -0.588319, -0.079696, -0.104973, -0.090652],
        'upgrad': [0.187212, 0.782037, 0.868562, -1.107313, -0.24284, 0.114227, -0.116478],
    },
}

# The options that make our definitions theirs, and how far their approximations may be off.
AS_TORCHJD = {
    'mgda': ({}, 0.02),
    'cagrad': ({'c': 0.5}, 3e-5),
    'imtl_g': ({}, 2e-6),
    'aligned_mtl': ({'preference': 1.0}, 2e-6),
    'pcgrad': ({}, 5e-6),
    'nash_mtl': ({'max_norm': 1.0}, 5e-5),
    'upgrad': ({}, 6e-4),
}


def combine(make, found, **arguments):
    """The combined gradient and the state after one update with stacked gradients."""
    return first_update(make(num_tasks=len(found)), found, **arguments)


def run(transform, losses, found=None, state=None):
    """The weights at each of a series of steps with losses `[steps, T]`."""
    size = len(losses[0])
    stack = jnp.eye(size) if found is None else jnp.asarray(found, jnp.float32)
    params = jnp.zeros(stack.shape[1])
    state = transform.init(params) if state is None else state
    update = jax.jit(lambda losses, state: transform.update(stack, state, params, losses=losses)[1])
    weights = []
    for now in losses:
        state = update(jnp.asarray(now, jnp.float32), state)
        weights.append(np.asarray(state.weights))
    return np.array(weights), state


def torchjd_matrix(name):
    """The gradients `[T, P]` that an entry of TORCHJD is about."""
    if name is None:
        return np.array(PINNED)
    seed, shape = name
    return np.random.default_rng(seed).normal(size=shape).round(2)


@pytest.mark.variants(3)
@pytest.mark.parametrize('name', AS_TORCHJD)
def test_values_of_torchjd(name):
    options, tolerance = AS_TORCHJD[name]
    known = {matrix: values[name] for matrix, values in TORCHJD.items() if name in values}
    steps = [Step(torchjd_matrix(matrix)) for matrix in known]
    updates = first_updates(getattr(weighting, name)(num_tasks=TASKS, **options), steps)
    for step, update, expected in zip(steps, updates, known.values(), strict=True):
        # Its preference is for the mean of the tasks, and ours here for their sum.
        divided = len(step.gradients) if name == 'aligned_mtl' else 1
        np.testing.assert_allclose(update.combined / divided, expected, atol=tolerance)


def test_min_norm_beats_a_hundred_frank_wolfe_steps():
    """The norms of MGDA's directions, ours and TorchJD's, on the random matrices."""
    for matrix, known in list(TORCHJD.items())[1:]:
        combined, state = combine(weighting.mgda, torchjd_matrix(matrix))
        assert np.linalg.norm(combined) < np.linalg.norm(known['mgda'])
        assert abs(state.gap) < 1e-5


@pytest.mark.variants(1)
@pytest.mark.parametrize('normalization', ['l2', 'loss', 'loss+'])
def test_normalizations_are_those_of_the_authors(normalization):
    """Weights of the divided gradients, applied to the undivided ones."""
    found = np.random.default_rng(0).normal(size=(4, 6)) * [[1], [3], [0.2], [5]]
    losses = np.array([0.5, 2, 1, 4])
    norms = np.linalg.norm(found, axis=1)
    scales = {'l2': norms, 'loss': losses, 'loss+': losses * norms}[normalization]
    divided = found / scales[:, None]
    weights = min_norm.min_norm_weights(jnp.asarray(divided @ divided.T, jnp.float32))
    make = lambda num_tasks: weighting.mgda(normalization, num_tasks=num_tasks)
    combined, state = combine(make, found, losses=losses)
    np.testing.assert_allclose(state.weights, weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(combined, weights @ found, rtol=1e-4, atol=1e-5)
    rescaled = lambda num_tasks: weighting.mgda(normalization, rescale=True, num_tasks=num_tasks)
    combined, _ = combine(rescaled, found, losses=losses)
    np.testing.assert_allclose(combined, weights @ divided, rtol=1e-4, atol=1e-5)
    assert (found @ combined >= -1e-5).all()


def test_a_loss_of_zero_is_no_division_by_zero():
    make = lambda num_tasks: weighting.mgda('loss+', num_tasks=num_tasks)
    combined, state = combine(make, [[1.0, 2], [0, 0]], losses=jnp.array([1.0, 0]))
    assert np.isfinite(combined).all()
    np.testing.assert_array_equal(state.weights, [0, 1])


def test_the_frank_wolfe_of_the_paper_on_request():
    make = lambda num_tasks: weighting.mgda(solver='frank_wolfe', num_tasks=num_tasks)
    _, state = combine(make, np.random.default_rng(1).normal(size=(5, 8)))
    assert 0 <= state.gap < 0.1


def test_uncertainty_settles_at_the_inverse_loss():
    losses = [[2.0, 0.25, 1.0]] * 2000
    for factor in (1.0, 0.5):
        weights, state = run(weighting.uncertainty(factor, num_tasks=3), losses)
        np.testing.assert_allclose(weights[0], factor)
        np.testing.assert_allclose(weights[-1], [0.25, 2, 0.5], rtol=2e-2)
    assert state.rule.log_variances.shape == (3,)


def test_uncertainty_follows_its_gradient():
    """d/ds (f exp(-s) L + s / 2), against jax.grad, through the first step of Adam's sign."""
    losses = jnp.array([3.0, 0.1])
    objective = lambda s: jnp.sum(jnp.exp(-s) * losses + s / 2)
    transform = weighting.uncertainty(learning_rate=0.1, num_tasks=2)
    _, state = run(transform, [losses])
    step = -0.1 * np.sign(jax.grad(objective)(jnp.zeros(2)))
    np.testing.assert_allclose(state.rule.log_variances, step, rtol=1e-4)


@pytest.mark.variants(1)
@pytest.mark.parametrize('make', [lambda: optax.sgd(0.05, momentum=0.9), lambda: optax.adam(0.05)])
def test_uncertainty_by_one_optimizer_with_the_rest(make):
    """Kendall's objective over parameters and s together, by jax.grad, with factors 1 and 1/2."""
    factors, targets = jnp.array([1.0, 0.5]), jnp.array([[1.0, 2.0], [-1.0, 0.5]])
    losses_of = lambda theta: jnp.sum((theta[None] - targets) ** 2, axis=1) + 0.1

    def objective(both):
        return jnp.sum(factors * jnp.exp(-both['s']) * losses_of(both['theta']) + both['s'] / 2)

    joint = {'theta': jnp.zeros(2), 's': jnp.zeros(2)}
    optimizer = make()
    state = optimizer.init(joint)
    transform = optax.chain(weighting.uncertainty(factors, num_tasks=2, optimizer=make()), make())
    theta = jnp.zeros(2)
    own = transform.init(theta)
    for _ in range(20):
        updates, state = optimizer.update(jax.grad(objective)(joint), state, joint)
        joint = optax.apply_updates(joint, updates)
        by_task = jax.jacobian(losses_of)(theta)
        updates, own = transform.update(by_task, own, theta, losses=losses_of(theta))
        theta = optax.apply_updates(theta, updates)
        np.testing.assert_allclose(theta, joint['theta'], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(own[0].rule.log_variances, joint['s'], rtol=1e-4, atol=1e-6)


def test_gradnorm_follows_its_gradient():
    """Equation 2, against jax.grad with the targets held constant."""
    found = np.random.default_rng(2).normal(size=(3, 5)) * [[1], [4], [0.5]]
    norms = jnp.asarray(np.linalg.norm(found, axis=1), jnp.float32)
    first, second = jnp.array([1.0, 2, 4]), jnp.array([0.5, 1.8, 1])
    ratios = second / first
    weights = jnp.ones(3)
    targets = jnp.mean(weights * norms) * (ratios / ratios.mean()) ** 1.5
    slope = jax.grad(lambda w: jnp.sum(jnp.abs(w * norms - targets)))(weights)
    transform = weighting.gradnorm(learning_rate=0.1, space='shared', num_tasks=3)
    _, before = run(transform, [first], found)
    state = before._replace(rule=before.rule._replace(weights=weights))
    fresh = transform.init(jnp.zeros(5)).rule.optimizer
    state = state._replace(rule=state.rule._replace(optimizer=fresh))
    _, after = run(transform, [second], found, state)
    moved = 1 - 0.1 * np.sign(slope)
    np.testing.assert_allclose(after.rule.weights, 3 * moved / moved.sum(), rtol=1e-4)


def test_gradnorm_equalises_weighted_norms():
    """With equal rates, the weighted norms become equal."""
    found = np.diag([1.0, 4, 0.5])
    weights, _ = run(weighting.gradnorm(space='shared', num_tasks=3), [[1.0, 1, 1]] * 3000, found)
    products = weights[-200:].mean(axis=0) * [1, 4, 0.5]
    np.testing.assert_allclose(products / products.mean(), 1, atol=0.05)
    np.testing.assert_allclose(weights.sum(axis=1), 3, rtol=1e-4)


def test_pcgrad_is_the_loop_of_its_paper():
    """Algorithm 1 by hand: the result is that of one of the orders."""
    found = np.random.default_rng(3).normal(size=(3, 3))
    combined, _ = combine(lambda num_tasks: weighting.pcgrad(seed=5, num_tasks=num_tasks), found)
    results = []
    orders = [list(itertools.permutations([j for j in range(3) if j != i])) for i in range(3)]
    for choice in itertools.product(*orders):
        total = np.zeros(3)
        for i, order in enumerate(choice):
            gradient = found[i].copy()
            for j in order:
                gradient -= min(0, gradient @ found[j]) / (found[j] @ found[j]) * found[j]
            total += gradient
        results.append(total)
    assert min(np.abs(combined - result).max() for result in results) < 1e-5


@pytest.mark.variants(1)
@pytest.mark.parametrize('c', [0.2, 0.5, 0.9, 2.0])
def test_cagrad_solves_its_problem(c):
    """max_d min_t g_t . d over the ball, by a general solver in float64."""
    transform = weighting.cagrad(c, num_tasks=4)
    for seed in range(5):
        found = np.random.default_rng(seed).normal(size=(4, 6))
        mean = found.mean(axis=0)
        combined = np.asarray(first_update(transform, found)[0], np.float64)
        radius = c * np.linalg.norm(mean)
        assert np.linalg.norm(combined - mean) <= radius * (1 + 1e-4)
        best = minimize(
            lambda x: -x[6],
            np.append(mean, (found @ mean).min()),
            constraints=[
                {
                    'type': 'ineq',
                    'fun': lambda x, r=radius, m=mean: r**2 - np.sum((x[:6] - m) ** 2),
                },
                {'type': 'ineq', 'fun': lambda x, found=found: found @ x[:6] - x[6]},
            ],
            method='SLSQP',
            options={'maxiter': 500, 'ftol': 1e-10},
        )
        assert (found @ combined).min() >= -best.fun - 1e-3


def test_cagrad_with_c_zero_is_the_mean():
    found = np.random.default_rng(4).normal(size=(4, 6))
    combined, _ = combine(lambda num_tasks: weighting.cagrad(0.0, num_tasks=num_tasks), found)
    np.testing.assert_allclose(combined, found.mean(axis=0), atol=1e-5)


@pytest.mark.sweep
def test_cagrad_rescaled_is_divided_by_one_plus_c_squared():
    plain, _ = combine(lambda num_tasks: weighting.cagrad(0.5, num_tasks=num_tasks), PINNED)
    make = lambda num_tasks: weighting.cagrad(0.5, rescale=True, num_tasks=num_tasks)
    np.testing.assert_allclose(1.25 * combine(make, PINNED)[0], plain, rtol=1e-5)


def test_imtl_g_projects_equally():
    transform = weighting.imtl_g(num_tasks=4)
    for seed in range(5):
        found = np.random.default_rng(seed).normal(size=(4, 6)) * [[1], [10], [0.1], [2]]
        combined, state = first_update(transform, found)
        projections = found @ combined / np.linalg.norm(found, axis=1)
        np.testing.assert_allclose(projections, projections[0], rtol=2e-3)
        np.testing.assert_allclose(state.weights.sum(), 1, rtol=1e-4)


def test_imtl_g_of_projections_is_config():
    """Equations 2 and 3 of ConFIG in float64, for independent gradients and for dependent ones."""
    transform = weighting.imtl_g('projections', num_tasks=TASKS)
    scales = np.array([[1], [10], [0.1], [2], [1]])
    tried = [
        scales[:size] * np.random.default_rng(seed).normal(size=(size, width))
        for seed in range(4)
        for size, width in ((2, 3), (4, 6), (5, 3))
    ]
    steps = [Step(found) for found in tried]
    for found, update in zip(tried, first_updates(transform, steps), strict=True):
        units = found / np.linalg.norm(found, axis=1, keepdims=True)
        direction = np.linalg.pinv(units) @ np.ones(len(found))
        direction /= np.linalg.norm(direction)
        expected = (found @ direction).sum() * direction
        np.testing.assert_allclose(update.combined, expected, atol=2e-4 * np.abs(expected).max())
        length = np.linalg.norm(update.combined)
        np.testing.assert_allclose((found @ update.combined).sum() / length, length, rtol=1e-4)
        if len(found) <= found.shape[1]:
            assert (units @ update.combined > 0).all()


def test_config_and_imtl_g_lie_on_one_line():
    """In one direction, or in opposite ones where the weights of ConFIG have a negative sum."""
    rng, signs = np.random.default_rng(11), []
    steps = [Step(rng.normal(size=(3, 4)) * rng.uniform(0.05, 5, size=(3, 1))) for _ in range(40)]
    config = first_updates(weighting.imtl_g('projections', num_tasks=TASKS), steps)
    imtl_g = first_updates(weighting.imtl_g(num_tasks=TASKS), steps)
    for a, b in zip(config, imtl_g, strict=True):
        cosine = a.combined @ b.combined / np.linalg.norm(a.combined) / np.linalg.norm(b.combined)
        np.testing.assert_allclose(abs(cosine), 1, rtol=1e-4)
        np.testing.assert_allclose(b.weights.sum(), 1, rtol=1e-3)
        signs.append((cosine < 0) == (a.weights.sum() < 0))
    assert all(signs)


def test_config_of_opposed_gradients_is_zero():
    combined, _ = combine(
        lambda num_tasks: weighting.imtl_g('projections', num_tasks=num_tasks),
        [[1.0, 2], [-3, -6]],
    )
    np.testing.assert_array_equal(combined, 0)


def test_aligned_gradients_are_orthogonal_and_equally_long():
    found = np.random.default_rng(5).normal(size=(4, 6))
    make = lambda p: lambda num_tasks: weighting.aligned_mtl(p, num_tasks=num_tasks)
    aligned = np.stack([combine(make(np.eye(4)[t]), found)[0] for t in range(4)])
    least = np.linalg.svd(found, compute_uv=False)[-1]
    np.testing.assert_allclose(aligned @ aligned.T, least**2 * np.eye(4), atol=1e-4)


def test_nash_weights_solve_their_equation():
    transform = weighting.nash_mtl(num_tasks=4)
    for seed in range(5):
        found = np.random.default_rng(seed).normal(size=(4, 6)) * [[1], [10], [0.1], [2]]
        combined, state = first_update(transform, found)
        np.testing.assert_allclose(found @ combined * state.weights, 1, rtol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(combined), 2, rtol=1e-3)


def test_dwa_is_a_softmax_of_rates():
    """Equation 7 over epochs of two steps."""
    losses = [[4.0, 1], [2, 1], [1, 1], [2, 0], [3, 3], [3, 3]]
    weights, _ = run(weighting.dwa(2, temperature=0.5, num_tasks=2), losses)
    np.testing.assert_allclose(weights[:4], 1)
    rates = np.array([1.5 / 3, 0.5 / 1])
    expected = 2 * np.exp(rates / 0.5) / np.exp(rates / 0.5).sum()
    np.testing.assert_allclose(weights[4], expected, rtol=1e-5)


def test_random_weights_have_the_mean_of_equal_ones():
    weights, _ = run(weighting.rlw(num_tasks=4), [[1.0] * 4] * 4000)
    np.testing.assert_allclose(weights.mean(axis=0), 0.25, atol=0.02)
    assert weights.std(axis=0).min() > 0.1


def test_famo_by_hand():
    """Two steps of Algorithm 1, with the losses after the first step given and not given."""
    first, after, second = np.array([2.0, 0.5]), np.array([1.0, 0.45]), np.array([1.1, 0.4])
    for given in (None, after):
        transform = weighting.famo(learning_rate=0.1, decay=0.0, num_tasks=2)
        _, state = run(transform, [first])
        np.testing.assert_allclose(state.weights, [0.2, 0.8], rtol=1e-5)
        found, params = jnp.eye(2), jnp.zeros(2)
        extra = {} if given is None else {'losses_after': jnp.asarray(given)}
        _, state = transform.update(found, state, params, losses=jnp.asarray(second), **extra)
        fell = np.log(first) - np.log(second if given is None else given)
        slope = 0.25 * np.array([fell[0] - fell[1], fell[1] - fell[0]])  # softmax at equal logits
        logits = -0.1 * np.sign(slope)
        z = np.exp(logits) / np.exp(logits).sum()
        expected = (z / second) / (z / second).sum()
        np.testing.assert_allclose(state.weights, expected, rtol=1e-3)


def test_weights_learned_stay_where_a_task_is_inactive():
    transform = weighting.uncertainty(num_tasks=2)
    params, found = jnp.zeros(2), jnp.eye(2)
    state = transform.init(params)
    active = jnp.array([True, False])
    for _ in range(5):
        _, state = transform.update(
            found, state, params, losses=jnp.array([5.0, jnp.nan]), active=active
        )
    assert state.rule.log_variances[0] > 0
    assert state.rule.log_variances[1] == 0


@pytest.mark.parametrize(
    ('make', 'sentence'),
    [
        (
            lambda: weighting.mgda('l3'),
            "normalization must be one of none, l2, loss, loss\\+, not 'l3'",
        ),
        (lambda: weighting.pcgrad(space='head'), "space must be 'representation' or 'shared'"),
        (lambda: weighting.cagrad(-1.0), 'c must be a number at least 0'),
        (lambda: weighting.fixed([1.0, -1.0]), 'weights must be finite and at least 0, not -1'),
        (lambda: weighting.dwa(0), 'steps_per_epoch must be an integer of at least 1, not 0'),
        (
            lambda: weighting.mgda_ub(report_every=0),
            'report_every must be an integer of at least 1',
        ),
        (lambda: weighting.mgda(solver='newton'), 'solver must be one of exact, frank_wolfe, not'),
        (lambda: weighting.mgda(num_tasks=0), 'num_tasks must be an integer of at least 1, not 0'),
        (lambda: weighting.upgrad([1.0, -1.0]), 'preference must be finite and at least 0, not -1'),
        (lambda: weighting.mgda_ub(safeguard=1, scale_heads=True), 'leave out scale_heads'),
        (lambda: weighting.nash_mtl(max_norm='a'), 'max_norm must be a number'),
        (lambda: weighting.fairgrad(0.0), 'alpha must be a number at least 0.01, not 0.0'),
        (lambda: weighting.fairgrad(max_norm=-1), 'max_norm must be a number at least 0, not -1'),
        (lambda: weighting.stch(0.0), 'mu must be a number at least 1e-06, not 0.0'),
        (lambda: weighting.stch(preference=[1, -1]), 'preference must be finite and at least 0'),
        (
            lambda: weighting.imtl_g('norm'),
            "length must be one of weights, projections, not 'norm'",
        ),
        (lambda: weighting.db_mtl(1.5), 'beta must be a number between 0 and 1, not 1.5'),
        (lambda: weighting.db_mtl(decay=-1), 'decay must be a number at least 0, not -1'),
        (
            lambda: weighting.db_mtl(space='representation'),
            "a moving average of gradients needs space='shared'",
        ),
    ],
)
def test_bad_options(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def random_case(rng, size, representation, parameters, scales=None):
    """Task gradients in representation space and the Jacobian that takes them to parameters."""
    jacobian = rng.normal(size=(representation, parameters))
    if scales is not None:
        jacobian *= scales[:, None]
    return rng.normal(size=(size, representation)), jacobian


def linear_gradients(by_representation, jacobian):
    """`TaskGradients` of a linear encoder with the given Jacobian."""
    size = len(by_representation)
    encode = lambda shared: (shared @ jnp.asarray(jacobian, jnp.float32).T)[None]
    _, pullback = jax.vjp(encode, jnp.zeros(jacobian.shape[1]))
    return gradients.TaskGradients(
        losses=jnp.ones(size),
        active=jnp.ones(size, bool),
        representation=jnp.asarray(by_representation, jnp.float32)[:, None],
        heads={f'task_{t}': jnp.zeros(1) for t in range(size)},
        pullback=pullback,
        task_names=tuple(f'task_{t}' for t in range(size)),
    )


@functools.partial(jax.jit, static_argnames='transform')
def update_once(transform, by_representation, jacobian):
    """The direction in parameter space, and the state, after one update."""
    by_task = linear_gradients(by_representation, jacobian)
    params = {'shared': jnp.zeros(jacobian.shape[1]), 'heads': by_task.heads}
    updates, state = transform.update(by_task, transform.init(params), params)
    return updates['shared'], state


def shared_descent(transform, by_representation, jacobian):
    """What an update does to each task in parameter space, relative to its gradient, float64."""
    direction, state = update_once(transform, by_representation, jacobian)
    by_parameters, direction = by_representation @ jacobian, np.asarray(direction, np.float64)
    lengths = np.linalg.norm(by_parameters, axis=1) * max(np.linalg.norm(direction), 1e-12)
    return by_parameters @ direction / lengths, state


def test_theorem_1b_does_not_hold_as_printed():
    """Two tasks, Jacobians of full rank: the MGDA-UB direction raises a loss, 2 x 2 most often."""
    shares, transform = {}, weighting.mgda_ub()
    for shape in ((2, 2), (5, 5), (20, 30)):
        rng = np.random.default_rng(0)
        found = [
            shared_descent(transform, *random_case(rng, 2, *shape))[0].min() < -1e-4
            for _ in range(200)
        ]
        shares[shape] = np.mean(found)
    assert 0.3 < shares[2, 2] < 0.5
    assert 0.05 < shares[5, 5] < 0.25
    assert shares[20, 30] < 0.02


def test_theorem_1b_holds_for_orthogonal_rows_of_equal_norm():
    transform = weighting.mgda_ub()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        by_representation, _ = random_case(rng, 3, 5, 8)
        rows = np.linalg.qr(rng.normal(size=(8, 5)))[0].T
        descent, _ = shared_descent(transform, by_representation, 3 * rows)
        assert descent.min() >= -1e-4


def test_theorem_1a_a_zero_direction_is_pareto_stationary():
    rng = np.random.default_rng(1)
    by_representation, jacobian = random_case(rng, 3, 5, 8)
    by_representation[2] = -(by_representation[0] + 2 * by_representation[1])
    by_task = linear_gradients(by_representation, jacobian)
    params = {'shared': jnp.zeros(8), 'heads': by_task.heads}
    transform = weighting.mgda_ub()
    updates, state = transform.update(by_task, transform.init(params), params)
    assert np.abs(updates['shared']).max() < 1e-5
    np.testing.assert_allclose(state.weights @ (by_representation @ jacobian), 0, atol=1e-5)


def test_mgda_is_a_common_descent_direction_where_mgda_ub_is_none():
    rng, transform = np.random.default_rng(2), weighting.mgda()
    for _ in range(30):
        case = random_case(rng, 3, 3, 3)
        assert shared_descent(transform, *case)[0].min() >= -1e-3


@pytest.mark.variants(1)
@pytest.mark.parametrize('size', [2, 4])
def test_the_safeguard_restores_common_descent(size):
    rng = np.random.default_rng(3)
    plain, safe = weighting.mgda_ub(), weighting.mgda_ub(safeguard=size)
    repaired = 0
    for _ in range(40):
        case = random_case(rng, size, 6, 6, scales=10 ** rng.uniform(-1, 1, size=6))
        after, state = shared_descent(safe, *case)
        assert after.min() >= -2e-3
        np.testing.assert_allclose(state.weights.sum(), 1, rtol=1e-4)
        assert (state.weights >= 0).all()
        repaired += shared_descent(plain, *case)[0].min() < -1e-3
    assert repaired > 5


def test_reports_of_mgda_ub_are_true():
    rng = np.random.default_rng(4)
    by_representation, jacobian = random_case(rng, 3, 4, 4)
    by_task = linear_gradients(by_representation, jacobian)
    params = {'shared': jnp.zeros(4), 'heads': by_task.heads}
    transform = weighting.mgda_ub(report_every=2)
    state = transform.init(params)
    updates, state = transform.update(by_task, state, params)
    expected = by_representation @ jacobian @ np.asarray(updates['shared'], np.float64)
    np.testing.assert_allclose(state.shared_descent, expected, rtol=1e-4)
    other = linear_gradients(2 * by_representation, jacobian)
    _, between = transform.update(other, state, params)
    np.testing.assert_array_equal(between.shared_descent, state.shared_descent)
    _, again = transform.update(other, between, params)
    np.testing.assert_allclose(again.shared_descent, 4 * expected, rtol=1e-4)


@pytest.mark.variants(2)
@pytest.mark.parametrize('name', ['pcgrad', 'mgda', 'upgrad', 'cagrad', 'nash_mtl', 'imtl_g'])
def test_float32_params_where_float64_is_enabled(name):
    with jax.enable_x64(True):
        combined, _ = combine(
            getattr(weighting, name), np.random.default_rng(6).normal(size=(3, 4))
        )
        assert combined.dtype == jnp.float32
        assert np.isfinite(combined).all()


def test_uncertainty_of_a_loss_of_zero_stays_finite():
    weights, _ = run(weighting.uncertainty(learning_rate=1.0, num_tasks=2), [[0.0, 1.0]] * 200)
    assert np.isfinite(weights).all()


@pytest.mark.variants(1)
@pytest.mark.parametrize('losses', [[1e-20, 1, 1], [1e-30, 1e-30, 1]])
def test_normalizations_by_tiny_losses_stay_finite(losses):
    found = np.random.default_rng(7).normal(size=(3, 5))
    for normalization in ('loss', 'loss+'):
        make = lambda num_tasks, n=normalization: weighting.mgda(n, num_tasks=num_tasks)
        _, state = combine(make, found, losses=jnp.array(losses))
        assert np.isfinite(state.weights).all()


def test_nash_mtl_is_finite_near_stationary_points():
    """Where its Newton systems are singular but for rounding: of 2,000 triples, all."""
    rng = np.random.default_rng(7)
    found = rng.normal(size=(2000, 3, 5))
    shares = rng.dirichlet(np.full(3, 3), size=2000)
    combined = np.einsum('nt,ntp->np', shares[:, :-1], found[:, :-1])
    found[:, -1] = 1e-4 * rng.normal(size=(2000, 5)) - combined / shares[:, -1:]
    transform, params = weighting.nash_mtl(num_tasks=3), jnp.zeros(5)
    update = lambda stack: transform.update(stack, transform.init(params), params)[0]
    updates = jax.jit(functools.partial(jax.lax.map, update))(jnp.asarray(found, jnp.float32))
    assert np.isfinite(updates).all()


@pytest.mark.variants(8)
@pytest.mark.parametrize('name', [*METHODS, 'mgda_ub', 'gradnorm of representations'])
def test_a_step_leaves_the_types_of_the_state(name, problem, dataset):
    """If one of them changed, weak or strong, a training program would compile twice."""
    others = {'mgda_ub': weighting.mgda_ub, 'gradnorm of representations': weighting.gradnorm}
    transform = (METHODS | others)[name]()

    def step(state, params, model_state):
        batch = Batch(*dataset.train)
        by_task, _ = gradients.task_gradients(
            problem, params, model_state, batch, jax.random.key(1)
        )
        return transform.update(by_task, state, params)[1]

    params, model_state = jax.eval_shape(problem.init, jax.random.key(0))
    before = jax.eval_shape(transform.init, params)
    after = jax.eval_shape(step, before, params, model_state)
    types = lambda tree: [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)]
    assert types(after) == types(before)
