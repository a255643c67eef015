"""First steps of weightings on gradients stacked over tasks."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# The one shape that `first_updates` compiles for each method. Smaller steps are filled up with
# inactive tasks and with parameters of gradient zero, and change nothing by that
# (test_properties.test_an_inactive_task_is_no_task).
STEPS, TASKS, PARAMETERS = 16, 9, 40


class Step(NamedTuple):
    """What a method is given.

    Attributes:
      gradients: `[T, P]`.
      losses: `[T]`; None for ones.
      active: bool `[T]`; None for all.
    """

    gradients: np.ndarray
    losses: np.ndarray | None = None
    active: np.ndarray | None = None


class Update(NamedTuple):
    """What it gives, in float64.

    Attributes:
      combined: `[P]`.
      weights: `[T]`.
    """

    combined: np.ndarray
    weights: np.ndarray


def first_update(transform, gradients, losses=None, active=None, dtype=np.float32):
    """The combined gradient `[P]`, and the state, of a transform's first step.

    Compiled once for each transform and shape, so keep the transform where many gradients are
    tried.

    Args:
      gradients: `[T, P]`.
      losses: `[T]`, or None.
      active: bool `[T]`, or None.
      dtype: of the gradients, losses and parameters.
    """
    losses = losses if losses is None else np.asarray(losses, dtype)
    return _first_update(transform, np.asarray(gradients, dtype), losses, active)


def first_updates(transform, steps: Sequence[Step], dtype=np.float32) -> list[Update]:
    """What a transform for TASKS tasks gives at some first steps, in one compiled program."""
    filled = [_filled(step, dtype) for step in steps]
    filled += filled[:1] * (-len(filled) % STEPS)
    updates = []
    for start in range(0, len(filled), STEPS):
        batch = jax.tree.map(lambda *parts: np.stack(parts), *filled[start : start + STEPS])
        combined, weights = map(np.asarray, _first_updates(transform, *batch))
        assert combined.dtype == weights.dtype == dtype
        updates += zip(combined.astype(np.float64), weights.astype(np.float64), strict=True)
    return [
        Update(combined[: step.gradients.shape[1]], weights[: len(step.gradients)])
        for step, (combined, weights) in zip(steps, updates, strict=False)
    ]


def _filled(step, dtype):
    size, width = step.gradients.shape
    gradients, losses = np.zeros((TASKS, PARAMETERS), dtype), np.ones(TASKS, dtype)
    gradients[:size, :width] = step.gradients
    losses[:size] = 1 if step.losses is None else step.losses
    active = np.arange(TASKS) < size
    active[:size] &= True if step.active is None else step.active
    return Step(gradients, losses, active)


@functools.partial(jax.jit, static_argnames='transform')
def _first_updates(transform, gradients, losses, active):
    def update(*step):
        combined, state = _first_update(transform, *step)
        return combined, state.weights

    return jax.vmap(update)(gradients, losses, active)


@functools.partial(jax.jit, static_argnames='transform')
def _first_update(transform, gradients, losses, active):
    params = jnp.zeros(gradients.shape[1], gradients.dtype)
    state = transform.init(params)
    return transform.update(gradients, state, params, losses=losses, active=active)
