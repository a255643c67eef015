"""Objectives judged by another measure: what training keeps, stops and chooses by.

Names are those of scikit-learn, and of `Result.metrics`, where values are exact. While networks
train, a measure has to be a sum over examples, so scores are counted in BINS bins.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax.objectives.objective import Metric, NotDefined, Objective
from tag_jax.objectives.shapes import spread
from tag_jax.objectives.values import regression

BINS = 4096

_BY_SCORES = ('roc_auc', 'average_precision')
_BY_ANSWERS = ('balanced_accuracy', 'f1')
BY_SHARES = (*_BY_ANSWERS, *_BY_SCORES)  # Errors are 100 x (1 - measure).
_MEASURES = {
    'classification': BY_SHARES,
    'tokens': _BY_ANSWERS,
    'binary': BY_SHARES,
    'multilabel': BY_SHARES,
    'regression': ('mse', 'mae'),
    'pixel_regression': ('mse', 'mae'),
}


def judged_by(objective: Objective, measure: str) -> Objective:
    """The same objective, whose error is a function of another measure. Its loss stays as it is.

    The error is 100 x (1 - measure): of 'balanced_accuracy' (the mean over classes of the share of
    their examples that are right), 'f1' (macro; of several labels an example, the mean over labels
    of the F1 of those that are so), 'roc_auc' and 'average_precision' (of several classes, the mean
    of each against the rest; of several labels, their mean). For numbers, 'mse' and 'mae' are as
    `regression` has them, relative to the variance or the standard deviation.

    Scores of 'roc_auc' and 'average_precision' are counted in BINS bins of their log odds, finer
    near 0; those in one bin count as ties. So the area is off by at most half the share of pairs of
    a positive and a negative example that fall into one bin.

    Args:
      objective: made by a function of `objectives`.
      measure: see above.

    Returns:
      An `Objective`.

    Raises:
      ValueError: if objectives of this kind have no such measure; from its metric `NotDefined`, if
        a split has labels of one class only, where the measure needs both.
    """
    known = _MEASURES.get(objective.kind, ())
    if measure not in known:
        raise ValueError(
            f'a task of the kind {objective.kind!r} cannot be judged by {measure!r}: choose '
            f'{" or ".join(known) or "another kind"}'
        )
    options = {**objective.options, 'judged_by': measure}
    if measure in ('mse', 'mae'):
        other = regression(objective.width, absolute=measure == 'mae')
        return objective._replace(metric=other.metric, options=options)
    by_scores, value = measure in _BY_SCORES, _VALUES[measure]
    lacks = (
        f'{measure} needs examples of every class (or label), and others, and the split lacks '
        'some: let splits be stratified by the task (stratify=), or judge it by another measure'
    )
    count = _histograms if by_scores else _confusion

    def sums(output, target, mask):
        return {
            'usual': objective.metric.sums(output, target, mask),
            'judged': count(objective, output, target, mask),
        }

    def finish(totals, reference=None):
        judged = jax.tree.map(lambda x: np.asarray(x, np.float64), totals['judged'])
        found = value(judged, objective.kind) if reference is None else reference
        if by_scores and reference is None and np.isnan(found):
            raise NotDefined(lacks)
        usual = objective.metric.finish(totals['usual'])
        return {**usual, 'error': 100 * (1 - found), measure: found}

    def reference(target, mask):
        objective.metric.reference(target, mask)
        if by_scores and not _has_both(objective, target, mask):
            raise NotDefined(lacks)

    return objective._replace(metric=Metric(sums, finish, reference), options=options)


def _has_both(objective, target, mask):
    """Whether each label, or class, is so for some examples and not for others."""
    if objective.kind == 'classification':
        return len(np.unique(target[mask])) == max(objective.width, 2)
    columns = target.reshape(len(target), -1)
    known = np.broadcast_to(mask.reshape(len(mask), -1), columns.shape)
    return all(
        len(np.unique(own[there])) == 2 for own, there in zip(columns.T, known.T, strict=True)
    )


def _log_odds(objective, output):
    """The log odds of what may be so, `[..., L]`: of each label, or of each class."""
    if objective.kind != 'classification':
        return output
    if objective.width == 2:
        return output[..., 1:] - output[..., :1]
    # log(p) - log(1 - p), where 1 - p is the sum over the other classes.
    itself = jnp.eye(objective.width, dtype=bool)[None]
    others = jnp.where(itself, -jnp.inf, output[:, None, :])
    return output - jax.nn.logsumexp(others, axis=-1)


def _is_so(objective, target, like):
    """Whether each label, or class, is so, bool `[..., L]`."""
    if objective.kind == 'classification' and objective.width > 2:
        return jax.nn.one_hot(target, objective.width) > 0
    return jnp.reshape(target, like.shape) > 0


def _histograms(objective, output, target, mask):
    """How many scores of what is so, and of what is not, are in each bin: `[L, BINS]` each."""
    scores = _log_odds(objective, output)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    is_so = _is_so(objective, target, scores)
    known = spread(mask, scores.shape)
    place = (1 + scores / (1 + jnp.abs(scores))) / 2
    bins = jnp.clip((place * BINS).astype(jnp.int32), 0, BINS - 1)
    count = lambda wanted: jax.vmap(
        lambda own, weights: jnp.zeros(BINS, jnp.int32).at[own].add(weights), in_axes=(1, 1)
    )(_rows(bins), _rows((known & wanted).astype(jnp.int32)))
    return {'positive': count(is_so), 'negative': count(~is_so)}


def _rows(values):
    return jnp.reshape(values, (-1, values.shape[-1]))


def _confusion(objective, output, target, mask):
    """Counts of labels and answers: `[C, C]` of classes, `[L, 2, 2]` of several labels."""
    if objective.kind == 'multilabel':
        labels, answers = _rows(target > 0), _rows(output > 0)
        known = _rows(spread(mask, target.shape))
        return jax.vmap(_counts, in_axes=(1, 1, 1, None))(labels, answers, known, 2)
    size = max(objective.width, 2)
    binary = objective.kind == 'binary'
    answers = output[..., 0] > 0 if binary else jnp.argmax(output, axis=-1)
    known = spread(mask, target.shape)
    return _counts(target.ravel(), answers.ravel(), known.ravel(), size)


def _counts(labels, answers, known, size):
    cells = labels.astype(jnp.int32) * size + answers.astype(jnp.int32)
    counts = jnp.zeros(size * size, jnp.int32).at[cells].add(known.astype(jnp.int32))
    return counts.reshape(size, size)


def _roc_auc(counts: Any, kind: str) -> float:
    """The share of pairs, one that is so and one that is not, in their order; ties count half."""
    del kind
    positive, negative = counts['positive'], counts['negative']
    below = np.cumsum(negative, axis=-1) - negative / 2
    pairs = positive.sum(axis=-1) * negative.sum(axis=-1)
    return _mean(np.sum(positive * below, axis=-1), pairs)


def _average_precision(counts: Any, kind: str) -> float:
    """The mean of the precision over what is so, bins from the highest score down."""
    del kind
    positive = counts['positive'][:, ::-1]
    found = np.cumsum(positive, axis=-1)
    taken = found + np.cumsum(counts['negative'][:, ::-1], axis=-1)
    precision = found / np.maximum(taken, 1)
    return _mean(np.sum(positive * precision, axis=-1), positive.sum(axis=-1))


def _mean(values, totals):
    """The mean of `values / totals`; NaN if one has nothing to divide by."""
    return float(np.mean(values / totals)) if (totals > 0).all() else float('nan')


def _balanced_accuracy(confusion: Any, kind: str) -> float:
    """The mean over classes that occur of the share that is right."""
    if kind == 'multilabel':
        return float(np.mean([_balanced_accuracy(own, '') for own in confusion if own.sum()]))
    labels = confusion.sum(axis=1)
    return float(np.mean(np.diag(confusion)[labels > 0] / labels[labels > 0]))


def _f1(confusion: Any, kind: str) -> float:
    """The F1 of classes that occur, in labels or answers; of several labels, that they are so."""
    if kind == 'multilabel':
        return float(np.mean([_f1_of_each(own)[1] for own in confusion if own.sum()]))
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    return float(np.mean(_f1_of_each(confusion)[occurs]))


def _f1_of_each(confusion):
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return 2 * np.diag(confusion) / np.maximum(both, 1)


_VALUES = {
    'roc_auc': _roc_auc,
    'average_precision': _average_precision,
    'balanced_accuracy': _balanced_accuracy,
    'f1': _f1,
}
