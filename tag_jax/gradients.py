"""Task losses and task gradients: one forward pass, one vjp of the encoder.

The gradient of a task with respect to the representation and to its own head costs a pass through
the head; only what is asked of the encoder costs encoder passes: one for any weighted combination
of tasks, T for the gradients of all tasks.
"""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType
from numpy.typing import ArrayLike

from tag_jax.problem import Batch, MultiTaskProblem, task_key, with_trailing_axes

# What passes that are batched over tasks may hold at a time, unless the caller says how to batch.
MAX_BATCHED_BYTES = 2**31


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=['losses', 'active', 'representation', 'heads', 'pullback', 'intact'],
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
      intact: bool `[1, 1]`. What arithmetic alters the gradients makes a number of it.
    """

    losses: jax.Array
    active: jax.Array
    representation: Any
    heads: Mapping[str, Any]
    pullback: Callable
    task_names: tuple[str, ...]
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
        heads = dict(self.heads)
        factors = scale_heads if isinstance(scale_heads, jax.Array) else weights
        if factors is scale_heads or scale_heads:
            for weight, task in zip(factors, self.task_names, strict=True):
                heads[task] = jax.tree.map(lambda g, w=weight: _scaled(w, g), heads[task])
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
            heads={
                task: jax.tree.map(lambda g, on=on: where(on, g), self.heads[task])
                for on, task in zip(active, self.task_names, strict=True)
            },
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
        task_mask = jnp.asarray(task_mask)
        if task_mask.shape != (len(problem.task_names),):
            raise ValueError(
                f'task_mask needs one entry for each of the {len(problem.task_names)} tasks: its '
                f'shape is {list(task_mask.shape)}'
            )
    (representation, shared_state), pullback = _encode_with_vjp(
        problem, params, model_state, batch, key, train
    )
    losses, active, by_representation, by_head, head_states = [], [], [], {}, {}
    for index, task in enumerate(problem.task_names):

        def loss_of(head, representation, index=index, task=task):
            loss, is_active, state = _task_loss(
                problem, task, head, model_state, representation, batch, key, train
            )
            if task_mask is not None:
                is_active &= task_mask[index]
            return jnp.where(is_active, loss, 0), (is_active, state)

        (loss, (is_active, head_states[task])), gradient = jax.value_and_grad(
            loss_of, argnums=(0, 1), has_aux=True
        )(params['heads'][task], representation)
        by_head[task], by_z = jax.tree.map(lambda g, on=is_active: jnp.where(on, g, 0), gradient)
        losses.append(loss)
        active.append(is_active)
        by_representation.append(by_z)
    gradients = TaskGradients(
        jnp.stack(losses),
        jnp.stack(active),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *by_representation),
        by_head,
        pullback,
        problem.task_names,
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
    results = [
        _task_loss(
            problem, task, params['heads'][task], model_state, representation, batch, key, train
        )
        for task in problem.task_names
    ]
    return jnp.stack([loss for loss, _, _ in results]), jnp.stack([on for _, on, _ in results])


def mean_over_labels(
    losses: jax.Array, mask: jax.Array, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The mean of losses where there is a label, 0 if there is none, and the number of labels.

    Args:
      losses: `[B, ...]`, one for each example, pixel or token.
      mask: bool, `[B, ...]`, of as many axes or fewer.
      weights: `[B, ...]`, of as many axes or fewer, by which losses are multiplied; None for 1.
    """
    losses = weighed(losses, weights)
    mask = jnp.broadcast_to(with_trailing_axes(mask, losses.ndim), losses.shape)
    labels = jnp.sum(mask)
    return jnp.sum(jnp.where(mask, losses, 0)) / jnp.maximum(labels, 1), labels


def weighed(losses: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Losses in float32 or better, multiplied by weights, if there are any.

    Args:
      losses: `[B, ...]`.
      weights: `[B, ...]`, of as many axes or fewer; None for 1.

    Returns:
      `[B, ...]`, as `losses`.
    """
    losses = losses.astype(_at_least_float32(losses))
    if weights is None:
        return losses
    return losses * with_trailing_axes(weights, losses.ndim).astype(losses.dtype)


def products(left: Any, right: Any) -> jax.Array:
    """Inner products between two stacks of gradients, accumulated in float32 or better.

    Args:
      left, right: pytrees of arrays `[T, ...]` and `[S, ...]`, of one structure.

    Returns:
      `[T, S]`; the Gram matrix, where both are the same.
    """

    def leaf_product(a, b):
        dtype = _at_least_float32(a)
        a, b = (jnp.reshape(g, (g.shape[0], -1)) for g in (a, b))
        return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST, preferred_element_type=dtype)

    return sum(jax.tree.leaves(jax.tree.map(leaf_product, left, right)))


def weighted_sum(weights: jax.Array, stack: Any) -> Any:
    """The sum over tasks of weight x gradient, accumulated in float32 or better.

    Args:
      weights: `[T]`.
      stack: pytree of arrays `[T, ...]`.

    Returns:
      A pytree of arrays `[...]`, of the same dtypes.
    """

    # Written as a sum and not as a matrix product, so that XLA fuses it with what made the
    # gradients and never lays out the stack.
    def sum_of(gradients):
        dtype = _at_least_float32(gradients)
        terms = [w.astype(dtype) * g.astype(dtype) for w, g in zip(weights, gradients, strict=True)]
        return functools.reduce(jnp.add, terms).astype(gradients.dtype)

    return jax.tree.map(sum_of, stack)


def cosines(left: Any, right: Any) -> jax.Array:
    """Cosines between two stacks of gradients, whatever their scales.

    Args:
      left, right: pytrees of arrays `[T, ...]` and `[S, ...]`, of one structure.

    Returns:
      `[T, S]`; NaN beside a gradient that is zero.
    """

    def units(stack):
        stack = jax.tree.map(lambda g: g.astype(_at_least_float32(g)), stack)
        over = lambda reduce, g: reduce(g, axis=tuple(range(1, g.ndim)))
        scaled = lambda scale: jax.tree.map(
            lambda g: g / with_trailing_axes(jnp.where(scale > 0, scale, jnp.nan), g.ndim), stack
        )
        largest = [over(jnp.max, jnp.abs(g)) for g in jax.tree.leaves(stack)]
        stack = scaled(functools.reduce(jnp.maximum, largest))
        squares = [over(jnp.sum, jnp.square(g)) for g in jax.tree.leaves(stack)]
        return scaled(jnp.sqrt(sum(squares)))

    return products(units(left), units(right))


def map_stacked(function: Callable, stacked: Any, batching: str | int | None = None) -> Any:
    """Applies a function along the leading axis of stacked arguments.

    Args:
      function: pytree -> pytree.
      stacked: pytree of arrays `[T, ...]`, for T tasks or networks.
      batching: 'vmap', all of them in one batched program; 'unroll', one after another in
        straight-line code, whose compile time grows with T; or an integer n, n at a time in a
        batched program within a loop, which bounds memory. None for the faster one
        (`faster_batching`), with as many at a time as hold MAX_BATCHED_BYTES by `held_bytes`.

    Returns:
      The results, stacked: pytree of arrays `[T, ...]`.

    Raises:
      ValueError: if `batching` is none of these.
    """
    if batching is None:
        batching = _batching_within_memory(function, stacked)
    if batching == 'vmap':
        return jax.vmap(function)(stacked)
    if batching == 'unroll':
        size = jax.tree.leaves(stacked)[0].shape[0]
        results = [function(jax.tree.map(lambda x, n=n: x[n], stacked)) for n in range(size)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
    if isinstance(batching, numbers.Integral) and batching > 0 and not isinstance(batching, bool):
        return jax.lax.map(function, stacked, batch_size=int(batching))
    raise ValueError(f"batching must be 'vmap', 'unroll' or a positive integer, not {batching!r}")


def _batching_within_memory(function, stacked):
    size = jax.tree.leaves(stacked)[0].shape[0]
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), stacked)
    batching = faster_batching(function, one)
    if batching == 'vmap':
        at_once = max(1, MAX_BATCHED_BYTES // max(1, held_bytes(function, one)))
        if at_once < size:
            return -(-size // -(-size // at_once))  # Parts of one size, as far as that goes.
    return batching


def preferred_batching(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    inputs: Any,
) -> str:
    """The faster way to batch passes of a problem's encoder: 'unroll' or 'vmap'.

    Args:
      problem: a `MultiTaskProblem`.
      params, model_state, inputs: arrays or shapes; only shapes matter.
    """
    return faster_batching(
        lambda params, state, x, key: problem.represent(params, state, x, True, key),
        params,
        model_state,
        inputs,
        jax.eval_shape(lambda: jax.random.key(0)),
    )


def faster_batching(function: Callable, *arguments: Any) -> str:
    """The faster way to batch calls of a function: 'unroll' or 'vmap'.

    XLA's convolutions on CPU are slow when they are grouped (vmap over kernels) or stand inside a
    loop, so what contains convolutions is unrolled there. Everything else is vmapped.

    Args:
      function: a traceable function.
      *arguments: its arguments, as arrays or shapes; only shapes matter.
    """
    if jax.default_backend() != 'cpu':
        return 'vmap'
    traced = jax.make_jaxpr(function)(*arguments)
    return 'unroll' if _contains_convolution(traced.jaxpr) else 'vmap'


def held_bytes(function: Callable, *arguments: Any) -> int:
    """An estimate of the memory that a function holds at most while it runs, without its arguments.

    Args:
      function: a traceable function.
      *arguments: its arguments, as arrays or shapes; only shapes matter.

    Returns:
      Bytes: the largest sum over values that are made and still needed, none of them fused away.
    """
    return _held_bytes(jax.make_jaxpr(function)(*arguments).jaxpr)


def _held_bytes(jaxpr):
    last_use = {}
    for index, equation in enumerate(jaxpr.eqns):
        last_use |= {id(value): index for value in (*equation.invars, *equation.outvars)}
    last_use |= {id(value): len(jaxpr.eqns) for value in jaxpr.outvars}
    live, most = {}, 0
    for index, equation in enumerate(jaxpr.eqns):
        inside = max(map(_held_bytes, jaxprs_in_params(equation.params)), default=0)
        held = sum(live.values())
        live |= {id(value): _num_bytes(value.aval) for value in equation.outvars}
        most = max(most, held + inside, sum(live.values()))
        live = {value: size for value, size in live.items() if last_use[value] > index}
    return most


def _num_bytes(shape):
    return shape.size * getattr(shape.dtype, 'itemsize', 0)


def _contains_convolution(jaxpr):
    return any(
        equation.primitive.name == 'conv_general_dilated'
        or any(map(_contains_convolution, jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


def _check_batch(batch):
    """Raises ValueError at a mask of nothing, and at a mesh on which JAX would refuse our sums."""
    for task in batch.mask or {}:
        if task not in batch.targets:
            raise ValueError(f'the batch has a mask for {task!r}, and no targets of that name')
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


def _task_loss(problem, task, head, model_state, representation, batch, key, train):
    """(mean loss over the labelled examples, whether there are any, new head state)."""
    output, state = problem.decode[task](
        head, model_state['heads'][task], representation, train, task_key(key, task)
    )
    target, mask = batch.labels(task)
    # Nothing that a loss does at the stand-in for a masked target comes back to the output.
    output = jax.tree.map(
        lambda z: jnp.where(with_trailing_axes(mask, z.ndim), z, jax.lax.stop_gradient(z)), output
    )
    losses = problem.tasks[task].loss(output, target)
    if not losses.ndim or losses.shape != target.shape[: losses.ndim]:
        raise ValueError(
            f'the loss of {task!r} must be one number for each example (or pixel), '
            f'{list(target.shape)}: its shape is {list(losses.shape)}'
        )
    mean, labels = mean_over_labels(losses, mask, batch.weights(task))
    return mean, labels > 0, state


def _encoder_key(key):
    return task_key(key, 'shared')


def _scaled(weight, gradient):
    """Weight x gradient, multiplied in float32 or better, in the gradient's own dtype."""
    dtype = _at_least_float32(gradient)
    return (weight.astype(dtype) * gradient.astype(dtype)).astype(gradient.dtype)


def _at_least_float32(array):
    return jnp.promote_types(array.dtype, jnp.float32)
