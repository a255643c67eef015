"""The result of a finished run in words."""

import textwrap
from collections.abc import Mapping
from typing import Any

from tag_jax import grouping
from tag_jax.grouping.identity import settings
from tag_jax.report import page
from tag_jax.report.tables import text_table
from tag_jax.training import TrainingConfig

LINE_LENGTH = 100

BASELINE_NAMES = {'mtl': 'all together', 'stl': 'single tasks'}


def result_text(results: Mapping[str, Any]) -> str:
    """Test errors of every task beside the baselines, for the terminal.

    Args:
      results: what results.json holds.
    """
    header, rows = error_rows(results)
    groups = [f'  {n}  {tasks}' for n, tasks in enumerate(group_lines(results), 1)]
    table = text_table(header, rows, left=(0, 1), rules=(0, len(rows) - 1))
    remarks = [
        line
        for remark in results.get('remarks', ())
        for line in ('', *textwrap.wrap(remark, LINE_LENGTH))
    ]
    return '\n'.join(['Train together:', *groups, '', gain_sentence(results), '', table, *remarks])


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
        lines.append(', '.join(group['serves']) + helped + size)
    return lines


def gain(results) -> float | None:
    """How much lower the total test error is than that of one network for all tasks.

    Args:
      results: what results.json holds.

    Returns:
      Percent of the latter, negative where the groups lose; None where it is zero or not known.
    """
    baseline = results['baselines'].get('mtl')
    if not baseline or not baseline['total_test_error'] > 0:
        return None
    return 100 * (1 - results['total_test_error'] / baseline['total_test_error'])


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
    words = f'{results["total_test_error"]:.2f} %'
    if baseline := results['baselines'].get('mtl'):
        words += f', against {baseline["total_test_error"]:.2f} % for one network of all tasks'
    return words


def gain_sentence(results: Mapping[str, Any]) -> str:
    """The total test error, beside that of one network for all tasks, of one seed.

    Args:
      results: what results.json holds.
    """
    change = gain_words(results)
    gained = f': {change} with this seed.' if change else '.'
    return f'Total test error {total_words(results)}{gained}'


def sure_sentences(results) -> str:
    """Says how sure a gain is, and the choice of groups.

    A run has one seed, so there is no standard error over seeds: that is said, and nothing made up.

    Args:
      results: what results.json holds.
    """
    found = (
        f'Not known from one seed ({results["seed"]}); side by side, runs of several seeds give it.'
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
    sentence = f'{steps:,} training steps, {duration(seconds)}' if steps else 'Nothing was trained'
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


def command(config) -> str:
    """The command that repeats a run, or a call in Python where it was started from there.

    Args:
      config: what config.json holds.
    """
    if 'command' in config:
        return config['command']
    asked = (
        ['problem', 'dataset', f'budget={config["budget"]}']
        if 'budget' in config
        else [
            'problem',
            'dataset',
        ]
    )
    asked.append(f'method={_method(config)}')
    changed = [
        # Functions are known by their names.
        f'{key}={config[key] if key in ("weighting", "optimizer") else repr(config[key])}'
        for key, usual in settings(TrainingConfig()).items()
        if config.get(key, usual) != usual
    ]
    if changed:
        asked.append(f'config=TrainingConfig({", ".join(changed)})')
    return f'grouping.group_tasks({", ".join([*asked, "workdir=..."])})'


def _method(config):
    """The call that makes the method of a run."""
    name, _, _ = config.get('method', 'tag').partition('(')
    given = [f'{key}={value!r}' for key, value in config.get('options', {}).items()]
    if name == 'from_affinities':
        given = ['...']
    return f'grouping.{name}({", ".join(given)})'


def measured_sentence(config: Mapping[str, Any]) -> str:
    """Says what the affinities of a run are, and where they come from.

    Args:
      config: what config.json holds.
    """
    kind = affinity_kind(config)
    if kind is None:
        return f'Measured elsewhere: {config["options"]["affinity"]}.'
    sentence = _AFFINITY_KINDS[kind]
    if config.get('affinity_step') == 'optimizer' and kind != 'cosine':
        sentence += ', with the step of the optimizer'
    if on_validation(config):
        sentence += ', compared on batches of the validation split'
    sentence += '; averaged over the training of one network on all tasks'
    start, stop = config.get('affinity_window', (0, 1))
    if (start, stop) != (0, 1):
        sentence += f', between {100 * start:g} and {100 * stop:g} % of its largest number of steps'
    every = config.get('affinity_every', 1)
    return sentence + (', at every step.' if every == 1 else f', every {every} steps.')


def affinity_kind(config) -> str | None:
    """The kind of the affinities of a run, of `affinity.KINDS`; None if they are from elsewhere."""
    if config.get('options', {}).get('affinity'):
        return None
    if config.get('method') == 'cosine_similarity':
        return 'cosine'
    return config.get('affinity_kind', 'exact')


def on_validation(config) -> bool:
    """Whether a run compared losses on the validation split, where effects on itself count."""
    return config.get('affinity_split') == 'validation'


_SHARE = "The share of the target task's loss that one step on the source task alone takes away"
_AFFINITY_KINDS = {
    'exact': _SHARE,
    'first_order': f'{_SHARE}, to first order',
    'cosine': "The cosine between the gradients of the source task's and the target task's losses",
}


def error_rows(results):
    """Header and rows of the table of test errors, as text; the last row is the total."""
    baselines = results['baselines']
    header = ['task', 'network', 'groups']
    header += [BASELINE_NAMES.get(name, name) for name in baselines]
    server = {
        task: str(n + 1) for n, group in enumerate(results['groups']) for task in group['serves']
    }
    rows = [
        [task, server[task], f'{results["test_error"][task]:.2f}']
        + [f'{errors["test_error"][task]:.2f}' for errors in baselines.values()]
        for task in results['task_names']
    ]
    totals = [results['total_test_error'], *(e['total_test_error'] for e in baselines.values())]
    return header, [*rows, ['total', '', *(f'{total:.2f}' for total in totals)]]


def plain(value) -> str:
    """A setting as text."""
    if isinstance(value, dict):
        return ', '.join(f'{name} {plain(one)}' for name, one in value.items())
    if isinstance(value, list):
        return ', '.join(map(plain, value))
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def compared_rows(results):
    """`error_rows`, with how much lower or higher the groups are than one network for all tasks."""
    header, rows = error_rows(results)
    baseline = results['baselines'].get('mtl')
    if not baseline:
        return header, rows
    errors = [results['test_error'][task] for task in results['task_names']]
    together = [baseline['test_error'][task] for task in results['task_names']]
    errors.append(results['total_test_error'])
    together.append(baseline['total_test_error'])
    changes = [
        page.number(f'{one - other:+.2f}') for one, other in zip(errors, together, strict=True)
    ]
    return [*header, 'change'], [[*row, change] for row, change in zip(rows, changes, strict=True)]


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
