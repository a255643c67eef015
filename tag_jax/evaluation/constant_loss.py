"""The lowest loss that a constant answer reaches: what a loss is relative to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import examples, gradients
from tag_jax.data import Source, Split
from tag_jax.evaluation.criteria import RELATIVE_LOSS
from tag_jax.objectives import Objective
from tag_jax.problem import MultiTaskProblem, with_trailing_axes

_NOT_RELATIVE = "{}, and no loss can be relative to that: take select_by='loss'"
_MOST_WIDTH = 4  # Outputs up to which a search without gradients follows: losses may have kinks.


def constant_loss(
    objective: Objective,
    shape: tuple[int, ...],
    target: np.ndarray,
    mask: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """The mean loss of the best answer that does not look at the input.

    For cross entropies that is the entropy of the labels, for squared errors their variance.

    Args:
      objective: of the task.
      shape: of the output for one example, `[..., width]`; all of its places get the same answer.
      target: `[N, ...]`, its labels.
      mask: bool, `[N]` or `[N, ...]`, where there is one.
      weights: of the labels, `[N]` or `[N, ...]`; None for 1.

    Raises:
      ValueError: if it is not positive and finite, so that no loss is relative to it.
    """
    from scipy import optimize  # Slow to import.

    target, mask = np.asarray(target), np.asarray(mask, bool)
    labels = target[mask]
    if target.dtype.kind in 'iub' and (labels == labels[:1]).all():
        raise ValueError(_NOT_RELATIVE.format('all its labels are of one class'))
    target = np.where(with_trailing_axes(mask, target.ndim), target, np.zeros((), target.dtype))
    given = objective.loss, tuple(shape), jnp.asarray(target), jnp.asarray(mask), weights
    both = jax.value_and_grad(_mean_loss)
    as_answer = lambda x: jnp.asarray(x, jnp.float32)
    with_gradient = lambda x: tuple(np.asarray(part, float) for part in both(as_answer(x), *given))
    only = lambda x: float(_mean_loss(as_answer(x), *given))
    width = shape[-1] if shape else 1
    start = np.zeros(shape[-1:])
    found = optimize.minimize(with_gradient, start, jac=True, method='L-BFGS-B')
    best = min(float(found.fun), only(start))
    if width <= _MOST_WIDTH:
        best = min(best, float(optimize.minimize(only, found.x, method='Powell').fun))
    if not 0 < best < np.inf:
        raise ValueError(_NOT_RELATIVE.format(f'the best constant answer has a loss of {best:.3g}'))
    return best


@functools.partial(jax.jit, static_argnums=(1, 2))
def _mean_loss(answer, loss, shape, target, mask, weights):
    """The mean loss of one answer to all examples."""
    output = jnp.broadcast_to(answer, (target.shape[0], *shape))
    return gradients.mean_over_labels(loss(output, target), mask, weights)[0]


def constant_losses(problem: MultiTaskProblem, split: Split | Source) -> dict[str, float]:
    """The losses of the best constant answers, `{task: loss}`.

    Args:
      problem: a `MultiTaskProblem`.
      split: with its labels in memory.

    Raises:
      ValueError: if it is a `Source`, or an answer is right for all labels of a task.
    """
    if not examples.in_memory(split):
        raise ValueError(
            f"select_by='{RELATIVE_LOSS}' needs labels in memory, and this split is a data.Source: "
            "take select_by='loss'"
        )
    batch = examples.as_batch(problem, split)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), batch.inputs)
    outputs = jax.eval_shape(problem.predict, *problem.shapes, one)
    found = {}
    for task, objective in problem.tasks.items():
        target, mask = batch.labels(task)
        try:
            shape, weights = outputs[task].shape[1:], batch.weights(task)
            found[task] = constant_loss(objective, shape, target, mask, weights)
        except ValueError as error:
            raise ValueError(f'of the task {task!r}, {error}') from error
    return found
