"""Parameters in parts: each device of a mesh holds a part of every array, and none holds all.

By default a parameter is split along its largest axis that the devices of the batch axis divide
(Rajbhandari et al. 2020, Section 5.3: the third stage of ZeRO). Moments of an optimizer and best
copies lie as their parameters do. The compiler gathers a parameter where it is used, or moves the
examples where that takes fewer bytes; results are those of one device up to rounding.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tag_jax import parallel
from tag_jax.problem import MultiTaskProblem, names_of, split_frozen

# Arrays that are shaped like no parameter (Gram matrices, state of a model) stay whole up to this
# many numbers: splitting them would only cost time.
MOST_WHOLE = 2**16
_SHARED, _FROZEN = 'shared', 'frozen'


class Part(NamedTuple):
    """One parameter and how it is split.

    Attributes:
      names: on the way to it, such as `('shared', 'dense', 'kernel')`.
      shape: its shape, a tuple of integers.
      spec: a `jax.sharding.PartitionSpec`.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    spec: PartitionSpec


def check_rule(shard_parameters: Any) -> None:
    """Raises ValueError unless this says how parameters are split.

    Args:
      shard_parameters: what was given, see `TrainingConfig.shard_parameters`.
    """
    if isinstance(shard_parameters, bool):
        return
    if isinstance(shard_parameters, Mapping):
        for pattern, spec in shard_parameters.items():
            _check_spec(spec, f'shard_parameters[{pattern!r}]')
            try:
                re.compile(pattern)
            except (TypeError, re.error) as error:
                raise ValueError(
                    f'shard_parameters has the pattern {pattern!r}, which is no regular '
                    f'expression ({error}): every parameter whose name ends in kernel is '
                    "'kernel$', and all of them are '.*'"
                ) from error
        if shard_parameters:
            return
    if isinstance(shard_parameters, type) or not callable(shard_parameters):
        raise ValueError(
            'shard_parameters must be true or false, a dict {pattern: PartitionSpec}, or a '
            f'function (path, shape) -> PartitionSpec or None, not {shard_parameters!r}'
        )


def parts_of(
    problem: MultiTaskProblem, mesh: Mesh | None, shard_parameters: Any
) -> tuple[Part, ...]:
    """Decides how every parameter of a problem is split, frozen ones among them.

    Args:
      problem: a `MultiTaskProblem`.
      mesh: a `Mesh`, or None for one device.
      shard_parameters: see `TrainingConfig.shard_parameters`.

    Returns:
      A `Part` for each parameter, hashable; an empty tuple where all of them stay whole.

    Raises:
      ValueError: if a rule names no parameter, or asks for what the devices do not divide.
    """
    if shard_parameters is False or mesh is None:
        return ()
    devices = mesh.shape[parallel.BATCH]
    params, model_state = problem.shapes
    _, frozen = split_frozen(model_state)
    leaves = [(names_of(path), x.shape) for path, x in _leaves(params)]
    leaves += [((_FROZEN, *names_of(path)), x.shape) for path, x in _leaves(frozen)]
    called = lambda names: (_SHARED, *names[1:]) if names[0] == _FROZEN else names
    asked = _asked(shard_parameters, [(called(names), shape) for names, shape in leaves])
    found = []
    for (names, shape), spec in zip(leaves, asked, strict=True):
        if spec is None:
            spec = along_largest_axis(shape, devices)
        else:
            _check_fit('/'.join(called(names)), shape, spec, devices)
        found.append(Part(names, tuple(shape), spec))
    if not any(parallel.BATCH in _axes(part.spec) for part in found):
        raise ValueError(
            f'shard_parameters splits nothing: no parameter has an axis that {devices} devices '
            'divide; choose another mesh, or leave shard_parameters out'
        )
    return tuple(found)


def along_largest_axis(shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """Splits an array along its largest axis that the devices divide, the first of equals.

    Args:
      shape: of the array.
      devices: along the batch axis of the mesh.

    Returns:
      A `PartitionSpec`; an empty one, which leaves the array whole, where there is no such axis.
    """
    fitting = [n for n, size in enumerate(shape) if size and size % devices == 0]
    if not fitting:
        return PartitionSpec()
    axis = max(fitting, key=lambda n: shape[n])
    return PartitionSpec(*[None] * axis, parallel.BATCH)


def constrain(mesh: Mesh | None, parts: tuple[Part, ...], tree: Any, *axes: str | None) -> Any:
    """A pytree under jit that lies as its parameters do; without parts as `parallel.constrain`.

    Args:
      mesh: a `Mesh`, or None for one device, where nothing is done.
      parts: see `parts_of`.
      tree: pytree of arrays: parameters, state of an optimizer, several of them.
      *axes: of the mesh, for axes in front of those of the parameters.
    """
    if not parts:
        return parallel.constrain(mesh, tree, *axes)
    return jax.lax.with_sharding_constraint(tree, _shardings(mesh, parts, tree, axes))


def place(mesh: Mesh | None, parts: tuple[Part, ...], tree: Any, *axes: str | None) -> Any:
    """A pytree on the devices as its parameters lie there; without parts whole on every device.

    Args:
      mesh: a `Mesh`, or None for one device. Of several processes each has all of the arrays.
      parts: see `parts_of`.
      tree: pytree of arrays, of the host best: they go to the devices part by part.
      *axes: of the mesh, for axes in front of those of the parameters.
    """
    if not parts:
        return parallel.place(mesh, tree)
    shardings = _shardings(mesh, parts, tree, axes)
    if not parallel.spans_processes(mesh):
        return jax.device_put(tree, shardings)

    def put(x, sharding):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, tree, shardings)


def _shardings(mesh, parts, tree, axes):
    """A `NamedSharding` for every array of a tree."""
    by_names = {part.names: part for part in parts}
    # Moving averages of task gradients, `[T, *param]`, have no names.
    stacked = {part.shape: part.spec for part in reversed(parts) if len(part.shape) > 1}
    devices = mesh.shape[parallel.BATCH]

    def sharding(path, leaf):
        names, shape = names_of(path), leaf.shape[len(axes) :]
        ends = (names[n:] for n in range(len(names)))
        part = next((by_names[end] for end in ends if end in by_names), None)
        if part is not None and part.shape == shape:
            spec = part.spec
        elif shape[1:] in stacked:
            spec = PartitionSpec(None, *stacked[shape[1:]])
        elif np.prod(shape) > MOST_WHOLE:
            spec = along_largest_axis(shape, devices)
        else:
            spec = PartitionSpec()
        return NamedSharding(mesh, PartitionSpec(*axes, *spec))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def _asked(rule, leaves):
    """The answer of a rule for each parameter: a PartitionSpec, or None for the default."""
    if rule is True:
        return [None] * len(leaves)
    if isinstance(rule, Mapping):
        joined = ['/'.join(names) for names, _ in leaves]
        for pattern in rule:
            if not any(re.search(pattern, name) for name in joined):
                raise ValueError(
                    f'shard_parameters has the pattern {pattern!r}, which matches no parameter: '
                    f'there are {_some(joined)}'
                )
        matching = lambda name: [spec for key, spec in rule.items() if re.search(key, name)]
        return [next(iter(matching(name)), None) for name in joined]
    found = [_answer(rule, names, shape) for names, shape in leaves]
    if all(spec is None for spec in found):
        raise ValueError(
            'the function given as shard_parameters returns None for every parameter, of '
            f'{_some(["/".join(names) for names, _ in leaves])}: give shard_parameters=True for '
            'the default'
        )
    return found


def _answer(rule: Callable, names, shape):
    spec = rule(names, tuple(shape))
    if spec is not None:
        _check_spec(spec, f'shard_parameters of {"/".join(names)!r}')
    return spec


def _check_spec(spec, what):
    if not isinstance(spec, PartitionSpec):
        raise ValueError(f'{what} must be a jax.sharding.PartitionSpec, not {spec!r}')


def _check_fit(name, shape, spec, devices):
    """Raises ValueError unless a parameter can be split so."""
    axes = _axes(spec)
    if unknown := [axis for axis in axes if axis != parallel.BATCH]:
        raise ValueError(
            f'{spec} of {name!r} names the axis {unknown[0]!r}: parameters are split along '
            f'{parallel.BATCH!r}, the axis of the mesh that the examples lie along'
        )
    if len(spec) > len(shape):
        raise ValueError(f'{spec} of {name!r} has {len(spec)} entries for its shape {list(shape)}')
    if len(axes) > 1:
        raise ValueError(f'{spec} of {name!r} names the axis {parallel.BATCH!r} more than once')
    for size, entry in zip(shape, spec, strict=False):
        if entry not in (None, ()) and size % devices:
            raise ValueError(
                f'{spec} does not divide {name!r} of shape {list(shape)}: {size} entries cannot '
                f'be split evenly over {devices} devices'
            )


def _axes(spec):
    """The names of the axes in a PartitionSpec."""
    entries = [entry if isinstance(entry, tuple) else (entry,) for entry in spec]
    return [axis for entry in entries for axis in entry if axis is not None]


def _leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def _some(names):
    return ', '.join(names[:8]) + ', ...' * (len(names) > 8)
