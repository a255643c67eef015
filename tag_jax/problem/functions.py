"""Problems from plain functions of arrays."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tag_jax import objectives
from tag_jax.problem.modes import MODES
from tag_jax.problem.problem import MultiTaskProblem
from tag_jax.problem.trainable import frozen_encoder, on_device, with_frozen


def from_functions(
    init: Callable,
    encode: Callable,
    decode: Mapping[str, Callable],
    tasks: Mapping[str, Any],
    trainable: Any = None,
    pretrained: Any = None,
    remat: Any = None,
) -> MultiTaskProblem:
    """A problem from plain functions of arrays.

    Args:
      init: `key -> params`, or `key -> (params, model_state)`; both are
        `{'shared': ..., 'heads': {task: ...}}`.
      encode: `(shared, inputs) -> representation`. It may also take, by name, its mode (`train`,
        or `deterministic`, its opposite) and a key for what is random (`key`, or `rng` or
        `dropout_rng`), which is None in evaluation. With five parameters it is the full form of
        `MultiTaskProblem.encode`, state included.
      decode: `{task: (head, representation) -> output}`, in the same forms.
      tasks: `{task: Objective}`.
      trainable: which parameters of the encoder train: a predicate `(path) -> bool` over the names
        on the way to a parameter, or a pytree of bool; None for all. The others are frozen, and
        `init` returns them in `model_state['frozen']`.
      pretrained: parameters that the encoder begins with, all or some of them. Frozen parameters
        that it lacks are those of `init` with a fixed key. Model state is always that of `init`.
      remat: what of the encoder is computed again in the backward pass, and not remembered, to save
        memory: True, or a policy of `jax.checkpoint_policies` or its name, see `MultiTaskProblem`.

    Returns:
      A `MultiTaskProblem`.

    Raises:
      ValueError: see `MultiTaskProblem`; if a function takes anything else without a default; when
        it is initialised, if init returns anything else; if `trainable` or `pretrained` does not
        fit the encoder.
    """
    objectives.check_tasks(tasks)
    task_names = tuple(tasks)

    def init_with_state(key):
        made = init(key)
        nothing = {'shared': {}, 'heads': {task: {} for task in task_names}}
        params, state = made if isinstance(made, tuple) else (made, nothing)
        for tree in (params, state):
            if set(tree) != {'shared', 'heads'} or set(tree['heads']) != set(task_names):
                raise ValueError(
                    "init must return {'shared': ..., 'heads': {task: ...}}, with a head for each "
                    f'of {", ".join(task_names)}'
                )
        return params, state

    if trainable is None and pretrained is None:
        whole_init, frozen = init_with_state, None
    else:
        whole_init, frozen = _with_frozen_part(init_with_state, encode, trainable, pretrained)
    if not isinstance(decode, Mapping):
        raise ValueError('decode must be a dict with an entry for each task')
    return MultiTaskProblem(
        tasks,
        whole_init,
        full_form(encode),
        {task: full_form(function) for task, function in decode.items()},
        frozen,
        remat,
    )


def _with_frozen_part(init, encode, trainable, pretrained):
    """`init` and the `Frozen` of a problem of which some parameters are frozen."""

    def of_encoder(key):
        params, state = init(key)
        return params['shared'], state['shared']

    encoder = frozen_encoder(of_encoder, full_form(encode), trainable, pretrained)

    def init_apart(key):
        params, state = init(key)
        shared, _ = encoder.init(key)
        return {**params, 'shared': shared}, with_frozen(state, on_device(encoder.frozen))

    return init_apart, encoder.frozen


def full_form(function: Callable) -> Callable:
    """`(params, inputs, ...)` in the form `(params, state, inputs, train, key)` of a problem.

    Args:
      function: see `from_functions`.

    Raises:
      ValueError: if it needs anything that is never passed.
    """
    parameters = inspect.signature(function).parameters
    if len(parameters) == 5 and len(set(parameters) - set(MODES)) >= 3:
        # Parameters, state and inputs are no modes, whatever the others are called.
        return function
    plain = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    others = list(parameters.values())[2:]
    for parameter in others:
        needed = parameter.default is parameter.empty and parameter.kind not in plain
        if needed and parameter.name not in MODES:
            raise ValueError(
                f'{getattr(function, "__name__", "a function")} takes {parameter.name!r}, which is '
                f'never passed: after parameters and inputs there are {", ".join(MODES)}'
            )
    names = [parameter.name for parameter in others if parameter.name in MODES]

    def full(params, state, inputs, train, key):
        mode = {name: MODES[name](train, key) for name in names}
        return function(params, inputs, **mode), state

    return full
