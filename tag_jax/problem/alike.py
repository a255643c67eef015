"""Tasks of like heads and losses are computed side by side, and compiled once.

A program in which every head stands by itself takes longer to compile with every task. Heads of
the same module, whose tasks have the same loss and labels of the same shape, are stacked and
computed under `vmap`, where there are many.
"""

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

# Few gain little. Results differ from those of heads one by one by rounding.
LEAST = 10


def map_tasks(
    function: Callable[[str, Any], Any],
    arguments: Mapping[str, Any],
    programs: Mapping[str, Hashable],
    draws: bool = False,
) -> dict[str, Any]:
    """Applies a function to every task: one call under `vmap` for many that are alike.

    Args:
      function: `(task, arguments of the task) -> pytree of arrays`. Of tasks that are alike, it is
        called with the first one's name for all of them.
      arguments: `{task: pytree of arrays}`.
      programs: `{task: key}`: tasks of one key are alike, if their arguments have the same shapes.
      draws: whether the function draws random numbers by keys among the arguments. Then tasks that
        are alike take turns in a loop, so that each draws what it would draw by itself; under
        `vmap`, keys of the kind unsafe_rbg would draw others.

    Returns:
      `{task: what the function gives}`, in the order of the arguments.
    """
    found = taken_apart(map_families(function, arguments, programs, draws))
    return {task: found[task] for task in arguments}


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
      arguments, programs: see `map_tasks`. There is at least one task.

    Returns:
      The first part stacked over the T tasks, `[T, ...]`, and `{task: the second part}`, both in
      the order of the arguments.
    """
    found = map_families(function, arguments, programs)
    stacks = {
        family: shared if len(family) > 1 else jax.tree.map(lambda x: jnp.expand_dims(x, 0), shared)
        for family, (shared, _) in found.items()
    }
    pieces = _in_order(stacks, list(arguments))
    shared = jax.tree.map(lambda *x: jnp.concatenate(x), *pieces)
    apart = taken_apart({family: own for family, (_, own) in found.items()})
    return shared, {task: apart[task] for task in arguments}


def map_families(
    function: Callable[[str, Any], Any],
    arguments: Mapping[str, Any],
    programs: Mapping[str, Hashable],
    draws: bool = False,
) -> dict[tuple[str, ...], Any]:
    """Applies a function to every task, see `map_tasks`, and leaves results as they were computed.

    Args:
      function, arguments, programs, draws: see `map_tasks`.

    Returns:
      `{(task,): result}` of tasks by themselves, and `{(task, ...): results [F, ...]}` of F that
      were computed side by side.
    """
    found = {}
    for family in _families(arguments, programs):
        if len(family) < LEAST:
            found |= {(task,): function(task, arguments[task]) for task in family}
            continue
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *(arguments[task] for task in family))
        found[family] = (jax.lax.map if draws else _vmap)(
            functools.partial(function, family[0]), stacked
        )
    return found


def taken_apart(found: Mapping[tuple[str, ...], Any], axis: int = 0) -> dict[str, Any]:
    """The results of single tasks, `{task: pytree}`.

    Args:
      found: from `map_families`.
      axis: of the tasks that were computed side by side, in all arrays.
    """
    before = (slice(None),) * axis
    apart = {}
    for family, results in found.items():
        if len(family) == 1:
            apart[family[0]] = results
            continue
        for n, task in enumerate(family):
            apart[task] = jax.tree.map(lambda x, place=(*before, n): x[place], results)
    return apart


def _vmap(function, stacked):
    return jax.vmap(function)(stacked)


def _families(arguments, programs):
    """The tasks that are alike, a tuple of names for each kind."""
    families: dict[Hashable, tuple[str, ...]] = {}
    for task, own in arguments.items():
        leaves, structure = jax.tree.flatten(own)
        shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        key = programs[task], structure, shapes
        families[key] = (*families.get(key, ()), task)
    return list(families.values())


def _in_order(stacks, order):
    """The stacks of families as pieces in the order of all tasks; families that mix in parts."""
    families = sorted(stacks, key=lambda family: order.index(family[0]))
    if [task for family in families for task in family] == order:
        return [stacks[family] for family in families]
    places = {task: (family, n) for family in families for n, task in enumerate(family)}
    return [
        jax.tree.map(lambda x, n=n: x[n : n + 1], stacks[family])
        for family, n in (places[task] for task in order)
    ]
