"""FairGrad: fair resource allocation between tasks (Ban & Ji 2024)."""

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting.active_set import norms_and_cosines
from tag_jax.weighting.nash_mtl import check_max_norm, limit_norm
from tag_jax.weighting.rule import check_number, mean_over, stateless, weighting

# The least alpha: at 0 the weights are equal, and 1 / alpha infinite.
LEAST_ALPHA = 0.01
# Added to the squared norms, in units of T times the rounding error, so that there is a solution
# where the gradients balance each other.
RIDGE = 4
# Newton steps at most; gradients that are not close to balance take 2 to 25.
MAX_STEPS = 60
# A step that changes less is in the range where digits double, unless only rounding is left.
NEAR = 0.01
# A step divides by e^2 at most, since what falls far too low takes many steps to come back.
MOST_LESS = 2


def fairgrad(
    alpha: float = 2.0,
    max_norm: float | None = None,
    space: str = 'shared',
    scale_heads: bool = False,
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Shares the descent among the tasks by alpha-fairness: weights w > 0 with G w = w^(-1/alpha).

    The direction d maximises sum_t (g_t . d)^(1 - alpha) / (1 - alpha), with the logarithm at
    alpha = 1; it is sum_t w_t g_t with w_t = (g_t . d)^(-alpha) (Ban & Ji 2024, "Fair Resource
    Allocation in Multi-Task Learning", Section 3 and Algorithm 1). At alpha = 1 it is `nash_mtl`;
    towards 0 it tends to the sum of the gradients, and with a growing alpha to the direction whose
    smallest g_t . d is largest. The weights minimise w'Gw / 2 - sum_t w_t^(1 - 1/alpha) /
    (1 - 1/alpha), which is convex; a Newton method for w and G w together finds them. The authors'
    code leaves them to a general least squares solver.

    Args:
      alpha: how much the tasks that descend least count, at least 0.01.
      max_norm: the most that the norm of the combined gradient may be; None for the paper's. The
        authors' code takes 1.
      space: 'shared' (the paper) or 'representation', see `weighting`.
      scale_heads: whether heads' gradients are weighted too.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients` or stacked gradients. No task conflicts with the result. Tasks
      of gradient zero have no say. c times the gradients give c^((1 - alpha) / (1 + alpha)) times
      the result, which grows as they shrink where alpha is above 1.

    Raises:
      ValueError: see `weighting.weighting`; if alpha is below 0.01, or max_norm negative.

    Cost: a backward pass of the encoder for each task; with space='representation' one in all. It
    solves a linear system in the tasks 2 to 10 times; up to 25 times where scales differ by decades
    and alpha is large, up to 60 times near balance.

    Limits: at Pareto stationary points there is no solution, and weights grow without limit, for
    alpha above 1 the result as well: a ridge of the size of the rounding error on G bounds both.
    Near them float32 keeps few digits. Tasks of very different scales are not treated alike unless
    alpha is 1.
    """
    check_number('alpha', alpha, LEAST_ALPHA)
    check_max_norm(max_norm)

    def weigh(tasks):
        return limit_norm(_solution(tasks.gram, tasks.active, alpha), tasks.gram, max_norm)

    return weighting('fairgrad', stateless(weigh), space, scale_heads, num_tasks, batching)


@jax.jit
def _solution(gram, active, alpha):
    """Weights `[T]` with G w = w^(-1/alpha), G with a ridge.

    In units of one over the norms, x = w |g|, it reads C x = y and log x + alpha log y = target,
    for cosines C. Newton's method takes both equations at once, as interior point methods do. A
    relative step z < 0 is taken as exp(z), which solves the second equation where it stands alone,
    so that x and y stay positive whatever their scales.
    """
    norms, cosines, nonzero = norms_and_cosines(gram, active)
    size, epsilon = len(norms), jnp.finfo(norms.dtype).eps
    cosines = jnp.where(jnp.diag(~nonzero), 1, cosines)
    cosines = cosines + RIDGE * size * epsilon * jnp.eye(size, dtype=norms.dtype)
    power = (1 - jnp.asarray(alpha, norms.dtype)) / (1 + alpha)
    logs = jnp.log(norms)
    middle = mean_over(nonzero, logs)
    alone = power * jnp.where(nonzero, logs - middle, 0)  # log x, were the gradients orthogonal

    def newton(now):
        x, y, change, _, n = now
        gap = (1 + alpha) * alone - jnp.log(x) - alpha * jnp.log(y)
        residual = cosines @ x - y
        # The system is scaled so that its diagonal is between 1 and 2.
        scale = jnp.sqrt(alpha * x / (y + alpha * x))
        matrix = scale[:, None] * cosines * scale[None, :] + jnp.diag(y / (y + alpha * x))
        move = scale * jnp.linalg.solve(matrix, scale * (y * gap / alpha - residual))
        new = jnp.max(jnp.abs(move) / x)
        possible = jnp.isfinite(new)
        x = jnp.where(possible, _stepped(x, move), x)
        y = jnp.where(possible, _stepped(y, cosines @ move + residual), y)
        return x, y, jnp.where(possible, new, 0), change, n + 1

    def goes_on(now):
        _, _, change, before, n = now
        improves = (change > NEAR) | (change < 0.5 * before)
        return (change > 16 * epsilon) & improves & (n < MAX_STEPS)

    infinity = jnp.full((), jnp.inf, norms.dtype)
    start = jnp.exp(alone), jnp.exp(alone), infinity, infinity, 0
    x, *_ = jax.lax.while_loop(goes_on, newton, start)
    return jnp.where(nonzero, x * jnp.exp(power * middle) / norms, 0)


def _stepped(values, move):
    """Positive values after a Newton step, positive again."""
    relative = move / values
    factors = jnp.where(relative < 0, jnp.exp(jnp.clip(relative, -MOST_LESS, 0)), 1 + relative)
    return jnp.maximum(values * factors, jnp.finfo(values.dtype).tiny)
