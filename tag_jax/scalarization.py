"""Static weights to try: the tuned weighted sum that other weightings should be compared with.

`measure_scales` looks at a few batches where training begins, `propose_weights` makes as many
vectors of weights as there are runs for, `multi_objective.compare` trains with each of them, and
`multi_objective.searched` chooses one by its validation errors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax import examples, gradients
from tag_jax.data import Source, Split
from tag_jax.multi_objective import STATIC
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import TrainingConfig, batch_rows


class Scales(NamedTuple):
    """How large the tasks are where training begins.

    Attributes:
      losses: `[T]`, means over some batches.
      norms: `[T]`, norms of the gradients in the shared parameters, means over these batches.
    """

    losses: np.ndarray
    norms: np.ndarray


def measure_scales(
    problem: MultiTaskProblem, train: Split | Source, config: TrainingConfig, batches: int = 8
) -> Scales:
    """Measures losses and gradient norms on the first batches of training, without a step.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      train: the training split.
      config: a `TrainingConfig`; the network is that of its seed, and so are the batches
        where they are drawn from all rows alike.
      batches: how many.

    Returns:
      `Scales`, over the batches in which each task has labels.

    Raises:
      ValueError: if there are fewer batches than one; or if a task has no label in them, or a loss
        or a gradient that is zero or not finite, so that it has no inverse.
    """
    if batches < 1:
        raise ValueError(f'batches must be at least 1, not {batches}')
    init_key, key = jax.random.split(jax.random.key(config.seed))
    params, model_state = problem.init(init_key)
    size = examples.count(train)
    whole = examples.examples(problem, train)
    rows = [
        batch_rows(config.seed, step, min(config.batch_size, size), size) for step in range(batches)
    ]

    @jax.jit
    def measure(params, model_state, batch, rows, key):
        batch = jax.tree.map(lambda x: x[rows], batch)
        by_task, _ = gradients.task_gradients(problem, params, model_state, batch, key)
        shared = jax.tree.leaves(by_task.shared())
        square = sum(jnp.sum(jnp.square(g.reshape(len(g), -1)), axis=1) for g in shared)
        return by_task.losses, jnp.sqrt(square), by_task.active

    found = [
        measure(params, model_state, batch, of_batch, jax.random.fold_in(key, step))
        for step, (batch, of_batch) in enumerate(examples.windows(whole, rows))
    ]
    losses, norms, active = map(np.array, zip(*jax.device_get(found), strict=True))
    return _mean_scales(problem.task_names, losses, norms, active)


def _mean_scales(task_names, losses, norms, active):
    """`Scales` of numbers `[batches, T]`, if all can be inverted."""
    counts = active.sum(axis=0)
    means = [
        np.where(active, values, 0).sum(axis=0) / np.maximum(counts, 1)
        for values in (losses, norms)
    ]
    for task, count, *values in zip(task_names, counts, *means, strict=True):
        if not count:
            raise ValueError(
                f'{task!r} has no label in the first {len(active)} batches: measure more of them'
            )
        for what, value in zip(('loss', 'gradient'), values, strict=True):
            if not 0 < value < np.inf:
                raise ValueError(
                    f'the {what} of {task!r} is {value} where training begins, and has no inverse: '
                    'give weights by hand (weighting.fixed)'
                )
    return Scales(*means)


def propose_weights(
    task_names: Sequence[str],
    scales: Scales,
    count: int = 8,
    total: float | None = None,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Proposes static weights to try: some that make the tasks alike, then random ones.

    Plain sums do as well as adaptive weightings where they are tuned as long (Kurin et al. 2022,
    "In Defense of the Unitary Scalarization for Deep Multi-Task Learning"; Xin et al. 2022, "Do
    Current Multi-Task Optimization Methods in Deep Learning Even Help?"), but a grid of weights
    grows as a power of the number of tasks. The first are all ones; the inverse gradient norms and
    the inverse losses, with which all tasks begin with one norm or one loss; and halfway to the
    norms, their inverse roots. The others are drawn from all weights of that sum, evenly.

    Args:
      task_names: T names.
      scales: `Scales` of the tasks.
      count: how many vectors of weights. A seed and a learning rate of each is a run of training.
      total: what the weights sum to; None for T, so that the equal ones make the sum of the losses.
      seed: of the draws.

    Returns:
      `{name: {task: weight}}`; names begin with `multi_objective.STATIC`.

    Raises:
      ValueError: if count is below 1.
    """
    if count < 1:
        raise ValueError(f'count must be at least 1, not {count}')
    losses, norms = (np.asarray(values, np.float64) for values in scales)
    proposed = {
        'equal': np.ones(len(task_names)),
        'inverse norms': 1 / norms,
        'inverse losses': 1 / losses,
        'inverse roots of norms': norms**-0.5,
    }
    draws = np.random.default_rng(seed).dirichlet(np.ones(len(task_names)), max(0, count - 4))
    proposed |= {f'draw {n}': weights for n, weights in enumerate(draws, start=1)}
    total = len(task_names) if total is None else total
    return {
        f'{STATIC}s, {name}': dict(
            zip(task_names, (total * weights / weights.sum()).tolist(), strict=True)
        )
        for name, weights in list(proposed.items())[:count]
    }
