"""Trees of arrays on disk, with orbax."""

import pathlib

import orbax.checkpoint as ocp


def save(path, tree):
    """Writes a pytree of arrays to a new folder, whole or not at all.

    Args:
      path: the folder.
      tree: pytree of arrays.

    Raises:
      ValueError: if the folder exists.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(pathlib.Path(path).absolute(), tree)


def restore(path, like=None):
    """Reads what `save` wrote.

    Args:
      path: the folder.
      like: pytree of arrays or `jax.ShapeDtypeStruct`, the structure to restore. None for nested
        dicts with string keys.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(pathlib.Path(path).absolute(), target=like)
