"""Estimates of networks that are not trained: where a network is linear, they are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import make_problem, make_split

from tag_jax import grouping, objectives
from tag_jax.data import Dataset, Split
from tag_jax.grouping import linear_estimates
from tag_jax.problem import from_functions
from tag_jax.training import TrainingConfig

SIZE, WIDTH = 5, 3
NAMES = ('a', 'b', 'c')


def linear_problem(tasks=None, squash=False):
    """Each task is answered by a linear map that all share, and its own offset."""
    rng = np.random.default_rng(0)
    mix = {task: rng.normal(size=(WIDTH, 1)).astype(np.float32) for task in NAMES}

    def init(key):
        del key
        heads = {task: {'offset': jnp.zeros(1)} for task in NAMES}
        return {'shared': {'map': jnp.zeros((SIZE, WIDTH))}, 'heads': heads}

    return from_functions(
        init=init,
        encode=lambda shared, inputs: inputs @ shared['map'],
        decode={
            task: lambda head, z, task=task: z @ mix[task] + head['offset'][None] for task in NAMES
        },
        tasks=tasks or dict.fromkeys(NAMES, objectives.regression()),
    ), mix


def data(seed, size, binary=False):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(size, SIZE)).astype(np.float32)
    slopes = np.random.default_rng(9).normal(size=(SIZE, len(NAMES)))
    values = inputs @ slopes + rng.normal(size=(size, len(NAMES)))
    targets = (values > 0.3).astype(np.int32) if binary else values.astype(np.float32)
    mask = {'a': rng.random(size) < 0.7}
    return Split(inputs, {task: targets[:, n] for n, task in enumerate(NAMES)}, mask)


def least_squares(mix, train, validation, tasks):
    """Validation mean squared errors of the joint least squares fit, float64."""
    rows, right = [], []
    for task in tasks:
        known = train.mask[task] if task in train.mask else np.ones(len(train.inputs), bool)
        one = np.kron(train.inputs[known].astype(float), mix[task].T)
        offsets = np.zeros((len(one), len(NAMES)))
        offsets[:, NAMES.index(task)] = 1
        weight = 1 / np.sqrt(len(one))
        rows.append(weight * np.concatenate([one, offsets], axis=1))
        right.append(weight * train.targets[task][known])
    answer, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)
    found = {}
    for task in tasks:
        known = validation.mask.get(task, np.ones(len(validation.inputs), bool))
        one = np.kron(validation.inputs.astype(float), mix[task].T)
        predicted = one @ answer[: SIZE * WIDTH] + answer[SIZE * WIDTH + NAMES.index(task)]
        found[task] = np.mean(np.square(predicted - validation.targets[task])[known])
    return found


def test_of_a_linear_network_they_are_least_squares():
    problem, mix = linear_problem()
    train, validation = data(1, 300), data(2, 280)
    dataset = Dataset('lines', problem.tasks, train, validation, validation)
    params, model_state = problem.init(jax.random.key(0))
    found = linear_estimates.linearised_losses(
        problem, (params, model_state), dataset, directions=60, ridge=1e-7, seed=0
    )
    assert found.members.shape == (7, 3)
    for members, scores in zip(found.members, found.scores, strict=True):
        tasks = [task for task, own in zip(NAMES, members, strict=True) if own]
        expected = least_squares(mix, train, validation, tasks)
        for task, own, score in zip(NAMES, members, scores, strict=True):
            if not own:
                assert np.isnan(score)
                continue
            known = validation.mask.get(task, np.ones(280, bool))
            constant = np.var(validation.targets[task][known])
            assert score == pytest.approx(100 * expected[task] / constant, rel=2e-3)


def test_one_step_of_newton_lowers_a_logistic_loss():
    tasks = dict.fromkeys(NAMES, objectives.binary())
    problem, _ = linear_problem(tasks)
    train, validation = data(1, 300, True), data(2, 280, True)
    dataset = Dataset('sides', tasks, train, validation, validation)
    network = problem.init(jax.random.key(0))
    found = linear_estimates.linearised_losses(problem, network, dataset, 60, 1e-3, seed=0)
    # At zero all answers are one half, which is no better than the best constant.
    assert np.nanmax(found.scores) < 85


def test_features_are_the_derivatives_of_the_answers():
    """Against reverse mode, on a network that is not linear."""
    problem = make_problem(widths=(6, 4))
    params, model_state = problem.init(jax.random.key(1))
    inputs = make_split(7).inputs
    shared = linear_estimates._directions(jax.random.key(2), params['shared'], 5)
    heads = {
        task: linear_estimates._head_directions(jax.random.key(3), head, 40)
        for task, head in params['heads'].items()
    }
    found = linear_estimates._features(problem, params, model_state, inputs, shared, heads)
    jacobian = jax.jacrev(lambda own: problem.predict(own, model_state, inputs))(params)
    for task, (outputs, by_shared, by_head) in found.items():
        np.testing.assert_allclose(
            outputs, problem.predict(params, model_state, inputs)[task], rtol=1e-5
        )
        for features, of, ways in (
            (by_shared, jacobian[task]['shared'], shared),
            (by_head, jacobian[task]['heads'][task], heads[task]),
        ):
            flat = zip(jax.tree.leaves(of), jax.tree.leaves(ways), strict=True)
            expected = sum(
                jnp.einsum(
                    'bcp,dp->bcd', one.reshape(*one.shape[:2], -1), way.reshape(len(way), -1)
                )
                for one, way in flat
            )
            np.testing.assert_allclose(features, expected, atol=2e-6)


@pytest.mark.sweep
def test_maps_and_sources_are_refused():
    problem = make_problem(widths=(6, 4))
    for outputs in (np.zeros((2, 4, 4, 1)), np.zeros(2)):
        with pytest.raises(ValueError, match=r"outputs \[B, C\], and 'map' has"):
            linear_estimates._checked_outputs('map', outputs)
    with pytest.raises(ValueError, match='needs? splits in memory'):
        next(linear_estimates._batches(problem, object()))


@pytest.mark.sweep  # Its short form: studies/test_recorded.py replays them.
def test_the_method_keeps_its_estimates_in_the_score_table(tmp_path):
    problem = make_problem(widths=(6, 4))
    train, validation = make_split(60), make_split(40, 1)
    dataset = Dataset('points', problem.tasks, train, validation, make_split(40, 2))
    config = TrainingConfig(steps=20, batch_size=16, eval_every=5)
    method = grouping.linearised(bases=2)
    first, again = (
        grouping.group_tasks(problem, dataset, 2, method, config, scores=tmp_path / 'table')
        for _ in range(2)
    )
    assert [one.tasks for one in first.groups] == [one.tasks for one in again.groups]
    assert len(list((tmp_path / 'table' / 'estimates').glob('*.npz'))) == 1
    assert first.cost['search_steps'] == again.cost['search_steps'] == 2 * 2
