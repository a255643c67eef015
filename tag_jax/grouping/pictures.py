"""Test examples with what the networks of a run say of them, for tasks whose labels are images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import examples
from tag_jax.data import Source, Split
from tag_jax.problem import Batch, MultiTaskProblem

NUM_EXAMPLES = 3
LONGEST = 160  # Pixels of a side that are kept, at most.


def pictures(
    problem: MultiTaskProblem,
    split: Split | Source,
    predict: Callable[[Any], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Inputs, targets and predictions of a few examples, thinned out to small images.

    Args:
      problem: the `MultiTaskProblem` whose tasks they are.
      split: where the examples come from, evenly spaced.
      predict: `inputs [N, ...] -> {task: output [N, ...]}`.

    Returns:
      `{'inputs': [N, H, W, 1 or 3]}`, if inputs are such images, and for every task whose labels
      are images `'targets/task'` and `'predictions/task'`, classes `[N, H, W]` or values
      `[N, H, W, D]`, and `'known/task'` `[N, H, W]`, true where there is a label; {} if there is
      no such task.
    """
    few = _few(problem, split)
    if all(target.ndim < 3 for target in few.targets.values()):
        return {}
    outputs, found = predict(few.inputs), {}
    for task in problem.task_names:
        target, known = map(np.asarray, few.labels(task))
        shown = _comparable(target, np.asarray(outputs[task]))
        if shown is None:
            continue
        images = shown[0].shape[:3]
        known = np.broadcast_to(known.reshape(known.shape + (1,) * (3 - known.ndim)), images)
        for name, values in zip(('targets', 'predictions', 'known'), (*shown, known), strict=True):
            found[f'{name}/{task}'] = _thinned(values)
    inputs = few.inputs
    if found and isinstance(inputs, np.ndarray) and inputs.ndim == 4 and inputs.shape[-1] in (1, 3):
        found = {'inputs': _thinned(inputs), **found}
    return found


def _few(problem, split) -> Batch:
    """A few examples of a split, in NumPy."""
    rows = np.unique(np.linspace(0, examples.count(split) - 1, NUM_EXAMPLES).astype(int))
    if not examples.in_memory(split):
        return examples.as_batch(problem, split.read(rows))
    return jax.tree.map(lambda x: np.asarray(x[rows]), examples.as_batch(problem, split))


def _comparable(target, output):
    """Labels and predictions of pixels, in one form; None for what is something else."""
    of_classes = np.issubdtype(target.dtype, np.integer) or target.dtype == bool
    if target.ndim == 3 and target.shape == output.shape[:-1] and output.shape[-1] > 1:
        return (target.astype(int), output.argmax(axis=-1)) if of_classes else None
    if output.ndim == 4 and output.shape in (target.shape, (*target.shape, 1)):
        return target.reshape(output.shape).astype(np.float32), output
    return None


def _thinned(images):
    """Images `[N, H, W, ...]` of which no side is longer than LONGEST pixels."""
    step = -(-max(images.shape[1:3]) // LONGEST)
    small = images[:, ::step, ::step]
    return small.astype(np.float32) if jnp.issubdtype(small.dtype, jnp.floating) else small
