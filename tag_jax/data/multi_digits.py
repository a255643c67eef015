"""MultiDigits: two real handwritten digits on one canvas, eight tasks, no download.

The construction of MultiMNIST (Sener & Koltun 2018, Section 4.1) from the 8 x 8 digits that
scikit-learn embeds (1,797 scans of the UCI test set, E. Alpaydin and C. Kaynak 1998): one digit in
the top left corner and one in the bottom right corner of a 12 x 12 canvas; where they overlap, the
brighter pixel stays.
"""

import numpy as np

from tag_jax import objectives
from tag_jax.data.dataset import Dataset, Split

_LABELS = {
    'digit': (lambda digit: digit, 10),
    'even': (lambda digit: digit % 2 == 0, 2),
    'at_least_5': (lambda digit: digit >= 5, 2),
    'loop': (lambda digit: np.isin(digit, (0, 6, 8, 9)), 2),
}


def multi_digits(
    num_train: int = 20_000, num_validation: int = 4_000, num_test: int = 4_000, seed: int = 0
) -> Dataset:
    """Builds MultiDigits.

    Eight classification tasks, for the left and for the right digit: the digit itself, whether it
    is even, whether it is at least 5, and whether its shape has a closed loop (0, 6, 8, 9).

    Source digits are split 60 : 20 : 20 at random, so that no scan is in two splits; the two
    digits of an example are drawn independently from its split.

    Args:
      num_train, num_validation, num_test: examples in each split.
      seed: of the split and of the pairs; the same for every run by default, so that seeds of a
        run are seeds of training only.

    Returns:
      A `Dataset` with inputs float32 `[N, 12, 12, 1]` in [0, 1] and targets int32 `[N]`.
    """
    from sklearn.datasets import load_digits  # Slow to import.

    digits = load_digits()
    scans, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int32)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(scans))
    sources = np.split(shuffled, [len(scans) * 6 // 10, len(scans) * 8 // 10])
    splits = (
        _pairs(rng, scans[source], labels[source], size)
        for source, size in zip(sources, (num_train, num_validation, num_test), strict=True)
    )
    tasks = {
        f'{side}_{name}': objectives.classification(num_classes)
        for side in ('left', 'right')
        for name, (_, num_classes) in _LABELS.items()
    }
    return Dataset('multi_digits', tasks, *splits)


def _pairs(rng, scans, labels, size):
    """`size` canvases from random pairs of scans, with the labels of all tasks."""
    left, right = rng.integers(len(scans), size=(2, size))
    canvas = np.zeros((size, 12, 12, 1), np.float32)
    canvas[:, :8, :8, 0] = scans[left]
    canvas[:, 4:, 4:, 0] = np.maximum(canvas[:, 4:, 4:, 0], scans[right])
    targets = {
        f'{side}_{name}': label(digit).astype(np.int32)
        for side, digit in (('left', labels[left]), ('right', labels[right]))
        for name, (label, _) in _LABELS.items()
    }
    return Split(canvas, targets)
