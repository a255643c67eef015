"""Many small tasks without common examples: one network for all, one each, or groups.

    python -m experiments.benchmarks.many_tasks --table=school.npz

reads an `.npz` file with inputs `x`, `[N, D]`, and an array of labels for each task, `[N]`, NaN
where a row has none; every row has a label of one task. Labels of 0 and 1 are classes, others are
regressed. The rows of each task are split 60 : 20 : 20, classes in equal shares, anew for each
seed. It trains MLPs on `data.table` by `grouping.group_tasks`: one network for all tasks, one for
each, and those of the groups of --methods. It prints means over seeds, with standard errors: the
error in percent, a mean over tasks; of classes the ROC AUC, a mean over tasks; of values the
explained variance over the test rows of all tasks, 1 - sum of squared errors / sum of squares about
the mean of all, in natural units (as Bakker & Heskes 2003, "Task Clustering and Gating for Bayesian
Multitask Learning", have it); and the seconds that search, training and evaluation took.
"""

import pathlib
import tempfile
import time
from typing import NamedTuple

import numpy as np
from absl import flags

from tag_jax import data, grouping, models
from tag_jax.launchers import common, launch, methods
from tag_jax.numbers import mean_and_error
from tag_jax.problem import from_nnx
from tag_jax.report.tables import plus_minus
from tag_jax.training import Measurement, TrainingConfig

flags.DEFINE_integer('seeds', 3, 'Splits and networks.')
flags.DEFINE_list('methods', ['random_even'], 'Ways to find groups.')
for _name in (
    *('table', 'budget', 'steps', 'batch_size', 'learning_rate', 'eval_every', 'widths'),
    *('patience', 'compilation_cache'),
):
    flags.declare_key_flag(_name)

FLAGS = flags.FLAGS

PARTS = ('train', 'validation', 'test')


class Table(NamedTuple):
    """Inputs, and the one task and label of each row.

    Attributes:
      name: of the file.
      inputs: float `[N, D]`.
      tasks: T names.
      task: int `[N]`, the task of each row.
      label: float `[N]`.
    """

    name: str
    inputs: np.ndarray
    tasks: tuple[str, ...]
    task: np.ndarray
    label: np.ndarray

    @property
    def classes(self):
        """Whether labels are 0 and 1."""
        return bool(np.isin(self.label, (0, 1)).all())


def main():
    if FLAGS.table is None:
        raise ValueError('--table is needed: an .npz file with inputs x and an array a task')
    table = read(pathlib.Path(FLAGS.table))
    ways = [('one network for all', grouping.all_in_one(), 1)]
    ways += [
        (f'{text}, budget {common.budget():g}', methods.make(text), common.budget())
        for text in FLAGS.methods
    ]
    ways += [('one network each', grouping.single_task(), len(table.tasks))]
    rows = {name: [] for name, *_ in ways}
    left_out = 0
    for seed in range(FLAGS.seeds):
        parts = split(table, seed)
        kept = usable(table, parts)
        left_out = max(left_out, len(table.tasks) - len(kept))
        for name, found in run(table, parts, kept, ways, seed):
            rows[name].append(found)
    show(table, rows, left_out)


def run(table, parts, kept, ways, seed):
    """Yields (the name of a way, [its error, its score, its seconds]) on one split."""
    dataset = load(table, parts, kept)
    model, config = network(dataset), settings(seed)
    for name, method, budget in ways:
        began = time.perf_counter()
        result = grouping.group_tasks(model, dataset, min(budget, len(kept)), method, config)
        seconds = time.perf_counter() - began
        error, score = scores(table, parts, result)
        print(f'seed {seed}, {name}: error {error:.2f} %, {score:.4f}, {seconds:.0f} s', flush=True)
        yield name, [error, score, seconds]


def read(path):
    """The `Table` of a file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name], np.float64) for name in file.files}
    if 'x' not in arrays or len(arrays) < 3:
        raise ValueError(f'{path} must hold inputs x and an array for each of two or more tasks')
    inputs = arrays.pop('x')
    if wrong := [name for name, labels in arrays.items() if labels.shape != inputs.shape[:1]]:
        raise ValueError(
            f'{path} must hold a label a row for {wrong[0]!r}: NaN where there is none'
        )
    labels = np.stack(list(arrays.values()), axis=1)
    known = np.isfinite(labels)
    if (known.sum(axis=1) != 1).any():
        row = np.flatnonzero(known.sum(axis=1) != 1)[0]
        raise ValueError(
            f'row {row + 1} of {path} has labels of {known[row].sum()} tasks: here every row has '
            'one, and python -m experiments.compare_groupings takes other tables'
        )
    task = known.argmax(axis=1)
    return Table(path.stem, inputs, tuple(arrays), task, labels[np.arange(len(task)), task])


def split(table, seed):
    """'train', 'validation' or 'test' for each row: 60 : 20 : 20 of every task and class."""
    rng = np.random.default_rng(seed)
    parts = np.empty(len(table.task), object)
    strata = table.label if table.classes else np.zeros(len(table.task))
    for task in range(len(table.tasks)):
        for stratum in np.unique(strata):
            rows = rng.permutation(np.flatnonzero((table.task == task) & (strata == stratum)))
            ends = np.round(np.array([0.6, 0.8]) * len(rows)).astype(int)
            for name, own in zip(PARTS, np.split(rows, ends), strict=True):
                parts[own] = name
    return parts


def usable(table, parts):
    """The tasks that have two different labels in every part, by number."""
    different = lambda task, part: (
        len(np.unique(table.label[(table.task == task) & (parts == part)])) > 1
    )
    return [
        task for task in range(len(table.tasks)) if all(different(task, part) for part in PARTS)
    ]


def load(table, parts, kept):
    """The `Dataset` of some tasks, standardised by its training rows."""
    rows = np.isin(table.task, kept)
    names = [table.tasks[task] for task in kept]
    columns = {'x': table.inputs[rows], 'part': parts[rows].astype(str)}
    for task, name in zip(kept, names, strict=True):
        columns[name] = np.where(table.task == task, table.label, np.nan)[rows]
    kind = 'classification' if table.classes else 'regression'
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f'{table.name}.npz'
        np.savez(path, **columns)
        return data.table(path, names, split='part', kinds=dict.fromkeys(names, kind))


def network(dataset):
    """An MLP with a dense head for each task."""
    widths = [int(width) for width in FLAGS.widths or (64, 32)]
    size = dataset.train.inputs.shape[1]
    return from_nnx(
        lambda rngs: models.MLP(size, widths, rngs=rngs), dataset.tasks, dataset.example_inputs
    )


def settings(seed):
    """The `TrainingConfig` of all networks."""
    return TrainingConfig(
        steps=FLAGS.steps or 300,
        batch_size=FLAGS.batch_size or 128,
        learning_rate=FLAGS.learning_rate or 2e-3,
        eval_every=FLAGS.eval_every or 50,
        patience=10 if FLAGS.patience is None else FLAGS.patience,
        affinity=Measurement(every=50, kind='first_order'),
        seed=seed,
    )


def scores(table, parts, result):
    """(mean error in percent, mean ROC AUC or pooled explained variance) on the test rows."""
    error = np.mean(list(result.test_error.values()))
    if table.classes:
        return error, np.mean([own['roc_auc'] for own in result.metrics.values()])
    kept = [table.tasks.index(task) for task in result.task_names]
    test = (parts == 'test') & np.isin(table.task, kept)
    counts = [np.sum(test & (table.task == task)) for task in kept]
    squares = np.dot(counts, [result.metrics[task]['mse'] for task in result.task_names])
    about_mean = np.square(table.label[test] - table.label[test].mean()).sum()
    return error, 100 * (1 - squares / about_mean)


def show(table, rows, left_out):
    """Prints the table: a row a way."""
    measure = 'ROC AUC' if table.classes else 'explained variance (%)'
    print(f'\n{table.name}: {len(table.task)} rows, {len(table.tasks)} tasks, {FLAGS.seeds} seeds')
    if left_out:
        print(f'{left_out} tasks at most are left out, which have one label only in a split')
    print(f'| | error (%) | {measure} | seconds |')
    print('| --- | --- | --- | --- |')
    for name, values in rows.items():
        error, score, seconds = np.array(values, float).T
        digits = (2, 3 if table.classes else 2)
        shown = [
            plus_minus(*mean_and_error(one), places)
            for one, places in zip((error, score), digits, strict=True)
        ]
        print(f'| {name} | {shown[0]} | {shown[1]} | {seconds.mean():.0f} |')


if __name__ == '__main__':
    launch.launch(main)
