"""Problems from Flax NNX modules."""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen, nnx

from tag_jax.problem import compose
from tag_jax.problem.modes import mode_arguments
from tag_jax.problem.problem import MultiTaskProblem
from tag_jax.problem.trainable import by_name, frozen_encoder, no_parameter
from tag_jax.problem.unfit import first_line

# What a module holds, in this order: parameters, random streams, what was sown, and state. The
# second is set afresh from a key; intermediates are neither trained nor carried on.
_KINDS = (nnx.Param, nnx.RngState, nnx.Intermediate, ...)


def from_nnx(
    make_encoder: Callable[[nnx.Rngs], nnx.Module],
    tasks: Mapping[str, Any],
    example_inputs: Any,
    heads: Mapping[str, Callable[[nnx.Rngs], nnx.Module]] | None = None,
    trainable: Any = None,
    pretrained: Any = None,
    remat: Any = None,
) -> MultiTaskProblem:
    """A problem from Flax NNX modules.

    Modules are switched with `train()` and `eval()`, and `train=` or `deterministic=` is passed
    to those whose `__call__` names it. Variables other than `nnx.Param` are model state; random
    streams are set afresh from the key of every call, so that a step can be repeated.

    Args:
      make_encoder: `nnx.Rngs -> nnx.Module`, inputs -> representation `[B, ...]`. It may clone a
        module from outside of it, but not change that one.
      tasks: `{task: Objective}`, as `Dataset.tasks` has them.
      example_inputs: inputs of any batch size; arrays or `jax.ShapeDtypeStruct`.
      heads: `{task: nnx.Rngs -> nnx.Module}`, representation -> output; tasks that it lacks get one
        `nnx.Linear` of the width of their objective.
      trainable: which parameters of the encoder train: an NNX filter, such as `nnx.LoRAParam`; a
        predicate `(path) -> bool` over the names on the way to a parameter; or a pytree of bool;
        None for all. The others are frozen, and `init` returns them in `model_state['frozen']`.
        Heads always train.
      pretrained: parameters that the encoder begins with, all or some of them: nested dicts, an
        `nnx.State` or a module. Frozen parameters that it lacks are those of
        `make_encoder(nnx.Rngs(...))` with a fixed key.
      remat: what of the encoder is computed again in the backward pass, and not remembered, to save
        memory: True, or a policy of `jax.checkpoint_policies` or its name, see `MultiTaskProblem`.

    Returns:
      A `MultiTaskProblem`.

    Raises:
      ValueError: if a module is given instead of a function that makes one, that function changes
        a module from outside of it, a module holds a plain array that is no `nnx.Variable` or
        cannot take its inputs, a head has not the width of its objective, tasks are not
        `{task: Objective}`, or `trainable` or `pretrained` does not fit the encoder.
    """
    functions, abstract = _functions(make_encoder, 'the encoder')
    example = jax.tree.map(compose.struct, example_inputs)
    whole = frozen_encoder(
        lambda key: functions.init(key, example),
        functions.apply,
        _by_filter(trainable, abstract),
        pretrained,
        _parts_of_module,
    )
    representation = compose.representation_of(
        lambda key: functions.init(key, example), functions.apply, example
    )

    @functools.cache
    def dense(width):
        features = compose.features_of(representation)
        return lambda rngs: nnx.Linear(features, width, rngs=rngs)

    modules = compose.heads_of_tasks(tasks, heads, dense)
    of_tasks = compose.functions_of_heads(modules, lambda make, what: _functions(make, what)[0])
    compose.check_heads({task: of_tasks[task] for task in heads or ()}, tasks, representation)
    return compose.compose(whole, of_tasks, tasks, representation, remat)


def _by_filter(trainable, abstract):
    """`trainable` as a predicate or a pytree of bool; NNX filters become the latter."""
    parameters = nnx.state(abstract, nnx.Param)
    if trainable is None:
        if jax.tree.leaves(nnx.state(abstract, nnx.LoRAParam)):
            logging.warning(
                'the encoder has adapters (nnx.LoRAParam), and all of its parameters train: pass '
                'trainable=nnx.LoRAParam to train the adapters alone'
            )
        return None
    if isinstance(trainable, Mapping) or _takes_a_path_alone(trainable):
        return trainable
    try:
        predicate = nnx.filterlib.to_predicate(trainable)
    except (TypeError, ValueError) as error:
        raise ValueError(
            'trainable must be a filter of NNX, such as nnx.LoRAParam, a predicate over names or a '
            f'pytree of bool, not {trainable!r}'
        ) from error
    chosen = nnx.to_pure_dict(nnx.map_state(predicate, parameters))
    if not any(jax.tree.leaves(chosen)):
        raise no_parameter(nnx.to_pure_dict(parameters), _mend_of_filter(trainable))
    return chosen


def _mend_of_filter(trainable):
    """The mend of a filter that names no parameter, for an error."""
    if isinstance(trainable, list | tuple) and trainable:
        return _mend_of_filter(trainable[0])
    if isinstance(trainable, str):
        return f'text is a tag of variables, and no name; {by_name(trainable)}'
    if not isinstance(trainable, type):
        return 'the filter is false for all of them'
    name = trainable.__name__
    if issubclass(trainable, nnx.Param):
        return f'none of them is an {name}'
    if issubclass(trainable, nnx.Variable):
        return (
            f'{name} is no subclass of nnx.Param, so that its variables are state, which no '
            f'gradient moves; class {name}(nnx.Param) makes them parameters'
        )
    return (
        f'{name} is no type of variables; give one, such as nnx.LoRAParam for the adapters of '
        'nnx.LoRA'
    )


def _takes_a_path_alone(trainable):
    """Whether this is a predicate `(path) -> bool`; a filter of NNX takes `(path, value)`."""
    if isinstance(trainable, type) or not callable(trainable):
        return False
    try:
        return len(inspect.signature(trainable).parameters) == 1
    except (TypeError, ValueError):
        return False


def _parts_of_module(pretrained):
    """(params, state) of a module, an `nnx.State` or nested dicts of parameters."""
    if isinstance(pretrained, nnx.Module):
        _, params, _, _, state = _split(pretrained)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(state)
    if isinstance(pretrained, nnx.State):
        is_variable = lambda leaf: isinstance(leaf, nnx.Variable)
        if all(map(is_variable, jax.tree.leaves(pretrained, is_leaf=is_variable))):
            params, _, _, state = nnx.split_state(pretrained, *_KINDS)
            return nnx.to_pure_dict(params), nnx.to_pure_dict(state)
        return nnx.to_pure_dict(pretrained), {}  # Bare arrays do not say what they are.
    return pretrained, {}


def _split(module):
    """(graph, parameters, random streams, what was sown, state); only the last two are arrays."""
    return nnx.split(module, *_KINDS)


def _functions(make, what):
    """`ModuleFunctions` of a module, and the module with shapes in place of arrays.

    Args:
      make: `nnx.Rngs -> nnx.Module`.
      what: a word for the module, for errors.
    """
    if isinstance(make, nnx.Module):
        raise ValueError(
            f'give a function from nnx.Rngs to a {type(make).__name__}, not the module itself'
        )
    if isinstance(make, linen.Module) or (
        isinstance(make, type) and issubclass(make, linen.Module)
    ):
        raise ValueError('this is a module of Linen: give it to from_linen')
    if not callable(make):
        raise ValueError(f'give a function from nnx.Rngs to a module, not {make!r}')
    try:
        abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    except flax.errors.TraceContextError as error:
        raise ValueError(
            f'the function that makes {what} changes a module from outside of it, which all '
            f'networks would share ({first_line(error)}): change a copy, made inside the function, '
            'as in lambda rngs: add_lora(nnx.clone(backbone), rngs)'
        ) from error
    for _, module in nnx.iter_modules(abstract):
        for name, value in vars(module).items():
            if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
                raise ValueError(
                    f'{type(module).__name__}.{name} is a plain array: make it an nnx.Param, or '
                    'an nnx.Variable if it is not trained'
                )
    graph, param_template, random_template, sown, state_template = _split(abstract)
    mode = mode_arguments(type(abstract).__call__)

    def init(key, struct):
        del struct
        _, params, _, _, state = _split(make(nnx.Rngs(key)))
        return nnx.to_pure_dict(params), nnx.to_pure_dict(state)

    def apply(params, state, inputs, train, key):
        if train and key is None and jax.tree.leaves(random_template):
            raise compose.missing_key(abstract)
        module = nnx.merge(
            graph,
            _filled(param_template, params),
            _seeded(random_template, jax.random.key(0) if key is None else key),
            sown,
            _filled(state_template, state),
        )
        module.train() if train else module.eval()
        output = module(inputs, **mode(train))
        return output, nnx.to_pure_dict(_split(module)[-1]) if train else state

    return compose.ModuleFunctions(init, apply), abstract


def _filled(template, values):
    """A copy of an `nnx.State` that holds the arrays of a plain dict."""
    filled = jax.tree.map(lambda leaf: leaf, template)
    nnx.replace_by_pure_dict(filled, jax.tree.map(jnp.asarray, values))
    return filled


def _seeded(template, key):
    """Random streams that start afresh: stream n from the key folded with n, all counts zero."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)

    def value(n, leaf):
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        stream = jax.random.fold_in(key, n)
        return jax.random.split(stream, leaf.shape) if leaf.shape else stream

    leaves, structure = jax.tree.flatten(template)
    return jax.tree.unflatten(structure, [value(n, leaf) for n, leaf in enumerate(leaves)])
