"""Estimates by group steps: what a step on a set of tasks together does to each of its members.

Inter-task affinities take the step of one task at a time, and a group is judged by their means.
Wang et al. 2024, "Towards Principled Task Grouping for Multi-Task Learning", take the step of the
group instead, which assumes nothing of how the effects of its members add up. Here a network for
all tasks is measured in the middle of its training, and every set of tasks is a source.

It is a study and no method: see "Tried and not kept" in docs/benchmark.md.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tag_jax import affinity, examples, gradients, selection, training
from tag_jax.data import Dataset
from tag_jax.grouping import Method, Proposal
from tag_jax.grouping.task_sets import all_sets
from tag_jax.problem import Batch, MultiTaskProblem
from tag_jax.selection import Candidates
from tag_jax.training import NetworkPlan, TrainingConfig
from tag_jax.training.batches import batch_rows

# The share of training after which a network is measured, on how many batches, and the step.
SHARE, BATCHES, LENGTH = 0.5, 4, 0.2


@functools.partial(jax.jit, static_argnums=0)
def step_changes(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch: Batch,
    fresh: Batch,
    sources: jax.Array,
    length: float,
    key: jax.Array,
) -> jax.Array:
    """The changes of all losses by the step of each source, in percent of these losses.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      params, model_state: of a network for all tasks.
      batch: the `Batch` of which sources take the gradient.
      fresh: the `Batch` on which losses are compared.
      sources: `[S, T]`, the weight of each task's gradient in the step of a source.
      length: of the step by the mean gradient of all tasks, in lengths of the shared parameters;
        the rate that follows is that of all sources.
      key: for dropout and the like, a scalar.

    Returns:
      `[S, T]`, negative where a loss falls; NaN where a task of the source has no label.
    """
    found, _ = gradients.task_gradients(problem, params, model_state, batch, key)
    size = len(problem.task_names)
    everything = found.combine(jnp.full(size, 1 / size))['shared']
    rate = length * optax.tree.norm(params['shared']) / optax.tree.norm(everything)
    return -100 * affinity.inter_task_affinity(
        problem, params, model_state, batch, rate, key=key, eval_batch=fresh, sources=sources
    )


def estimates(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    share: float = SHARE,
    batches: int = BATCHES,
    length: float = LENGTH,
) -> dict[str, Candidates]:
    """Scores of every set of tasks: the changes of validation losses by its steps.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: its training and validation splits are in memory.
      config: a `TrainingConfig`.
      share: of training, after which a network for all tasks is measured.
      batches: of training examples, whose steps are taken; scores are means.
      length: see `step_changes`.

    Returns:
      `{'mean': Candidates, 'sum': Candidates}` of cost 1, by how the gradients of a set become one.

    Raises:
      ValueError: if there are too many tasks, or a split is a `data.Source`.
      FloatingPointError: if a loss is not finite.
    """
    sets = all_sets(problem.task_names)
    if not all(map(examples.in_memory, (dataset.train, dataset.validation))):
        raise ValueError('group steps need splits in memory, and this is a data.Source')
    members = np.array([[task in tasks for task in problem.task_names] for tasks in sets])
    means = members / members.sum(axis=1, keepdims=True)
    sources = np.concatenate([means, members])
    train, fresh = (
        examples.as_batch(problem, part) for part in (dataset.train, dataset.validation)
    )
    brief = dataclasses.replace(
        config.measuring(window=(0, 1)), steps=max(1, round(share * config.steps))
    )
    plan = NetworkPlan('all', problem.task_names, config.seed, config.learning_rate)
    (network,) = training.train_networks(problem, dataset.train, dataset.validation, [plan], brief)
    measured, size, found = (network.params, network.model_state), examples.count(train), []
    for step in range(batches):
        # In the order of another seed: training has seen the rows, and not these batches.
        rows = batch_rows(config.seed + 2**16, step, min(config.batch_size, size), size)
        batch = jax.tree.map(lambda x, rows=rows: x[rows], train)
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        found.append(step_changes(problem, *measured, batch, fresh, sources, length, key))
    of_kinds = np.split(np.nanmean(np.asarray(found, np.float64), axis=0), 2)
    return {
        kind: Candidates(
            members, np.where(members, own, np.nan), np.ones(len(members)), problem.task_names
        )
        for kind, own in zip(('mean', 'sum'), of_kinds, strict=True)
    }


def by_size(candidates: Candidates) -> Candidates:
    """Candidates that know of a set how many tasks it has, and nothing of which ones.

    Args:
      candidates: of every set of tasks.

    Returns:
      The same with the score of a task in a set replaced by its mean over all sets of that size.
    """
    scores, sizes = candidates.scores.copy(), candidates.members.sum(axis=1)
    for size in np.unique(sizes):
        own = sizes == size
        scores[own] = np.where(candidates.members[own], np.nanmean(scores[own], axis=0), np.nan)
    return candidates.replace(scores=scores)


def method(name: str, of_seeds: Sequence[Candidates]) -> Method:
    """A method that selects by scores which are known already, for recorded tables.

    Args:
      name: of the method.
      of_seeds: `Candidates` for the seeds of the table, from 0.
    """

    def propose(searcher, budget):
        chosen = selection.select_networks(of_seeds[searcher.seed], budget)
        return Proposal(chosen.groups, chosen.serves, selection=chosen)

    return Method(name, propose, lambda *about: (), lambda searcher: of_seeds[searcher.seed])
