"""Sentences about the labels of a dataset that a reader of the result should know."""

import math
from collections.abc import Iterator, Mapping

from tag_jax.data.overlaps import describe_pairs, label_overlaps, pairs_apart
from tag_jax.grouping.run import Run
from tag_jax.objectives import BY_SHARES
from tag_jax.weighting import remark_on_overlaps


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
    by_measure = {}
    for task, objective in run.problem.tasks.items():
        measure = getattr(objective, 'options', {}).get('judged_by')
        if measure in BY_SHARES:
            by_measure.setdefault(measure, []).append(task)
    for measure, tasks in by_measure.items():
        yield f'The error of {", ".join(tasks)} is 100 x (1 - {measure}).'
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
