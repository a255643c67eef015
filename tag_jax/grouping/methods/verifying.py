"""A method that tries the best groupings of another one."""

import itertools
import math
import time

import numpy as np

from tag_jax import selection
from tag_jax.grouping.method import (
    BASELINE,
    CHOSEN,
    Method,
    Proposal,
    Stage,
    check_method,
    standard_stages,
    whole_networks,
)
from tag_jax.grouping.methods.affinities import tag
from tag_jax.grouping.methods.networks import BRIEF
from tag_jax.grouping.methods.options import check_count
from tag_jax.grouping.searcher import candidates_of
from tag_jax.grouping.trainer import check_fraction

PROPOSALS = 20  # Groupings that are tried.


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
    check_count('proposals', proposals)
    check_count('seeds', seeds)
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
        if base.name == 'subsets':
            selection.all_groups(len(task_names))  # Refuses too many to list.
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
