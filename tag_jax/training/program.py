"""The program that trains networks side by side, and what it takes and gives: values only.

A slot holds everything of one network, so a network can be placed in any slot at any time. All
arrays of a `Slot` get a leading axis S once slots are stacked.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.typing import ArrayLike

from tag_jax.training import stacked
from tag_jax.training.measurement import Measurement

# What becomes of a step in which a loss or a gradient is not finite: the host ends the run, the
# network stands still, or the tasks that are to blame sit out.
NOT_FINITE = ('stop', 'skip', 'drop')


class Program(NamedTuple):
    """The program that is compiled; hashable, static under jit.

    Attributes:
      problem: a `MultiTaskProblem` with T tasks.
      weighting: () -> optax transform of TaskGradients.
      optimizer: learning rate -> optax transform; the learning rate is traced.
      batching: 'vmap' for a scan over steps with the slots under vmap, 'unroll' for one step and
        one network after another (see `gradients.preferred_batching`).
      ragged: whether some slots may stand still in a step, which costs a copy of their state.
      measurement: how affinities are measured, `Measurement.compiled`; None if they are not.
      if_not_finite: what becomes of a step whose numbers are not finite, of NOT_FINITE.
      mesh: the devices over which slots and batches lie, see `parallel`; None for one device.
      parts: how parameters are split over its batch axis, see `sharding.parts_of`; an empty tuple
        where every device has all of them.
      each_task: whether the parameters at the best step of each task are kept as well.
    """

    problem: Any
    weighting: Callable
    optimizer: Callable
    batching: str
    ragged: bool
    measurement: Measurement | None
    if_not_finite: str = 'stop'
    mesh: Any = None
    parts: tuple = ()
    each_task: bool = False

    @property
    def alone(self) -> 'Program':
        """The program of the first state and of single steps, the same for all networks."""
        return self._replace(measurement=None, ragged=False)

    @property
    def stacked_update(self) -> stacked.StackedUpdate | None:
        """How the optimizer moves stacked heads; None where heads do not lie stacked."""
        if self.batching != 'vmap' or self.mesh is not None:
            return None
        return stacked.stacked_update(self.problem, self.optimizer)

    def transform(self, learning_rate: ArrayLike) -> optax.GradientTransformationExtraArgs:
        """The optimizer behind the weighting.

        Args:
          learning_rate: a number, traced or not.
        """
        weighting, optimizer = self.weighting(), self.optimizer(learning_rate)
        if self.stacked_update is None:
            return optax.chain(weighting, optimizer)
        return optax.chain(
            stacked.weighting_of_stacked(weighting, self.stacked_update.families),
            stacked.optimizer_of_stacked(optimizer, learning_rate, self.stacked_update),
        )


class Slot(NamedTuple):
    """One network in training.

    Attributes:
      step: steps taken, a scalar.
      key: a scalar, folded with the step for dropout and the like.
      task_mask: bool `[T]`, the tasks that the network trains.
      learning_rate: of the optimizer, and eta of affinity measurements; a scalar.
      params, model_state, opt_state: where it stands; without frozen parameters. Heads of many
        tasks lie stacked where `Program.stacked_update` says so.
      best: its parameters and model state when it did best on validation.
      best_each: the same for each task on its own, `[T, ...]`; None if these are not kept.
    """

    step: jax.Array
    key: jax.Array
    task_mask: jax.Array
    learning_rate: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    best: tuple[Any, Any]
    best_each: Any = None


class Schedule(NamedTuple):
    """The plan of C steps of all slots, as NumPy arrays.

    Attributes:
      rows: int `[C, S, B]`, the rows of the training split in each batch.
      validation_rows: the same of the validation split, on which losses are compared for
        affinities; None where they are compared on the training batch.
      live: bool `[C, S]`, whether a slot is to take the step. In a scan that is not ragged, empty
        slots take it all the same.
      measure: bool `[C]`, whether affinities are measured before the step, in all slots.
    """

    rows: Any
    validation_rows: Any
    live: Any
    measure: Any


class Outputs(NamedTuple):
    """The reports of C steps.

    Attributes:
      losses: `[C, S, T]`, before each step.
      active: bool `[C, S, T]`, the tasks that the network trains and that had labels.
      finite: bool `[C, S, T + 1]`, whether the loss and the gradients of each task were finite, of
        those that are active; and at the end, whether the update of the shared parameters was.
      affinity: `[C, S, T, T]`, NaN where it was not measured; None if the program never measures.
    """

    losses: jax.Array
    active: jax.Array
    finite: jax.Array
    affinity: jax.Array | None
