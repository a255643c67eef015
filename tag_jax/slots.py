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

# Where passes are unrolled: tasks up to which all lookaheads are one compiled call, and sources a
# call beyond, which costs a forward pass more for each call and keeps compile time down.
TASKS_IN_ONE_CALL = 9
SOURCES_A_CALL = 3


class Measurement(NamedTuple):
    """How inter-task affinities are measured while training; hashable.

    Attributes:
      kind: of `affinity.KINDS`.
      step: 'sgd', a step of plain gradient descent, or 'optimizer', that of the optimizer.
      examples: how many examples of a batch take part; None for all.
    """

    kind: str = 'exact'
    step: str = 'sgd'
    examples: int | None = None


class Program(NamedTuple):
    """What is compiled; hashable, static under jit.

    Attributes:
      problem: a `MultiTaskProblem` with T tasks.
      weighting: () -> optax transform of TaskGradients.
      optimizer: learning rate -> optax transform; the learning rate is traced.
      batching: 'vmap' for a scan over steps with the slots under vmap, 'unroll' for one step and
        one network after another (see `gradients.preferred_batching`).
      ragged: whether some slots may stand still in a step, which costs a copy of their state.
      measurement: how affinities are measured; None if they are not.
    """

    problem: Any
    weighting: Callable
    optimizer: Callable
    batching: str
    ragged: bool
    measurement: Measurement | None

    @property
    def alone(self):
        """What one network's first state and single steps depend on: the same for all networks."""
        return self._replace(measurement=None, ragged=False)

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
    """What C steps report.

    Attributes:
      losses: `[C, S, T]`, before each step.
      active: bool `[C, S, T]`, the tasks that the network trains and that had labels.
      affinity: `[C, S, T, T]`, NaN where it was not measured; None if the program never measures.
    """

    losses: jax.Array
    active: jax.Array
    affinity: jax.Array | None


def initial(program, seed, task_mask, learning_rate) -> Slot:
    """A network before its first step."""
    # Large convolutional networks would take longer to compile than to initialise op by op.
    make = _initial if program.batching == 'unroll' else _initial_compiled
    return make(program.alone, seed, task_mask, learning_rate)


def _initial(program, seed, task_mask, learning_rate):
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


_initial_compiled = jax.jit(_initial, static_argnames='program')


def repeated(slot, size) -> Slot:
    """`size` slots that hold the same network."""
    if size == 1:
        return jax.tree.map(lambda x: jnp.asarray(x)[None], slot)
    return _repeated(slot, size)


@functools.partial(jax.jit, static_argnames='size')
def _repeated(slot, size):
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
      data: the training and the validation split, each a `Batch` on the device; the second may be
        None where nothing is measured on it.
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
        rows = jax.tree.map(lambda x, at=(step, n): x[at], schedule[:2])
        matrix = None
        if schedule.measure[step]:
            matrix = _measured_alone(program, networks[n], data, rows)
        networks[n], losses, active = _step_alone(program.alone, networks[n], data[0], rows[0])
        reports[step, n] = Outputs(losses, active, matrix)
    size = len(program.problem.task_names)
    outputs = Outputs(
        np.zeros((num_steps, num_slots, size)),
        np.zeros((num_steps, num_slots, size), bool),
        np.full((num_steps, num_slots, size, size), np.nan) if program.measurement else None,
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
        batches = _examples(data[0], now.rows)
        matrices = None
        if program.measurement:
            measured = lambda: jax.vmap(functools.partial(_measure, program))(
                slots, batches, _examples(data[1], now.validation_rows)
            )
            blank = jax.eval_shape(measured)
            nothing = lambda: jnp.full(blank.shape, jnp.nan, blank.dtype)
            matrices = jax.lax.cond(now.measure, measured, nothing)
        stepped, losses, active = jax.vmap(functools.partial(_step, program))(slots, batches)
        if program.ragged:
            stepped = jax.tree.map(_where(now.live), stepped, slots)
        return stepped, Outputs(losses, active, matrices)

    return jax.lax.scan(step, slots, schedule)


@functools.partial(jax.jit, static_argnames='program', donate_argnames='slot')
def _step_alone(program, slot, train, rows):
    """One step of one network: (slot, losses [T], active [T])."""
    return _step(program, slot, _examples(train, rows))


def _measured_alone(program, slot, data, rows):
    """The affinities of one network before its step, `[T, T]`."""
    if program.measurement.kind != 'exact':
        return _measure_alone(program, slot, data, rows)
    return in_pieces(
        functools.partial(_measure_alone, program, slot, data, rows),
        len(program.problem.task_names),
    )


def in_pieces(measure, size):
    """Affinities with some source tasks a call, so that compile time does not grow with the tasks.

    Args:
      measure: `sources` (see `affinity.inter_task_affinities`), or None for all -> `[S, T]`.
      size: T.

    Returns:
      `[T, T]`; from one call up to TASKS_IN_ONE_CALL tasks, else from calls with SOURCES_A_CALL.
    """
    if size <= TASKS_IN_ONE_CALL:
        return measure(None)
    sources = np.zeros((-(-size // SOURCES_A_CALL) * SOURCES_A_CALL, size), np.float32)
    np.fill_diagonal(sources, 1)
    found = [measure(piece) for piece in np.split(sources, len(sources) // SOURCES_A_CALL)]
    return np.concatenate([np.asarray(piece) for piece in found])[:size]


@functools.partial(jax.jit, static_argnames='program')
def _measure_alone(program, slot, data, rows, sources=None):
    return _measure(program, slot, *map(_examples, data, rows), sources)


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


def _measure(program, slot, batch, validation_batch=None, sources=None):
    """The inter-task affinities of one network before its step, `[T, T]`; `[S, T]` of sources."""
    measurement, lookahead = program.measurement, None
    if measurement.step == 'optimizer':
        losses, active = gradients.task_losses(
            program.problem,
            slot.params,
            slot.model_state,
            batch,
            jax.random.fold_in(slot.key, slot.step),
        )
        # The state of a chain: that of the weighting, that of the optimizer.
        lookahead = affinity.optimizer_step(
            program.optimizer(slot.learning_rate),
            slot.opt_state[1],
            slot.params,
            value=jnp.sum(jnp.where(active & slot.task_mask, losses, 0)),
        )
    return affinity.inter_task_affinity(
        program.problem,
        slot.params,
        slot.model_state,
        _first(batch, measurement.examples),
        slot.learning_rate,
        measurement.kind,
        key=jax.random.fold_in(slot.key, slot.step),
        lookahead=lookahead,
        eval_batch=_first(validation_batch, measurement.examples),
        task_mask=slot.task_mask,
        sources=sources,
        batching='unroll' if program.batching == 'unroll' else None,
    )


def _examples(split, rows):
    """The examples in some rows of a split, a `Batch`; None if there are none."""
    return None if rows is None else jax.tree.map(lambda x: x[rows], split)


def _first(batch, examples):
    return batch if batch is None else jax.tree.map(lambda x: x[:examples], batch)


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
