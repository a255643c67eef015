"""Means and correlations of what is known."""

import numpy as np
import pytest

from tag_jax import numbers


def test_the_mean_of_known_entries():
    values = [[1.0, np.nan, np.nan], [3.0, 4.0, np.inf]]
    np.testing.assert_array_equal(numbers.mean_of_known(values), [2.0, 4.0, np.nan])


def test_correlations_are_over_the_entries_that_both_have():
    left = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    right = np.array([2.0, 1.0, 4.0, 9.0, np.nan])
    expected = np.corrcoef([1, 2, 3], [2, 1, 4])[0, 1]
    assert numbers.correlation(left, right) == pytest.approx(expected)
    assert np.isnan(numbers.correlation(left[:2], right[:2])), 'two entries'
    assert np.isnan(numbers.correlation(left, np.ones(5))), 'no spread'
