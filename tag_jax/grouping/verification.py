"""Groups that affinities propose and brief networks verify."""

import dataclasses
import itertools
import math
import os
import time

import numpy as np

from tag_jax import ledger, selection
from tag_jax.data import Dataset
from tag_jax.grouping import search
from tag_jax.grouping.by_affinity import measured
from tag_jax.grouping.result import Result
from tag_jax.grouping.run import Choice, begin, finish, finished
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import TrainingConfig

DEFAULTS = TrainingConfig()
PROPOSALS = 20


def verify(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    store: str | os.PathLike | None = None,
    proposals: int = PROPOSALS,
    fraction: float = search.BRIEF,
    seeds: int = 1,
) -> Result:
    """Verifies the best groupings of `tag` with brief networks, and keeps what validation prefers.

    Affinities say who helps whom, and not how many tasks a network has room for; many groupings are
    about as good by them. So the best few of them are tried out. By default that costs about two
    networks on top of the one that `tag` trains, fewer where the same groups come again.

    Args:
      problem, dataset, budget, config, workdir, resume: see `tag`.
      store: see `hoa`.
      proposals: M, how many groupings to try.
      fraction: of the steps, for the networks that try them.
      seeds: over how many, from that of the config on, their validation errors are averaged.

    Returns:
      A `Result`. Its objective is the total validation error of the brief networks.

    Raises:
      ValueError, OSError, FloatingPointError: see `tag`.
    """
    for name, value in (('proposals', proposals), ('seeds', seeds)):
        if value < 1:
            raise ValueError(f'{name} must be at least 1, not {value}')
    search.check_fraction(fraction)
    asked = {'proposals': proposals, 'fraction': fraction, 'seeds': seeds}
    run = begin(problem, dataset, budget, config, 'verify', workdir, resume, **asked)
    if result := finished(run):
        return result
    summary, trained, cost = measured(run)
    began = time.perf_counter()
    alone = np.diagonal(summary.mean) if config.affinity_split == 'validation' else None
    tried = proposed(summary.mean, budget, proposals, alone)
    seconds = time.perf_counter() - began
    with search.open_ledger(run, store) as book:
        rows = trial_rows(run, tried, book, fraction, seeds)
    groups, total = preferred(tried, rows, problem.task_names)
    of_rows = search.cost_of(itertools.chain(*rows))
    choice = Choice(
        groups=groups,
        serves=None,
        objective=total,
        affinities=summary,
        cost={name: cost[name] + of_rows[name] for name in cost} | {'selection_seconds': seconds},
    )
    return finish(run, choice, trained)


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


def trial_rows(run, groupings, book, fraction, seeds) -> list[list[dict]]:
    """For each seed, the rows of brief networks for all groups of some groupings.

    Args:
      run: a `Run`.
      groupings: tuples of groups, each a tuple of task indices.
      book: the `ledger.Ledger`.
      fraction: of the steps.
      seeds: how many, from that of the run on.
    """
    names = run.problem.task_names
    groups = sorted(set(itertools.chain(*groupings)))
    sets = [tuple(names[task] for task in group) for group in groups]
    rows = []
    for seed in range(run.config.seed, run.config.seed + seeds):
        own = run._replace(config=dataclasses.replace(run.config, seed=seed))
        rows.append(search.brief_rows(own, sets, book, fraction))
    return rows


def preferred(groupings, rows_of_seeds, task_names):
    """The grouping with the lowest mean total validation error, and that error in percent.

    Args:
      groupings: tuples of groups, each a tuple of task indices.
      rows_of_seeds: see `trial_rows`.
      task_names: T names.
    """
    of_seeds = [ledger.candidates(rows, task_names) for rows in rows_of_seeds]
    means = np.mean([candidates.scores for candidates in of_seeds], axis=0)
    scores = {
        tuple(np.flatnonzero(members).tolist()): onto
        for members, onto in zip(of_seeds[0].members, means, strict=True)
    }
    totals = [
        math.fsum(np.nanmin([scores[group] for group in groups], axis=0)) for groups in groupings
    ]
    best = int(np.argmin(totals))
    return groupings[best], totals[best]
