"""Static weights: what they are proposed from, what they make equal, how one is chosen."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small import TASKS, make_problem, make_split

from tag_jax import gradients, multi_objective, scalarization
from tag_jax.problem import Batch
from tag_jax.training import TrainingConfig, batch_rows

CONFIG = TrainingConfig(batch_size=64)
SCALES = scalarization.Scales(np.array([2.0, 0.5, 1]), np.array([0.1, 10, 4]))
NAMES = ('a', 'b', 'c')


@pytest.fixture(scope='module')
def problem():
    return make_problem(widths=(16,))


@pytest.fixture(scope='module')
def train():
    return make_split(256)


def test_scales_are_those_of_the_first_batches_of_training(problem, train):
    """Against a gradient of each loss by itself, on the rows that training draws."""
    found = scalarization.measure_scales(problem, train, CONFIG, batches=2)
    init_key, key = jax.random.split(jax.random.key(CONFIG.seed))
    params, state = problem.init(init_key)

    def losses_of(shared, batch, key):
        whole = {**params, 'shared': shared}
        return gradients.task_losses(problem, whole, state, batch, key)[0]

    expected = np.zeros((2, 2, len(TASKS)))
    for step in range(2):
        rows = batch_rows(CONFIG.seed, step, CONFIG.batch_size, len(train.inputs))
        given = (
            jax.tree.map(lambda x, rows=rows: x[rows], Batch(*train)),
            jax.random.fold_in(key, step),
        )
        expected[0, step] = losses_of(params['shared'], *given)
        for n in range(len(TASKS)):
            gradient = jax.grad(lambda s, n=n, given=given: losses_of(s, *given)[n])(
                params['shared']
            )
            expected[1, step, n] = np.linalg.norm(ravel_pytree(gradient)[0])
    np.testing.assert_allclose(found.losses, expected[0].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.norms, expected[1].mean(axis=0), rtol=1e-4)


def test_the_first_proposals_make_the_tasks_alike():
    proposed = scalarization.propose_weights(NAMES, SCALES, 4)
    assert all(name.startswith(multi_objective.STATIC) for name in proposed)
    equal, norms, losses, roots = (np.array(list(w.values())) for w in proposed.values())
    np.testing.assert_allclose(equal, 1)
    np.testing.assert_allclose(losses * SCALES.losses, (losses * SCALES.losses)[0])
    np.testing.assert_allclose(norms * SCALES.norms, (norms * SCALES.norms)[0])
    np.testing.assert_allclose(roots**2 / (equal * norms), (roots**2 / (equal * norms))[0])
    for weights in proposed.values():
        assert tuple(weights) == NAMES
        np.testing.assert_allclose(sum(weights.values()), 3)


@pytest.mark.parametrize('count', [1, 3, 4, 9])
def test_as_many_are_proposed_as_there_are_runs_for(count):
    proposed = scalarization.propose_weights(NAMES, SCALES, count, total=1.0, seed=3)
    assert len(proposed) == count
    assert proposed == scalarization.propose_weights(NAMES, SCALES, count, total=1.0, seed=3)
    assert len({tuple(weights.values()) for weights in proposed.values()}) == count
    for weights in proposed.values():
        np.testing.assert_allclose(sum(weights.values()), 1)
        assert min(weights.values()) > 0
    more = scalarization.propose_weights(NAMES, SCALES, count + 5, total=1.0, seed=3)
    assert dict(list(more.items())[:count]) == proposed


def test_draws_cover_the_simplex_evenly():
    """Means, variances and covariances of the uniform law: 1/3, 1/18 and -1/36."""
    proposed = scalarization.propose_weights(NAMES, SCALES, 4004, total=1.0)
    draws = np.array([list(weights.values()) for weights in proposed.values()])[4:]
    np.testing.assert_allclose(draws.mean(axis=0), 1 / 3, atol=0.02)
    expected = np.full((3, 3), -1 / 36) + np.eye(3) / 12
    np.testing.assert_allclose(np.cov(draws.T), expected, atol=0.005)


def test_proposals_are_one_search():
    """As `multi_objective.searched` and its reports see them."""
    errors = np.ones((2, 3))
    names = scalarization.propose_weights(NAMES, SCALES, 6)
    outcomes = [
        multi_objective.Outcome(name, (0.1,), n * errors, errors, {}, 1.0)
        for n, name in enumerate(names)
    ]
    ((kind, (chosen, count)),) = multi_objective.searched(outcomes[::-1]).items()
    assert (kind, chosen.name, count) == (multi_objective.STATIC, next(iter(names)), 6)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (lambda split: {'mask': {'radius': np.zeros(len(split.inputs), bool)}}, 'has no label in'),
        (
            lambda split: {
                'targets': {**split.targets, 'radius': np.full(len(split.inputs), np.nan)}
            },
            "the loss of 'radius' is nan where training begins",
        ),
        (
            lambda split: {'inputs': np.zeros_like(split.inputs)},
            'the gradient of .* is 0.0 where training begins, and has no inverse: give weights by',
        ),
    ],
)
def test_tasks_without_a_scale(problem, train, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        scalarization.measure_scales(problem, train._replace(**change(train)), CONFIG, batches=1)


def test_numbers_out_of_range(problem, train):
    with pytest.raises(ValueError, match='batches must be at least 1, not 0'):
        scalarization.measure_scales(problem, train, CONFIG, batches=0)
    with pytest.raises(ValueError, match='count must be at least 1, not 0'):
        scalarization.propose_weights(NAMES, SCALES, 0)
