"""S networks side by side in one compiled program: what happens on the device while training.

A slot holds everything of one network, so a network can be placed in any slot at any time. All
arrays of a `Slot` get a leading axis S once slots are stacked. (The file is long because it is one
program: the same step runs in a scan over all slots, and alone.)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from tag_jax import affinity, gradients, parallel, sharding
from tag_jax.problem import Batch, split_frozen, with_frozen, with_trailing_axes
from tag_jax.training.measurement import Measurement

# Where passes are unrolled: tasks up to which all lookaheads are one compiled call, and sources a
# call beyond, which costs a forward pass more for each call and keeps compile time down.
TASKS_IN_ONE_CALL = 9
SOURCES_A_CALL = 3

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

    def transform(self, learning_rate: ArrayLike) -> optax.GradientTransformationExtraArgs:
        """The optimizer behind the weighting.

        Args:
          learning_rate: a number, traced or not.
        """
        return optax.chain(self.weighting(), self.optimizer(learning_rate))


class Slot(NamedTuple):
    """One network in training.

    Attributes:
      step: steps taken, a scalar.
      key: a scalar, folded with the step for dropout and the like.
      task_mask: bool `[T]`, the tasks that the network trains.
      learning_rate: of the optimizer, and eta of affinity measurements; a scalar.
      params, model_state, opt_state: where it stands; without frozen parameters.
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
    return sharding.constrain(program.mesh, program.parts, slot)


_initial_compiled = jax.jit(_initial, static_argnames='program')


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
    for step, n in np.argwhere(schedule.live):
        rows = jax.tree.map(lambda x, at=(step, n): x[at], schedule[:2])
        matrix = None
        if schedule.measure[step]:
            matrix = _measured_alone(program, networks[n], data, rows, frozen)
        networks[n], *report = _step_alone(program.alone, networks[n], data[0], rows[0], frozen)
        reports[step, n] = Outputs(*report, matrix)
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

    def step(slots, now):
        batches = examples_of(data[0], now.rows)
        matrices = None
        if program.measurement:
            measured = lambda: jax.vmap(functools.partial(_measure, program, frozen))(
                slots, batches, examples_of(data[1], now.validation_rows)
            )
            blank = jax.eval_shape(measured)
            nothing = lambda: jnp.full(blank.shape, jnp.nan, blank.dtype)
            matrices = jax.lax.cond(now.measure, measured, nothing)
        stepped, *report = jax.vmap(functools.partial(_step, program, frozen))(slots, batches)
        if program.ragged:
            stepped = jax.tree.map(_where(now.live), stepped, slots)
        stepped = sharding.constrain(program.mesh, program.parts, stepped, parallel.NETWORKS)
        return stepped, Outputs(*report, matrices)

    slots, outputs = jax.lax.scan(step, slots, schedule)
    return slots, parallel.constrain(program.mesh, outputs)


@functools.partial(jax.jit, static_argnames='program', donate_argnames='slot')
def _step_alone(program, slot, train, rows, frozen):
    """One step of one network: (slot, losses [T], active [T], finite [T + 1])."""
    batch = parallel.constrain(program.mesh, _examples(train, rows), parallel.BATCH)
    stepped, *report = _step(program, frozen, slot, batch)
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
    return parallel.constrain(program.mesh, _measure(program, frozen, slot, *batches, sources))


def _step(program, frozen, slot, batch):
    """One training step of one network: (slot, losses [T], active [T], finite [T + 1])."""
    task_gradients, model_state = gradients.task_gradients(
        program.problem,
        slot.params,
        with_frozen(slot.model_state, frozen),
        batch,
        jax.random.fold_in(slot.key, slot.step),
        task_mask=slot.task_mask,
    )
    model_state, _ = split_frozen(model_state)
    losses, active = task_gradients.losses, task_gradients.active
    by_task = _finite_tasks(task_gradients)
    if program.if_not_finite == 'drop':
        task_gradients = task_gradients.mask(by_task)
    updates, opt_state = program.transform(slot.learning_rate).update(
        task_gradients, slot.opt_state, slot.params, value=jnp.sum(task_gradients.losses)
    )
    params = optax.apply_updates(slot.params, updates)
    shared = jnp.isfinite(_sum((updates['shared'], model_state['shared'])))
    trained = slot.task_mask
    params = _trained_heads(program, trained, params, slot.params)
    if program.if_not_finite != 'stop':
        trained &= by_task
    model_state = _trained_heads(program, trained, model_state, slot.model_state)
    moved = (params, model_state, opt_state)
    if program.if_not_finite != 'stop':
        stands = (slot.params, slot.model_state, slot.opt_state)
        taken = shared & (by_task.all() | (program.if_not_finite == 'drop'))
        moved = jax.tree.map(functools.partial(jnp.where, taken), moved, stands)
    params, model_state, opt_state = moved
    stepped = slot._replace(
        step=slot.step + 1, params=params, model_state=model_state, opt_state=opt_state
    )
    return stepped, losses, active, jnp.append(by_task, shared)


def _finite_tasks(task_gradients):
    """Whether the loss and the gradients of each task are finite, bool `[T]`; so where inactive.

    A sum is finite where all of its terms are, unless they are about to be: it costs an addition
    an entry and tells of exploding gradients.
    """
    by_head = jnp.stack([_sum(task_gradients.heads[task]) for task in task_gradients.task_names])
    by_task = jax.vmap(_sum)(task_gradients.representation)
    return jnp.isfinite(task_gradients.losses + by_head + by_task) | ~task_gradients.active


def _sum(tree):
    """The sum of all floating point entries of a tree, in float32 or better."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum(
        (jnp.sum(x, dtype=jnp.promote_types(x.dtype, jnp.float32)) for x in leaves),
        jnp.zeros((), jnp.float32),
    )


def _measure(program, frozen, slot, batch, validation_batch=None, sources=None):
    """The inter-task affinities of one network before its step, `[T, T]`; `[S, T]` of sources."""
    measurement, lookahead = program.measurement, None
    model_state = with_frozen(slot.model_state, frozen)
    if measurement.step == 'optimizer':
        losses, active = gradients.task_losses(
            program.problem,
            slot.params,
            model_state,
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
        model_state,
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
    """Chooses between two arrays `[S, ...]`, or `[S, T, ...]`, by a mask `[S]` or `[S, T]`."""
    return lambda new, old: jnp.where(with_trailing_axes(mask, new.ndim), new, old)
