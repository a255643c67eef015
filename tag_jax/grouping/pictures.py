"""Test examples with what the networks of a run say of them, for tasks whose labels are images."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tag_jax import examples
from tag_jax.data import Source, Split

NUM_EXAMPLES = 3
LONGEST = 160  # Pixels of a side that are kept, at most.


def pictures(
    split: Split | Source, predict: Callable[[Any], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Inputs, targets and predictions of a few examples, thinned out to small images.

    Args:
      split: where the examples come from, evenly spaced.
      predict: `inputs [N, ...] -> {task: output [N, ...]}`.

    Returns:
      `{'inputs': [N, H, W, 1 or 3]}`, if inputs are such images, and for every task whose labels
      are images `'targets/task'` and `'predictions/task'`, classes `[N, H, W]` or values
      `[N, H, W, D]`, and `'known/task'` `[N, H, W]`, true where there is a label; {} if there is
      no such task.
    """
    few = _few(split)
    pixelwise = [task for task, target in few.targets.items() if np.ndim(target) >= 3]
    outputs = predict(few.inputs) if pixelwise else {}  # In the order of the tasks.
    found = {}
    if pixelwise and np.ndim(few.inputs) == 4 and np.shape(few.inputs)[-1] in (1, 3):
        found['inputs'] = _thinned(few.inputs)
    for task in [task for task in outputs if task in pixelwise]:
        target, output = np.asarray(few.targets[task]), np.asarray(outputs[task])
        if output.ndim != 4 or output.shape[:3] != target.shape[:3]:
            continue  # A task of the user's own, on something else than pixels.
        if np.issubdtype(target.dtype, np.integer):
            output = output.argmax(axis=-1).astype(target.dtype)
        known = np.asarray((few.mask or {}).get(task, True), bool)
        known = known.reshape(known.shape + (1,) * (3 - known.ndim))
        found |= {
            f'targets/{task}': _thinned(target.reshape(output.shape)),
            f'predictions/{task}': _thinned(output),
            f'known/{task}': _thinned(np.broadcast_to(known, output.shape[:3])),
        }
    return found


def _few(split):
    """A few examples of a split, as a `Split` of arrays."""
    rows = np.unique(np.linspace(0, examples.count(split) - 1, NUM_EXAMPLES).astype(int))
    if not examples.in_memory(split):
        return split.read(rows)
    take = lambda tree: jax.tree.map(lambda x: np.asarray(x)[rows], tree)
    return Split(take(split.inputs), take(split.targets), take(split.mask))


def _thinned(images):
    """Images `[N, H, W, ...]` of which no side is longer than LONGEST pixels."""
    images = np.asarray(images)
    step = -(-max(images.shape[1:3]) // LONGEST)
    small = images[:, ::step, ::step]
    return small.astype(np.float32) if np.issubdtype(small.dtype, np.floating) else small
