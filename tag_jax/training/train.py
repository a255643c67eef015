"""Training and early-stopping K networks that differ in tasks, seed, learning rate.

The networks run in S slots of one compiled program, which runs in several threads on CPU. A network
that stops early gives its slot to the next one. Batches and random keys of a network depend on its
own seed and step only, so among the same number of slots a network is bitwise the same whatever
runs beside it. The heads of tasks that a network does not train never move.

Steps run in chunks, with an evaluation on the validation split after each. A chunk of a dense
encoder is one `lax.scan` with the slots under `vmap`. Convolutions on CPU, which XLA runs slowly in
loops and in groups, go one network and one step after another through the same step function.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from tag_jax import affinity, evaluation, parallel, sharding
from tag_jax.data import Source, Split
from tag_jax.problem import MultiTaskProblem, with_frozen
from tag_jax.training import progress, slots
from tag_jax.training.bars import steps_bar
from tag_jax.training.batches import schedule_of
from tag_jax.training.checks import (
    AtRate,
    check_devices,
    check_optimizer,
    takes_traced_rate,
)
from tag_jax.training.config import MEASURE, NetworkPlan, TrainedNetwork, TrainingConfig
from tag_jax.training.desk import Desk
from tag_jax.training.kept import copies
from tag_jax.training.measured import measured_slots
from tag_jax.training.progress import Record
from tag_jax.training.work import advance, make_work, with_settings


def train_networks(
    problem: MultiTaskProblem,
    train_split: Split | Source,
    validation_split: Split | Source,
    plans: Sequence[NetworkPlan],
    config: TrainingConfig,
    on_record: Callable[[Record], bool | None] = lambda record: None,
    on_finish: Callable[[TrainedNetwork], None] = lambda network: None,
    keep: bool = True,
    checkpoints: Callable[[NetworkPlan], Any] | None = None,
    progress_bar: bool = True,
    watched_split: Split | Source | None = None,
) -> tuple[TrainedNetwork, ...]:
    """Trains networks, and keeps each at its best evaluation.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      train_split, validation_split: `tag_jax.data.Split`s, or anything with the same fields, which
        go to the device; or `tag_jax.data.Source`s, of which the next steps' examples do.
      plans: the networks to train, with different names.
      config: a `TrainingConfig`.
      on_record: called after every evaluation of a network with its `Record`; training of that
        network stops where it returns True.
      on_finish: called with each network as soon as it has finished.
      keep: whether the networks are returned; where there are hundreds, `on_finish` may be enough.
      checkpoints: gives each plan a folder for the checkpoints of its network; None for none. A
        network that has some goes on from there, bit for bit, and its records up to there come
        again; the folder is removed after `on_finish`. They are written after evaluations, as
        often as `checkpoint_seconds` says, and where training ends by an error or an interrupt.
      progress_bar: whether a bar on a terminal shows the steps, or a line now and then elsewhere.
      watched_split: another split that is evaluated whenever the validation split is, for records
        of how networks come on (`Record.watched`); nothing is chosen by it. None for none.

    Returns:
      The networks that were trained, in the order of the plans.

    Raises:
      ValueError: if the mesh does not fit the devices, or the config measures slots and there are
        checkpoints, which only go on in as many slots as before.
      FloatingPointError: if the loss or the gradient of a task is not finite, see
        `if_not_finite`.
      OSError: if a checkpoint cannot be written.
    """
    if not plans:
        return ()
    check_devices(problem, config, train_split, validation_split)
    check_optimizer(problem, plans, config)
    config = _settled(problem, train_split, validation_split, plans, config, checkpoints)
    if not takes_traced_rate(problem, config.optimizer):
        # Networks of one rate share a program, and the rate is a number of Python there.
        trained = {}
        for rate in dict.fromkeys(plan.learning_rate for plan in plans):
            some = [plan for plan in plans if plan.learning_rate == rate]
            own = dataclasses.replace(config, optimizer=AtRate(config.optimizer, rate))
            rest = (on_record, on_finish, keep, checkpoints, progress_bar, watched_split)
            for network in train_networks(problem, train_split, validation_split, some, own, *rest):
                trained[network.plan.name] = network
        return tuple(trained[plan.name] for plan in plans if plan.name in trained)
    splits = train_split, validation_split, watched_split
    measures = any(plan.measures_affinity for plan in plans)
    work = make_work(problem, splits, config, len(plans), measures, checkpoints)
    shown = progress_bar and parallel.is_first()
    # Compiling is the first thing that takes long.
    with steps_bar(len(plans) * config.steps, 'compiling', shown) as bar:
        desk = Desk(plans, on_record, on_finish, bar, keep)
        _run_workers(functools.partial(_train_in_slots, work, desk), work.num_workers, desk)
    return tuple(desk.finished[plan.name] for plan in plans if plan.name in desk.finished)


def _settled(problem, train_split, validation_split, plans, config, checkpoints):
    """The config with a number of slots where it says `measure`; see `measured_slots`."""
    if config.slots != MEASURE:
        return config
    if checkpoints is not None:
        raise ValueError(
            f'slots={MEASURE!r} and checkpoints do not go together, since networks that go on need '
            'as many slots as before: give slots=training.measured_slots(...).slots'
        )
    if any(plan.measures_affinity for plan in plans):
        return dataclasses.replace(config, slots=None)
    found = measured_slots(problem, train_split, validation_split, len(plans), config)
    return dataclasses.replace(config, slots=found.slots, workers=found.workers)


def _run_workers(work, count, desk):
    """Runs `count` workers in threads of their own.

    This thread waits, and so can be interrupted: then the workers end the steps that they are at,
    write their checkpoints and leave.
    """
    with futures.ThreadPoolExecutor(count) as pool:
        running = [pool.submit(with_settings(work)) for _ in range(count)]
        try:
            for one in futures.as_completed(running):
                one.result()
        finally:
            desk.stopped = True


def _train_in_slots(work, desk):
    """One worker: trains plans from the desk in its slots until there is none left."""
    program, config, num_slots = work.program, work.config, work.num_slots
    problem = program.problem
    batch_size, chunk = work.batch_size, work.chunk
    runs: list[progress.Progress | None] = [None] * num_slots
    written = [0.0] * num_slots  # When each began, or its last checkpoint was written.
    state, compiled, stopped = None, False, False
    compiling = {}  # Seconds of networks in the chunk in which programs are compiled.
    labelled = work.labelled()
    while not stopped:
        began = time.perf_counter()
        for n in range(num_slots):
            if runs[n] is None and (plan := desk.next_plan()):
                if num_slots == 1:  # The network before is done, and leaves its memory.
                    state = None
                runs[n], slot = _begun(work, plan)
                written[n] = began
                for record in runs[n].records:
                    desk.hand_in_record(record, chunk)
                if state is None:
                    state = slots.repeat(program, slot, num_slots)
                else:
                    state = slots.place(program, state, slot, n)
        occupied = [n for n in range(num_slots) if runs[n] is not None]
        if not occupied:
            return

        sizes = [split.size for split in work.splits]
        schedule = schedule_of(runs, chunk, batch_size, sizes, config, labelled)
        with contextlib.nullcontext() if compiled else desk.compiling():
            state, outputs = advance(work, state, schedule)
            scores = _scores(work, state, work.validation)
            watched = None if work.watched is None else _scores(work, state, work.watched)
        seconds = (time.perf_counter() - began) / len(occupied) / work.num_workers
        for n, spent in compiling.items():  # That chunk counts as this one does.
            runs[n] = runs[n]._replace(seconds=runs[n].seconds + min(0.0, seconds - spent))
        compiling = {} if compiled else dict.fromkeys(occupied, seconds)
        compiled = True

        improved, asked_to_stop = np.zeros(num_slots, bool), [False] * num_slots
        improved_tasks = np.zeros((num_slots, len(problem.task_names)), bool)
        for n in occupied:
            taken = slots.reports_of(outputs, schedule, n)
            seen = {task: watched[n][task] for task in runs[n].plan.tasks if watched}
            runs[n] = progress.observe(
                *(problem, runs[n], taken, scores[n], seconds, config, seen),
                work.validation.left_out,
            )
            improved[n] = runs[n].best_step == runs[n].step
            if program.each_task:
                improved_tasks[n] = progress.improved_tasks(runs[n], config.select_by)
            asked_to_stop[n] = desk.hand_in_record(runs[n].records[-1], len(taken.losses))
        if improved.any() or improved_tasks.any():
            state = slots.keep_best(program, state, improved, improved_tasks)

        now = time.perf_counter()
        due = [now - since >= config.checkpoint_seconds for since in written]
        stopped, *flags = parallel.any_process(desk.stopped, *due, *asked_to_stop)
        due, asked_to_stop = flags[:num_slots], flags[num_slots:]
        for n in occupied:
            if asked_to_stop[n] or progress.is_done(runs[n], config):
                params, model_state = _to_host(work, state.best, n)
                best = params, with_frozen(model_state, work.frozen)
                network = _trained(runs[n], best, config.select_by)
                if program.each_task:
                    each = _to_host(work, state.best_each, n)
                    found = copies(network, runs[n], each, work.frozen, config.select_by)
                    network = network._replace(copies=found)
                if asked_to_stop[n] and not progress.is_done(runs[n], config):
                    network = network._replace(stopped=True)
                desk.hand_in_network(network, config.steps - runs[n].step)
                _forget(work, runs[n].plan)
                runs[n] = None
                compiling.pop(n, None)
            elif work.checkpoints and (stopped or due[n]):
                slot = parallel.to_host(program.mesh, slots.take_slot(program, state, n))
                progress.save(work.checkpoints(runs[n].plan), runs[n], slot)
                written[n] = now
    if not desk.stopped:
        raise KeyboardInterrupt('another process is interrupted')


def _scores(work, state, prepared):
    """The metrics of the networks in all slots on a split."""
    return evaluation.scores(
        work.program.problem,
        (state.params, state.model_state),
        prepared,
        work.config.batch_size,
        work.program.batching,
        work.frozen_on_device,
    )


def _to_host(work, tree, n):
    """The arrays of one slot; those over a mesh as NumPy arrays."""
    found = slots.take_slot(work.program, tree, n)
    mesh = work.program.mesh
    return found if mesh is None else parallel.to_host(mesh, found)


def _begun(work, plan):
    """(`Progress`, `slots.Slot`) of a network: as its checkpoints have it, or before any step."""
    problem = work.program.problem
    slot = slots.initial(
        work.program,
        np.uint32(plan.seed),
        np.array([task in plan.tasks for task in problem.task_names]),
        np.float32(plan.learning_rate),
    )
    if work.checkpoints is not None:
        found = progress.restore(work.checkpoints(plan), problem, plan, slot)
        if found is not None:
            run, slot = found
            return run, _on_devices(work.program, slot)
    return progress.start(problem, plan), slot


def _on_devices(program, slot):
    """A `slots.Slot` from a checkpoint, as the program's parameters lie over a mesh."""
    if not program.parts:
        return slot
    placed = sharding.place(program.mesh, program.parts, slot._replace(key=None))
    return placed._replace(key=slot.key)


def _forget(work, plan):
    """Removes the checkpoints of a network that has finished."""
    if work.checkpoints is not None and parallel.is_first():
        progress.forget(work.checkpoints(plan))


def _trained(run, best, select_by):
    params, model_state = best
    return TrainedNetwork(
        plan=run.plan,
        params=params,
        model_state=model_state,
        validation=run.best_scores,
        best_step=run.best_step,
        steps=run.step,
        seconds=run.seconds,
        affinities=affinity.summary(run.affinities) if run.plan.measures_affinity else None,
        not_finite=run.not_finite,
        best_of_tasks=progress.best_of_tasks(run, select_by),
    )
