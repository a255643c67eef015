"""The flags of --dataset=table, and the dataset that they ask for."""

import math

from absl import flags as absl_flags

import tag_jax

# The flags by which the cells of a table are read, and all by which a table is.
CELLS = ('missing', 'delimiter', 'decimal', 'thousands', 'encoding', 'comment')
NAMES = (
    *('table', 'targets', 'inputs', 'kinds', 'split_column', 'leave_out', *CELLS),
    *('groups', 'stratify', 'order'),
    *('weights', 'class_weights', 'metrics', 'standardise'),
)

absl_flags.DEFINE_string(
    'table',
    None,
    'A .csv, .tsv (also compressed), .parquet, .arff or .npz file for --dataset=table.',
)
absl_flags.DEFINE_list('targets', None, 'Its target columns, one for each task.')
absl_flags.DEFINE_list('inputs', None, 'Its input columns; by default all others.')
absl_flags.DEFINE_list('leave_out', [], 'Its columns that are no inputs.')
absl_flags.DEFINE_list(
    'kinds',
    [],
    'Where the kind of a column is not to be inferred: age:regression and grade:classification for '
    'targets, zip:text and joined:number (days, of dates) for inputs.',
)
absl_flags.DEFINE_list(
    'missing',
    [],
    'What stands for a missing value, beside blank, NA and the like: ? in all columns, age:-999 in '
    'one.',
)
absl_flags.DEFINE_string(
    'delimiter', None, 'Between its cells; by default a comma, and in a .tsv file a tab.'
)
absl_flags.DEFINE_string('decimal', '.', 'Its decimal point.')
absl_flags.DEFINE_string('thousands', None, 'What separates thousands in it; by default nothing.')
absl_flags.DEFINE_string('encoding', 'utf-8', 'Of its text, such as latin-1.')
absl_flags.DEFINE_string('comment', None, 'What lines of it begin with that do not count.')
absl_flags.DEFINE_string(
    'split_column', None, 'Its column that says train, validation or test; at random if left out.'
)
absl_flags.DEFINE_string(
    'groups', None, 'Its column of patients, schools or the like, none of which is in two splits.'
)
absl_flags.DEFINE_string(
    'stratify', None, 'Its target whose classes (or tenths of values) all splits have alike.'
)
absl_flags.DEFINE_string(
    'order', None, 'Its column of numbers or dates: the first rows train, the last ones test.'
)
absl_flags.DEFINE_string(
    'weights', None, 'Its column of numbers by which the losses of training rows are multiplied.'
)
absl_flags.DEFINE_list(
    'class_weights',
    [],
    'By which the losses of the rows of a class are multiplied: ill:yes:5, or ill:balanced.',
)
absl_flags.DEFINE_list(
    'metrics',
    [],
    'Measures that errors of targets are functions of, such as ill:roc_auc: balanced_accuracy, f1, '
    'roc_auc or average_precision of classes, mae of numbers.',
)
absl_flags.DEFINE_bool(
    'standardise',
    True,
    'Whether numbers among its inputs are standardised; else all are inputs as they are.',
)


def load(flags, seed=0, fold=None):
    """The dataset in the file that --table names.

    Args:
      flags: of absl.
      seed: of the split.
      fold: see `data.table`.
    """
    if flags.table is None or not flags.targets:
        raise ValueError('--dataset=table needs --table, a file, and --targets, its target columns')
    dataset = tag_jax.data.table(
        flags.table,
        flags.targets,
        flags.inputs,
        _pairs('kinds', flags.kinds, 'age:regression'),
        flags.split_column,
        seed=seed,
        fold=fold,
        leave_out=flags.leave_out,
        **cells(flags),
        groups=flags.groups,
        stratify=flags.stratify,
        order=flags.order,
        weights=flags.weights,
        class_weights=_class_weights(flags.class_weights),
        metrics=_pairs('metrics', flags.metrics, 'ill:roc_auc'),
        standardise=flags.standardise,
    )
    if len(dataset.tasks) < 2:
        raise ValueError(
            f'--targets names one column only, {flags.targets[0]!r}: name two or more, one a task'
        )
    return dataset


def cells(flags):
    """The arguments of `data.table` by which cells are read, `{name of CELLS: value}`.

    Args:
      flags: of absl.
    """
    delimiter = {'\\t': '\t', 'tab': '\t'}.get(flags.delimiter, flags.delimiter)
    return {name: flags[name].value for name in CELLS} | {
        'missing': _missing(flags.missing),
        'delimiter': delimiter,
    }


def load_split(flags, number, folds):
    """One of several splits of the file.

    Args:
      flags: of absl.
      number: of the split, from 0.
      folds: how many folds the rows are in, of which this one is the test split; 0 to split anew.
    """
    for name in ('split_column', 'order'):
        if flags[name].value is not None:
            raise ValueError(
                f'--{name} gives one split: leave it out, or ask for no other --splits or --folds'
            )
    return load(flags, fold=(number, folds)) if folds else load(flags, seed=number)


def _pairs(flag, texts, example):
    """`{column: word}` of the parts of a list flag; the last colon of a part parts it."""
    found = {}
    for text in texts:
        column, colon, word = text.rpartition(':')
        if not colon:
            raise ValueError(f'--{flag} needs parts such as {example}, not {text!r}')
        if column in found:
            raise ValueError(f'--{flag} names the column {column!r} twice: give it once')
        found[column] = word
    return found


def _missing(texts):
    """`{column: values}` as --missing asks; '' is all columns."""
    found = {}
    for text in texts:
        if not text:
            raise ValueError(
                '--missing needs values such as ? or age:-999; blank is missing always'
            )
        column, colon, value = text.rpartition(':')
        found.setdefault(column, []).append(value if colon else text)
    return found


def _class_weights(texts):
    """`{target: 'balanced' or {class: weight}}` as --class_weights asks."""
    found = {}
    for text in texts:
        target, _, rest = text.partition(':')
        name, colon, weight = rest.rpartition(':')
        if rest == 'balanced':
            found[target] = 'balanced'
            continue
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if not colon or not 0 <= number < math.inf or found.get(target) == 'balanced':
            raise ValueError(
                f'--class_weights needs parts such as ill:yes:5 or ill:balanced, not {text!r}'
            )
        if name in found.setdefault(target, {}):
            raise ValueError(f'--class_weights has {target}:{name} twice: give it once')
        found[target][name] = number
    return found
