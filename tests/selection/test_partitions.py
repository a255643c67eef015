import itertools

import numpy as np
import pytest

from tag_jax.selection import partitions


def test_subset_convolution_by_definition(monkeypatch):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 32, 3))
    expected = np.full((32, 3), -np.inf)
    for tasks in range(32):
        for part in range(32):
            if part & tasks == part:
                expected[tasks] = np.maximum(expected[tasks], left[part] + right[tasks ^ part])
    np.testing.assert_array_equal(partitions.subset_convolution(left, right), expected)
    monkeypatch.setattr(partitions, '_BATCHED_VALUES', 10)
    np.testing.assert_array_equal(partitions.subset_convolution(left, right), expected)


@pytest.mark.parametrize('counts', [(1, 0), (2, 0), (0, 3), (1, 1), (2, 1), (3, 3)])
def test_partitions_of_two_classes_by_definition(counts):
    rng = np.random.default_rng(counts)
    size = 4
    best = -rng.exponential(size=(2, 2**size))
    best[rng.random(best.shape) < 0.2] = -np.inf
    best[:, 0] = 0
    kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
    expected = -np.inf
    for owners in itertools.product(range(len(kinds)), repeat=size):
        sets = [0] * len(kinds)
        for task, owner in enumerate(owners):
            sets[owner] |= 1 << task
        expected = max(expected, sum(best[k, tasks] for k, tasks in zip(kinds, sets, strict=True)))
    found = partitions.Partitions(best)
    assert found.value(counts) == pytest.approx(expected)
    if expected > -np.inf:
        parts = found.parts(counts)
        assert sum(best[kind, tasks] for kind, tasks in parts) == pytest.approx(expected)
        assert sum(tasks for _, tasks in parts) == 2**size - 1
        for kind, count in enumerate(counts):
            assert sum(used == kind for used, _ in parts) <= count


def test_affordable_counts_are_all_within_the_budget():
    costs = [0.1, 0.5, 1.7]
    found = partitions.affordable_counts(costs, 2.2, 6)
    expected = {
        counts
        for counts in itertools.product(range(7), repeat=3)
        if sum(counts) <= 6 and np.dot(costs, counts) <= 2.2 + 1e-9
    }
    assert set(found) == expected
    assert len(found) == len(expected)
    assert (0, 1, 1) in expected
    totals = [np.dot(costs, counts) for counts in found]
    assert totals == sorted(totals)


def test_sums_of_rounded_costs_stay_affordable():
    assert partitions.affordable(0.1 + 0.1 + 0.1, 0.3)
    assert not partitions.affordable(0.3001, 0.3)
