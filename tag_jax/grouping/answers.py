"""Answers of networks in class names and natural units."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax.data import Encoding
from tag_jax.data.encoding import decode_target


def answers(
    tasks: Mapping[str, Any], encoding: Encoding | None, outputs: Mapping[str, Any]
) -> dict[str, Any]:
    """The answers of heads, as people read them.

    Args:
      tasks: `{task: Objective}`.
      encoding: of the dataset; None where it had none.
      outputs: `{task: [N, ...]}`, what the heads give.

    Returns:
      `{task: [N, ...]}`: classes by their names, or by number where there are none; values in
      natural units, `[N]` for one value an example; the outputs themselves of an objective without
      answers.

    Raises:
      ValueError: if an output is not finite.
    """
    return {
        task: _answer(task, tasks[task], encoding and encoding.targets.get(task), output)
        for task, output in outputs.items()
    }


def probabilities(tasks: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The probabilities of classes, of the tasks that have any.

    Args:
      tasks: `{task: Objective}`.
      outputs: `{task: [N, ...]}`, what the heads give.

    Returns:
      `{task: [N, ..., C]}`, classes in their order.

    Raises:
      ValueError: if an output is not finite.
    """
    found = {}
    for task, output in outputs.items():
        if tasks[task].probabilities is not None:
            _check_finite(task, output)
            found[task] = tasks[task].probabilities(np.asarray(output, np.float64))
    return found


def served_outputs(groups: Any, predictors: Any, inputs: Any) -> dict[str, Any]:
    """The outputs of the heads, each task from the network that serves it.

    Args:
      groups: a `Group` for each network.
      predictors: for each network, `inputs [N, ...] -> {task: [N, ...]}`.
      inputs: as networks see them.
    """
    found = {}
    for group, predict in zip(groups, predictors, strict=True):
        if group.serves:
            given: Mapping = predict(inputs)
            found |= {task: given[task] for task in group.serves}
    return found


def at_own_steps(
    predictors: Sequence[Callable[[Any], dict[str, Any]]], tasks: Sequence[Sequence[str]]
) -> Callable[[Any], dict[str, Any]]:
    """A network that is kept at several steps as one function: each task from its own step.

    Args:
      predictors: `inputs [N, ...] -> {task: [N, ...]}`, first at the step of most heads.
      tasks: those that the others answer, for each of them.
    """
    first, *others = predictors
    if not others:
        return first

    def predict(inputs):
        found = dict(first(inputs))
        for one, own in zip(others, tasks, strict=True):
            outputs = one(inputs)
            found |= {task: outputs[task] for task in own}
        return found

    return predict


def _check_finite(task, output):
    """Raises ValueError at outputs that are not finite: NaN would be class number 0."""
    bad = ~np.isfinite(output).reshape(len(output), -1).all(axis=1)
    if bad.any():
        raise ValueError(
            f'the network has no answer for {task!r} in row {np.flatnonzero(bad)[0] + 1}: its '
            'output is not finite. Look for NaN, very large numbers or unknown tokens in that row'
        )


def _answer(task, objective, target, output):
    answer: Callable | None = objective.answer
    if answer is None:
        return output
    _check_finite(task, np.asarray(output))
    found = answer(np.asarray(output))
    return found if target is None else decode_target(target, found)
