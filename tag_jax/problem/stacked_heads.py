"""Heads of many tasks that lie stacked, one array for all heads that are alike.

A program that trains forty heads would read, move and write a hundred small arrays, and take
seconds longer to compile. Training keeps heads that are alike stacked, from the first step to the
last; whoever looks at them sees a mapping of tasks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax.problem.batch import with_trailing_axes


class StackedHeads(Mapping):
    """`{task: tree}` of T tasks; the trees of a family of tasks are stacked.

    Attributes:
      stacks: `{family: tree}`: of a family of F > 1 tasks with arrays `[F, ...]`, of a family of
        one as it is. Each task is in one family.
    """

    def __init__(self, stacks: Mapping[tuple[str, ...], Any]):
        self.stacks = dict(stacks)

    def __getitem__(self, task: str) -> Any:
        for family, tree in self.stacks.items():
            if task in family:
                return _of_task(tree, family.index(task)) if len(family) > 1 else tree
        raise KeyError(task)

    def __iter__(self) -> Iterator[str]:
        return (task for family in self.stacks for task in family)

    def __len__(self) -> int:
        return sum(map(len, self.stacks))


def _flatten_with_keys(heads):
    keyed = [(jax.tree_util.DictKey(family[0]), tree) for family, tree in heads.stacks.items()]
    return keyed, tuple(heads.stacks)


def _unflatten(families, trees):
    return StackedHeads(dict(zip(families, trees, strict=True)))


jax.tree_util.register_pytree_with_keys(StackedHeads, _flatten_with_keys, _unflatten)


def stack_heads(tree: Any, families: Sequence[tuple[str, ...]], stack: Callable = jnp.stack) -> Any:
    """A tree in which 'heads' of all `{'shared': ..., 'heads': ...}` are `StackedHeads`.

    Args:
      tree: pytree; parameters, say, or the state of an optimizer.
      families: names of tasks, all of them, each once.
      stack: list of leaves -> leaf.

    Raises:
      ValueError: if the trees of a family differ in structure or shape.
    """
    # (An encoder may have a dict of all tasks too, which is not ours to stack.)
    whole = lambda node: isinstance(node, dict) and {'shared', 'heads'} <= node.keys()

    def stacked(node):
        if not whole(node):
            return node
        return {**node, 'heads': _all_stacked(node['heads'], families, stack)}

    return jax.tree.map(stacked, tree, is_leaf=whole) if families else tree


def _all_stacked(heads, families, stack=jnp.stack):
    names = {task for family in families for task in family}
    if not isinstance(heads, dict) or heads.keys() != names:
        return heads
    return StackedHeads({family: _one_array(heads, family, stack) for family in families})


def _one_array(node, family, stack):
    if len(family) == 1:
        return node[family[0]]
    return jax.tree.map(lambda *leaves: stack(leaves), *(node[task] for task in family))


def heads_apart(tree: Any, axis: int = 0) -> Any:
    """A tree in which each `StackedHeads` is a plain dict.

    Args:
      tree: pytree of arrays.
      axis: of the tasks in all stacks.
    """
    apart = lambda node: taken_apart(node.stacks, axis) if is_stacked(node) else node
    return jax.tree.map(apart, tree, is_leaf=is_stacked)


def heads_like(heads: Mapping[str, Any], found: Mapping[tuple[str, ...], tuple]) -> tuple[Any, ...]:
    """The results for all tasks, plain or stacked as some heads are.

    Args:
      heads: `{task: tree}`, plain or a `StackedHeads`.
      found: `{family: tuple of K trees}`, see `StackedHeads.stacks`.

    Returns:
      K mappings of tasks.
    """
    if is_stacked(heads) and heads.stacks.keys() == found.keys():
        rows = {family: found[family] for family in heads.stacks}
        return tuple(
            StackedHeads(dict(zip(rows, column, strict=True)))
            for column in zip(*rows.values(), strict=True)
        )
    rows = taken_apart(found)
    apart = [{task: rows[task][n] for task in heads} for n in range(len(next(iter(rows.values()))))]
    families = tuple(heads.stacks) if is_stacked(heads) else ()
    return tuple(_all_stacked(column, families) for column in apart)


def is_stacked(node: Any) -> bool:
    """Whether a node of a tree is a `StackedHeads`."""
    return isinstance(node, StackedHeads)


def taken_apart(found: Mapping[tuple[str, ...], Any], axis: int = 0) -> dict[str, Any]:
    """The trees of single tasks, `{task: pytree}`.

    Args:
      found: `{family: tree}`, see `StackedHeads.stacks`.
      axis: of the tasks of a family, in all arrays.
    """
    before = (slice(None),) * axis
    apart = {}
    for family, results in found.items():
        if len(family) == 1:
            apart[family[0]] = results
            continue
        for n, task in enumerate(family):
            apart[task] = _of_task(results, (*before, n))
    return apart


def _of_task(tree, place):
    return jax.tree.map(lambda x: x[place], tree)


def map_heads(
    function: Callable[..., jax.Array],
    by_task: jax.Array | Sequence[jax.Array],
    task_names: Sequence[str],
    *heads: Mapping[str, Any],
) -> Any:
    """Applies a function to all arrays of heads, with a number for each task.

    Args:
      function: `(the task's number, arrays) -> array`, elementwise; the number is a scalar, or
        `[F, 1, ...]` beside stacked arrays `[F, ...]`.
      by_task: `[T]`.
      task_names: T names.
      *heads: `{task: tree}`, all plain or all stacked alike.

    Returns:
      Heads like those that were given.
    """
    if not is_stacked(heads[0]):
        return {
            task: jax.tree.map(
                lambda *arrays, own=own: function(own, *arrays), *(one[task] for one in heads)
            )
            for own, task in zip(by_task, task_names, strict=True)
        }
    places = {task: n for n, task in enumerate(task_names)}
    found = {}
    for family in heads[0].stacks:
        rows = np.array([places[task] for task in family])
        own = by_task[rows] if len(family) > 1 else by_task[rows[0]]
        found[family] = jax.tree.map(
            lambda *arrays, own=own: function(with_trailing_axes(own, arrays[0].ndim), *arrays),
            *(one.stacks[family] for one in heads),
        )
    return StackedHeads(found)
