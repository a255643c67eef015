"""Means of losses, and products, sums and cosines of gradients that are stacked over tasks."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from tag_jax.problem import with_trailing_axes


def mean_over_labels(
    losses: jax.Array, mask: jax.Array, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The mean of losses where there is a label, 0 if there is none, and the number of labels.

    Args:
      losses: `[B, ...]`, one for each example, pixel or token.
      mask: bool, `[B, ...]`, of as many axes or fewer.
      weights: `[B, ...]`, of as many axes or fewer, by which losses are multiplied; None for 1.
    """
    losses = weighed(losses, weights)
    mask = jnp.broadcast_to(with_trailing_axes(mask, losses.ndim), losses.shape)
    labels = jnp.sum(mask)
    return jnp.sum(jnp.where(mask, losses, 0)) / jnp.maximum(labels, 1), labels


def weighed(losses: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Losses in float32 or better, multiplied by weights, if there are any.

    Args:
      losses: `[B, ...]`.
      weights: `[B, ...]`, of as many axes or fewer; None for 1.

    Returns:
      `[B, ...]`, as `losses`.
    """
    losses = losses.astype(_at_least_float32(losses))
    if weights is None:
        return losses
    return losses * with_trailing_axes(weights, losses.ndim).astype(losses.dtype)


def sum_of_entries(tree: Any) -> jax.Array:
    """The sum of all floating point numbers of a tree, in float32 or better.

    It is not finite if any of them is not; else it is, unless the sum is too large for its dtype.

    Args:
      tree: pytree of arrays.
    """
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum((jnp.sum(x, dtype=_at_least_float32(x)) for x in leaves), jnp.zeros((), jnp.float32))


def products(left: Any, right: Any) -> jax.Array:
    """Inner products between two stacks of gradients, accumulated in float32 or better.

    Args:
      left, right: pytrees of arrays `[T, ...]` and `[S, ...]`, of one structure.

    Returns:
      `[T, S]`; the Gram matrix, where both are the same.
    """

    def leaf_product(a, b):
        dtype = _at_least_float32(a)
        a, b = (jnp.reshape(g, (g.shape[0], -1)) for g in (a, b))
        return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST, preferred_element_type=dtype)

    return sum(jax.tree.leaves(jax.tree.map(leaf_product, left, right)))


def weighted_sum(weights: jax.Array, stack: Any) -> Any:
    """The sum over tasks of weight x gradient, accumulated in float32 or better.

    Args:
      weights: `[T]`.
      stack: pytree of arrays `[T, ...]`.

    Returns:
      A pytree of arrays `[...]`, of the same dtypes.
    """

    # Written as a sum and not as a matrix product, so that XLA fuses it with what made the
    # gradients and never lays out the stack.
    def sum_of(gradients):
        dtype = _at_least_float32(gradients)
        terms = [w.astype(dtype) * g.astype(dtype) for w, g in zip(weights, gradients, strict=True)]
        return functools.reduce(jnp.add, terms).astype(gradients.dtype)

    return jax.tree.map(sum_of, stack)


def cosines(left: Any, right: Any) -> jax.Array:
    """Cosines between two stacks of gradients, whatever their scales.

    Args:
      left, right: pytrees of arrays `[T, ...]` and `[S, ...]`, of one structure.

    Returns:
      `[T, S]`; NaN beside a gradient that is zero.
    """

    def units(stack):
        stack = jax.tree.map(lambda g: g.astype(_at_least_float32(g)), stack)
        over = lambda reduce, g: reduce(g, axis=tuple(range(1, g.ndim)))
        scaled = lambda scale: jax.tree.map(
            lambda g: g / with_trailing_axes(jnp.where(scale > 0, scale, jnp.nan), g.ndim), stack
        )
        largest = [over(jnp.max, jnp.abs(g)) for g in jax.tree.leaves(stack)]
        stack = scaled(functools.reduce(jnp.maximum, largest))
        squares = [over(jnp.sum, jnp.square(g)) for g in jax.tree.leaves(stack)]
        return scaled(jnp.sqrt(sum(squares)))

    return products(units(left), units(right))


def scaled(weight, gradient):
    """Weight x gradient, multiplied in float32 or better, in the gradient's own dtype."""
    dtype = _at_least_float32(gradient)
    return (weight.astype(dtype) * gradient.astype(dtype)).astype(gradient.dtype)


def _at_least_float32(array):
    return jnp.promote_types(array.dtype, jnp.float32)
