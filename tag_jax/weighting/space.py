"""Which gradients a weighting compares: those in the representation, or others.

Gradients with respect to the representation stand in for those of the shared parameters in Sener &
Koltun 2018, Section 3.3, where every example has the labels of all tasks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tag_jax.data.overlaps import describe_pairs, label_overlaps, pairs_apart
from tag_jax.gradients import TaskGradients
from tag_jax.weighting.rule import diagnostics


def remark_on_overlaps(
    name: str, make: Callable, split: Any, task_names: Sequence[str]
) -> str | None:
    """Says where a weighting cannot compare tasks, since their labels do not overlap.

    Args:
      name: how the sentence calls the weighting.
      make: `() -> transform`.
      split: the training split.
      task_names: T names.

    Returns:
      A sentence; None where all tasks share examples, or the weighting compares them elsewhere.
    """
    pairs = pairs_apart(label_overlaps(split, task_names), task_names)
    if not pairs or not compares_representations(make, task_names):
        return None
    return (
        f'{name} compares gradients in the space of the representation, where those of two tasks '
        'are exactly orthogonal on a batch without an example that has labels of both: it weighs '
        f"{describe_pairs(pairs)} by norms alone. Take space='shared', or weighting.mgda in place "
        'of mgda_ub.'
    )


def compares_representations(make: Callable, task_names: Sequence[str]) -> bool:
    """Whether a weighting rests on inner products of gradients in the representation.

    Such products of two tasks are zero on a batch in which no example has labels of both, so that
    these tasks are weighed by norms alone. The transform is asked: it weighs, twice, gradients that
    differ in these products, and neither in norms nor in the space of the shared parameters.

    Args:
      make: `() -> transform`, as `weighting.mgda_ub`.
      task_names: T names.

    Returns:
      A bool; False for a transform of one's own that is made by no rule.
    """
    if len(task_names) < 2:
        return False
    apart, against = (_weights(make(), tuple(task_names), sign) for sign in (1.0, -1.0))
    if apart is None or against is None:
        return False
    return not np.allclose(apart, against, rtol=1e-3, atol=1e-6)


def _weights(transform, names, sign):
    """The weights `[T]` of gradients of one example, whose last numbers no parameter sees."""
    rows = np.tile([0.5, 1.0, 0.0], (len(names), 1))
    rows[0], rows[1] = [1, 0, 1], [0.5, 1, sign]
    params = {
        'shared': {'w': jnp.zeros(2)},
        'heads': {task: {'b': jnp.zeros(1)} for task in names},
    }
    by_task = TaskGradients(
        losses=jnp.ones(len(names)),
        active=jnp.ones(len(names), bool),
        representation=jnp.asarray(rows, jnp.float32)[:, None, :],
        heads=params['heads'],
        pullback=lambda z: ({'w': z[0, :2]},),
        task_names=names,
    )
    try:
        _, state = transform.update(by_task, transform.init(params), params)
        return diagnostics(state)['weights']
    except Exception:  # A transform of the user's own may need what this small example lacks.
        return None
