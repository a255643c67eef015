"""Dynamic weight average (Liu, Johns & Davison 2019)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting.rule import Rule, check_number, static_integer, weighting


class DWAState(NamedTuple):
    """Mean losses of epochs, `[T]` each.

    Attributes:
      before, last: of the last two whole epochs; NaN while there are none.
      sums, counts: of the epoch that goes on, over the steps at which the task was active.
    """

    before: jax.Array
    last: jax.Array
    sums: jax.Array
    counts: jax.Array


def dwa(
    steps_per_epoch: int, temperature: float = 2.0, num_tasks: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Weighs tasks by how slowly their losses fell over the last two epochs.

    w_t = T softmax_t(r_t / temperature) with r_t = L_t(e - 1) / L_t(e - 2), means over epochs
    (Liu, Johns & Davison 2019, "End-to-End Multi-Task Learning with Attention", Equation 7). The
    weights are one in the first two epochs, as r is.

    Args:
      steps_per_epoch: steps that losses are averaged over.
      temperature: how even the weights are, above 0; 2 in the paper.
      num_tasks: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`. The weights of the active tasks have mean one.

    Raises:
      ValueError: see `weighting.weighting`; if steps_per_epoch or temperature is not positive.

    Cost: one backward pass of the encoder.

    Limits: losses must be positive. It sees how fast they fall and not whether gradients conflict,
    and what it has seen is an epoch old.
    """
    if not isinstance(steps_per_epoch, jax.Array):
        static_integer('steps_per_epoch', steps_per_epoch, 1)
    check_number('temperature', temperature, 1e-6)

    def init(size):
        unknown = lambda: jnp.full(size, jnp.nan, jnp.result_type(float))
        return DWAState(unknown(), unknown(), jnp.zeros(size), jnp.zeros(size))

    def weigh(tasks, state, step):
        dtype = state.sums.dtype
        rates = state.last / state.before
        rates = jnp.where(jnp.isfinite(rates), rates, 1)
        logits = jnp.where(tasks.active, rates / temperature, -jnp.inf)
        count = jnp.sum(tasks.active)
        weights = count * jax.nn.softmax(jnp.where(count > 0, logits, 0))

        sums = state.sums + jnp.where(tasks.active, tasks.losses, 0).astype(dtype)
        counts = state.counts + tasks.active
        ends = (step + 1) % steps_per_epoch == 0
        seen = counts > 0
        mean = jnp.where(seen, sums / jnp.maximum(counts, 1), state.last)
        passed = DWAState(state.last, mean, jnp.zeros_like(sums), jnp.zeros_like(counts))
        going = DWAState(state.before, state.last, sums, counts)
        return weights, jax.tree.map(lambda a, b: jnp.where(ends, a, b), passed, going)

    return weighting('dwa', Rule(init, weigh, needs_losses=True), num_tasks=num_tasks)
