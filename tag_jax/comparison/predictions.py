"""How well ways to group predict in which groups a task does well."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax.grouping import Method, Searcher
from tag_jax.grouping.trainer import Trainer
from tag_jax.numbers import correlation
from tag_jax.runs import score_table


def within_task_correlations(
    trainers: Sequence[Trainer],
    rows_of_seeds: Sequence[Sequence[Mapping[str, Any]]],
    methods: Sequence[Method],
) -> dict[str, np.ndarray]:
    """How well methods predict, of one task, in which groups it does well.

    For each task the correlation, over all groups of three tasks and more that it is in, between
    what a method predicts and the test error (its negative, for affinities), averaged over seeds.
    Tasks are never pooled: that some tasks have higher errors than others anybody can predict.

    Args:
      trainers: a `Trainer` for each seed.
      rows_of_seeds: for each of them the rows of an exhaustive search.
      methods: those that predict nothing are left out, and all of them where tasks are in too few
        groups to tell.

    Returns:
      `{method: [T]}`.
    """
    found = {}
    for method in methods:
        if method.predict is None:
            continue
        of_seeds = []
        for one, rows in zip(trainers, rows_of_seeds, strict=True):
            members, errors = _by_set(score_table.candidates(rows, one.names, 'test'))
            known, predicted = _by_set(method.predict(Searcher(one)))
            large = members.sum(axis=1) >= 3
            places = {tuple(row): n for n, row in enumerate(known.tolist())}
            predicted = predicted[[places[tuple(row)] for row in members[large].tolist()]]
            of_seeds.append(
                [correlation(predicted[:, n], errors[large, n]) for n in range(len(one.names))]
            )
        correlations = np.mean(of_seeds, axis=0)
        if np.isfinite(correlations).any():
            found[method.displayed] = correlations
    return found


def _by_set(candidates):
    """(members, scores), bool `[N, T]` and `[N, T]`, of standard networks."""
    standard = candidates.costs == 1
    return candidates.members[standard], candidates.scores[standard]


def errors_of(rows_of_seeds, task_names, split):
    """The values that networks are selected by, `[seeds, networks, T]`; NaN for other tasks."""
    return np.array(
        [
            [
                [found.get(task, np.nan) for task in task_names]
                for found in (score_table.scores(row, split) for row in rows)
            ]
            for rows in rows_of_seeds
        ]
    )
