"""Many tasks with labels of some examples each: one network for all, one each, or groups.

    python -m experiments.benchmarks.many_tasks --table=school.npz

reads an `.npz` file with inputs `x`, `[N, D]`, and an array of labels for each task, `[N]`, NaN
where a row has none. Labels of 0 and 1 are classes, others are regressed. Rows are split
60 : 20 : 20 anew for each seed: those of each task apart, and its classes in equal shares, where
every row has a label of one task (School, Landmine, Parkinsons); all together where rows have
labels of several (Tox21). It trains MLPs on `data.from_arrays` by `grouping.group_tasks`: one
network for all tasks, one for each, and those of the groups of --methods. It prints means over
seeds, with standard errors: the error in percent, a mean over tasks; of classes the ROC AUC, a mean
over tasks; of values the explained variance over the test rows of all tasks, 1 - sum of squared
errors / sum of squares about the mean of all, in natural units (as Bakker & Heskes 2003, "Task
Clustering and Gating for Bayesian Multitask Learning", have it); and the seconds that search,
training and evaluation took.
"""

import pathlib
import time
from typing import NamedTuple

import numpy as np
from absl import flags

from tag_jax import data, grouping, models, objectives
from tag_jax.launchers import common, launch, methods
from tag_jax.numbers import mean_and_error
from tag_jax.problem import from_nnx
from tag_jax.tables import plus_minus
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
    """Inputs and labels.

    Attributes:
      name: of the file.
      inputs: float `[N, D]`.
      tasks: T names.
      labels: float `[N, T]`, NaN where a row has none.
    """

    name: str
    inputs: np.ndarray
    tasks: tuple[str, ...]
    labels: np.ndarray

    @property
    def known(self):
        """Says where there are labels, bool `[N, T]`."""
        return np.isfinite(self.labels)

    @property
    def classes(self):
        """Whether labels are 0 and 1."""
        return bool(np.isin(self.labels[self.known], (0, 1)).all())


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
    table = Table(path.stem, inputs, tuple(arrays), np.stack(list(arrays.values()), axis=1))
    if not table.known.any(axis=1).all():
        row = np.flatnonzero(~table.known.any(axis=1))[0]
        raise ValueError(f'row {row + 1} of {path} has no label: leave it out')
    return table


def split(table, seed):
    """'train', 'validation' or 'test' for each row, 60 : 20 : 20.

    Of every task and class, where a row has a label of one task; else of all rows.
    """
    rng = np.random.default_rng(seed)
    known = table.known
    strata = np.zeros(len(known), int)
    if (known.sum(axis=1) == 1).all():
        classes = 2 if table.classes else 1
        own = np.where(known, table.labels, 0).sum(axis=1).astype(int) if classes == 2 else 0
        strata = classes * known.argmax(axis=1) + own
    parts = np.empty(len(known), object)
    for stratum in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        ends = np.round(np.array([0.6, 0.8]) * len(rows)).astype(int)
        for name, own in zip(PARTS, np.split(rows, ends), strict=True):
            parts[own] = name
    return parts


def usable(table, parts):
    """The tasks that have two different labels in every part, by number."""
    known = table.known
    different = lambda task, part: (
        len(np.unique(table.labels[known[:, task] & (parts == part), task])) > 1
    )
    return [
        task for task in range(len(table.tasks)) if all(different(task, part) for part in PARTS)
    ]


def load(table, parts, kept):
    """The `Dataset` of some tasks, standardised by its training rows."""
    rows = table.known[:, kept].any(axis=1)
    names = [table.tasks[task] for task in kept]
    one = objectives.classification(2) if table.classes else objectives.regression()
    labels = dict(zip(names, table.labels[rows][:, kept].T, strict=True))
    asked = {'split': parts[rows].astype(str), 'name': table.name}
    return data.from_arrays(table.inputs[rows], labels, dict.fromkeys(names, one), **asked)


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
    squares, labels = 0.0, []
    for task in result.task_names:
        own = table.labels[parts == 'test', table.tasks.index(task)]
        labels.append(own[np.isfinite(own)])
        squares += len(labels[-1]) * result.metrics[task]['mse']
    labels = np.concatenate(labels)
    about_mean = np.square(labels - labels.mean()).sum()
    return error, 100 * (1 - squares / about_mean)


def show(table, rows, left_out):
    """Prints the table: a row a way."""
    measure = 'ROC AUC' if table.classes else 'explained variance (%)'
    print(
        f'\n{table.name}: {len(table.inputs)} rows, {len(table.tasks)} tasks, {FLAGS.seeds} seeds'
    )
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
