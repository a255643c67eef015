"""How far a choice can be trusted, on measurements whose noise is known."""

import numpy as np
import pytest

from tag_jax import affinity, selection
from tag_jax.grouping import confidence

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
    return chosen, confidence.runner_up(summary.mean, budget, chosen)


def test_a_clear_preference_is_certain_and_noise_is_not():
    clear = summary_of(blocks(1.0), 0.1)
    chosen, other = choice(clear)
    assert chosen.groups == ((0, 1), (2, 3))
    assert other.objective < chosen.objective
    assert confidence.confidence(clear, chosen, other) > 0.999
    (only,) = confidence.remarks(clear, other, 0.9999)
    assert only.endswith('with a probability of more than 99 %.')
    moved = chosen._replace(groups=((0, 1), (1, 2, 3)))
    (only,) = confidence.remarks(clear, moved, 0.9, chosen)
    assert 'than the runner-up, which differs in 1, with' in only.replace(clear.task_names[1], '1')

    noise = summary_of(np.zeros((4, 4)), 1.0)
    chosen, other = choice(noise)
    assert 0.5 <= confidence.confidence(noise, chosen, other) < 0.95
    confident, about_chance = confidence.remarks(noise, other, 0.6)
    assert confident.endswith('with a probability of 60 %.')
    assert about_chance.startswith('Single affinities onto a, b, c and d cannot be told apart.')
    assert 'roughly' not in about_chance, 'of 400 measurements noise is known well'
    few = summary_of(np.zeros((4, 4)), 1.0, length=30)
    *_, about_chance = confidence.remarks(few, choice(few)[1], 0.6)
    assert '30 measurements tell the size of the noise itself only roughly' in about_chance
    assert len(affinity.indistinct(few)) == 4


def test_a_remark_names_the_tasks_whose_affinities_are_alike():
    """And no others: those onto which one affinity stands out are read one by one."""
    mean = np.zeros((4, 4))
    mean[1, 0] = 5.0
    found = summary_of(mean, 0.5)
    chosen, other = choice(found)
    *_, about_chance = confidence.remarks(found, other, 0.6, chosen)
    assert about_chance.startswith('Single affinities onto b, c and d cannot be told apart.')


RIVALS = [
    selection.Selection(groups, groups, 0.0, 0.0, True, None, 0.0)
    for groups in (((0, 1), (2, 3)), ((0, 2), (1, 3)))
]


def test_between_two_rivals_of_equal_worth_confidence_is_spread_evenly():
    """Neither was chosen for what was measured, so this is a p-value: uniform."""
    found = np.array(
        [
            confidence.confidence(summary_of(np.ones((4, 4)), 1.0, 100, seed), *RIVALS)
            for seed in range(400)
        ]
    )
    shares = np.histogram(found, bins=5, range=(0, 1))[0] / 400
    np.testing.assert_allclose(shares, 0.2, atol=0.07)
    better = confidence.confidence(summary_of(blocks(1.0), 0.1), *RIVALS)
    worse = confidence.confidence(summary_of(blocks(1.0), 0.1), *RIVALS[::-1])
    assert better > 0.999
    assert worse < 0.001


def test_measurements_without_noise():
    for gain, expected in ((1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)):
        assert confidence.confidence(summary_of(blocks(gain), 0.0), *RIVALS) == expected


def test_too_few_measurements_say_nothing():
    summary = summary_of(blocks(1.0), 0.1, length=3)
    chosen, other = choice(summary)
    assert confidence.confidence(summary, chosen, other) is None
    (only,) = confidence.remarks(summary, other, None)
    assert only == 'There are too few measurements to tell the choice of groups from chance.'
    assert confidence.remarks(summary, None, None) == ()
    nothing = summary_of(blocks(1.0), 0.1, length=0)._replace(mean=blocks(1.0))
    assert confidence.remarks(nothing, None, None) == ()


def test_without_a_choice_there_is_no_runner_up():
    matrix = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert confidence.runner_up(matrix, 1, selection.select_groups(matrix, 1)) is None


def test_rare_pairs_are_named():
    summary = summary_of(blocks(1.0), 0.1)
    count = summary.count.copy()
    count[0, 3] = 5
    said = confidence.remarks(summary._replace(count=count), None, None)
    assert said == (
        'Fewer than a tenth of the measurements had labels for both tasks, or a positive loss: '
        'a onto d.',
    )


@pytest.mark.parametrize('alone', [None, np.full(4, 5.0)])
def test_objectives_are_those_of_selection(alone):
    matrix = np.random.default_rng(1).normal(size=(4, 4))
    np.fill_diagonal(matrix, 5.0)
    selected = selection.select_groups(matrix, 3, alone)
    assert np.sum(confidence._weights(selected, 4) * matrix) == pytest.approx(selected.objective)


def test_a_batch_that_decides_by_itself_is_named():
    """One measurement in 400 that is finite, and far beyond all others."""
    summary = summary_of(blocks(1.0), 0.1)
    assert affinity.dominant(summary) == ()
    chosen, _ = choice(summary)
    assert confidence.dominance(summary, 2, chosen) == ()
    history = summary.history.copy()
    history[120, 0, 2] = 1e6
    broken = affinity.summary(affinity.AffinityStatistics(NAMES, tuple(range(400)), tuple(history)))
    assert affinity.dominant(broken) == (120,)
    assert len(affinity.without(broken, [120]).steps) == 399
    misled, _ = choice(broken)
    assert misled.groups != chosen.groups
    (sentence,) = confidence.dominance(broken, 2, misled)
    assert sentence.startswith('What was measured at step 120 decides')
    assert sentence.endswith('without it the groups would be {a, b} {c, d}.')
    history[120, 0, 2], history[120, 0, 1] = 1.0, 1e6  # To the same end.
    broken = affinity.summary(affinity.AffinityStatistics(NAMES, tuple(range(400)), tuple(history)))
    (sentence,) = confidence.dominance(broken, 2, choice(broken)[0])
    assert sentence.endswith('without it the groups would be the same.')
    history[120, 0, 1] = 100.0  # Outweighs the others, and not ten times over.
    mild = affinity.summary(affinity.AffinityStatistics(NAMES, tuple(range(400)), tuple(history)))
    assert affinity.dominant(mild) == (120,)
    assert confidence.dominance(mild, 2, choice(mild)[0]) == ()
    history[120:122, 0, 1] = 1e6
    history[130, 1, 1] = 1e9  # Where selection does not look.
    broken = affinity.summary(affinity.AffinityStatistics(NAMES, tuple(range(400)), tuple(history)))
    (sentence,) = confidence.dominance(broken, 2, choice(broken)[0])
    assert 'at steps 120, 121 decides' in sentence
    assert 'without them the groups would be the same' in sentence
    assert 130 in affinity.dominant(broken, with_diagonal=True)


def test_a_few_samples_are_noise_and_many_zeros_hide_nothing():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        history = rng.normal(size=(100, 4, 4))
        history[rng.random(history.shape) < 0.9] = np.nan  # About ten samples a pair.
        found = affinity.AffinityStatistics(NAMES, tuple(range(100)), tuple(history))
        assert affinity.dominant(affinity.summary(found)) == ()
    zeros = np.zeros((100, 4, 4))
    zeros[7, 0, 1] = 1e9
    found = affinity.AffinityStatistics(NAMES, tuple(range(100)), tuple(zeros))
    assert affinity.dominant(affinity.summary(found)) == (7,)
    assert affinity.dominant(affinity.summary(found._replace(steps=(), history=()))) == ()


def test_an_affinity_of_a_task_alone_may_go_with_its_batch():
    history = np.ones((12, 4, 4))
    history += 0.01 * np.random.default_rng(0).normal(size=history.shape)
    history[1:, 0, 0], history[0, 1, 2] = np.nan, 1e6
    found = affinity.AffinityStatistics(NAMES, tuple(range(12)), tuple(history))
    summary = affinity.summary(found)
    (sentence,) = confidence.dominance(summary, 2, RIVALS[0], with_diagonal=True)
    assert sentence.endswith('without it not every pair has an affinity.')


def test_heavy_tails_and_drift_are_no_single_batch():
    rng = np.random.default_rng(0)
    drift = np.exp(-np.arange(300) / 20)[:, None, None] * np.ones((4, 4))
    for history in (
        rng.standard_t(2, size=(300, 4, 4)),
        drift + 0.01 * rng.normal(size=(300, 4, 4)),
    ):
        found = affinity.AffinityStatistics(NAMES, tuple(range(300)), tuple(history))
        assert affinity.dominant(affinity.summary(found)) == ()
