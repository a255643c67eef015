"""Many tasks of like heads and losses are computed side by side, as each would be by itself."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tag_jax import evaluation, gradients, objectives
from tag_jax.data import Split
from tag_jax.evaluation.scores import batch_sums
from tag_jax.problem import (
    Batch,
    alike,
    from_linen,
    from_nnx,
    map_and_stack,
    map_tasks,
    taken_apart,
)

B = 16
INPUTS = np.random.default_rng(0).normal(size=(B, 5)).astype(np.float32)


class DropoutHead(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(1)(nn.Dropout(0.5, deterministic=not train)(x))


def tasks_of(size):
    """As many binary tasks, and three with a regression each."""
    binary = {f'b{n}': objectives.binary() for n in range(size)}
    return binary | {f'r{n}': objectives.regression() for n in range(3)}


def linen(tasks, heads=None):
    return from_linen(nn.Dense(4), tasks, INPUTS, heads)


def with_nnx(tasks):
    return from_nnx(lambda rngs: nnx.Linear(5, 4, rngs=rngs), tasks, INPUTS)


def batch_of(tasks):
    rng = np.random.default_rng(1)
    targets = {task: rng.integers(0, 2, B).astype(np.float32) for task in tasks}
    mask = {task: rng.random(B) < 0.8 for task in tasks}
    return Batch(INPUTS, targets, mask)


def of_a_step(problem, batch, params, state):
    """Losses, gradients and sums of metrics of a step."""
    key = jax.random.key(2)
    found, _ = gradients.task_gradients(problem, params, state, batch, key)
    losses, _ = gradients.task_losses(problem, params, state, batch, key)
    sums = taken_apart(batch_sums(problem, (params, state), batch, np.ones(B, bool)))
    return found.losses, found.combine(jnp.ones(len(problem.tasks))), losses, sums


def mixed(tasks):
    """The same tasks with one of the others after every fourth."""
    names = list(tasks)
    many, few = names[:-3], names[-3:]
    order = [*many[:4], few[0], *many[4:8], few[1], *many[8:], few[2]]
    return {task: tasks[task] for task in order}


@pytest.mark.parametrize(
    ('make', 'order'),
    [(linen, dict), (with_nnx, dict), (linen, mixed)],
    ids=['linen', 'nnx', 'mixed'],
)
def test_side_by_side_is_one_by_one(make, order, monkeypatch):
    tasks = order(tasks_of(12))
    batch = batch_of(tasks)
    problem = make(tasks)
    point = problem.init(jax.random.key(0))
    found = of_a_step(problem, batch, *point)
    monkeypatch.setattr(alike, 'LEAST', 100)
    monkeypatch.setattr(alike, 'LEAST_IN_A_LOOP', 100)
    apart = make(tasks)
    point_apart = apart.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, point, point_apart)
    expected = of_a_step(apart, batch, *point)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected
    )


@pytest.mark.parametrize('kind', ['threefry2x32', 'unsafe_rbg'])
@pytest.mark.parametrize('size', [2, 12])
def test_every_head_begins_as_it_would_by_itself(size, kind, monkeypatch):
    tasks = tasks_of(size)
    key = jax.random.key(0, impl=kind)
    begun = jax.jit(linen(tasks).init)(key)
    monkeypatch.setattr(alike, 'LEAST_IN_A_LOOP', 100)
    jax.tree.map(np.testing.assert_array_equal, begun, jax.jit(linen(tasks).init)(key))


def test_every_head_draws_its_own_dropout(monkeypatch):
    tasks = {f'b{n}': objectives.binary() for n in range(12)}
    heads = dict.fromkeys(tasks, DropoutHead())
    problem, batch = linen(tasks, heads), batch_of(tasks)
    point = problem.init(jax.random.key(0))
    found = of_a_step(problem, batch, *point)
    monkeypatch.setattr(alike, 'LEAST', 100)
    expected = of_a_step(linen(tasks, heads), batch, *point)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected
    )


def test_losses_of_ones_own_are_not_taken_for_each_other():
    def scaled(factor):
        return objectives.regression()._replace(
            loss=lambda output, target: factor * jnp.square(output[..., 0] - target)
        )

    factors = np.arange(1, 25) / 8
    tasks = {f't{n}': scaled(factor) for n, factor in enumerate(factors)}
    problem, batch = linen(tasks), batch_of(tasks)
    params, state = problem.init(jax.random.key(0))
    losses, _ = gradients.task_losses(problem, params, state, batch)
    outputs = problem.predict(params, state, INPUTS)
    for n, (task, factor) in enumerate(zip(tasks, factors, strict=True)):
        target, known = batch.labels(task)
        by_hand = factor * np.square(np.asarray(outputs[task])[:, 0] - target)[known].mean()
        np.testing.assert_allclose(losses[n], by_hand, rtol=1e-5)


def test_weights_of_labels_tell_objectives_apart():
    tasks = {f'b{n}': objectives.binary(pos_weight=1 + n % 2) for n in range(24)}
    problem = linen(tasks)
    assert len(set(problem.programs.values())) == 2


def test_heads_with_convolutions_stand_by_themselves():
    tasks = {f'p{n}': objectives.pixel_regression() for n in range(12)}
    heads = dict.fromkeys(tasks, nn.Conv(1, (3, 3)))
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    problem = from_linen(nn.Dense(4), tasks, images, heads)
    assert len(set(problem.programs.values())) == len(tasks)


def test_a_program_does_not_grow_with_its_heads():
    """Matrix products are counted: each costs time to compile."""

    def products(size):
        tasks = {f'b{n}': objectives.binary() for n in range(size)}
        problem, batch = linen(tasks), batch_of(tasks)
        shapes = jax.eval_shape(problem.init, jax.random.key(0))
        text = str(jax.make_jaxpr(lambda *point: of_a_step(problem, batch, *point))(*shapes))
        return text.count('dot_general')

    assert products(40) == products(12)


def test_results_come_in_the_order_of_the_arguments():
    arguments = {f't{n}': np.float32(n) for n in range(30)}
    keys = {task: n % 2 for n, task in enumerate(arguments)}
    found = map_tasks(lambda task, row: row[0] + keys[task], (arguments,), keys)
    assert list(found) == list(arguments)
    assert [float(x) for x in found.values()] == [n + n % 2 for n in range(30)]


@pytest.mark.parametrize(
    'kind', [lambda n: 0, lambda n: n % 2, lambda n: n % 20, lambda n: n % 3 or n]
)
def test_stacks_are_in_the_order_of_the_arguments(kind):
    """Of one family, of two that take turns, of small ones, and of a large one among small ones."""
    arguments = {f't{n}': np.float32(n) for n in range(30)}
    keys = {task: kind(n) for n, task in enumerate(arguments)}
    stacked, found = map_and_stack(
        lambda task, row: ((row[0] + keys[task], [row[0]]), -row[0]), (arguments,), keys
    )
    apart = taken_apart(found)
    numbers = np.arange(30.0)
    np.testing.assert_array_equal(stacked[0], [n + kind(n) for n in range(30)])
    np.testing.assert_array_equal(stacked[1][0], numbers)
    assert [float(apart[task]) for task in arguments] == [-n for n in range(30)]


def test_a_number_that_is_not_finite_shows_in_the_sum_of_its_head():
    tasks = tasks_of(12)
    problem, batch = linen(tasks), batch_of(tasks)
    params, state = problem.init(jax.random.key(0))
    broken = jax.tree.map(lambda x: x.at[0].set(jnp.inf), params['heads']['b3'])
    params = {**params, 'heads': {**params['heads'], 'b3': broken}}
    found, _ = jax.jit(functools.partial(gradients.task_gradients, problem))(params, state, batch)
    finite = np.isfinite(found.head_sums)
    assert [task for task, on in zip(tasks, finite, strict=True) if not on] == ['b3']
    sums = [sum(np.sum(x) for x in jax.tree.leaves(found.heads[task])) for task in tasks]
    np.testing.assert_allclose(
        found.head_sums[finite], np.array(sums)[finite], rtol=1e-4, atol=1e-4
    )


def test_heads_that_have_no_hash_are_taken():
    tasks = {f'b{n}': objectives.binary() for n in range(12)}
    heads = {task: nn.Sequential([nn.Dense(1)]) for task in tasks}
    problem = linen(tasks, heads)
    assert len(problem.init(jax.random.key(0))[0]['heads']) == len(tasks)


def test_networks_are_judged_side_by_side_as_one_by_one(monkeypatch):
    tasks = mixed(tasks_of(12))
    problem, batch = linen(tasks), batch_of(tasks)
    point = problem.init(jax.random.key(0))
    split = Split(*batch[:3])
    found = evaluation.evaluate(problem, *point, split, 5)
    prepared = evaluation.prepare(problem, split)
    several = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), point)
    both = evaluation.scores(problem, several, prepared, 5, 'vmap')
    monkeypatch.setattr(alike, 'LEAST', 100)
    apart = linen(tasks)
    expected = evaluation.evaluate(apart, *point, split, 5)
    doubled = evaluation.evaluate(apart, *jax.tree.map(lambda x: 2 * x, point), split, 5)
    for one, other in ((found, expected), (both[0], expected), (both[1], doubled)):
        assert list(one) == list(other) == list(tasks)
        for task, metrics in other.items():
            assert one[task] == pytest.approx(metrics, rel=1e-4), task
