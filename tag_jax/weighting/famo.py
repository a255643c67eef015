"""FAMO: fast adaptive multitask optimization (Liu, Feng, Stone & Liu 2023)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting.rule import Rule, by_task_array, check_number, weighting

# Added to losses before their logarithm, as in the authors' code.
SMALL = 1e-8


class FAMOState(NamedTuple):
    """The parameters that are learned.

    Attributes:
      logits: xi, `[T]`.
      losses: of the step before, `[T]`; NaN where the task was inactive.
      optimizer: the state of Adam.
    """

    logits: jax.Array
    losses: jax.Array
    optimizer: Any


def famo(
    learning_rate: float = 0.025, decay: float = 1e-3, num_tasks: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Balances the rates at which the logarithms of the losses fall.

    w_t = c z_t / L_t with z = softmax(xi) and c = 1 / sum_t z_t / L_t, so that the weights sum to
    one; after the step, xi moves by Adam so that tasks whose log loss fell less gain weight (Liu,
    Feng, Stone & Liu 2023, "FAMO: Fast Adaptive Multitask Optimization", Equations 8 and 9,
    Algorithm 1).

    Args:
      learning_rate: of Adam for xi, which begins at 0.
      decay: gamma of the paper, the pull of xi towards 0.
      num_tasks: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`. The paper measures what a step has done by a second forward
      pass on the same batch: pass these losses to the next `update` as the extra argument
      `losses_after=` `[T]`. Without it, the losses of the next batch stand in for them, which adds
      the noise between batches.

    Raises:
      ValueError: see `weighting.weighting`; if learning_rate or decay is negative.

    Cost: one backward pass of the encoder; the paper's way a forward pass more.

    Limits: losses must be positive, and have zero as their least value.
    """
    check_number('learning_rate', learning_rate, 0)
    check_number('decay', decay, 0)
    adam = optax.chain(optax.add_decayed_weights(decay), optax.adam(learning_rate))

    def init(size):
        zeros = jnp.zeros(size)
        return FAMOState(zeros, jnp.full(size, jnp.nan, zeros.dtype), adam.init(zeros))

    def weigh(tasks, state, step):
        del step
        active, dtype = tasks.active, state.logits.dtype
        losses = jnp.maximum(tasks.losses.astype(dtype), 0) + SMALL
        known, after = ~jnp.isnan(state.losses), tasks.extra.get('losses_after')
        if after is None:
            known, after = known & active, losses
        else:
            after = jnp.maximum(by_task_array('losses_after', after, None, len(active), dtype), 0)
            after = after + SMALL
            known &= jnp.isfinite(after)
        fell = jnp.where(known, jnp.log(state.losses) - jnp.log(after), 0)
        shares = lambda logits: jax.nn.softmax(jnp.where(known | ~jnp.any(known), logits, -jnp.inf))
        _, pullback = jax.vjp(shares, state.logits)
        (slopes,) = pullback(fell)
        updates, optimizer = adam.update(slopes, state.optimizer, state.logits)
        logits = state.logits + jnp.where(known, updates, 0)
        optimizer = jax.tree.map(
            lambda new, old: jnp.where(jnp.any(known), new, old), optimizer, state.optimizer
        )
        z = jax.nn.softmax(jnp.where(active | ~jnp.any(active), logits, -jnp.inf))
        parts = jnp.where(active, z / losses, 0)
        total = jnp.sum(parts)
        weights = parts / jnp.where(total > 0, total, 1)
        state = FAMOState(logits.astype(dtype), jnp.where(active, losses, jnp.nan), optimizer)
        return weights, state

    return weighting('famo', Rule(init, weigh, needs_losses=True), num_tasks=num_tasks)
