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

from tag_jax.problem.stacked_heads import is_stacked, taken_apart

# Results differ by rounding from those of heads one by one, and figures are recorded with fewer.
# Results of a loop are the same, bit by bit.
LEAST = 10
LEAST_IN_A_LOOP = 2


def map_tasks(
    function: Callable[[str, Any], Any],
    columns: Any,
    programs: Mapping[str, Hashable],
    draws: bool = False,
) -> dict[str, Any]:
    """Applies a function to every task: one call under `vmap` for many that are alike.

    Args:
      function: `(task, row) -> pytree of arrays`. The row is like `columns`, with what each column
        has for the task. Of tasks that are alike, it is called with the first one's name for all.
      columns: pytree of columns, each `{task: pytree of arrays}`, plain or a `StackedHeads`.
      programs: `{task: key}`: tasks of one key are alike, if their rows have the same shapes.
      draws: whether the function draws random numbers by keys in the row. Then tasks that are alike
        take turns in a loop, so that each draws what it would draw by itself; under `vmap`, keys of
        the kind unsafe_rbg would draw others.

    Returns:
      `{task: what the function gives}`, in the order of `programs`.
    """
    found = taken_apart(map_families(function, columns, programs, draws))
    return {task: found[task] for task in programs}


def map_and_stack(
    function: Callable[[str, Any], tuple[Any, Any]],
    columns: Any,
    programs: Mapping[str, Hashable],
) -> tuple[Any, dict[tuple[str, ...], Any]]:
    """Applies a function to every task, see `map_tasks`, and stacks a part of what it gives.

    The results of many tasks that are alike are stacked already. Taking them apart and stacking
    them again would cost as much compile time as heads one by one.

    Args:
      function: `(task, row) -> (pytree with the same shapes for every task, another pytree)`.
      columns, programs: see `map_tasks`. There is at least one task.

    Returns:
      The first part stacked over the T tasks, `[T, ...]`, in the order of `programs`, and the
      second part as `map_families` gives it.
    """
    found = map_families(function, columns, programs)
    stacks = {
        family: shared if len(family) > 1 else jax.tree.map(lambda x: jnp.expand_dims(x, 0), shared)
        for family, (shared, _) in found.items()
    }
    pieces = _in_order(stacks, list(programs))
    shared = jax.tree.map(lambda *x: jnp.concatenate(x), *pieces)
    return shared, {family: own for family, (_, own) in found.items()}


def map_families(
    function: Callable[[str, Any], Any],
    columns: Any,
    programs: Mapping[str, Hashable],
    draws: bool = False,
) -> dict[tuple[str, ...], Any]:
    """Applies a function to every task, see `map_tasks`, and leaves results as they were computed.

    Args:
      function, columns, programs, draws: see `map_tasks`.

    Returns:
      `{(task,): result}` of tasks by themselves, and `{(task, ...): results [F, ...]}` of F that
      were computed side by side.
    """
    found = {}
    for family in families_of(columns, programs, LEAST_IN_A_LOOP if draws else LEAST):
        if len(family) == 1:
            found[family] = function(family[0], _row(columns, family[0]))
            continue
        stacked = jax.tree.map(
            lambda column, family=family: _of_family(column, family), columns, is_leaf=_is_column
        )
        run = functools.partial(function, family[0])
        map_all = jax.lax.map if draws else _vmap(len(family))
        found[family] = map_all(run, stacked)
    return found


def families_of(
    columns: Any, programs: Mapping[str, Hashable], least: int | None = None
) -> list[tuple[str, ...]]:
    """The tasks that are computed side by side, or by themselves: names of each, all tasks once.

    Args:
      columns: as for `map_tasks`; shapes will do.
      programs: `{task: key}`.
      least: how many are computed side by side; None for LEAST.
    """
    least = LEAST if least is None else least
    alike: dict[Hashable, tuple[str, ...]] = {}
    for task, program in programs.items():
        key = program, *(_shapes(column, task) for column in _columns(columns))
        alike[key] = (*alike.get(key, ()), task)
    return [
        part
        for family in alike.values()
        for part in ([family] if len(family) >= least else [(task,) for task in family])
    ]


def _is_column(node):
    return isinstance(node, Mapping)


def _columns(columns):
    return jax.tree.leaves(columns, is_leaf=_is_column)


def _row(columns, task):
    return jax.tree.map(lambda column: column[task], columns, is_leaf=_is_column)


def _of_family(column, family):
    """The values of a column for the tasks of a family, `[F, ...]`."""
    if is_stacked(column) and family in column.stacks:
        return column.stacks[family]
    return jax.tree.map(lambda *x: jnp.stack(x), *(column[task] for task in family))


def _shapes(column, task):
    """The structure and shapes of what a column has for a task; of a stack, the same for all."""
    if is_stacked(column):
        task = next(family for family in column.stacks if task in family)
        tree, leading = column.stacks[task], int(len(task) > 1)
    else:
        tree, leading = column[task], 0
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(leaf)[leading:], jnp.result_type(leaf)) for leaf in leaves)


def _vmap(size):
    return lambda function, stacked: jax.vmap(function, axis_size=size)(stacked)


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
