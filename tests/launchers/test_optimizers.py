"""Optimizers that flags name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import flagsaver

from tag_jax.launchers import optimizers

RATE, STEPS = 0.1, 9


def path(transform):
    """Parameters after each of some steps along gradients that change."""
    params = {'a': jnp.array([1.0, -2.0]), 'b': jnp.array(0.5)}
    state, seen = transform.init(params), []
    for step in range(STEPS):
        gradient = jax.tree.map(lambda x, step=step: jnp.sin(3.0 * x + step), params)
        updates, state = transform.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.hstack([params['a'], params['b']]))
    return np.array(seen)


def shares(schedule, warmup=0):
    """The share of the learning rate in each step, by hand."""
    found = []
    for step in range(STEPS):
        at = (step - warmup) / (STEPS - warmup)
        share = {
            'constant': 1,
            'cosine': (1 + np.cos(np.pi * at)) / 2,
            'linear': 1 - at,
            'step': 0.1 ** (step >= STEPS / 3) * 0.1 ** (step >= 2 * STEPS / 3),
        }[schedule]
        found.append((step + 1) / warmup if step < warmup else share)
    return jnp.array(found)


@pytest.mark.variants(4)
@pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
def test_a_schedule_is_that_of_the_learning_rate(name):
    """Moments and decoupled decay see it as optax's own schedules do."""
    of_step = shares('cosine', 3)
    function, arguments = optimizers.OPTIMIZERS[name]
    expected = getattr(optax, function)(lambda step: RATE * of_step[step], **arguments)
    found = optimizers.scheduled(RATE, name, schedule='cosine', warmup=3, steps=STEPS)
    np.testing.assert_allclose(path(found), path(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('schedule', optimizers.SCHEDULES)
@pytest.mark.parametrize('warmup', [0, 1, 3])
def test_schedules(schedule, warmup):
    of_step = shares(schedule, warmup)
    expected = optax.sgd(lambda step: RATE * of_step[step])
    found = optimizers.scheduled(RATE, 'sgd', schedule=schedule, warmup=warmup, steps=STEPS)
    np.testing.assert_allclose(path(found), path(expected), rtol=1e-5, atol=1e-6)


def test_decay_and_clipping():
    found = optimizers.scheduled(RATE, 'adamw', weight_decay=0.3)
    np.testing.assert_array_equal(path(found), path(optax.adamw(RATE, weight_decay=0.3)))
    found = optimizers.scheduled(RATE, 'sgd', weight_decay=0.3, clip=0.2)
    params, gradient = np.array([3.0, -1.0]), np.array([4.0, 3.0])
    updates, _ = found.update(jnp.array(gradient), found.init(params), jnp.array(params))
    np.testing.assert_allclose(updates, -RATE * (gradient / 5 * 0.2 + 0.3 * params), rtol=1e-6)


@pytest.mark.parametrize(
    ('asked', 'said'),
    [
        ({'optimizer': 'adma'}, "no optimizer called 'adma': choose adam or"),
        ({'schedule': 'cosin'}, "no schedule called 'cosin': choose constant or"),
        ({'weight_decay': -1.0}, '--weight_decay must be a number of at least 0, not -1'),
        ({'clip': 0.0}, '--clip=0 leaves no gradient'),
        ({'warmup': 100}, '--warmup=100 is more than all steps, 50'),
    ],
)
def test_flags_out_of_their_range(asked, said):
    with flagsaver.flagsaver():
        optimizers.FLAGS.mark_as_parsed()
        for name, value in asked.items():
            optimizers.FLAGS[name].parse(str(value))
        with pytest.raises(ValueError, match=said):
            optimizers.chosen(50)
