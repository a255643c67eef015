"""How far a choice can be trusted, on measurements whose noise is known."""

import math

import numpy as np
import pytest

from tag_jax import affinity, selection, trust

NAMES = ('a', 'b', 'c', 'd')


def summary_of(mean, noise, length=400, seed=0):
    rng = np.random.default_rng(seed)
    history = np.asarray(mean) + noise * rng.normal(size=(length, len(mean), len(mean)))
    names = NAMES[: len(mean)]
    return affinity.summary(
        affinity.AffinityStatistics(names, tuple(range(length)), tuple(history))
    )


def blocks(gain):
    """Two pairs of tasks that help each other."""
    return gain * np.kron(np.eye(2), np.ones((2, 2)))


def choice(summary, budget=2):
    chosen = selection.select_groups(summary.mean, budget)
    return chosen, trust.runner_up(summary.mean, budget, chosen)


def test_a_clear_preference_is_certain_and_noise_is_not():
    clear = summary_of(blocks(1.0), 0.1)
    chosen, other = choice(clear)
    assert chosen.groups == ((0, 1), (2, 3))
    assert other.objective < chosen.objective
    assert trust.confidence(clear, chosen, other) == 1
    assert trust.remarks(clear, other, 1.0)[0].startswith('In 100 % of bootstrap samples')
    assert len(trust.remarks(clear, other, 1.0)) == 1

    noise = summary_of(np.zeros((4, 4)), 1.0)
    chosen, other = choice(noise)
    assert 0.4 < trust.confidence(noise, chosen, other) < 0.95
    assert 'which tasks to train with is left to chance' in ' '.join(
        trust.remarks(noise, other, 0.6)
    )


def test_confidence_is_how_often_the_choice_would_be_right():
    """Rival groups with a known difference and a known error: the normal distribution's answer."""
    mean = blocks(1.0)
    mean[2, 0] = mean[2, 1] = 0.96
    found, expected = [], []
    for seed in range(30):
        summary = summary_of(mean, 1.0, seed=seed)
        better, other = (
            selection.Selection(groups, groups, 0.0, 0.0, True, None, 0.0)
            for groups in (((0, 1), (2, 3)), ((0, 2), (1, 3)))
        )
        differences = np.asarray(summary.history, np.float64)
        differences = sum(
            differences[:, i, j] - differences[:, k, j]
            for i, k, j in ((1, 2, 0), (0, 3, 1), (3, 0, 2), (2, 1, 3))
        )
        error = differences.std(ddof=1) / math.sqrt(len(differences))
        found.append(trust.confidence(summary, better, other))
        expected.append(0.5 * math.erfc(-differences.mean() / error / math.sqrt(2)))
    np.testing.assert_allclose(np.mean(found), np.mean(expected), atol=0.05)


def test_too_few_measurements_say_nothing():
    summary = summary_of(blocks(1.0), 0.1, length=3)
    assert math.isnan(trust.confidence(summary, *choice(summary)))
    nothing = summary_of(blocks(1.0), 0.1, length=0)._replace(mean=blocks(1.0))
    assert trust.remarks(nothing, None, None) == ()


def test_without_a_choice_there_is_no_runner_up():
    matrix = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert trust.runner_up(matrix, 1, selection.select_groups(matrix, 1)) is None


def test_rare_pairs_are_named():
    summary = summary_of(blocks(1.0), 0.1)
    count = summary.count.copy()
    count[0, 3] = 5
    said = trust.remarks(summary._replace(count=count), None, None)
    assert said == (
        'Fewer than a tenth of the measurements had labels for both tasks, or a positive loss: '
        'a onto d.',
    )


@pytest.mark.parametrize('alone', [None, np.full(4, 5.0)])
def test_objectives_are_those_of_selection(alone):
    matrix = np.random.default_rng(1).normal(size=(4, 4))
    np.fill_diagonal(matrix, 5.0)
    selected = selection.select_groups(matrix, 3, alone)
    assert trust._objectives(matrix[None], selected) == pytest.approx([selected.objective])
