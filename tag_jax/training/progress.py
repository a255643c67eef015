"""A network on its way: what the host knows of it, after every evaluation, and on disk.

A checkpoint holds all that a network needs to go on as if nothing had happened: parameters, model
state, optimizer and weighting state, random key, the best parameters so far, affinities, early
stopping, records. Where its data stands follows from its seed and its step.
"""

import logging
import math
import os
import shutil
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tag_jax import affinity, evaluation
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import checkpoint
from tag_jax.runs.storage import finite

# What the last entry of `slots.Outputs.finite` is about.
SHARED = 'the shared parameters'


class Record(NamedTuple):
    """An evaluation of a network in training.

    Attributes:
      network: its name.
      step: steps that it has taken.
      training_loss: `{task: mean loss}` since the last evaluation; None where it had no label.
      validation_error: `{task: percent}`.
      total_validation_error: their sum, but for those that are not defined on the split, which are
        NaN (`evaluation.left_out`).
      validation_loss: `{task: mean loss}`.
      validation_relative_loss: `{task: percent}` of the loss of the best constant answer; empty
        unless networks are selected by it.
      seconds: its share of the wall time since the last evaluation.
      not_finite: `{what: steps}` whose numbers were not finite: task names, or SHARED.
      zero_losses: `{task: steps}` in which its loss was exactly zero.
      watched: `{task: {'error': percent, 'loss': ...}}` on the split that is watched, if there is
        one; it is not written.
    """

    network: str
    step: int
    training_loss: Mapping[str, float | None]
    validation_error: Mapping[str, float]
    total_validation_error: float
    validation_loss: Mapping[str, float] = {}
    validation_relative_loss: Mapping[str, float] = {}
    seconds: float = 0.0
    not_finite: Mapping[str, int] = {}
    zero_losses: Mapping[str, int] = {}
    watched: Mapping[str, Mapping[str, float]] = {}

    def to_json(self) -> dict[str, Any]:
        """The line of metrics.jsonl, which is the same whenever the network is trained again."""
        found = self._asdict()
        del found['seconds'], found['watched']
        for name in ('validation_error', 'validation_loss', 'validation_relative_loss'):
            found[name] = finite(found[name])
        return {
            name: value
            for name, value in found.items()
            if value or name not in ('not_finite', 'zero_losses', 'validation_relative_loss')
        }

    def validation(self, criterion: str) -> Mapping[str, float]:
        """The values that networks are selected by, `{task: value}`.

        Args:
          criterion: of `evaluation.CRITERIA`.
        """
        return getattr(self, f'validation_{criterion}')


class Progress(NamedTuple):
    """The state of a network in training, as the host knows it.

    Attributes:
      plan: the `training.NetworkPlan` that it is trained as.
      affinities: an `AffinityStatistics`.
      step: steps taken.
      best_step, best_total, best_scores: of its best evaluation so far.
      stale: evaluations since then.
      seconds: its share of the wall time.
      not_finite: `{what: steps}` whose numbers were not finite: task names, or SHARED.
      zero_losses: `{task: steps}` in which its loss was exactly zero.
      records: a `Record` for each of its evaluations.
    """

    plan: Any
    affinities: affinity.AffinityStatistics
    step: int = 0
    best_step: int = 0
    best_total: float = math.inf
    best_scores: Mapping[str, Mapping[str, float]] | None = None
    stale: int = 0
    seconds: float = 0.0
    not_finite: Mapping[str, int] = {}
    zero_losses: Mapping[str, int] = {}
    records: tuple[Record, ...] = ()


# What a checkpoint says of these in words; the rest of it are arrays.
_WORDS = (
    *('step', 'best_step', 'best_total', 'best_scores', 'stale', 'seconds'),
    *('not_finite', 'zero_losses', 'records'),
)


def start(problem: MultiTaskProblem, plan: Any) -> Progress:
    """A network that has taken no step.

    Args:
      problem: the `MultiTaskProblem`.
      plan: the `training.NetworkPlan`.
    """
    return Progress(plan, affinity.init(problem))


def observe(
    problem: MultiTaskProblem,
    before: Progress,
    outputs: Any,
    scores: Mapping[str, Mapping[str, float]],
    seconds: float,
    config: Any,
    watched: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    left_out: Collection[str] = (),
) -> Progress:
    """A network after some more steps, and an evaluation, of which there is a record at the end.

    Args:
      problem: the `MultiTaskProblem`.
      before: its `Progress` before them.
      outputs: `slots.Outputs` of this network, `[C, ...]`, for the C steps that it took.
      scores: the metrics of every task after them.
      seconds: the wall time that they took.
      config: a `training.TrainingConfig`.
      watched: the metrics of its tasks on the split that is watched, if there is one.
      left_out: the tasks whose error is not defined on the validation split. A network that trains
        no other task is at its best where the total of their losses is lowest.

    Raises:
      FloatingPointError: at numbers that are not finite, as far as the config does not say what
        else to do; also if all of these steps had such numbers.
    """
    bad = _steps_not_finite(problem, before, outputs, config)
    plan = before.plan
    errors, losses, relative = (
        {task: scores[task][name] for task in plan.tasks if name in scores[task]}
        for name in evaluation.CRITERIA
    )
    step = before.step + len(outputs.losses)
    by, judged = evaluation.kept_by(plan.tasks, config.select_by, left_out)
    total = math.fsum(scores[task][by] for task in judged)
    if not math.isfinite(total):
        odd = [task for task in judged if not math.isfinite(scores[task][by])]
        raise FloatingPointError(
            f'the validation {by.replace("_", " ")} of {odd[0]!r} in {plan.name} is '
            f'not finite at step {step}: try a lower learning_rate, or look at the metric of that '
            'task if it is your own'
        )
    zero = _zero_losses(problem, before, outputs)
    trained = _mean_losses(problem, plan, outputs)
    defined = evaluation.judged(errors, evaluation.ERROR, left_out)
    sums = errors, math.fsum(errors[task] for task in defined), losses, relative
    record = Record(plan.name, step, trained, *sums, seconds, bad, zero, watched)
    affinities = before.affinities
    if plan.measures_affinity:
        taken = np.arange(before.step, step)
        for now in taken[config.measures_at(taken)].tolist():
            matrix = outputs.affinity[now - before.step].astype(np.float32)  # Not a view of all.
            affinities = affinity.update(affinities, matrix, now)
    after = before._replace(
        affinities=affinities,
        step=step,
        stale=before.stale + 1,
        seconds=before.seconds + seconds,
        not_finite=_added(before.not_finite, bad),
        zero_losses=_added(before.zero_losses, zero),
        records=(*before.records, record),
    )
    if total < before.best_total and not math.isclose(total, before.best_total):
        best_scores = {task: scores[task] for task in plan.tasks}
        after = after._replace(best_step=step, best_total=total, best_scores=best_scores, stale=0)
    return after


def best_of_tasks(progress: Progress, select_by: str) -> dict[str, tuple[int, float]]:
    """`{task: (step, value)}` of the best evaluation of each task, whatever the others do.

    Tasks whose error is not defined on the split have none: they are kept as the others are.

    Args:
      progress: its `Progress`.
      select_by: of `evaluation.CRITERIA`.
    """
    found = {}
    for record in progress.records:
        for task, value in record.validation(select_by).items():
            if value < found.get(task, (0, math.inf))[1]:
                found[task] = record.step, value
    return found


def improved_tasks(progress: Progress, select_by: str) -> np.ndarray:
    """Whether the last evaluation was the best one of each task so far, bool `[T]`.

    Args:
      progress: its `Progress`.
      select_by: of `evaluation.CRITERIA`.
    """
    best = best_of_tasks(progress, select_by)
    names = progress.affinities.task_names
    return np.array([task in best and best[task][0] == progress.step for task in names])


def is_done(progress: Progress, config: Any) -> bool:
    """Whether a network has taken all its steps, or has not improved for too long.

    Args:
      progress: its `Progress`.
      config: a `training.TrainingConfig`.
    """
    return progress.step >= config.steps or 0 < config.patience <= progress.stale


def save(series: str | os.PathLike, progress: Progress, slot: Any) -> None:
    """Writes the checkpoint of a network after an evaluation.

    Args:
      series: the folder of its checkpoints.
      progress: its `Progress`.
      slot: its `slots.Slot`.

    Raises:
      OSError: if it cannot be written; those before it stand.
    """
    found = progress._asdict()
    record = {
        'plan': _as_words(progress.plan),
        **{name: found[name] for name in _WORDS},
        'records': [one._asdict() for one in progress.records],
        'affinity_steps': list(progress.affinities.steps),
    }
    size = len(progress.affinities.task_names)
    history = np.reshape(np.asarray(progress.affinities.history, np.float32), (-1, size, size))
    checkpoint.add(series, progress.step, {'slot': slot, 'history': history}, record)


def restore(
    series: str | os.PathLike, problem: MultiTaskProblem, plan: Any, slot: Any
) -> tuple[Progress, Any] | None:
    """A network as its newest whole checkpoint has it, or None if there is none of this plan.

    Args:
      series: the folder of its checkpoints.
      problem: the `MultiTaskProblem`.
      plan: the `NetworkPlan`.
      slot: its `slots.Slot` before the first step.

    Returns:
      (`Progress`, `slots.Slot`), or None.

    Raises:
      OSError: see `checkpoint.newest`, which catches the ValueError at one of another plan.
    """

    def like(record):
        if record['plan'] != _as_words(plan):
            raise ValueError(f'it is of another network, {record["plan"]}')
        size = len(problem.task_names)
        history = np.zeros((len(record['affinity_steps']), size, size), np.float32)
        return {'slot': slot, 'history': history}

    found = checkpoint.newest(series, like)
    if found is None:
        return None
    words = {name: found.record[name] for name in _WORDS}
    statistics = affinity.AffinityStatistics(
        problem.task_names, tuple(found.record['affinity_steps']), tuple(found.tree['history'])
    )
    words['records'] = tuple(Record(**one) for one in words['records'])
    # The key is the same; the new one lies where the program wants it.
    return Progress(plan, statistics, **words), found.tree['slot']._replace(key=slot.key)


def forget(series: str | os.PathLike) -> None:
    """Removes the checkpoints of a network that has finished.

    Args:
      series: their folder.
    """
    shutil.rmtree(series, ignore_errors=True)


def _as_words(plan):
    return {**plan._asdict(), 'tasks': list(plan.tasks)}


def _steps_not_finite(problem, before, outputs, config):
    """`{what: steps}` with numbers that are not finite, among those that the outputs report on.

    What happens to the shared parameters counts where no task alone is to blame.
    """
    names = (*problem.task_names, SHARED)
    finite = np.array(outputs.finite)
    finite[:, -1] |= ~finite[:, :-1].all(axis=1)
    if finite.all():
        return {}
    first = np.argwhere(~finite)[0]
    sentence = _sentence(names, before, outputs, *first)
    if before.step + first[0]:
        mend = 'try a lower learning_rate, or look for bad values in its data'
    else:  # No step has been taken yet.
        mend = 'look for bad values in its data, or in the parameters that it begins with'
    if config.if_not_finite == 'stop':
        raise FloatingPointError(f'{sentence}: {mend}')
    whole = finite.all(axis=1)
    if config.if_not_finite == 'skip' and not whole.any():
        raise FloatingPointError(
            f'{sentence}, and none of the {len(whole)} steps from {before.step} on could be '
            f'taken: {mend}'
        )
    trained = (outputs.active & outputs.finite[:, :-1] & outputs.finite[:, -1:]).any(axis=0)
    for task in np.flatnonzero(outputs.active.any(axis=0) & ~trained)[:1]:
        raise FloatingPointError(
            f'{sentence}, and {names[task]!r} could be trained in none of the {len(whole)} steps '
            f'from {before.step} on: {mend}'
        )
    if not before.not_finite:
        logging.warning('%s: %s', sentence, _REMEDIES[config.if_not_finite])
    counts = (~finite).sum(axis=0).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count}


_REMEDIES = {'skip': 'such steps are not taken', 'drop': 'such tasks sit out these steps'}


def _sentence(names, before, outputs, step, which):
    """Says what is not finite, in which network, and when."""
    place = f'in {before.plan.name} is not finite at step {before.step + step}'
    if names[which] == SHARED:
        return f'the update of {SHARED} {place}'
    loss = not np.isfinite(outputs.losses[step, which])
    return f'the {"loss" if loss else "gradient"} of {names[which]!r} {place}'


def _zero_losses(problem, before, outputs):
    """`{task: steps}` in which the loss of a task was exactly zero; says so where it always was."""
    zero = {}
    for n, task in enumerate(problem.task_names):
        losses = outputs.losses[outputs.active[:, n], n]
        if count := int((losses == 0).sum()):
            zero[task] = count
            if count == losses.size and task not in before.zero_losses:
                logging.warning(
                    'the loss of %r in %s is exactly zero from step %d on: it has no gradient, and '
                    'gives no affinities',
                    task,
                    before.plan.name,
                    before.step,
                )
    return zero


def _mean_losses(problem, plan, outputs):
    """Mean loss of every task that the network trains, over the steps where it had a finite one."""
    means = {}
    for n, task in enumerate(problem.task_names):
        if task in plan.tasks:
            losses = outputs.losses[outputs.active[:, n], n]
            losses = losses[np.isfinite(losses)]
            means[task] = float(losses.mean(dtype=np.float64)) if losses.size else None
    return means


def _added(before, more):
    return {name: before.get(name, 0) + more.get(name, 0) for name in {**before, **more}}
