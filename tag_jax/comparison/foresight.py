"""What a comparison will take: its networks, and time and memory by a short trial."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tag_jax.comparison.methods import ALL_IN_ONE, SMALL, WHOLE, WIDE, standard_networks
from tag_jax.comparison.outcomes import DRAWS_TO_TRAIN, check
from tag_jax.data import Dataset
from tag_jax.grouping import Foresight, Stage, search
from tag_jax.grouping.foresight import tried
from tag_jax.grouping.verification import PROPOSALS
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import TrainingConfig

_MEASURING = ('tag', 'verify', 'cosine_similarity')
_NO_SEARCH = (ALL_IN_ONE, WIDE, SMALL, 'single_task')


def foresee(
    problem: MultiTaskProblem,
    dataset: Dataset,
    methods: Sequence[str],
    budgets: Sequence[float],
    config: TrainingConfig,
    *,
    seeds: int = 3,
    smaller: MultiTaskProblem | None = None,
    wider: Mapping[float, MultiTaskProblem] = MappingProxyType({}),
) -> Foresight:
    """What `compare` will take at most, by training a few networks for a few steps.

    Methods may ask for the same networks, early stopping may end some before, and a store may hold
    some of them already. Networks on other encoders count as much as others.

    Args:
      problem, dataset, methods, budgets, config, seeds, smaller, wider: see `compare`.

    Returns:
      A `grouping.Foresight`.

    Raises:
      ValueError: see `compare`.
    """
    check(problem, dataset, methods, budgets, config, seeds, smaller, wider)
    found = stages(methods, problem.task_names, budgets, config, seeds, smaller is not None)
    return tried(problem, dataset, config, found)


def stages(
    methods: Sequence[str],
    task_names: tuple[str, ...],
    budgets: Sequence[float],
    config: TrainingConfig,
    seeds: int,
    smaller: bool = False,
) -> tuple[Stage, ...]:
    """The networks that a comparison trains, all seeds together.

    Args:
      methods: names among `METHODS`.
      task_names: T names.
      budgets: what networks may cost.
      config: a `TrainingConfig`.
      seeds: how many.
      smaller: whether there is a smaller encoder.
    """
    size = len(task_names)
    of_seed = []
    whole = any(method.name in methods for method in WHOLE)
    if whole:
        of_seed.append(Stage('every set of tasks', 2**size - 1, config.steps))
    kinds = {
        'cosine' if name == 'cosine_similarity' else 'exact'
        for name in methods
        if name in _MEASURING
    }
    if kinds:
        of_seed.append(Stage('all tasks, measuring affinities', len(kinds), config.steps, True))
    of_seed.append(Stage('all tasks, to take the time of', 1, config.steps))
    networks = sum(map(standard_networks, budgets))
    brief = search.steps_of(search.BRIEF, config)
    beginnings = whole and brief % config.eval_every == 0
    if 'verify' in methods and not beginnings:
        of_seed.append(Stage('groups that verify tries', PROPOSALS * networks, brief))
    for name in methods:
        one = search.SEARCHES.get(name)
        if one is None or (whole and one.fraction == 1):
            continue
        steps = search.steps_of(one.fraction, config)
        if not (whole and steps % config.eval_every == 0):
            sets = len(one.sets(task_names, config.seed))
            of_seed.append(Stage(f'the search of {name}', sets, steps))
    if not whole:
        searches = [name for name in methods if name not in _NO_SEARCH]
        chosen = networks * (len(searches) + DRAWS_TO_TRAIN)
        chosen += (ALL_IN_ONE in methods) + size * ('single_task' in methods)
        of_seed.append(Stage('chosen and random groups', min(chosen, 2**size - 1), config.steps))
    if WIDE in methods:
        of_seed.append(Stage('all tasks on wider encoders', len(budgets), config.steps))
    if smaller:
        of_seed.append(Stage('single tasks on the smaller encoder', size, config.steps))
    return tuple(stage._replace(networks=seeds * stage.networks) for stage in of_seed)
