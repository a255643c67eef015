"""Groups chosen among trained networks, and the plain ways to compare them with."""

import dataclasses
import os

import numpy as np

from tag_jax import ledger
from tag_jax.data import Dataset
from tag_jax.grouping import search
from tag_jax.grouping.result import Result
from tag_jax.grouping.run import Choice, begin, finish, finished
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import TrainingConfig

DEFAULTS = TrainingConfig()


def hoa(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: float,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    store: str | os.PathLike | None = None,
    smaller: MultiTaskProblem | None = None,
) -> Result:
    """Higher order approximation (Standley et al. 2020, Section 3.3.2).

    Trains every single task and every pair, predicts all larger groups from the pairs
    (`selection.higher_order_approximation`), and selects by validation errors.

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`. Where there is a
        smaller encoder, the budget is in standard network times, and need not be a whole number.
      store: the folder of a `ledger.Ledger`, which may hold networks already and be shared by
        processes; None for one in the workdir.
      smaller: a `MultiTaskProblem` with the same tasks on a cheaper encoder; every single task is
        trained on it as well (Section 4). What it costs is the ratio of the multiply-adds of the
        encoders, to a hundredth.

    Returns:
      A `Result`.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    asked = problem, dataset, budget, config, workdir, resume, store, smaller
    return _by_search(search.HOA, *asked)


def esa(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: float,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    store: str | os.PathLike | None = None,
    smaller: MultiTaskProblem | None = None,
    fraction: float = search.ESA.fraction,
) -> Result:
    """Early stopping approximation (Standley et al. 2020, Section 3.3.1).

    Trains a network for every set of tasks for a fraction of the steps, and selects by its
    validation errors.

    Args:
      problem, dataset, budget, config, workdir, resume, store, smaller: see `hoa`.
      fraction: of the steps. The paper's networks see a fifth of the data once, where training
        takes four to eight passes: "about 20x" less, a twentieth.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    asked = problem, dataset, budget, config, workdir, resume, store, smaller
    return _by_search(search.ESA._replace(fraction=fraction), *asked)


def exhaustive(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: float,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    store: str | os.PathLike | None = None,
    smaller: MultiTaskProblem | None = None,
    pessimal: bool = False,
) -> Result:
    """Trains a network for every set of tasks, and selects by validation errors.

    ("Optimal" in Standley et al. 2020, Section 5. One noisy run of each network picks among very
    many, so it may do worse on test than its name says.)

    Args:
      problem, dataset, budget, config, workdir, resume, store, smaller: see `hoa`.
      pessimal: whether to take the worst selection in place of the best.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    asked = problem, dataset, budget, config, workdir, resume, store, smaller
    return _by_search(search.PESSIMAL if pessimal else search.EXHAUSTIVE, *asked)


def subsets(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    store: str | os.PathLike | None = None,
    count: int = search.NUM_SUBSETS,
    fraction: float = search.BRIEF,
) -> Result:
    """Trains brief networks for random sets of tasks, and selects by a model of their errors.

    The model (`selection.additive_model`) knows how errors grow with the size of a group and who
    helps whom, and predicts all groups. By default the search costs as much as five networks.

    Args:
      problem, dataset, budget, config, workdir, resume, store: see `hoa`.
      count: how many sets, drawn by the seed of the config; all of them if there are no more.
      fraction: of the steps.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    draw = lambda names, seed: search.random_sets(names, count, seed)
    method = search.SUBSETS._replace(sets=draw, fraction=fraction)
    return _by_search(method, problem, dataset, budget, config, workdir, resume, store)


def random(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
) -> Result:
    """Groups drawn at random, by the seed of the config: what every method should beat.

    All lists of `budget` different sets of tasks that cover the tasks are equally likely; each task
    is served by the network with its lowest validation error.

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    draw = lambda: random_groups(
        np.random.default_rng(config.seed), len(problem.task_names), budget
    )
    return _chosen('random', draw, problem, dataset, budget, config, workdir, resume)


def random_even(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
) -> Result:
    """Random groups of equal size, each task in one of them, drawn by the seed of the config.

    What to beat where capacity is short: all that it knows is that no network should carry many.

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    draw = lambda: even_groups(np.random.default_rng(config.seed), len(problem.task_names), budget)
    return _chosen('random_even', draw, problem, dataset, budget, config, workdir, resume)


def single_task(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
) -> Result:
    """A network for each task (STL in Fifty et al. 2021).

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`. The budget must be the
        number of tasks.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
    """
    size = len(problem.task_names)
    if budget != size:
        raise ValueError(f'single_task trains {size} networks: ask for a budget of {size}')
    draw = lambda: tuple((task,) for task in range(size))
    return _chosen('single_task', draw, problem, dataset, budget, config, workdir, resume)


def all_in_one(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
) -> Result:
    """One network for all tasks (MTL in Fifty et al. 2021), whatever the budget.

    Args:
      problem, dataset, budget, config, workdir, resume: see `grouping.tag`.

    Raises:
      ValueError, OSError, FloatingPointError: see `grouping.tag`.
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


def even_groups(rng, num_tasks, budget):
    """A random partition of the tasks into `budget` groups whose sizes differ by one at most.

    Args:
      rng, num_tasks, budget: see `random_groups`.
    """
    parts = np.array_split(rng.permutation(num_tasks), budget)
    return tuple(sorted(tuple(sorted(part.tolist())) for part in parts))


def _chosen(method, draw, problem, dataset, budget, config, workdir, resume):
    """A method that needs no search."""
    run = begin(problem, dataset, budget, config, method, workdir, resume)
    if result := finished(run):
        return result
    return finish(run, Choice(draw(), None), {})


def _by_search(method, problem, dataset, budget, config, workdir, resume, store, smaller=None):
    """A `search.NetworkSearch` that selects among networks that it trains."""
    search.check_fraction(method.fraction)
    size = len(method.sets(problem.task_names, config.seed))
    asked = {'fraction': method.fraction, 'sets': size, 'smaller': smaller}
    run = begin(problem, dataset, budget, config, method.name, workdir, resume, **asked)
    if result := finished(run):
        return result
    with search.open_ledger(run, store) as book:
        rows = search.searched_rows(run, method, book)
    if run.writes:
        ledger.write_csv(run.path / search.TABLE, rows, problem.task_names)
    if method.fraction == 1 and len(slots := {row['slots'] for row in rows}) == 1:
        # The chosen networks, luck included, are those of the search: bitwise, in as many slots.
        run = run._replace(config=dataclasses.replace(config, slots=slots.pop()))
    candidates = method.predict(ledger.candidates(rows, problem.task_names))
    selected = method.select(candidates, budget)
    choice = Choice(
        groups=selected.groups,
        serves=selected.serves,
        costs=tuple(candidates.costs[list(selected.networks)].tolist()),
        objective=selected.objective,
        bound=selected.bound,
        cost={**search.cost_of(rows), 'selection_seconds': selected.elapsed},
    )
    return finish(run, choice, {})
