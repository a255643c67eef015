"""Means with their standard errors, and correlations."""

import numpy as np
from numpy.typing import ArrayLike


def mean_and_error(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Means over the first axis, and their standard errors.

    Args:
      values: `[S, ...]`, of S seeds, say.

    Returns:
      Means `[...]` and standard errors `[...]`; NaN for a single one.
    """
    values = np.asarray(values, np.float64)
    size = len(values)
    spread = np.std(values, axis=0, ddof=1) if size > 1 else np.full(values.shape[1:], np.nan)
    return np.mean(values, axis=0), spread / np.sqrt(size)


def mean_of_known(values: ArrayLike) -> np.ndarray:
    """Means over the entries of the first axis that are finite.

    Args:
      values: `[S, ...]`.

    Returns:
      Means `[...]`; NaN where no entry is finite.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    means = np.where(known, values, 0).sum(axis=0) / np.maximum(counts, 1)
    return np.where(counts > 0, means, np.nan)


def correlation(left: ArrayLike, right: ArrayLike) -> float:
    """Pearson's r over the entries that both have; NaN below three of them, or without spread.

    Args:
      left, right: `[N]`, NaN where there is no entry.
    """
    left, right = np.asarray(left), np.asarray(right)
    known = np.isfinite(left) & np.isfinite(right)
    left, right = left[known], right[known]
    if len(left) < 3 or left.std() == 0 or right.std() == 0:
        return float('nan')
    return float(np.corrcoef(left, right)[0, 1])
