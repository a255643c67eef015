"""A dataset out of arrays in memory, or of a DataFrame."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax import objectives
from tag_jax.data.columns import column_of
from tag_jax.data.dataset import Dataset, Split
from tag_jax.data.encoding import Encoding, Input, encode_inputs, varies
from tag_jax.data.fitting import fit_input
from tag_jax.data.labels import fit_labels
from tag_jax.data.splitting import (
    SPLITS,
    Strata,
    check_together,
    given_rows,
    groups_of,
    split_rows,
    told_rows,
)
from tag_jax.data.unlike import ranges_of
from tag_jax.data.weights import check_weights, weigh

# What the single input of an array without names is called.
INPUTS = 'inputs'
# Objectives whose labels a split can be stratified by.
STRATIFIED = ('classification', 'binary', 'regression')


def from_arrays(
    inputs: Any,
    targets: Any,
    tasks: Mapping[str, objectives.Objective],
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    name: str = 'arrays',
    groups: Any = None,
    stratify: str | None = None,
    order: Any = None,
    weights: Any = None,
    split: Any = None,
    fold: tuple[int, int] | None = None,
    standardise: bool = True,
) -> Dataset:
    """Makes a dataset from arrays: splits it, and standardises what a network sees.

    Inputs that are floats `[N, D]`, and the columns of a DataFrame, are encoded as `data.table`
    does: numbers are standardised by the training rows, text becomes one column a value, what is
    missing is 0 with a column that says so. Integers `[N, L]` (tokens), images and nested arrays
    are left as they are.

    Labels of regression tasks are standardised by the training rows. Classes may have any names.
    NaN, None and the like are missing labels, which go behind a mask.

    Args:
      inputs: array `[N, ...]`, a pytree of such arrays, or a DataFrame.
      targets: `{task: labels [N, ...]}`, arrays or lists, or a DataFrame with a column a task. The
        several labels of a task may be a DataFrame `[N, L]`, whose columns then name them.
      tasks: `{task: Objective}`.
      fractions: of training, validation and test examples.
      seed: of the split.
      name: of the dataset, in reports.
      groups: `[N]`, the patient, scaffold or school of each example, so that none is in two splits;
        or the name of a column of the DataFrame, which then is no input.
      stratify: the task whose classes have alike shares in all splits; the values of a regression
        are put into ten bins of as many rows, and these have alike shares. Examples without a label
        of the task are split at random.
      order: `[N]`, numbers or dates: the first examples are for training, the last ones for the
        test, and those of one moment stay together; or the name of a column of the DataFrame, which
        then is no input.
      weights: `[N]`, what the losses of training examples are multiplied by, at least 0; or the
        name of a column of the DataFrame, which then is no input. They are divided by the mean
        of those of training rows that are not 0. An example of weight 0 trains nothing; errors and
        metrics count all alike.
      split: `[N]`, 'train', 'validation' or 'test' for each example, in place of fractions, groups,
        stratify and order; or the name of a column of the DataFrame, which then is no input.
      fold: (k, K), for cross-validation: of K folds that the seed draws by the same rules, the k-th
        from 0 is the test split, so that each example is in it once; the others are for training
        and validation, as the first two fractions say.
      standardise: whether inputs that are numbers are standardised. Where they are not, all of them
        are left as they are, those that never differ included, as pretrained encoders expect them;
        one that is missing is still set to its mean, and an input says so.

    Returns:
      A `Dataset`, whose `encoding` leads from raw rows to inputs, and back from answers.

    Raises:
      ValueError: if tasks are not `{task: Objective}`, labels do not fit an objective, lengths
        differ, a split is empty, or the rules of the split cannot be met together.
    """
    objectives.check_tasks(tasks)
    check_together(
        {'groups': groups, 'stratify': stratify, 'order': order, 'split': split, 'fold': fold}
    )
    columns, arrays = _inputs(inputs, tasks)
    size = _size(columns, arrays)
    if missing := [task for task in tasks if task not in targets]:
        has = ', '.join(map(str, targets)) or 'none'
        raise ValueError(
            f'there are no targets for the task {missing[0]!r}: those that are given are {has}'
        )
    given = {task: _labels(task, targets[task], size) for task in tasks}
    rules = {'groups': groups, 'order': order, 'weights': weights, 'split': split}
    given_rules = {**rules, 'stratify': stratify}
    groups, order, weights, split = (
        _rule(name, rule, columns, size) for name, rule in rules.items()
    )
    if columns == {}:
        raise ValueError('the DataFrame has no column left for inputs')
    strata = None if stratify is None else _strata(stratify, tasks, given)
    if split is None:
        rows = split_rows(size, fractions, seed, groups, strata, order, fold)
    else:
        rows = given_rows(np.asarray(split.values), 'split')
        if empty := [name for name, part in rows.items() if not len(part)]:
            raise ValueError(f'split has no example for {empty[0]!r}')
    known, labels = {}, {}
    for task, objective in tasks.items():
        target, *labels[task] = fit_labels(task, objective, given[task], rows['train'])
        known[task] = target._replace(names=_label_names(targets[task]))
    encoding = Encoding(
        _fit(columns, rows['train'], standardise),
        known,
        rows=told_rows(rows, given_rules, groups),
    )
    if columns is not None:
        arrays = encode_inputs(encoding.inputs, columns)
        if not any(map(varies, encoding.inputs)):
            raise ValueError('no input has two different values in the training split')
    train, *others = (_split(arrays, labels, rows[split]) for split in SPLITS)
    if columns is None:
        encoding = encoding._replace(ranges=ranges_of(train.inputs))
    if weights is not None:
        train = weigh(train, check_weights(weights)[rows['train']])
    whole = groups_of(groups, rows['test'])
    return Dataset(name, dict(tasks), train, *others, encoding, whole)


def _inputs(inputs, tasks):
    """(columns, None) of inputs that are encoded, (None, arrays) of others."""
    if hasattr(inputs, 'columns') and hasattr(inputs, 'iloc'):  # A DataFrame.
        names = [str(name) for name in inputs.columns]
        if both := [name for name in names if name in tasks]:
            raise ValueError(f'the column {both[0]!r} is a task and an input: drop it from inputs')
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f'the DataFrame has two columns called {twice[0]!r}')
        found = {}
        for place, name in enumerate(names):
            found[name] = column_of(name, inputs.iloc[:, place].to_numpy())
        return found, None
    if isinstance(inputs, Mapping | tuple) or hasattr(inputs, '_fields'):
        return None, _nested(_as_array, inputs)
    if isinstance(inputs, np.ma.MaskedArray):
        raise ValueError('inputs are a masked array: give inputs.filled(np.nan)')
    array = _as_array(inputs)
    if array.ndim == 1:
        raise ValueError(
            f'inputs must be arrays with an example a row, not {list(array.shape)}: give '
            'inputs[:, None] for one number an example'
        )
    if array.dtype.kind in 'OUS':
        raise ValueError(
            f'inputs must be numbers, not {array.dtype}: give text as columns of a DataFrame'
        )
    if array.ndim == 2 and array.dtype.kind in 'fb':
        return {INPUTS: column_of(INPUTS, array)}, None
    return None, array


def _rule(name, given, columns, size):
    """The column of groups, order or weights, which is taken out of the inputs if it is one."""
    if given is None:
        return None
    if isinstance(given, str):
        if columns is None or given not in columns or tuple(columns) == (INPUTS,):
            has = '' if columns is None else f': it has {", ".join(columns)}'
            raise ValueError(
                f'{name} names the column {given!r}, which is none of a DataFrame of inputs{has}'
            )
        return columns.pop(given)
    column = column_of(name, np.asarray(given))
    if len(column.values) != size:
        raise ValueError(f'there are {size} examples, but {len(column.values)} values in {name}')
    return column


def _strata(task, tasks, given):
    """The `Strata` of the task that is to be alike in all splits."""
    if task not in tasks:
        raise ValueError(f'stratify is no task: {task!r}; choose from {", ".join(tasks)}')
    if tasks[task].kind not in STRATIFIED or given[task].ndim != 1:
        raise ValueError(
            f'stratify takes a task with one class or one value an example, and {task!r} is '
            f'{tasks[task].kind} with labels {list(given[task].shape)}'
        )
    return Strata(task, column_of(task, given[task]), tasks[task].kind != 'regression')


def _labels(task, given, size):
    """Labels as an array; a list of text and NaN stays a list of both."""
    if isinstance(given, np.ma.MaskedArray):
        raise ValueError(f'the labels of {task!r} are a masked array: give labels.filled(np.nan)')
    array = np.asarray(given)
    if array.dtype.kind in 'US' and not isinstance(given, np.ndarray):
        array = np.asarray(given, object)
    if array.shape[:1] != (size,):
        raise ValueError(f'there are {size} examples, but targets {list(array.shape)} for {task!r}')
    return array


def _label_names(given):
    """The names of several labels an example, the columns of a data frame; else ()."""
    several = hasattr(given, 'columns') and hasattr(given, 'iloc')
    return tuple(map(str, given.columns)) if several else ()


def _as_array(inputs):
    """Inputs as an array; a sentence where their rows are of unlike length."""
    try:
        return np.asarray(inputs)
    except ValueError as error:
        raise ValueError(
            'inputs have rows of unlike shape: fill them up to one shape, with an input of their '
            'own that says what counts'
        ) from error


def _nested(function, tree):
    """A function of all arrays that are nested in dicts and tuples."""
    if isinstance(tree, Mapping):
        return {name: _nested(function, part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [_nested(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, '_fields') else tuple(parts)
    return function(tree)


def _size(columns, arrays):
    lengths = []
    if columns is not None:
        lengths += [len(column.values) for column in columns.values()]
    else:
        _nested(lambda x: lengths.append(x.shape[0] if x.ndim else None), arrays)
    if len(set(lengths)) != 1 or None in lengths:
        raise ValueError('inputs must be arrays of one length, examples first')
    return lengths[0]


def _fit(columns, train, standardise) -> tuple[Input, ...] | None:
    if columns is None:
        return None
    return tuple(
        fit_input(name, column, train, standardise=standardise, of_file=False)
        for name, column in columns.items()
    )


def _split(arrays, labels, rows):
    targets = {task: array[rows] for task, (array, _) in labels.items()}
    masks = {task: there[rows] for task, (_, there) in labels.items()}
    gaps = {task: there for task, there in masks.items() if not there.all()}
    return Split(_nested(lambda x: x[rows], arrays), targets, gaps or None)
