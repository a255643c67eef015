"""Labels that examples have of several tasks at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# So many pairs of tasks are named in a sentence.
MOST_PAIRS = 4


def label_overlaps(split: Any, tasks: Sequence[str]) -> np.ndarray | None:
    """Counts the examples that have labels of two tasks, for each pair of tasks.

    Where two tasks share no example, nothing that is computed on a batch sees both at one input.

    Args:
      split: a `Split` in memory, or a `Source`.
      tasks: T names.

    Returns:
      Integers `[T, T]`, symmetric, with the examples that have a label of a task on the diagonal;
      an example with a label of any pixel or token counts. None for a `Source` that does not know
      its labels.
    """
    if hasattr(split, 'inputs'):
        size = len(np.asarray(split.targets[tasks[0]]))
        masks = split.mask or {}
        known = [has_label(masks.get(task), size) for task in tasks]
    elif getattr(split, 'labelled', None) is None:
        return None
    else:
        rows = [split.labelled((task,)) for task in tasks]
        known = [np.isin(np.arange(len(split)), own) for own in rows]
    together = np.array(known, np.float64)  # (Exact, and faster than integers.)
    return np.rint(together @ together.T).astype(np.int64)


def has_label(mask: Any, size: int) -> np.ndarray:
    """Says which examples have a label of a task, bool `[N]`.

    Args:
      mask: bool `[N, ...]`, or None where all have one.
      size: N.
    """
    if mask is None:
        return np.ones(size, bool)
    return np.asarray(mask, bool).reshape(size, -1).any(axis=1)


def pairs_apart(overlaps: np.ndarray | None, tasks: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of tasks that share no example.

    Args:
      overlaps: what `label_overlaps` gives.
      tasks: T names.
    """
    if overlaps is None:
        return []
    return [(tasks[i], tasks[j]) for i, j in np.argwhere(np.triu(overlaps == 0, k=1)).tolist()]


def describe_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """Names the first few pairs of tasks, and counts the others.

    Args:
      pairs: of task names.
    """
    some = ', '.join(f'{one} and {other}' for one, other in pairs[:MOST_PAIRS])
    more = len(pairs) - MOST_PAIRS
    return some if more <= 0 else f'{some} (and {more} more pairs)'
