"""Metrics and losses of networks on a split, as sums over its batches."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import examples, gradients, parallel, sharding
from tag_jax.data import Source, Split
from tag_jax.evaluation.criteria import ERROR, LOSS, RELATIVE_LOSS
from tag_jax.evaluation.prepared import PreparedSplit, prepare
from tag_jax.objectives import NotDefined
from tag_jax.problem import (
    MultiTaskProblem,
    labels_of,
    map_families,
    split_frozen,
    taken_apart,
    weights_of,
    with_frozen,
    with_trailing_axes,
)


def evaluate(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    split: Split | Source | PreparedSplit,
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """The metrics of every task on a split.

    Args:
      problem: a `MultiTaskProblem`.
      params, model_state: of one network.
      split: a `tag_jax.data.Split`, anything with the same fields, a `tag_jax.data.Source`, or a
        `PreparedSplit`.
      batch_size: examples a pass.

    Returns:
      `{task: {'error': percent, 'loss': mean loss, ...}}`; metrics of the problem name the rest. An
      error that is not defined on the split is NaN, see `left_out`.

    Raises:
      ValueError: if a metric has no error.
    """
    prepared = split if isinstance(split, PreparedSplit) else prepare(problem, split)
    networks, frozen = _placed(problem, (params, model_state), prepared)
    return scores(problem, networks, prepared, batch_size, 'unroll', frozen)[0]


def scores(
    problem: MultiTaskProblem,
    networks: tuple[Any, Any],
    prepared: PreparedSplit,
    batch_size: int,
    batching: str | int | None,
    frozen: Any = None,
) -> list[dict[str, dict[str, float]]]:
    """The metrics of S networks on a split.

    Args:
      problem: a `MultiTaskProblem`.
      networks: (params, model_state), `[S, ...]`, without frozen parameters.
      prepared: a `PreparedSplit`.
      batch_size: examples a pass.
      batching: of the networks, see `gradients.map_stacked`.
      frozen: the frozen parameters of all networks, on the device; None if there are none.

    Returns:
      A list of `{task: {'error': percent, ...}}`.

    Raises:
      ValueError: if a metric has no error.
    """
    sums = _sums_of_batches(problem, networks, prepared, batch_size, batching, frozen)
    totals = taken_apart(
        jax.tree.map(
            lambda *parts: np.sum([np.asarray(part, np.float64) for part in parts], axis=0), *sums
        ),
        axis=1,
    )
    return [
        {
            task: finished(problem, task, jax.tree.map(lambda x, n=n: x[n], totals[task]), prepared)
            for task in problem.task_names
        }
        for n in range(len(jax.tree.leaves(networks)[0]))
    ]


def sums_of_batches(
    problem: MultiTaskProblem,
    network: tuple[Any, Any],
    prepared: PreparedSplit,
    batch_size: int,
    batches: Sequence[np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """The sums behind the metrics of a network, for each batch of a split.

    Args:
      problem: a `MultiTaskProblem`.
      network: (params, model_state).
      prepared: a `PreparedSplit`.
      batch_size: examples of a batch; over a mesh, up to a multiple of its devices.
      batches: rows `[B]` of each batch, at most so many; None for neighbours, all in order.

    Returns:
      A list of `{task: sums}`; `finished` makes metrics of their total.
    """
    networks, frozen = _placed(problem, network, prepared)
    sums = _sums_of_batches(problem, networks, prepared, batch_size, 'unroll', frozen, batches)
    # (Thousands of small arrays: taken apart on the device, each would be a call of its own.)
    return [taken_apart(jax.tree.map(lambda x: x[0], found)) for found in jax.device_get(sums)]


def finished(
    problem: MultiTaskProblem, task: str, totals: Any, prepared: PreparedSplit
) -> dict[str, float]:
    """The metrics of a task, with its mean loss, also in percent of that of a constant answer.

    Args:
      problem: a `MultiTaskProblem`.
      task: its name.
      totals: the total of its sums, see `sums_of_batches`.
      prepared: the split.

    Raises:
      ValueError: if the metric has no error, or it is not defined for labels that are read as they
        are needed.
    """
    metric, sums, (losses, labels) = problem.tasks[task].metric, *totals
    reference = prepared.references.get(task)
    constant = prepared.constant_losses.get(task)
    try:
        found = metric.finish(sums) if reference is None else metric.finish(sums, reference)
    except NotDefined as error:  # Labels that are not in memory were not looked through before.
        raise ValueError(f'the targets of {task!r} will not do: {error}') from error
    if 'error' not in found:
        raise ValueError(
            f'the metric of {task!r} gives no "error", in percent, which every metric has to: it '
            f'gives {", ".join(map(repr, found)) or "nothing"}'
        )
    loss = float(np.sum(losses) / max(labels, 1))
    relative = {} if constant is None else {RELATIVE_LOSS: 100 * loss / constant}
    undefined = {ERROR: math.nan} if task in prepared.left_out else {}
    return {**found, **undefined, LOSS: loss, **relative}


def _placed(problem, network, prepared):
    """(One network `[1, ...]`, its frozen parameters) on the devices that a split lies on."""
    mesh = prepared.examples.mesh
    parts = sharding.parts_of(problem, mesh, prepared.shard_parameters)
    params, model_state = network
    model_state, frozen = split_frozen(model_state)
    networks = jax.tree.map(lambda x: x[None], (params, model_state))
    placed = sharding.place(mesh, parts, {'frozen': frozen})['frozen']
    return sharding.place(mesh, parts, networks, None), placed


def _sums_of_batches(problem, networks, prepared, batch_size, batching, frozen, batches=None):
    """The `batch_sums` of each batch of a split, with a leading axis S."""
    size, mesh = prepared.examples.size, prepared.examples.mesh
    devices = parallel.size(mesh, parallel.BATCH)
    batch_size = -(-min(batch_size, size) // devices) * devices
    if batches is None:
        batches = [
            np.arange(start, min(start + batch_size, size)) for start in range(0, size, batch_size)
        ]
    # Every batch has as many places: what stands in those that are left over does not count.
    counts = [np.arange(batch_size) < len(rows) for rows in batches]
    rows = [np.pad(rows, (0, batch_size - len(rows)), mode='edge') for rows in batches]
    windows = examples.windows(prepared.examples, rows)
    found = []
    for own, (batch, places) in zip(counts, windows, strict=True):
        found.append(_metric_sums(problem, networks, frozen, batch, places, own, batching, mesh))
        if mesh is not None:
            # With dozens of computations on their way, two processes may work on different ones,
            # and wait for each other for ever.
            jax.block_until_ready(found[-1])
    return found


@functools.partial(jax.jit, static_argnames=('problem', 'batching', 'mesh'))
def _metric_sums(problem, networks, frozen, split, rows, counts, batching, mesh):
    """The `batch_sums` of S networks over the rows of a split that count, with a leading axis S."""
    batch = parallel.constrain(mesh, jax.tree.map(lambda x: x[rows], split), parallel.BATCH)

    def sums_of(network):
        params, model_state = network
        return batch_sums(problem, (params, with_frozen(model_state, frozen)), batch, counts)

    sums = gradients.map_stacked(sums_of, networks, batching)
    return parallel.constrain(mesh, sums)


def batch_sums(problem, network, batch, counts):
    """The sums of one network over the examples of a batch that count; see `map_families`."""
    outputs = problem.predict(*network, batch.inputs)

    def of_task(task, row):
        output, target, mask = row
        weights = weights_of(mask)
        target, known = labels_of(target, mask)
        objective = problem.tasks[task]
        known &= with_trailing_axes(counts, known.ndim)
        losses = gradients.weighed(objective.loss(output, target), weights)
        return objective.metric.sums(output, target, known), _loss_sums(losses, known)

    columns = outputs, *batch.columns(problem.task_names)
    return map_families(of_task, columns, problem.programs)


def _loss_sums(losses, mask):
    """Sums of losses where there is a label, and the number of labels.

    Rows of images stay apart: float32 loses digits in a sum over all of their pixels.
    """
    mask = jnp.broadcast_to(with_trailing_axes(mask, losses.ndim), losses.shape)
    axes = (0, *range(2, losses.ndim))
    return jnp.sum(jnp.where(mask, losses, 0), axis=axes), jnp.sum(mask)
