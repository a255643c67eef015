"""Figures of what a loop of one's own has measured."""

import numpy as np
import pytest

from tag_jax import affinity, report


def make_statistics():
    """Twenty measurements of three tasks, at every fifth step."""
    rng = np.random.default_rng(0)
    history = rng.normal(size=(20, 3, 3)).astype(np.float32)
    return affinity.AffinityStatistics(('a', 'b', 'c'), tuple(range(0, 100, 5)), tuple(history))


def test_losses_are_drawn_as_they_are():
    rng = np.random.default_rng(1)
    histories = {name: rng.uniform(0.1, 2, size=(7, 2)) for name in ('plain', 'other')}
    panels = report.losses_figure(histories, ['a', 'b']).axes
    assert [axes.get_title() for axes in panels] == ['loss of a', 'loss of b']
    for n, axes in enumerate(panels):
        assert axes.get_yscale() == 'log'
        lines = {line.get_label(): line for line in axes.get_lines()}
        for name, history in histories.items():
            np.testing.assert_array_equal(lines[name].get_ydata(), history[:, n])


def test_losses_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"'plain' must have a row a step and 3 columns.*\[7, 2"):
        report.losses_figure({'plain': np.ones((7, 2))}, ['a', 'b', 'c'])


def test_drift_shows_the_means_of_windows():
    statistics = make_statistics()
    figure = report.drift_figure(affinity.summary(statistics), ('b', 'c'), windows=4)
    assert len(figure.axes) == 2
    for axes, target in zip(figure.axes, (1, 2), strict=True):
        drawn = {bars.get_label(): bars.lines[0] for bars in axes.containers}
        assert set(drawn) == {'a', 'b', 'c'} - {'abc'[target]}
        for source, line in drawn.items():
            parts = np.stack(statistics.history)[:, 'abc'.index(source), target].reshape(4, 5)
            np.testing.assert_allclose(
                line.get_ydata().astype(float), parts.mean(axis=1), rtol=1e-6
            )
            assert line.get_xdata().astype(float) == pytest.approx([10, 35, 60, 85])
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == ['a', 'b', 'c']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'target_names': ['z']}, "no task 'z'; choose from a, b, c"),
        ({'source_names': ['z']}, "no task 'z'; choose from a, b, c"),
        ({'windows': 21}, 'from 1 to the number of measurements, 20, not 21'),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    given = {'target_names': ['a'], **changes}
    with pytest.raises(ValueError, match=message):
        report.drift_figure(affinity.summary(make_statistics()), **given)


def test_kinds_are_compared_pair_by_pair():
    exact = np.arange(9.0).reshape(3, 3)
    of_kind = {'exact': exact, 'first_order': 2 * exact + 1, 'cosine': -exact}
    left, right = report.kinds_figure({'mine': of_kind}, ('first_order', 'cosine')).axes
    (points,) = left.get_lines()
    assert sorted(zip(*points.get_data(), strict=True)) == [
        (x, 2 * x + 1) for x in (1, 2, 3, 5, 6, 7)
    ]
    assert points.get_label() == 'mine, r = 1.000'
    assert right.get_lines()[0].get_label() == 'mine, r = -1.000'
