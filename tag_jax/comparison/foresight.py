"""What a comparison will take: its networks, and time and memory by a short trial."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tag_jax.comparison.methods import ALL_IN_ONE, SMALL, WHOLE, WIDE, standard_networks
from tag_jax.comparison.outcomes import DRAWS_TO_TRAIN, check
from tag_jax.data import Dataset
from tag_jax.grouping import Foresight, Stage, search
from tag_jax.grouping.foresight import most_tried, tried
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import TrainingConfig

_MEASURING = ('tag', 'verify', 'cosine_similarity')
_FIXED = (ALL_IN_ONE, WIDE, SMALL, 'single_task')


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
    found = stages(methods, problem.task_names, budgets, config, smaller is not None)
    one = tried(problem, dataset, config, found)
    return Foresight(
        tuple(stage._replace(networks=seeds * stage.networks) for stage in found),
        seeds * one.seconds,
        one.bytes,
    )


def stages(
    methods: Sequence[str],
    task_names: tuple[str, ...],
    budgets: Sequence[float],
    config: TrainingConfig,
    smaller: bool = False,
) -> tuple[Stage, ...]:
    """The networks that a comparison trains for one seed.

    Args:
      methods: names among `METHODS`.
      task_names: T names.
      budgets: what networks may cost.
      config: a `TrainingConfig`.
      smaller: whether there is a smaller encoder.
    """
    whole = any(method.name in methods for method in WHOLE)
    found = [*_alone(methods, config)]
    if whole:
        found.append(Stage('every set of tasks', 2 ** len(task_names) - 1, config.steps))
    found += _searches(methods, task_names, budgets, config, smaller, whole)
    if not whole:
        groups = _chosen(methods, task_names, budgets)
        found.append(Stage('chosen and random groups', groups, config.steps))
    if WIDE in methods:
        found.append(Stage('all tasks on wider encoders', len(budgets), config.steps))
    if smaller:
        found.append(Stage('single tasks on the smaller encoder', len(task_names), config.steps))
    return tuple(found)


def _alone(methods, config):
    """Networks for all tasks that train alone, for affinities and to take their time."""
    compiling = config.eval_every if config.steps % config.eval_every == 0 else 0
    steps = config.steps + compiling
    measuring = {
        'cosine' if name == 'cosine_similarity' else 'exact'
        for name in methods
        if name in _MEASURING
    }
    if measuring:
        yield Stage('all tasks, measuring affinities', len(measuring), steps, True)
    yield Stage('all tasks, to take the time of', 1, steps)


def _searches(methods, task_names, budgets, config, smaller, whole):
    """Networks of searches, but those that are the beginnings of networks that train whole."""
    known = lambda steps: whole and (steps == config.steps or steps % config.eval_every == 0)
    brief = search.steps_of(search.BRIEF, config)
    if 'verify' in methods and not known(brief):
        groups = most_tried(task_names, _networks(budgets))
        yield Stage('groups that verify tries', groups, brief)
    for name in methods:
        one = search.SEARCHES.get(name)
        if one is None or known(steps := search.steps_of(one.fraction, config)):
            continue
        sets = len(one.sets(task_names, config.seed))
        singles = len(task_names) if smaller and one.sizes and one.fraction < 1 else 0
        yield Stage(f'the search of {name}', sets + singles, steps)


def _chosen(methods, task_names, budgets):
    """How many different groups all methods choose, at most."""
    size = len(task_names)
    choosing = [name for name in methods if name not in _FIXED]
    groups = _networks(budgets) * (len(choosing) + DRAWS_TO_TRAIN)
    return min(groups + (ALL_IN_ONE in methods) + size * ('single_task' in methods), 2**size - 1)


def _networks(budgets):
    return sum(map(standard_networks, budgets))
