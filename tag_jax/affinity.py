"""Inter-task affinity: what a step on one task does to the losses of the others.

Fifty et al. 2021, Section 4.1. For a batch, shared parameters theta and the heads theta_j,

    Z[i, j] = 1 - L_j(theta - eta * g_i, theta_j) / L_j(theta, theta_j)        (Equation 1)

where g_i is the gradient of task i's loss with respect to theta: the share of task j's loss that a
step on task i alone takes away. `affinity[i, j]` is the effect of source task i on target task j.

    statistics = affinity.init(problem)
    for step, batch in enumerate(batches):
        if step % 10 == 0:
            matrix = affinity.inter_task_affinity(problem, params, state, batch, learning_rate)
            statistics = affinity.update(statistics, matrix, step)
        ...                                                    # a training step of your own
    summary = affinity.summary(statistics)                     # mean, variance, count, ...
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tag_jax import gradients

KINDS = ('exact', 'first_order', 'cosine')


def inter_task_affinity(
    problem,
    params,
    model_state,
    batch,
    learning_rate,
    kind='exact',
    key=None,
    lookahead=None,
    eval_batch=None,
    **options,
) -> jax.Array:
    """The inter-task affinities of one kind on one batch, `[T, T]`.

    The arguments are those of `inter_task_affinities`, with one kind.
    """
    return inter_task_affinities(
        problem,
        params,
        model_state,
        batch,
        learning_rate,
        (kind,),
        key,
        lookahead,
        eval_batch,
        **options,
    )[kind]


def inter_task_affinities(
    problem,
    params,
    model_state,
    batch,
    learning_rate,
    kinds=('exact',),
    key=None,
    lookahead=None,
    eval_batch=None,
    task_mask=None,
    batching=None,
) -> dict[str, jax.Array]:
    """Inter-task affinities of several kinds from the same passes.

    * 'exact': Z as above, from one lookahead pass a source task.
    * 'first_order': eta * g_i . g_j / L_j, its limit for a small step. No lookahead passes.
    * 'cosine': the cosine between g_i and g_j. Symmetric.

    The modules run in training mode, with batch statistics; the new model state is discarded. The
    losses before and after the step are computed with the same key, hence the same dropout. The
    step keeps the dtype of the parameters, and bfloat16 loses steps that are small beside them: to
    compute in bfloat16, keep parameters in float32.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      params: its parameters.
      model_state: its state.
      batch: the `Batch` on which each task takes its step.
      learning_rate: eta. The step is plain SGD, as in the paper.
      kinds: which kinds, of `KINDS`.
      key: for dropout and the like.
      lookahead: `gradient -> update` of the shared parameters (the update is added), in place of
        -eta * gradient: the step that an optimizer would take. The cosine is not affected.
      eval_batch: the `Batch` on which losses are compared; None for `batch` itself, as in the
        paper. On other data the diagonal, a task's effect on itself, can be compared with the rest.
      task_mask: bool `[T]`; tasks outside it have no sample.
      batching: how passes are batched over tasks, 'vmap' or 'unroll'; None for the faster one
        (`gradients.preferred_batching`). The result is the same.

    Returns:
      `{kind: [T, T]}`, source task first. NaN where there is no sample: the source task or the
      target task has no labels, or the target's loss is not positive.

    Raises:
      ValueError: if a kind is unknown, or the encoder has no parameters.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f'kind must be one of {", ".join(KINDS)}, not {unknown[0]!r}')
    if not jax.tree.leaves(params['shared']):
        raise ValueError('the encoder has no parameters, so no step on a task affects another one')
    if lookahead is None:
        lookahead = lambda gradient: jax.tree.map(lambda g: -learning_rate * g, gradient)
    if batching is None:
        batching = gradients.preferred_batching(problem, params, model_state, batch.inputs)

    source, _ = gradients.task_gradients(
        problem, params, model_state, batch, key, task_mask=task_mask
    )
    source_gradients = source.shared(batching)
    if eval_batch is None:
        eval_batch, target, target_gradients = batch, source, source_gradients
    else:
        target, _ = gradients.task_gradients(
            problem, params, model_state, eval_batch, key, task_mask=task_mask
        )
        needed = 'first_order' in kinds or 'cosine' in kinds
        target_gradients = target.shared(batching) if needed else None

    both_active = source.active[:, None] & target.active[None, :]
    with_positive_loss = both_active & (target.losses > 0)[None, :]
    losses = jnp.where(target.losses > 0, target.losses, 1)[None, :]

    result = {}
    if 'exact' in kinds:

        def lookahead_losses(gradient):
            shared = optax.apply_updates(params['shared'], lookahead(gradient))
            ahead = {'shared': shared, 'heads': params['heads']}
            return gradients.task_losses(problem, ahead, model_state, eval_batch, key)[0]

        ahead = gradients.map_stacked(lookahead_losses, source_gradients, batching)
        result['exact'] = jnp.where(with_positive_loss, (losses - ahead) / losses, jnp.nan)
    if 'first_order' in kinds:
        updates = gradients.map_stacked(lookahead, source_gradients, batching)
        change = gradients.products(updates, target_gradients)
        result['first_order'] = jnp.where(with_positive_loss, -change / losses, jnp.nan)
    if 'cosine' in kinds:
        cosines = gradients.cosines(source_gradients, target_gradients)
        result['cosine'] = jnp.where(both_active, cosines, jnp.nan)
    return result


class AffinityStatistics(NamedTuple):
    """Affinities measured so far.

    Attributes:
      task_names: T names.
      steps: the training steps at which they were measured.
      history: a matrix `[T, T]` for each of them, NaN where a pair had no sample.
    """

    task_names: tuple[str, ...]
    steps: tuple[int, ...]
    history: tuple[Any, ...]


class AffinitySummary(NamedTuple):
    """Affinities over a training run; float64 unless said otherwise.

    Attributes:
      task_names: T names.
      mean: `[T, T]`, over the steps at which the pair had a sample; NaN where it had none.
      variance: `[T, T]`, between steps (divided by count - 1); NaN below two samples.
      stderr: `[T, T]`, sqrt(variance / count), as if the steps were independent. Neighbouring steps
        are alike and affinities drift while training, so it is a lower limit.
      count: int `[T, T]`, the number of samples.
      history: `[N, T, T]` float32, every measurement; NaN where a pair had no sample.
      steps: int `[N]`, the training step of each.
    """

    task_names: tuple[str, ...]
    mean: np.ndarray
    variance: np.ndarray
    stderr: np.ndarray
    count: np.ndarray
    history: np.ndarray
    steps: np.ndarray


def init(problem) -> AffinityStatistics:
    """Statistics without a measurement, for the tasks of a problem."""
    return AffinityStatistics(problem.task_names, (), ())


def update(statistics, matrix, step) -> AffinityStatistics:
    """The statistics with one more measurement.

    Does not wait for a matrix that is still being computed.

    Args:
      statistics: from `init` or `update`.
      matrix: `[T, T]`, from `inter_task_affinity`; entries that are not finite are no sample.
      step: the training step at which it was measured.

    Raises:
      ValueError: if the matrix is not `[T, T]`.
    """
    size = len(statistics.task_names)
    if np.shape(matrix) != (size, size):
        raise ValueError(
            f'an affinity matrix of {size} tasks is {size} x {size}, not {np.shape(matrix)}'
        )
    return statistics._replace(
        steps=(*statistics.steps, int(step)), history=(*statistics.history, matrix)
    )


def summary(statistics) -> AffinitySummary:
    """Mean, variance, standard error and count of every pair (Section 4.1, the average over steps).

    Every pair is averaged over the steps at which it had a sample.
    """
    size = len(statistics.task_names)
    matrices = [np.asarray(matrix, np.float32) for matrix in statistics.history]
    history = np.reshape(matrices, (-1, size, size)).astype(np.float32)
    sampled = np.isfinite(history)
    history = np.where(sampled, history, np.float32(np.nan))
    samples = np.where(sampled, history, 0).astype(np.float64)
    count = sampled.sum(axis=0)
    mean = _divide(samples.sum(axis=0), count)
    deviations = np.where(sampled, samples - np.nan_to_num(mean), 0)
    variance = _divide(np.square(deviations).sum(axis=0), count - 1)
    return AffinitySummary(
        task_names=statistics.task_names,
        mean=mean,
        variance=variance,
        stderr=np.sqrt(_divide(variance, count)),
        count=count,
        history=history,
        steps=np.asarray(statistics.steps, np.int64),
    )


def _divide(numerator, denominator):
    """The quotient, NaN where the denominator is not positive."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1), np.nan)
