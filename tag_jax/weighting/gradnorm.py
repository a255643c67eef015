"""GradNorm (Chen, Badrinarayanan, Lee & Rabinovich 2018)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tag_jax.weighting.rule import Rule, check_number, mean_over, weighting

# The least weight of a task: Adam may step across zero.
LEAST = 1e-3


class GradNormState(NamedTuple):
    """The parameters that are learned.

    Attributes:
      weights: w, `[T]`, with mean one.
      initial_losses: `[T]`, of the first step at which each task had a positive loss; NaN before.
      optimizer: the state of Adam.
    """

    weights: jax.Array
    initial_losses: jax.Array
    optimizer: Any


def gradnorm(
    alpha: float = 1.5,
    learning_rate: float = 0.025,
    space: str = 'representation',
    num_tasks: int | None = None,
    batching: str | int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Learns weights that let all tasks train at similar rates.

    Moves the weights against the gradient of sum_t |w_t n_t - mean(w n) r_t^alpha|, where n_t is
    the norm of task t's gradient, r_t = (L_t / L_t(0)) / mean(L / L(0)) its relative inverse
    training rate, and the second term counts as a constant; then scales them to mean one (Chen et
    al. 2018, "GradNorm", Equations 1 and 2, Algorithm 1).

    Args:
      alpha: how strongly rates are pulled together, at least 0; 1.5 in most of the paper.
      learning_rate: of Adam for the weights, which begin at one.
      space: where norms are taken. The paper takes the last shared layer, "to save on compute";
        so does 'representation', which needs no layer to be named. 'shared' takes all shared
        parameters.
      num_tasks, batching: see `weighting.weighting`.

    Returns:
      A transform of `TaskGradients`; the weights are in its state. At a step they are those learned
      up to the step before.

    Raises:
      ValueError: see `weighting.weighting`; if alpha or learning_rate is negative.

    Cost: one backward pass of the encoder; with space='shared' one for each task.

    Limits: losses must be positive, and the first one telling: a lucky first batch biases the
    rates. An inactive task keeps its weight.
    """
    check_number('alpha', alpha, 0)
    check_number('learning_rate', learning_rate, 0)
    adam = optax.adam(learning_rate)

    def init(size):
        ones = jnp.ones(size)
        return GradNormState(ones, jnp.full(size, jnp.nan, ones.dtype), adam.init(ones))

    def weigh(tasks, state, step):
        del step
        weights, active = state.weights, tasks.active
        losses = tasks.losses.astype(weights.dtype)
        seen = active & jnp.isnan(state.initial_losses) & (losses > 0)
        initial = jnp.where(seen, losses, state.initial_losses)
        known = active & (initial > 0)
        ratios = jnp.where(known, losses / jnp.where(known, initial, 1), 1)
        mean_ratio = mean_over(active, ratios)
        rates = jnp.where(mean_ratio > 0, ratios / jnp.where(mean_ratio > 0, mean_ratio, 1), 1)
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(tasks.gram), 0)).astype(weights.dtype)
        targets = mean_over(active, weights * norms) * jnp.maximum(rates, 0) ** alpha
        slopes = jnp.where(active, norms * jnp.sign(weights * norms - targets), 0)
        updates, optimizer = adam.update(slopes, state.optimizer)
        moved = jnp.maximum(weights + updates, LEAST)
        moved = moved * mean_over(active, weights) / jnp.maximum(mean_over(active, moved), LEAST)
        moved = jnp.where(active, moved, weights).astype(weights.dtype)
        return weights, GradNormState(moved, initial, optimizer)

    rule = Rule(init, weigh, needs_losses=True)
    return weighting('gradnorm', rule, space, num_tasks=num_tasks, batching=batching)
