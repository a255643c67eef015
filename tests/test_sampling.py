"""Batches drawn by task: how often each task and each row, and that a step knows its batch."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import make_problem, make_split

from tag_jax import data, examples
from tag_jax.training import NetworkPlan, TrainingConfig, batch_rows, progress
from tag_jax.training.batches import (
    check_sampling,
    rows_by_task,
    sampler,
    schedule_of,
    task_quotas,
)

SIZES = (48, 24, 6)


def pools():
    """The rows of each task: they share none."""
    return np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(1, 5000), min_size=1, max_size=8),
    sampling=st.one_of(st.just('balanced'), st.floats(1, 100)),
    size=st.integers(200, 5000),
)
def test_quotas_are_the_shares(counts, sampling, size):
    quotas = np.array(task_quotas(counts, sampling, size))
    powers = [1.0 if sampling == 'balanced' else n ** (1 / sampling) for n in counts]
    exact = np.array([size * power / sum(powers) for power in powers])
    assert quotas.min() >= 1
    assert np.abs(quotas - exact).max() <= 1
    if exact.min() >= 1:
        assert quotas.sum() == size


def test_temperatures_lie_between_the_counts_and_balance():
    counts = (480, 240, 60)
    assert task_quotas(counts, 1, 780) == counts
    assert task_quotas(counts, 1e9, 780) == task_quotas(counts, 'balanced', 780) == (260,) * 3
    one, two, four = (task_quotas(counts, t, 780)[2] for t in (1, 2, 4))
    assert 60 == one < two < four < 260


@pytest.mark.parametrize('sampling', [1, 2.5, 'balanced'])
@pytest.mark.parametrize('batch_size', [7, 26, 100])
def test_every_row_of_a_task_comes_as_often_as_the_others(sampling, batch_size):
    quotas = task_quotas(SIZES, sampling, sum(SIZES))
    steps = 3 * sum(quotas)  # As many epochs as a batch has examples, times three.
    rows = np.concatenate(
        [rows_by_task(3, step, batch_size, np.arange(78), SIZES, quotas) for step in range(steps)]
    )
    epochs = 3 * batch_size
    times = np.bincount(rows, minlength=sum(SIZES))
    for own, quota in zip(pools(), quotas, strict=True):
        assert times[own].sum() == epochs * quota
        assert times[own].max() - times[own].min() <= 1
    first = rows[: sum(quotas)]
    assert [np.isin(first, own).sum() for own in pools()] == list(quotas)


def test_a_batch_is_a_function_of_seed_and_step():
    """Whatever was drawn before it: as it is where training resumes."""
    quotas = task_quotas(SIZES, 'balanced', 78)
    draw = lambda seed, step: rows_by_task(seed, step, 20, np.arange(78), SIZES, quotas)
    forward = [draw(5, step) for step in range(12)]
    for step in reversed(range(12)):
        np.testing.assert_array_equal(draw(5, step), forward[step])
    assert forward[0].dtype == np.int32
    assert np.any(forward[0] != draw(6, 0))
    assert np.any(np.sort(np.concatenate(forward[:3])) != np.sort(np.concatenate(forward[4:7])))


def test_tasks_of_the_same_rows_draw_them_in_orders_of_their_own():
    rows = rows_by_task(0, 0, 40, np.tile(np.arange(40), 2), (40, 40), (20, 20))
    assert len(set(rows.tolist())) > 25, 'two streams that were one would draw 20 rows twice'


def union():
    sizes = {'sign': 48, 'octant': 24, 'radius': 6}
    return data.union({task: make_split(n).only([task]) for task, n in sizes.items()})


def labelled_in(split):
    found = examples.Examples(None, len(split.inputs), split, None)
    return lambda tasks: examples.labelled_rows(found, tasks)


def test_networks_draw_what_their_tasks_ask_for():
    labelled = labelled_in(union())
    draw = sampler(('sign', 'radius'), 78, labelled, 'balanced')
    drawn = np.concatenate([draw(0, step, 9) for step in range(12)])
    counts = collections.Counter('sign' if row < 48 else 'radius' for row in drawn.tolist())
    assert counts == {'sign': 54, 'radius': 54}
    assert not np.isin(drawn, np.arange(48, 72)).any(), 'rows of octant are of no use'


@pytest.mark.parametrize('sampling', ['proportional', 'balanced', 4])
def test_a_chunk_of_steps_draws_as_each_network_asks(sampling):
    """Networks at steps of their own, and an empty slot between them."""
    problem, labelled = make_problem(), labelled_in(union())
    plans = [NetworkPlan('a', ('sign', 'radius'), 1, 0.1), NetworkPlan('b', ('octant',), 2, 0.1)]
    first, second = (progress.start(problem, plan) for plan in plans)
    runs = [first._replace(step=20), None, second]
    config = TrainingConfig(steps=22, sampling=sampling)
    found = schedule_of(runs, 4, 9, [78], config, [labelled])
    assert found.rows.shape == (4, 3, 9)
    for n, (plan, start) in enumerate([(plans[0], 20), (plans[0], 20), (plans[1], 0)]):
        draw = sampler(plan.tasks, 78, labelled, sampling)
        for step in range(4):
            np.testing.assert_array_equal(found.rows[step, n], draw(plan.seed, start + step, 9))
    assert found.live.T.tolist() == [[True, True, False, False], [False] * 4, [True] * 4]
    whole = schedule_of(runs, 78, 9, [78], config, [labelled]).rows[:, 0]
    shares = np.mean(whole < 48), np.mean(whole >= 72)
    expected = {'proportional': (48 / 54, 6 / 54), 'balanced': (0.5, 0.5)}
    if sampling in expected:
        np.testing.assert_allclose(shares, expected[sampling], atol=0.01)
    else:
        assert 6 / 54 < shares[1] < 0.5


def test_where_there_is_nothing_to_choose_rows_are_drawn_as_before():
    plain = [batch_rows(0, step, 16, 64) for step in range(5)]
    whole = sampler(('sign', 'octant'), 64, labelled_in(make_split(64)), 'balanced')
    np.testing.assert_array_equal([whole(0, step, 16) for step in range(5)], plain)
    labelled = labelled_in(union())
    for tasks, sampling in ((('radius',), 'balanced'), (('sign', 'radius'), 'proportional')):
        draw = sampler(tasks, 78, labelled, sampling)
        rows = labelled(tasks)
        for step in range(5):
            expected = batch_rows(2, step, 16, 78, rows)
            np.testing.assert_array_equal(draw(2, step, 16), expected)


@pytest.mark.parametrize('sampling', ['even', 0.5, float('nan'), float('inf'), True, None, []])
def test_other_ways_to_sample_are_refused(sampling):
    with pytest.raises(ValueError, match="must be 'proportional', 'balanced' or a temperature"):
        check_sampling(sampling)
