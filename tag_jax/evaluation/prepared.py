"""A split that is ready to be evaluated on."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from tag_jax import examples
from tag_jax.data import Source, Split
from tag_jax.evaluation.constant_loss import constant_losses
from tag_jax.evaluation.criteria import RELATIVE_LOSS
from tag_jax.objectives import NotDefined
from tag_jax.problem import MultiTaskProblem


class PreparedSplit(NamedTuple):
    """A split that is ready to be evaluated on.

    Attributes:
      examples: `examples.Examples`.
      references: what the metrics of some tasks need to know of the whole split.
      constant_losses: `{task: loss}` of the best constant answers; empty where not asked for.
      shard_parameters: how networks that are evaluated on it lie over the mesh of its examples,
        see `TrainingConfig.shard_parameters`.
      left_out: `{task: why}` of the tasks whose error is not defined on it, see `left_out`.
    """

    examples: examples.Examples
    references: Mapping[str, Any]
    constant_losses: Mapping[str, float] = MappingProxyType({})
    shard_parameters: Any = False
    left_out: Mapping[str, str] = MappingProxyType({})


def prepare(
    problem: MultiTaskProblem,
    split: Split | Source,
    mesh: Mesh | None = None,
    select_by: str = 'error',
    shard_parameters: Any = False,
) -> PreparedSplit:
    """Puts a split on the device, with what the metrics need to know of it as a whole.

    (A `tag_jax.data.Source` stays where it is, and metrics do without.)

    Args:
      problem: a `MultiTaskProblem`.
      split: see `evaluate`.
      mesh: the devices on which it is to be, see `parallel`; None for one.
      select_by: what networks are chosen by, of CRITERIA: for 'relative_loss' the losses of the
        best constant answers are found as well.
      shard_parameters: how networks are to lie over the mesh, see `PreparedSplit`.

    Raises:
      ValueError: if a task cannot have the targets that it has there, or losses cannot be relative.
    """
    found = examples.examples(problem, split, mesh)
    known, without = ({}, {}) if found.source else references(problem, found.batch)
    constants = constant_losses(problem, split) if select_by == RELATIVE_LOSS else {}
    return PreparedSplit(found, known, constants, shard_parameters, without)


def left_out(problem: MultiTaskProblem, split: Split | Source) -> dict[str, str]:
    """The tasks whose error is not defined on a split, `{task: why}`: totals leave them out.

    That follows from the labels alone, so it is the same for all networks.

    Args:
      problem: a `MultiTaskProblem`.
      split: with its labels in memory; of a `tag_jax.data.Source` none is known.

    Raises:
      ValueError: if a task cannot have the targets that it has there.
    """
    if not examples.in_memory(split):
        return {}
    return references(problem, examples.as_batch(problem, split))[1]


def references(problem, batch):
    """`{task: reference}` for the metrics that look at a whole split, and `left_out`.

    A loss of `objectives` looks at its targets as well, whatever the metric.
    """
    references, without = {}, {}
    for task in problem.task_names:
        reference = getattr(problem.tasks[task].metric, 'reference', None)
        check = getattr(problem.tasks[task].loss, 'check_targets', None)
        if reference or check:
            target = np.asarray(batch.targets[task])
            mask = np.ones(target.shape[:1], bool)
            if batch.mask is not None and task in batch.mask:
                mask = np.asarray(batch.mask[task], bool)
            try:
                if check and check is not reference:
                    check(target, mask)
                if reference:
                    references[task] = reference(target, mask)
            except NotDefined as error:
                references[task], without[task] = math.nan, str(error)
            except ValueError as error:
                raise ValueError(f'the targets of {task!r} will not do: {error}') from error
    return references, without
