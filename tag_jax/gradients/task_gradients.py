"""Task losses and task gradients: one forward pass, one vjp of the encoder.

The gradient of a task with respect to the representation and to its own head costs a pass through
the head; only what is asked of the encoder costs encoder passes: one for any weighted combination
of tasks, T for the gradients of all tasks.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from numpy.typing import ArrayLike

from tag_jax.gradients.batching import map_stacked
from tag_jax.gradients.stacks import (
    mean_over_labels,
    products,
    scaled,
    sum_of_entries,
    weighted_sum,
)
from tag_jax.problem import (
    Batch,
    MultiTaskProblem,
    check_batch,
    heads_like,
    is_stacked,
    labels_of,
    map_and_stack,
    map_heads,
    task_key,
    weights_of,
    with_trailing_axes,
)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        *('losses', 'active', 'representation', 'heads', 'pullback', 'head_sums', 'intact')
    ],
    meta_fields=['task_names'],
)
@dataclasses.dataclass(frozen=True, eq=False)
class TaskGradients:
    """The gradients of T tasks at one point, on one batch. Make and use it inside one jit.

    Attributes:
      losses: `[T]`; 0 where a task is inactive.
      active: bool `[T]`; false where a task has no label in the batch or is masked out. Inactive
        tasks have loss 0 and gradient 0, and have no say in task weights.
      representation: gradient of each loss with respect to the representation, `[T, B, ...]`.
      heads: `{task: gradient}` of each loss with respect to its own head, unweighted.
      pullback: vjp of the encoder, representation cotangent -> (shared gradient,).
      task_names: T names, static.
      head_sums: `[T]`, the sum of all floating point numbers in the gradient of each head, 0 where
        inactive: it is not finite if any of them is not. None if it was not computed.
      intact: bool `[1, 1]`, a seal. A transform that computes with all arrays, such as a clip in
        front of a weighting, turns it into a number, and the weighting then refuses the gradients.
    """

    losses: jax.Array
    active: jax.Array
    representation: Any
    heads: Mapping[str, Any]
    pullback: Callable
    task_names: tuple[str, ...]
    head_sums: jax.Array | None = None
    intact: jax.Array = dataclasses.field(default_factory=lambda: jnp.ones((1, 1), bool))

    def __contains__(self, name: Any) -> bool:
        """False: there are no entries by name, which Flax's `TrainState` asks of gradients.

        Args:
          name: anything.
        """
        return False

    def combine(
        self, weights: ArrayLike, scale_heads: bool | jax.Array = False, shared: Any = None
    ) -> dict[str, Any]:
        """The gradient of a weighted sum of losses, for one backward pass of the encoder.

        Args:
          weights: `[T]`, the weight of each task's gradient in the shared parameters.
          scale_heads: whether to weight the heads' gradients too. Sener & Koltun's Algorithm 2
            leaves them as they are; their code scales them. An array `[T]` weighs them by its
            numbers.
          shared: what `shared()` returned, if it was called: then no backward pass is needed.

        Returns:
          A gradient shaped like the params, `{'shared': ..., 'heads': {task: ...}}`.
        """
        weights = jnp.asarray(weights)
        if shared is None:
            (combined,) = self.pullback(weighted_sum(weights, self.representation))
        else:
            combined = weighted_sum(weights, shared)
        factors = scale_heads if isinstance(scale_heads, jax.Array) else weights
        heads = self.heads if is_stacked(self.heads) else dict(self.heads)
        if factors is scale_heads or scale_heads:
            heads = map_heads(scaled, factors, self.task_names, heads)
        return {'shared': combined, 'heads': heads}

    def shared(self, batching: str | int | None = None) -> Any:
        """The gradient of each loss with respect to the shared parameters, `[T, *param]`.

        Args:
          batching: see `map_stacked`.

        Raises:
          ValueError: see `map_stacked`.
        """
        return map_stacked(lambda z: self.pullback(z)[0], self.representation, batching)

    def descent(self, direction: Any) -> jax.Array:
        """The inner product of each task's shared gradient with a direction, `[T]`.

        If the shared parameters move by -eta times the direction, the loss of task t falls by
        eta times this, to first order. It costs one forward-mode pass through the encoder, however
        many tasks there are: the direction is pushed forward to the representation, where every
        task's gradient is at hand.

        Args:
          direction: shaped like the shared parameters.

        An encoder that alters gradients on their way back (by a `custom_vjp` that clips them, say)
        has no push forward: JAX says that a transpose rule is missing.
        """
        pull = lambda cotangent: self.pullback(cotangent)[0]
        cotangent = jax.tree.map(
            lambda g: jax.ShapeDtypeStruct(g.shape[1:], g.dtype), self.representation
        )
        (moved,) = jax.linear_transpose(pull, cotangent)(direction)
        return products(self.representation, jax.tree.map(lambda z: z[None], moved))[:, 0]

    def mask(self, task_mask: jax.Array) -> 'TaskGradients':
        """The same gradients with some tasks made inactive.

        Args:
          task_mask: bool `[T]`, false for those.
        """
        active = self.active & task_mask
        where = lambda on, g: jnp.where(with_trailing_axes(on, g.ndim), g, 0)
        return dataclasses.replace(
            self,
            losses=where(active, self.losses),
            active=active,
            representation=jax.tree.map(lambda g: where(active, g), self.representation),
            head_sums=None if self.head_sums is None else where(active, self.head_sums),
            heads=map_heads(where, active, self.task_names, self.heads),
        )


def task_gradients(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch: Batch,
    key: jax.Array | None = None,
    train: bool = True,
    task_mask: ArrayLike | None = None,
) -> tuple[TaskGradients, Any]:
    """Task gradients on a batch.

    Args:
      problem: a `MultiTaskProblem`.
      params: its parameters, `{'shared': ..., 'heads': {task: ...}}`.
      model_state: its state, shaped likewise.
      batch: a `Batch` of B examples. Masked targets are replaced before a loss sees them.
      key: for dropout and the like, a scalar.
      train: whether the modules run in training mode.
      task_mask: bool `[T]`, the tasks that count; None for all.

    Returns:
      A `TaskGradients`, and the model state after the pass.

    Raises:
      ValueError: if a task has no targets, a mask no task, or a loss is not one number for each
        example or pixel; if task_mask has not an entry for each task; or if the batch lies over a
        mesh whose axes are of the type Explicit.
    """
    _check_batch(batch)
    if task_mask is not None:
        if isinstance(task_mask, Mapping):
            raise ValueError(
                'task_mask must be an array of T booleans in the order of task_names, not a dict'
            )
        task_mask = jnp.asarray(task_mask)
        if task_mask.shape != (len(problem.task_names),):
            raise ValueError(
                f'task_mask needs one entry for each of the {len(problem.task_names)} tasks: its '
                f'shape is {list(task_mask.shape)}'
            )
    (representation, shared_state), pullback = _encode_with_vjp(
        problem, params, model_state, batch, key, train
    )

    def of_task(task, row):
        def loss_of(head, representation):
            loss, active, state = _task_loss(
                problem, task, row._replace(head=head), representation, train
            )
            if row.wanted is not None:
                active &= row.wanted
            return jnp.where(active, loss, 0), (active, state)

        (loss, (active, state)), gradient = jax.value_and_grad(
            loss_of, argnums=(0, 1), has_aux=True
        )(row.head, representation)
        by_head, by_z = jax.tree.map(lambda g: jnp.where(active, g, 0), gradient)
        return (loss, active, by_z, sum_of_entries(by_head)), (by_head, state)

    (losses, active, by_representation, head_sums), found = map_and_stack(
        of_task, _columns(problem, params, model_state, batch, key, task_mask), problem.programs
    )
    by_head, head_states = heads_like(params['heads'], found)
    gradients = TaskGradients(
        losses,
        active,
        by_representation,
        by_head,
        pullback,
        problem.task_names,
        head_sums,
    )
    return gradients, {**model_state, 'shared': shared_state, 'heads': head_states}


def task_losses(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch: Batch,
    key: jax.Array | None = None,
    train: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """The loss of every task on a batch, without gradients.

    Args:
      problem, params, model_state, batch, key, train: see `task_gradients`.

    Returns:
      Losses `[T]`, 0 where a task has no label in the batch, and where it has any, bool `[T]`.

    Raises:
      ValueError: see `task_gradients`.
    """
    _check_batch(batch)
    representation, _ = problem.represent(
        params, model_state, batch.inputs, train, _encoder_key(key)
    )
    losses_and_active, _ = map_and_stack(
        lambda task, row: (_task_loss(problem, task, row, representation, train)[:2], ()),
        _columns(problem, params, model_state, batch, key),
        problem.programs,
    )
    return losses_and_active


class _Columns(NamedTuple):
    """The arguments of the losses of all tasks, `{task: own}` each; in a row, those of one task.

    Attributes:
      head, state: of its head.
      target, mask: its labels, see `Batch.columns`.
      key: of its head, a scalar; None where nothing is random.
      wanted: whether it counts, bool; None where all tasks do.
    """

    head: Any
    state: Any
    target: Any
    mask: Any
    key: Any
    wanted: Any


def _columns(problem, params, model_state, batch, key, task_mask=None):
    names = problem.task_names
    return _Columns(
        params['heads'],
        model_state['heads'],
        *batch.columns(names),
        None if key is None else {task: task_key(key, task) for task in names},
        None if task_mask is None else {task: task_mask[n] for n, task in enumerate(names)},
    )


def _check_batch(batch):
    """Raises ValueError unless a batch is one, and lies over a mesh on which JAX can sum."""
    check_batch(batch)
    for leaf in jax.tree.leaves(batch):
        if AxisType.Explicit in jax.typeof(leaf).sharding.mesh.axis_types:
            raise ValueError(
                'the batch lies over a mesh with axes of the type Explicit: make it with '
                'jax.make_mesh(sizes, names, axis_types=(jax.sharding.AxisType.Auto,) * len(names))'
            )


def _encode_with_vjp(problem, params, model_state, batch, key, train):
    """((representation, new shared state), vjp with respect to the shared parameters)."""

    def encode(shared):
        whole = {**params, 'shared': shared}
        return problem.represent(whole, model_state, batch.inputs, train, _encoder_key(key))

    representation, pullback, shared_state = jax.vjp(encode, params['shared'], has_aux=True)
    return (representation, shared_state), pullback


def _task_loss(problem, task, row, representation, train):
    """(mean loss over the labelled examples, whether there are any, new head state)."""
    target, mask = labels_of(row.target, row.mask)
    output, state = problem.decode[task](row.head, row.state, representation, train, row.key)
    # Nothing that a loss does at the stand-in for a masked target comes back to the output.
    output = jax.tree.map(
        lambda z: jnp.where(with_trailing_axes(mask, z.ndim), z, jax.lax.stop_gradient(z)), output
    )
    try:
        losses = problem.tasks[task].loss(output, target)
    except (TypeError, ValueError) as error:
        raise ValueError(f'the loss of {task!r} cannot take its targets: {error}') from error
    if not losses.ndim or losses.shape != target.shape[: losses.ndim]:
        raise ValueError(
            f'the loss of {task!r} must be one number for each example (or pixel), '
            f'{list(target.shape)}: its shape is {list(losses.shape)}'
        )
    mean, labels = mean_over_labels(losses, mask, weights_of(row.mask))
    return mean, labels > 0, state


def _encoder_key(key):
    return task_key(key, 'shared')
