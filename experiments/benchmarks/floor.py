"""The least that a training step of a dense network computes: matrix products, and an optimizer.

The products are those of the program itself: forward, and backward by the parameters and by what
goes into each layer. The optimizer is Adam in one pass over parameters, moments and gradients.
Everything else that the engine does stands on top of these two.
"""

import functools
from concurrent import futures
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import gradients
from tag_jax.problem import Batch


class Product(NamedTuple):
    """A matrix product of one network: its two operands, as shapes, and which axes are summed."""

    left: jax.ShapeDtypeStruct
    right: jax.ShapeDtypeStruct
    axes: tuple

    @property
    def operations(self):
        """Multiplications and additions."""
        (summed, _), _ = self.axes
        out = jax.eval_shape(lambda *pair: self(*pair), self.left, self.right)
        return 2 * out.size * int(np.prod([self.left.shape[axis] for axis in summed]))

    def __call__(self, left, right):
        return jax.lax.dot_general(left, right, self.axes)


def products_of(problem, split, batch_size):
    """The `Product`s of the gradient of the summed losses on a batch, for one network."""
    batch = Batch(split.inputs[:batch_size], {t: y[:batch_size] for t, y in split.targets.items()})
    params, state = problem.shapes
    total = lambda p, s, b: jnp.sum(gradients.task_losses(problem, p, s, b)[0])
    return list(_dots(jax.make_jaxpr(jax.grad(total))(params, state, batch).jaxpr))


def _dots(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive is jax.lax.dot_general_p:
            left, right = (
                jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in equation.invars
            )
            yield Product(left, right, equation.params['dimension_numbers'])
        for value in equation.params.values():
            for one in value if isinstance(value, tuple | list) else (value,):
                one = getattr(one, 'jaxpr', one)  # Of a closed one.
                if hasattr(one, 'eqns'):
                    yield from _dots(one)


def multiplying(products, size, steps):
    """A function of a number of threads: each takes the products of some steps of its networks.

    It returns what each thread computed last, `[products]` of arrays `[size, ...]`.

    Args:
      products: `Product`s of one network.
      size: networks in one program.
      steps: how many.
    """
    rng = np.random.default_rng(0)
    draw = lambda one: jnp.asarray(rng.normal(size=(size, *one.shape)), one.dtype)
    operands = [(draw(one.left), draw(one.right)) for one in products]

    @jax.jit
    def multiply(operands):
        return [jax.vmap(one)(*pair) for one, pair in zip(products, operands, strict=True)]

    def work(_):
        for _ in range(steps):
            found = jax.block_until_ready(multiply(operands))
        return found

    return functools.partial(_in_threads, work)


def updating(problem, size, steps):
    """A function of a number of threads: each updates the parameters of its networks by Adam.

    It returns the parameters of each thread, `[size, P]`, which go on in the next call.

    Args:
      problem: a `MultiTaskProblem`.
      size: networks in one program.
      steps: how many.
    """
    count = sum(x.size for x in jax.tree.leaves(problem.shapes[0]))
    gradient, states = jnp.full((size, count), 1e-3), {}

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, gradient):
        params, mean, square = state
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        return params - 1e-3 * mean / (jnp.sqrt(square) + 1e-8), mean, square

    def work(thread):
        state = states.pop(thread, None)
        if state is None:
            state = tuple(jnp.zeros((size, count)) for _ in range(3))
        for _ in range(steps):
            state = jax.block_until_ready(update(state, gradient))
        states[thread] = state
        return state[0]

    return functools.partial(_in_threads, work)


def _in_threads(work, count):
    with futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))
