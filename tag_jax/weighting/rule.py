"""The one mechanism behind every method: a rule turns what is known of the tasks into weights.

A rule sees the losses, the Gram matrix of the task gradients, which tasks are active, and a state
of its own. It returns the weight of each task. The transform made from it combines the tasks'
gradients with these weights and keeps diagnostics in its optax state.

There are two spaces to take the Gram matrix in:

- 'representation': gradients with respect to the representation. One backward pass of the encoder
  in all, whatever the number of tasks (Sener & Koltun 2018, Section 3.3).
- 'shared': gradients with respect to the shared parameters. A backward pass for each task.
"""

import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from tag_jax import gradients
from tag_jax.gradients import TaskGradients
from tag_jax.weighting import active_set, inputs, min_norm

SPACES = ('representation', 'shared')


class Tasks(NamedTuple):
    """The T tasks at one step, as a rule sees them.

    Attributes:
      names: T names, or None for stacked gradients.
      losses: `[T]`, 0 where inactive; None for stacked gradients without `losses=`.
      active: bool `[T]`. Whatever a rule gives an inactive task is replaced by 0.
      gram: `[T, T]`, zero where inactive; None if the rule works in no space.
      extra: the extra arguments that `update` was given.
    """

    names: tuple[str, ...] | None
    losses: jax.Array | None
    active: jax.Array
    gram: jax.Array | None
    extra: Mapping[str, Any]


class Rule(NamedTuple):
    """How weights follow.

    Attributes:
      init: number of tasks T -> state, a pytree.
      weigh: (`Tasks`, state, step) -> (weights `[T]`, state). The step counts from 0.
      needs_losses: whether it reads the losses.
    """

    init: Callable[[int], Any]
    weigh: Callable[[Tasks, Any, jax.Array], tuple[jax.Array, Any]]
    needs_losses: bool = False


class WeightingState(NamedTuple):
    """The state of a weighting: diagnostics of the last step, and the rule's own state.

    Numbers are NaN before the first step. Tasks are in the order of `problem.task_names`.

    Attributes:
      step: updates so far, a scalar.
      weights: `[T]`; NaN where the Gram matrix is not finite.
      active: bool `[T]`.
      gram: `[T, T]`, the Gram matrix in the space of the method; None if it has none.
      cosines: `[T, T]`, its cosines, 0 beside a zero gradient; None without a Gram matrix.
      gap: a scalar, the duality gap of the weights scaled to sum to one (`min_norm.duality_gap`):
        0 where they give the min-norm point, which only `mgda` and `mgda_ub` look for; None
        without a Gram matrix.
      descent: `[T]`, inner product of each task's gradient with the combined one in the space of
        the method: negative where the loss rises to first order; None without a Gram matrix.
      shared_descent: `[T]`, the same in the space of the shared parameters, as it was last
        measured (`report_every`); None if it is not asked for.
      rule: the rule's own state.
      average: moving averages of the task gradients, a tuple of arrays `[T, *param]` in the order
        of the leaves of the shared parameters; None if the method keeps none.
    """

    step: jax.Array
    weights: jax.Array
    active: jax.Array
    gram: jax.Array | None
    cosines: jax.Array | None
    gap: jax.Array | None
    descent: jax.Array | None
    shared_descent: jax.Array | None
    rule: Any
    average: tuple[jax.Array, ...] | None = None


class TaskWeighting(optax.GradientTransformationExtraArgs):
    """The optax transform of a rule. All it does to gradients of heads is to weigh them."""

    def _replace(self, **changes: Callable) -> optax.GradientTransformationExtraArgs:
        """Another transform, which may do anything."""
        return optax.GradientTransformationExtraArgs(*self)._replace(**changes)


def stateless(weigh: Callable[[Tasks], jax.Array]) -> Rule:
    """A `Rule` without a state, from `Tasks -> weights`."""
    return Rule(lambda size: (), lambda tasks, state, step: (weigh(tasks), state))


def weighting(
    name: str,
    rule: Rule,
    space: str | None = None,
    scale_heads: bool | Callable[[Tasks], jax.Array] = True,
    num_tasks: int | None = None,
    batching: str | int | None = None,
    correction: Callable | None = None,
    average: Callable | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optax transform of a rule.

    It stands first in a chain and takes `TaskGradients` as its updates, or as the extra argument
    `task_gradients=` where something in between unpacks the updates (`nnx.Optimizer`); the updates
    then count for nothing, nor does what was done to them in front of or around it. It also
    takes arrays stacked over tasks, `[T, *param]` for every parameter, unless it works in
    'representation' space; then every parameter counts as shared, `num_tasks` is required, and the
    extra arguments `losses=` `[T]` and `active=` bool `[T]` say what TaskGradients would.

    Args:
      name: of the method, for error messages.
      rule: a `Rule`.
      space: where its Gram matrix is taken, 'representation' or 'shared'; None if it needs none.
      scale_heads: whether the heads' gradients are weighted too, as they are where weights are
        those of a sum of losses; or `Tasks -> [T]`, the weights of the heads' gradients where they
        are others.
      num_tasks: T; None to count the heads of the params.
      batching: of the T backward passes of 'shared', see `gradients.map_stacked`; None for the
        faster one.
      correction: (`TaskGradients`, weights, combined, step, shared_descent) -> (weights, combined,
        shared_descent), called last; what `mgda_ub` does in the space of the shared parameters.
      average: (gradients of one parameter `[T, *param]`, their moving average, `Tasks` without a
        Gram matrix, step) -> the next moving average, which stands in for the gradients from there
        on: the Gram matrix is that of the averages, and they are what is combined. It begins at 0,
        takes the memory of T times the shared parameters, and needs the space 'shared'.

    Returns:
      A `TaskWeighting` (with a correction, another optax transform) with a `WeightingState`, whose
      updates are shaped like the params. `update`
      raises TypeError for anything that is not TaskGradients just as they were made: a transform
      in front of it would alter their vjp.

    Raises:
      ValueError: if the space or num_tasks is none. From `init`, if the tasks cannot be counted;
        from `update`, if losses are needed and missing, or are not one for each task, or if the
        encoder has no parameters where the method works on them.
      TypeError: from `update`, if it is given neither TaskGradients nor gradients stacked over the
        tasks.
    """
    if space is not None and space not in SPACES:
        raise ValueError(f"space must be 'representation' or 'shared', not {space!r}")
    if average is not None and space != 'shared':
        raise ValueError(
            "a moving average of gradients needs space='shared': a gradient of the representation "
            'is one of the rows of its batch'
        )
    if num_tasks is not None:
        static_integer('num_tasks', num_tasks, 1)

    def init_fn(params):
        size = inputs.count_tasks(name, params, num_tasks, space)
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        # (Each a buffer of its own, so that the state can be donated.)
        unknown = lambda *shape: jnp.full(shape, jnp.nan, dtype)
        return WeightingState(
            step=jnp.zeros((), jnp.int32),
            weights=unknown(size),
            active=jnp.zeros(size, bool),
            gram=None if space is None else unknown(size, size),
            cosines=None if space is None else unknown(size, size),
            gap=None if space is None else unknown(),
            descent=None if space is None else unknown(size),
            shared_descent=None if correction is None else unknown(size),
            rule=rule.init(size),
            average=None if average is None else _zeros(inputs.shared_params(params), size),
        )

    def update_fn(
        updates, state, params=None, *, task_gradients=None, losses=None, active=None, **extra_args
    ):
        by_task = updates if task_gradients is None else task_gradients
        if isinstance(by_task, TaskGradients):
            by_task = inputs.checked(name, by_task, state)
        else:
            by_task = inputs.stacked(name, by_task, params, num_tasks, space, losses, active)
        if rule.needs_losses and by_task.losses is None:
            raise ValueError(f'{name}() needs losses: pass losses= to update, one for each task')

        dtype = state.weights.dtype
        stack = by_task.shared(batching) if space == 'shared' else None
        if space == 'shared' and not jax.tree.leaves(stack):
            raise ValueError(f'{name}() has no shared parameters to work on: the encoder has none')
        known = None if by_task.losses is None else by_task.losses.astype(dtype)
        tasks = Tasks(by_task.task_names, known, by_task.active, None, extra_args)
        averages = state.average
        if average is not None:
            stack, averages = _averaged(average, stack, averages, tasks, state.step)
        if space is not None:
            tasks = tasks._replace(gram=_gram(by_task, stack, dtype))
        with jax.default_matmul_precision('highest'):
            weights, rule_state = rule.weigh(tasks, state.rule, state.step)
        learned = _unless_broken(tasks, (rule_state, averages), (state.rule, state.average))
        weights = jnp.where(tasks.active, weights, 0).astype(dtype)
        if tasks.gram is not None:
            # Gradients whose products overflow have no weights, whatever the rule makes of them:
            # `apply_if_finite` behind it sees that.
            weights = jnp.where(jnp.all(jnp.isfinite(tasks.gram)), weights, jnp.nan)
        heads = scale_heads(tasks) if callable(scale_heads) else scale_heads
        combined = by_task.combine(weights, heads, stack)
        shared_descent = state.shared_descent
        if correction is not None:
            weights, combined, shared_descent = correction(
                by_task, weights, combined, state.step, shared_descent
            )
        state = WeightingState(
            step=optax.safe_increment(state.step),
            weights=weights,
            active=tasks.active,
            **_diagnostics(tasks, weights),
            shared_descent=shared_descent,
            rule=learned[0],
            average=learned[1],
        )
        return inputs.shaped_like(params, combined), state

    # (A correction may do anything with heads.)
    made = TaskWeighting if correction is None else optax.GradientTransformationExtraArgs
    return made(init_fn, update_fn)


def diagnostics(opt_state: Any) -> dict[str, np.ndarray]:
    """The diagnostics of the last step of a weighting, for logging.

    Args:
      opt_state: an optax state that holds a `WeightingState` anywhere: that of a chain, inside
        `inject_hyperparams`, `MultiSteps`, `apply_if_finite`, or stacked over networks.

    Returns:
      A dict of NumPy arrays: 'weights', 'active', and as far as the method has them 'gram',
      'cosines', 'gap', 'descent' and 'shared_descent' (see `WeightingState`); tasks are in the
      order of `problem.task_names`, and numbers NaN before the first step.

    Raises:
      ValueError: if there is no such state in it, or more than one.
    """
    is_weighting = lambda node: isinstance(node, WeightingState)
    found = [n for n in jax.tree.leaves(opt_state, is_leaf=is_weighting) if is_weighting(n)]
    if len(found) != 1:
        raise ValueError(f'the optax state holds {len(found)} task weightings, not one')
    own = ('step', 'rule', 'average')
    kept = {k: v for k, v in found[0]._asdict().items() if k not in own}
    return {name: np.asarray(value) for name, value in kept.items() if value is not None}


def mean_over(active: jax.Array, values: jax.Array) -> jax.Array:
    """The mean of values `[T]` over the active tasks; 0 if there is none."""
    count = jnp.maximum(jnp.sum(active), 1).astype(values.dtype)
    return jnp.sum(jnp.where(active, values, 0)) / count


def by_task_array(
    name: str,
    values: ArrayLike | Mapping[str, ArrayLike],
    names: tuple[str, ...] | None,
    size: int,
    dtype: DTypeLike,
) -> jax.Array:
    """Values for the tasks as an array `[T]`.

    Args:
      name: of the argument, for error messages.
      values: a number for all, T numbers, or `{task: number}`.
      names: the task names, or None where they are unknown.
      size: T.
      dtype: of the array.

    Raises:
      ValueError: if there is no value for each task.
    """
    if isinstance(values, Mapping):
        if names is None:
            raise ValueError(f'{name} must be {size} numbers: stacked gradients have no task names')
        if set(values) != set(names):
            raise ValueError(
                f'{name} needs an entry for each of the tasks {", ".join(names)}: '
                f'it has {", ".join(values)}'
            )
        values = jnp.stack([jnp.asarray(values[task], dtype) for task in names])
    values = jnp.asarray(values, dtype)
    if values.ndim and values.shape != (size,):
        raise ValueError(
            f'{name} needs one number for each of the {size} tasks: its shape is '
            f'{list(values.shape)}'
        )
    return jnp.broadcast_to(values, (size,))


def check_weights(name: str, values: Any) -> None:
    """Raises ValueError at a weight that is negative or not finite; traced ones pass.

    Args:
      name: of the argument, for error messages.
      values: a number, numbers, or `{task: number}`.
    """
    for value in jax.tree.leaves(values):
        if isinstance(value, jax.core.Tracer):
            continue
        if not np.all(np.isfinite(value)) or np.any(np.asarray(value) < 0):
            raise ValueError(f'{name} must be finite and at least 0, not {value}')


def check_number(name: str, value: Any, low: float, high: float = np.inf) -> None:
    """Raises ValueError at a number outside [low, high]; traced ones pass (inject_hyperparams).

    Args:
      name: of the argument, for error messages.
      value: the number.
      low, high: what it may be at least and at most.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if not isinstance(value, numbers.Real | jax.Array | np.ndarray) or not low <= value <= high:
        limits = f'at least {low}' if high == np.inf else f'between {low} and {high}'
        raise ValueError(f'{name} must be a number {limits}, not {value!r}')


def static_integer(name: str, value: Any, low: int) -> None:
    """Raises ValueError unless the value is an integer of at least `low`, and not traced.

    Args:
      name: of the argument, for error messages.
      value: the integer.
      low: the least.
    """
    if isinstance(value, jax.Array):
        raise ValueError(
            f"{name} must be static: use inject_hyperparams(..., static_args='{name}')"
        )
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f'{name} must be an integer of at least {low}, not {value!r}')


@jax.default_matmul_precision('highest')
def _diagnostics(tasks, weights):
    """gram, cosines, gap and descent of a `WeightingState`."""
    if tasks.gram is None:
        return dict.fromkeys(('gram', 'cosines', 'gap', 'descent'))
    total = jnp.sum(weights)
    on_simplex = weights / jnp.where(total != 0, total, 1)
    return {
        'gram': tasks.gram,
        'cosines': active_set.norms_and_cosines(tasks.gram, tasks.active)[1],
        'gap': min_norm.duality_gap(tasks.gram, on_simplex, tasks.active),
        'descent': tasks.gram @ weights,
    }


def _gram(by_task, stack, dtype):
    """The Gram matrix of the stack, or of the representation's gradients where there is none."""
    stack = by_task.representation if stack is None else stack
    gram = gradients.products(stack, stack).astype(dtype)
    return jnp.where(by_task.active[:, None] & by_task.active[None, :], gram, 0)


def _zeros(params, size):
    """Moving averages at the start, in float32 or better."""
    wide = lambda leaf: jnp.promote_types(jnp.float32, leaf.dtype)
    return tuple(jnp.zeros((size, *leaf.shape), wide(leaf)) for leaf in jax.tree.leaves(params))


def _averaged(average, stack, before, tasks, step):
    """The stack of the next moving averages, in the dtypes of the gradients, and these averages."""
    leaves, structure = jax.tree.flatten(stack)
    after = tuple(average(g, old, tasks, step) for g, old in zip(leaves, before, strict=True))
    narrow = [new.astype(g.dtype) for g, new in zip(leaves, after, strict=True)]
    return jax.tree.unflatten(structure, narrow), after


def _unless_broken(tasks, new, old):
    """The rule's new state; the old one after losses or gradients that are not finite.

    Behind a weighting, `apply_if_finite` can drop such a step. What was learned stands before it.
    """
    whole = jnp.bool_(True)
    if tasks.losses is not None:
        whole &= jnp.all(jnp.isfinite(tasks.losses))
    if tasks.gram is not None:
        whole &= jnp.all(jnp.isfinite(tasks.gram))
    return jax.tree.map(lambda a, b: jnp.where(whole, a, b), new, old)
