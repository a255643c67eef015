"""Methods that look at no task: baselines, and groups of one's own."""

import itertools
from collections.abc import Mapping, Sequence

from tag_jax.grouping.method import (
    BASELINE,
    CHOSEN,
    Method,
    Proposal,
    Stage,
    standard_stages,
    whole_networks,
)
from tag_jax.grouping.methods.options import cost_at, costs_given
from tag_jax.grouping.task_sets import draws, even_groups, random_groups


def random() -> Method:
    """Groups drawn at random, by the seed of the config: what every method should beat.

    All lists of `budget` different sets of tasks that cover the tasks are equally likely; each task
    is served by the network with its lowest validation error.
    """

    def propose(searcher, budget):
        networks = whole_networks(budget)
        rng = draws(searcher.seed, networks)
        return Proposal(random_groups(rng, len(searcher.task_names), networks))

    return Method('random', propose, _no_search)


def random_even() -> Method:
    """Random groups of equal size, each task in one of them, drawn by the seed of the config.

    What to beat where capacity is short: all that it knows is that no network should carry many.
    """

    def propose(searcher, budget):
        networks = whole_networks(budget)
        rng = draws(searcher.seed, networks)
        return Proposal(even_groups(rng, len(searcher.task_names), networks))

    return Method('random_even', propose, _no_search)


def all_but_one() -> Method:
    """Random sets of all tasks but one, drawn by the seed of the config (ours).

    Size alone: all that it knows is that networks for many tasks are good. Each task is served by
    the network with its lowest validation error.
    """

    def propose(searcher, budget):
        size, networks = len(searcher.task_names), whole_networks(budget)
        every = frozenset(range(size))
        if networks == 1 or size == 1:
            return Proposal((tuple(every),))
        left_out = draws(searcher.seed, networks).permutation(size)[:networks]
        return Proposal(tuple(tuple(sorted(every - {task})) for task in sorted(left_out.tolist())))

    return Method('all_but_one', propose, _no_search)


def single_task(smaller: float | Mapping[float, float] | None = None) -> Method:
    """A network for each task (STL in Fifty et al. 2021), whatever the budget.

    Args:
      smaller: the cost of a cheaper encoder, one of `sizes=`; or `{budget: cost}`, such as
        budget / T, so that all T networks together cost the budget (the independent networks of
        Standley et al. 2020, Section 4). None for standard networks.

    Raises:
      ValueError: when the method begins, if there is no cost for a budget.
    """

    def propose(searcher, budget):
        size = len(searcher.task_names)
        cost = cost_at('single_task', 'smaller', smaller, budget)
        return Proposal(tuple((n,) for n in range(size)), costs=(cost,) * size)

    def stages(task_names, budget, config):
        cost = cost_at('single_task', 'smaller', smaller, budget)
        alone = Stage(CHOSEN, len(task_names), config.steps, cost=cost)
        return alone, Stage(BASELINE, 1, config.steps)

    return Method('single_task', propose, stages, None, costs_given(smaller=smaller))


def all_in_one(wider: float | Mapping[float, float] | None = None) -> Method:
    """One network for all tasks (MTL in Fifty et al. 2021), whatever the budget.

    Args:
      wider: the cost of a wider encoder, one of `sizes=`: capacity in place of more networks (the
        high-capacity networks of Fifty et al. 2021, Table 8, and of Standley et al. 2020, Table 7);
        or `{budget: cost}`. None for a standard network.

    Raises:
      ValueError: when the method begins, if there is no cost for a budget.
    """

    def propose(searcher, budget):
        everything = tuple(range(len(searcher.task_names)))
        return Proposal((everything,), costs=(cost_at('all_in_one', 'wider', wider, budget),))

    def stages(task_names, budget, config):
        del task_names
        baseline = Stage(BASELINE, 1, config.steps)
        cost = cost_at('all_in_one', 'wider', wider, budget)
        if cost == 1:
            return (baseline,)
        return Stage('all tasks on a wider encoder', 1, config.steps, cost=cost), baseline

    return Method('all_in_one', propose, stages, None, costs_given(wider=wider))


def given(groups: Sequence[Sequence[str]]) -> Method:
    """Groups of one's own.

    Args:
      groups: of task names, a network each; together they hold all tasks.

    Raises:
      ValueError: when the method begins, if a name is no task, or a task is in no group.
    """
    named = [list(group) for group in groups]
    if not named or any(isinstance(group, str) for group in groups) or not all(named):
        raise ValueError(f'groups must be lists of task names, a list a network, not {groups!r}')

    def indices(task_names):
        missing = set(task_names) - set(itertools.chain(*named))
        unknown = set(itertools.chain(*named)) - set(task_names)
        if unknown:
            raise ValueError(
                f'there is no task {min(unknown)!r} to group: choose from {", ".join(task_names)}'
            )
        if missing:
            raise ValueError(f'the task {min(missing)!r} is in no group: add it to one')
        found = [tuple(sorted(task_names.index(task) for task in set(group))) for group in named]
        return tuple(sorted(set(found)))

    def propose(searcher, budget):
        del budget
        return Proposal(indices(searcher.task_names))

    def stages(task_names, budget, config):
        del budget
        count = len(indices(task_names))
        return Stage(CHOSEN, count, config.steps), Stage(BASELINE, 1, config.steps)

    return Method('given', propose, stages, None, {'groups': named})


def _no_search(task_names, budget, config):
    del task_names
    return standard_stages(budget, config)
