"""Pairs of methods of a comparison: their differences, how sure these are, and what that covers."""

import itertools
import math
import textwrap
from collections.abc import Mapping
from typing import Any

from tag_jax.comparison import (
    ALL_IN_ONE,
    Comparison,
    Difference,
    covers,
    differences,
    summary,
)
from tag_jax.comparison.statistics import EXAMPLES, SEEDS, SPLITS
from tag_jax.report import words
from tag_jax.tables import LINE_LENGTH, plus_minus, text_table, without_empty

# With more pairs, only those with one network for all tasks and with the preferred method are told.
MOST_PAIRS = 15

# Methods that train tasks all together or all apart, by their names here and in launchers.
NOT_GROUPING = (
    *(ALL_IN_ONE, 'single_task'),
    *('wide_all_in_one', 'small_single_task', 'equal_single_task'),
)


def preferred(comparison: Comparison) -> str:
    """The method that validation prefers, over all budgets.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    return _preferred(_overall(comparison)).method


def _overall(comparison):
    """A line for each method: over all budgets, where there are several."""
    lines = summary(comparison)
    return [line for line in lines if line.budget is None] or lines


def _preferred(lines):
    """The line with the lowest total on validation."""
    return min(lines, key=lambda line: line.expected)


def headline(comparison: Comparison) -> str:
    """Says which way to group validation prefers, over all budgets, and its total test error.

    The choice is by the validation scores of the chosen networks (`Line.expected`): the lowest of
    many test scores would be lower than what anybody who takes that way can expect.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    measure, best = words.measure(comparison.select_by), _preferred(_overall(comparison))
    over = 'over all budgets' if best.budget is None else f'at budget {best.budget:g}'
    value = plus_minus(*best.error, measure.digits) + measure.unit
    return f'Validation prefers {best.method} {over}: total test {measure.name} {value}'


def verdict_sentence(comparison: Comparison) -> str:
    """Says whether the preferred method can be told from the best way not to group.

    Where the preferred method does not group, it is set against the best of all others. Which one
    is the best is chosen on validation too.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    lines = _overall(comparison)
    best = _preferred(lines)
    others = [line for line in lines if line.method != best.method]
    if not others:
        return 'There is no other method to compare it with.'
    plain = [line for line in others if _groups_nothing(line.method)]
    baselines = plain if plain and not _groups_nothing(best.method) else others
    rival = _preferred(baselines)
    one = differences(comparison)[best.method, rival.method]
    measure = words.measure(comparison.select_by)
    what = 'baseline' if baselines is plain else 'other way'
    against = f'{rival.method}, the {what} that validation prefers'
    if one.told is None:
        return f'Whether that differs from {against}, is not known: there are no intervals.'
    if one.value == 0 and one.error == 0:
        return f'That is the same as {against}: it {words.NOT_TOLD}.'
    interval = f'95 % interval of the difference: {_interval(one, measure.digits)}'
    if not one.told:
        return (
            f'Its difference from {against}, {words.NOT_TOLD} '
            f'({one.value:+.{measure.digits}f}; {interval}).'
        )
    size = f'{abs(one.value):.{measure.digits}f}{" points" if measure.unit else ""}'
    return f'That is {verdict(one)} than {against}, by {size} ({interval}).'


def _groups_nothing(method):
    """Whether a method, by its displayed name, trains tasks all together or all apart."""
    return method.partition('(')[0] in NOT_GROUPING


def pairs(comparison: Comparison) -> list[Difference]:
    """The pairs that are told, each once.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    found = differences(comparison)
    methods = list(dict.fromkeys(method for method, _ in found))
    every = list(itertools.combinations(methods, 2))
    if len(every) > MOST_PAIRS:
        named = {ALL_IN_ONE, preferred(comparison)}
        every = [pair for pair in every if named & set(pair)]
    # (The later one is named first: methods stand after the network for all tasks.)
    return [found[other, method] for method, other in every]


def pair_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the pairs that are told.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    measure = words.measure(comparison.select_by)
    points = ' (points)' if measure.unit else ''
    header = ['method', 'against', f'difference{points}', '95 % interval', 'verdict']
    rows = [
        [
            one.method,
            one.other,
            f'{one.value:+.{measure.digits}f}',
            _interval(one, measure.digits),
            verdict(one),
        ]
        for one in pairs(comparison)
    ]
    return without_empty(header, rows)


def _interval(one, digits):
    if one.told is None:
        return ''
    return f'{one.low:+.{digits}f} to {one.high:+.{digits}f}'


def verdict(one: Difference) -> str:
    """Whether the first of two methods is told from the second: 'lower', 'higher', ...

    Args:
      one: a `Difference`.
    """
    if one.told is None:
        return 'not known'
    if not one.told:
        return words.NOT_TOLD
    return 'lower' if one.value < 0 else 'higher'


def matrix(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of every method against every other one; * where a difference is told.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    found, digits = differences(comparison), words.measure(comparison.select_by).digits
    methods = list(dict.fromkeys(method for method, _ in found))

    def cell(method, other):
        if method == other:
            return ''
        one = found[method, other]
        return plus_minus(one.value, one.error, digits) + (' *' if one.told else '')

    return ['', *methods], [[method, *(cell(method, one) for one in methods)] for method in methods]


def covers_sentence(comparison: Comparison) -> str:
    """Says what standard errors and intervals allow for, and what they leave out.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    found, splits = covers(comparison), comparison.splits
    seeds = len({one.seed for one in comparison.outcomes if not one.split})
    networks = f'{seeds} seed{"s" * (seeds > 1)}'
    if SPLITS in found:
        return (
            f'Standard errors and intervals are over {splits} splits, with {networks} of its own '
            'each: they cover splits, seeds and test examples. They are widened since splits share '
            'examples (Nadeau & Bengio 2003).'
        )
    if not found:
        return (
            'One seed of one split: there are no standard errors and no intervals. More seeds or '
            'splits give them.'
        )
    others = '; which examples are in which split is not in them (more splits widen them)'
    if EXAMPLES not in found:
        return (
            f'Standard errors and intervals are over {networks}, and not over test examples'
            f'{others}.'
        )
    if SEEDS not in found:
        return (
            'Intervals are over the choice of test examples, of these networks only: neither other '
            f'seeds nor other splits are in them. (Of {networks}, standard errors over seeds '
            'cannot be told.)'
        )
    return (
        f'Standard errors of methods are over {networks}. Intervals of differences cover '
        f'these and the choice of test examples{others}.'
    )


def differences_text(comparison: Comparison) -> str:
    """The pairs as text, and what their intervals cover.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    name = words.measure(comparison.select_by).name
    header, rows = pair_rows(comparison)
    table = text_table(header, rows, (0, 1, len(header) - 1))
    title = f'Total test {name}, over all budgets: one method minus another'
    return f'{title}\n{table}\n\n{textwrap.fill(covers_sentence(comparison), LINE_LENGTH)}'


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Gives what results.json keeps of this: all pairs, each once, and what intervals cover.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    found = differences(comparison)
    methods = list(dict.fromkeys(method for method, _ in found))
    return {
        'covers': list(covers(comparison)),
        'differences': [
            _plain(found[other, method]._asdict())
            for method, other in itertools.combinations(methods, 2)
        ],
    }


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    nan = lambda value: isinstance(value, float) and math.isnan(value)
    return {name: None if nan(value) else value for name, value in found.items()}
