"""One split out of a split for each task: every example has the labels that it has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tag_jax.data.dataset import Split
from tag_jax.data.source import Source


def union(parts: Mapping[str, Split | Source]) -> Split | Source:
    """Joins examples of different tasks: schools, domains, a suite of datasets.

    A network draws its batches from rows that have a label of one of its tasks.

    Args:
      parts: `{task: Split or Source}`; each has targets of its task, and maybe masks of them.
        Inputs are of one shape and structure.

    Returns:
      A `Split`, rows of the first part first, or a `Source` if one of the parts is. Targets are 0
      behind a mask where an example is of another task.

    Raises:
      ValueError: if there is no part, one has no targets of its task, or inputs differ in shape;
        for a `Source` that is found when examples are read.
    """
    if not isinstance(parts, Mapping) or not parts:
        raise ValueError('parts must be a dict {task: Split or Source}, with at least one task')
    for task, part in parts.items():
        if not isinstance(part, Source) and not hasattr(part, 'inputs'):
            raise ValueError(
                f'the part of {task!r} must be a data.Split or a data.Source, not '
                f'{type(part).__name__}'
            )
    if any(isinstance(part, Source) for part in parts.values()):
        return _source(dict(parts))
    return _split(parts)


def _split(parts):
    sizes = {task: _size(_first_leaf(part.inputs)) for task, part in parts.items()}
    starts = dict(zip(parts, np.cumsum([0, *sizes.values()]), strict=False))
    total = sum(sizes.values())
    targets, masks = {}, {}
    for task, part in parts.items():
        own = _targets_of(task, part)
        rows = slice(starts[task], starts[task] + sizes[task])
        targets[task] = np.zeros((total, *own.shape[1:]), own.dtype)
        targets[task][rows] = own
        known = (part.mask or {}).get(task)
        known = np.ones(sizes[task], bool) if known is None else np.asarray(known, bool)
        masks[task] = np.zeros((total, *known.shape[1:]), bool)
        masks[task][rows] = known
    names = list(parts)
    return Split(_joined(names, [parts[task].inputs for task in names]), targets, masks)


def _source(parts):
    sizes = [
        len(part) if isinstance(part, Source) else _size(_first_leaf(part.inputs))
        for part in parts.values()
    ]
    ends, names = np.cumsum(sizes), list(parts)
    examples = {task: _example(part, 0) for task, part in parts.items()}
    blank = {
        task: np.zeros(np.shape(_targets_of(task, one)), np.asarray(_targets_of(task, one)).dtype)
        for task, one in examples.items()
    }

    def decode(row):
        place = int(np.searchsorted(ends, row, side='right'))
        task = names[place]
        one = _example(parts[task], row - int(ends[place] - sizes[place]))
        known = (one.mask or {}).get(task)
        known = np.bool_(True) if known is None else known
        mask = {other: np.zeros(np.shape(known), bool) for other in names} | {task: known}
        return Split(one.inputs, blank | {task: _targets_of(task, one)}, mask)

    def labelled(tasks: Sequence[str]) -> np.ndarray:
        wanted = [n for n, name in enumerate(names) if name in tasks]
        return np.concatenate([np.arange(ends[n] - sizes[n], ends[n]) for n in wanted])

    return Source(decode, int(ends[-1]), labelled=labelled)


def _example(part, row):
    """One example, without the leading axis."""
    if isinstance(part, Source):
        return part[row]
    take = lambda array: np.asarray(array)[row]
    mask = part.mask and {task: take(known) for task, known in part.mask.items()}
    return Split(
        _mapped(take, part.inputs), {task: take(own) for task, own in part.targets.items()}, mask
    )


def _targets_of(task, part):
    if task not in part.targets:
        raise ValueError(
            f'the part of {task!r} has no targets of that name: it has {", ".join(part.targets)}'
        )
    return np.asarray(part.targets[task])


def _joined(names: Sequence[str], inputs: Sequence[Any]):
    """Inputs one after another, which may be nested."""
    first = inputs[0]
    if isinstance(first, Mapping):
        for name, one in zip(names, inputs, strict=True):
            if not isinstance(one, Mapping) or one.keys() != first.keys():
                raise ValueError(f'the inputs of {name!r} are not those of {names[0]!r}')
        return {key: _joined(names, [one[key] for one in inputs]) for key in first}
    if isinstance(first, tuple | list):
        parts = [_joined(names, part) for part in zip(*inputs, strict=True)]
        return type(first)(*parts) if hasattr(first, '_fields') else type(first)(parts)
    arrays = [np.asarray(one) for one in inputs]
    for name, array in zip(names, arrays, strict=True):
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f'inputs of {name!r} are {list(array.shape[1:])} an example, and those of '
                f'{names[0]!r} {list(arrays[0].shape[1:])}: fill them up to one shape, or give a '
                'dict of inputs'
            )
    return np.concatenate(arrays)


def _mapped(function, inputs):
    if isinstance(inputs, Mapping):
        return {name: _mapped(function, part) for name, part in inputs.items()}
    if isinstance(inputs, tuple | list):
        parts = [_mapped(function, part) for part in inputs]
        return type(inputs)(*parts) if hasattr(inputs, '_fields') else type(inputs)(parts)
    return function(inputs)


def _first_leaf(inputs):
    while isinstance(inputs, Mapping | tuple | list):
        inputs = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs[0]
    return inputs


def _size(array):
    return len(np.asarray(array))
