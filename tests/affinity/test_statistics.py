"""Statistics over a run against NumPy, and standard errors against runs that are repeated."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import CELEBA_TAG
from scipy import special
from small import TASKS, make_problem

from tag_jax import affinity

NAMES = ('a', 'b', 'c')


def statistics_of(history, names=NAMES):
    """Statistics with the given measurements `[N, T, T]`."""
    history = np.asarray(history, np.float32)
    return affinity.AffinityStatistics(names, tuple(range(len(history))), tuple(history))


def correlated(rng, runs, length, memory):
    """First-order autoregressive series of variance one, `[runs, length]`."""
    found = rng.normal(size=(runs, length))
    for n in range(1, length):
        found[:, n] = memory * found[:, n - 1] + np.sqrt(1 - memory**2) * found[:, n]
    return found


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_statistics_against_numpy(problem, seed, length):
    rng = np.random.default_rng(seed)
    history = rng.normal(size=(length, 3, 3)).astype(np.float32)
    history[rng.random(history.shape) < 0.3] = np.nan
    history[rng.random(history.shape) < 0.1] = np.inf
    statistics = affinity.init(problem)
    for step, matrix in enumerate(history):
        statistics = affinity.update(statistics, jnp.asarray(matrix), 10 * step)
    found = affinity.summary(statistics)

    samples = np.where(np.isfinite(history), history, np.nan).astype(np.float64)
    np.testing.assert_array_equal(found.count, np.isfinite(samples).sum(axis=0))
    for i, j in np.ndindex(3, 3):
        pair = samples[np.isfinite(samples[:, i, j]), i, j]
        expected = [
            pair.mean() if len(pair) else np.nan,
            pair.var(ddof=1) if len(pair) > 1 else np.nan,
        ]
        summarised = [found.mean[i, j], found.variance[i, j]]
        np.testing.assert_allclose(summarised, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(found.steps, 10 * np.arange(length))
    np.testing.assert_array_equal(found.history, np.where(np.isfinite(history), history, np.nan))
    assert found.task_names == ('sign', 'octant', 'radius')


def test_a_summary_is_printed_as_a_table():
    """Not its history; means and errors in units of the largest affinity between two tasks."""
    mean = np.array([[9, 0.002, -0.0011], [0.0005, 9, np.nan], [0.001, 0.00152, 9]])
    printed = repr(affinity.summary(statistics_of([mean] * 30)))
    first, header, *rows, last = printed.splitlines()
    assert first == (
        'AffinitySummary(30 measurements at steps 0 to 29): mean ± standard error, '
        'in units of 1e-03'
    )
    assert header.split() == list(NAMES)
    assert [row.split(maxsplit=1)[0] for row in rows] == list(NAMES)
    assert rows[0].split()[2:] == ['2.00±0.00', '-1.10±0.00']
    assert rows[1].endswith('no sample')
    assert 'rows: source tasks' in last
    once = affinity.summary(statistics_of([mean]))
    assert '1 measurement at step 0' in repr(once)
    assert '2.00  ' in repr(once), 'of one measurement there is no error'
    assert 'no measurements' in repr(affinity.summary(statistics_of(np.zeros((0, 3, 3)))))


def test_what_is_printed_of_many_tasks_fits():
    names = tuple(f'a_task_with_a_long_name_{n}' for n in range(40))
    found = statistics_of(np.random.default_rng(0).normal(size=(30, 40, 40)), names)
    printed = repr(affinity.summary(found))
    assert len(printed.splitlines()) == 1 + 1 + 8 + 1
    assert 'the first 8 of 40 tasks; .mean has all' in printed
    assert repr(affinity.init(make_problem(TASKS))).startswith('AffinityStatistics(no measurements')
    (line,) = repr(statistics_of(np.zeros((4, 3, 3)))).splitlines()
    assert line.startswith('AffinityStatistics(4 measurements at steps 0 to 3 of a, b, c;')


def test_statistics_refuse_another_shape(problem):
    with pytest.raises(ValueError, match='3 tasks is 3 x 3'):
        affinity.update(affinity.init(problem), np.zeros((2, 2)), 0)


@pytest.mark.parametrize('memory', [0.0, 0.8])
@pytest.mark.parametrize('drift', [0.0, 3.0])
def test_standard_errors_see_correlation_and_overlook_drift(memory, drift):
    """Over many runs, the error of the mean is what one run says of it."""
    series = correlated(np.random.default_rng(0), 9 * 100, 900, memory)
    series = series + drift * np.linspace(0, 1, 900)
    history = series.reshape(100, 3, 3, 900).transpose(0, 3, 1, 2)
    said = np.array([affinity.summary(statistics_of(run)).stderr for run in history])
    true = series.mean(axis=1).std()
    assert 0.85 * true < np.sqrt(np.mean(np.square(said))) < 1.15 * true
    if memory:
        alone = affinity.summary(statistics_of(history[0]))
        assert np.median(alone.stderr / np.sqrt(alone.variance / alone.count)) > 2


def test_a_step_is_measured_once(problem):
    statistics = affinity.update(affinity.init(problem), np.zeros((3, 3)), 10)
    with pytest.raises(ValueError, match='there are affinities of step 10 already'):
        affinity.update(statistics, np.zeros((3, 3)), 10)
    assert affinity.update(statistics, np.zeros((3, 3)), 20).steps == (10, 20)


def test_standard_errors_need_two_blocks():
    for length, known in ((0, False), (1, False), (3, False), (4, True)):
        history = np.random.default_rng(1).normal(size=(length, 3, 3))
        assert np.isfinite(affinity.summary(statistics_of(history)).stderr).all() == known


def test_standard_errors_where_samples_are_missing():
    rng = np.random.default_rng(2)
    history = rng.normal(size=(400, 3, 3))
    history[rng.random(history.shape) < 0.5] = np.nan
    history[:, 0, 1] = np.nan
    found = affinity.summary(statistics_of(history)).stderr
    assert np.isnan(found[0, 1])
    rest = found[np.isfinite(found)]
    assert len(rest) == 8
    assert np.mean(rest) == pytest.approx(1 / np.sqrt(200), rel=0.25)


def test_windows_are_parts_of_training():
    statistics = statistics_of(np.random.default_rng(3).normal(size=(8, 3, 3)))
    first, middle = (affinity.window(statistics, *part) for part in ((0, 0.25), (0.375, 0.625)))
    assert first.steps == (0, 1)
    assert middle.steps == (3, 4)
    np.testing.assert_allclose(
        affinity.summary(first).mean, np.mean(statistics.history[:2], axis=0), rtol=1e-6
    )
    of_summary = affinity.window(affinity.summary(statistics), 0, 0.25)
    for mine, theirs in zip(of_summary, affinity.summary(first), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    quarters = [affinity.window(statistics, n / 4, (n + 1) / 4).steps for n in range(4)]
    assert sum(quarters, ()) == statistics.steps
    for part in ((0.5, 0.5), (-0.1, 1), (0, 1.1), (0, np.nan)):
        with pytest.raises(ValueError, match='a window has 0 <= start < stop <= 1, not'):
            affinity.window(statistics, *part)


def test_what_affinities_have_in_common_does_not_count_in_a_contrast():
    """All are measured on the same batches; a paired difference is known better than its parts."""
    rng = np.random.default_rng(4)
    history = rng.normal(size=(400, 1, 1)) + 0.01 * rng.normal(size=(400, 3, 3))
    history[:, 0, 2] += 0.05
    weights = np.zeros((3, 3))
    weights[0, 2], weights[1, 2] = 1, -1
    summary = affinity.summary(statistics_of(history))
    found = affinity.contrast(summary, weights)
    paired = (history[:, 0, 2] - history[:, 1, 2]).astype(np.float32)
    assert found.value == pytest.approx(paired.mean(), rel=1e-4)
    assert found.error == pytest.approx(paired.std() / 20, rel=0.4)
    assert found.error < 0.1 * summary.stderr[0, 2]
    assert found.degrees == 12
    assert affinity.indistinct(summary) == ('a', 'b')
    history[:, 1, 2] = np.nan
    assert np.isnan(affinity.contrast(affinity.summary(statistics_of(history)), weights).error)


@pytest.mark.parametrize('length', [4, 16, 400])
@pytest.mark.parametrize('drift', [0.0, 3.0])
def test_errors_of_contrasts_are_calibrated(length, drift):
    """How often a difference of nothing is taken for one, at the 5 percent level."""
    rng = np.random.default_rng(5)
    weights = np.array([[0.0, 1], [-1, 0]])
    wrong = 0
    for _ in range(600):
        history = rng.normal(size=(length, 2, 2)) + drift * np.linspace(0, 1, length)[:, None, None]
        found = affinity.contrast(affinity.summary(statistics_of(history, 'ab')), weights)
        wrong += abs(found.value) > special.stdtrit(found.degrees, 0.975) * found.error
    assert 0.02 < wrong / 600 < 0.09


def test_margin_is_table_13_of_the_paper():
    """Its "normalised" affinities are the published ones divided by about 111."""
    printed = [0.35, 0.39, 0.16, 0.31, 0.47, 0.31, 0.43, 0.04, 0.17]
    np.testing.assert_allclose(affinity.margin(CELEBA_TAG) / 111, printed, atol=0.01)
    found = affinity.margin(CELEBA_TAG, normalized=True)
    np.testing.assert_allclose(found, printed, atol=0.012)
    np.testing.assert_allclose(affinity.margin(1e-5 * CELEBA_TAG, normalized=True), found)


def test_margin_of_what_is_missing():
    matrix = [[9.0, 1, np.nan], [2, 9, np.nan], [np.nan, -4, 9]]
    np.testing.assert_array_equal(affinity.margin(matrix), [0, 5, np.nan])
    np.testing.assert_array_equal(affinity.margin(matrix, normalized=True), [0, 2.5, np.nan])
    assert np.isnan(affinity.margin(np.zeros((2, 2)), normalized=True)).all()


def test_affinities_that_cannot_be_told_apart_are_named():
    rng = np.random.default_rng(5)
    history = rng.normal(size=(400, 3, 3))
    assert affinity.indistinct(affinity.summary(statistics_of(history + 100 * np.eye(3)))) == NAMES
    history[:, 0, 1] += 2
    assert affinity.indistinct(affinity.summary(statistics_of(history))) == ('a', 'c')
    alike = np.ones((16, 3, 3))
    assert affinity.indistinct(affinity.summary(statistics_of(alike))) == NAMES
    # Between two tasks there is nothing to tell apart, and without an error nothing is said.
    assert affinity.indistinct(affinity.summary(statistics_of(history[:, :2, :2], 'ab'))) == ()
    assert affinity.indistinct(affinity.summary(statistics_of(history[:3]))) == ()


@pytest.mark.parametrize('size', [5, 9, 40])
def test_the_best_and_the_worst_of_many_are_no_difference(size):
    """Noise among many tasks looks like a preference more often; not to this."""
    names = tuple(f't{n}' for n in range(size))
    named = [
        len(affinity.indistinct(affinity.summary(statistics_of(history, names)))) / size
        for history in np.random.default_rng(6).normal(size=(5, 400, size, size))
    ]
    assert np.mean(named) > 0.85


def test_pairs_whose_labels_rarely_meet_are_named():
    history = np.ones((20, 3, 3))
    history[1:, 0, 2] = np.nan
    history[:, 1, 1] = np.nan
    summary = affinity.summary(statistics_of(history))
    assert affinity.rarely_together(summary) == (('a', 'c'),)
    assert affinity.rarely_together(summary, share=0.05) == ()
