"""Groups of rows, and the splits that they are dealt to."""

import numpy as np


def classes_of(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which groups of rows have which classes, bool `[G, C]`.

    Args:
      groups: the number of the group of each row, int `[N]`.
      labels: the number of its class, int `[N]`; -1 where it has no label.
    """
    found = np.zeros((groups.max() + 1, labels.max() + 1), bool)
    found[groups[labels >= 0], labels[labels >= 0]] = True
    return found


def spread(
    owners: np.ndarray, count: int, classes: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, int | None]:
    """Moves groups until every part has every class, the smallest groups first.

    A part gives only what it can spare: no class that it has leaves it.

    Args:
      owners: the part of each group, int `[G]`.
      count: of the parts.
      classes: which groups have which classes, bool `[G, C]`.
      sizes: rows of each group, `[G]`.

    Returns:
      The part of each group, int `[G]`; and a class that could not come into all parts, else None.
    """
    owners = owners.copy()
    members = np.stack([classes[owners == part].sum(axis=0) for part in range(count)])
    for part, lacking in np.argwhere(members == 0):
        if members[part, lacking]:  # A group that came for another class has it.
            continue
        spared = ~(classes & (members[owners] < 2)).any(axis=1)
        able = np.flatnonzero(classes[:, lacking] & spared)
        if not len(able):
            return owners, int(lacking)
        moved = able[np.argmin(sizes[able])]
        members[owners[moved]] -= classes[moved]
        members[part] += classes[moved]
        owners[moved] = part
    return owners, None


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
