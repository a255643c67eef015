"""Examples with the targets of every task."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """Examples with the targets of every task.

    Attributes:
      inputs: array `[B, ...]`, or a pytree of such arrays.
      targets: `{task: [B, ...]}`.
      mask: `{task: bool [B] or [B, ...]}`, true where a label exists; a task that is left out has
        all its labels, and so have all tasks where `mask` is None. Numbers in place of bool are
        weights of the labels in the loss, 0 where there is none.
    """

    inputs: Any
    targets: Mapping[str, jax.Array]
    mask: Mapping[str, jax.Array] | None = None

    def labels(self, task: str) -> tuple[jax.Array, jax.Array]:
        """The targets of a task, zero where there is no label, and where there is one (bool).

        No loss or metric sees a masked target: its value may be NaN, which an outer `where` alone
        would let into the gradient.

        Args:
          task: its name.

        Returns:
          Targets `[B, ...]`, and bool `[B]` or `[B, ...]`.

        Raises:
          ValueError: if the batch has no targets for the task.
        """
        if task not in self.targets:
            raise ValueError(f'the batch has no targets for the task {task!r}')
        target = self.targets[task]
        mask = None if self.mask is None else self.mask.get(task)
        if mask is None:
            return target, jnp.ones(target.shape[:1], bool)
        target, mask = jnp.asarray(target), jnp.asarray(mask, bool)
        known = with_trailing_axes(mask, target.ndim)
        return jnp.where(known, target, jnp.zeros((), target.dtype)), mask

    def weights(self, task: str) -> jax.Array | None:
        """The weights of the labels of a task in its loss.

        Args:
          task: its name.

        Returns:
          `[B]` or `[B, ...]`, 0 where there is no label; None where all weigh alike.
        """
        mask = None if self.mask is None else self.mask.get(task)
        return None if mask is None or mask.dtype == bool else jnp.asarray(mask)


def with_trailing_axes(mask: jax.Array, ndim: int) -> jax.Array:
    """A mask `[...]` with trailing axes of length one, to broadcast against `ndim` axes."""
    return jnp.reshape(mask, mask.shape + (1,) * (ndim - mask.ndim))
