"""Devices and processes: how arrays lie over a mesh, and what processes agree on.

A mesh has two axes: networks that train side by side lie along the first, the examples of their
batches along the second. Arrays are placed by `jax.sharding`; what has to be summed over devices
(gradients, Gram matrices, metrics) the compiler finds. Every process runs the same Python; the
first one alone writes files, and speaks for all where they have to agree.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

NETWORKS, BATCH = AXES = ('networks', 'batch')

# What an error on the first process is raised as on the others.
_ERRORS = {error.__name__: error for error in (ValueError, OSError, FloatingPointError)}


def make_mesh(sizes: tuple[int, int]) -> Mesh | None:
    """A mesh of that many devices for networks, and for the examples of each batch.

    Args:
      sizes: (along networks, along the batch).

    Returns:
      A `jax.sharding.Mesh`, or None where there is one device to use.

    Raises:
      ValueError: if there are not as many devices, or several processes do not use all of them.
    """
    needed, present = math.prod(sizes), jax.device_count()
    named = ','.join(f'{axis}:{size}' for axis, size in zip(AXES, sizes, strict=True))
    if needed > present:
        raise ValueError(f'the mesh {named} needs {needed} devices, and there are {present}')
    if jax.process_count() > 1 and needed < present:
        raise ValueError(
            f'the mesh {named} has {needed} devices, and {jax.process_count()} processes have '
            f'{present}: use all of them'
        )
    if needed == 1:
        return None
    return jax.make_mesh(
        sizes, AXES, axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:needed]
    )


def size(mesh: Mesh | None, axis: str) -> int:
    """The number of devices along an axis; 1 without a mesh.

    Args:
      mesh: a `Mesh`, or None for one device.
      axis: of `AXES`.
    """
    return 1 if mesh is None else mesh.shape[axis]


def constrained(mesh: Mesh | None, tree: Any, *axes: str | None) -> Any:
    """A pytree under jit whose leading axes lie along those of the mesh; replicated along others.

    Args:
      mesh: a `Mesh`, or None for one device, where nothing is done.
      tree: pytree of arrays.
      *axes: of the mesh, for the leading axes of every leaf; None for one that is not split.
    """
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(*axes)))


def placed(mesh: Mesh | None, tree: Any) -> Any:
    """A pytree of host arrays on the device, or whole on every device of the mesh.

    Args:
      mesh: a `Mesh`, or None for one device.
      tree: pytree of arrays.
    """
    if mesh is None:
        return jax.device_put(tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def is_first() -> bool:
    """Whether this is the process that writes files, and what is to be read on the screen."""
    return jax.process_index() == 0


def first_says(make: Callable[[], Any]) -> Any:
    """What `make()` comes to on the first process, on all of them.

    Args:
      make: returns JSON types; called on the first process only.

    Raises:
      ValueError, OSError, FloatingPointError: on all processes, where `make` raises one of them.
    """
    if jax.process_count() == 1:
        return make()
    said = {}
    if is_first():
        try:
            said = {'value': make()}
        except tuple(_ERRORS.values()) as error:
            kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
            said = {'error': kind, 'text': str(error)}
    said = json.loads(_broadcast(json.dumps(said).encode()))
    if 'error' in said:
        raise _ERRORS[said['error']](said['text'])
    return said['value']


def any_process(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set on any process; the same on all of them.

    Args:
      *flags: of this process; as many on all of them.
    """
    if jax.process_count() == 1:
        return flags
    found = multihost_utils.process_allgather(np.array(flags))
    return tuple(bool(flag) for flag in found.any(axis=0))


def _broadcast(message: bytes) -> bytes:
    """The message of the first process."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    content = np.zeros(length, np.uint8)
    if is_first():
        content[:] = np.frombuffer(message, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(content), np.uint8))
