"""The result of a finished run in words."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tag_jax import grouping
from tag_jax.report import page
from tag_jax.tables import LINE_LENGTH, text_table

# The verdict where an interval holds 0.
NOT_TOLD = 'cannot be told from none'
# The decision where groups are worth it.
GROUP = 'Train together'

# A column of measures, and those in it of tasks that the user named none for: the first they have.
_MEASURE = 'measure'
_USUAL_MEASURES = ('accuracy', 'miou', 'r2', 'mae', 'error')

BASELINE_NAMES = {'mtl': 'all together', 'stl': 'single tasks'}


def result_text(results: Mapping[str, Any]) -> str:
    """Test errors of every task beside the baselines, for the terminal.

    Args:
      results: what results.json holds.
    """
    header, rows = with_measures(results, *error_rows(results))
    groups = [
        textwrap.fill(tasks, LINE_LENGTH, initial_indent=f'  {n}  ', subsequent_indent=' ' * 5)
        for n, tasks in enumerate(group_lines(results), 1)
    ]
    left = (0, 1, *(n for n, name in enumerate(header) if name == _MEASURE))
    table = text_table(header, rows, left, rules=(0, len(rows) - 1))
    remarks = [
        line
        for remark in results.get('remarks', ())
        for line in ('', *textwrap.wrap(remark, LINE_LENGTH))
    ]
    gained = textwrap.fill(gain_sentence(results), LINE_LENGTH)
    answer = decision(results)
    told = [f'{GROUP}:'] if answer == GROUP else [f'{answer}.', '', trained_words(results)]
    return '\n'.join([*told, *groups, '', gained, '', table, *remarks])


def trained_words(results: Mapping[str, Any]) -> str:
    """The line above the groups where the decision is against them.

    Args:
      results: what results.json holds.
    """
    one = len(results['groups']) == 1
    return 'The network that was trained:' if one else 'The groups that were trained:'


def way_name(results: Mapping[str, Any]) -> str:
    """The heading of what was chosen: 'groups', or 'chosen' where it is one network.

    Args:
      results: what results.json holds.
    """
    return 'chosen' if len(results['groups']) == 1 else 'groups'


def group_lines(results: Mapping[str, Any]) -> list[str]:
    """A line for each network: the tasks that it serves, then those that only help to train.

    Args:
      results: what results.json holds.
    """
    lines = []
    for group in results['groups']:
        helpers = [task for task in group['tasks'] if task not in group['serves']]
        helped = f' (with the help of {", ".join(helpers)})' if helpers else ''
        cost = group.get('cost', 1)
        size = '' if cost == 1 else f' (on {cost:g} of a standard network)'
        lines.append((', '.join(group['serves']) or 'no task') + helped + size)
    return lines


class Measure(NamedTuple):
    """The name of the values that networks and groups were selected by.

    Attributes:
      name: 'error', 'loss' or 'relative loss'.
      unit: behind a value, with a space.
      digits: of a value, behind the point.
    """

    name: str
    unit: str
    digits: int

    def text(self, value: float | None) -> str:
        """A value without its unit; 'nan' for one that is not defined, which is null in a file."""
        return 'nan' if value is None else f'{value:.{self.digits}f}'


def measure(select_by: str | None) -> Measure:
    """The words for a criterion.

    Args:
      select_by: of `evaluation.CRITERIA`; None for 'error'.
    """
    name = (select_by or 'error').replace('_', ' ')
    return Measure(name, '', 4) if name == 'loss' else Measure(name, ' %', 2)


def scores(found: Mapping[str, Any]) -> Mapping[str, float | None]:
    """The values on the test split that networks were selected by, `{task: value or None}`.

    Args:
      found: what results.json holds, or one of its baselines.
    """
    return found.get('test_score', found['test_error'])


def total(found: Mapping[str, Any]) -> float:
    """The sum of `scores` over the tasks where they are defined."""
    return found.get('total_test_score', found['total_test_error'])


def with_errors(results: Mapping[str, Any]) -> dict[str, Any]:
    """The same results with errors in place of losses that networks were selected by.

    Args:
      results: what results.json holds.
    """
    scores_of = ['test_score', 'total_test_score', 'select_by']
    if results.get('select_by') not in (None, 'error'):
        scores_of.append('gain_interval')  # It is one of losses.
    plain = lambda found: {name: found[name] for name in found if name not in scores_of}
    baselines = {name: plain(errors) for name, errors in results['baselines'].items()}
    return {**plain(results), 'baselines': baselines}


def gain(results) -> float | None:
    """How much lower the total test error (or loss) is than that of one network for all tasks.

    Args:
      results: what results.json holds.

    Returns:
      Percent of the latter, negative where the groups lose; None where it is zero or not known.
    """
    baseline = results['baselines'].get('mtl')
    if not baseline or not total(baseline) > 0:
        return None
    return 100 * (1 - total(results) / total(baseline))


def gain_words(results) -> str:
    """The same as words: '12.3 % lower', '0.4 % higher', 'the same'; '' where it is not known."""
    match gain(results):
        case None:
            return ''
        case 0:
            return 'the same'
        case change:
            return f'{abs(change):.1f} % {"lower" if change > 0 else "higher"}'


def total_words(results) -> str:
    """The total test error, beside that of one network for all tasks."""
    found = measure(results.get('select_by'))
    words = found.text(total(results)) + found.unit
    if baseline := results['baselines'].get('mtl'):
        together = found.text(total(baseline)) + found.unit
        words += f', against {together} for {_baseline_name(results)} of all tasks'
    return words


def _baseline_name(results):
    """The network for all tasks that others are compared with; the chosen one may be wider."""
    wide = any(group.get('cost', 1) != 1 for group in results.get('groups', ()))
    return 'one standard network' if wide else 'one network'


def decision(results: Mapping[str, Any]) -> str:
    """The answer in a line: to train these groups, or not to group.

    Groups are worth it where they gain with this seed, and where the interval of the gain, if it
    is known, is above 0.

    Args:
      results: what results.json holds.
    """
    groups, together = results['groups'], results['task_names']
    if len(groups) == 1 and len(groups[0]['serves']) == len(together):
        return 'Do not group: one network for all tasks'
    change, interval = gain(results), results.get('gain_interval')
    if change is not None and change < 0 and not (interval and interval[1] > 0):
        return 'Do not group: one network for all tasks is better'
    if change is not None and (change <= 0 or (interval and interval[0] <= 0)):
        return 'Do not group: no gain over one network for all tasks can be told'
    return GROUP


def gain_sentence(results: Mapping[str, Any]) -> str:
    """The total test error, beside that of one network for all tasks, of one seed.

    Args:
      results: what results.json holds.
    """
    change = gain_words(results)
    interval = interval_words(results)
    over = f' (95 % interval over test examples: {interval})' if interval else ''
    gained = f': {change} with this seed{over}.' if change else '.'
    name = measure(results.get('select_by')).name
    return f'Total test {name} {total_words(results)}{gained}'


def interval_words(results) -> str:
    """The 95 % interval of the gain over test examples as words; '' where it is not known."""
    if not (interval := results.get('gain_interval')):
        return ''
    low, high = interval
    if low > 0 or high < 0:
        near, far = sorted(map(abs, interval))
        return f'{near:.1f} to {far:.1f} %'
    return f'{-low:.1f} % higher to {high:.1f} % lower, so it {NOT_TOLD}'


def gain_verdict(results) -> str:
    """Whether the interval of the gain leaves none out: 'lower', 'higher', ...; '' without a gain.

    Args:
      results: what results.json holds.
    """
    if not gain(results):
        return ''
    if not (interval := results.get('gain_interval')):
        return 'not known'
    low, high = interval
    if low > 0:
        return 'lower'
    return 'higher' if high < 0 else NOT_TOLD


def sure_sentences(results) -> str:
    """Says how sure a gain is, and the choice of groups.

    A run has one seed: the interval is that over test examples, and another seed is not in it.

    Args:
      results: what results.json holds.
    """
    seed = results['seed']
    found = f'Not known from one seed ({seed}); side by side, runs of several seeds give it.'
    if interval := interval_words(results):
        found = (
            f'95 % interval over the choice of test examples (paired bootstrap): {interval}. It '
            'does not cover other seeds or splits; side by side, runs of several seeds do.'
        )
    confidence = results.get('confidence')
    if confidence is not None:
        share = 'more than 99' if confidence > 0.99 else f'{100 * confidence:.0f}'
        found += (
            f' As far as noise of measuring goes, the choice of groups beats the runner-up with a '
            f'probability of {share} %.'
        )
    return found


def cost_sentence(results) -> str:
    """Says what the groups cost to find, and what their networks cost to train.

    Args:
      results: what results.json holds.
    """
    cost = results['cost']
    steps, seconds = (cost.get(f'search_{unit}', 0) for unit in ('steps', 'seconds'))
    sentence = (
        f'{steps:,.0f} training steps, {duration(seconds)}' if steps else 'Nothing was trained'
    )
    if cost.get('selection_seconds'):
        sentence += f'; choosing among groups took {duration(cost["selection_seconds"])}'
    if cost.get('training_steps'):
        sentence += (
            f'. Then {cost["training_steps"]:,} steps, {duration(cost["training_seconds"])}, to '
            'train the networks'
        )
    return sentence + '.'


def duration(seconds) -> str:
    """A time as text, to two digits or so: 4 ms, 8.2 s, 13 min, 2.5 h."""
    for unit, size in (('h', 3600), ('min', 60), ('s', 1)):
        if seconds >= (1.5 * size if size > 1 else size):
            number = seconds / size
            return f'{number:.0f} {unit}' if number >= 9.95 else f'{number:.1f} {unit}'
    return f'{1000 * seconds:.0f} ms'


def error_rows(results):
    """Header and rows of the table of test errors, as text; the last row is the total."""
    baselines = results['baselines']
    ways, text = [results, *baselines.values()], measure(results.get('select_by')).text
    header = ['task', 'network', way_name(results)]
    header += [BASELINE_NAMES.get(name, name) for name in baselines]
    server = {
        task: str(n + 1) for n, group in enumerate(results['groups']) for task in group['serves']
    }
    rows = [
        [task, server[task], *(text(scores(found)[task]) for found in ways)]
        for task in results['task_names']
    ]
    return header, [*rows, ['total', '', *(text(total(found)) for found in ways)]]


def compared_rows(results):
    """`error_rows`, with how much lower or higher the groups are than one network for all tasks."""
    header, rows = error_rows(results)
    baseline = results['baselines'].get('mtl')
    if not baseline:
        return header, rows
    names, digits = results['task_names'], measure(results.get('select_by')).digits
    own, together = (
        [*(scores(found)[task] for task in names), total(found)] for found in (results, baseline)
    )
    changes = [
        '' if None in (one, other) else page.number(f'{one - other:+.{digits}f}')
        for one, other in zip(own, together, strict=True)
    ]
    return [*header, 'change'], [[*row, change] for row, change in zip(rows, changes, strict=True)]


def with_measures(
    results: Mapping[str, Any], header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """A table of tasks with two more columns: a measure of each task, and its test value.

    They are there where errors alone would not tell it: where tasks are judged by measures that the
    user named, or where the table is one of losses.

    Args:
      results: what results.json holds.
      header, rows: of a table with a row for each task, and a last one of totals.

    Returns:
      Header and rows.
    """
    judged = results.get('judged_by', {})
    of_losses = results.get('select_by') not in (None, 'error')
    if not results.get('metrics') or not (judged or of_losses):
        return list(header), [list(row) for row in rows]
    cells = [_natural(results, task) for task in results['task_names']]
    more = [*cells, ['', '']]
    return [*header, _MEASURE, 'its value'], [
        [*row, *cell] for row, cell in zip(rows, more, strict=True)
    ]


def _natural(results, task):
    """The measure of a task, by scikit-learn's name, and its value: as it is judged, else usual."""
    metrics = results['metrics'][task]
    judged = results.get('judged_by', {}).get(task)
    if metrics.get(judged, 0) is None:
        return [judged, 'nan']
    names = (judged, *_USUAL_MEASURES)
    name = next((name for name in names if metrics.get(name) is not None), None)
    return ['', ''] if name is None else [name, f'{metrics[name]:.4g}']


def dry_run_text(found: grouping.DryRun) -> str:
    """The text of a dry run: what would be trained, and what that takes.

    Args:
      found: from `grouping.dry_run` or `comparison.dry_run`.
    """
    lines = [
        f'{stage.networks:6} network{"s" if stage.networks > 1 else " "} of {stage.steps:,} steps: '
        f'{stage.what}'
        for stage in found.stages
    ]
    steps = sum(stage.networks * stage.steps for stage in found.stages)
    return '\n'.join(
        [
            'This command would train, at most:',
            *lines,
            f'{steps:,} steps in all, about {duration(found.seconds)} beside compiling, by a '
            f'short trial, which had {found.bytes / 2**30:.1f} GiB in memory.',
        ]
    )
