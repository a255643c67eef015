"""Encoders that are computed again in the backward pass: the same gradients, from less memory."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import TASKS, LinenNormalisedEncoder, NormalisedEncoder, make_split

from tag_jax import affinity, gradients, weighting
from tag_jax.grouping import identity
from tag_jax.problem import Batch, from_functions, from_linen, from_nnx, remat

EXAMPLE = np.zeros((1, 3), np.float32)
BATCH = Batch(*make_split(32)[:2])


def functions():
    def init(key):
        draw = lambda n, *shape: jax.random.normal(jax.random.fold_in(key, n), shape)
        heads = {task: draw(n, 8, one.width) for n, (task, one) in enumerate(TASKS.items())}
        return {'shared': [draw(8, 3, 8), draw(9, 8, 8)], 'heads': heads}

    def encode(shared, x, deterministic):
        hidden = jax.nn.relu(x @ shared[0])
        return jnp.sin((hidden if deterministic else 0.5 * hidden) @ shared[1])

    return from_functions(init, encode, dict.fromkeys(TASKS, lambda head, z: z @ head), TASKS)


# Modules that take train, or are switched to it, and a function that takes deterministic.
PROBLEMS = {
    'linen': lambda: from_linen(LinenNormalisedEncoder(), TASKS, EXAMPLE),
    'nnx': lambda: from_nnx(NormalisedEncoder, TASKS, EXAMPLE),
    'functions': functions,
}


def close(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), found, expected
    )


@functools.partial(jax.jit, static_argnames=('problem', 'kinds'))
def everything(problem, params, state, kinds):
    """Gradients, state, the inner products with a direction, affinities."""
    key = jax.random.key(1)
    by_task, after = gradients.task_gradients(problem, params, state, BATCH, key)
    combined = by_task.combine(jnp.arange(1.0, 4.0))
    descent = by_task.descent(combined['shared'])
    found = affinity.inter_task_affinities(problem, params, state, BATCH, 0.1, kinds, key)
    return by_task.losses, combined, by_task.shared(), after, descent, found


@pytest.mark.variants(1)
@pytest.mark.parametrize('policy', [True, pytest.param('dots_saveable', marks=pytest.mark.sweep)])
@pytest.mark.parametrize(
    'name', ['linen', 'nnx', pytest.param('functions', marks=pytest.mark.sweep)]
)
def test_gradients_and_affinities_are_the_same(name, policy):
    problem = PROBLEMS[name]()
    again = dataclasses.replace(problem, remat=policy)
    params, state = problem.init(jax.random.key(0))
    kinds = ('exact', 'cosine')
    close(everything(again, params, state, kinds), everything(problem, params, state, kinds))
    text = str(jax.make_jaxpr(lambda p: everything(again, p, state, kinds))(params))
    assert 'checkpoint' in text or 'remat' in text


class Deep(nn.Module):
    """Blocks of two dense layers with residual connections."""

    blocks: int = 8

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(32)(x)
        for _ in range(self.blocks):
            hidden = nn.Dropout(0.1, deterministic=not train)(nn.tanh(nn.Dense(64)(x)))
            x = x + nn.Dense(32)(nn.tanh(hidden))
        return x


def bytes_of(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


@pytest.mark.sweep
def test_a_deep_encoder_remembers_less():
    """The bytes that live from the forward to the backward pass, beside parameters.

    (XLA for CPU leaves out the barriers of `jax.checkpoint`, and what it allocates says nothing.)
    """
    batch = Batch(*make_split(512)[:2])
    key = jax.random.key(1)
    held = {}
    for policy in (None, 'everything_saveable', 'dots_saveable', True):
        problem = from_linen(Deep(), TASKS, EXAMPLE, remat=policy)
        params, state = problem.shapes

        def pullback(params, state, problem=problem):
            return gradients.task_gradients(problem, params, state, batch, key)[0].pullback

        remembered = jax.eval_shape(pullback, params, state)
        held[policy] = bytes_of(remembered) - bytes_of(params['shared'])
        barriers = jax.jit(lambda p, s: pullback(p, s)(jnp.ones((512, 32))))
        lowered = barriers.lower(params, state).as_text()
        assert lowered.count('optimization_barrier') >= (4 if policy is True else 0)
    activation = 4 * 512 * 32
    # Four arrays of the width of the blocks and more go through each block.
    assert held[None] > 8 * 4 * activation
    assert held[True] < 8 * 1.5 * activation
    assert held[True] < held['dots_saveable'] <= held['everything_saveable']


@pytest.mark.sweep
def test_networks_side_by_side_are_computed_again():
    """Under vmap, as slots are, with a weighting that works on the shared parameters."""
    problem = functions()
    again = dataclasses.replace(problem, remat=True)
    transform = weighting.mgda()

    @functools.partial(jax.jit, static_argnames='problem')
    def updates(problem, params):
        def of_one(params):
            state = {'shared': {}, 'heads': {task: {} for task in TASKS}}
            by_task, _ = gradients.task_gradients(problem, params, state, BATCH)
            return transform.update(by_task, transform.init(params), params)[0]

        return jax.vmap(of_one)(params)

    params = jax.vmap(lambda key: problem.init(key)[0])(jax.random.split(jax.random.key(0), 2))
    barriers = lambda one: updates.lower(one, params).as_text().count('optimization_barrier')
    assert barriers(again) > barriers(problem)
    close(updates(again, params), updates(problem, params))


def test_a_chain_is_cut_into_about_as_many_pieces_as_the_root_of_its_length():
    def chain(x):
        for _ in range(100):
            x = jnp.sin(x)
        return x

    jaxpr = jax.make_jaxpr(chain)(jnp.ones(8)).jaxpr
    found = remat.cuts(jaxpr)
    sizes = np.diff(found)
    # The best is 2 sqrt(100) - 1 arrays: those that are handed on, and the largest piece.
    assert len(sizes) - 1 + sizes.max() <= 20
    assert found[0] == 0
    assert found[-1] == 100


def test_cuts_are_made_where_little_goes_on():
    def narrow(x):
        for _ in range(4):
            wide = jnp.sin(jnp.concatenate([x] * 16))
            x = jnp.sum(jnp.cos(wide).reshape(16, -1), axis=0)
        return x

    jaxpr = jax.make_jaxpr(narrow)(jnp.ones(8)).jaxpr
    widths = [jaxpr.eqns[cut - 1].outvars[0].aval.size for cut in remat.cuts(jaxpr)[1:-1]]
    assert widths
    assert set(widths) == {8}


def test_what_is_computed_again_is_no_part_of_what_a_model_is():
    class Run:
        problem = functions()
        dataset = type('', (), {'train': make_split(8)})

    class Again(Run):
        problem = dataclasses.replace(Run.problem, remat=True)

    assert identity.model(Run) == identity.model(Again)


@pytest.mark.parametrize('policy', ['all', 3, 'save_only_these_names', dict])
def test_policies_that_are_none_are_refused(policy):
    with pytest.raises(ValueError, match='remat must be true, one of nothing_saveable, dots_'):
        from_linen(nn.Dense(4), TASKS, EXAMPLE, remat=policy)


def test_a_policy_of_ones_own():
    policy = jax.checkpoint_policies.save_only_these_names('hidden')
    assert remat.policy_of(policy) is policy
    assert remat.policy_of(None) is None
    assert remat.policy_of(False) is None
    assert remat.policy_of(True) is jax.checkpoint_policies.nothing_saveable
