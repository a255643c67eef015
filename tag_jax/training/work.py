"""The work that workers (`worker.py`) share: a program, its data, and how many they are."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tag_jax import evaluation, examples, parallel, sharding
from tag_jax.training import slots
from tag_jax.training.capacity import batching_of, num_slots, num_workers
from tag_jax.training.checks import splits_of_steps
from tag_jax.training.config import EACH_TASK, NetworkPlan, TrainingConfig


class Work(NamedTuple):
    """The work that all workers share.

    Attributes:
      program: a `slots.Program`.
      config: a `TrainingConfig`.
      num_slots: of each worker.
      num_workers: how many there are.
      train: the training split, ready for computing.
      validation: the validation split, prepared for evaluation.
      watched: a split that is evaluated for the records only, or None.
      checkpoints: plan -> folder of its checkpoints, or None.
      frozen: the frozen parameters of all networks; None if there are none.
      frozen_on_device: the same where they are computed with, once on each device.
    """

    program: slots.Program
    config: TrainingConfig
    num_slots: int
    num_workers: int
    train: examples.Examples
    validation: evaluation.PreparedSplit
    watched: evaluation.PreparedSplit | None
    checkpoints: Callable[[NetworkPlan], Any] | None
    frozen: Any
    frozen_on_device: Any

    @property
    def splits(self):
        """See `splits_of_steps`."""
        return splits_of_steps(self.config, self.train, self.validation.examples)

    @property
    def chunk(self) -> int:
        """The steps between two evaluations."""
        return min(self.config.eval_every, self.config.steps)

    @property
    def batch_size(self) -> int:
        """The examples of a step: no more than there are."""
        return min(self.config.batch_size, self.train.size)

    def labelled(self) -> list[Callable[[tuple[str, ...]], np.ndarray | None]]:
        """For each split of a step, `tasks -> rows` that have a label of them; None for all."""
        return [
            functools.cache(functools.partial(examples.labelled_rows, split))
            for split in self.splits
        ]


def make_work(problem, splits, config, num_networks, measures=False, checkpoints=None) -> Work:
    """Compiles nothing yet, and puts the data where it is computed with.

    Args:
      problem: a `MultiTaskProblem`.
      splits: for training, for validation, and one that is watched, or None.
      config: a `TrainingConfig`.
      num_networks: K.
      measures: whether one of them measures affinities.
      checkpoints: see `Work`.
    """
    train_split, validation_split, watched_split = splits
    shapes = examples.input_shapes(train_split)
    mesh = parallel.make_mesh(config.mesh)
    parts = sharding.parts_of(problem, mesh, config.shard_parameters)
    slots_each = num_slots(problem, num_networks, shapes, config)
    prepare = lambda split: evaluation.prepare(problem, split, mesh, config.select_by)
    frozen, frozen_on_device = _frozen(problem, mesh, parts)
    return Work(
        program=slots.Program(
            problem=problem,
            weighting=config.weighting,
            optimizer=config.optimizer,
            batching=batching_of(problem, shapes, mesh),
            ragged=config.steps % min(config.eval_every, config.steps) != 0,
            measurement=config.affinity.compiled if measures else None,
            if_not_finite=config.if_not_finite,
            mesh=mesh,
            parts=parts,
            each_task=config.keep == EACH_TASK,
        ),
        config=config,
        num_slots=slots_each,
        num_workers=num_workers(config, num_networks, slots_each),
        train=examples.examples(problem, train_split, mesh),
        validation=prepare(validation_split),
        watched=None if watched_split is None else prepare(watched_split),
        checkpoints=checkpoints,
        frozen=frozen,
        frozen_on_device=frozen_on_device,
    )


def _frozen(problem, mesh, parts):
    """Frozen parameters as networks are returned with them, and where they are computed with."""
    if problem.frozen is None:
        return None, None
    values = problem.frozen.values()
    placed = sharding.place(mesh, parts, {'frozen': values})['frozen']
    return (placed if mesh is None else values), placed


def advance(work, state, schedule):
    """`slots.advance` over a schedule, as many steps at a time as their examples allow.

    Returns:
      The slots, and their `slots.Outputs` as NumPy arrays.
    """
    steps, num_slots, batch_size = schedule.rows.shape
    size = min(
        examples.steps_of_windows(split, steps, num_slots * batch_size) for split in work.splits
    )
    pieces = [
        jax.tree.map(lambda x, at=start: x[at : at + size], schedule)
        for start in range(0, steps, size)
    ]
    train, *validation = (
        examples.windows(split, [piece[n] for piece in pieces])
        for n, split in enumerate(work.splits)
    )
    outputs = []
    for piece, own, other in zip(
        pieces, train, validation[0] if validation else itertools.repeat((None, None)), strict=False
    ):
        data, rows = zip(own, other, strict=True)
        piece = piece._replace(rows=rows[0], validation_rows=rows[1])
        state, output = slots.advance(work.program, state, data, piece, work.frozen_on_device)
        outputs.append(output)
    return state, jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


def with_settings(function: Callable) -> Callable:
    """A function for another thread, in which JAX is set as it is in this one.

    Args:
      function: of any arguments.
    """
    wide, precision = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    device = jax.config.jax_default_device

    def in_thread(*arguments):
        with (
            jax.enable_x64(wide),
            jax.default_matmul_precision(precision),
            jax.default_device(device),
        ):
            return function(*arguments)

    return in_thread
