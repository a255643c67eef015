"""DB-MTL: dual-balancing of losses and gradients (Lin et al. 2023)."""

import numbers

import jax.numpy as jnp
import optax

from tag_jax.problem import with_trailing_axes
from tag_jax.weighting.rule import check_number, stateless, weighting

# Added to losses before their logarithm: epsilon of the paper.
SMALL = 1e-8


def db_mtl(
    beta: float = 0.9,
    decay: float = 0.0,
    space: str = 'shared',
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Takes logarithms of the losses, and gives all gradients the norm of the largest.

    With a_t the moving average of the gradient of log L_t, the direction is
    max_s |a_s| sum_t a_t / |a_t|, and each head follows the gradient of its own log L_t (Lin,
    Jiang, Ye, Zhang, Chen, Chen, Liu, Tsang & Kwok 2023, "Dual-Balancing for Multi-Task Learning",
    Equations 1 and 2, Algorithm 1). The average begins at 0: a_t <- b a_t + (1 - b) g_t / L_t.

    Args:
      beta: b of the paper, the forgetting rate, between 0 and 1; the paper chooses from 0.1, 0.5
        and 0.9. The number 0 averages nothing, and takes no memory.
      decay: at step k, which counts from 1, the rate is beta / k^decay, as in the authors' code;
        the paper also chooses from beta / k^0.5.
      space: 'shared' (the paper), or 'representation' where beta is 0, see `weighting`.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`. Its weights multiply the averages; with beta = 0 they multiply
      the gradients of the losses themselves, as those of other methods do.

    Raises:
      ValueError: see `weighting.weighting`; if beta is not between 0 and 1, decay is negative, or
        an average is asked for in the space of the representation.

    Cost: a backward pass of the encoder for each task; with beta = 0 and space='representation' one
    in all. The averages take T times the memory of the shared parameters.

    Limits: losses must be positive. A task that is nearly solved steps as far as the others. It
    does not see whether gradients conflict. The average of an inactive task stays, and has no say.
    """
    check_number('beta', beta, 0, 1)
    check_number('decay', decay, 0)
    averages = not isinstance(beta, numbers.Real) or beta > 0

    def average(gradients, before, tasks, step):
        rate = beta / (step + 1.0) ** decay
        slopes = with_trailing_axes(_inverse(tasks.losses), before.ndim)
        new = rate * before + (1 - rate) * slopes * gradients.astype(before.dtype)
        active = with_trailing_axes(tasks.active, before.ndim)
        return jnp.where(active, new, before).astype(before.dtype)

    def weigh(tasks):
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(tasks.gram), 0))
        balanced = norms if averages else norms * _inverse(tasks.losses)
        largest = jnp.max(jnp.where(tasks.active, balanced, 0))
        return jnp.where(norms > 0, largest / jnp.where(norms > 0, norms, 1), 0)

    return weighting(
        'db_mtl',
        stateless(weigh)._replace(needs_losses=True),
        space,
        scale_heads=lambda tasks: _inverse(tasks.losses),
        num_tasks=num_tasks,
        batching=batching,
        average=average if averages else None,
    )


def _inverse(losses):
    """The slope of log(L + epsilon), `[T]`."""
    return 1 / (jnp.maximum(losses, 0) + SMALL)
