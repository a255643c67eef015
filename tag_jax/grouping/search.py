"""Trains the networks that a search compares: a ledger keeps their scores, not their parameters."""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tag_jax import evaluation, ledger, parallel, selection, training, workdir
from tag_jax.grouping.run import model, num_slots, plan, settings, subject

FOLDER, TABLE = 'networks', 'networks.csv'
MOST_SETS = 20_000
# Random sets of tasks, and the share of the steps that their networks train.
NUM_SUBSETS, BRIEF = 50, 0.1

# What a row is known by, of the settings of training.
_SETTINGS = (
    'steps', 'batch_size', 'eval_every', 'patience', 'weighting', 'optimizer',
)  # fmt: skip


class NetworkSearch(NamedTuple):
    """A way to find groups by training networks.

    Attributes:
      name: of the method.
      sets: (task names, seed) -> the sets of tasks to train a network for.
      fraction: of the steps that these networks train.
      predict: `Candidates` of these networks, scored by validation errors -> those to select among.
      select: (`Candidates`, budget) -> `Selection`.
      sizes: whether single tasks may train on a smaller encoder as well.
    """

    name: str
    sets: Callable[[tuple[str, ...], int], list[tuple[str, ...]]]
    fraction: float = 1.0
    predict: Callable = lambda candidates: candidates
    select: Callable = selection.select_networks
    sizes: bool = True


def open_ledger(run, path=None) -> ledger.Ledger:
    """The ledger of a run: in a given folder, in its own folder, or in memory.

    Raises:
      ValueError: if the folder holds a ledger about other data.
      OSError: if it cannot be written to.
    """
    if path is None and run.path is not None:
        path = run.path / FOLDER
    elif path is not None:
        for name in ('weighting', 'optimizer'):
            if '<lambda>' in (found := str(settings(run.config)[name])):
                raise ValueError(
                    f'{name} is {found}: networks in a store are known by the names of their '
                    'functions, so give it one'
                )
    opened = []  # By the first process, which speaks for all.

    def open_folder():
        about = {'task_names': list(run.problem.task_names), **subject(run)}
        opened.append(ledger.Ledger(path, about))

    parallel.first_says(open_folder)
    return opened[0] if opened else ledger.Ledger()


def all_sets(task_names, sizes=None):
    """Sets of tasks, smaller ones first.

    Args:
      task_names: T names.
      sizes: how many tasks a set may have; None for 1 to T.

    Raises:
      ValueError: if there are more than MOST_SETS.
    """
    size = len(task_names)
    sizes = range(1, size + 1) if sizes is None else [n for n in sizes if n <= size]
    count = sum(math.comb(size, n) for n in sizes)
    if count > MOST_SETS:
        raise ValueError(
            f'{size} tasks have {count} sets to train a network for each, more than {MOST_SETS}: '
            'choose a method that trains fewer, such as tag'
        )
    return [tasks for n in sizes for tasks in itertools.combinations(task_names, n)]


def random_sets(task_names, count, seed):
    """Different random sets of tasks: half of them spread over sizes, the rest any.

    The first half has as many sets of every size as can be, the set of all tasks among them: of
    sets drawn from all few are small or large, and how errors grow with size would be a guess. The
    rest are drawn from all sets, most of which are of middle size, where most is to be learnt of
    who helps whom.

    Args:
      task_names: T names.
      count: how many; all sets if there are no more.
      seed: of the draw.

    Raises:
      ValueError: if `count` is below 1, or there are more than MOST_SETS sets to choose from.
    """
    sets = all_sets(task_names)
    if count < 1:
        raise ValueError(f'count must be at least 1, not {count}')
    if count >= len(sets):
        return sets
    rng = np.random.default_rng(seed)
    draw = lambda places, wanted: rng.choice(places, wanted, replace=False).tolist()
    sizes = np.array([len(tasks) for tasks in sets])
    drawn = []
    for size, wanted in _spread(-(-count // 2), len(task_names)).items():
        drawn += draw(np.flatnonzero(sizes == size), wanted)
    drawn += draw(np.setdiff1d(np.arange(len(sets)), drawn), count - len(drawn))
    return [sets[n] for n in sorted(drawn)]


def _spread(count, num_tasks):
    """`{size: how many sets}`, as evenly as can be: all tasks first, then from the middle sizes."""
    middle = num_tasks / 2
    sizes = [num_tasks, *sorted(range(1, num_tasks), key=lambda size: abs(size - middle))]
    counts = dict.fromkeys(sizes, 0)
    while count:
        for size in sizes:
            if count and counts[size] < math.comb(num_tasks, size):
                counts[size] += 1
                count -= 1
    return counts


def trained_rows(run, sets, book) -> list[dict]:
    """Rows of networks for sets of tasks; those that the ledger lacks are trained.

    Networks that another process is training are waited for.

    Args:
      run: a `Run`; networks are trained by its config.
      sets: tuples of task names, all different.
      book: the `ledger.Ledger`.

    Returns:
      The rows in the order of the sets.

    Raises:
      FloatingPointError: if a loss is not finite.
    """
    plans = _plans(run, sets)
    known = _specifications(run, plans.values())
    folders = parallel.first_says(lambda: [_text(book.running(known[tasks])) for tasks in sets])
    folder_of = dict(zip(sets, folders, strict=True))
    test = evaluation.prepare(run.problem, run.dataset.test, parallel.make_mesh(run.config.mesh))
    config = dataclasses.replace(run.config, slots=num_slots(run, plans))
    curves = {}

    def on_record(record):
        steps, errors = curves.setdefault(record['network'], ([], {}))
        steps.append(record['step'])
        for task, error in record['validation_error'].items():
            errors.setdefault(task, []).append(error)

    def on_finish(network):
        steps, errors = curves.pop(network.plan.name)
        scores = evaluation.evaluate(
            run.problem, network.params, network.model_state, test, config.batch_size
        )
        row = {
            'cost': run.cost,
            'slots': config.slots,
            'validation': workdir.finite(network.validation),
            'test': workdir.finite({task: scores[task] for task in network.plan.tasks}),
            'curve': {'step': steps, 'validation_error': errors},
            'best_step': network.best_step,
            'steps_taken': network.steps,
            'seconds': network.seconds,
        }
        if parallel.is_first():
            book.add(known[network.plan.tasks], row)

    def found():
        return parallel.first_says(lambda: [book.find(known[tasks]) for tasks in sets])

    def claim(plan):
        return parallel.first_says(lambda: book.claim(known[plan.tasks]))

    rows = found()
    while None in rows:
        training.train_networks(
            run.problem,
            run.dataset.train,
            run.dataset.validation,
            [plans[tasks] for tasks, row in zip(sets, rows, strict=True) if row is None],
            config,
            on_record,
            on_finish,
            claim=claim,
            keep=False,
            checkpoints=(lambda plan: folder_of[plan.tasks]) if any(folders) else None,
        )
        rows = found()
        if None in rows:
            time.sleep(1)  # Another search trains the rest.
    return rows


def brief_rows(run, sets, book, fraction=1.0) -> list[dict]:
    """Rows of networks for sets of tasks, trained for a fraction of the steps.

    Where the ledger has a network that went on to the end, its beginning is the brief one.

    Args:
      run, sets, book: see `trained_rows`.
      fraction: of the steps, above 0 and at most 1.
    """
    if fraction == 1:
        return trained_rows(run, sets, book)
    steps = steps_of(fraction, run.config)
    brief = dataclasses.replace(run.config, steps=steps, affinity_window=(0, 1))
    rows = {}
    for tasks, specification in _specifications(run, _plans(run, sets).values()).items():
        whole = parallel.first_says(lambda sought=specification: book.find(sought))
        if whole is not None and steps % run.config.eval_every == 0:
            rows[tasks] = _beginning(whole, steps)
    missing = [tasks for tasks in sets if tasks not in rows]
    rows |= zip(missing, trained_rows(run._replace(config=brief), missing, book), strict=True)
    return [rows[tasks] for tasks in sets]


def steps_of(fraction: float, config: training.TrainingConfig) -> int:
    """How many steps a fraction of training is.

    Args:
      fraction: of the steps, above 0 and at most 1.
      config: a `TrainingConfig`.
    """
    return max(1, round(fraction * config.steps))


def _beginning(row, steps):
    """What is known of a network after its first steps: no test errors."""
    curve = row['curve']
    seen = [n for n, step in enumerate(curve['step']) if step <= steps]
    errors = {task: [found[n] for n in seen] for task, found in curve['validation_error'].items()}
    totals = [math.fsum(errors[task][n] for task in errors) for n in seen]
    best = totals.index(min(totals))
    return {
        **{name: row[name] for name in ('tasks', 'seed', 'cost', 'slots')},
        'validation': {task: {'error': found[best]} for task, found in errors.items()},
        'best_step': curve['step'][best],
        'steps_taken': curve['step'][seen[-1]],
        'seconds': row['seconds'] * curve['step'][seen[-1]] / row['steps_taken'],
    }


def check_fraction(fraction):
    """Raises ValueError unless a number is a share of training."""
    if not 0 < fraction <= 1:
        raise ValueError(f'fraction must be above 0 and at most 1, not {fraction}')


def searched_rows(run, method, book) -> list[dict]:
    """Rows of the networks that a search trains; smaller ones, for single tasks, at the end.

    Args:
      run: a `Run`.
      method: a `NetworkSearch`.
      book: the `ledger.Ledger`.
    """
    names = run.problem.task_names
    sets = method.sets(names, run.config.seed)
    # Networks of all sizes in as many slots, so that the chosen ones can be trained again.
    slots = num_slots(run, sets)
    run = run._replace(config=dataclasses.replace(run.config, slots=slots))
    rows = brief_rows(run, sets, book, method.fraction)
    if method.sizes and run.smaller is not None:
        alone = [(task,) for task in names]
        rows += brief_rows(run.sized(run.smaller), alone, book, method.fraction)
    return rows


def cost_of(rows) -> dict[str, float]:
    """What training the networks of some rows took, whenever that was."""
    return {
        'search_steps': sum(row['steps_taken'] for row in rows),
        'search_seconds': math.fsum(row['seconds'] for row in rows),
    }


def _plans(run, sets):
    return {tasks: plan(run, '+'.join(tasks), tasks) for tasks in sets}


def _text(path):
    return None if path is None else str(path)


def _specifications(run, plans):
    """`{tasks: specification}`: what the rows of planned networks are known by."""
    chosen, shapes = settings(run.config), model(run)
    return {
        one.tasks: {
            'tasks': list(one.tasks),
            'seed': one.seed,
            'learning_rate': one.learning_rate,
            **{name: chosen[name] for name in _SETTINGS},
            'model': shapes,
        }
        for one in plans
    }


def _every_set(names, seed):
    del seed
    return all_sets(names)


def _singles_and_pairs(names, seed):
    del seed
    selection.all_groups(len(names), min_size=3)  # Refuses too many tasks.
    return all_sets(names, (1, 2))


HOA = NetworkSearch('hoa', _singles_and_pairs, predict=selection.higher_order_approximation)
ESA = NetworkSearch('esa', _every_set, fraction=0.05)
EXHAUSTIVE = NetworkSearch('exhaustive', _every_set)
PESSIMAL = NetworkSearch('pessimal', _every_set, select=selection.pessimal)
SUBSETS = NetworkSearch(
    'subsets',
    lambda names, seed: random_sets(names, NUM_SUBSETS, seed),
    fraction=BRIEF,
    predict=selection.additive_model,
    sizes=False,
)
SEARCHES = {one.name: one for one in (HOA, ESA, SUBSETS, EXHAUSTIVE, PESSIMAL)}
