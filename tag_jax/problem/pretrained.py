"""Values that an encoder begins with, in place of those that it draws."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax.problem.names import by_names, layout, names_of
from tag_jax.problem.unfit import MORE_COLUMNS, shapes_of

# The attribute under which nnx.LoRA holds the layer that it wraps.
_BASE = 'base_module'


def beginning_with(
    init: Callable,
    params: Any,
    state: Any = None,
    example_inputs: Any = None,
) -> Callable:
    """`init`, with given values in place of those that it draws.

    A warning names state that a module has and that does not come with the parameters of its layer,
    such as the running statistics of BatchNorm.

    Args:
      init: `key -> (params, state)`.
      params: values for all or some of the parameters, nested dicts.
      state: values for all or some of the state; None where state is no part of what is given.
      example_inputs: inputs that the shapes of parameters follow from; None if they follow from
        none.

    Returns:
      `key -> (params, state)`.

    Raises:
      ValueError: if a value is of no parameter, of another shape than it, or not finite.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    known = (
        _fitting(shapes[0], params, 'parameter', example_inputs),
        _fitting(shapes[1], {} if state is None else state, 'state', example_inputs),
    )
    if state is not None:
        _warn_of_state(*map(by_names, shapes), *known)

    def init_with(key):
        return tuple(
            jax.tree_util.tree_map_with_path(
                lambda path, leaf, values=values: _given(values.get(names_of(path)), leaf), tree
            )
            for tree, values in zip(init(key), known, strict=True)
        )

    return init_with


def check_finite(values: Any, where: str, infinities: bool = False) -> None:
    """Raises ValueError at NaN in given values.

    Args:
      values: pytree of NumPy arrays.
      where: what holds them, for the error.
      infinities: whether they may hold infinities.
    """
    wrong = np.isnan if infinities else lambda array: ~np.isfinite(array)
    for names, array in by_names(values).items():
        if jnp.issubdtype(array.dtype, jnp.floating) and wrong(array).any():
            raise ValueError(
                f'{where} has values that are not finite in {"/".join(names)!r}: no network can '
                'begin with them, so give it other weights'
            )


def _given(value, leaf):
    return leaf if value is None else jnp.asarray(value)


def _fitting(like, values, what, example_inputs):
    """`{names on the way: array}` of given values, which fit what they replace."""
    wanted = by_names(like)
    found = {}
    for names, value in by_names(values).items():
        name, shape = '/'.join(names), np.shape(value)
        if names not in wanted:
            mend = _mend_of_names(names, wanted) or f'it has {layout(like)}'
            raise ValueError(
                f'pretrained has the {what} {name!r}, which the encoder has not: {mend}'
            )
        if shape != wanted[names].shape:
            raise ValueError(
                f'pretrained has {name!r} of shape {list(shape)}, and the encoder '
                f'{list(wanted[names].shape)}{_for_inputs(example_inputs)}'
            )
        found[names] = np.asarray(value).astype(wanted[names].dtype)
    # State may hold infinities on purpose: a mask of attention does.
    nested = {'/'.join(names): array for names, array in found.items()}
    check_finite(nested, 'pretrained', infinities=what == 'state')
    return found


def _for_inputs(example_inputs):
    """The inputs that shapes of an encoder follow from, for an error; '' if there are none."""
    if example_inputs is None:
        return ''
    return f' for inputs of shape {shapes_of(example_inputs)}: {MORE_COLUMNS}'


def _mend_of_names(names, wanted):
    """The mend where the encoder has a value under other names; '' if it has it under none."""
    name = '/'.join(names)
    for n in range(1, len(names)):
        if names[n:] in wanted:
            return f'give what pretrained has under {"/".join(names[:n])!r} alone'
    for other in wanted:
        if _BASE not in names and tuple(part for part in other if part != _BASE) == names:
            return (
                f'it has {"/".join(other)!r}, since LoRA renames the weights of its layer. Leave '
                'pretrained out, and put the adapters around a copy, nnx.clone(backbone), in the '
                'function that makes the encoder (docs/frozen.md)'
            )
        if other[-len(names) :] == names:
            under = '/'.join(other[: -len(names)])
            return f'it has {"/".join(other)!r}, so give {name!r} under {under!r}'
    if tuple(part for part in names if part != _BASE) in wanted:
        return (
            'it has no LoRA around that layer. Put the same adapters into the function that makes '
            'the encoder'
        )
    return ''


def _warn_of_state(
    params: Mapping, state: Mapping, given_params: Mapping, given_state: Mapping
) -> None:
    """Warns of state that is not given, in layers whose parameters are.

    Args:
      params, state: `{names: shape}` that the encoder has.
      given_params, given_state: `{names: array}` of them that are given.
    """

    def is_left(names):
        # State of Linen lies under the name of its collection, 'batch_stats', say.
        for layer in (names[:-1], names[1:-1]):
            if own := [other for other in params if other[:-1] == layer]:
                return any(other in given_params for other in own)
        return len(given_params) == len(params)

    if left := ['/'.join(one) for one in state if one not in given_state and is_left(one)]:
        logging.warning(
            'pretrained has parameters of the encoder without the state that belongs to them: %s '
            'begins as in a new module (running statistics of BatchNorm at 0 and 1). Give all '
            "variables: {'params': ..., 'batch_stats': ...} of Linen, the module itself or "
            'nnx.state(module) of NNX',
            ', '.join(left[:4]) + ', ...' * (len(left) > 4),
        )
