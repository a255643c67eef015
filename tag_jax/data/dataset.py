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
