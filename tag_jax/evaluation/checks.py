"""Whether a split fits a problem at all."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import examples, gradients
from tag_jax.data import Source, Split
from tag_jax.evaluation.prepared import references
from tag_jax.evaluation.scores import batch_sums
from tag_jax.objectives.objective import has_loss_of_ours
from tag_jax.problem import MultiTaskProblem
from tag_jax.problem.unfit import UNFIT, first_line, taking


def check_splits(problem: MultiTaskProblem, dataset: Any) -> None:
    """Raises ValueError unless networks can be trained and judged on the splits of a dataset.

    Args:
      problem: a `MultiTaskProblem`.
      dataset: a `tag_jax.data.Dataset`, or anything with its three splits.
    """
    check_split(problem, dataset.train, 'train')
    for name in ('validation', 'test'):
        check_split(problem, getattr(dataset, name), name, judges=True)


def check_split(
    problem: MultiTaskProblem, split: Split | Source, name: str, judges: bool = False
) -> None:
    """Raises ValueError, with a sentence, unless a split can be trained and evaluated on.

    It needs arrays of one length, N > 0, whose finite targets fit the losses and metrics of every
    task, and at least one label of every task. Nothing is computed but shapes and sums of targets.
    Of a `tag_jax.data.Source` the first examples are looked at, in which labels may be missing.

    Args:
      problem: a `MultiTaskProblem`.
      split: a `tag_jax.data.Split`, anything with the same fields, or a `Source`.
      name: what to call it in the error.
      judges: whether networks are only judged on it: then the errors of some tasks, but not of
        all, may not be defined there (`left_out`).
    """
    _ = problem.shapes  # What is wrong with the problem itself is no fault of the split.
    whole = examples.in_memory(split)
    if not whole and not hasattr(split, 'read'):
        raise ValueError(
            f'the {name} split must be a data.Split or a data.Source, not {type(split).__name__}'
        )
    if not whole and not len(split):
        raise ValueError(f'the {name} split has no examples')
    split = examples.sample(split)
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(split.inputs)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            f'the inputs of the {name} split must be arrays of one length, examples first'
        )
    ((size,),) = lengths
    if not size:
        raise ValueError(f'the {name} split has no examples')
    _check_entries(problem, split, name)
    batch = examples.as_batch(problem, split)
    for leaf in jax.tree.leaves(batch.inputs):
        if not _is_real(leaf):
            raise ValueError(f'the {name} split has inputs that are no numbers: {leaf.dtype}')
        if not _finite(leaf):
            raise ValueError(f'the {name} split has inputs that are not finite')
    for task, target in batch.targets.items():
        _check_labels(task, target, (batch.mask or {}).get(task), size, name, whole)
    try:
        if whole:
            _check_defined(references(problem, batch)[1], len(problem.tasks), judges)
        _check_shapes(problem, jax.tree.map(lambda x: x[:1], batch))
        _check_examples_stay_apart(problem, batch)
    except UNFIT as error:
        raise ValueError(
            f'the {name} split does not fit the problem: {first_line(error)}'
        ) from error


def _check_entries(problem, split, name):
    """Raises ValueError unless there are targets of every task, and masks of tasks only."""
    masks = {} if split.mask is None else split.mask
    for what, part in (('targets', split.targets), ('masks', masks)):
        if not isinstance(part, Mapping):
            raise ValueError(f'the {what} of the {name} split must be a dict, an entry a task')
    for task in problem.task_names:
        if task not in split.targets:
            raise ValueError(
                f'the {name} split has no targets for the task {task!r}: it has those of '
                f'{", ".join(map(str, split.targets)) or "no task"}'
            )
    for task in masks:
        if task not in split.targets:
            raise ValueError(f'the {name} split has a mask for {task!r}, which is not a task')


def _check_defined(without, num_tasks, judges):
    """Raises ValueError at tasks whose errors are not defined, if all have to be, or none is.

    Args:
      without: see `left_out`.
      num_tasks: T.
      judges: see `check_split`.
    """
    if not without or (judges and len(without) < num_tasks):
        return
    task, why = next(iter(without.items()))
    none = 'no task can be judged on it; ' * (len(without) == num_tasks > 1)
    raise ValueError(f'{none}the targets of {task!r} will not do: {why}')


def _check_labels(task, target, mask, size, name, whole):
    """Raises ValueError unless the targets and the mask of a task are whole."""
    if target.shape[:1] != (size,):
        raise ValueError(
            f'the {name} split has {size} inputs, but targets {list(target.shape)} for {task!r}'
        )
    if not _is_real(target):
        raise ValueError(
            f'the {name} split has targets of {task!r} that are no numbers: {target.dtype}'
        )
    weights = mask is not None and mask.dtype != bool
    if weights and not (_is_real(mask) and _finite(mask) and (mask >= 0).all()):
        raise ValueError(
            f'the {name} split has a mask of {task!r} that is neither true or false nor weights of '
            'labels, finite and at least 0'
        )
    if mask is None:
        labelled = target
    elif mask.shape[:1] != (size,) or mask.shape != target.shape[: mask.ndim]:
        raise ValueError(
            f'the {name} split has targets {list(target.shape)}, '
            f'but a mask {list(mask.shape)} for {task!r}'
        )
    else:
        labelled = np.asarray(target)[np.asarray(mask, bool)]
    if whole and not labelled.size:
        raise ValueError(f'the task {task!r} has no label in the {name} split')
    if not _finite(labelled):
        raise ValueError(
            f'the {name} split has targets of {task!r} that are not finite: '
            'put examples without a label behind a mask'
        )


def _check_shapes(problem, batch):
    """Goes through the losses and the metrics of a batch with shapes only."""
    network = problem.shapes
    encode = lambda *network: problem.represent(*network, batch.inputs, False, None)
    with taking('the encoder', batch.inputs):
        representation, _ = jax.eval_shape(encode, *network)
    for path, leaf in jax.tree_util.tree_leaves_with_path(representation):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f'the representation has a part{jax.tree_util.keystr(path)} of {leaf.dtype}, which '
                'has no gradient: let the encoder return numbers only'
            )
    try:
        _check_losses(problem, network, batch)
    except UNFIT:
        for task in problem.task_names:
            try:
                _check_losses(_only(problem, task), network, batch)
            except UNFIT as error:
                line = first_line(error)
                of = '' if repr(task) in line else f'of the task {task!r}, '
                raise ValueError(f'{of}{line}') from error
        raise
    jax.eval_shape(lambda *network: batch_sums(problem, network, batch, np.ones(1, bool)), *network)


def _check_examples_stay_apart(problem, batch):
    """Raises ValueError at a loss of an example that depends on another one.

    A mean over the batch has the shape of a loss where it is broadcast, `(z[B, 1] - t[B]) ** 2`.
    Losses of `objectives` are known not to do so.
    """
    tasks = [task for task, objective in problem.tasks.items() if not has_loss_of_ours(objective)]
    inputs = jax.tree.map(lambda x: x[:2], batch.inputs)
    if not tasks or len(jax.tree.leaves(inputs)[0]) < 2:
        return
    shapes = jax.eval_shape(lambda *network: problem.predict(*network, inputs), *problem.shapes)
    for n, task in enumerate(tasks):
        target, _ = batch.labels(task)
        outputs = [_noise(shapes[task], seed) for seed in (n, n + 1)]
        mixed = jax.tree.map(lambda a, b: np.concatenate([a[:1], b[1:]]), *outputs)
        first, other = (
            np.asarray(problem.tasks[task].loss(z, target[:2]))[0] for z in (outputs[0], mixed)
        )
        if np.isfinite([first, other]).all() and not np.allclose(first, other, rtol=1e-3):
            raise ValueError(
                f'the loss of {task!r} for one example depends on the others: it must give a '
                'number for each example, and no mean over them'
            )


def _noise(shapes, seed):
    """Random outputs of some shapes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda z: rng.normal(size=z.shape).astype(z.dtype), shapes)


def _check_losses(problem, network, batch):
    key = jax.random.key(0)
    jax.eval_shape(lambda *network: gradients.task_losses(problem, *network, batch, key), *network)


def _only(problem, task):
    """The problem with one of its tasks; parameters and state are as before."""
    tasks, decode = {task: problem.tasks[task]}, {task: problem.decode[task]}
    return dataclasses.replace(problem, tasks=tasks, decode=decode)


def _is_real(array):
    kinds = jnp.floating, jnp.integer, jnp.bool_
    return any(jnp.issubdtype(array.dtype, kind) for kind in kinds)


def _finite(array):
    return not jnp.issubdtype(array.dtype, jnp.floating) or bool(np.isfinite(array).all())
