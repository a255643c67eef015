"""The steps at which a trained network is kept: one for its tasks together, or one for each."""

from collections.abc import Mapping
from typing import Any

import jax

from tag_jax import evaluation
from tag_jax.data import Source, Split
from tag_jax.problem import MultiTaskProblem, with_frozen
from tag_jax.training.config import TrainedNetwork
from tag_jax.training.progress import Progress, best_of_tasks


def copies(
    network: TrainedNetwork,
    run: Progress,
    arrays: tuple[Any, Any],
    frozen: Any,
    select_by: str,
) -> tuple[TrainedNetwork, ...]:
    """A network at the best step of each of its tasks, where that is not the step it is kept at.

    Args:
      network: the `TrainedNetwork`, at the step that is best for its tasks together.
      run: its `Progress` at the end.
      arrays: (params, model state) at the best step of each task, `[T, ...]`, without frozen
        parameters.
      frozen: these, which all steps share; None if there are none.
      select_by: of `evaluation.CRITERIA`.

    Returns:
      The `TrainedNetwork` at each such step, with the validation scores of the tasks that it is
      kept for.
    """
    own = {task: step for task, (step, _) in best_of_tasks(run, select_by).items()}
    records = {record.step: record for record in run.records}
    found = []
    for step in sorted(set(own.values()) - {network.best_step}):
        tasks = [task for task in network.plan.tasks if own.get(task) == step]
        column = run.affinities.task_names.index(tasks[0])
        params, model_state = jax.tree.map(lambda x, column=column: x[column], arrays)
        found.append(
            network._replace(
                plan=network.plan._replace(measures_affinity=False),
                params=params,
                model_state=with_frozen(model_state, frozen),
                validation={task: _scores(records[step], task) for task in tasks},
                best_step=step,
                affinities=None,
            )
        )
    return tuple(found)


def kept(network: TrainedNetwork) -> tuple[tuple[TrainedNetwork, tuple[str, ...]], ...]:
    """A network at every step at which it is kept, with the tasks that it is kept for there.

    Args:
      network: a `TrainedNetwork`.

    Returns:
      Pairs of a `TrainedNetwork` and names of tasks. Each task of the network is in one of them.
    """
    elsewhere = {task for copy in network.copies for task in copy.validation}
    rest = tuple(task for task in network.plan.tasks if task not in elsewhere)
    pairs = [(network, rest), *((copy, tuple(copy.validation)) for copy in network.copies)]
    return tuple((one, tasks) for one, tasks in pairs if tasks)


def validation_scores(network: TrainedNetwork) -> dict[str, Mapping[str, float]]:
    """The validation scores of each task of a network, at the step at which it is kept for it.

    Args:
      network: a `TrainedNetwork`.
    """
    found = {task: one.validation[task] for one, tasks in kept(network) for task in tasks}
    return {task: found[task] for task in network.plan.tasks}


def evaluate(
    problem: MultiTaskProblem,
    network: TrainedNetwork,
    split: Split | Source | evaluation.PreparedSplit,
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """The metrics of each task of a network, at the step at which it is kept for it.

    Args:
      problem: the `MultiTaskProblem` that was trained.
      network: a `TrainedNetwork`.
      split, batch_size: see `evaluation.evaluate`.
    """
    found = {}
    for one, tasks in kept(network):
        scores = evaluation.evaluate(problem, one.params, one.model_state, split, batch_size)
        found |= {task: scores[task] for task in tasks}
    return {task: found[task] for task in network.plan.tasks}


def _scores(record, task):
    """The scores of a task in a `Record`, by their names."""
    found = {name: record.validation(name) for name in evaluation.CRITERIA}
    return {name: of_tasks[task] for name, of_tasks in found.items() if task in of_tasks}
