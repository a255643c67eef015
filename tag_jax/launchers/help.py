"""The text of --help: what the command does, and its flags, in groups that belong together."""

import re
import textwrap

from absl import flags

GROUPS = {
    'The run': (
        *('workdir', 'resume', 'dry_run', 'seed', 'seeds', 'scores', 'checkpoint_seconds'),
        *('if_not_finite', 'run', 'out', 'overwrite', 'page', 'compilation_cache'),
    ),
    'What is asked': (
        *('method', 'methods', 'weightings', 'budget', 'budgets', 'study', 'task_sets'),
        *('compare', 'wider', 'smaller', 'weighting', 'grid', 'tune_static', 'learning_rates'),
        *('retrain', 'tasks', 'attributes', 'judge_by', 'splits', 'folds'),
    ),
    'Data': (
        *('dataset', 'data_dir', 'image_size', 'num_validation', 'images_per_building'),
        *('tables', 'table', 'targets', 'inputs', 'leave_out', 'kinds', 'missing', 'split_column'),
        *('delimiter', 'decimal', 'thousands', 'encoding', 'comment', 'groups', 'stratify'),
        *('order', 'weights', 'class_weights', 'metrics', 'standardise'),
    ),
    'Networks': ('network', 'widths', 'width', 'size', 'dtype', 'pretrained'),
    'Training': (
        *('steps', 'batch_size', 'learning_rate', 'eval_every', 'patience', 'loss_reduction'),
        *(
            'select_by',
            'keep',
            'sampling',
            'optimizer',
            'weight_decay',
            'clip',
            'schedule',
            'warmup',
        ),
    ),
    'Affinities': (
        *('affinity', 'affinity_every', 'affinity_kind', 'affinity_step', 'affinity_window'),
        *('affinity_examples', 'affinity_split'),
    ),
    'Devices': (
        *('mesh', 'shard_parameters', 'remat', 'cluster', 'coordinator', 'num_processes'),
        *('process_id', 'slots'),
    ),
}
OTHERS = 'Of this command'
WIDTH, INDENT = 100, 26


def text(launcher, program) -> str:
    """The help of a launcher.

    Args:
      launcher: its module, whose docstring names it as `tag-jax` does; its OWN_GROUPS, `{title:
        names of flags}`, stand above those of all launchers.
      program: the words that started it, which take the place of that name.
    """
    found = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(launcher)}
    grouped = groups_of(launcher, found)
    name = f'tag-jax {launcher.__name__.rpartition(".")[2]}'
    parts = [(launcher.__doc__ or '').strip().replace(name, ' '.join(program))]
    for title, names in grouped.items():
        if names:
            parts.append('\n'.join([f'{title}:', *(_line(found[name]) for name in names)]))
    return '\n\n'.join(parts)


def groups_of(launcher, names) -> dict:
    """The flags of a launcher by group, `{title: names}`; those of no group are OTHERS.

    Args:
      launcher: its module, see `text`.
      names: of all of its flags.
    """
    own = getattr(launcher, 'OWN_GROUPS', {})
    taken = {name for of in own.values() for name in of}
    usual = {title: [one for one in of if one not in taken] for title, of in GROUPS.items()}
    grouped = {title: [name for name in of if name in names] for title, of in (own | usual).items()}
    known = {name for of in grouped.values() for name in of}
    return {OTHERS: sorted(set(names) - known), **grouped}


def _line(flag):
    """A flag with its default and what it does."""
    name = f'  --{flag.name}'
    if not flag.boolean and flag.default not in (None, [], ''):
        default = ','.join(flag.default) if isinstance(flag.default, list) else flag.default
        name += f'={default:g}' if isinstance(default, float) else f'={default}'
    name = _folded(name)
    lines = textwrap.wrap(flag.help, WIDTH - INDENT) or ['']
    if len(name) < INDENT:
        name = name.ljust(INDENT) + lines.pop(0)
    return '\n'.join([name, *(' ' * INDENT + line for line in lines)])


def _folded(name):
    """A flag with a long list as its default, on as many lines as that takes."""
    lines = ['']
    for part in re.findall(r'[^,]+,?', name):
        if lines[-1] and len(lines[-1]) + len(part) > WIDTH:
            lines.append(' ' * 6)
        lines[-1] += part
    return '\n'.join(lines)
