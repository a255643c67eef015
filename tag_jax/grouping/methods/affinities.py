"""Methods that follow affinities between tasks."""

import os
import pathlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tag_jax import affinity, selection
from tag_jax.grouping import confidence
from tag_jax.grouping.method import (
    MEASURING,
    Method,
    Proposal,
    Stage,
    standard_stages,
    whole_networks,
)
from tag_jax.grouping.searcher import Searcher
from tag_jax.runs import affinity_files, checkpoint
from tag_jax.selection import group_scores


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
      matrix: `[T, T]`, source task first; or a file that
        `tag_jax.runs.affinity_files.read_affinity` reads (.npz of another run, or .csv). Its
        diagonal counts where `affinity.split` of the config is 'validation'.

    Raises:
      ValueError: when the method begins, if the affinities do not fit the tasks.
      OSError: if the file cannot be read.
    """
    is_file = isinstance(matrix, str | os.PathLike)
    found = affinity_files.read_affinity(matrix)['mean'] if is_file else np.asarray(matrix)
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


def spectral(seed: int = 0) -> Method:
    """Groups by spectral clustering of affinities (Ng, Jordan & Weiss 2002; scikit-learn).

    Measures affinities as `tag` does, and clusters their symmetric part, shifted and scaled to lie
    between 0 and 1, into at most `budget` groups without common tasks. As in "Boosting Multitask
    Learning on Graphs through Higher-Order Task Affinities" (Li et al. 2023).

    Args:
      seed: of the k-means steps within.

    Raises:
      ValueError: when the method begins, if a pair of tasks ends without an affinity.
    """

    def propose(searcher, budget):
        summary = measured(searcher)
        size, networks = len(searcher.task_names), whole_networks(budget)
        labels = np.zeros(size, int) if networks == 1 else np.arange(size)
        if 1 < networks < size:
            from sklearn.cluster import SpectralClustering

            both = (summary.mean + summary.mean.T) / 2
            np.fill_diagonal(both, np.nan)
            alike = (both - np.nanmin(both)) / max(np.nanmax(both) - np.nanmin(both), 1e-300)
            np.fill_diagonal(alike, 1)
            clustering = SpectralClustering(networks, affinity='precomputed', random_state=seed)
            labels = clustering.fit_predict(alike)
        groups = [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
        return Proposal(tuple(sorted(groups)), affinities=summary)

    def stages(task_names, budget, config):
        del task_names
        return standard_stages(budget, config, Stage(MEASURING, 1, config.steps, True))

    return Method('spectral', propose, stages, None, {'seed': seed} if seed else {})


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
        found = affinity_files.read_affinity(matrix, names)
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
