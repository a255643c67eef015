"""The parts of every objective: a loss, a metric, and how its answers are read."""

import json
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class NotDefined(ValueError):
    """A measure is not defined for the labels that a task has in a split, though they are sound.

    On validation and test splits such a task is left out of totals, for all networks alike.
    """


class Metric(NamedTuple):
    """A measure of success that is a function of sums over examples.

    Attributes:
      sums: `(output [B, ...], target [B, ...], mask bool [B, ...]) -> pytree of arrays`, sums over
        the labelled examples or pixels; runs inside jit. Sums of several batches are added in
        float64. The mask has the leading axes of the target, or the first of them only.
      finish: `sums -> {name: float}` in NumPy. The entry 'error' is the task's error in percent;
        the others are in natural units.
      reference: None, or `(target [N, ...], mask bool [N, ...]) -> value` in NumPy, over a whole
        split. It raises ValueError if the task cannot have such targets, before any training, and
        `NotDefined` if it can, but the error is not defined for them. Its value, unless None, is
        the second argument of `finish`: NaN where it is not defined. A split that is not in memory
        has none: every `finish` here does without.
    """

    sums: Callable
    finish: Callable
    reference: Callable | None = None


class Objective(NamedTuple):
    """The goal of a task: its loss, its metric, and how its answers are read.

    Attributes:
      width: the number of outputs that the head needs.
      loss: `(output [B, width], target) -> [B]`; where an example has several labels (pixels,
        tokens), one number for each of them, `[B, ...]`.
      metric: a `Metric`.
      kind: a word for it.
      answer: `output [N, ..., width] -> [N, ...]` in NumPy, what the head says: numbers of classes,
        or values; None for the outputs as they are.
      probabilities: `output [N, ..., width] -> [N, ..., C]` in NumPy; None if it has none.
      options: JSON types that tell it from others of its kind, such as weights of classes; a score
        table keeps networks of different objectives apart by them.
    """

    width: int
    loss: Callable
    metric: Metric
    kind: str = 'custom'
    answer: Callable | None = None
    probabilities: Callable | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self):
        return f'Objective({self.kind}, width {self.width})'


def check_tasks(tasks: Mapping[str, Any]) -> None:
    """Raises ValueError unless tasks are `{task: Objective}`, at least one, with names of text.

    Args:
      tasks: what was given.
    """
    if not isinstance(tasks, Mapping):
        raise ValueError(
            f'tasks must be a dict {{task: objective}}, not {type(tasks).__name__}: give '
            "{'colour': objectives.classification(3)}"
        )
    if not tasks:
        raise ValueError('a problem needs at least one task')
    for name, objective in tasks.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f'the name of a task must be text, not {name!r}')
        if parts := _spelled_by(name, [other for other in tasks if other != name]):
            raise ValueError(
                f'the task {name!r} is called like the set of the tasks {", ".join(parts)}, which '
                'are joined by + in names of networks: rename it'
            )
        if not all(hasattr(objective, part) for part in ('width', 'loss', 'metric')):
            raise ValueError(
                f'the task {name!r} must be an objective, not {objective!r}: make it with '
                'objectives.classification(3), objectives.regression() or another'
            )
        if not callable(objective.loss):
            raise ValueError(f'the loss of {name!r} must be a function, not {objective.loss!r}')
        if not (hasattr(objective.metric, 'sums') and hasattr(objective.metric, 'finish')):
            raise ValueError(
                f'the metric of {name!r} has no sums and finish: use a tag_jax.objectives.Metric'
            )


def _spelled_by(text, names):
    """The names that make up a text when + joins them; [] if none do."""
    for name in names:
        if text == name:
            return [name]
        if text.startswith(f'{name}+') and (rest := _spelled_by(text[len(name) + 1 :], names)):
            return [name, *rest]
    return []


def has_loss_of_ours(objective: Any) -> bool:
    """Whether the loss of an objective is one that `objectives` makes, and nobody's own.

    Args:
      objective: an `Objective`.
    """
    return _is_ours(objective.loss)


def _is_ours(function):
    return str(getattr(function, '__module__', '')).startswith('tag_jax.objectives.')


def program_of(objective: Any) -> Hashable:
    """A key that objectives have in common if their losses and sums are the same functions.

    Args:
      objective: an `Objective`.
    """
    functions = objective.loss, objective.metric.sums
    if not all(map(_is_ours, functions)):
        return functions  # Nobody knows what they close over.
    names = tuple(function.__qualname__ for function in functions)
    options = json.dumps(dict(objective.options), sort_keys=True)
    return names, objective.kind, objective.width, options


def share_right(totals, reference=None):
    """The error and the accuracy of labels that are right or wrong."""
    del reference
    labels, right = float(totals['labels']), float(totals['right'])
    return {'error': 100 * (labels - right) / labels, 'accuracy': right / labels}
