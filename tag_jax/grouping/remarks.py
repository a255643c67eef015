"""Sentences about the labels of a dataset that a reader of the result should know."""

import math
from collections.abc import Iterator, Mapping

from tag_jax.data.overlaps import describe_pairs, label_overlaps, pairs_apart
from tag_jax.grouping.result import judged_by
from tag_jax.grouping.run import Run
from tag_jax.objectives import BY_SHARES
from tag_jax.weighting import remark_on_overlaps


def _remarks_on_measures(tasks, select_by):
    """Sentences on the errors of tasks that are judged by a share, and on losses in their place."""
    by_measure = {}
    for task, measure in judged_by(tasks).items():
        if measure in BY_SHARES:
            by_measure.setdefault(measure, []).append(task)
    errors = {', '.join(names): f'100 x (1 - {one})' for one, names in by_measure.items()}
    if select_by == 'error':
        yield from (f'The error of {names} is {error}.' for names, error in errors.items())
    elif errors:
        loss = select_by.replace('_', ' ')
        each = '; '.join(f'{names}: {error}' for names, error in errors.items())
        yield (
            f'Networks were selected by their {loss}, so reports show that. The measures that '
            f'tasks are judged by stand beside it. `test_error` has them as errors ({each}).'
        )


def remarks_on_labels(
    run: Run, measured: bool, metrics: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """Sentences about what errors are, about labels that do not overlap, and unknown metrics.

    Args:
      run: a `Run`.
      measured: whether affinities were measured.
      metrics: `{task: {name: value}}` on the test split.

    Yields:
      A sentence each.
    """
    names, train = run.problem.task_names, run.dataset.train
    yield from _remarks_on_measures(run.problem.tasks, run.config.select_by)
    pairs = pairs_apart(label_overlaps(train, names), names)
    if pairs and measured:
        yield (
            f'No training example has labels of both {describe_pairs(pairs)}: the affinities '
            'between them compare losses on other examples than those that the step is taken on.'
        )
    if remark := remark_on_overlaps('The weighting', run.config.weighting, train, names):
        yield remark
    if unknown := [task for task in names if math.isnan(metrics[task].get('roc_auc', 0))]:
        yield (
            f'ROC AUC is not defined (NaN) for {", ".join(unknown)}: the test split lacks labels '
            'of a class. Splits that are stratified by the task (stratify=, --stratify) have some '
            'of each.'
        )
