"""DigitAttributes: nine yes-no questions about one handwritten digit, with few examples.

A hard problem for grouping: capacity is short and the good groups are not obvious. The digits are
the 1,797 scans that scikit-learn embeds (UCI test set, E. Alpaydin and C. Kaynak 1998).
"""

import numpy as np

from tag_jax import objectives
from tag_jax.data.dataset import Dataset, Split

_ATTRIBUTES = {
    'even': (0, 2, 4, 6, 8),
    'at_least_5': (5, 6, 7, 8, 9),
    'loop': (0, 6, 8, 9),
    'prime': (2, 3, 5, 7),
    'straight': (1, 4, 7),
    'square': (0, 1, 4, 9),
    'symmetric': (0, 1, 3, 8),
    'multiple_of_3': (0, 3, 6, 9),
    'curved_and_odd': (3, 5, 9),
}


def digit_attributes(num_train: int = 250, num_validation: int = 400, seed: int = 0) -> Dataset:
    """Builds DigitAttributes.

    Nine two-way classifications of a digit: whether it is even, at least 5, prime, a square number
    or a multiple of 3; whether its shape has a closed loop (0, 6, 8, 9), straight strokes (1, 4,
    7), or is symmetric (0, 1, 3, 8); whether it is curved and odd (3, 5, 9).

    Args:
      num_train, num_validation: examples in these splits; the test split has the rest.
      seed: of the split; the same for every run by default.

    Returns:
      A `Dataset` with inputs float32 `[N, 8, 8, 1]` in [0, 1] and targets int32 `[N]`.

    Raises:
      ValueError: if there are not that many scans.
    """
    from sklearn.datasets import load_digits  # Slow to import.

    digits = load_digits()
    scans = (digits.images / 16).astype(np.float32)[..., None]
    if not 0 < num_train + num_validation < len(scans):
        raise ValueError(
            f'there are {len(scans)} scans: no test split is left beside {num_train} for training '
            f'and {num_validation} for validation'
        )
    shuffled = np.random.default_rng(seed).permutation(len(scans))
    rows = np.split(shuffled, [num_train, num_train + num_validation])
    splits = (
        Split(
            scans[part],
            {
                name: np.isin(digits.target[part], members).astype(np.int32)
                for name, members in _ATTRIBUTES.items()
            },
        )
        for part in rows
    )
    tasks = dict.fromkeys(_ATTRIBUTES, objectives.classification(2))
    return Dataset('digit_attributes', tasks, *splits)
