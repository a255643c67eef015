"""The form that every dataset has."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Examples of one split, as NumPy arrays with N rows.

    (One example of a `Source` has the same form without the leading axis.)

    Attributes:
      inputs: array `[N, ...]`, or a pytree of such arrays.
      targets: `{task: [N, ...]}`.
      mask: `{task: bool [N] or [N, H, W]}`, true where a label exists; None where all do.
    """

    inputs: Any
    targets: Mapping[str, Any]
    mask: Mapping[str, Any] | None = None

    def only(self, tasks: Sequence[str]) -> 'Split':
        """The same examples with some of the tasks."""
        return Split(
            self.inputs,
            {task: self.targets[task] for task in tasks},
            self.mask and {task: self.mask[task] for task in tasks if task in self.mask},
        )


class TaskKind(NamedTuple):
    """What a task asks for.

    Attributes:
      kind: 'classification', 'regression' and so on, as `tag_jax.objectives.objective` takes it.
      size: the number of classes, or of regressed values (for each pixel, where labels are images).
    """

    kind: str
    size: int


class Dataset(NamedTuple):
    """A dataset with several tasks.

    Attributes:
      name: its name in reports.
      tasks: `{task: TaskKind}`.
      train, validation, test: each a `Split` in memory, or a `tag_jax.data.Source` of examples that
        are decoded when they are asked for. Training and selection see the first two only.
      encoding: a `tag_jax.data.Encoding`, what raw columns became of; None where there were none.
    """

    name: str
    tasks: Mapping[str, TaskKind]
    train: Any
    validation: Any
    test: Any
    encoding: Any = None

    def only(self, tasks: Sequence[str]) -> 'Dataset':
        """The same examples with some of the tasks. Raises ValueError if one does not exist."""
        for task in tasks:
            if task not in self.tasks:
                raise ValueError(
                    f'{self.name} has no task {task!r}: choose from {", ".join(self.tasks)}'
                )
        if not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f'name at least one task, and none twice: not {list(tasks)}')
        splits = (self.train, self.validation, self.test)
        return Dataset(
            self.name,
            {task: self.tasks[task] for task in tasks},
            *(split.only(tasks) for split in splits),
            self.encoding and self.encoding.only(tasks),
        )
