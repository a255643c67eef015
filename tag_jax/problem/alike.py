"""Tasks of like heads and losses are computed side by side, and compiled once.

A program in which every head stands by itself takes longer to compile with every task. Heads of
the same module, whose tasks have the same loss and labels of the same shape, are stacked and
computed under `vmap`, where there are many.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Few gain little. Results differ from those of heads one by one by rounding.
LEAST = 10


def map_tasks(
    function: Callable[[str, Any], Any],
    arguments: Mapping[str, Any],
    programs: Mapping[str, Hashable],
) -> dict[str, Any]:
    """Applies a function to every task: one call under `vmap` for many that are alike.

    Args:
      function: `(task, arguments of the task) -> pytree of arrays`. Of tasks that are alike, it is
        called with the first one's name for all of them.
      arguments: `{task: pytree of arrays}`.
      programs: `{task: key}`: tasks of one key are alike, if their arguments have the same shapes.

    Returns:
      `{task: what the function gives}`, in the order of the arguments.
    """
    _, found = map_and_stack(lambda task, own: ((), function(task, own)), arguments, programs)
    return found


def map_and_stack(
    function: Callable[[str, Any], tuple[Any, Any]],
    arguments: Mapping[str, Any],
    programs: Mapping[str, Hashable],
) -> tuple[Any, dict[str, Any]]:
    """Applies a function to every task, see `map_tasks`, and stacks a part of what it gives.

    The results of many tasks that are alike are stacked already. Taking them apart and stacking
    them again would cost as much compile time as heads one by one.

    Args:
      function: `(task, arguments of the task) -> (pytree with the same shapes for every task,
        another pytree)`.
      arguments, programs: see `map_tasks`.

    Returns:
      The first part stacked over the T tasks, `[T, ...]`, and `{task: the second part}`, both in
      the order of the arguments.
    """
    stacks, found = {}, {}
    for family in _families(arguments, programs):
        if len(family) < LEAST:
            for task in family:
                shared, found[task] = function(task, arguments[task])
                stacks[task,] = jax.tree.map(lambda x: x[None], shared)
            continue
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *(arguments[task] for task in family))
        shared, own = jax.vmap(lambda one, first=family[0]: function(first, one))(stacked)
        stacks[family] = shared
        for n, task in enumerate(family):
            found[task] = jax.tree.map(lambda x, n=n: x[n], own)
    order = list(arguments)
    families = sorted(stacks, key=lambda family: order.index(family[0]))
    found_order = [task for family in families for task in family]
    places = np.array([found_order.index(task) for task in order])
    shared = jax.tree.map(
        lambda *x: _in_order(jnp.concatenate(x), places), *(stacks[family] for family in families)
    )
    return shared, {task: found[task] for task in order}


def _families(arguments, programs):
    """The tasks that are alike, a tuple of names for each kind."""
    families: dict[Hashable, tuple[str, ...]] = {}
    for task, own in arguments.items():
        leaves, structure = jax.tree.flatten(own)
        shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        key = programs[task], structure, shapes
        families[key] = (*families.get(key, ()), task)
    return list(families.values())


def _in_order(stacked, places):
    return stacked if (places == np.arange(len(places))).all() else stacked[places]
