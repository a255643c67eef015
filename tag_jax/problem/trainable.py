"""Frozen parameters of an encoder: which they are, and how they stay apart from those that train.

Frozen parameters are no part of `params`. `init` returns them in `model_state['frozen']`; they are
the same for every key, so that networks side by side can share them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tag_jax.problem.names import by_names, layout, names_of
from tag_jax.problem.pretrained import beginning_with, check_finite

_FROZEN = 'frozen'
# The key of the frozen parameters that are drawn and not given.
_FIXED_KEY = 0


class Frozen(NamedTuple):
    """The parameters of an encoder that do not train.

    Attributes:
      values: `() -> frozen parameters`, NumPy arrays, the same at every call: devices hold them
        where they are put, once.
      join: `(shared, frozen parameters) -> all parameters of the encoder`.
    """

    values: Callable
    join: Callable


class Encoder(NamedTuple):
    """An encoder as functions, which knows what of it trains.

    Attributes:
      init: `key -> (shared, state)`, with the parameters that train only.
      apply: `(whole parameters, state, inputs, train, key) -> (representation, state)`.
      frozen: its frozen parameters; None if all of them train.
    """

    init: Callable
    apply: Callable
    frozen: Frozen | None = None


def split_frozen(model_state: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Parts a model state from frozen parameters.

    Args:
      model_state: what `MultiTaskProblem.init` gives.

    Returns:
      The model state without them, and the frozen parameters; None if there are none.
    """
    rest = {name: value for name, value in model_state.items() if name != _FROZEN}
    return rest, model_state.get(_FROZEN)


def on_device(frozen: Frozen | None) -> Any:
    """Frozen parameters as JAX arrays, traced or on the device.

    Args:
      frozen: a `Frozen`, or None, which gives None.
    """
    return frozen and jax.tree.map(jnp.asarray, frozen.values())


def with_frozen(model_state: Mapping[str, Any], frozen: Any) -> dict[str, Any]:
    """Joins a model state and frozen parameters again.

    Args:
      model_state: without them.
      frozen: the frozen parameters; None if there are none.
    """
    return {**model_state} if frozen is None else {**model_state, _FROZEN: frozen}


def frozen_encoder(
    init: Callable,
    apply: Callable,
    trainable: Any = None,
    pretrained: Any = None,
    parts: Callable[[Any], tuple[Any, Any]] | None = None,
    example_inputs: Any = None,
) -> Encoder:
    """An encoder of which some parameters train.

    Args:
      init: `key -> (params, state)`, all parameters.
      apply: `(params, state, inputs, train, key) -> (representation, state)`.
      trainable: None for all parameters; a predicate `(path) -> bool` over the names on the way to
        a parameter, `('dense', 'kernel')`, say; or a pytree of bool like the parameters, or of
        their upper levels.
      pretrained: parameters to begin with, shaped like all or some of them; None to draw them.
      parts: `pretrained -> (params, state)`; None if it holds parameters only.
      example_inputs: inputs that the shapes of parameters follow from; None if from none.

    Returns:
      An `Encoder`.

    Raises:
      ValueError: if nothing of `trainable` or `pretrained` fits the parameters, or given values
        are not finite; from `Frozen.values`, if frozen parameters that are drawn are not finite.
    """
    if pretrained is not None:
        given = parts(pretrained) if parts else (pretrained,)
        init = beginning_with(init, *given, example_inputs=example_inputs)
    if trainable is None:
        return Encoder(init, apply)
    shapes, _ = jax.eval_shape(init, jax.random.key(_FIXED_KEY))
    trains = _mask(trainable, shapes)
    if jax.tree.all(trains):
        return Encoder(init, apply)

    def init_trained(key):
        params, state = init(key)
        return _part(params, trains, True), state

    # The same for every key, also where `init` is traced: concrete arrays, computed once, in the
    # memory of the host, since no device may have room for all of them.
    @functools.cache
    def values():
        with jax.ensure_compile_time_eval(), jax.default_device(_host_device()):
            params, _ = init(jax.random.key(_FIXED_KEY))
            frozen = jax.tree.map(np.asarray, _part(params, trains, False))
        check_finite(frozen, 'the frozen part of the encoder')
        return frozen

    paths, structure = jax.tree_util.tree_flatten_with_path(shapes)

    def join(shared, frozen):
        by_path = dict(jax.tree_util.tree_leaves_with_path(shared))
        by_path |= jax.tree_util.tree_leaves_with_path(frozen)
        return jax.tree.unflatten(structure, [by_path[path] for path, _ in paths])

    return Encoder(init_trained, apply, Frozen(values, join))


def no_parameter(shapes: Any, mend: str) -> ValueError:
    """The error of a `trainable` that names no parameter.

    Args:
      shapes: the parameters of the encoder.
      mend: what to give in its place.
    """
    return ValueError(
        'trainable names no parameter of the encoder, so that no task could affect another '
        f'({mend}): it has {layout(shapes)}'
    )


def by_name(text: str) -> str:
    """The mend of text that is given as `trainable`.

    Args:
      text: what was given.
    """
    return f'a predicate filters by name: trainable=lambda path: {text!r} in "/".join(path)'


def _mask(trainable, shapes):
    """Which parameters train, a pytree of bool like the parameters."""
    if isinstance(trainable, type):
        raise ValueError(
            'trainable must be a function of a path, or a pytree of bool, not '
            f'{trainable.__name__}: types of variables are for modules of NNX'
        )
    if isinstance(trainable, str):
        raise ValueError(f'trainable must not be text, {trainable!r}: {by_name(trainable)}')
    if callable(trainable):
        found = jax.tree_util.tree_map_with_path(
            lambda path, _: bool(trainable(names_of(path))), shapes
        )
    else:
        found = _broadcast(trainable, shapes)
    if not any(jax.tree.leaves(found)):
        mend = 'it is false for all'
        if callable(trainable) and (names := next(iter(by_names(shapes)), None)):
            mend = f'a path is a tuple of names, such as {names!r}'
        raise no_parameter(shapes, mend)
    return found


def _broadcast(trainable, shapes):
    """A pytree of bool, over all of the parameters."""
    try:
        found = jax.tree.broadcast(trainable, shapes)
    except ValueError as error:
        raise ValueError(
            'trainable must be a function of a path, or a pytree of bool like the parameters '
            f'of the encoder, {layout(shapes)}'
        ) from error
    for leaf in jax.tree.leaves(found):
        if not isinstance(leaf, bool | np.bool_):
            raise ValueError(f'trainable must hold true or false, not {leaf!r}')
    return found


def _part(params, trains, which):
    """Parameters of one side: dicts without the others, which are None in other containers."""
    if isinstance(params, Mapping):
        parts = {name: _part(value, trains[name], which) for name, value in params.items()}
        return {name: part for name, part in parts.items() if jax.tree.leaves(part)}
    return jax.tree.map(lambda x, on: x if on == which else None, params, trains)


def _host_device():
    """The CPU; None, which stands for the usual device, where JAX was told to know no CPU."""
    try:
        return jax.local_devices(backend='cpu')[0]
    except RuntimeError:
        return None
