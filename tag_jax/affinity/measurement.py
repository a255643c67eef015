"""Inter-task affinities on one batch.

Fifty et al. 2021, Section 4.1. For a batch, shared parameters theta and the heads theta_j,

    Z[i, j] = 1 - L_j(theta - eta * g_i, theta_j) / L_j(theta, theta_j)        (Equation 1)

where g_i is the gradient of task i's loss with respect to theta: the share of task j's loss that a
step on task i alone takes away. `affinity[i, j]` is the effect of source task i on target task j.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from numpy.typing import ArrayLike

from tag_jax import gradients
from tag_jax.problem import Batch, MultiTaskProblem

KINDS = ('exact', 'first_order', 'cosine')


def inter_task_affinity(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch: Batch,
    learning_rate: float,
    kind: str = 'exact',
    key: jax.Array | None = None,
    lookahead: Callable | None = None,
    eval_batch: Batch | None = None,
    **options: Any,
) -> jax.Array:
    """The inter-task affinities of one kind on one batch, `[T, T]`.

    Args:
      problem, params, model_state, batch, learning_rate: see `inter_task_affinities`.
      kind: one of `KINDS`.
      key, lookahead, eval_batch: see `inter_task_affinities`.
      **options: see `inter_task_affinities`.

    Returns:
      `[T, T]`, source task first; `[S, T]` with `sources`.

    Raises:
      ValueError: see `inter_task_affinities`.
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
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch: Batch,
    learning_rate: float,
    kinds: Sequence[str] = ('exact',),
    key: jax.Array | None = None,
    lookahead: Callable | None = None,
    eval_batch: Batch | None = None,
    task_mask: ArrayLike | None = None,
    sources: ArrayLike | None = None,
    divide_by_learning_rate: bool = False,
    matrices_only: bool = False,
    batching: str | int | None = None,
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
      batch: the `Batch` on which each task takes its step. A part of the training batch will do.
      learning_rate: eta, a number, traced or not; of a schedule, that of this step. The step is
        plain SGD, as in the paper.
      kinds: which kinds, of `KINDS`; one or several.
      key: for dropout and the like, a scalar.
      lookahead: `gradient -> update` of the shared parameters (the update is added), in place of
        -eta * gradient: the step that an optimizer would take, see `optimizer_step`. The cosine is
        not affected.
      eval_batch: the `Batch` on which losses are compared; None for `batch` itself, as in the
        paper. On other data the diagonal, a task's effect on itself, can be compared with the rest.
      task_mask: bool `[T]`; tasks outside it have no sample.
      sources: `[S, T]`, what takes a step together: each row weighs the tasks' gradients in the
        step of one source. None for each task by itself, the identity. Boolean rows are groups of
        tasks (affinities of a higher order), a diagonal matrix gives loss weights.
      divide_by_learning_rate: whether exact and first-order affinities are divided by eta, as in
        the authors' code; eta is then the same for all steps or the scale of the affinities is not.
      matrices_only: whether cosines leave out parameters of fewer than two axes (biases, and the
        scales of normalisation), as in the authors' code.
      batching: how passes are batched over sources, see `gradients.map_stacked`; None for the
        faster one within a bound on memory. The result is the same. Where 'exact' is the only
        kind, no more gradients are held at a time than are batched.

    Returns:
      `{kind: [T, T]}`, source task first; `[S, T]` with `sources`. NaN where there is no sample: a
      task of the source, or the target task, has no labels, the target's loss is not positive, or
        nothing moves (a learning rate of 0, as where a warm-up begins).

    Raises:
      ValueError: if the learning rate is a function or negative, a kind is unknown, the encoder has
        no parameters (or none with two axes, with matrices_only), or the sources do not fit.
    """
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f'kind must be one of {", ".join(KINDS)}, not {unknown[0]!r}')
    if not jax.tree.leaves(params['shared']):
        raise ValueError('the encoder has no parameters, so no step on a task affects another one')
    _check_learning_rate(learning_rate)
    sources = None if sources is None else _checked_sources(sources, problem.task_names)
    moves = _moves
    if lookahead is None:
        lookahead = lambda gradient: jax.tree.map(lambda g: -learning_rate * g, gradient)
        moves = lambda gradient, step: jnp.asarray(learning_rate > 0)

    def gradients_on(some):
        return gradients.task_gradients(
            problem, params, model_state, some, key, task_mask=task_mask
        )[0]

    source = gradients_on(batch)
    target = source if eval_batch is None else gradients_on(eval_batch)
    eval_batch = batch if eval_batch is None else eval_batch
    cotangents, stepping = _steps_of(source, sources)
    both_active = stepping[:, None] & target.active[None, :]
    with_positive_loss = both_active & (target.losses > 0)[None, :]
    losses = jnp.where(target.losses > 0, target.losses, 1)[None, :]
    scale = 1 / jnp.asarray(learning_rate) if divide_by_learning_rate else 1

    pull = lambda cotangent: source.pullback(cotangent)[0]
    stack, gradient_of, starts = None, pull, cotangents
    if 'first_order' in kinds or 'cosine' in kinds:
        stack = gradients.map_stacked(pull, cotangents, batching)
        gradient_of, starts = lambda gradient: gradient, stack
        same = sources is None and target is source
        target_stack = stack if same else target.shared(batching)

    def losses_ahead(start):
        gradient = gradient_of(start)
        step = lookahead(gradient)
        shared = optax.apply_updates(params['shared'], step)
        ahead = {'shared': shared, 'heads': params['heads']}
        found = gradients.task_losses(problem, ahead, model_state, eval_batch, key)[0]
        return jnp.where(moves(gradient, step), found, jnp.nan)

    result = {}
    if 'exact' in kinds:
        ahead = gradients.map_stacked(losses_ahead, starts, batching)
        exact = scale * (losses - ahead) / losses
        result['exact'] = jnp.where(with_positive_loss, exact, jnp.nan)
    if 'first_order' in kinds:
        updates = gradients.map_stacked(lookahead, stack, batching)
        first_order = -scale * gradients.products(updates, target_stack) / losses
        moved = jax.vmap(moves)(stack, updates)
        result['first_order'] = jnp.where(with_positive_loss & moved[:, None], first_order, jnp.nan)
    if 'cosine' in kinds:
        if matrices_only:
            stack, target_stack = _matrices(stack), _matrices(target_stack)
        cosines = gradients.cosines(stack, target_stack)
        result['cosine'] = jnp.where(both_active, cosines, jnp.nan)
    return result


def optimizer_step(
    optimizer: optax.GradientTransformation,
    opt_state: Any,
    params: Mapping[str, Any],
    **extra_args: Any,
) -> Callable[[Any], Any]:
    """The step that an optimizer would take from where it stands, as a `lookahead`.

    Momentum, the moments of Adam and weight decay take part, in the step of every source alike: the
    authors' code for CelebA looks ahead with its momentum.

    Args:
      optimizer: the optax transform behind the weighting, such as `optax.adam(1e-3)`.
      opt_state: its state, over all parameters.
      params: the parameters, `{'shared': ..., 'heads': {task: ...}}`.
      **extra_args: what the optimizer's update takes beside these, such as `value=`.

    Returns:
      `gradient -> update` of the shared parameters. Heads have gradient zero in it, which matters
      to what looks at all parameters together, such as a global norm.
    """
    heads = jax.tree.map(jnp.zeros_like, params['heads'])
    optimizer = optax.with_extra_args_support(optimizer)

    def lookahead(gradient):
        whole = {'shared': gradient, 'heads': heads}
        updates, _ = optimizer.update(whole, opt_state, params, **extra_args)
        return updates['shared']

    return lookahead


def _check_learning_rate(learning_rate):
    """Raises ValueError at a learning rate that is a function, or a number below 0."""
    if callable(learning_rate):
        raise ValueError(
            'learning_rate must be a number, not a schedule: give schedule(step), the rate of the '
            'step at which affinities are measured'
        )
    if not isinstance(learning_rate, jax.core.Tracer) and not learning_rate >= 0:
        raise ValueError(f'learning_rate must be at least 0, not {learning_rate}')


def _moves(gradient, step):
    """Whether a step moves anything, unless its gradient is zero and it need not."""
    some = lambda tree: functools.reduce(
        jnp.logical_or, [jnp.any(leaf != 0) for leaf in jax.tree.leaves(tree)]
    )
    return some(step) | ~some(gradient)


def _steps_of(found, sources):
    """The gradients with respect to the representation of all sources, and whether each can step.

    Args:
      found: the `TaskGradients` of a batch.
      sources: `[S, T]`, see `inter_task_affinities`; None for each task by itself, and S = T.

    Returns:
      A tree like the representation with a leading axis S, and bool `[S]`.
    """
    if sources is None:
        return found.representation, found.active
    combine = lambda row: gradients.weighted_sum(row, found.representation)
    part = sources != 0
    able = jnp.any(part, 1) & jnp.all(found.active[None, :] | ~part, 1)
    return jax.vmap(combine)(sources), able


def _checked_sources(sources, task_names):
    sources = jnp.asarray(sources)
    size = len(task_names)
    if sources.ndim != 2 or sources.shape[1] != size or not sources.shape[0]:
        raise ValueError(
            f'sources must be [S, {size}], a row for each source and a column for each task: '
            f'their shape is {list(sources.shape)}'
        )
    return sources.astype(jnp.promote_types(sources.dtype, jnp.float32))


def _matrices(stack):
    """The gradients of parameters with two axes or more, of a stack `[T, *param]`."""
    found = [leaf for leaf in jax.tree.leaves(stack) if leaf.ndim > 2]
    if not found:
        raise ValueError(
            'the encoder has no parameters with two axes or more: leave out matrices_only'
        )
    return found
