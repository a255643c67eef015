"""S networks side by side in one compiled program: what happens on the device while training.

A slot holds everything of one network, so a network can be placed in any slot at any time. All
arrays of a `Slot` get a leading axis S once slots are stacked.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tag_jax import affinity, gradients
from tag_jax.problem import with_trailing_axes


class Program(NamedTuple):
    """What is compiled; hashable, static under jit.

    Attributes:
      problem: a `MultiTaskProblem` with T tasks.
      weighting: () -> optax transform of TaskGradients.
      optimizer: learning rate -> optax transform; the learning rate is traced.
      batching: 'vmap' for a scan over steps with the slots under vmap, 'unroll' for one step and
        one network after another (see `gradients.preferred_batching`).
      ragged: whether some slots may stand still in a step, which costs a copy of their state.
      measures: whether affinities are measured at all.
    """

    problem: Any
    weighting: Callable
    optimizer: Callable
    batching: str
    ragged: bool
    measures: bool

    def transform(self, learning_rate):
        """The optimizer behind the weighting."""
        return optax.chain(self.weighting(), self.optimizer(learning_rate))


class Slot(NamedTuple):
    """One network in training.

    Attributes:
      step: steps taken.
      key: folded with the step for dropout and the like.
      task_mask: bool `[T]`, the tasks that the network trains.
      learning_rate: of the optimizer, and eta of affinity measurements.
      params, model_state, opt_state: where it stands.
      best: its parameters and model state when it did best on validation.
    """

    step: jax.Array
    key: jax.Array
    task_mask: jax.Array
    learning_rate: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    best: tuple[Any, Any]


class Schedule(NamedTuple):
    """What the slots do in C steps, as NumPy arrays.

    Attributes:
      rows: int `[C, S, B]`, the rows of the training split in each batch.
      live: bool `[C, S]`, whether a slot is to take the step. In a scan that is not ragged, empty
        slots take it all the same.
      measure: bool `[C]`, whether affinities are measured before the step, in all slots.
    """

    rows: Any
    live: Any
    measure: Any


class Outputs(NamedTuple):
    """What C steps report.

    Attributes:
      losses: `[C, S, T]`, before each step.
      active: bool `[C, S, T]`, the tasks that the network trains and that had labels.
      affinity: `[C, S, T, T]`, NaN where it was not measured; None if the program never measures.
    """

    losses: jax.Array
    active: jax.Array
    affinity: jax.Array | None


@functools.partial(jax.jit, static_argnames='program')
def initial(program, seed, task_mask, learning_rate) -> Slot:
    """A network before its first step."""
    init_key, key = jax.random.split(jax.random.key(seed))
    params, model_state = program.problem.init(init_key)
    return Slot(
        step=jnp.zeros((), jnp.int32),
        key=key,
        task_mask=task_mask,
        learning_rate=learning_rate,
        params=params,
        model_state=model_state,
        opt_state=program.transform(learning_rate).init(params),
        best=(params, model_state),
    )


@functools.partial(jax.jit, static_argnames='size')
def repeated(slot, size) -> Slot:
    """`size` slots that hold the same network."""
    return jax.tree.map(lambda x: jnp.repeat(x[None], size, axis=0), slot)


@functools.partial(jax.jit, donate_argnames='slots')
def place(slots, slot, index) -> Slot:
    """The slots with a network placed in one of them."""
    return jax.tree.map(lambda all_, one: all_.at[index].set(one), slots, slot)


@functools.partial(jax.jit, donate_argnames='slots')
def keep_best(slots, improved) -> Slot:
    """The slots, with the networks that improved, bool `[S]`, remembered as they are now."""
    now = (slots.params, slots.model_state)
    return slots._replace(best=jax.tree.map(_where(improved), now, slots.best))


def best(slots, index):
    """The (params, model_state) with which one network did best."""
    return jax.tree.map(lambda x: x[index], slots.best)


def taken(outputs, schedule, index) -> Outputs:
    """What one network reports, `[C, ...]`, for the C steps that it took; NumPy arrays."""
    return jax.tree.map(lambda x: x[schedule.live[:, index], index], outputs)


def advance(program, slots, data, schedule) -> tuple[Slot, Outputs]:
    """Takes the C steps of a schedule.

    Args:
      program: a `Program`.
      slots: a stacked `Slot`; it is consumed.
      data: the training split as a `Batch` of N examples on the device.
      schedule: a `Schedule`.

    Returns:
      The slots, and what they report.
    """
    if program.batching == 'vmap':
        return _scan(program, slots, data, schedule)
    num_steps, num_slots = schedule.live.shape
    networks = [jax.tree.map(lambda x, n=n: x[n], slots) for n in range(num_slots)]
    reports = {}
    for step, n in np.argwhere(schedule.live):
        rows, measure = schedule.rows[step, n], bool(schedule.measure[step])
        networks[n], reports[step, n] = _step_alone(program, networks[n], data, rows, measure)
    size = len(program.problem.task_names)
    outputs = Outputs(
        np.zeros((num_steps, num_slots, size)),
        np.zeros((num_steps, num_slots, size), bool),
        np.full((num_steps, num_slots, size, size), np.nan) if program.measures else None,
    )
    for place, report in reports.items():
        for all_, one in zip(outputs, report, strict=True):
            if one is not None:
                all_[place] = one
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks), outputs


@functools.partial(jax.jit, static_argnames='program', donate_argnames='slots')
def _scan(program, slots, data, schedule):
    """The steps of a schedule in one loop, all slots at once."""

    def step(slots, now):
        rows, live, measure = now
        batches = jax.tree.map(lambda x: x[rows], data)
        over_slots = lambda function: jax.vmap(functools.partial(function, program))(slots, batches)
        matrices = None
        if program.measures:
            measured = lambda: over_slots(_measure)
            blank = jax.eval_shape(measured)
            nothing = lambda: jnp.full(blank.shape, jnp.nan, blank.dtype)
            matrices = jax.lax.cond(measure, measured, nothing)
        stepped, losses, active = over_slots(_step)
        if program.ragged:
            stepped = jax.tree.map(_where(live), stepped, slots)
        return stepped, Outputs(losses, active, matrices)

    return jax.lax.scan(step, slots, schedule)


@functools.partial(jax.jit, static_argnames=('program', 'measure'), donate_argnames='slot')
def _step_alone(program, slot, data, rows, measure):
    """One step of one network, with a measurement before it or None."""
    batch = jax.tree.map(lambda x: x[rows], data)
    matrix = _measure(program, slot, batch) if measure else None
    slot, losses, active = _step(program, slot, batch)
    return slot, Outputs(losses, active, matrix)


def _step(program, slot, batch):
    """One training step of one network: (slot, losses [T], active [T])."""
    task_gradients, model_state = gradients.task_gradients(
        program.problem,
        slot.params,
        slot.model_state,
        batch,
        jax.random.fold_in(slot.key, slot.step),
        task_mask=slot.task_mask,
    )
    losses, active = task_gradients.losses, task_gradients.active
    updates, opt_state = program.transform(slot.learning_rate).update(
        task_gradients, slot.opt_state, slot.params, value=jnp.sum(losses)
    )
    params = optax.apply_updates(slot.params, updates)
    stepped = slot._replace(
        step=slot.step + 1,
        params=_trained_heads(program, slot.task_mask, params, slot.params),
        model_state=_trained_heads(program, slot.task_mask, model_state, slot.model_state),
        opt_state=opt_state,
    )
    return stepped, losses, active


def _measure(program, slot, batch):
    """The inter-task affinities of one network before its step, `[T, T]`."""
    return affinity.inter_task_affinity(
        program.problem,
        slot.params,
        slot.model_state,
        batch,
        slot.learning_rate,
        key=jax.random.fold_in(slot.key, slot.step),
        task_mask=slot.task_mask,
        batching=program.batching,
    )


def _trained_heads(program, task_mask, new, old):
    """`new`, with the heads of tasks outside the mask as they were (weight decay moves them)."""
    heads = {
        task: jax.tree.map(
            lambda a, b, on=on: jnp.where(on, a, b), new['heads'][task], old['heads'][task]
        )
        for on, task in zip(task_mask, program.problem.task_names, strict=True)
    }
    return {**new, 'heads': heads}


def _where(mask):
    """Chooses between two arrays `[S, ...]`, slot by slot."""
    return lambda new, old: jnp.where(with_trailing_axes(mask, new.ndim), new, old)
