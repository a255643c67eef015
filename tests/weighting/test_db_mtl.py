"""DB-MTL against its algorithm in float64, average and all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import gradients, weighting
from tag_jax.problem import Batch

SHAPES = {'w': (2, 3), 'b': (3,)}


def flat(tree):
    """Stacked gradients `[T, P]` in float64."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def series(seed, steps, tasks=3):
    """Gradients and losses of some steps, of different scales."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        scales = rng.uniform(0.1, 10, size=tasks)
        stack = {
            name: (rng.normal(size=(tasks, *shape)).T * scales).T for name, shape in SHAPES.items()
        }
        yield jax.tree.map(np.float32, stack), rng.uniform(0.1, 3, size=tasks).astype(np.float32)


@pytest.mark.parametrize(('beta', 'decay'), [(0.9, 0.0), (0.5, 0.5), (0.0, 0.0)])
def test_it_is_the_algorithm_of_its_paper(beta, decay):
    """Steps 6 to 10 of Algorithm 1; a task that is missing at some steps keeps its average."""
    transform = weighting.db_mtl(beta, decay, num_tasks=3)
    params = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    state, average = transform.init(params), np.zeros((3, 9))
    step = jax.jit(
        lambda g, s, losses, on: transform.update(g, s, params, losses=losses, active=on)
    )
    for k, (stack, losses) in enumerate(series(0, 6), start=1):
        active = np.array([True, k not in (1, 3), True])
        combined, state = step(stack, state, losses, active)
        rate = beta / k**decay
        new = rate * average + (1 - rate) * flat(stack) / (losses[:, None] + 1e-8)
        average = np.where(active[:, None], new, average)
        norms = np.linalg.norm(average, axis=1)[active]
        expected = norms.max() * np.sum(average[active] / norms[:, None], axis=0)
        found = flat(jax.tree.map(lambda leaf: leaf[None], combined))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert state.weights[1] == 0 or active[1]
    assert (state.average is None) == (beta == 0)
    if beta:
        np.testing.assert_allclose(flat(state.average), average, rtol=1e-4, atol=1e-6)
        of_averages = (average @ average.T)[np.ix_([0, 2], [0, 2])]
        np.testing.assert_allclose(state.gram[::2, ::2], of_averages, rtol=1e-3, atol=1e-5)


def test_all_gradients_have_the_norm_of_the_largest():
    (stack, losses), *_ = series(1, 1)
    transform, params = weighting.db_mtl(0, num_tasks=3), jax.tree.map(lambda g: g[0], stack)
    _, state = transform.update(stack, transform.init(params), params, losses=losses)
    norms = np.linalg.norm(flat(stack), axis=1)
    lengths = state.weights * norms
    np.testing.assert_allclose(lengths, (norms / losses).max(), rtol=1e-5)


@functools.cache
def small():
    problem = make_problem(widths=(4,))
    params, model_state = problem.init(jax.random.key(0))
    return problem, params, model_state


def steps_of(transform, batches):
    """Updates and states of some steps at one point of the small problem."""
    problem, params, model_state = small()

    @jax.jit
    def step(state, batch):
        by_task, _ = gradients.task_gradients(problem, params, model_state, batch)
        updates, state = transform.update(by_task, state, params)
        return updates, state, by_task.losses, by_task.heads, by_task.shared()

    state = transform.init(params)
    for batch in batches:
        updates, state, *found = step(state, batch)
        yield updates, state, *found


def test_task_gradients_take_the_stacked_route_and_heads_their_own_logarithms():
    batches = [Batch(*make_split(32, seed)) for seed in range(3)]
    _, params, _ = small()
    stacked = weighting.db_mtl(0.5, num_tasks=len(TASKS))
    other = stacked.init(params['shared'])
    for updates, _, losses, heads, shared in steps_of(weighting.db_mtl(0.5), batches):
        expected, other = stacked.update(shared, other, params['shared'], losses=losses)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            updates['shared'],
            expected,
        )
        for n, task in enumerate(TASKS):
            jax.tree.map(
                lambda a, b, loss=losses[n]: np.testing.assert_allclose(a, b / loss, rtol=1e-4),
                updates['heads'][task],
                heads[task],
            )


def test_a_broken_batch_leaves_the_averages():
    split = make_split(32)
    good = Batch(*split)
    bad = good._replace(targets={**good.targets, 'radius': jnp.full(32, jnp.nan)})
    transform = optax.chain(weighting.db_mtl(), optax.apply_if_finite(optax.sgd(0.1), 3))
    (_, (before, _), *_), (updates, (after, _), *_) = steps_of(transform, [good, bad])
    assert all(np.any(leaf) for leaf in before.average)
    jax.tree.map(np.testing.assert_array_equal, after.average, before.average)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
    assert np.isnan(after.weights).all()


def test_averages_are_as_wide_as_float32_and_no_diagnostics():
    params = {'shared': {'w': jnp.zeros((2, 3), jnp.bfloat16)}, 'heads': {'a': 0.0, 'b': 0.0}}
    state = weighting.db_mtl().init(params)
    (average,) = state.average
    assert average.shape == (2, 2, 3)
    assert average.dtype == jnp.float32
    assert 'average' not in weighting.diagnostics(state)


def test_the_rate_may_be_injected():
    (stack, losses), *_ = series(2, 1)
    params = jax.tree.map(lambda g: g[0], stack)
    injected = optax.inject_hyperparams(weighting.db_mtl, static_args='num_tasks')(
        beta=0.5, num_tasks=3
    )
    combined, _ = injected.update(stack, injected.init(params), params, losses=losses)
    plain = weighting.db_mtl(0.5, num_tasks=3)
    expected, _ = plain.update(stack, plain.init(params), params, losses=losses)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), combined, expected)
