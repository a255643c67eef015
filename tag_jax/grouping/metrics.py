"""Metrics of a task by scikit-learn's names, exact over a whole split."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from tag_jax.data.encoding import Target

# Objectives whose outputs are a few numbers an example, and that have metrics here.
_CLASSES, _SEVERAL, _VALUES = ('classification', 'binary'), ('multilabel',), ('regression',)
KINDS = (*_CLASSES, *_SEVERAL, *_VALUES)


def metrics(
    objective: Any, output: np.ndarray, target: np.ndarray, mask: Any, encoded: Target | None = None
) -> dict[str, float]:
    """Metrics of a task on a split.

    Args:
      objective: an `Objective`.
      output: what its head gives, `[N, ...]`.
      target: labels as networks see them, `[N, ...]`.
      mask: bool `[N]` or `[N, size]`, where there are labels; None for everywhere.
      encoded: how labels were standardised, so that values are in natural units; None if not.

    Returns:
      For classes (one or several an example): `accuracy`, `balanced_accuracy`, `f1` (macro),
      `log_loss`, `roc_auc` and `average_precision` (one against the rest, macro); for values: `r2`,
      `mse`, `mae`. A metric that the labels do not determine is NaN; {} for other objectives, and
      where an output is not finite.
    """
    output, target = np.asarray(output, np.float64), np.asarray(target)
    known = np.ones(len(target), bool) if mask is None else np.asarray(mask, bool)
    if not np.isfinite(output[known.reshape(len(known), -1).any(axis=1)]).all():
        return {}  # Nothing can be said of answers that are none.
    if objective.kind in _CLASSES:
        chances = objective.probabilities(output[known])
        return _of_classes(chances, target[known].astype(int))
    if objective.kind in _SEVERAL:
        known = np.broadcast_to(known.reshape(len(known), -1), target.shape)
        return _of_several(objective.probabilities(output), target.astype(int), known)
    if objective.kind in _VALUES:
        return _of_values(output[known], target[known].astype(np.float64), encoded)
    return {}


def _of_classes(chances, labels):
    from sklearn import metrics as sk

    count = chances.shape[1]
    chosen, one_hot = chances.argmax(axis=1), np.eye(count)[labels]
    found = {
        'accuracy': sk.accuracy_score(labels, chosen),
        'balanced_accuracy': _quiet(sk.balanced_accuracy_score, labels, chosen),
        'f1': sk.f1_score(labels, chosen, average='macro', zero_division=0),
        'log_loss': _log_loss(one_hot, chances).sum(axis=1).mean(),
    }
    if count == 2:
        scores = [(labels, chances[:, 1])]
    else:
        scores = [(one_hot[:, n], chances[:, n]) for n in range(count)]
    return _plain(found | _ranked(scores))


def _of_several(chances, labels, known):
    from sklearn import metrics as sk

    columns = [(labels[known[:, n], n], chances[known[:, n], n]) for n in range(labels.shape[1])]
    columns = [(own, of) for own, of in columns if len(own)]
    chosen = [(own, (of > 0.5).astype(int)) for own, of in columns]
    losses = [_log_loss(own, of) + _log_loss(1 - own, 1 - of) for own, of in columns]
    found = {
        'accuracy': np.mean(np.concatenate([own == one for own, one in chosen])),
        'balanced_accuracy': np.mean([_quiet(sk.balanced_accuracy_score, *one) for one in chosen]),
        'f1': np.mean([sk.f1_score(*one, zero_division=0) for one in chosen]),
        'log_loss': np.mean([loss.mean() for loss in losses]),
    }
    return _plain(found | _ranked(columns))


def _of_values(output, target, encoded):
    output = output.reshape(len(output), -1)
    target = target.reshape(output.shape)
    scales = np.array(encoded.scales) if encoded and encoded.scales else np.ones(output.shape[1])
    residual = (output - target) * scales
    spread = (target - target.mean(axis=0)) * scales
    with np.errstate(divide='ignore', invalid='ignore'):
        r2 = 1 - np.square(residual).sum(axis=0) / np.square(spread).sum(axis=0)
    return _plain(
        {
            'r2': np.where(np.isfinite(r2), r2, np.nan).mean(),
            'mse': np.square(residual).mean(),
            'mae': np.abs(residual).mean(),
        }
    )


def _ranked(columns):
    """ROC AUC and average precision, means over columns; NaN if one has a single kind of label."""
    from sklearn import metrics as sk

    if any(len(np.unique(own)) < 2 for own, _ in columns):
        return {'roc_auc': np.nan, 'average_precision': np.nan}
    return {
        'roc_auc': np.mean([sk.roc_auc_score(*one) for one in columns]),
        'average_precision': np.mean([sk.average_precision_score(*one) for one in columns]),
    }


def _log_loss(labels, chances):
    """Minus the logarithm of the probability of what is so, 0 elsewhere."""
    least = np.finfo(np.float64).eps
    return -labels * np.log(np.clip(chances, least, 1))


def _quiet(function, *arguments):
    """A metric of scikit-learn without its warning that a class does not occur."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return function(*arguments)


def _plain(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}
