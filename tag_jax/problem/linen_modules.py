"""Problems from Flax Linen modules."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
from flax import linen

from tag_jax.problem import compose
from tag_jax.problem.modes import mode_arguments
from tag_jax.problem.problem import MultiTaskProblem
from tag_jax.problem.trainable import frozen_encoder
from tag_jax.problem.unfit import taking


def from_linen(
    encoder: linen.Module,
    tasks: Mapping[str, Any],
    example_inputs: Any,
    heads: Mapping[str, linen.Module] | None = None,
    trainable: Any = None,
    pretrained: Any = None,
    remat: Any = None,
) -> MultiTaskProblem:
    """A problem from Flax Linen modules.

    `train=` or `deterministic=` is passed to a module only if its `__call__` names it. Variables
    outside 'params' (BatchNorm statistics, say) are model state, updated while training.

    Args:
      encoder: a `linen.Module`, inputs -> representation `[B, ...]`.
      tasks: `{task: Objective}`, as `Dataset.tasks` has them.
      example_inputs: inputs of any batch size; arrays or `jax.ShapeDtypeStruct`.
      heads: `{task: linen.Module}`, representation -> output; tasks that it lacks get one
        `linen.Dense` of the width of their objective.
      trainable: which parameters of the encoder train: a predicate `(path) -> bool` over the names
        on the way to a parameter, or a pytree of bool; None for all. The others are frozen, and
        `init` returns them in `model_state['frozen']`. Heads always train.
      pretrained: parameters that the encoder begins with, all or some of them, as nested dicts; or
        its variables, `{'params': ..., 'batch_stats': ...}`. Frozen parameters that it lacks are
        drawn once, with a fixed key.
      remat: what of the encoder is computed again in the backward pass, and not remembered, to save
        memory: True, or a policy of `jax.checkpoint_policies` or its name, see `MultiTaskProblem`.

    Returns:
      A `MultiTaskProblem`.

    Raises:
      ValueError: if encoder or heads are no modules, one of them sows losses or cannot take its
        inputs, a head has not the width of its objective, tasks are not `{task: Objective}`, or
        `trainable` or `pretrained` does not fit the encoder.
    """
    functions = _functions(encoder, 'the encoder', 'inputs')
    example = jax.tree.map(compose.struct, example_inputs)
    whole = frozen_encoder(
        lambda key: functions.init(key, example),
        functions.apply,
        trainable,
        pretrained,
        _parts_of_variables,
        example,
    )
    representation = compose.representation_of(
        lambda key: functions.init(key, example), functions.apply, example
    )

    def dense(width):
        compose.features_of(representation)
        return linen.Dense(width)

    modules = compose.heads_of_tasks(tasks, heads, dense)
    of_tasks = compose.functions_of_heads(
        modules, lambda module, what: _functions(module, what, 'a representation')
    )
    compose.check_heads({task: of_tasks[task] for task in heads or ()}, tasks, representation)
    return compose.compose(whole, of_tasks, tasks, representation, remat)


def _parts_of_variables(pretrained):
    """(params, state) of given variables, or of given parameters."""
    if isinstance(pretrained, Mapping) and isinstance(pretrained.get('params'), Mapping):
        variables = dict(pretrained)
        return variables.pop('params'), variables
    return pretrained, {}


def _functions(module, what, takes):
    """`ModuleFunctions` of a module: what it is and what it takes are words for errors."""
    if isinstance(module, type) and issubclass(module, linen.Module):
        name = module.__name__
        raise ValueError(f'give a linen module, and not its class {name}: {name}()')
    if not isinstance(module, linen.Module):
        raise ValueError(f'encoder and heads must be linen modules, not {module!r}')
    mode = mode_arguments(type(module).__call__)

    def init(key, struct):
        try:
            with taking(what, struct, takes):
                variables = dict(module.lazy_init(key, struct, **mode(False)))
        except flax.errors.LazyInitError as error:
            raise _sown(module, _collections(module, struct, mode)) from error
        params = variables.pop('params', {})
        return params, variables

    def apply(params, state, inputs, train, key):
        variables = {'params': params, **state}
        try:
            if train and state:
                return module.apply(variables, inputs, mutable=list(state), rngs=key, **mode(True))
            return module.apply(variables, inputs, rngs=key, **mode(train)), state
        except flax.errors.InvalidRngError as error:
            raise compose.missing_key(module) from error
        except flax.errors.ModifyScopeVariableError as error:
            raise compose.untold_mode(module) from error

    return compose.ModuleFunctions(init, apply)


def _collections(module, struct, mode):
    """The names of the variables that `init` makes of some inputs, without parameters."""

    def init(inputs):
        return module.init(jax.random.key(0), inputs, **mode(False))

    return [name for name in jax.eval_shape(init, struct) if name != 'params']


def _sown(module, collections):
    """The error of variables that follow from the inputs, as what a module sows does."""
    where = ' or '.join(map(repr, collections)) or "'params'"
    return ValueError(
        f'{type(module).__name__} sows into {where}, or sets a variable there, what it computes '
        'from its inputs: no loss would have it. Return it with the representation and add it in '
        "the loss of a task, or sow it into 'intermediates' to look at it"
    )
