"""How well ways to group predict in which groups a task does well."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax import ledger, selection
from tag_jax.comparison.methods import WHOLE, Search
from tag_jax.grouping.search import SEARCHES


def within_task_correlations(
    searches: Sequence[Search],
    rows_of_seeds: Sequence[Sequence[Mapping[str, Any]]],
    methods: Sequence[str],
) -> dict[str, np.ndarray]:
    """How well methods predict, of one task, in which groups it does well.

    For each task the correlation, over all groups of three tasks and more that it is in, between
    what a method predicts and the test error (its negative, for affinities), averaged over seeds.
    Tasks are never pooled: that some tasks have higher errors than others anybody can predict.

    Args:
      searches: a `Search` for each seed.
      rows_of_seeds: for each of them the rows of an exhaustive search.
      methods: their names; those that predict nothing, or have trained these networks, are left
        out, and all of them where tasks are in too few groups to tell.

    Returns:
      `{method: [T]}`.
    """
    found = {}
    for name in methods:
        if name not in PREDICTIONS:
            continue
        of_seeds = []
        for one, rows in zip(searches, rows_of_seeds, strict=True):
            members, errors = _by_set(ledger.candidates(rows, one.names, 'test'))
            known, predicted = _by_set(PREDICTIONS[name](one))
            large = members.sum(axis=1) >= 3
            places = {tuple(row): n for n, row in enumerate(known.tolist())}
            predicted = predicted[[places[tuple(row)] for row in members[large].tolist()]]
            of_seeds.append(
                [correlation(predicted[:, n], errors[large, n]) for n in range(len(one.names))]
            )
        correlations = np.mean(of_seeds, axis=0)
        if np.isfinite(correlations).any():
            found[name] = correlations
    return found


def _by_set(candidates):
    """(members, scores), bool `[N, T]` and `[N, T]`, of standard networks."""
    standard = candidates.costs == 1
    return candidates.members[standard], candidates.scores[standard]


def _affinities_of_sets(found, kind):
    """What affinities predict, as candidates; their negative, as an error."""
    candidates = selection.affinity_candidates(found.measured(affinity_kind=kind)[0].mean)
    return candidates.replace(scores=-candidates.scores)


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's r over the entries that both have; NaN below three of them, or without spread.

    Args:
      left, right: `[N]`, NaN where there is no entry.
    """
    known = np.isfinite(left) & np.isfinite(right)
    left, right = left[known], right[known]
    if len(left) < 3 or left.std() == 0 or right.std() == 0:
        return np.nan
    return float(np.corrcoef(left, right)[0, 1])


# What methods predict, as candidates with errors for scores.
PREDICTIONS: Mapping[str, Callable[[Search], selection.Candidates]] = {
    'tag': functools.partial(_affinities_of_sets, kind='exact'),
    'cosine_similarity': functools.partial(_affinities_of_sets, kind='cosine'),
    **{
        name: lambda found, method=method: found.searched(method)[1]
        for name, method in SEARCHES.items()
        if method not in WHOLE
    },
}


def errors_of(rows_of_seeds, task_names, split):
    """Errors in percent, `[seeds, networks, T]`, NaN where a network does not train a task."""
    return np.array(
        [
            [
                [row[split][t]['error'] if t in row[split] else np.nan for t in task_names]
                for row in rows
            ]
            for rows in rows_of_seeds
        ]
    )
