"""Several splits of the same examples: the problem and data of each, and whether they differ."""

import dataclasses
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tag_jax.data import Dataset
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import MOST_SEEDS, TrainingConfig

MOST_SPLITS = 100


class OfSplit(NamedTuple):
    """The problem, data and settings of one split.

    Attributes:
      problem: a `MultiTaskProblem`.
      dataset: a `Dataset`.
      config: a `TrainingConfig` with its first seed.
      sizes: `{cost: problem}`.
    """

    problem: Any
    dataset: Any
    config: TrainingConfig
    sizes: Mapping[float, Any]


def of_splits(
    problem: MultiTaskProblem | Callable[[Dataset], MultiTaskProblem],
    dataset: Dataset | Callable[[int], Dataset],
    config: TrainingConfig,
    sizes: Mapping[float, Any],
    splits: int,
) -> Iterator[OfSplit]:
    """Makes the problem, data and settings of each split.

    Args:
      problem, dataset, config, sizes, splits: see `compare_groupings`.

    Yields:
      An `OfSplit` for each. Splits have seeds of their own, so that what differs between them is
      what another split and other seeds would change.

    Raises:
      ValueError: if there are several splits of one dataset, or they have different tasks.
    """
    whole = isinstance(splits, numbers.Integral) and not isinstance(splits, bool)
    if not whole or not 1 <= splits <= MOST_SPLITS:
        raise ValueError(f'splits must be an integer from 1 to {MOST_SPLITS}, not {splits!r}')
    if splits > 1 and not callable(dataset):
        raise ValueError(
            'one dataset is one split: give a function of the number of the split in its place, as '
            'lambda n: data.from_arrays(inputs, targets, tasks, seed=n)'
        )
    first = None
    for split in range(splits):
        own = dataset(split) if callable(dataset) else dataset
        made = _made(problem, own)
        first = first or made
        if splits > 1 and getattr(made, 'task_names', ()) != getattr(first, 'task_names', ()):
            raise ValueError(
                f'the tasks of split {split} are {", ".join(made.task_names)}, and those of split '
                f'0 {", ".join(first.task_names)}: all splits must have the same'
            )
        yield OfSplit(
            made,
            own,
            dataclasses.replace(config, seed=config.seed + split * MOST_SEEDS),
            {cost: _made(other, own) for cost, other in dict(sizes or {}).items()},
        )


def _made(problem, dataset):
    """A problem, or what a function makes of the dataset."""
    if isinstance(problem, MultiTaskProblem) or not callable(problem):
        return problem
    return problem(dataset)


def check_unlike(subjects: Sequence[Mapping[str, str]]) -> None:
    """Raises ValueError if two splits are the same.

    Args:
      subjects: the checksums of the data of each split.
    """
    for second, subject in enumerate(subjects):
        if subject in subjects[:second]:
            raise ValueError(
                f'the splits {subjects.index(subject)} and {second} are the same: let the dataset '
                'follow from the number of the split, as data.from_arrays(..., seed=n) or fold=(n, '
                f'{len(subjects)})'
            )
