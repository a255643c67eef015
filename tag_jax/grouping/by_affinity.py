"""Groups that follow inter-task affinities, measured in one training run."""

import dataclasses
import os
import pathlib

import numpy as np
from numpy.typing import ArrayLike

from tag_jax import affinity as affinities
from tag_jax import checkpoint, selection, training, trust
from tag_jax import workdir as workdirs
from tag_jax.data import Dataset
from tag_jax.grouping.result import Result
from tag_jax.grouping.run import (
    ALL_IN_ONE,
    Choice,
    all_in_one_plan,
    begin,
    finish,
    finished,
    train,
)
from tag_jax.problem import MultiTaskProblem
from tag_jax.selection import group_scores
from tag_jax.training import TrainingConfig

DEFAULTS = TrainingConfig()


def tag(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    affinity: ArrayLike | str | os.PathLike | None = None,
    resume: bool = False,
) -> Result:
    """Task Affinity Grouping (Fifty et al. 2021, Section 4).

    Trains all tasks together once, measuring inter-task affinities on the way; selects at most
    `budget` groups that maximise the affinity onto every task; trains a network for each group.
    Where affinities are compared on the validation split (`affinity_split` of the config), a task
    may be left alone: then its affinity onto itself is its score.
    Every network is kept at its lowest total validation error. The network for all tasks is the
    baseline 'mtl'. The test split is used once, at the end.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`, or anything with its name, train, validation and test.
      budget: the number of networks allowed at inference, 1 to T.
      config: a `TrainingConfig`.
      workdir: a folder for everything that the run leaves behind; None to leave nothing. The
        pictures and the report are drawn from it by `tag_jax.report.write`.
      affinity: affinities to select from, instead of measuring: `[T, T]`, or a file that
        `tag_jax.workdir.read_affinity` reads (.npz of another run, or .csv). Their diagonal counts
        where `affinity_split` is 'validation'.
      resume: go on with the run that the workdir holds. Networks that had finished are kept, those
        that had not start again; the result is that of an unbroken run. A finished run is loaded.

    Returns:
      A `Result`.

    Raises:
      ValueError: before any training, if the budget is out of range, a split does not fit the
        problem, a task has no label in a split, the affinities do not fit or the workdir holds
        another run. After the search, if a pair of tasks ended without an affinity (affinity.npz
        is kept).
      OSError: if the workdir cannot be written to.
      FloatingPointError: if a loss is not finite.
    """
    return _by_affinity('tag', problem, dataset, budget, config, workdir, affinity, resume)


def cosine_similarity(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
) -> Result:
    """Groups by the cosine similarity of task gradients (CS in Fifty et al. 2021, Section 5).

    As `tag`, with the mean cosines between the gradients of two tasks in place of affinities.

    Args:
      problem, dataset, budget, config, workdir, resume: see `tag`.

    Raises:
      ValueError, OSError, FloatingPointError: see `tag`.
    """
    config = dataclasses.replace(config, affinity_kind='cosine')
    return _by_affinity(
        'cosine_similarity', problem, dataset, budget, config, workdir, None, resume
    )


def _by_affinity(method, problem, dataset, budget, config, workdir, affinity, resume):
    on_validation = config.affinity_split == 'validation'
    summary = given = None
    if affinity is not None:
        summary = _given_affinities(problem, affinity, on_validation)
        is_file = isinstance(affinity, str | os.PathLike)
        source = pathlib.Path(affinity).name if is_file else 'an array'
        given = f'{source} ({checkpoint.checksum(summary.mean)})'
    run = begin(problem, dataset, budget, config, method, workdir, resume, affinity=given)
    if result := finished(run):
        return result

    trained, cost = {}, {'search_steps': 0, 'search_seconds': 0.0}
    if summary is None:
        summary, trained, cost = measured(run)
    elif run.writes:
        workdirs.write_affinity(run.path / workdirs.AFFINITY, summary)
    alone = np.diagonal(summary.mean) if on_validation else None
    selected = selection.select_groups(summary.mean, budget, alone)
    other = confidence = None
    if len(summary.steps) and selected.optimal:
        other = trust.runner_up(summary.mean, run.budget, selected, alone)
    if other is not None:
        confidence = trust.confidence(summary, selected, other)
    seconds = selected.elapsed + (other.elapsed if other else 0.0)
    choice = Choice(
        groups=selected.groups,
        serves=selected.serves,
        objective=selected.objective,
        bound=selected.bound,
        confidence=confidence,
        remarks=(
            *_remarks_on_still_parameters(run),
            *trust.remarks(summary, other, confidence, selected),
            *trust.dominance(summary, budget, selected, on_validation),
        ),
        affinities=summary,
        cost={**cost, 'selection_seconds': seconds},
    )
    return finish(run, choice, trained)


def _remarks_on_still_parameters(run):
    """A sentence, if lookahead steps move parameters that the optimizer does not."""
    if run.config.affinity_step != 'sgd':
        return
    if still := training.still_parameters(run.problem, run.config):
        some = ', '.join(still[:4]) + ', ...' * (len(still) > 4)
        yield (
            f'The optimizer does not move {some}, and the steps that affinities measure do: they '
            'are of another network. Say what trains with trainable=, or take '
            "affinity_step='optimizer'."
        )


def measured(run):
    """Trains a network for all tasks, and measures the affinities that a selection needs.

    Args:
      run: a `Run`.

    Returns:
      An `AffinitySummary`; the network, `{name: TrainedNetwork}`; and the cost of the search.

    Raises:
      ValueError: if a pair of tasks ended without an affinity.
    """
    trained = train(run, [all_in_one_plan(run)._replace(measures_affinity=True)])
    network = trained[ALL_IN_ONE]
    summary = network.affinities
    if run.writes:
        workdirs.write_affinity(run.path / workdirs.AFFINITY, summary)
    if not len(summary.steps):
        raise ValueError(
            f'training stopped after {network.steps} steps, before affinity_window began: its '
            f'shares are of the {run.config.steps} steps allowed'
        )
    on_validation = run.config.affinity_split == 'validation'
    if pair := _pair_without_affinity(run.problem.task_names, summary.mean, on_validation):
        source, target = pair
        kept = '' if run.path is None else f'; all others are in {run.path / workdirs.AFFINITY}'
        if not np.isfinite(summary.mean).any():
            raise ValueError(
                'no affinity was measured at all: the gradients of the encoder are zero (a frozen '
                f'or constant encoder has none), or the losses are not positive{kept}'
            )
        raise ValueError(
            f'no affinity of {source!r} onto {target!r} was measured: their labels never met in a '
            f'measured batch, or the loss of {target!r} was not positive. Measure more often or '
            f'in larger batches, or leave one of the tasks out{kept}'
        )
    cost = {'search_steps': network.steps, 'search_seconds': network.seconds}
    return summary, trained, cost


def _given_affinities(problem, affinity, with_itself):
    """Affinities from elsewhere, an array or a file, in the form of measured ones."""
    names = problem.task_names
    found = {}
    if isinstance(affinity, str | os.PathLike):
        found = workdirs.read_affinity(affinity, names)
        affinity = found['mean']
    affinity = group_scores.as_numbers('affinity', affinity)
    size = len(names)
    if affinity.shape != (size, size):
        raise ValueError(
            f'an affinity matrix of {size} tasks is {size} x {size}, not {affinity.shape}'
        )
    if pair := _pair_without_affinity(names, affinity, with_itself):
        raise ValueError(f'there is no affinity of {pair[0]!r} onto {pair[1]!r} among those given')
    nothing = affinities.summary(affinities.init(problem))
    return nothing._replace(**found | {'mean': affinity})


def _pair_without_affinity(names, affinity, with_itself=False):
    """The first pair of tasks whose affinity selection needs and does not have, or None."""
    missing = ~np.isfinite(affinity) & (with_itself | ~np.eye(len(names), dtype=bool))
    for source, target in np.argwhere(missing):
        return names[source], names[target]
    return None
