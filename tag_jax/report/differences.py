"""Pairs of methods of a comparison: their differences, how sure these are, and what that covers."""

import itertools
import math
import textwrap
from collections.abc import Mapping
from typing import Any

from tag_jax.comparison import ALL_IN_ONE, Comparison, Difference, covers, differences, summary
from tag_jax.comparison.statistics import EXAMPLES, SEEDS, SPLITS
from tag_jax.report import words
from tag_jax.report.tables import LINE_LENGTH, plus_minus, text_table

# With more pairs, only those with one network for all tasks and with the preferred method are told.
MOST_PAIRS = 15


def preferred(comparison: Comparison) -> str:
    """The method that validation prefers, over all budgets.

    Args:
      comparison: from `comparison.compare_groupings`.
    """
    lines = summary(comparison)
    of_means = [line for line in lines if line.budget is None] or lines
    return min(of_means, key=lambda line: line.expected).method


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
    return header, rows


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
        return 'cannot be told from none'
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
    told = [n for n in range(len(header)) if any(row[n] for row in rows)]
    table = text_table(
        [header[n] for n in told], [[row[n] for n in told] for row in rows], (0, 1, len(told) - 1)
    )
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
