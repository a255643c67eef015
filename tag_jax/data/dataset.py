"""The form that every dataset has."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tag_jax.objectives import Objective


class Split(NamedTuple):
    """Examples of one split, as NumPy arrays with N rows.

    (One example of a `Source` has the same form without the leading axis.)

    Attributes:
      inputs: array `[N, ...]`, or a pytree of such arrays.
      targets: `{task: [N, ...]}`.
      mask: `{task: bool [N] or [N, H, W]}`, true where a label exists; None where all do. Numbers
        in place of bool are weights of the labels: the loss of a label is multiplied by its weight,
        and 0 is no label. Errors and metrics count every label alike.
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


class Dataset(NamedTuple):
    """A dataset with several tasks.

    Attributes:
      name: its name in reports.
      tasks: `{task: Objective}`, see `tag_jax.objectives`.
      train, validation, test: each a `Split` in memory, or a `tag_jax.data.Source` of examples that
        are decoded when they are asked for. Training and selection see the first two only.
      encoding: a `tag_jax.data.Encoding`, what raw columns became of; None where there were none.
      test_groups: int `[N]`, the group of each test example, where rows were split by groups:
        intervals over test examples then draw whole groups. Else None.
      reading: `{entry: value}` of config.json, JSON types, that say how a table was read and split;
        None where a run need not record it.
    """

    name: str
    tasks: Mapping[str, Objective]
    train: Any
    validation: Any
    test: Any
    encoding: Any = None
    test_groups: Any = None
    reading: Any = None

    @property
    def example_inputs(self) -> Any:
        """The inputs of one training example, `[1, ...]`, or a pytree of such arrays."""
        if hasattr(self.train, 'inputs'):
            return first_rows(self.train.inputs, 1)
        return first_rows(self.train.read([0]).inputs, 1)

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
            self.test_groups,
            self.reading,
        )


def first_rows(inputs: Any, count: int) -> Any:
    """The first rows of arrays, which may be nested in dicts, lists and tuples.

    Args:
      inputs: array `[N, ...]`, or a pytree of such arrays.
      count: how many rows.
    """
    if isinstance(inputs, Mapping):
        return {name: first_rows(part, count) for name, part in inputs.items()}
    if isinstance(inputs, tuple | list):
        parts = [first_rows(part, count) for part in inputs]
        return type(inputs)(*parts) if hasattr(inputs, '_fields') else type(inputs)(parts)
    return inputs[:count]
