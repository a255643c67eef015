"""One thread of training: its slots take plans from the desk until there is none left."""

import contextlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import affinity, evaluation, parallel, sharding
from tag_jax.problem import heads_apart, with_frozen
from tag_jax.training import progress, slots
from tag_jax.training.batches import schedule_of
from tag_jax.training.config import TrainedNetwork
from tag_jax.training.desk import Desk
from tag_jax.training.kept import copies
from tag_jax.training.work import Work, advance


class Worker:
    """The networks in the slots of one thread, from plans to `TrainedNetwork`s.

    Args:
      work: the `Work` of the program.
      desk: where plans come from, and where records and networks go.
    """

    def __init__(self, work: Work, desk: Desk):
        self._work, self._desk, self._labelled = work, desk, work.labelled()
        self._state: Any = None  # A stacked `Slot`, as soon as there is a network.
        self._runs: list[progress.Progress | None] = [None] * work.num_slots
        # When each network began, or its last checkpoint was written.
        self._written = [0.0] * work.num_slots
        # Seconds of networks in the first chunk, in which programs are compiled: None before it,
        # and empty once the second chunk has put them right.
        self._compiling: dict[int, float] | None = None

    def run(self) -> None:
        """Trains in chunks, with an evaluation after each, until there is nothing left to do.

        Raises:
          KeyboardInterrupt: if another process was interrupted.
        """
        stopped = False
        while not stopped:
            began = time.perf_counter()
            self._fill(began)
            if not self._occupied():
                return
            schedule, *seen = self._chunk()
            asked_to_stop = self._observe(schedule, *seen, self._count_seconds(began))
            now = time.perf_counter()
            due = [now - at >= self._work.config.checkpoint_seconds for at in self._written]
            stopped, *flags = parallel.any_process(self._desk.stopped, *due, *asked_to_stop)
            due, asked_to_stop = flags[: len(due)], flags[len(due) :]
            for n in self._occupied():
                if asked_to_stop[n] or progress.is_done(self._runs[n], self._work.config):
                    self._hand_in(n, asked_to_stop[n])
                elif self._work.checkpoints and (stopped or due[n]):
                    self._save(n, now)
        if not self._desk.stopped:
            raise KeyboardInterrupt('another process is interrupted')

    def _occupied(self):
        return [n for n, run in enumerate(self._runs) if run is not None]

    def _fill(self, now):
        """Gives empty slots the next plans, as far as there are any."""
        for n, run in enumerate(self._runs):
            if run is not None or (plan := self._desk.next_plan()) is None:
                continue
            if len(self._runs) == 1:  # The network before is done, and leaves its memory.
                self._state = None
            self._runs[n], slot = _begun(self._work, plan)
            self._written[n] = now
            for record in self._runs[n].records:
                self._desk.hand_in_record(record, self._work.chunk)
            if self._state is None:
                self._state = slots.repeat(self._work.program, slot, len(self._runs))
            else:
                self._state = slots.place(self._work.program, self._state, slot, n)

    def _chunk(self):
        """Takes the steps up to the next evaluation, and evaluates.

        Returns:
          The `Schedule`, its `Outputs`, and the scores of all slots on the validation split and on
          the one that is watched, which may be None.
        """
        work = self._work
        schedule = schedule_of(
            self._runs,
            work.chunk,
            work.batch_size,
            [split.size for split in work.splits],
            work.config,
            self._labelled,
        )
        first = self._compiling is None
        with self._desk.compiling() if first else contextlib.nullcontext():
            self._state, outputs = advance(work, self._state, schedule)
            scores = _scores(work, self._state, work.validation)
            watched = None if work.watched is None else _scores(work, self._state, work.watched)
        return schedule, outputs, scores, watched

    def _count_seconds(self, began):
        """The seconds of a network in this chunk.

        After the second chunk, the first one counts as that does in the progress of each network.
        """
        occupied = self._occupied()
        seconds = (time.perf_counter() - began) / len(occupied) / self._work.num_workers
        if self._compiling is None:
            self._compiling = dict.fromkeys(occupied, seconds)
            return seconds
        for n, spent in self._compiling.items():
            run = self._runs[n]
            self._runs[n] = run._replace(seconds=run.seconds + min(0.0, seconds - spent))
        self._compiling = {}
        return seconds

    def _observe(self, schedule, outputs, scores, watched, seconds):
        """Notes the chunk in the progress of each network, and keeps those that improved.

        Returns:
          For each slot, whether a hook asks that its network stops.
        """
        work, program, count = self._work, self._work.program, len(self._runs)
        improved, asked_to_stop = np.zeros(count, bool), [False] * count
        improved_tasks = np.zeros((count, len(program.problem.task_names)), bool)
        for n in self._occupied():
            taken = slots.reports_of(outputs, schedule, n)
            run = self._runs[n]
            seen = {task: watched[n][task] for task in run.plan.tasks if watched}
            run = progress.observe(
                *(program.problem, run, taken, scores[n], seconds, work.config, seen),
                work.validation.left_out,
            )
            self._runs[n] = run
            improved[n] = run.best_step == run.step
            if program.each_task:
                improved_tasks[n] = progress.improved_tasks(run, work.config.select_by)
            asked_to_stop[n] = self._desk.hand_in_record(run.records[-1], len(taken.losses))
        if improved.any() or improved_tasks.any():
            self._state = slots.keep_best(program, self._state, improved, improved_tasks)
        return asked_to_stop

    def _hand_in(self, n, asked_to_stop):
        """Hands in the network of a slot, which is done or asked to stop, and empties the slot."""
        work, run = self._work, self._runs[n]
        by = work.config.select_by
        params, model_state = _taken_out(work, self._state.best, n)
        network = _trained(run, (params, with_frozen(model_state, work.frozen)), by)
        if work.program.each_task:
            each = _taken_out(work, self._state.best_each, n, axis=1)
            network = network._replace(copies=copies(network, run, each, work.frozen, by))
        if asked_to_stop and not progress.is_done(run, work.config):
            network = network._replace(stopped=True)
        self._desk.hand_in_network(network, work.config.steps - run.step)
        _forget(work, run.plan)
        self._runs[n] = None
        self._compiling.pop(n, None)

    def _save(self, n, now):
        """Writes a checkpoint of the network of a slot."""
        program, run = self._work.program, self._runs[n]
        slot = parallel.to_host(program.mesh, slots.take_slot(program, self._state, n))
        progress.save(self._work.checkpoints(run.plan), run, slots.with_heads_apart(slot))
        self._written[n] = now


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


def _taken_out(work, tree, n, axis=0):
    """The arrays of one slot, heads one by one; NumPy arrays where slots lie over a mesh.

    Args:
      work: the `Work`.
      tree: of all slots.
      n: the slot.
      axis: of the tasks in stacked heads of one slot.
    """
    program = work.program
    found = slots.take_slot(program, tree, n)
    if program.mesh is not None:
        return parallel.to_host(program.mesh, found)
    if program.stacked_update is None:
        return found
    # (Taken apart on the device, each array would be a call of its own.)
    return jax.tree.map(jnp.asarray, heads_apart(jax.device_get(found), axis))


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
        mesh = work.program.mesh
        like = slot if mesh is not None else slots.with_heads_apart(parallel.to_host(mesh, slot))
        found = progress.restore(work.checkpoints(plan), problem, plan, like)
        if found is not None:
            run, slot = found
            return run, _on_devices(work.program, slots.with_stacked_heads(work.program, slot))
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
