"""Rows of a table for training, validation and test."""

from collections.abc import Sequence

import numpy as np

SPLITS = ('train', 'validation', 'test')


def random_rows(size: int, fractions: Sequence[float], seed: int) -> dict[str, np.ndarray]:
    """Splits rows at random.

    Args:
      size: how many there are.
      fractions: of the three splits, positive; their sum counts as all rows.
      seed: of the draw.

    Returns:
      `{split: integers}`.

    Raises:
      ValueError: if these are not three positive numbers.
    """
    if np.shape(fractions) != (3,) or not all(0 < part < np.inf for part in fractions):
        raise ValueError(
            f'the fractions must be three positive numbers, for {", ".join(SPLITS)}, not '
            f'{fractions!r}'
        )
    ends = np.cumsum(fractions) / np.sum(fractions)
    parts = np.split(
        np.random.default_rng(seed).permutation(size), np.rint(ends * size).astype(int)
    )
    return dict(zip(SPLITS, parts[:3], strict=True))
