"""Tasks that share an encoder, as pure functions."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tag_jax import objectives
from tag_jax.objectives.objective import program_of
from tag_jax.problem import remat
from tag_jax.problem.alike import LEAST, map_tasks


@dataclasses.dataclass(frozen=True, eq=False)
class MultiTaskProblem:
    """Tasks that share an encoder, as pure functions.

    Each loss touches its own head only, so that one vjp a task suffices. A problem is compared and
    hashed by identity: pass it to `jax.jit` as a static argument.

    Attributes:
      tasks: `{task: Objective}`, T of them, in the order of every `[T]` array.
      init: `key -> (params, model_state)`, both `{'shared': ..., 'heads': {task: ...}}`. Where
        parameters of the encoder are frozen, `model_state['frozen']` holds them.
      encode: `(shared, state, inputs, train, key) -> (representation [B, ...], state)`.
      decode: `{task: (head, state, representation, train, key) -> (output [B, ...], state)}`.
      frozen: a `trainable.Frozen`, where parameters of the encoder are frozen: `encode` takes
        what it joins; else None.
      remat: what of the encoder is computed again in the backward pass, and not remembered: None
        or False for nothing; True for all but what goes between its pieces; the name of a policy
        of `jax.checkpoint_policies` (`remat.POLICIES`), or a policy. It saves memory where
        encoders are deep (on GPU and TPU: XLA for CPU merges what is computed twice), and costs a
        forward pass. Gradients are the same up to rounding.

    A representation may be an array or a pytree of arrays, all of floats.

    Raises:
      ValueError: if tasks are not `{task: Objective}`, a task lacks a decoder, or remat is none.
    """

    tasks: Mapping[str, Any]
    init: Callable
    encode: Callable
    decode: Mapping[str, Callable]
    frozen: Any = None
    remat: Any = None

    def __post_init__(self):
        objectives.check_tasks(self.tasks)
        object.__setattr__(self, 'tasks', dict(self.tasks))
        if not isinstance(self.decode, Mapping):
            raise ValueError('decode must be a dict with an entry for each task')
        if missing := [name for name in self.tasks if name not in self.decode]:
            raise ValueError(f'decode has no entry for the task {missing[0]!r}')
        if unknown := [name for name in self.decode if name not in self.tasks]:
            raise ValueError(f'decode has an entry for {unknown[0]!r}, which is not a task')
        remat.policy_of(self.remat)

    @property
    def task_names(self) -> tuple[str, ...]:
        """The T names, in the order of every `[T]` array."""
        return tuple(self.tasks)

    @functools.cached_property
    def programs(self) -> dict[str, Hashable]:
        """`{task: key}`: tasks of one key have the same head, loss and sums, see `map_tasks`.

        Heads with a parameter of three axes or more have a key each: convolutions are slow under
        `vmap` on CPU.
        """
        if len(self.tasks) < LEAST:
            return dict(zip(self.tasks, self.tasks, strict=True))
        heads = self.shapes[0]['heads']
        dense = {task: all(x.ndim <= 2 for x in jax.tree.leaves(heads[task])) for task in heads}
        return {
            task: (self.decode[task], program_of(objective)) if dense[task] else task
            for task, objective in self.tasks.items()
        }

    @functools.cached_property
    def shapes(self) -> tuple[Any, Any]:
        """The shapes and dtypes of `(params, model_state)`."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def represent(
        self,
        params: Mapping[str, Any],
        model_state: Mapping[str, Any],
        inputs: Any,
        train: bool,
        key: jax.Array | None,
    ) -> tuple[Any, Any]:
        """The representation of some inputs.

        Args:
          params, model_state: what `init` gives, trained or not.
          inputs: `[B, ...]`, or a pytree of such arrays.
          train: whether the encoder runs in training mode.
          key: for dropout and the like, a scalar; None in evaluation mode.

        Returns:
          The representation `[B, ...]`, and `model_state['shared']` after the pass.
        """
        shared = params['shared']
        if self.frozen is not None:
            shared = self.frozen.join(shared, model_state['frozen'])
        state, policy = model_state['shared'], remat.policy_of(self.remat)
        if not train or policy is None:
            return self.encode(shared, state, inputs, train, key)
        encode = lambda shared, state, inputs, key: self.encode(shared, state, inputs, True, key)
        return remat.in_pieces(encode, policy, shared, state, inputs, key)

    def predict(
        self, params: Mapping[str, Any], model_state: Mapping[str, Any], inputs: Any
    ) -> dict[str, Any]:
        """Outputs of every head in evaluation mode.

        Args:
          params, model_state: what `init` gives, trained or not.
          inputs: `[B, ...]`, or a pytree of such arrays.

        Returns:
          `{task: [B, ...]}`.
        """
        representation, _ = self.represent(params, model_state, inputs, False, None)
        return map_tasks(
            lambda task, head: self.decode[task](*head, representation, False, None)[0],
            (params['heads'], model_state['heads']),
            self.programs,
        )


def task_key(key: jax.Array | None, task: str) -> jax.Array | None:
    """The key of one task, a scalar: a function of its name only, whichever other tasks exist."""
    return None if key is None else jax.random.fold_in(key, _number(task))


def task_keys(key: jax.Array, tasks: Sequence[str]) -> dict[str, jax.Array]:
    """The `task_key` of each task, `{task: scalar}`, by one loop, which compiles faster."""
    numbers = np.array([_number(task) for task in tasks], np.uint32)
    # (Under vmap they would be others where keys are of the kind unsafe_rbg.)
    keys = jax.lax.map(functools.partial(jax.random.fold_in, key), numbers)
    return {task: keys[n] for n, task in enumerate(tasks)}


def _number(task):
    return zlib.crc32(task.encode())
