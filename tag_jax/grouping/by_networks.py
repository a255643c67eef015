"""Groups chosen among trained networks, and the plain ways to compare them with."""

import dataclasses

import numpy as np

from tag_jax import ledger, selection
from tag_jax.grouping import search
from tag_jax.grouping.result import Result
from tag_jax.grouping.run import Choice, begin, finish, finished
from tag_jax.training import TrainingConfig

DEFAULTS = TrainingConfig()


def hoa(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    resume: bool = False,
    store=None,
) -> Result:
    """Higher order approximation (Standley et al. 2020, Section 5.2).

    Trains every single task and every pair, predicts all larger groups from the pairs
    (`selection.higher_order_approximation`), and selects by validation errors.

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`.
      store: the folder of a `ledger.Ledger`, which may hold networks already and be shared by
        processes; None for one in the workdir.

    Returns:
      A `Result`.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    sets = search.all_sets(problem.task_names, (1, 2))
    selection.all_groups(len(problem.task_names), min_size=3)  # Refuses too many tasks.
    select = lambda candidates: selection.select_networks(
        selection.higher_order_approximation(candidates), budget
    )
    return _by_search('hoa', sets, select, problem, dataset, budget, config, workdir, resume, store)


def esa(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    resume: bool = False,
    store=None,
    fraction: float = 0.2,
) -> Result:
    """Early stopping approximation (Standley et al. 2020, Section 5.1).

    Trains a network for every set of tasks for a fraction of the steps, and selects by its
    validation errors.

    Args:
      problem, dataset, budget, config, workdir, resume, store: see `hoa`.
      fraction: of the steps; the paper's is a fifth.
    """
    return _by_search(
        'esa',
        search.all_sets(problem.task_names),
        lambda candidates: selection.select_networks(candidates, budget),
        *(problem, dataset, budget, config, workdir, resume, store),
        fraction=fraction,
    )


def exhaustive(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    resume: bool = False,
    store=None,
    pessimal: bool = False,
) -> Result:
    """Trains a network for every set of tasks, and selects by validation errors.

    ("Optimal" in Standley et al. 2020, Section 4.1. One noisy run of each network picks among very
    many, so it may do worse on test than its name says.)

    Args:
      problem, dataset, budget, config, workdir, resume, store: see `hoa`.
      pessimal: whether to take the worst selection in place of the best.
    """
    select = selection.pessimal if pessimal else selection.select_networks
    return _by_search(
        'pessimal' if pessimal else 'exhaustive',
        search.all_sets(problem.task_names),
        lambda candidates: select(candidates, budget),
        *(problem, dataset, budget, config, workdir, resume, store),
    )


def subsets(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    resume: bool = False,
    store=None,
    count: int = search.SUBSETS,
    fraction: float = search.BRIEF,
) -> Result:
    """Trains brief networks for random sets of tasks, and selects by a model of their errors.

    The model (`selection.additive_model`) knows how errors grow with the size of a group and who
    helps whom, and predicts all groups. By default the search costs as much as five networks.

    Args:
      problem, dataset, budget, config, workdir, resume, store: see `hoa`.
      count: how many sets, drawn by the seed of the config; all of them if there are no more.
      fraction: of the steps.
    """
    sets = search.random_sets(problem.task_names, count, config.seed)
    select = lambda candidates: selection.select_networks(
        selection.additive_model(candidates), budget
    )
    return _by_search(
        'subsets',
        sets,
        select,
        *(problem, dataset, budget, config, workdir, resume, store),
        fraction=fraction,
    )


def random(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    resume: bool = False,
) -> Result:
    """Groups drawn at random, by the seed of the config: what every method should beat.

    All lists of `budget` different sets of tasks that cover the tasks are equally likely; each task
    is served by the network with its lowest validation error.

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`.
    """
    draw = lambda: random_groups(
        np.random.default_rng(config.seed), len(problem.task_names), budget
    )
    return _chosen('random', draw, problem, dataset, budget, config, workdir, resume)


def single_task(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    resume: bool = False,
) -> Result:
    """A network for each task (STL in Fifty et al. 2021).

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`. The budget must be the
        number of tasks.
    """
    size = len(problem.task_names)
    if budget != size:
        raise ValueError(f'single_task trains {size} networks: ask for a budget of {size}')
    draw = lambda: tuple((task,) for task in range(size))
    return _chosen('single_task', draw, problem, dataset, budget, config, workdir, resume)


def all_in_one(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    resume: bool = False,
) -> Result:
    """One network for all tasks (MTL in Fifty et al. 2021), whatever the budget.

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`.
    """
    draw = lambda: (tuple(range(len(problem.task_names))),)
    return _chosen('all_in_one', draw, problem, dataset, budget, config, workdir, resume)


def random_groups(rng, num_tasks, budget):
    """`budget` different sets of tasks that cover all tasks; all such lists are equally likely.

    Args:
      rng: a NumPy generator.
      num_tasks: T.
      budget: k, at most T.

    Returns:
      A tuple of tuples of task indices.
    """
    while True:
        # Each task is in some of the networks, and all ways for that are equally likely.
        codes = rng.integers(1, 2**budget, size=num_tasks)
        members = (codes[None, :] >> np.arange(budget)[:, None]) & 1
        groups = {tuple(np.flatnonzero(row).tolist()) for row in members}
        if len(groups) == budget and () not in groups:
            return tuple(sorted(groups))


def _chosen(method, draw, problem, dataset, budget, config, workdir, resume):
    """A method that needs no search."""
    run = begin(problem, dataset, budget, config, method, workdir, resume)
    if result := finished(run):
        return result
    return finish(run, Choice(draw(), None), {})


def _by_search(
    method,
    sets,
    select,
    problem,
    dataset,
    budget,
    config,
    workdir,
    resume,
    store,
    fraction=1.0,
):
    """A method that selects among networks that it trains.

    Args:
      sets: the sets of tasks to train a network for.
      select: `Candidates` -> `Selection`.
      fraction: of the steps, for these networks.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f'fraction must be above 0 and at most 1, not {fraction}')
    asked = {'fraction': fraction, 'sets': len(sets)}
    run = begin(problem, dataset, budget, config, method, workdir, resume, **asked)
    if result := finished(run):
        return result
    with search.open_ledger(run, store) as book:
        rows = search.brief_rows(run, sets, book, fraction)
    if run.path is not None:
        ledger.write_csv(run.path / search.TABLE, rows, problem.task_names)
    if fraction == 1 and len(slots := {row['slots'] for row in rows}) == 1:
        # The chosen networks, luck included, are those of the search: bitwise, in as many slots.
        run = run._replace(config=dataclasses.replace(config, slots=slots.pop()))
    selected = select(ledger.candidates(rows, problem.task_names))
    choice = Choice(
        groups=selected.groups,
        serves=selected.serves,
        objective=selected.objective,
        bound=selected.bound,
        cost={**search.cost_of(rows), 'selection_seconds': selected.elapsed},
    )
    return finish(run, choice, {})
