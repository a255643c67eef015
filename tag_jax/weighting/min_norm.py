"""The point of least norm in the convex hull of task gradients (Sener & Koltun 2018, Section 3.2).

Its weights over the tasks solve Equation 3. All solvers see the gradients through their Gram
matrix G, `[T, T]` with G_ij = g_i . g_j, and answer for a subset of active tasks.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from tag_jax.weighting import active_set


@jax.jit
@jax.default_matmul_precision('highest')
def min_norm_weights(gram: ArrayLike, active: ArrayLike | None = None) -> jax.Array:
    """The weights of the min-norm point, exactly: argmin w'Gw over the simplex.

    Two tasks have a closed form; for more there is `active_set.minimize_on_simplex`. Both are exact
    but for rounding, whatever the scales of the tasks; `duality_gap` measures it.

    Args:
      gram: `[T, T]`, the Gram matrix of the task gradients, float32 or better.
      active: bool `[T]`, the tasks that take part; None for all.

    Returns:
      Weights `[T]`, at least 0, that sum to 1. Inactive tasks have weight 0; if none is active,
      all have. If active tasks have gradient zero, these share the weight equally: the min-norm
      point is 0 whatever the others do. NaN if the Gram matrix of the active tasks holds NaN.

    Raises:
      ValueError: if the matrix is not square, or active is not `[T]`.

    Examples:
      >>> from tag_jax.weighting import min_norm
      >>> gram = [[1.0, 0.0], [0.0, 3.0]]
      >>> weights = min_norm.min_norm_weights(gram)
      >>> weights.tolist(), float(min_norm.duality_gap(gram, weights))
      ([0.75, 0.25], 0.0)
    """
    gram, active = _checked(gram, active)
    gram = jnp.where(active[:, None] & active[None, :], gram, 0)
    if gram.shape[0] == 2:
        weights = jnp.where(jnp.all(active), _two_tasks(gram), active)
    else:
        weights = active_set.minimize_on_simplex(gram, active=active)
    return _settled(gram, active, weights)


@jax.jit
@jax.default_matmul_precision('highest')
def frank_wolfe_weights(
    gram: ArrayLike, active: ArrayLike | None = None, max_steps: int = 250, tolerance: float = 1e-4
) -> jax.Array:
    """The weights of the min-norm point by the paper's Frank-Wolfe solver (Algorithm 2).

    It approaches the optimum slowly: after n steps the duality gap is of order 1 / n, times the
    largest squared norm. Use `min_norm_weights` unless you want what the paper did. Unlike the
    paper's, it stops on the duality gap and not on a small step, which says nothing.

    Args:
      gram, active: see `min_norm_weights`.
      max_steps: the most steps taken.
      tolerance: it stops once the duality gap is at most this share of w'Gw.

    Returns:
      Weights `[T]`, as `min_norm_weights`.

    Raises:
      ValueError: see `min_norm_weights`.
    """
    gram, active = _checked(gram, active)
    gram = jnp.where(active[:, None] & active[None, :], gram, 0)

    def step(now):
        weights, _, n = now
        products = gram @ weights
        norm = weights @ products
        vertex = jnp.argmin(jnp.where(active, products, jnp.inf))
        gap = norm - products[vertex]
        corner = gram[vertex, vertex]
        stay, move = _two_tasks(
            jnp.stack([norm, products[vertex], products[vertex], corner]).reshape(2, 2)
        )
        toward = jnp.zeros_like(weights).at[vertex].set(1)
        enough = gap <= tolerance * norm
        moved = stay * weights + move * toward
        return jnp.where(enough, weights, moved), enough, n + 1

    begin = equal_shares(active, gram.dtype), ~jnp.any(active), jnp.zeros((), jnp.int32)
    weights, _, _ = jax.lax.while_loop(lambda now: ~now[1] & (now[2] < max_steps), step, begin)
    return _settled(gram, active, weights)


@jax.default_matmul_precision('highest')
def duality_gap(gram: ArrayLike, weights: ArrayLike, active: ArrayLike | None = None) -> jax.Array:
    """How far weights may be from the optimum: w'Gw - min_t (Gw)_t over the active tasks.

    w'Gw exceeds its minimum by at most twice the gap, and a task's loss falls, at first order in
    the direction Gw, by at least w'Gw minus the gap (a common descent direction).

    Args:
      gram: `[T, T]`.
      weights: `[T]`.
      active: bool `[T]`; None for all.

    Returns:
      A scalar in the units of G; 0 if no task is active.

    Raises:
      ValueError: see `min_norm_weights`.
    """
    gram, active = _checked(gram, active)
    products = gram @ weights
    gap = weights @ products - jnp.min(jnp.where(active, products, jnp.inf))
    return jnp.where(jnp.any(active), gap, 0)


def _two_tasks(gram):
    """Algorithm 1 and Equation 4: the min-norm weights of two vectors; equal if they coincide.

    (Algorithm 1, in the text that we read, compares the wrong products at the ends; Equation 4
    clips rightly.)
    """
    # Each weight by itself, since one minus a weight near one has lost its digits. The sum is
    # |g_1 - g_2|^2 between the ends, and cannot cancel as its three terms in the Gram matrix do.
    toward = jnp.maximum(jnp.stack([gram[1, 1], gram[0, 0]]) - gram[0, 1], 0)
    total = jnp.sum(toward)
    return jnp.where(total > 0, toward / jnp.where(total > 0, total, 1), 0.5)


def _settled(gram, active, weights):
    """The weights, but where gradients are zero or not finite."""
    zero = active & (jnp.diagonal(gram) <= 0)
    weights = jnp.where(jnp.any(zero), equal_shares(zero, gram.dtype), weights)
    return jnp.where(jnp.all(jnp.isfinite(gram)), weights, jnp.nan)


def equal_shares(active: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Equal weights over the active tasks that sum to one, `[T]`; all zero if there is none.

    Args:
      active: bool `[T]`.
      dtype: of the weights.
    """
    return active.astype(dtype) / jnp.maximum(jnp.sum(active), 1).astype(dtype)


def _checked(gram, active):
    gram = jnp.asarray(gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f'a Gram matrix is square, [T, T]: this one has shape {list(gram.shape)}')
    gram = gram.astype(jnp.promote_types(gram.dtype, jnp.float32))
    active = jnp.ones(gram.shape[0], bool) if active is None else jnp.asarray(active, bool)
    if active.shape != gram.shape[:1]:
        raise ValueError(
            f'active needs one entry for each of the {gram.shape[0]} tasks: '
            f'its shape is {list(active.shape)}'
        )
    return gram, active
