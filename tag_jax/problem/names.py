"""The names of parameters: those on the way to a leaf of a pytree."""

from typing import Any

import jax

# So many names stand in an error.
_MOST = 8


def names_of(path: tuple) -> tuple[str, ...]:
    """The names on the way to a leaf.

    Args:
      path: as `jax.tree_util` gives it.
    """
    return tuple(jax.tree_util.keystr((part,), simple=True) for part in path)


def by_names(tree: Any) -> dict[tuple[str, ...], Any]:
    """The leaves of a pytree, by the names on the way to them.

    Args:
      tree: pytree of arrays or shapes.
    """
    return {names_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def layout(tree: Any) -> str:
    """The names of the first leaves of a pytree, for an error.

    Args:
      tree: pytree of arrays or shapes.
    """
    names = ['/'.join(names) for names in by_names(tree)]
    return ', '.join(names[:_MOST]) + ', ...' * (len(names) > _MOST)
