"""Examples of one split behind those of another one with the same tasks."""

import jax
import numpy as np

from tag_jax.data.dataset import Split
from tag_jax.data.source import Source


def append(first: Split | Source, second: Split | Source) -> Split | Source:
    """Puts the examples of a split behind those of another one with the same tasks.

    Such as those of validation behind those of training, to train on both.

    Args:
      first, second: of one structure; their examples are of one shape.

    Returns:
      A `Split`, or a `Source` if one of the two is.

    Raises:
      ValueError: if inputs or tasks differ; for a `Source` that is found when examples are read.
    """
    if isinstance(first, Source) or isinstance(second, Source):
        return _source(first, second)
    if first.targets.keys() != second.targets.keys():
        raise ValueError(
            f'targets of {", ".join(first.targets)} and of {", ".join(second.targets)} are not '
            'those of the same tasks'
        )
    masked = {*(first.mask or {}), *(second.mask or {})}
    parts = [
        Split(
            own.inputs,
            dict(own.targets),
            {task: _known(own, task, other) for task in own.targets if task in masked} or None,
        )
        for own, other in ((first, second), (second, first))
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _known(split, task, other):
    """The mask of a task, true wherever only the other split has one."""
    if task in (split.mask or {}):
        return np.asarray(split.mask[task], bool)
    return np.ones((len(split.targets[task]), *np.shape(other.mask[task])[1:]), bool)


def _source(first, second):
    parts = [first, second]
    sizes = [
        len(part) if isinstance(part, Source) else len(next(iter(part.targets.values())))
        for part in parts
    ]

    def decode(row):
        place = int(row >= sizes[0])
        part, row = parts[place], row - place * sizes[0]
        if isinstance(part, Source):
            return part[row]
        return jax.tree.map(lambda array: np.asarray(array)[row], part)

    def labelled(tasks):
        return np.concatenate([first.labelled(tasks), sizes[0] + second.labelled(tasks)])

    known = all(isinstance(part, Source) and part.labelled is not None for part in parts)
    return Source(decode, sum(sizes), labelled=labelled if known else None)
