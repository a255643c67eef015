"""Tasks of like heads and losses are computed side by side, and compiled once.

A program in which every head stands by itself takes longer to compile with every task. Heads of
the same module, whose tasks have the same loss and labels of the same shape, are stacked and
computed under `vmap`, where there are many.
"""

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
    families: dict[Hashable, list[str]] = {}
    for task, own in arguments.items():
        leaves, structure = jax.tree.flatten(own)
        shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        families.setdefault((programs[task], structure, shapes), []).append(task)
    found = {}
    for family in families.values():
        if len(family) < LEAST:
            found |= {task: function(task, arguments[task]) for task in family}
            continue
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *(arguments[task] for task in family))
        results = jax.vmap(lambda own, first=family[0]: function(first, own))(stacked)
        for n, task in enumerate(family):
            found[task] = jax.tree.map(lambda x, n=n: x[n], results)
    return {task: found[task] for task in arguments}
