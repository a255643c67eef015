"""The form that every dataset has."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Examples of one split, as NumPy arrays with N rows.

    Attributes:
      inputs: array `[N, ...]`, or a pytree of such arrays.
      targets: `{task: [N, ...]}`.
      mask: `{task: bool [N] or [N, H, W]}`, true where a label exists; None where all do.
    """

    inputs: Any
    targets: Mapping[str, Any]
    mask: Mapping[str, Any] | None = None


class TaskKind(NamedTuple):
    """What a task asks for.

    Attributes:
      kind: 'classification' or 'regression', as `tag_jax.objectives.objective` takes it.
      size: the number of classes, or of regressed values.
    """

    kind: str
    size: int


class Dataset(NamedTuple):
    """A dataset with several tasks.

    Attributes:
      name: its name in reports.
      tasks: `{task: TaskKind}`.
      train, validation, test: three `Split`s. Training and selection see the first two only.
    """

    name: str
    tasks: Mapping[str, TaskKind]
    train: Split
    validation: Split
    test: Split

    def only(self, tasks):
        """The same examples with some of the tasks. Raises ValueError if one does not exist."""
        for task in tasks:
            if task not in self.tasks:
                raise ValueError(
                    f'{self.name} has no task {task!r}: choose from {", ".join(self.tasks)}'
                )
        if not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f'name at least one task, and none twice: not {list(tasks)}')
        split = lambda s: Split(
            s.inputs,
            {task: s.targets[task] for task in tasks},
            s.mask and {task: s.mask[task] for task in tasks if task in s.mask},
        )
        return Dataset(
            self.name,
            {task: self.tasks[task] for task in tasks},
            *map(split, (self.train, self.validation, self.test)),
        )
