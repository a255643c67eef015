"""Ways to find groups, a function each: what one asks for, and what it proposes.

All of them stand in this one long file, so that each can be read beside the others.
"""

import itertools
import math
import numbers
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tag_jax import affinity, selection
from tag_jax.grouping import confidence
from tag_jax.grouping.method import (
    BASELINE,
    CHOSEN,
    MEASURING,
    Method,
    Proposal,
    Stage,
    check_method,
    standard_stages,
    whole_networks,
)
from tag_jax.grouping.searcher import Searcher, candidates_of
from tag_jax.grouping.task_sets import all_sets, draws, even_groups, random_groups, random_sets
from tag_jax.grouping.trainer import check_fraction
from tag_jax.runs import checkpoint
from tag_jax.runs import workdir as workdirs
from tag_jax.selection import group_scores

# Random sets of tasks, and the share of the steps that brief networks train.
NUM_SUBSETS, BRIEF = 50, 0.1
# The share of the steps that `esa` trains, and how many groupings `verify` tries.
EARLY, PROPOSALS = 0.05, 20


def tag() -> Method:
    """Task Affinity Grouping (Fifty et al. 2021, Section 4).

    Trains all tasks together once, measuring inter-task affinities on the way, and selects at most
    `budget` groups that maximise the affinity onto every task. Where affinities are compared on the
    validation split (`affinity.split` of the config), a task may be left alone: then its affinity
    onto itself is its score.
    """
    return by_affinities('tag')


def cosine_similarity() -> Method:
    """Groups by the cosine similarity of task gradients (CS in Fifty et al. 2021, Section 5).

    As `tag`, with the mean cosines between the gradients of two tasks in place of affinities.
    """
    return by_affinities('cosine_similarity', kind='cosine')


def from_affinities(matrix: ArrayLike | str | os.PathLike) -> Method:
    """Groups by affinities that are known already, as `tag` selects them.

    Args:
      matrix: `[T, T]`, source task first; or a file that `tag_jax.runs.workdir.read_affinity` reads
        (.npz of another run, or .csv). Its diagonal counts where `affinity.split` of the config is
        'validation'.

    Raises:
      ValueError: when the method begins, if the affinities do not fit the tasks.
      OSError: if the file cannot be read.
    """
    is_file = isinstance(matrix, str | os.PathLike)
    found = workdirs.read_affinity(matrix)['mean'] if is_file else np.asarray(matrix)
    source = pathlib.Path(matrix).name if is_file else 'an array'

    def propose(searcher, budget):
        summary = _given_affinities(searcher.task_names, searcher.config, matrix)
        on_validation = searcher.config.affinity.split == 'validation'
        return _follow(searcher, summary, budget, on_validation)

    def stages(task_names, budget, config):
        _given_affinities(task_names, config, matrix)
        return standard_stages(budget, config)

    def predict(searcher):
        return _predicted(_given_affinities(searcher.task_names, searcher.config, matrix))

    options = {'affinity': f'{source} ({checkpoint.checksum(found)})'}
    return Method('from_affinities', propose, stages, predict, options)


def hoa(smaller: float | None = None) -> Method:
    """Higher order approximation (Standley et al. 2020, Section 3.3.2).

    Trains every single task and every pair, predicts all larger groups from the pairs
    (`selection.higher_order_approximation`), and selects by validation errors.

    Args:
      smaller: the cost of a cheaper encoder, one of `sizes=`, on which every single task is trained
        as well (Section 4); None for none.

    Raises:
      ValueError: when the method begins, if there are too many tasks.
    """

    def sets(names, seed):
        del seed
        selection.all_groups(len(names), min_size=3)  # Refuses too many tasks.
        return all_sets(names, (1, 2))

    return _by_networks('hoa', sets, 1.0, selection.higher_order_approximation, smaller)


def esa(fraction: float = EARLY, smaller: float | None = None) -> Method:
    """Early stopping approximation (Standley et al. 2020, Section 3.3.1).

    Trains a network for every set of tasks for a fraction of the steps, and selects by its
    validation errors.

    Args:
      fraction: of the steps that the network for all tasks takes. The paper's networks see a fifth
        of the data once, where training takes four to eight passes: "about 20x" less, a twentieth.
      smaller: see `hoa`.

    Raises:
      ValueError: if the fraction is not above 0 and at most 1.
    """
    check_fraction(fraction)
    options = {} if fraction == EARLY else {'fraction': fraction}
    return _by_networks('esa', _every_set, fraction, None, smaller, options)


def subsets(count: int = NUM_SUBSETS, fraction: float = BRIEF) -> Method:
    """Trains brief networks for random sets of tasks, and selects by a model of their errors.

    The model (`selection.additive_model`) knows how errors grow with the size of a group and who
    helps whom, and predicts all groups. By default the search costs as much as five networks.

    Args:
      count: how many sets, drawn by the seed of the config; all of them if there are no more.
      fraction: of the steps that the network for all tasks takes.

    Raises:
      ValueError: if there is no set, or the fraction is not above 0 and at most 1.
    """
    check_fraction(fraction)
    _check_count('count', count)
    options = {} if count == NUM_SUBSETS else {'count': count}
    options |= {} if fraction == BRIEF else {'fraction': fraction}

    def sets(names, seed):
        return random_sets(names, count, seed)

    return _by_networks('subsets', sets, fraction, selection.additive_model, None, options)


def exhaustive(smaller: float | None = None) -> Method:
    """Trains a network for every set of tasks, and selects by validation errors.

    ("Optimal" in Standley et al. 2020, Section 5. One noisy run of each network picks among very
    many, so it may do worse on test than its name says.)

    Args:
      smaller: see `hoa`.
    """
    return _by_networks('exhaustive', _every_set, 1.0, None, smaller)._replace(predict=None)


def pessimal(smaller: float | None = None) -> Method:
    """Trains a network for every set of tasks, and takes the worst groups by validation errors.

    ("Pessimal" in Standley et al. 2020, Section 5.)

    Args:
      smaller: see `hoa`.
    """
    found = _by_networks('pessimal', _every_set, 1.0, None, smaller, select=selection.pessimal)
    return found._replace(predict=None)


def verify(
    base: Method | None = None, proposals: int = PROPOSALS, fraction: float = BRIEF, seeds: int = 1
) -> Method:
    """Verifies the best groupings of a method with brief networks; keeps what validation prefers.

    Affinities say who helps whom, and not how many tasks a network has room for; many groupings are
    about as good by them. So the best few of them are tried out. By default that costs about two
    networks on top of the one that `tag` trains, fewer where the same groups come again.

    Args:
      base: the method that proposes, by affinities or by predicted scores; None for `tag()`.
      proposals: M, how many groupings to try.
      fraction: of the steps that the network for all tasks takes.
      seeds: over how many, from that of the config on, their validation errors are averaged.

    Raises:
      ValueError: if the base is no method or predicts nothing, or a number is out of its range.
    """
    base = tag() if base is None else base
    check_method(base)
    check_fraction(fraction)
    _check_count('proposals', proposals)
    _check_count('seeds', seeds)
    if base.predict is None:
        raise ValueError(f'{base.displayed} predicts nothing, so that there is nothing to verify')
    if 'smaller' in base.options:
        raise ValueError('verify tries standard networks: leave smaller out of its base')
    options = {} if base == tag() or base.displayed == 'tag' else {'base': base.displayed}
    given = {'proposals': proposals, 'fraction': fraction, 'seeds': seeds}
    usual = {'proposals': PROPOSALS, 'fraction': BRIEF, 'seeds': 1}
    options |= {name: value for name, value in given.items() if value != usual[name]}

    def propose(searcher, budget):
        tried, affinities, seconds = _tried(base, searcher, budget, proposals)
        groups = sorted(set(itertools.chain(*tried)))
        of_seeds = []
        for seed in range(searcher.seed, searcher.seed + seeds):
            networks = searcher.networks(groups, fraction, seed=seed)
            of_seeds.append(candidates_of(networks, searcher.task_names))
        best, total = preferred(tried, of_seeds)
        chosen = selection.Selection(best, (), total, total, False, None, seconds)
        return Proposal(best, selection=chosen, affinities=affinities)

    def stages(task_names, budget, config):
        most = min(proposals * whole_networks(budget), 2 ** len(task_names) - 1)
        steps = max(1, round(fraction * config.steps))
        before = [
            stage
            for stage in base.stages(task_names, budget, config)
            if stage.what not in (CHOSEN, BASELINE)
        ]
        trials = Stage('groups that are tried', seeds * most, steps)
        return standard_stages(budget, config, *before, trials)

    return Method('verify', propose, stages, None, options)


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
        cost = _cost_at('single_task', 'smaller', smaller, budget)
        return Proposal(tuple((n,) for n in range(size)), costs=(cost,) * size)

    def stages(task_names, budget, config):
        cost = _cost_at('single_task', 'smaller', smaller, budget)
        alone = Stage(CHOSEN, len(task_names), config.steps, cost=cost)
        return alone, Stage(BASELINE, 1, config.steps)

    return Method('single_task', propose, stages, None, _costs_given(smaller=smaller))


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
        return Proposal((everything,), costs=(_cost_at('all_in_one', 'wider', wider, budget),))

    def stages(task_names, budget, config):
        del task_names
        baseline = Stage(BASELINE, 1, config.steps)
        cost = _cost_at('all_in_one', 'wider', wider, budget)
        if cost == 1:
            return (baseline,)
        return Stage('all tasks on a wider encoder', 1, config.steps, cost=cost), baseline

    return Method('all_in_one', propose, stages, None, _costs_given(wider=wider))


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


def by_affinities(name: str, alone: bool = True, **changes: Any) -> Method:
    """A method that follows affinities, measured with some settings changed.

    Args:
      name: of the method.
      alone: whether tasks may be left alone by their affinities onto themselves, where these are
        compared on the validation split.
      **changes: fields of `training.Measurement` or of the config.
    """

    def propose(searcher, budget):
        split = changes.get('split', searcher.config.affinity.split)
        alone_too = alone and split == 'validation'
        return _follow(searcher, measured(searcher, **changes), budget, alone_too)

    def stages(task_names, budget, config):
        del task_names
        return standard_stages(budget, config, Stage(MEASURING, 1, config.steps, True))

    def predict(searcher):
        return _predicted(measured(searcher, **changes))

    return Method(name, propose, stages, predict)


def _by_networks(name, sets, fraction, model, smaller, options=None, select=None):
    """A method that selects among networks that it trains."""
    select = select or selection.select_networks
    options = (options or {}) | _given(smaller=smaller)

    def search(searcher):
        networks = searcher.networks(sets(searcher.task_names, searcher.seed), fraction)
        if smaller is not None:
            alone = [(task,) for task in searcher.task_names]
            networks += searcher.networks(alone, fraction, smaller)
        found = candidates_of(networks, searcher.task_names)
        return networks, found if model is None else model(found)

    def propose(searcher, budget):
        networks, candidates = search(searcher)
        chosen = select(candidates, budget)
        keys = None
        if fraction == 1 and all(n < len(networks) for n in chosen.networks):
            keys = tuple(networks[n].key for n in chosen.networks)
        costs = tuple(candidates.costs[list(chosen.networks)].tolist())
        return Proposal(chosen.groups, chosen.serves, costs=costs, selection=chosen, networks=keys)

    def stages(task_names, budget, config):
        steps = config.steps if fraction == 1 else max(1, round(fraction * config.steps))
        found = [Stage('the search', len(sets(task_names, config.seed)), steps)]
        if smaller is not None:
            singles = 'single tasks on the smaller encoder'
            found.append(Stage(singles, len(task_names), steps, cost=smaller))
        return standard_stages(budget, config, *found)

    return Method(name, propose, stages, lambda searcher: search(searcher)[1], options)


def _follow(searcher, summary, budget, on_validation) -> Proposal:
    """The groups that maximise the affinity onto every task, and how far they can be trusted.

    On validation the affinity of a task onto itself is what it has alone.
    """
    networks = whole_networks(budget)
    alone = np.diagonal(summary.mean) if on_validation else None
    chosen = selection.select_groups(summary.mean, networks, alone)
    other = confident = None
    if len(summary.steps) and chosen.optimal:
        other = confidence.runner_up(summary.mean, networks, chosen, alone)
    if other is not None:
        confident = confidence.confidence(summary, chosen, other)
    remarks = confidence.remarks(summary, other, confident, chosen)
    remarks += confidence.dominance(summary, networks, chosen, on_validation)
    return Proposal(
        chosen.groups,
        chosen.serves,
        selection=chosen._replace(elapsed=chosen.elapsed + (other.elapsed if other else 0.0)),
        affinities=summary,
        confidence=confident,
        remarks=remarks,
    )


def _tried(base, searcher, budget, count):
    """(the best groupings by a method, the affinities it follows, the seconds of selecting)."""
    began = time.perf_counter()
    first = base.propose(searcher, budget)
    if first.affinities is not None:
        matrix = first.affinities.mean
        on_validation = searcher.config.affinity.split == 'validation'
        alone = np.diagonal(matrix) if on_validation else None
        began = time.perf_counter()
        found = proposed(matrix, whole_networks(budget), count, alone)
    else:
        candidates = base.predict(searcher)
        began = time.perf_counter()
        found = selection.select_networks(candidates, budget, num_solutions=count)
        found = [one.groups for one in (found if count > 1 else [found])]
    return found, first.affinities, time.perf_counter() - began


def proposed(affinity, budget, count, singleton_scores=None) -> list[tuple[tuple[int, ...], ...]]:
    """The best groupings by affinities, best first.

    Args:
      affinity: `[T, T]`, source task first.
      budget: networks.
      count: how many groupings, at most.
      singleton_scores: see `selection.select_groups`.
    """
    found = selection.select_groups(affinity, budget, singleton_scores, num_solutions=count)
    return [one.groups for one in (found if count > 1 else [found])]


def preferred(groupings, candidates_of_seeds):
    """The grouping with the lowest mean total validation error, and that error in percent.

    Args:
      groupings: tuples of groups, each a tuple of task indices.
      candidates_of_seeds: for each seed, the same groups as `Candidates`.
    """
    means = np.mean([candidates.scores for candidates in candidates_of_seeds], axis=0)
    scores = {
        tuple(np.flatnonzero(members).tolist()): onto
        for members, onto in zip(candidates_of_seeds[0].members, means, strict=True)
    }
    totals = [
        math.fsum(np.nanmin([scores[group] for group in groups], axis=0)) for groups in groupings
    ]
    best = int(np.argmin(totals))
    return groupings[best], totals[best]


def measured(searcher: Searcher, **changes: Any) -> affinity.AffinitySummary:
    """Affinities of every pair of tasks.

    Args:
      searcher: a `Searcher`.
      **changes: fields of `training.Measurement` or of the config.

    Raises:
      ValueError: if a pair of tasks ended without an affinity.
    """
    summary, config = searcher.affinities(**changes), searcher.config
    if not len(summary.steps):
        raise ValueError(
            'training stopped before affinity.window began: its shares are of the '
            f'{config.steps} steps allowed'
        )
    if pair := _pair_without_affinity(
        searcher.task_names,
        summary.mean,
        changes.get('split', config.affinity.split) == 'validation',
    ):
        source, target = pair
        if not np.isfinite(summary.mean).any():
            raise ValueError(
                'no affinity was measured at all: the gradients of the encoder are zero (a frozen '
                'or constant encoder has none), or the losses are not positive'
            )
        raise ValueError(
            f'no affinity of {source!r} onto {target!r} was measured: their labels never met in a '
            f'measured batch, or the loss of {target!r} was not positive. Measure more often or '
            'in larger batches, or leave one of the tasks out'
        )
    return summary


def _given_affinities(names, config, matrix):
    """Affinities from elsewhere, an array or a file, in the form of measured ones."""
    found = {}
    if isinstance(matrix, str | os.PathLike):
        found = workdirs.read_affinity(matrix, names)
        matrix = found['mean']
    matrix = group_scores.as_numbers('affinity', matrix)
    size = len(names)
    if matrix.shape != (size, size):
        raise ValueError(
            f'an affinity matrix of {size} tasks is {size} x {size}, not {matrix.shape}'
        )
    if pair := _pair_without_affinity(names, matrix, config.affinity.split == 'validation'):
        raise ValueError(f'there is no affinity of {pair[0]!r} onto {pair[1]!r} among those given')
    nothing = affinity.summary(affinity.AffinityStatistics(tuple(names), (), ()))
    return nothing._replace(**found | {'mean': matrix})


def _pair_without_affinity(names, matrix, with_itself=False):
    """The first pair of tasks whose affinity selection needs and does not have, or None."""
    missing = ~np.isfinite(matrix) & (with_itself | ~np.eye(len(names), dtype=bool))
    for source, target in np.argwhere(missing):
        return names[source], names[target]
    return None


def _predicted(summary):
    """Scores that affinities predict, as candidates: their negative, since lower is better."""
    found = selection.affinity_candidates(summary.mean)
    return found.replace(scores=-found.scores)


def _no_search(task_names, budget, config):
    del task_names
    return standard_stages(budget, config)


def _every_set(names, seed):
    del seed
    return all_sets(names)


def _cost_at(method, option, costs, budget):
    """The cost of a network on another encoder: 1 where none is asked for, or that of a budget."""
    if costs is None:
        return 1.0
    if not isinstance(costs, Mapping):
        return costs
    if budget not in costs:
        raise ValueError(f'{method} has no {option} encoder for the budget {budget:g}: give one')
    return costs[budget]


def _costs_given(**options):
    """Options that are costs, or costs by budget, as JSON types; those of None are left out."""
    return {
        name: {str(budget): cost for budget, cost in costs.items()}
        if isinstance(costs, Mapping)
        else costs
        for name, costs in _given(**options).items()
    }


def _given(**options):
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _check_count(name, value):
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f'{name} must be an integer of at least 1, not {value!r}')
