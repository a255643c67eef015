"""Records a table: a network for every set of tasks of a problem, over seeds.

    python -m experiments.record_table --table=emotions.csv --targets=y0,y1,y2,y3,y4,y5 --out=tables

reads a table (`tag_jax.data.table` says which), trains a network for every set of targets and every
seed, and writes tables/emotions.npz, which `python -m experiments.grouping_benchmark` judges
methods on. With 8 tasks there are 255 sets, and ten minutes to an hour of training on two CPU
cores. Every seed draws its own training and validation rows; a quarter of the rows are for the
test, the same for all seeds.

    python -m experiments.record_table --table=emotions.csv --targets=y0,y1,y2,y3,y4,y5 --tune

trains networks for all tasks only, with widths, learning rates and weight decays to choose from,
and gradient boosting (scikit-learn) for each task: what networks reach on validation, beside what
they should.
"""

import dataclasses
import functools
import hashlib
import itertools
import pathlib
import shlex

import numpy as np
import optax
from absl import flags
from sklearn import ensemble, metrics

from tag_jax import data, grouping, models, objectives, training
from tag_jax.data import opening
from tag_jax.launchers import common, datasets, launch, optimizers
from tag_jax.numbers import mean_and_error
from tag_jax.problem import from_nnx
from tag_jax.studies import group_steps, judging, recorded, recording
from tag_jax.tables import plus_minus
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig

flags.DEFINE_string('out', '.', 'Folder of the table that is written.')
flags.DEFINE_string('name', None, 'Of the problem; by default that of the file.')
flags.DEFINE_integer('seeds', 8, 'Of networks, each with its own training rows.')
flags.DEFINE_string('source', '', 'Where the data are from, for the record.')
flags.DEFINE_string('licence', '', 'Of the data, for the record.')
flags.DEFINE_integer('most_rows', None, 'Rows drawn at random, where there are more; None for all.')
flags.DEFINE_list(
    'check',
    [],
    'Train these sets of the first seed again, such as a+b,a, with every other flag as it was, and '
    'compare them with the table.',
)
flags.DEFINE_bool('tune', False, 'Look for settings, and record nothing.')
flags.DEFINE_bool(
    'group_steps',
    False,
    'Judge groups by the steps of sets of tasks, on a table that is there, and record nothing; '
    'every other flag as it was.',
)
flags.DEFINE_bool(
    'estimates_only', False, 'Add estimates to a table that is there; every other flag as it was.'
)
for _name in (
    *('dataset', 'table', 'targets', 'leave_out', 'steps', 'batch_size', 'learning_rate', 'widths'),
    *optimizers.NAMES,
    'compilation_cache',
):
    flags.declare_key_flag(_name)

FLAGS = common.FLAGS

# What is done in place of recording.
OTHER_JOBS = ('check', 'tune', 'estimates_only', 'group_steps')
TEST, VALIDATION = 0.25, 0.2  # Shares of all rows, and of the rest.
BUDGETS = (2, 3, 4)
MOST = 5.0  # Standard deviations, of an input.
# What --tune tries.
WIDTHS, RATES, DECAYS = ((16, 16), (32, 32)), (5e-4, 2e-3, 8e-3), (0.1,)


def main():
    given = [f'--{name}' for name in OTHER_JOBS if getattr(FLAGS, name)]
    if len(given) > 1:
        raise ValueError(f'{given[0]} and {given[1]} are different jobs: give one of them')
    inputs, labels, tasks, about = examples()
    datasets = [load(inputs, labels, tasks, seed) for seed in range(FLAGS.seeds)]
    if FLAGS.tune:
        tune(datasets)
        return
    widths = [int(width) for width in FLAGS.widths or (32, 32)]
    make = functools.partial(models.MLP, datasets[0].train.inputs[0].size, widths)
    problem, config = problem_of(make, datasets), settings()
    name, out = FLAGS.name or default_name(), pathlib.Path(FLAGS.out)
    if FLAGS.check or FLAGS.group_steps:
        table = recorded.read(name if name in recorded.names() else out / f'{name}.npz')
        if FLAGS.check:
            check(table, problem, datasets[0], config)
        else:
            judge_group_steps(table, problem, datasets, config)
        return
    if FLAGS.estimates_only:
        table = recorded.read(out / f'{name}.npz')
    else:
        about = {
            'data': {'source': FLAGS.source, 'licence': FLAGS.licence, **about},
            'network': {'encoder': 'MLP', 'widths': widths},
            'command': command(),
        }
        sizes = {
            cost: problem_of(sized(make, datasets, cost), datasets)
            for cost in (*BUDGETS, *(budget / len(tasks) for budget in BUDGETS))
            if cost != 1
        }
        table = recording.record(name, problem, datasets, config, sizes, about)
    table = recording.estimated(table, problem, datasets, config)
    out.mkdir(parents=True, exist_ok=True)
    recorded.write(out / f'{name}.npz', table)
    print(f'{out / name}.npz: {(out / f"{name}.npz").stat().st_size / 1e6:.2f} MB')


def examples():
    """(inputs [N, D], `{task: labels [N]}`, `{task: Objective}`, about the data) of the flags."""
    if FLAGS.table is None:
        inputs, labels, tasks, about = of_dataset(datasets.load_dataset())
    elif len(FLAGS.targets or ()) < 2:
        raise ValueError('--table needs two or more --targets, columns of the file')
    else:
        inputs, labels, tasks, about = read(pathlib.Path(FLAGS.table), FLAGS.targets)
    if FLAGS.most_rows and len(inputs) > FLAGS.most_rows:
        kept = np.random.default_rng(2).permutation(len(inputs))[: FLAGS.most_rows]
        inputs, labels = inputs[kept], {task: one[kept] for task, one in labels.items()}
        about = {**about, 'rows': FLAGS.most_rows}
    return inputs, labels, tasks, about


def check(table, problem, dataset, config):
    """Trains sets of the first seed again, and prints how far losses are from the recorded ones."""
    sets = [tuple(one.split('+')) for one in FLAGS.check]
    if unknown := sorted(set().union(*sets) - set(table.task_names)):
        raise ValueError(f'{table.name} has no task {unknown[0]!r} for --check')
    found = recording.trained(problem, dataset, sets, config)
    for tasks, scores in zip(sets, found, strict=True):
        place = table.members.tolist().index([task in tasks for task in table.task_names])
        for n, share in enumerate(table.shares):
            furthest = max(
                np.nanmax(
                    np.abs(values[n] / table.scores[split, 'loss'][0, n, place] - 1),
                )
                for (split, measure), values in scores.items()
                if measure == 'loss'
            )
            print(f'{" + ".join(tasks)}, after {share:g}: losses differ by {100 * furthest:.2f} %')


def judge_group_steps(table, problem, datasets, config):
    """Prints the regrets of groups by group steps, and by what these say of sizes alone."""
    if table.task_names != problem.task_names:
        raise ValueError(f'{table.name} has the tasks {", ".join(table.task_names)}: give these')
    if table.seeds != len(datasets):
        raise ValueError(f'{table.name} has {table.seeds} seeds: give --seeds={table.seeds}')
    found = [
        group_steps.estimates(
            problem, dataset, dataclasses.replace(config, seed=config.seed + seed)
        )
        for seed, dataset in enumerate(datasets)
    ]
    methods = [grouping.all_in_one(), grouping.all_but_one()]
    for kind in found[0]:
        own = [one[kind] for one in found]
        sizes = [group_steps.by_size(one) for one in own]
        methods.append(group_steps.method(f'group_steps({kind})', own))
        methods.append(group_steps.method(f'group_steps({kind}), sizes alone', sizes))
    judged = judging.judge(table, methods)
    print(f'{table.name}: points a task above the best groups that could be known; correlation')
    for name, score in judged.scores.items():
        regret = (score - judged.optimum) / len(table.task_names)
        print(f'{name:32} {regret:6.2f} {judged.correlations.get(name, np.nan):6.2f}')


def default_name():
    """The name of the file or the dataset."""
    return FLAGS.dataset if FLAGS.table is None else pathlib.Path(FLAGS.table).stem


def command():
    """The command, without the folders of this machine."""
    kept = [part for part in shlex.split(launch.command()) if not part.startswith('--out')]
    text = shlex.join(kept)
    return (
        text if FLAGS.table is None else text.replace(FLAGS.table, pathlib.Path(FLAGS.table).name)
    )


def of_dataset(dataset):
    """All examples of a dataset in memory: see `read`."""
    parts = dataset.train, dataset.validation, dataset.test
    inputs = np.concatenate([np.asarray(part.inputs) for part in parts])
    labels = {
        task: np.concatenate([np.asarray(part.targets[task]) for part in parts])
        for task in dataset.tasks
    }
    inputs = inputs.reshape(len(inputs), -1).astype(np.float32)
    about = {'dataset': dataset.name, 'rows': len(inputs), 'inputs': inputs.shape[1]}
    return inputs, labels, dict(dataset.tasks), about


def read(path, targets):
    """(inputs [N, D], `{task: labels [N]}`, `{task: Objective}`, about the data) of a table."""
    file = opening.open_table(path)
    if missing := [name for name in targets if name not in file.names]:
        raise ValueError(f'{path} has no column {missing[0]!r}')
    found = {name: file.column(name, 'number') for name in file.names}
    whole = {
        name: np.where(one.missing.reshape(one.values.shape), np.nan, one.values.astype(float))
        for name, one in found.items()
    }
    inputs = [
        values.reshape(len(values), -1)
        for name, values in whole.items()
        if name not in targets and name not in (FLAGS.leave_out or ())
    ]
    labels = {name: whole[name] for name in targets}
    kept = np.any([np.isfinite(one) for one in labels.values()], axis=0)
    tasks = {
        name: objectives.binary()
        if np.isin(one[np.isfinite(one)], (0, 1)).all()
        else objectives.regression()
        for name, one in labels.items()
    }
    inputs = np.concatenate(inputs, axis=1)[kept].astype(np.float32)
    about = {
        'file': path.name,
        'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        'rows': len(inputs),
        'inputs': inputs.shape[1],
    }
    return inputs, {name: one[kept] for name, one in labels.items()}, tasks, about


def load(inputs, labels, tasks, seed):
    """The `Dataset` of a seed: the test rows are those of all seeds, the others are drawn anew."""
    size = len(inputs)
    rows = np.random.default_rng(0).permutation(size)
    rest = rows[round(TEST * size) :]
    drawn = np.random.default_rng((1, seed)).permutation(rest)
    parts = np.full(size, 'test', dtype='<U10')
    parts[rest] = 'train'
    parts[drawn[: round(VALIDATION * len(rest))]] = 'validation'
    # `[N, D, 1]` are left as they are: all seeds must have the same columns, constant ones as well.
    return data.from_arrays(standardised(inputs, parts), labels, tasks, split=parts)


def standardised(inputs, parts):
    """Inputs `[N, D, 1]` in units of the training rows, within MOST; 0 where one is missing."""
    train = inputs[parts == 'train'].astype(float)
    known = np.isfinite(train)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, train, 0).sum(axis=0) / count
    variance = np.where(known, np.square(train - mean), 0).sum(axis=0) / count
    scale = np.where(variance > 0, np.sqrt(variance), 1)
    return np.nan_to_num(np.clip((inputs - mean) / scale, -MOST, MOST))[..., None].astype(
        np.float32
    )


def problem_of(make, datasets):
    """Dense heads on an encoder."""
    return from_nnx(lambda rngs: make(rngs=rngs), datasets[0].tasks, datasets[0].example_inputs)


def sized(make, datasets, cost):
    """An encoder of another cost."""
    shape = datasets[0].train.inputs.shape[1:]
    return functools.partial(make, width=models.width_for(make, shape, cost))


def settings(**changes):
    """The `TrainingConfig` of all networks."""
    steps = FLAGS.steps or 400
    config = TrainingConfig(
        steps=steps,
        batch_size=FLAGS.batch_size or 64,
        learning_rate=FLAGS.learning_rate or 2e-3,
        eval_every=max(1, steps // 20),
        patience=0,
        select_by='relative_loss',
        affinity=Measurement(every=max(1, steps // 40)),
        optimizer=optimizers.chosen(steps) or optax.adam,
    )
    return dataclasses.replace(config, **changes)


def tune(datasets):
    """Prints what networks for all tasks reach with some settings, and gradient boosting."""
    boosted = [boosting(dataset) for dataset in datasets]
    say('gradient boosting', boosted)
    for widths, rate, decay in itertools.product(WIDTHS, RATES, DECAYS):
        size = datasets[0].train.inputs[0].size
        problem = problem_of(functools.partial(models.MLP, size, widths), datasets)
        found = []
        for seed, dataset in enumerate(datasets):
            adamw = functools.partial(optax.adamw, weight_decay=decay)
            config = settings(seed=seed, learning_rate=rate, optimizer=adamw)
            plan = NetworkPlan('all', problem.task_names, seed, rate)
            (network,) = training.train_networks(
                problem, dataset.train, dataset.validation, [plan], config, progress_bar=False
            )
            scores = network.validation.values()
            found.append([sum(one[by] for one in scores) for by in ('relative_loss', 'error')])
            found[-1].append(network.best_step)
        say(f'widths {widths}, rate {rate:g}, decay {decay:g}', found)


def say(what, found):
    """Prints means over seeds: totals of the relative loss and of the error, and the best step."""
    shown = [plus_minus(*mean_and_error(values), 1) for values in np.transpose(found)]
    print(f'{what:40} validation {", ".join(shown)}', flush=True)


def boosting(dataset):
    """Total validation relative loss and error of gradient boosting, a model for each task."""
    totals = np.zeros(2)
    for task, objective in dataset.tasks.items():
        rows = [
            slice(None) if part.mask is None or task not in part.mask else part.mask[task]
            for part in (dataset.train, dataset.validation)
        ]
        train, validation = (
            (part.inputs[kept][..., 0], part.targets[task][kept])
            for part, kept in zip((dataset.train, dataset.validation), rows, strict=True)
        )
        if objective.kind in ('binary', 'classification'):
            model = ensemble.HistGradientBoostingClassifier(max_iter=50, learning_rate=0.05)
            chances = model.fit(*train).predict_proba(validation[0])
            shares = np.array([np.mean(validation[1] == label) for label in model.classes_])
            constant = np.broadcast_to(shares, chances.shape)
            losses = [
                metrics.log_loss(validation[1], one, labels=model.classes_)
                for one in (chances, constant)
            ]
            wrong = np.mean(model.classes_[chances.argmax(axis=1)] != validation[1])
            totals += 100 * losses[0] / losses[1], 100 * wrong
        else:
            model = ensemble.HistGradientBoostingRegressor(max_iter=50, learning_rate=0.05)
            answers = model.fit(train[0], train[1].ravel()).predict(validation[0])
            target = validation[1].ravel()
            totals += 100 * np.mean((answers - target) ** 2) / target.var()
    return [*totals, 0]


if __name__ == '__main__':
    launch.launch(main)
