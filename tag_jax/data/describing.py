"""Lines about a dataset: its columns and what they were taken for, and how its rows were split."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tag_jax.data.columns import Column
from tag_jax.data.mends import flag

# Integers are an identifier if so many rows have a value, and such a share of them an own one.
FEWEST_ROWS, OWN_VALUES = 50, 0.95
# A name of an identifier says so only where it has more values than a class.
MOST_CODES = 20
_NAME = re.compile(r'(^|[^a-zA-Z])[iI][dD]$|[a-z]I[dD]$')
_RULES = {
    'stratify': 'has alike labels in all splits',
    'order': 'orders the rows, of which the first ones train',
    'split': 'says of which split a row is',
    'weights': 'weighs the losses of training rows',
}


def identifier_values(name: str, column: Column) -> int:
    """How many different values a column of numbers has, if it looks like an identifier; else 0.

    An identifier holds whole numbers of at least 0, one a row. It is called id, or ends with _id or
    ID, and has more than MOST_CODES values. Under another name at least FEWEST_ROWS rows have a
    value, a share of OWN_VALUES of them has one that no other row has, and the values either have
    one number of digits or fill half of their range: amounts and counts seldom do.

    Args:
      name: of the column.
      column: its values, numbers.
    """
    if column.kind != 'number' or column.values.ndim != 1:
        return 0
    known = column.values[~column.missing]
    if not len(known) or known.min() < 0 or (known != np.rint(known)).any():
        return 0
    values, counts = np.unique(known, return_counts=True)
    if _NAME.search(name):
        return len(values) if len(values) > MOST_CODES else 0
    if len(known) < FEWEST_ROWS or (counts == 1).sum() < OWN_VALUES * len(known):
        return 0
    digits = len(f'{values[0]:.0f}') == len(f'{values[-1]:.0f}')
    filled = len(values) >= (values[-1] - values[0] + 1) / 2
    return len(values) if digits or filled else 0


def lines(encoding: Any, flags: bool = False) -> list[str]:
    """Says what each column was taken for, and how rows were split, a line each.

    Args:
      encoding: an `Encoding`.
      flags: whether mends are named as flags of launchers, and not as arguments.
    """
    rows = encoding.rows
    grouped = rows is not None and 'groups' in rows.rules
    found = ['inputs: as they are']
    if encoding.inputs is not None:
        found = [f'{i.name}: {_input(i)}{_hint(i, grouped, flags)}' for i in encoding.inputs]
    found += [f'{task}: {_target(target)}' for task, target in encoding.targets.items()]
    if rows is not None:
        if 'groups' in rows.rules:
            found.append(f'{rows.rules["groups"]}: keeps rows together, {rows.groups:,} groups')
        found += [f'{rows.rules[rule]}: {_RULES[rule]}' for rule in _RULES if rule in rows.rules]
        found.append(f'rows: {_sizes(rows.sizes)}')
    return found


def _sizes(sizes: Mapping[str, int]):
    return ', '.join(f'{count:,} {split}' for split, count in sizes.items())


def _input(input_):
    if input_.kind == 'text':
        return f'text, {len(input_.categories):,} categories{_missing(input_.missing)}'
    shape = math.prod(input_.shape)
    what = 'a number' if not input_.shape else f'{shape} numbers a row'
    constant = int(np.sum(np.equal(input_.scales, 0)))
    if not input_.standardised:
        what += ' as it is' if not input_.shape else ' as they are'
    elif constant:
        what += ', constant: left out' if constant == shape else f', {constant} constant: left out'
    return what + _missing(input_.missing)


def _hint(input_, grouped, flags):
    if not input_.identifies:
        return ''
    ways = [flag('leave_out', input_.name) if flags else f'leave_out=[{input_.name!r}]']
    if not grouped:
        ways.append(flag('groups', input_.name) if flags else f'groups={input_.name!r}')
    return f', {input_.identifies:,} different values (an identifier? {" or ".join(ways)})'


def _target(target):
    missing = _missing(target.missing)
    if target.scales:
        some = [', '.join(f'{x:g}' for x in part[:5]) for part in (target.means, target.scales)]
        return f'{target.kind}, mean {some[0]}, standard deviation {some[1]}{missing}'
    if not target.classes:
        several = f', {len(target.names):,} labels: {_some(target.names)}' if target.names else ''
        return f'{target.kind}{several}, as they are{missing}'
    names = _some(target.classes)
    rarest = ''
    if target.counts:
        count = min(target.counts)
        rarest = f'; the rarest is {target.classes[target.counts.index(count)]}, {_rows(count)}'
    return f'{target.kind}, {len(target.classes):,} classes: {names}{rarest}{missing}'


def _some(names):
    """The first of some names."""
    return ', '.join(map(str, names[:5])) + ', ...' * (len(names) > 5)


def _rows(count):
    return f'{count:,} row{"s" * (count != 1)}'


def _missing(share):
    """The percentage of missing cells, in words; '' if there is none."""
    if not share:
        return ''
    percent = 100 * share
    if share == 1:
        return ', all missing'
    if percent < 10:
        return f', {percent:.2g} % missing'
    return f', {percent:.0f} % missing' if percent < 99.5 else ', more than 99 % missing'
