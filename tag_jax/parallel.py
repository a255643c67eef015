"""Devices and processes: how arrays lie over a mesh, and what processes agree on.

A mesh has two axes: networks that train side by side lie along the first, the examples of their
batches along the second. Arrays are placed by `jax.sharding`; what has to be summed over devices
(gradients, Gram matrices, metrics) the compiler finds. Every process runs the same Python; the
first one alone writes files, and speaks for all where they have to agree. What is read from disk
while training is read once, by each process its share.
"""

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

NETWORKS, BATCH = AXES = ('networks', 'batch')

# What an error on one process is raised as on the others, if not as a RuntimeError.
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


def constrain(mesh: Mesh | None, tree: Any, *axes: str | None) -> Any:
    """A pytree under jit whose leading axes lie along those of the mesh; replicated along others.

    Args:
      mesh: a `Mesh`, or None for one device, where nothing is done.
      tree: pytree of arrays.
      *axes: of the mesh, for the leading axes of every leaf; None for one that is not split.
    """
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(*axes)))


def place(mesh: Mesh | None, tree: Any) -> Any:
    """A pytree of host arrays on the device, or whole on every device of the mesh.

    Args:
      mesh: a `Mesh`, or None for one device. Of several processes each has all of the arrays.
      tree: pytree of arrays.
    """
    if mesh is None:
        return jax.device_put(tree)
    everywhere = NamedSharding(mesh, PartitionSpec())
    if not spans_processes(mesh):
        return jax.device_put(tree, everywhere)
    # (jax.device_put would gather what all processes have to see that it is equal, and NaN is not.)
    devices = list(everywhere.addressable_devices)

    def put(x):
        pieces = [jax.device_put(x, device) for device in devices]
        return jax.make_array_from_single_device_arrays(pieces[0].shape, everywhere, pieces)

    return jax.tree.map(put, tree)


def to_host(mesh: Mesh | None, tree: Any) -> Any:
    """A pytree of arrays on the devices as NumPy arrays, one whole array at a time.

    Args:
      mesh: the `Mesh` that they lie over, or None for one device.
      tree: pytree of arrays; random keys stay where they are.
    """
    shared = spans_processes(mesh)

    def fetched(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        return np.asarray(_on_all_devices(x, mesh) if shared else x)

    return jax.tree.map(fetched, tree)


@functools.partial(jax.jit, static_argnames='mesh')
def _on_all_devices(x, mesh):
    return constrain(mesh, x)


def own_mesh(mesh: Mesh | None) -> Mesh | None:
    """The devices of a mesh that belong to this process, along the batch axis.

    Args:
      mesh: a `Mesh`, or None for one device.
    """
    if not spans_processes(mesh):
        return mesh
    return Mesh(np.array(mesh.local_devices)[None], AXES, axis_types=(AxisType.Auto,) * 2)


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether a mesh has devices of several processes, which then must do the same with it.

    Args:
      mesh: a `Mesh`, or None for one device.
    """
    return mesh is not None and mesh.is_multi_process


def share(mesh: Mesh | None, size: int) -> np.ndarray:
    """Which of several entries this process brings to `gather`.

    Entries lie evenly over all devices; the last one fills up what is left.

    Args:
      mesh: a `Mesh`, or None for one device.
      size: N, the number of entries.

    Returns:
      Integers `[M]` below N, as many on every process with as many devices; all N where the mesh
      is of one process.
    """
    if not spans_processes(mesh):
        return np.arange(size)
    entries = np.minimum(np.arange(-(-size // mesh.size) * mesh.size), size - 1)
    pieces = _evenly(mesh).addressable_devices_indices_map(entries.shape).values()
    return np.concatenate([entries[piece] for piece in pieces])


def gather(mesh: Mesh | None, tree: Any, size: int) -> Any:
    """Entries that the processes have their shares of, whole on every device of the mesh.

    Args:
      mesh: as for `share`.
      tree: pytree of host arrays `[M, ...]`, the entries of `share(mesh, size)`.
      size: N, the number of entries.

    Returns:
      Pytree of arrays `[N, ...]`.
    """
    if not spans_processes(mesh):
        return place(mesh, tree)
    sharding = _evenly(mesh)
    devices = tuple(sharding.addressable_devices_indices_map((mesh.size,)))

    def over_devices(local):
        pieces = np.split(np.asarray(local), len(devices))
        shape = (mesh.size * len(pieces[0]), *local.shape[1:])
        arrays = [jax.device_put(*placement) for placement in zip(pieces, devices, strict=True)]
        return jax.make_array_from_single_device_arrays(shape, sharding, arrays)

    return _whole(jax.tree.map(over_devices, tree), mesh, size)


def _evenly(mesh):
    """How an array lies whose leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


@functools.partial(jax.jit, static_argnames=('mesh', 'size'))
def _whole(tree, mesh, size):
    return constrain(mesh, jax.tree.map(lambda x: x[:size], tree))


def process_count() -> int:
    """The number of processes that train together."""
    return jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes files, and what is to be read on the screen."""
    return jax.process_index() == 0


def first_says(make: Callable[[], Any]) -> Any:
    """Shares the value of `make()` on the first process with all of them.

    Args:
      make: returns JSON types; called on the first process only.

    Raises:
      Exception: as `each_says`.
    """
    return each_says(lambda: make() if is_first() else None)[0]


def each_says(make: Callable[[], Any]) -> list[Any]:
    """Shares the value of `make()` on every process with all of them, in their order.

    Args:
      make: returns JSON types.

    Raises:
      Exception: on all processes, where `make` raises on one of them: there what it raises, and a
        ValueError, OSError or FloatingPointError on the others as well; of another kind, a
        RuntimeError.
    """
    if jax.process_count() == 1:
        return [make()]
    raised = None
    try:
        said = {'value': make()}
    except Exception as error:
        raised = error
        kinds = [name for name, known in _ERRORS.items() if isinstance(error, known)]
        kind, text = kinds[0] if kinds else 'RuntimeError', str(error)
        said = {'error': kind, 'text': text if kinds else f'{type(error).__name__}: {text}'}
    all_said = [json.loads(text) for text in _exchanged(json.dumps(said).encode())]
    if raised is not None:
        raise raised
    for said in all_said:
        if 'error' in said:
            raise _ERRORS.get(said['error'], RuntimeError)(said['text'])
    return [said['value'] for said in all_said]


def on_all(make: Callable[[], Any]) -> Any:
    """Returns the value of `make()` once it has one on every process.

    Args:
      make: called on every process.

    Raises:
      Exception: as `each_says`.
    """
    made = []
    each_says(lambda: made.append(make()))
    return made[0]


def any_process(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set on any process; the same on all of them.

    Args:
      *flags: of this process; as many on all of them.
    """
    if jax.process_count() == 1:
        return flags
    found = multihost_utils.process_allgather(np.array(flags))
    return tuple(bool(flag) for flag in found.any(axis=0))


def _exchanged(message: bytes) -> list[bytes]:
    """The messages of all processes."""
    lengths = multihost_utils.process_allgather(np.int32(len(message)))
    content = np.zeros(lengths.max(), np.uint8)
    content[: len(message)] = np.frombuffer(message, np.uint8)
    contents = np.asarray(multihost_utils.process_allgather(content), np.uint8)
    return [bytes(one[:length]) for one, length in zip(contents, lengths, strict=True)]
