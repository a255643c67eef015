"""Folds of rows, and the splits that are made of them."""

import numpy as np

# Folds are dealt to splits anew at most so often, until every split has every class.
DRAWS = 1000


def classes_of(blocks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which blocks of rows have which classes, bool `[B, C]`.

    Args:
      blocks: the number of the group, or the fold, of each row, int `[N]`.
      labels: the number of its class, int `[N]`; -1 where it has no label.
    """
    found = np.zeros((blocks.max() + 1, labels.max() + 1), bool)
    found[blocks[labels >= 0], labels[labels >= 0]] = True
    return found


def deal(
    owners: np.ndarray, classes: np.ndarray, state: np.random.RandomState
) -> tuple[np.ndarray, int | None]:
    """Deals folds to parts, such that every part has every class.

    Folds are alike in size and in labels, so any of them may go to any part: others than those that
    come first are drawn where these lack a class.

    Args:
      owners: the part of each fold at first, int `[F]`.
      classes: which folds have which classes, bool `[F, C]`.
      state: of the draws.

    Returns:
      int `[F]`; and a class that some part lacks in all draws, else None.
    """
    lost = None
    for _ in range(DRAWS):
        has = [classes[owners == part].any(axis=0) for part in np.unique(owners)]
        lacking = np.flatnonzero(~np.all(has, axis=0))
        if not len(lacking):
            return owners, None
        lost = int(lacking[0])
        owners = state.permutation(owners)
    return owners, lost


def folds_of_parts(shares: np.ndarray, most: int) -> list[int]:
    """The number of folds of each part whose shares are the nearest; of equal ones the fewest.

    Args:
      shares: of the parts, `[P]`, whose sum is 1.
      most: folds of all parts together.
    """
    best = None
    for count in range(len(shares), most + 1):
        parts = np.maximum(1, np.floor(shares * count).astype(int))
        while parts.sum() < count:
            parts[np.argmax(shares * count - parts)] += 1
        while parts.sum() > count:
            parts[np.argmax(parts - shares * count - 2 * (parts == 1))] -= 1
        error = np.abs(parts / count - shares).max()
        if best is None or error < best[0] - 1e-12:
            best = error, parts.tolist()
    return best[1]
