"""The arithmetic floor of a step, which benchmarks set beside the engine."""

import jax
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
def test_each_thread_multiplies(threads):
    """The products of NumPy for every network, of operands that are the same in all threads."""
    products = floor.products_of(make_problem(widths=(4,)), make_split(16), 8)
    found = floor.multiplying(products, size=2, steps=3)(threads)
    assert len(found) == threads
    rng = np.random.default_rng(0)
    draw = lambda one: rng.normal(size=(2, *one.shape)).astype(one.dtype)
    operands = [(draw(one.left), draw(one.right)) for one in products]
    for of_thread in found:
        for one, pair, arrays in zip(products, operands, of_thread, strict=True):
            (axes, _) = one.axes
            for n in range(2):
                expected = np.tensordot(pair[0][n], pair[1][n], axes)
                np.testing.assert_allclose(arrays[n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('threads', [1, 2])
def test_each_thread_goes_on_updating(threads):
    """By as many steps a call as were asked for: Adam without its correction, by hand."""
    problem = make_problem(widths=(4,))
    call = floor.updating(problem, size=2, steps=3)
    count = sum(x.size for x in jax.tree.leaves(problem.shapes[0]))
    value, mean, square = 0.0, 0.0, 0.0
    for _ in range(2):
        for _ in range(3):
            mean, square = 0.9 * mean + 0.1 * 1e-3, 0.999 * square + 0.001 * 1e-6
            value -= 1e-3 * mean / (square**0.5 + 1e-8)
        found = call(threads)
        assert len(found) == threads
        for params in found:
            np.testing.assert_allclose(params, np.full((2, count), value), rtol=1e-4)
