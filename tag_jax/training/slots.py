"""S networks side by side on the device: how they begin, advance, and are kept.

The same step runs in a scan over all slots, or alone, where convolutions run on CPU.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tag_jax import parallel, sharding
from tag_jax.problem import Batch, heads_apart, split_frozen, stack_heads, with_trailing_axes
from tag_jax.training import step
from tag_jax.training.program import Outputs, Program, Schedule, Slot

# Where passes are unrolled: tasks up to which all lookaheads are one compiled call, and sources a
# call beyond, which costs a forward pass more for each call and keeps compile time down.
TASKS_IN_ONE_CALL = 9
SOURCES_A_CALL = 3


def initial(
    program: Program, seed: ArrayLike, task_mask: ArrayLike, learning_rate: ArrayLike
) -> Slot:
    """A network before its first step.

    Args:
      program: a `Program`.
      seed: of its parameters and its key, an unsigned scalar.
      task_mask: bool `[T]`, the tasks that it trains.
      learning_rate: a floating point scalar.
    """
    # Large convolutional networks would take longer to compile than to initialise op by op.
    op_by_op = program.batching == 'unroll' and program.mesh is None
    make = _initial if op_by_op else _initial_compiled
    return make(program.alone, seed, task_mask, learning_rate)


def _initial(program, seed, task_mask, learning_rate):
    init_key, key = jax.random.split(jax.random.key(seed))
    params, model_state = program.problem.init(init_key)
    model_state, _ = split_frozen(model_state)
    best = params, model_state
    each = [best] * len(program.problem.task_names)
    slot = Slot(
        step=jnp.zeros((), jnp.int32),
        key=key,
        task_mask=task_mask,
        learning_rate=learning_rate,
        params=params,
        model_state=model_state,
        opt_state=program.transform(learning_rate).init(params),
        best=best,
        best_each=_stacked(each) if program.each_task else None,
    )
    return sharding.constrain(program.mesh, program.parts, with_stacked_heads(program, slot))


_initial_compiled = jax.jit(_initial, static_argnames='program')


def with_stacked_heads(program: Program, slot: Slot) -> Slot:
    """A network whose heads lie as the program wants them.

    Args:
      program: a `Program`.
      slot: the network, its heads one by one.
    """
    if program.stacked_update is None:
        return slot
    stack = lambda tree, axis=0: stack_heads(
        tree, program.stacked_update.families, functools.partial(jnp.stack, axis=axis)
    )
    weighting, optimizer = slot.opt_state
    return slot._replace(
        params=stack(slot.params),
        model_state=stack(slot.model_state),
        opt_state=(weighting, stack(optimizer)),
        best=stack(slot.best),
        best_each=stack(slot.best_each, 1),
    )


def with_heads_apart(slot: Slot) -> Slot:
    """A network with its heads one by one.

    Args:
      slot: the network.
    """
    found = Slot(*heads_apart(tuple(slot._replace(best_each=None))))
    return found._replace(best_each=heads_apart(slot.best_each, 1))


def repeat(program: Program, slot: Slot, size: int) -> Slot:
    """Slots that hold the same network.

    Args:
      program: a `Program`.
      slot: the network.
      size: S.
    """
    if size == 1 and program.mesh is None:
        return jax.tree.map(lambda x: jnp.asarray(x)[None], slot)
    return _repeated(slot, size, program.mesh, program.parts)


@functools.partial(jax.jit, static_argnames=('size', 'mesh', 'parts'))
def _repeated(slot, size, mesh, parts):
    repeated = jax.tree.map(lambda x: jnp.repeat(x[None], size, axis=0), slot)
    return sharding.constrain(mesh, parts, repeated, parallel.NETWORKS)


def place(program: Program, slots: Slot, slot: Slot, index: int) -> Slot:
    """The slots with a network placed in one of them.

    Args:
      program: a `Program`.
      slots: a stacked `Slot`; it is consumed.
      slot: the network.
      index: of the slot that it takes.
    """
    return _placed(slots, slot, index, program.mesh, program.parts)


@functools.partial(jax.jit, static_argnames=('mesh', 'parts'), donate_argnames='slots')
def _placed(slots, slot, index, mesh, parts):
    found = jax.tree.map(lambda all_, one: all_.at[index].set(one), slots, slot)
    return sharding.constrain(mesh, parts, found, parallel.NETWORKS)


def keep_best(
    program: Program, slots: Slot, improved: ArrayLike, improved_tasks: ArrayLike
) -> Slot:
    """The slots, with the networks that improved remembered as they are now.

    Args:
      program: a `Program`.
      slots: a stacked `Slot`; it is consumed.
      improved: bool `[S]`, by all tasks together.
      improved_tasks: bool `[S, T]`, by each task; of no effect unless these are kept.
    """
    improved_tasks = improved_tasks if program.each_task else None
    return _kept(slots, improved, improved_tasks, program.mesh, program.parts)


@functools.partial(jax.jit, static_argnames=('mesh', 'parts'), donate_argnames='slots')
def _kept(slots, improved, improved_tasks, mesh, parts):
    now = (slots.params, slots.model_state)
    found = slots._replace(best=jax.tree.map(_where(improved), now, slots.best))
    if improved_tasks is not None:
        now = jax.tree.map(lambda x: x[:, None], now)
        each = jax.tree.map(_where(improved_tasks), now, slots.best_each)
        found = found._replace(best_each=each)
    return sharding.constrain(mesh, parts, found, parallel.NETWORKS)


def take_slot(program: Program, tree: Any, index: int) -> Any:
    """Takes one slot out of a tree of all of them; it lies as `Program.parts` say over a mesh.

    Args:
      program: a `Program`.
      tree: pytree of arrays `[S, ...]`.
      index: of the slot.
    """
    if program.mesh is None:
        return jax.tree.map(lambda x: x[index], tree)
    return _one(tree, index, program.mesh, program.parts)


@functools.partial(jax.jit, static_argnames=('mesh', 'parts'))
def _one(tree, index, mesh, parts):
    return sharding.constrain(mesh, parts, jax.tree.map(lambda x: x[index], tree))


def reports_of(outputs: Outputs, schedule: Schedule, index: int) -> Outputs:
    """The reports of one network, `[C, ...]`, for the C steps that it took; NumPy arrays.

    Args:
      outputs: of all slots, NumPy arrays.
      schedule: the `Schedule` that they followed.
      index: of its slot.
    """
    return jax.tree.map(lambda x: x[schedule.live[:, index], index], outputs)


def advance(
    program: Program,
    slots: Slot,
    data: tuple[Batch, Batch | None],
    schedule: Schedule,
    frozen: Any = None,
) -> tuple[Slot, Outputs]:
    """Takes the C steps of a schedule.

    Args:
      program: a `Program`.
      slots: a stacked `Slot`; it is consumed.
      data: the training and the validation split, each a `Batch` on the device; the second may be
        None where nothing is measured on it.
      schedule: a `Schedule`.
      frozen: the frozen parameters of all networks, on the device; None if there are none.

    Returns:
      The slots, and what they report.
    """
    if program.batching == 'vmap':
        return _scan(program, slots, data, schedule, frozen)
    num_steps, num_slots = schedule.live.shape
    networks = [take_slot(program, slots, n) for n in range(num_slots)]
    reports = {}
    for at, n in np.argwhere(schedule.live):
        rows = jax.tree.map(lambda x, place=(at, n): x[place], schedule[:2])
        matrix = None
        if schedule.measure[at]:
            matrix = _measured_alone(program, networks[n], data, rows, frozen)
        networks[n], *report = _step_alone(program.alone, networks[n], data[0], rows[0], frozen)
        reports[at, n] = Outputs(*report, matrix)
    size = len(program.problem.task_names)
    outputs = Outputs(
        np.zeros((num_steps, num_slots, size)),
        np.zeros((num_steps, num_slots, size), bool),
        np.ones((num_steps, num_slots, size + 1), bool),
        np.full((num_steps, num_slots, size, size), np.nan) if program.measurement else None,
    )
    for place, report in reports.items():
        for all_, one in zip(outputs, report, strict=True):
            if one is not None:
                all_[place] = one
    if program.mesh is None:
        return _stacked(networks), outputs
    return _stacked_over(networks, program.mesh, program.parts), outputs


def _stacked(networks):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


@functools.partial(jax.jit, static_argnames=('mesh', 'parts'))
def _stacked_over(networks, mesh, parts):
    return sharding.constrain(mesh, parts, _stacked(networks), parallel.NETWORKS)


@functools.partial(jax.jit, static_argnames='program', donate_argnames='slots')
def _scan(program, slots, data, schedule, frozen):
    """The steps of a schedule in one loop, all slots at once."""

    def examples_of(split, rows):
        found = _examples(split, rows)
        return parallel.constrain(program.mesh, found, *parallel.AXES)

    def one_step(slots, now):
        batches = examples_of(data[0], now.rows)
        matrices = None
        if program.measurement:
            measured = lambda: jax.vmap(functools.partial(step.measure, program, frozen))(
                slots, batches, examples_of(data[1], now.validation_rows)
            )
            blank = jax.eval_shape(measured)
            nothing = lambda: jnp.full(blank.shape, jnp.nan, blank.dtype)
            matrices = jax.lax.cond(now.measure, measured, nothing)
        stepped, *report = jax.vmap(functools.partial(step.take, program, frozen))(slots, batches)
        if program.ragged:
            stepped = jax.tree.map(_where(now.live), stepped, slots)
        stepped = sharding.constrain(program.mesh, program.parts, stepped, parallel.NETWORKS)
        return stepped, Outputs(*report, matrices)

    slots, outputs = jax.lax.scan(one_step, slots, schedule)
    return slots, parallel.constrain(program.mesh, outputs)


@functools.partial(jax.jit, static_argnames='program', donate_argnames='slot')
def _step_alone(program, slot, train, rows, frozen):
    """One step of one network: (slot, losses [T], active [T], finite [T + 1])."""
    batch = parallel.constrain(program.mesh, _examples(train, rows), parallel.BATCH)
    stepped, *report = step.take(program, frozen, slot, batch)
    stepped = sharding.constrain(program.mesh, program.parts, stepped)
    return stepped, *parallel.constrain(program.mesh, report)


def _measured_alone(program, slot, data, rows, frozen):
    """The affinities of one network before its step, `[T, T]`."""
    if program.measurement.kind != 'exact':
        return _measure_alone(program, slot, data, rows, frozen)
    return in_pieces(
        functools.partial(_measure_alone, program, slot, data, rows, frozen),
        len(program.problem.task_names),
    )


def in_pieces(
    measure: Callable[[np.ndarray | None], ArrayLike], size: int
) -> jax.Array | np.ndarray:
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
def _measure_alone(program, slot, data, rows, frozen, sources=None):
    batches = (
        parallel.constrain(program.mesh, _examples(split, some), parallel.BATCH)
        for split, some in zip(data, rows, strict=True)
    )
    return parallel.constrain(program.mesh, step.measure(program, frozen, slot, *batches, sources))


def _examples(split, rows):
    """The examples in some rows of a split, a `Batch`; None if there are none."""
    return None if rows is None else jax.tree.map(lambda x: x[rows], split)


def _where(mask):
    """Chooses between two arrays `[S, ...]`, or `[S, T, ...]`, by a mask `[S]` or `[S, T]`."""
    return lambda new, old: jnp.where(with_trailing_axes(mask, new.ndim), new, old)
