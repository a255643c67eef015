import itertools

import numpy as np
import pytest

from tag_jax import selection
from tag_jax.selection.least import least_budget


def test_the_cheapest_cover_is_found():
    rng = np.random.default_rng(0)
    for _ in range(60):
        able, costs = rng.random((7, 4)) < 0.4, rng.choice([0, 0.5, 1, 3.25], 7)
        sets = itertools.chain.from_iterable(
            itertools.combinations(range(7), size) for size in range(1, 8)
        )
        covers = [costs[list(nets)].sum() for nets in sets if able[list(nets)].any(axis=0).all()]
        assert least_budget(able, costs) == pytest.approx(min(covers, default=np.inf))
    assert least_budget(np.ones((1, 3), bool), np.array([2.0]), max_steps=0) is None


def test_a_budget_that_is_too_small_names_the_least_that_does():
    nan = np.nan
    networks = selection.Candidates(
        [[1, 0], [0, 1], [1, 1]], [[1, nan], [nan, 1], [3, 3]], [20, 20, 45], ('a', 'b')
    )
    with pytest.raises(selection.Infeasible, match='20 covers every task: the least .* does is 40'):
        selection.select_networks(networks, 20)
    with pytest.raises(selection.Infeasible, match="may serve 'a': the least budget .* is 40"):
        selection.select_networks(networks, 19)
    with pytest.raises(selection.Infeasible, match='the least budget that does is 45'):
        selection.select_networks(networks, 40, must_link=[('a', 'b')])
    assert selection.select_networks(networks, 40).networks == (0, 1)
