"""Checks of what a transform is given: `TaskGradients`, or arrays stacked over tasks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tag_jax import gradients


class Stacked(NamedTuple):
    """Gradients stacked over tasks, with the face of `TaskGradients`.

    Attributes:
      stack: pytree of arrays `[T, *param]`, 0 where inactive.
      losses: `[T]`, 0 where inactive; None if they are unknown.
      active: bool `[T]`.
      task_names: None.
    """

    stack: Any
    losses: jax.Array | None
    active: jax.Array
    task_names: None = None

    def shared(self, batching=None):
        """The stack: every parameter counts as shared."""
        del batching
        return self.stack

    def combine(self, weights, scale_heads=False, shared=None):
        """The weighted sum of the stack, or of what stands in for it."""
        del scale_heads
        return gradients.weighted_sum(weights, self.stack if shared is None else shared)


def count_tasks(name, params, num_tasks, space):
    """The number of tasks: as given, or of the heads of the params."""
    if num_tasks is not None:
        return num_tasks
    try:
        return len(params['heads'])
    except (TypeError, KeyError, IndexError):
        mend = 'so pass num_tasks='
        if space == 'representation':
            mend = (
                'which it needs, with the TaskGradients of tag_jax.gradients.task_gradients: '
                'gradients stacked over tasks are for mgda(num_tasks=...) and the like. For a '
                'Linen model with heads in setup(), problem.from_linen(Encoder(), tasks, x[:1], '
                "heads={...}) makes the problem, and {'shared': old['encoder'], 'heads': {task: "
                'old[task]}} are its params (docs/linen.md)'
            )
        raise ValueError(
            f"{name}() cannot count the tasks: its params are no {{'shared': ..., 'heads': {{task: "
            f'...}}}}, {mend}'
        ) from None


def shared_params(params):
    """The parameters that tasks share: 'shared' of the params of a problem, or all of them."""
    whole = isinstance(params, Mapping) and {'shared', 'heads'} <= set(params)
    return params['shared'] if whole else params


def checked(name, by_task, state):
    """`TaskGradients`, if they are as they were made, and as many as the state is for."""
    if by_task.active.dtype != bool or by_task.intact.dtype != bool:
        raise TypeError(_not_task_gradients(name))
    if by_task.active.shape != state.active.shape:
        raise ValueError(
            f'{name}() was initialised for {state.active.shape[0]} tasks, and was given the '
            f'gradients of {by_task.active.shape[0]}'
        )
    return by_task


def _not_task_gradients(name):
    return (
        f'{name}() takes TaskGradients just as tag_jax.gradients.task_gradients makes them: '
        'let it stand first in the chain, and with nnx.Optimizer pass them by name, as '
        'update(model, grads, task_gradients=...)'
    )


def stacked(name, stack, params, num_tasks, space, losses, active):
    """Stacked arrays as `Stacked`, if that is what they are."""
    if num_tasks is None or space == 'representation':
        stacked = ', or pass num_tasks= for stacked arrays'
        if space == 'representation':
            stacked = ' (stacked gradients are for methods with space="shared")'
        raise TypeError(_not_task_gradients(name) + stacked)
    if isinstance(stack, Mapping) and set(stack) == {'shared', 'heads'}:
        raise TypeError(
            f'{name}() was given stacked gradients of shared parameters and heads, and would weigh '
            'the tasks by their heads as well: pass the TaskGradients of '
            "tag_jax.gradients.task_gradients, or the gradients of 'shared' alone"
        )
    leaves = jax.tree_util.tree_leaves_with_path(stack)
    wanted = [None] * len(leaves) if params is None else jax.tree.leaves(params)
    if len(wanted) != len(leaves):
        raise TypeError(f'{name}() takes gradients of the structure of the params')
    for (path, leaf), param in zip(leaves, wanted, strict=True):
        shape = leaf.shape[1:] if param is None else param.shape
        if leaf.shape != (num_tasks, *shape):
            raise TypeError(
                f'{name}() takes gradients stacked over {num_tasks} tasks: '
                f'{jax.tree_util.keystr(path) or "the gradient"} has shape {list(leaf.shape)}, '
                f'not {[num_tasks, *shape]}'
            )
    active = jnp.ones(num_tasks, bool) if active is None else jnp.asarray(active, bool)
    losses = None if losses is None else jnp.asarray(losses)
    for what, array in (('active', active), ('losses', losses)):
        if array is not None and array.shape != (num_tasks,):
            raise ValueError(
                f'{what}= needs one entry for each of the {num_tasks} tasks: its shape is '
                f'{list(array.shape)}'
            )
    where = lambda g: jnp.where(active.reshape(-1, *[1] * (g.ndim - 1)), g, 0)
    losses = None if losses is None else jnp.where(active, losses, 0)
    return Stacked(jax.tree.map(where, stack), losses, active)


def shaped_like(params, combined):
    """The combined gradient in the containers of the params (`nnx.State`, say)."""
    if params is None or jax.tree.structure(params) == jax.tree.structure(combined):
        return combined
    paths = lambda tree: [
        jax.tree_util.keystr(path, simple=True, separator='/')
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
    if paths(params) != paths(combined):
        return combined
    return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(combined))
