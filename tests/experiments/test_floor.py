"""The arithmetic floor of a step, which benchmarks set beside the engine."""

import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from experiments.benchmarks import floor


def test_the_products_are_those_of_the_step():
    """A layer has one forward and one by its kernel, and one by its inputs if these are learned."""
    size, widths = 32, (16, 8)
    problem = make_problem(widths=widths)
    products = floor.products_of(problem, make_split(64), size)
    of_heads = [8 * objective.width for objective in TASKS.values()]
    assert len(products) == 3 * (1 + len(TASKS)) + 2
    expected = 2 * size * (2 * 3 * 16 + 3 * 16 * 8 + 3 * sum(of_heads))
    assert sum(product.operations for product in products) == expected


def test_a_product_is_the_one_of_numpy():
    (first, *_) = floor.products_of(make_problem(), make_split(64), 4)
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=x.shape).astype(x.dtype) for x in (first.left, first.right))
    np.testing.assert_allclose(first(left, right), left @ right, rtol=1e-5)


@pytest.mark.parametrize('threads', [1, 2])
def test_both_parts_run_in_threads(threads):
    problem = make_problem(widths=(4,))
    products = floor.products_of(problem, make_split(16), 8)
    for call in (floor.multiplying(products, 2, 3), floor.updating(problem, 2, 3)):
        call(threads)
        call(threads)
