"""Rows of each split: at random, whole groups, with alike labels, or in the order of time.

Splits, and the folds of a cross-validation, are parts that rows are cut into by the same rules.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.data.columns import Column
from tag_jax.data.dealing import classes_of, folds_of_parts, spread
from tag_jax.data.encoding import Rows

SPLITS = ('train', 'validation', 'test')
# The labels of a regression are stratified in so many bins.
BINS = 10
# Groups are stratified in at most so many folds, of which splits are made.
MOST_FOLDS = 20


class Strata(NamedTuple):
    """A task whose labels are to be alike in all splits.

    Attributes:
      task: its name.
      column: its labels, `[N]`.
      are_classes: whether they are classes, and not values.
    """

    task: str
    column: Column
    are_classes: bool


def check_together(rules: Mapping[str, Any], split: str = 'split') -> None:
    """Raises ValueError at rules of a split that exclude each other.

    Args:
      rules: `{argument: value}` of groups, stratify, order, fold and split; None for none.
      split: what says of which split a row is, for the error message.
    """
    given = {name for name, rule in rules.items() if rule is not None}
    if 'split' in given and given & {'groups', 'stratify', 'order', 'fold'}:
        raise ValueError(
            f'{split} says of which split a row is: leave groups, stratify, order and fold out'
        )
    if 'order' in given and given & {'groups', 'stratify'}:
        raise ValueError(
            'order cannot be combined with groups or stratify, which take rows out of their order: '
            'give one or the other'
        )
    if 'order' in given and 'fold' in given:
        raise ValueError(
            'order cannot be combined with fold, which tests on rows of all times: leave one out'
        )


def split_rows(
    size: int,
    fractions: Sequence[float],
    seed: int,
    groups: Column | None = None,
    stratify: Strata | None = None,
    order: Column | None = None,
    fold: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """Splits rows.

    Rows without a label of the task of `stratify` are split at random. Where groups are to have
    alike labels, scikit-learn's `StratifiedGroupKFold` makes up to `MOST_FOLDS` folds, and
    fractions are met as nearly as whole folds can.

    Args:
      size: how many there are.
      fractions: of the three splits, positive; their sum counts as all rows.
      seed: of the draw. With `order` nothing is drawn.
      groups: the group of each row; no group is in two splits.
      stratify: the task whose classes have alike shares in all splits. Values are put into `BINS`
        bins of as many rows, and these have alike shares.
      order: numbers or dates, by which the first rows are training rows and the last ones test
        rows. Rows of one moment stay in one split.
      fold: (k, K): of K folds of as many rows, which the seed draws by the same rules, the k-th
        from 0 is the test split; the other rows are for training and validation, as the first two
        fractions say.

    Returns:
      `{split: integers}`.

    Raises:
      ValueError: if the fractions are not three positive numbers, `order` comes with another rule,
        a row has no group or no place in the order, a class has too few rows, the fold is none, or
        a split would be empty.
    """
    ends = _ends(fractions)
    check_together({'groups': groups, 'stratify': stratify, 'order': order, 'fold': fold})
    if order is not None:
        found, whole = _in_order(order, ends), 'moment in order'
    else:
        rules = seed, groups, stratify
        whole = None if groups is None else 'group'
        if fold is None:
            parts = _parts(np.arange(size), ends, SPLITS, *rules)
        else:
            parts = _of_fold(size, ends, fold, *rules)
        found = dict(zip(SPLITS, parts, strict=True))
    for split, rows in found.items():
        if not len(rows):
            stays = f'; every {whole} stays in one split' if whole else ''
            raise ValueError(
                f'the {split} split of {size} examples has none: give it a larger fraction{stays}'
            )
    return found


def _ends(fractions):
    """The ends of the splits, as shares of all rows `[3]`."""
    if np.shape(fractions) != (3,) or not all(0 < part < np.inf for part in fractions):
        raise ValueError(
            f'the fractions must be three positive numbers, for {", ".join(SPLITS)}, not '
            f'{fractions!r}'
        )
    return np.cumsum(fractions) / np.sum(fractions)


def _of_fold(size, ends, fold, seed, groups, stratify):
    """The rows of the three splits: one fold, and the others cut into two."""
    number, count = _checked_fold(fold)
    names = [f'fold {n}' for n in range(count)]
    folds = _parts(np.arange(size), np.arange(1, count + 1) / count, names, seed, groups, stratify)
    rest = np.sort(np.concatenate([rows for n, rows in enumerate(folds) if n != number]))
    train, validation = _parts(
        rest,
        ends[:2] / ends[1],
        SPLITS[:2],
        seed,
        None if groups is None else _some(groups, rest),
        None if stratify is None else stratify._replace(column=_some(stratify.column, rest)),
    )
    return train, validation, folds[number]


def _checked_fold(fold):
    whole = lambda n: isinstance(n, int | np.integer) and not isinstance(n, bool)
    pair = isinstance(fold, tuple | list) and len(fold) == 2 and all(map(whole, fold))
    if not pair or not 0 <= fold[0] < fold[1] or fold[1] < 2:
        raise ValueError(
            f'fold must be (k, K), the k-th from 0 of K folds, at least two, not {fold!r}'
        )
    return fold


def _some(column, rows):
    return column._replace(values=column.values[rows], missing=column.missing[rows])


def _parts(rows, ends, names, seed, groups, stratify):
    """Rows cut into parts by a rule, a list of integers.

    Args:
      rows: integers `[N]`.
      ends: of the parts, as shares of all rows.
      names: of the parts, for errors.
      seed: of the draw.
      groups, stratify: see `split_rows`; a value for each of the rows.
    """
    if stratify is not None:
        found = _stratified(len(rows), ends, names, seed, groups, stratify)
    elif groups is not None:
        blocks = _blocks(groups, 'groups', 'group')
        places = np.random.default_rng(seed).permutation(blocks.max() + 1)
        found = _cut(places[blocks], ends)
    else:
        found = _at_random(len(rows), ends, seed)
    return [rows[part] for part in found]


def _at_random(size, ends, seed):
    rows = np.random.default_rng(seed).permutation(size)
    return np.split(rows, np.rint(ends * size).astype(int))[: len(ends)]


def groups_of(column: Column | None, rows: np.ndarray) -> np.ndarray | None:
    """The number of the group of some rows, `[N]`; None without groups.

    Args:
      column: the group of each row of all, or None.
      rows: integers `[N]`.
    """
    return None if column is None else _blocks(_some(column, rows), 'groups', 'group')


def told_rows(
    rows: Mapping[str, np.ndarray], rules: Mapping[str, Any], groups: Column | None
) -> Rows:
    """How rows were split, in words and numbers.

    Args:
      rows: `{split: integers}`.
      rules: `{argument: name of a column}`, or another value than text where it has no name; None
        where it is not given.
      groups: the group of each row of all, or None.
    """
    sizes = {split: len(part) for split, part in rows.items()}
    names = {
        rule: column if isinstance(column, str) else rule
        for rule, column in rules.items()
        if column is not None
    }
    return Rows(sizes, names, 0 if groups is None else len(np.unique(groups.values)))


def given_rows(splits: np.ndarray, what: str) -> dict[str, np.ndarray]:
    """The rows of each split, where every row says of which it is.

    Args:
      splits: text `[N]`, of SPLITS.
      what: says so, for the error message.

    Returns:
      `{split: integers}`.

    Raises:
      ValueError: if a row says something else.
    """
    if unknown := sorted({str(value) for value in splits.tolist()} - set(SPLITS)):
        raise ValueError(f'{what} must say {", ".join(SPLITS)} in every row, not {unknown[0]!r}')
    return {split: np.flatnonzero(splits == split) for split in SPLITS}


def _in_order(order, ends):
    if order.kind not in ('number', 'date'):
        raise ValueError(
            f'order holds {order.kind}, and no order in time: give numbers or '
            'dates (in a text file YYYY-MM-DD, in memory datetime64)'
        )
    blocks = _blocks(order, 'order', 'place in the order')
    parts = zip(SPLITS, _cut(blocks, ends), strict=True)
    return {split: rows[np.argsort(blocks[rows], kind='stable')] for split, rows in parts}


def _blocks(column, name, what):
    """The number of the value of each row among the different values, in their order."""
    if column.values.ndim != 1:
        raise ValueError(f'{name} must be [N], a value an example, not {list(column.values.shape)}')
    if column.missing.any():
        row = np.flatnonzero(column.missing)[0] + 1
        raise ValueError(f'row {row} has no {what}: give it one, or leave the row out')
    return np.unique(column.values, return_inverse=True)[1]


def _cut(blocks, ends):
    """Rows in the order of their blocks, cut where a block ends, as near as can be to the shares.

    A block is in the split that its middle falls into.
    """
    sizes = np.bincount(blocks)
    middles = (np.cumsum(sizes) - sizes / 2) / len(blocks)
    parts = np.searchsorted(ends[:-1], middles, side='right')[blocks]
    return [np.flatnonzero(parts == n) for n in range(len(ends))]


def _stratified(size, ends, names, seed, groups, stratify):
    known = np.flatnonzero(~stratify.column.missing)
    sizes = np.diff(np.rint(ends * len(known)).astype(int), prepend=0)
    strata = _strata(stratify, known, min(sizes), len(names))
    # (A state of scikit-learn's kind, of any seed that NumPy takes.)
    state = np.random.RandomState(np.random.MT19937(seed))
    if groups is not None:
        labels = np.full(size, -1)
        labels[known] = strata
        return _stratified_groups(groups, stratify, labels, ends, names, state)
    counts = np.bincount(strata)
    _check_rarest(stratify, counts, 'row', names)
    _check_sizes(stratify, len(counts), sizes, names)
    found = _cuts(stratify.task, known, strata, sizes, names, state)
    others = np.flatnonzero(stratify.column.missing)
    for n, rows in enumerate(_at_random(len(others), ends, seed)):
        found[n] = np.concatenate([found[n], others[rows]])
    return found


def _strata(stratify, known, most, parts):
    """The number of the class, or of the bin, of each row that has a label."""
    values = stratify.column.values[known]
    if not len(values):
        raise ValueError(f'the task {stratify.task!r} has no label to stratify by')
    if stratify.are_classes:
        return np.unique(values, return_inverse=True)[1]
    bins = max(1, min(BINS, most, len(values) // parts))
    found = np.empty(len(values), int)
    found[np.argsort(values, kind='stable')] = np.arange(len(values)) * bins // len(values)
    return found


def _check_rarest(stratify, counts, what, names):
    """Raises ValueError unless every class is in as many rows, or groups, as there are parts."""
    if counts.min() < len(names):
        _refuse_class(stratify, counts, counts.argmin(), what, names)


def _refuse_class(stratify, counts, place, what, names):
    known = stratify.column.values[~stratify.column.missing]
    rare, count = np.unique(known)[place], counts[place]
    if stratify.column.kind == 'number':
        rare = f'{rare:g}'
    parts = 'three splits' if tuple(names) == SPLITS else f'{len(names)} parts'
    what += '' if count == 1 else 's'
    raise ValueError(
        f'the class {rare} of {stratify.task!r} has {count} {what}, and cannot be in all {parts}: '
        'leave them out, join it with another class, or stratify by another task'
    )


def _check_sizes(stratify, classes, sizes, names):
    """Raises ValueError unless every part has room for every class."""
    if min(sizes) < classes:
        part = names[int(np.argmin(sizes))]
        part = f'the {part} split' if part in SPLITS else part
        raise ValueError(
            f'{part} has {min(sizes)} rows with a label of {stratify.task!r}, less than '
            f'its {classes} classes: give it a larger fraction'
        )


def _cuts(task, rows, strata, sizes, names, state):
    """The rows of each part: those of the last are drawn first."""
    from sklearn.model_selection import train_test_split  # Slow to import.

    found = []
    try:
        for size in sizes[:0:-1]:
            rows, part, strata, _ = train_test_split(
                rows, strata, test_size=int(size), stratify=strata, random_state=state
            )
            found.insert(0, part)
    except ValueError as error:
        every = 'all splits' if tuple(names) == SPLITS else f'{len(names)} parts'
        raise ValueError(
            f'the labels of {task!r} cannot be spread over {every}: {error}'
        ) from error
    return [rows, *found]


def _stratified_groups(groups, stratify, labels, ends, names, state):
    """The rows of each part, which is made of folds of scikit-learn."""
    from sklearn.model_selection import StratifiedGroupKFold

    blocks = _blocks(groups, 'groups', 'group')
    count = len(np.unique(blocks))
    if count < len(names):
        raise ValueError(f'there are {count} groups, too few for the splits {", ".join(names)}')
    classes = classes_of(blocks, labels)
    if stratify.are_classes:
        _check_rarest(stratify, classes.sum(axis=0), 'group', names)
    common = np.unique(labels, return_counts=True)[1].max()
    most = max(len(names), min(MOST_FOLDS, count, common))
    parts = folds_of_parts(np.diff(ends, prepend=0), most)
    splitter = StratifiedGroupKFold(sum(parts), shuffle=True, random_state=state)
    with warnings.catch_warnings():
        # (It warns of classes that are rarer than there are folds.)
        warnings.simplefilter('ignore')
        folds: Any = [rows for _, rows in splitter.split(labels[:, None], labels, blocks)]
    owners = np.empty(count, int)
    for part, own in enumerate(np.split(np.arange(len(folds)), np.cumsum(parts)[:-1])):
        for fold in own:
            owners[blocks[folds[fold]]] = part
    if stratify.are_classes:
        owners, lost = spread(owners, len(names), classes, np.bincount(blocks))
        if lost is not None:
            _refuse_class(stratify, classes.sum(axis=0), lost, 'group', names)
    return [np.flatnonzero(owners[blocks] == part) for part in range(len(names))]
