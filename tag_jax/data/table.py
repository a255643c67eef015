"""A dataset out of any table: a file with named columns, some of them targets.

`data.table('patients.csv', targets=('age', 'diagnosis'))`, say.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax import objectives
from tag_jax.data.columns import Format, missing_values
from tag_jax.data.dataset import Dataset, Split
from tag_jax.data.encoding import Encoding, encode_inputs, encode_target, varies
from tag_jax.data.fitting import fit_input, fit_target
from tag_jax.data.opening import Table, open_table
from tag_jax.data.splitting import (
    SPLITS,
    Strata,
    check_together,
    given_rows,
    groups_of,
    split_rows,
    told_rows,
)
from tag_jax.data.weights import check_weights, class_weights_of, weigh

TARGET_KINDS = ('classification', 'regression', 'text')
INPUT_KINDS = ('number', 'text')


def table(
    path: str | os.PathLike,
    targets: Sequence[str],
    inputs: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    split: str | None = None,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    leave_out: Sequence[str] = (),
    delimiter: str | None = None,
    decimal: str = '.',
    thousands: str | None = None,
    encoding: str = 'utf-8',
    missing: Sequence[str | float] | Mapping[str, Sequence[str | float]] = (),
    comment: str | None = None,
    groups: str | None = None,
    stratify: str | None = None,
    order: str | None = None,
    weights: str | None = None,
    class_weights: Mapping[str, Any] | None = None,
    metrics: Mapping[str, str] | None = None,
    fold: tuple[int, int] | None = None,
    standardise: bool = True,
) -> Dataset:
    """Reads a dataset from a table with a row an example.

    Numbers and booleans among the inputs are standardised by the mean and the standard deviation of
    the training split. Text becomes one column a value that the training split has. Where a number
    is missing it is set to its mean, and a column that says so is added at the end; missing text is
    all zeros. A number that is the same in all training rows is left out.

    Text and booleans are classes, in sorted order, and so are at most 20 consecutive integers;
    other numbers are regressed, standardised by the training split like the inputs. Where a target
    is missing, the example has no label for the task.

    A column of numbers in which a cell is none is refused, with its row: nothing is guessed.
    `Dataset.encoding` keeps what each column was taken for (`Encoding.describe()` says it).

    Args:
      path: a .csv or .tsv file (names in its first row; or one compressed: .csv.gz, .bz2, .xz), a
        .parquet or .arff file, or an .npz file of arrays `[N]` or `[N, ...]`, with NaN where a
        number is missing. Only columns that are used are read.
      targets: names of the target columns, one for each task.
      inputs: names of the input columns; None for all others. A first column without a name, as
        pandas writes its index, is none.
      kinds: `{target: 'classification', 'regression' or 'text'}`, where it is not to be inferred
        ('text' for classes some of which look like numbers), and `{input: 'number' or 'text'}`
        ('number' for dates as days since 1970).
      split: name of a column that says 'train', 'validation' or 'test'; None to split at random.
      fractions: of the three splits, where they are random.
      seed: of a random split.
      leave_out: names of columns that are no inputs.
      delimiter: between the cells of a text file; None for a comma, in .tsv files a tab.
      decimal: the decimal point of a text file.
      thousands: what separates thousands in a text file; None for nothing.
      encoding: of a text file, such as 'latin-1'.
      missing: values that stand for missing ones, beside the words that pandas takes for them in a
        text file: for all columns, or `{column: values}`, such as `{'age': [-999]}`.
      comment: what lines of a text file begin with that do not count.
      groups: name of a column that says of which patient, scaffold or school a row is, so that none
        is in two splits.
      stratify: the target whose classes have alike shares in all splits; numbers that are regressed
        are put into ten bins of as many rows, and these have alike shares. Rows without a label of
        it are split at random.
      order: name of a column of numbers or dates: the first rows are for training, the last ones
        for the test, and those of one moment stay together. This column and those of groups and
        weights are no inputs, unless `inputs` names them.
      weights: name of a column of numbers of at least 0, by which the losses of training rows are
        multiplied. They are divided by the mean of those of training rows that are not 0. A row of
        weight 0 trains nothing; errors and metrics count all rows alike.
      class_weights: `{target: {class: weight}}`, by which the losses of the rows of a class are
        multiplied (1 for those that it lacks), or `{target: 'balanced'}`, as scikit-learn has it.
      metrics: `{target: measure}` that its error is a function of, see `objectives.judged_by`.
      fold: (k, K), for cross-validation: of K folds that the seed draws by the same rules, the k-th
        from 0 is the test split, so that each row is in it once; the others are for training
        and validation, as the first two fractions say.
      standardise: whether numbers among the inputs are standardised. Where they are not, all of
        them are inputs as they are, those that never differ included, as pretrained encoders
        expect them; one that is missing is still set to its mean, and a column says so.

    Returns:
      A `Dataset`, called after the file, with inputs float32 `[N, D]`, targets int32 or float32
      `[N]`, and masks where labels are missing.

    Raises:
      ValueError: if a column does not exist or cannot be used, a cell is no number among numbers,
        a split is empty, the rules of the split cannot be met together, or the file is none of
        these.
      OSError: if the file cannot be read.
    """
    for name, given in (('targets', targets), ('inputs', inputs), ('leave_out', leave_out)):
        if isinstance(given, str):
            raise ValueError(f'{name} must be a list of columns, not the text {given!r}')
    rules = {'groups': groups, 'stratify': stratify, 'order': order, 'split': split}
    check_together({**rules, 'fold': fold}, f'the column {split!r}')
    rules['weights'] = weights
    form = Format(delimiter, decimal, thousands, encoding, comment, missing_values(missing))
    file = open_table(path, form)
    targets, kinds = _names(targets), dict(kinds or {})
    if not targets:
        raise ValueError(f'name the target columns of {file.path}, one for each task')
    if inputs is None:
        no_inputs = (*targets, split, groups, order, weights, *leave_out, *file.index)
        inputs = [name for name in file.names if name not in no_inputs]
    declared = [name for name in form.missing if name]
    _check_names(file, targets, inputs, (*kinds, *leave_out, *declared), rules)
    _check_kinds(kinds, targets, inputs, rules)

    columns = {name: _column(file, name, kinds.get(name)) for name in (*targets, *inputs)}
    size = _length(file.path, columns)
    if split is not None:
        rows = given_rows(file.column(split, 'text').values, f'the column {split!r}')
        grouped = None
    else:
        grouped, *others = _rules(file, targets, columns, kinds, size, groups, stratify, order)
        rows = split_rows(size, fractions, seed, grouped, *others, fold)
    for name, part in rows.items():
        if not len(part):
            raise ValueError(f'the {name} split of {file.path} has no rows')
    found = _encoding(columns, inputs, targets, kinds, rows['train'], standardise)
    if not any(map(varies, found.inputs)):
        raise ValueError(f'no input of {file.path} has two different values in the training split')
    found = found._replace(form=form, rows=told_rows(rows, rules, grouped))
    matrix = encode_inputs(found.inputs, columns)
    labels = {name: encode_target(found.targets[name], columns[name]) for name in targets}
    train, *others = (_split(matrix, labels, rows[name]) for name in SPLITS)
    if weights is not None:
        train = weigh(train, check_weights(_of_size(file, weights, None, size))[rows['train']])
    tasks = _tasks(found.targets, labels, rows['train'], class_weights or {})
    tasks = _judged(tasks, metrics or {})
    whole = groups_of(grouped, rows['test'])
    return Dataset(pathlib.Path(path).stem, tasks, train, *others, found, whole)


def _check_names(file, targets, inputs, others, rules):
    """Raises ValueError unless all columns that are named exist, and can be what they are to be."""
    for rule in ('groups', 'order', 'weights'):
        if rules[rule] is not None and rules[rule] not in file.names:
            raise ValueError(
                f'{file.path} has no column {rules[rule]!r} for {rule}: it has '
                f'{", ".join(file.names)}'
            )
    split = rules['split']
    for name in (*targets, *inputs, *others, *([split] if split else [])):
        if name not in file.names:
            raise ValueError(f'{file.path} has no column {name!r}: it has {", ".join(file.names)}')
    for rule in ('weights', 'split'):
        if rules[rule] in targets:
            raise ValueError(
                f'the column {rules[rule]!r} is a target, and cannot be {rule} as well: name '
                f'another column, or leave {rule} out'
            )
    if both := [name for name in inputs if name in (*targets, split)]:
        raise ValueError(f'the column {both[0]!r} cannot be an input: it is a target or the split')
    if not inputs:
        raise ValueError(f'{file.path} has no column left for inputs')
    if len(set(inputs)) < len(inputs):
        raise ValueError(f'an input column is named twice: {", ".join(inputs)}')


def _encoding(columns, inputs, targets, kinds, train, standardise):
    """The `Encoding` of the columns, learned from the training rows."""
    fit = lambda name: fit_input(name, columns[name], train, kinds.get(name), standardise)
    label = lambda name: fit_target(name, columns[name], _goal(kinds.get(name)), train)
    return Encoding(tuple(map(fit, inputs)), {name: label(name) for name in targets})


def _rules(file, targets, columns, kinds, size, groups, stratify, order):
    """The groups, the `Strata` and the order that rows are split by; None where there is none."""
    strata = None
    if stratify is not None:
        if stratify not in targets:
            raise ValueError(
                f'stratify is no target: {stratify!r}; choose from {", ".join(targets)}'
            )
        column, kind = columns[stratify], _goal(kinds.get(stratify))
        target = fit_target(stratify, column, kind, np.arange(size))
        strata = Strata(stratify, column, target.kind == 'classification')
    groups = None if groups is None else _of_size(file, groups, 'text', size)
    order = None if order is None else _of_size(file, order, None, size)
    return groups, strata, order


def _of_size(file, name, kind, size):
    """A column that is neither input nor target, of as many rows."""
    column = file.column(name, kind)
    if len(column.values) != size:
        raise ValueError(
            f'{file.path} must hold columns of one length, but {name!r} has {len(column.values)} '
            f'rows and others {size}'
        )
    return column


def _split(matrix, labels, rows):
    gaps = {task: there[rows] for task, (_, there) in labels.items() if not there[rows].all()}
    return Split(matrix[rows], {task: of[rows] for task, (of, _) in labels.items()}, gaps or None)


def _check_kinds(kinds, targets, inputs, rules):
    for name, kind in kinds.items():
        if name in targets and kind not in TARGET_KINDS:
            raise ValueError(
                f'the kind of the target {name!r} is {" or ".join(TARGET_KINDS)}, not {kind!r}'
            )
        if name in inputs and kind not in INPUT_KINDS:
            raise ValueError(
                f'the kind of the input {name!r} is {" or ".join(INPUT_KINDS)}, not {kind!r}'
            )
        if name not in (*targets, *inputs):
            what = ''.join(f'it is the column of {r}, ' for r, of in rules.items() if of == name)
            raise ValueError(
                f'kinds has {name!r}, which is neither a target nor an input: {what}leave it out '
                'of kinds'
            )


def _column(file: Table, name, kind):
    return file.column(name, {'regression': 'number', 'classification': None}.get(kind, kind))


def _goal(kind):
    return 'classification' if kind == 'text' else kind


def _length(path, columns):
    lengths = {name: len(column.values) for name, column in columns.items()}
    first, size = next(iter(lengths.items()))
    for name, other in lengths.items():
        if other != size:
            raise ValueError(
                f'{path} must hold columns of one length, but {first!r} has {size} rows and '
                f'{name!r} {other}'
            )
    if not size:
        raise ValueError(f'{path} must hold columns of one length, with at least one row')
    return size


def _tasks(targets, labels, train, class_weights):
    """`{task: Objective}`, with the weights of classes that are asked for."""
    if not isinstance(class_weights, Mapping):
        raise ValueError(
            f"class_weights must be {{target: 'balanced' or {{class: weight}}}}, not "
            f'{class_weights!r}'
        )
    if unknown := [task for task in class_weights if task not in targets]:
        raise ValueError(f'class_weights has {unknown[0]!r}, which is no target')
    found = {}
    for task, target in targets.items():
        weights = None
        if task in class_weights:
            own = [part[train] for part in labels[task]]
            weights = class_weights_of(task, class_weights[task], target, *own)
        if target.kind == 'classification':
            found[task] = objectives.classification(len(target.classes), weights)
        else:
            found[task] = objectives.regression()
    return found


def _judged(tasks, metrics):
    """`{task: Objective}`, judged by the measures that are asked for."""
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics must be {{target: measure}}, as 'roc_auc', not {metrics!r}")
    if unknown := [task for task in metrics if task not in tasks]:
        raise ValueError(f'metrics has {unknown[0]!r}, which is no target')
    judged = {}
    for task, measure in metrics.items():
        try:
            judged[task] = objectives.judged_by(tasks[task], measure)
        except ValueError as error:
            raise ValueError(f'metrics has {task!r}, and {error}') from error
    return {**tasks, **judged}


def _names(names):
    names = tuple(names)
    if len(set(names)) < len(names):
        raise ValueError(f'a target column is named twice: {", ".join(names)}')
    return names
