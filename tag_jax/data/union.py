"""One split out of a split for each task: every example has the labels that it has."""

from collections.abc import Mapping, Sequence

import numpy as np

from tag_jax.data.dataset import Split
from tag_jax.data.overlaps import has_label
from tag_jax.data.source import Source


def union(parts: Mapping[str, Split | Source]) -> Split | Source:
    """Joins examples of different tasks: schools, domains, a suite of datasets.

    A network draws its batches from rows that have a label of one of its tasks.

    Args:
      parts: `{task: Split or Source}`; each has targets of its task, and maybe masks of them.
        Inputs are of one shape and structure: where those of tasks differ, a dict with an entry for
        each, filled with zeros where an example has none.

    Returns:
      A `Split`, rows of the first part first, or a `Source` if one of the parts is. Targets are 0
      behind a mask where an example is of another task.

    Raises:
      ValueError: if there is no part, one has no targets of its task, or inputs differ in shape,
        structure or kind of numbers (of a `Source` the first example is looked at).
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
        known = np.ones(sizes[task], bool) if known is None else np.asarray(known)
        masks[task] = np.zeros((total, *known.shape[1:]), known.dtype)
        masks[task][rows] = known
    inputs = [part.inputs for part in parts.values()]
    one_of_each = [_mapped(lambda array: np.asarray(array)[0], one) for one in inputs]
    _check_alike(list(parts), one_of_each)
    return Split(_joined(inputs), targets, masks)


def _source(parts):
    sizes = [
        len(part) if isinstance(part, Source) else _size(_first_leaf(part.inputs))
        for part in parts.values()
    ]
    ends, names = np.cumsum(sizes), list(parts)
    firsts = {task: _example(part, 0) for task, part in parts.items()}
    _check_alike(names, [one.inputs for one in firsts.values()])
    targets = {task: np.zeros_like(_targets_of(task, one)) for task, one in firsts.items()}
    masks = {task: np.zeros_like(_mask_of(task, one)) for task, one in firsts.items()}

    def decode(row):
        place = int(np.searchsorted(ends, row, side='right'))
        task = names[place]
        one = _example(parts[task], row - int(ends[place] - sizes[place]))
        known = _mask_of(task, one)
        if known.shape != masks[task].shape:
            raise ValueError(
                f'the mask of {task!r} is {list(known.shape)} an example in row {row}, and '
                f'{list(masks[task].shape)} in the first of its part: give it always, in one shape'
            )
        return Split(one.inputs, targets | {task: _targets_of(task, one)}, masks | {task: known})

    def labelled(tasks: Sequence[str]) -> np.ndarray:
        starts = dict(zip(names, ends - sizes, strict=True))
        own = [_labelled(task, parts[task]) + starts[task] for task in names if task in tasks]
        return np.concatenate(own)

    return Source(decode, int(ends[-1]), labelled=labelled)


def _labelled(task, part):
    """The rows of a part that have a label, as far as that is known without reading them."""
    if not isinstance(part, Source):
        size = _size(_first_leaf(part.inputs))
        return np.flatnonzero(has_label((part.mask or {}).get(task), size))
    return np.arange(len(part)) if part.labelled is None else np.sort(part.labelled((task,)))


def _mask_of(task, one):
    """The mask of one example, of the shape that it has there; true where it is left out."""
    known = (one.mask or {}).get(task)
    return np.asarray(True if known is None else known)


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


def _joined(inputs):
    """Inputs of one form, one after another, which may be nested."""
    first = inputs[0]
    if isinstance(first, Mapping):
        return {key: _joined([one[key] for one in inputs]) for key in first}
    if isinstance(first, tuple | list):
        parts = [_joined(part) for part in zip(*inputs, strict=True)]
        return type(first)(*parts) if hasattr(first, '_fields') else type(first)(parts)
    return np.concatenate(inputs)


def _check_alike(names, inputs):
    """Raises ValueError unless the inputs of one example of each part are of one form."""
    first = inputs[0]
    for name, one in zip(names, inputs, strict=True):
        same = isinstance(one, Mapping) == isinstance(first, Mapping)
        same &= isinstance(one, tuple | list) == isinstance(first, tuple | list)
        if isinstance(first, Mapping):
            same = same and one.keys() == first.keys()
        elif isinstance(first, tuple | list):
            same = same and len(one) == len(first)
        if not same:
            raise ValueError(
                f'the inputs of {name!r} are not those of {names[0]!r}: let all parts have the '
                'same inputs, filled with zeros where an example has none'
            )
    if isinstance(first, Mapping | tuple | list):
        for key in first if isinstance(first, Mapping) else range(len(first)):
            _check_alike(names, [one[key] for one in inputs])
        return
    arrays = [np.asarray(one) for one in inputs]
    form = lambda array: (array.shape, 'i' if array.dtype.kind in 'iu' else array.dtype.kind)
    for name, array in zip(names, arrays, strict=True):
        if form(array) != form(arrays[0]):
            raise ValueError(
                f'inputs of {name!r} are {_form(array)} an example, and those of {names[0]!r} '
                f'{_form(arrays[0])}: fill them up to one shape, or give a dict of inputs'
            )


def _form(array):
    return f'{array.dtype} {list(array.shape)}'


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
