"""MGDA and MGDA-UB: the min-norm point of the task gradients (Sener & Koltun 2018).

MGDA is due to Desideri (2012), "Multiple-gradient descent algorithm (MGDA) for multiobjective
optimization"; the paper brought it to networks, Algorithm 2, and its upper bound, MGDA-UB, to the
price of a plain step, Section 3.3.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tag_jax import gradients
from tag_jax.weighting import min_norm
from tag_jax.weighting.rule import stateless, static_integer, weighting

NORMALIZATIONS = ('none', 'l2', 'loss', 'loss+')
SOLVERS = {'exact': min_norm.min_norm_weights, 'frank_wolfe': min_norm.frank_wolfe_weights}


def mgda(
    normalization: str = 'none',
    rescale: bool = False,
    solver: str = 'exact',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Moves the shared parameters along the min-norm point of their task gradients.

    Either the combined gradient is zero, and the parameters are Pareto stationary, or no task's
    loss rises to first order along it (Desideri 2012; Equation 3 of the paper).

    Args:
      normalization: what each task's gradient g_t is divided by before the min-norm point is
        looked for: 'none' (the paper), 'l2' its norm, 'loss' the loss, 'loss+' the product of both
        (the options of the authors' code, which uses 'loss+' for CelebA).
      rescale: whether the combined gradient is that of the divided gradients, for which the
        guarantee above holds. The authors' code, and the default, weighs the undivided ones, for
        which it holds with 'none' only.
      solver: of the min-norm problem: 'exact', or 'frank_wolfe' (the paper's Algorithm 2), which
        approaches it slowly.
      scale_heads: whether heads' gradients are weighted too, as in the authors' code; Algorithm 2
        leaves them as they are.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients. Without `rescale` weights sum to one:
      beside `equal`, which sums the tasks, the learning rate of the shared parameters is worth T
      times less.

    Raises:
      ValueError: see `weighting.weighting`; if normalization or solver is unknown.

    Cost: a backward pass of the encoder for each task; `mgda_ub` takes one in all.

    Limits: a task whose gradient is zero makes every point Pareto stationary, and the shared
    parameters stand still; a task with a small gradient takes most of the weight.
    """
    rule = _rule(normalization, rescale, solver)
    return weighting('mgda', rule, 'shared', scale_heads, num_tasks, batching)


def mgda_ub(
    normalization: str = 'none',
    rescale: bool = False,
    solver: str = 'exact',
    scale_heads: bool = False,
    report_every: int | None = None,
    safeguard: int | None = None,
    num_tasks: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """MGDA with the gradients with respect to the representation: problem (MGDA-UB) of the paper.

    The combined gradient is zero only where the parameters are Pareto stationary (Theorem 1 (a),
    for a Jacobian of full rank). In the space of the representation it is a common descent
    direction; in the space of the shared parameters it need not be one: Theorem 1 (b) does not hold
    as printed, since from x'y >= 0 it does not follow that x'My >= 0 for a positive definite M. It
    does hold if the rows of the Jacobian are orthogonal and of equal norm.

    Args:
      normalization, rescale, solver, scale_heads: see `mgda`.
      report_every: n measures every n steps what the step does to each task in the space of
        the shared parameters, for one forward-mode pass: `shared_descent` of the state, the inner
        product of the task's shared gradient with the combined one, is negative where the loss
        rises to first order.
      safeguard: n restores common descent there. While the loss of some task rises, and at
        most n times, the gradient of the task that rises most joins the hull in which the min-norm
        point is looked for. Each check costs a forward-mode pass, each repair a backward pass
        more. With n = T descent is certain; docs/methods.md has how far fewer go. Under vmap all n
        are paid for. It also sets `shared_descent`, at every step.
      num_tasks: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`; weights as those of `mgda`.

    Raises:
      ValueError: see `mgda`; if report_every or safeguard is not a positive integer, or safeguard
        is asked for together with scale_heads.

    Cost: one backward pass of the encoder, whatever the number of tasks.

    Limits: those of `mgda`; and in the shared parameters a task's loss may rise, which
    `report_every` measures and `safeguard` repairs.
    """
    for name, value in (('report_every', report_every), ('safeguard', safeguard)):
        if value is not None:
            static_integer(name, value, 1)
    rule = _rule(normalization, rescale, solver)
    correction = None
    if safeguard and scale_heads:
        raise ValueError(
            'safeguard changes the weights of the shared gradients only: leave out scale_heads'
        )
    if safeguard:
        correction = _safeguard(safeguard)
    elif report_every:
        correction = _report(report_every)
    return weighting(
        'mgda_ub', rule, 'representation', scale_heads, num_tasks, correction=correction
    )


def _rule(normalization, rescale, solver):
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f'normalization must be one of {", ".join(NORMALIZATIONS)}, not {normalization!r}'
        )
    if solver not in SOLVERS:
        raise ValueError(f'solver must be one of {", ".join(SOLVERS)}, not {solver!r}')

    def weigh(tasks):
        scales = _scales(normalization, tasks)
        # A common factor changes nothing, and keeps the quotients in range.
        middle = jnp.sqrt(jnp.min(scales)) * jnp.sqrt(jnp.max(scales))
        relative = scales / middle
        divided = tasks.gram / relative[:, None] / relative[None, :]
        weights = SOLVERS[solver](divided, tasks.active)
        return weights / scales if rescale else weights

    return stateless(weigh)._replace(needs_losses=normalization in ('loss', 'loss+'))


def _scales(normalization, tasks):
    """The divisor of each gradient, `[T]`; the largest of them where it would be zero."""
    scales = jnp.ones_like(tasks.gram[0])
    if normalization in ('l2', 'loss+'):
        scales = scales * jnp.sqrt(jnp.maximum(jnp.diagonal(tasks.gram), 0))
    if normalization in ('loss', 'loss+'):
        scales = scales * jnp.abs(tasks.losses)
    usable = tasks.active & (scales > 0)
    return jnp.where(usable, scales, jnp.max(jnp.where(usable, scales, 0)) + ~jnp.any(usable))


def _report(every):
    def correct(by_task, weights, combined, step, shared_descent):
        measured = jax.lax.cond(
            step % every == 0,
            lambda: by_task.descent(combined['shared']).astype(shared_descent.dtype),
            lambda: shared_descent,
        )
        return weights, combined, measured

    return correct


class _Column(NamedTuple):
    """A combination of task gradients, out of which the safeguard mixes its direction.

    Attributes:
      weights: `[T]`, of the tasks in it.
      direction: the combined gradient, shaped like the shared parameters.
      descent: `[T]`, its inner product with every task's shared gradient.
      used: bool, whether it is one at all; else everything is zero.
    """

    weights: jax.Array
    direction: Any
    descent: jax.Array
    used: jax.Array


def _safeguard(rounds):
    """Repairs by column generation over the hull of the combined gradient and single tasks'.

    The inner products of a combination of gradients with every task's follow from its push
    forward (`TaskGradients.descent`), so neither the other tasks' gradients nor their Gram matrix
    are needed.
    """
    multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

    def correct(by_task, weights, combined, step, shared_descent):
        del step
        dtype = shared_descent.dtype
        z = by_task.representation
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gradients.products(z, z)), 0))

        def column(weights, direction, used):
            descent = by_task.descent(direction).astype(dtype)
            return _Column(weights, direction, descent, used)

        columns = [column(weights, combined['shared'], jnp.any(by_task.active))]
        stacked = lambda field: jnp.stack([getattr(one, field) for one in columns])
        nothing = jax.tree.map(jnp.zeros_like, columns[0])
        parts = jnp.ones(1, dtype)
        for _ in range(rounds):
            descent = multiply(parts, stacked('descent'))
            relative = jnp.where(by_task.active & (norms > 0), descent / norms, 0)
            worst = jnp.argmin(relative)
            rises = relative[worst] < 0
            alone = jnp.zeros_like(weights).at[worst].set(1)
            repair = lambda alone=alone: column(
                alone, by_task.combine(alone)['shared'], jnp.bool_(True)
            )
            columns.append(jax.lax.cond(rises, repair, lambda: nothing))
            hull = multiply(stacked('weights'), stacked('descent').T)
            hull = 0.5 * (hull + hull.T)
            parts = min_norm.min_norm_weights(hull, stacked('used')).astype(dtype)
        directions = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *(one.direction for one in columns)
        )
        combined = {**combined, 'shared': gradients.weighted_sum(parts, directions)}
        return multiply(parts, stacked('weights')), combined, multiply(parts, stacked('descent'))

    return correct
