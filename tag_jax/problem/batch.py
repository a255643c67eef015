"""Examples with the targets of every task."""

from collections.abc import Mapping, Sequence
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
        weights of the labels in the loss, 0 where there is none. Nothing is masked by itself:
        NaN among the targets, or -1 among classes, makes a loss NaN.
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
        self._check_targets(task)
        return labels_of(self.targets[task], (self.mask or {}).get(task))

    def weights(self, task: str) -> jax.Array | None:
        """The weights of the labels of a task in its loss.

        Args:
          task: its name.

        Returns:
          `[B]` or `[B, ...]`, 0 where there is no label; None where all weigh alike.
        """
        return weights_of((self.mask or {}).get(task))

    def columns(self, task_names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Targets and masks as they are, `{task: array}` both; for a task without a mask, None.

        Args:
          task_names: T names.

        Raises:
          ValueError: if the batch has no targets for a task.
        """
        for task in task_names:
            self._check_targets(task)
        masks = self.mask or {}
        return (
            {task: self.targets[task] for task in task_names},
            {task: masks.get(task) for task in task_names},
        )

    def _check_targets(self, task):
        if task not in self.targets:
            raise ValueError(f'the batch has no targets for the task {task!r}')


def labels_of(target: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """The targets of a task, zero where there is no label, and where there is one, see `Batch`.

    Args:
      target: `[B, ...]`.
      mask: `[B]` or `[B, ...]`, or None.

    Returns:
      Targets `[B, ...]`, and bool `[B]` or `[B, ...]`.
    """
    if mask is None:
        return target, jnp.ones(target.shape[:1], bool)
    target, mask = jnp.asarray(target), jnp.asarray(mask, bool)
    known = with_trailing_axes(mask, target.ndim)
    return jnp.where(known, target, jnp.zeros((), target.dtype)), mask


def weights_of(mask: jax.Array | None) -> jax.Array | None:
    """The weights of the labels of a task in its loss.

    Args:
      mask: `[B]` or `[B, ...]`, or None.

    Returns:
      `[B]` or `[B, ...]`, 0 where there is no label; None where all weigh alike.
    """
    return None if mask is None or mask.dtype == bool else jnp.asarray(mask)


def check_batch(batch: Any) -> None:
    """Raises ValueError unless this is a `Batch` whose parts have as many rows as each other.

    Args:
      batch: what was given.
    """
    if not isinstance(batch, Batch):
        raise ValueError(
            'the batch must be a problem.Batch(inputs, {task: targets}), not a '
            f'{type(batch).__name__}'
        )
    for name in ('targets', 'mask'):
        if not isinstance(found := getattr(batch, name), Mapping) and (found is not None):
            raise ValueError(
                f'{name} of a Batch must be a dict, {{task: array}}, not a {type(found).__name__}'
            )
    for task in batch.mask or {}:
        if task not in batch.targets:
            raise ValueError(f'the batch has a mask for {task!r}, and no targets of that name')
    rows = {jnp.shape(x)[:1] for x in jax.tree.leaves(batch.inputs)}
    for name, of_tasks in (('targets', batch.targets), ('mask', batch.mask or {})):
        for task, values in of_tasks.items():
            if len(rows) == 1 and rows != {jnp.shape(values)[:1]}:
                raise ValueError(
                    f'the {name} of {task!r} in the batch must have as many rows as its inputs, '
                    f'{list(*rows)}: their shape is {list(jnp.shape(values))}'
                )


def with_trailing_axes(mask: jax.Array, ndim: int) -> jax.Array:
    """A mask `[...]` with trailing axes of length one, to broadcast against `ndim` axes."""
    return jnp.reshape(mask, mask.shape + (1,) * (ndim - mask.ndim))
