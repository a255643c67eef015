"""Predicts the losses of networks for all sets of tasks from one trained network.

A network near parameters theta answers f(x) + J(x) (theta' - theta). With that in place of the
network, training on a set of tasks is a convex problem in a few random directions of the encoder
and in the parameters of the heads, whose solution takes milliseconds: one step of Newton's method.
The losses of the answers that follow, on validation, are estimates of those that the set's own
network would reach (the idea of GradEx, Li et al. 2024, and Grad-TAG, KDD 2024; here features are
forward derivatives, heads move too, and nothing is drawn but the directions).
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from tag_jax import evaluation, examples, training
from tag_jax.data import Dataset
from tag_jax.grouping.task_sets import all_sets
from tag_jax.problem import MultiTaskProblem
from tag_jax.selection import Candidates
from tag_jax.training import NetworkPlan, TrainingConfig

# Examples of a pass, and sets whose problems are solved at once.
_BATCH, _SETS = 256, 64
# Networks that are linearised, directions of their encoder, and the ridge.
BASES, DIRECTIONS, RIDGE = 3, 96, 0.05


# Kinds of tasks with one answer and one label an example.
_KINDS = ('classification', 'binary', 'regression')


def can_be_linearised(dataset: Dataset) -> bool:
    """Whether `grouping.linearised` is for this data.

    It has to be in memory, with one answer an example, and the validation labels of no task may all
    be the same: estimates are relative to the best constant answer.

    Args:
      dataset: a `tag_jax.data.Dataset`.
    """
    splits = dataset.train, dataset.validation
    if not all(map(examples.in_memory, splits)):
        return False
    return all(
        objective.kind in _KINDS and _varies(dataset.validation, task)
        for task, objective in dataset.tasks.items()
    )


def _varies(split, task):
    """Whether the labels of a task in a split are not all the same."""
    labels, mask = np.asarray(split.targets[task]), (split.mask or {}).get(task)
    return len(np.unique(labels if mask is None else labels[np.asarray(mask, bool)], axis=0)) > 1


class _Task(NamedTuple):
    """The quadratic model of a task's training loss, heads solved for; and its validation data.

    Attributes:
      matrix: `[d, d]`, curvature in the directions of the encoder.
      vector: `[d]`, the slope there.
      outputs: `[V, C]`, validation outputs once the head has moved alone.
      features: `[V, C, d]`, how they change with the encoder, the head following.
      target, mask: of the V validation examples.
    """

    matrix: np.ndarray
    vector: np.ndarray
    outputs: np.ndarray
    features: np.ndarray
    target: np.ndarray
    mask: np.ndarray


def linearised_losses(
    problem: MultiTaskProblem,
    network: tuple[Any, Any],
    dataset: Dataset,
    directions: int,
    ridge: float,
    seed: int,
) -> Candidates:
    """Estimates the validation losses of networks for every set of tasks.

    Args:
      problem: a `MultiTaskProblem` with T tasks, whose outputs are `[B, C]`, with one label an
        example.
      network: (params, model_state), trained for a while on all tasks.
      dataset: its training and validation splits are in memory.
      directions: d, how many random ones of the encoder take part; of a head with more parameters
        as many.
      ridge: what is added to curvatures, in units of their mean.
      seed: of the directions.

    Returns:
      `Candidates` of cost 1, scored in percent of the losses of the best constant answers.

    Raises:
      ValueError: if outputs or labels have other shapes, or a split is a `data.Source`.
    """
    sets = all_sets(problem.task_names)
    members = np.array([[task in tasks for task in problem.task_names] for tasks in sets])
    tasks = _quadratics(problem, network, dataset, directions, ridge, seed)
    constants = evaluation.constant_losses(problem, dataset.validation)
    scores = np.full(members.shape, np.nan)
    matrices = np.stack([tasks[task].matrix for task in problem.task_names])
    vectors = np.stack([tasks[task].vector for task in problem.task_names])
    identity = ridge * np.eye(matrices.shape[-1])
    for start in range(0, len(members), _SETS):
        some = members[start : start + _SETS]
        left = np.einsum('nt,tij->nij', some.astype(float), matrices) + identity
        moves = -np.linalg.solve(left, (some.astype(float) @ vectors)[..., None])[..., 0]
        for n, task in enumerate(problem.task_names):
            own = np.flatnonzero(some[:, n])
            # (All moves, so that one program serves every task and number of sets.)
            moved = np.resize(moves, (_SETS, moves.shape[1]))
            losses = np.asarray(_losses_after(problem.tasks[task].loss, tasks[task], moved))
            scores[start + own, n] = 100 * losses[own] / constants[task]
    return Candidates(members, scores, np.ones(len(members)), problem.task_names)


def estimate(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    *,
    bases: int = BASES,
    directions: int = DIRECTIONS,
    ridge: float = RIDGE,
) -> tuple[Candidates, int]:
    """Trains networks for all tasks, and averages the estimates that follow from each.

    Args:
      problem: a `MultiTaskProblem`.
      dataset: see `linearised_losses`.
      config: a `TrainingConfig` of few steps.
      bases: how many networks, of different seeds.
      directions, ridge: see `linearised_losses`.

    Returns:
      `Candidates` of cost 1, and the network-steps that it took.

    Raises:
      ValueError: before any training, if all validation labels of a task are the same; and see
        `linearised_losses`.
      FloatingPointError: if a loss is not finite.
    """
    for task in problem.task_names if examples.in_memory(dataset.validation) else ():
        if not _varies(dataset.validation, task):
            raise ValueError(
                f'all labels of {task!r} in the validation split are the same, and linearised '
                'estimates are relative to the best constant answer: take another method, or let '
                'splits be stratified by the task (stratify=)'
            )
    # (The next seeds are those of a comparison.)
    seeds = [(config.seed + n * 2**16) % 2**32 for n in range(bases)]
    plans = [
        NetworkPlan(f'base {n}', problem.task_names, seed, config.learning_rate)
        for n, seed in enumerate(seeds)
    ]
    networks = training.train_networks(problem, dataset.train, dataset.validation, plans, config)
    found = [
        linearised_losses(problem, (one.params, one.model_state), dataset, directions, ridge, seed)
        for one, seed in zip(networks, seeds, strict=True)
    ]
    mean = found[0].replace(scores=np.mean([one.scores for one in found], axis=0))
    return mean, sum(one.steps for one in networks)


def _quadratics(problem, network, dataset, directions, ridge, seed) -> Mapping[str, _Task]:
    """`{task: _Task}`."""
    params, model_state = network
    keys = jax.random.split(jax.random.key(seed), 1 + len(problem.task_names))
    shared = _directions(keys[0], params['shared'], directions)
    size = min(directions, max(_size(head) for head in params['heads'].values()))
    heads = {
        task: _head_directions(key, params['heads'][task], size)
        for key, task in zip(keys[1:], problem.task_names, strict=True)
    }
    derive = lambda inputs: _features(problem, params, model_state, inputs, shared, heads)
    sums = None
    for batch in _batches(problem, dataset.train):
        found = _sums(problem, batch, derive(batch.inputs))
        sums = found if sums is None else jax.tree.map(np.add, sums, found)
    sums = {
        task: [part / max(count, 1) for part in parts] for task, (count, *parts) in sums.items()
    }
    scale = np.sqrt(np.mean([np.trace(h_ww) / len(h_ww) for _, _, h_ww, *_ in sums.values()]))
    parts = [(batch, derive(batch.inputs)) for batch in _batches(problem, dataset.validation)]
    return {
        task: _solved_for_head(task, sums[task], float(scale) or 1.0, parts, ridge)
        for task in problem.task_names
    }


@functools.partial(jax.jit, static_argnums=0)
def _features(problem, params, model_state, inputs, shared, heads):
    """`{task: (outputs [B, C], encoder features [B, C, d], head features [B, C, h])}`."""

    def answer(shared, heads):
        found = problem.predict({'shared': shared, 'heads': heads}, model_state, inputs)
        return {task: _checked_outputs(task, output) for task, output in found.items()}

    outputs, push = jax.linearize(answer, params['shared'], params['heads'])
    still_heads = jax.tree.map(jnp.zeros_like, params['heads'])
    still_shared = jax.tree.map(jnp.zeros_like, params['shared'])
    by_shared = jax.lax.map(lambda way: push(way, still_heads), shared)
    by_heads = jax.lax.map(lambda way: push(still_shared, way), heads)
    last = lambda x: jnp.moveaxis(x, 0, -1)
    return {task: (outputs[task], last(by_shared[task]), last(by_heads[task])) for task in outputs}


def _checked_outputs(task, output):
    """Outputs, if they are `[B, C]`."""
    if output.ndim != 2:
        raise ValueError(
            f'linearised estimates need outputs [B, C], and {task!r} has {output.ndim} axes'
        )
    return output


def _directions(key, tree, count):
    """Random directions `[count, ...]` in the space of some parameters."""
    flat, restore = ravel_pytree(tree)
    drawn = jax.random.normal(key, (count, flat.size), flat.dtype) / np.sqrt(max(flat.size, 1))
    return jax.vmap(restore)(drawn)


def _head_directions(key, head, count):
    """The coordinates of a head, where there are no more than `count`; else random directions."""
    flat, restore = ravel_pytree(head)
    if flat.size > count:
        return _directions(key, head, count)
    return jax.vmap(restore)(jnp.eye(count, flat.size, dtype=flat.dtype))


def _size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _batches(problem, split):
    """`Batch`es of a split."""
    if not examples.in_memory(split):
        raise ValueError('linearised estimates need splits in memory, and this is a data.Source')
    batch = examples.as_batch(problem, split)
    size = examples.count(batch)
    for start in range(0, size, _BATCH):
        yield jax.tree.map(lambda x, at=start: x[at : at + _BATCH], batch)


def _sums(problem, batch, features):
    """`{task: (labels, g_w, g_v, H_ww, H_wv, H_vv)}`: sums over the labels of a batch."""
    found = {}
    for task, (outputs, by_shared, by_head) in features.items():
        target, mask = batch.labels(task)
        if mask.ndim != 1:
            raise ValueError(f'linearised estimates need one label an example: leave {task!r} out')
        weights = batch.weights(task)
        counts = np.asarray(mask, np.float64) * (1 if weights is None else np.asarray(weights))
        slope, curvature = _derivatives(problem.tasks[task].loss, outputs, target, mask)
        slope, curvature = (
            np.asarray(x, np.float64) * counts.reshape(-1, *[1] * (x.ndim - 1))
            for x in (slope, curvature)
        )
        w, v = (np.asarray(x, np.float64) for x in (by_shared, by_head))
        curved = np.einsum('bcd,bci->bdi', curvature, w)
        found[task] = (
            counts.sum(),
            np.einsum('bc,bci->i', slope, w),
            np.einsum('bc,bci->i', slope, v),
            np.tensordot(w, curved, ((0, 1), (0, 1))),
            np.tensordot(curved, v, ((0, 1), (0, 1))),
            np.tensordot(v, np.einsum('bcd,bci->bdi', curvature, v), ((0, 1), (0, 1))),
        )
    return found


@functools.partial(jax.jit, static_argnums=0)
def _derivatives(loss, outputs, target, mask):
    """The slopes `[B, C]` and curvatures `[B, C, C]` of a loss in the outputs; no negative ones."""
    target = jnp.where(mask.reshape(-1, *[1] * (target.ndim - 1)), target, jnp.zeros_like(target))

    def of_example(output, label):
        return jnp.sum(loss(output[None], label[None]))

    slope = jax.vmap(jax.grad(of_example))(outputs, target)
    curvature = jax.vmap(jax.hessian(of_example))(outputs, target)
    values, vectors = jnp.linalg.eigh(curvature)
    return slope, jnp.einsum('bij,bj,bkj->bik', vectors, jnp.maximum(values, 0), vectors)


def _solved_for_head(task, sums, scale, parts, ridge):
    """The `_Task` in which the head is at its best for every move of the encoder."""
    g_w, g_v, h_ww, h_wv, h_vv = sums
    g_w, h_ww, h_wv = g_w / scale, h_ww / scale**2, h_wv / scale
    own = np.sqrt(np.trace(h_vv) / len(h_vv)) or 1.0
    g_v, h_wv, h_vv = g_v / own, h_wv / own, h_vv / own**2
    inverse = np.linalg.inv(h_vv + ridge * np.eye(len(h_vv)))
    outputs, features, targets, masks = [], [], [], []
    for batch, found in parts:
        base, w, v = (np.asarray(x, np.float64) for x in found[task])
        w, v = w / scale, v / own
        outputs.append(base - v @ (inverse @ g_v))
        features.append(w - v @ (inverse @ h_wv.T))
        target, mask = batch.labels(task)
        targets.append(np.asarray(target))
        masks.append(np.asarray(mask))
    return _Task(
        h_ww - h_wv @ inverse @ h_wv.T,
        g_w - h_wv @ (inverse @ g_v),
        *(np.concatenate(x) for x in (outputs, features, targets, masks)),
    )


def _losses_after(loss, task, moves):
    """The mean validation losses after moves `[N, d]` of the encoder, `[N]`."""
    known = task.mask.reshape(-1, *[1] * (task.target.ndim - 1))
    target = np.where(known, task.target, np.zeros_like(task.target))
    return _mean_losses(loss, task.outputs, task.features, target, task.mask, moves)


@functools.partial(jax.jit, static_argnums=0)
def _mean_losses(loss, outputs, features, target, mask, moves):
    def after(move):
        losses = loss((outputs + features @ move).astype(jnp.float32), target)
        losses = losses.reshape(len(losses), -1).mean(axis=1)
        return jnp.sum(jnp.where(mask, losses, 0)) / jnp.maximum(jnp.sum(mask), 1)

    return jax.lax.map(after, moves)
