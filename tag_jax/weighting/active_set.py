"""Convex quadratic programs in a few variables, solved exactly, under jit and vmap.

    minimise 1/2 x'Gx + c'x   over x >= 0, or over the simplex x >= 0, sum(x) = 1

where G is the Gram matrix of T gradients. This is the active-set method of Lawson & Hanson (1974,
Chapter 23) and, on the simplex, of Wolfe (1976): find the minimum over the span of the tasks in
use; if a weight would turn negative, go as far as possible and drop its task; else add the task
that violates the optimality conditions most. Each pass solves one linear system, and there are
usually fewer passes than tasks. It stops when no violation exceeds its rounding error, which proves
the answer optimal for a matrix equal to G but for rounding, or when several passes have improved
neither the objective nor the violation, as happens at the level of rounding; never because a step
was small.

Everything is computed for gradients of unit norm, so that tasks of any scales mix.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# Exchanges with which a start is guessed.
EXCHANGES = 5
# The guess is taken only if its tasks are independent: pivots of at least this size.
LEAST_PIVOT = 1e-3
# A violation counts from this many times the bound on its own rounding error.
SIGNIFICANT = 1
# In a cone the tasks in use must be independent: pivots of at least so many times the rounding
# error. (On a simplex nothing is lost where they are not: there is a border to stop at.)
LEAST_INDEPENDENCE = 4
# Passes without a lower objective or a smaller violation, after which only rounding is left.
PATIENCE = 4


@jax.jit
@jax.default_matmul_precision('highest')
def minimize_on_simplex(
    gram: ArrayLike,
    linear: ArrayLike | None = None,
    active: ArrayLike | None = None,
    hint: ArrayLike | None = None,
) -> jax.Array:
    """The minimum over the simplex.

    Args:
      gram: G, `[T, T]`, symmetric and positive semidefinite but for rounding.
      linear: c, `[T]`; None for zero.
      active: bool `[T]`, the variables that may differ from zero; None for all.
      hint: bool `[T]`, the tasks that the solution may use, such as those of a solution nearby. It
        changes the time taken, and the answer only where several are optimal.

    Returns:
      x, `[T]`; all zero if nothing is active. Tasks whose gradient is zero are left out.
    """
    problem = _scaled(gram, linear, active)
    smallest = jnp.min(jnp.where(problem.active, problem.norms, jnp.inf))
    # Weights in units of one over the smallest norm.
    problem = problem._replace(norms=problem.norms / smallest, linear=problem.linear / smallest)
    objectives = 0.5 * problem.norms**2 + problem.linear * problem.norms
    objectives = jnp.where(problem.active, objectives, jnp.inf)
    vertex = jnp.arange(len(objectives)) == jnp.argmin(objectives)
    border = jnp.where(problem.active, 1 / problem.norms, 0)
    solution = _solve(problem, border, vertex * problem.norms, hint)
    weights = jnp.where(problem.active, solution / problem.norms, 0)
    total = jnp.sum(weights)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1), 0)


@jax.jit
@jax.default_matmul_precision('highest')
def minimize_on_cone(
    gram: ArrayLike, linear: ArrayLike, active: ArrayLike | None = None
) -> jax.Array:
    """The minimum over x >= 0.

    Args:
      gram: G, `[T, T]`, symmetric and positive semidefinite but for rounding.
      linear: c, `[T]`, in the range of G (else there is no minimum).
      active: bool `[T]`, the variables that may differ from zero; None for all.

    Returns:
      x, `[T]`. Where G is singular there may be several; Gx is the same for all of them.
    """
    problem = _scaled(gram, linear, active)
    zero = jnp.zeros_like(problem.norms)
    return jnp.where(problem.active, _solve(problem, zero, zero, None) / problem.norms, 0)


def norms_and_cosines(
    gram: ArrayLike, active: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The lengths and the cosines of gradients, from their Gram matrix.

    Args:
      gram: G, `[T, T]`.
      active: bool `[T]`; None for all.

    Returns:
      Norms `[T]`, 1 where a gradient is zero or inactive; cosines `[T, T]`, exactly 1 on the
      diagonal and 0 beside such a gradient; and which are neither, bool `[T]`.
    """
    norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0))
    usable = (norms > 0) if active is None else active & (norms > 0)
    norms = jnp.where(usable, norms, 1)
    cosines = jnp.clip(gram / norms[:, None] / norms[None, :], -1, 1)
    cosines = jnp.where(jnp.eye(len(norms), dtype=bool), 1, cosines)
    return norms, jnp.where(usable[:, None] & usable[None, :], cosines, 0), usable


class _Scaled(NamedTuple):
    """A program in x_i |g_i|, so that the matrix holds cosines.

    Attributes:
      cosines: `[T, T]`.
      linear: `[T]`.
      norms: `[T]`, |g_i|; 1 where inactive.
      active: bool `[T]`.
    """

    cosines: jax.Array
    linear: jax.Array
    norms: jax.Array
    active: jax.Array


class _Progress(NamedTuple):
    """The state of the method; arrays `[T]` in scaled variables.

    Attributes:
      point: feasible.
      used: bool, the tasks in use.
      added: bool, the task added last.
      refused: bool, tasks that cannot be told from those in use; until there is progress.
      best: the point with the smallest violation so far.
      violation: of that point, in units of its rounding error.
      objective: the lowest so far.
      stale: passes without progress.
      passes: linear systems solved.
      done: whether nothing is left to improve.
    """

    point: jax.Array
    used: jax.Array
    added: jax.Array
    refused: jax.Array
    best: jax.Array
    violation: jax.Array
    objective: jax.Array
    stale: jax.Array
    passes: jax.Array
    done: jax.Array


def _scaled(gram, linear, active):
    norms, cosines, active = norms_and_cosines(gram, active)
    linear = jnp.zeros_like(norms) if linear is None else linear / norms
    return _Scaled(cosines, linear, norms, active)


def _solve(problem, border, start, hint):
    """Minimises 1/2 x'Cx + c'x over x >= 0 and border'x = 1; without a border if it is 0."""
    size = start.shape[0]
    tasks = jnp.arange(size)

    def advance(now):
        point, feasible, dropped = _moved(problem, border, now)
        slack, relative, objective = _optimality(problem, border, point)
        violation = jnp.max(jnp.where(problem.active, relative, -jnp.inf))
        better = feasible & (violation < now.violation)
        progress = better | (objective < now.objective)
        stale = jnp.where(feasible, jnp.where(progress, 0, now.stale + 1), now.stale)

        open_ = problem.active & ~now.used & ~(now.refused & ~better) & (relative > SIGNIFICANT)
        worst = tasks == jnp.argmin(jnp.where(open_, slack, jnp.inf))
        added = jnp.where(feasible, open_ & worst, now.added)
        return _Progress(
            point=point,
            used=jnp.where(feasible, now.used | added, now.used & ~dropped),
            added=added,
            refused=(now.refused & ~better) | (dropped & now.added),
            best=jnp.where(better, point, now.best),
            violation=jnp.where(better, violation, now.violation),
            objective=jnp.where(feasible, jnp.minimum(objective, now.objective), now.objective),
            stale=stale,
            passes=now.passes + 1,
            done=feasible & (~jnp.any(open_) | (stale > PATIENCE)),
        )

    start = _guess(problem, border, start, hint)
    nobody = jnp.zeros(size, bool)
    infinity = jnp.full((), jnp.inf, start.dtype)
    none = jnp.zeros((), jnp.int32)
    begin = _Progress(
        *(start, start > 0, nobody, nobody, start, infinity, infinity, none, none),
        done=~jnp.any(problem.active),
    )
    limit = 4 * size + 20
    end = jax.lax.while_loop(lambda now: ~now.done & (now.passes < limit), advance, begin)
    return end.best


def _moved(problem, border, now):
    """A pass from a point towards the minimum over the span of the tasks in use.

    Returns:
      The next point, `[T]`; whether it is that minimum, a bool; and the tasks that were dropped on
      the way, bool `[T]`.
    """
    epsilon = jnp.finfo(now.point.dtype).eps
    bordered = jnp.any(border > 0)
    target, pivot = _minimum_over_span(problem, border, now.used)
    # In exact arithmetic the task added last gets a positive weight. If it does not, it is all but
    # dependent on the others, and descent goes the other way along the same line: to the border of
    # the simplex. In a cone there may be none, and such a task is refused.
    backwards = jnp.any(now.added & (target < 0) & (now.point == 0))
    independent = (pivot >= LEAST_INDEPENDENCE * len(target) * epsilon) & ~backwards
    sound = jnp.all(jnp.isfinite(target)) & (bordered | independent | ~jnp.any(now.added))
    target = jnp.where(sound, target, now.point)
    backwards &= sound
    target = jnp.where(backwards, now.point + (now.point - target) / epsilon, target)
    negative = now.used & (target <= 0)
    feasible = sound & ~jnp.any(negative)
    ratios = jnp.where(negative, now.point / (now.point - target), jnp.inf)
    reach = jnp.where(sound, jnp.minimum(jnp.min(ratios), 1), 0)
    dropped = jnp.where(sound, negative & (ratios <= reach), now.added)
    point = jnp.where(feasible, target, now.point + reach * (target - now.point))
    return jnp.where(now.used & ~dropped, point, 0), feasible, dropped


def _optimality(problem, border, point):
    """The slack of each task at a point, its violation in rounding errors, and the objective."""
    epsilon = jnp.finfo(point.dtype).eps
    slopes = problem.cosines @ point + problem.linear
    errors = epsilon * (jnp.abs(problem.cosines) @ jnp.abs(point) + jnp.abs(problem.linear))
    multiplier = jnp.where(jnp.any(border > 0), point @ slopes, 0)
    slack = slopes - multiplier * border
    errors += (epsilon * jnp.abs(multiplier) + point @ errors) * border
    relative = jnp.where(errors > 0, -slack / jnp.where(errors > 0, errors, 1), 0)
    return slack, relative, 0.5 * point @ (slopes + problem.linear)


def _guess(problem, border, start, hint):
    """A point to start from, near the solution more often than not.

    Exchanges all tasks at once that are in use but should not be, or the other way round (block
    principal pivoting, Kim & Park 2011), a few times. This may go in circles, and may use tasks
    that depend on each other, from which the method could not go on: then `start` stays.
    """
    bordered = jnp.any(border > 0)

    def exchange(_, now):
        point, used = now
        target, pivot = _minimum_over_span(problem, border, used)
        slopes = problem.cosines @ target + problem.linear
        multiplier = jnp.where(bordered, target @ slopes, 0)
        wanted = jnp.where(used, target > 0, problem.active & (slopes < multiplier * border))
        clipped = jnp.maximum(target, 0)
        reached = clipped @ border
        clipped /= jnp.where(bordered & (reached > 0), reached, 1)
        usable = (pivot > LEAST_PIVOT) & jnp.all(jnp.isfinite(target)) & (~bordered | (reached > 0))
        return jnp.where(usable, clipped, point), jnp.where(usable, wanted, used)

    first = start > 0 if hint is None else hint & problem.active
    point, _ = jax.lax.fori_loop(0, EXCHANGES, exchange, (start, first))
    return point


def _minimum_over_span(problem, border, used):
    """The minimum with weights of any sign on the tasks in use, and the smallest pivot met."""
    largest = jnp.max(jnp.where(used, border, 0))
    bordered = largest > 0
    border = jnp.where(used & bordered, border / jnp.where(bordered, largest, 1), 0)
    size = used.shape[0]
    identity = jnp.eye(size + 1, dtype=border.dtype)
    both = used[:, None] & used[None, :]
    matrix = identity.at[1:, 1:].set(jnp.where(both, problem.cosines, identity[1:, 1:]))
    matrix = matrix.at[0, 0].set(jnp.where(bordered, 0, 1))
    matrix = matrix.at[0, 1:].set(border).at[1:, 0].set(border)
    right = jnp.where(used, -problem.linear, 0)
    right = jnp.concatenate(
        [jnp.where(bordered, 1 / jnp.where(bordered, largest, 1), 0)[None], right]
    )
    factors = jax.scipy.linalg.lu_factor(matrix)
    solution = jax.scipy.linalg.lu_solve(factors, right)
    solution += jax.scipy.linalg.lu_solve(factors, right - matrix @ solution)
    return jnp.where(used, solution[1:], 0), jnp.min(jnp.abs(jnp.diagonal(factors[0])))
