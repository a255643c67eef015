"""A multi-task problem: the pure functions that define it, and the batch they are applied to.

Everything above this floor (gradients, affinities, training) sees a model only through a
`MultiTaskProblem`. Build one from Flax modules with `from_nnx` or `from_linen`, from plain
functions with `from_functions`, or directly.
"""

import dataclasses
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from flax import linen, nnx


class Batch(NamedTuple):
    """Examples with the targets of every task.

    Attributes:
      inputs: array `[B, ...]`, or a pytree of such arrays.
      targets: `{task: [B, ...]}`.
      mask: `{task: bool [B] or [B, H, W]}`, true where a label exists; a task that is left out has
        all its labels, and so have all tasks where `mask` is None.
    """

    inputs: Any
    targets: Mapping[str, jax.Array]
    mask: Mapping[str, jax.Array] | None = None

    def labels(self, task: str) -> tuple[jax.Array, jax.Array]:
        """The targets of a task, zero where there is no label, and where there is one (bool).

        No loss or metric sees a masked target: its value may be NaN, which an outer `where` alone
        would let into the gradient.

        Args:
          task: its name.

        Returns:
          Targets `[B, ...]`, and bool `[B]` or `[B, H, W]`.

        Raises:
          ValueError: if the batch has no targets for the task.
        """
        if task not in self.targets:
            raise ValueError(f'the batch has no targets for the task {task!r}')
        target = self.targets[task]
        mask = None if self.mask is None else self.mask.get(task)
        if mask is None:
            return target, jnp.ones(target.shape[:1], bool)
        target, mask = jnp.asarray(target), jnp.asarray(mask, bool)
        known = with_trailing_axes(mask, target.ndim)
        return jnp.where(known, target, jnp.zeros((), target.dtype)), mask


@dataclasses.dataclass(frozen=True, eq=False)
class MultiTaskProblem:
    """Tasks that share an encoder, as pure functions.

    Each loss touches its own head only, so that one vjp a task suffices. A problem is compared and
    hashed by identity: pass it to `jax.jit` as a static argument.

    Attributes:
      task_names: T names, in the order of every `[T]` array.
      init: `key -> (params, model_state)`, both `{'shared': ..., 'heads': {task: ...}}`.
      encode: `(shared, state, inputs, train, key) -> (representation [B, ...], state)`.
      decode: `{task: (head, state, representation, train, key) -> (output [B, ...], state)}`.
      losses: `{task: (output, target) -> [B] or [B, H, W]}`, one loss an example or pixel.
      metrics: `{task: tag_jax.objectives.Metric}`, or anything with its `sums` and `finish`.

    A representation may be an array or a pytree of arrays, all of floats.

    Raises:
      ValueError: if the names are not unique text, or a task lacks a decoder, a loss or a metric.
    """

    task_names: tuple[str, ...]
    init: Callable
    encode: Callable
    decode: Mapping[str, Callable]
    losses: Mapping[str, Callable]
    metrics: Mapping[str, Any]

    def __post_init__(self):
        if isinstance(self.task_names, str):
            raise ValueError(f'task_names must be a tuple of names, not {self.task_names!r}')
        object.__setattr__(self, 'task_names', tuple(self.task_names))
        names = self.task_names
        if not names:
            raise ValueError('a problem needs at least one task')
        if strange := [name for name in names if not isinstance(name, str) or not name]:
            raise ValueError(f'the name of a task must be text, not {strange[0]!r}')
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f'task names must be unique, but {repeated[0]!r} occurs twice')
        for part in ('decode', 'losses', 'metrics'):
            given = getattr(self, part)
            if not isinstance(given, Mapping):
                raise ValueError(f'{part} must be a dict with an entry for each task')
            if missing := [name for name in names if name not in given]:
                raise ValueError(f'{part} has no entry for the task {missing[0]!r}')
            if unknown := [name for name in given if name not in names]:
                raise ValueError(f'{part} has an entry for {unknown[0]!r}, which is not a task')
        for task, loss in self.losses.items():
            if not callable(loss):
                raise ValueError(f'the loss of {task!r} must be a function, not {loss!r}')
        for task, metric in self.metrics.items():
            if not (hasattr(metric, 'sums') and hasattr(metric, 'finish')):
                raise ValueError(
                    f'the metric of {task!r} has no sums and finish: use a '
                    'tag_jax.objectives.Metric'
                )

    def predict(
        self, params: Mapping[str, Any], model_state: Mapping[str, Any], inputs: Any
    ) -> dict[str, Any]:
        """Outputs of every head in evaluation mode.

        Args:
          params, model_state: what `init` gives, trained or not.
          inputs: `[B, ...]`, or a pytree of such arrays.

        Returns:
          `{task: [B, ...]}`.
        """
        representation, _ = self.encode(
            params['shared'], model_state['shared'], inputs, False, None
        )
        return {
            task: self.decode[task](
                params['heads'][task], model_state['heads'][task], representation, False, None
            )[0]
            for task in self.task_names
        }


def task_key(key: jax.Array | None, task: str) -> jax.Array | None:
    """The key of one task, a scalar: a function of its name only, whichever other tasks exist."""
    return None if key is None else jax.random.fold_in(key, zlib.crc32(task.encode()))


def with_trailing_axes(mask: jax.Array, ndim: int) -> jax.Array:
    """A mask `[...]` with trailing axes of length one, to broadcast against `ndim` axes."""
    return jnp.reshape(mask, mask.shape + (1,) * (ndim - mask.ndim))


def from_linen(
    encoder: linen.Module,
    heads: Mapping[str, linen.Module],
    losses: Mapping[str, Callable],
    metrics: Mapping[str, Any],
    example_inputs: Any,
) -> MultiTaskProblem:
    """A problem from Flax Linen modules.

    `train=` or `deterministic=` is passed to a module only if its `__call__` names it. Variables
    outside 'params' (BatchNorm statistics, say) are model state, updated while training; what
    modules `sow` outside 'intermediates' is not supported.

    Args:
      encoder: a `linen.Module`, inputs -> representation `[B, ...]`.
      heads: `{task: linen.Module}`, representation -> output.
      losses: `{task: (output, target) -> [B] or [B, H, W]}`.
      metrics: `{task: Metric}`.
      example_inputs: inputs of any batch size; arrays or `jax.ShapeDtypeStruct`.

    Returns:
      A `MultiTaskProblem`.

    Raises:
      ValueError: if encoder or heads are no modules; see also `MultiTaskProblem`.
    """
    _check_heads(heads)
    example = jax.tree.map(_struct, example_inputs)
    functions = {name: _linen_functions(module) for name, module in heads.items()}
    return _compose(_linen_functions(encoder), functions, losses, metrics, example)


def from_nnx(
    make_encoder: Callable[[nnx.Rngs], nnx.Module],
    make_heads: Mapping[str, Callable[[nnx.Rngs], nnx.Module]],
    losses: Mapping[str, Callable],
    metrics: Mapping[str, Any],
    example_inputs: Any,
) -> MultiTaskProblem:
    """A problem from Flax NNX modules.

    Modules are switched with `train()` and `eval()`, and `train=` or `deterministic=` is passed
    to those whose `__call__` names it. Variables other than `nnx.Param` are model state; random
    streams are set afresh from the key of every call, so that a step can be repeated.

    Args:
      make_encoder: `nnx.Rngs -> nnx.Module`, inputs -> representation `[B, ...]`.
      make_heads: `{task: nnx.Rngs -> nnx.Module}`, representation -> output.
      losses: `{task: (output, target) -> [B] or [B, H, W]}`.
      metrics: `{task: Metric}`.
      example_inputs: inputs of any batch size; arrays or `jax.ShapeDtypeStruct`.

    Returns:
      A `MultiTaskProblem`.

    Raises:
      ValueError: if a module is given instead of a function that makes one, or a module holds a
        plain array that is no `nnx.Variable`.
    """
    _check_heads(make_heads)
    example = jax.tree.map(_struct, example_inputs)
    functions = {name: _nnx_functions(make) for name, make in make_heads.items()}
    return _compose(_nnx_functions(make_encoder), functions, losses, metrics, example)


def from_functions(
    init: Callable,
    encode: Callable,
    decode: Mapping[str, Callable],
    losses: Mapping[str, Callable],
    metrics: Mapping[str, Any],
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
      losses: `{task: (output, target) -> [B] or [B, H, W]}`.
      metrics: `{task: Metric}`.

    Returns:
      A `MultiTaskProblem`.

    Raises:
      ValueError: see `MultiTaskProblem`; if a function takes anything else without a default; when
        it is initialised, if init returns anything else.
    """
    task_names = tuple(decode)

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

    return MultiTaskProblem(
        task_names,
        init_with_state,
        _full_form(encode),
        {task: _full_form(function) for task, function in decode.items()},
        losses,
        metrics,
    )


class _ModuleFunctions(NamedTuple):
    """A Flax module as functions: `init(key, struct)`, `apply(params, state, x, train, key)`."""

    init: Callable
    apply: Callable


def _compose(encoder, heads, losses, metrics, example_inputs):
    """Joins the functions of an encoder and of its heads to a problem."""

    def init(key):
        shared_key, heads_key = jax.random.split(key)
        params, state = {'heads': {}}, {'heads': {}}
        params['shared'], state['shared'] = encoder.init(shared_key, example_inputs)
        representation, _ = jax.eval_shape(
            lambda p, s: encoder.apply(p, s, _zeros(example_inputs), False, None),
            params['shared'],
            state['shared'],
        )
        for task, head in heads.items():
            params['heads'][task], state['heads'][task] = head.init(
                task_key(heads_key, task), representation
            )
        return params, state

    decode = {task: head.apply for task, head in heads.items()}
    return MultiTaskProblem(tuple(heads), init, encoder.apply, decode, losses, metrics)


def _check_heads(heads):
    if not isinstance(heads, Mapping):
        raise ValueError('heads must be a dict with an entry for each task')


def _linen_functions(module):
    if not isinstance(module, linen.Module):
        raise ValueError(f'encoder and heads must be linen modules, not {module!r}')
    mode = _mode_arguments(type(module).__call__)

    def init(key, struct):
        variables = dict(module.lazy_init(key, struct, **mode(False)))
        return variables.pop('params', {}), variables

    def apply(params, state, inputs, train, key):
        variables = {'params': params, **state}
        try:
            if train and state:
                return module.apply(variables, inputs, mutable=list(state), rngs=key, **mode(True))
            return module.apply(variables, inputs, rngs=key, **mode(train)), state
        except flax.errors.InvalidRngError as error:
            raise _missing_key(module) from error

    return _ModuleFunctions(init, apply)


def _nnx_functions(make):
    if isinstance(make, nnx.Module):
        raise ValueError(
            f'give a function from nnx.Rngs to a {type(make).__name__}, not the module itself'
        )
    if not callable(make):
        raise ValueError(f'give a function from nnx.Rngs to a module, not {make!r}')
    # Intermediates that a module sows are neither trained nor carried on.
    split = lambda module: nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    for _, module in nnx.iter_modules(abstract):
        for name, value in vars(module).items():
            if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
                raise ValueError(
                    f'{type(module).__name__}.{name} is a plain array: make it an nnx.Param, or '
                    'an nnx.Variable if it is not trained'
                )
    graph, param_template, random_template, sown, state_template = split(abstract)
    mode = _mode_arguments(type(abstract).__call__)

    def init(key, struct):
        del struct
        _, params, _, _, state = split(make(nnx.Rngs(key)))
        return nnx.to_pure_dict(params), nnx.to_pure_dict(state)

    def apply(params, state, inputs, train, key):
        if train and key is None and jax.tree.leaves(random_template):
            raise _missing_key(abstract)
        module = nnx.merge(
            graph,
            _filled(param_template, params),
            _seeded(random_template, jax.random.key(0) if key is None else key),
            sown,
            _filled(state_template, state),
        )
        module.train() if train else module.eval()
        output = module(inputs, **mode(train))
        return output, nnx.to_pure_dict(split(module)[-1]) if train else state

    return _ModuleFunctions(init, apply)


def _missing_key(module):
    return ValueError(
        f'{type(module).__name__} draws random numbers while training (dropout, say): pass key='
    )


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


def _mode_arguments(call):
    """`train -> keyword arguments` for a `__call__` that names train= or deterministic=."""
    names = inspect.signature(call).parameters
    if 'train' in names:
        return lambda train: {'train': train}
    if 'deterministic' in names:
        return lambda train: {'deterministic': not train}
    for name in ('training', 'is_training', 'is_train'):
        if name in names:
            raise ValueError(
                f'a __call__ takes {name!r}, which is never passed: modules are told their mode by '
                "'train' or 'deterministic', so name it one of these"
            )
    return lambda train: {}


# What functions and modules call their mode and their key, and what is passed by each of the names.
_MODES = {
    **dict.fromkeys(('train', 'training', 'is_training', 'is_train'), lambda train, key: train),
    **dict.fromkeys(('deterministic', 'eval'), lambda train, key: not train),
    **dict.fromkeys(
        ('key', 'rng', 'rng_key', 'dropout_rng', 'dropout_key'), lambda train, key: key
    ),
}


def _full_form(function):
    """`(params, inputs, ...)` in the form `(params, state, inputs, train, key)` of a problem."""
    parameters = inspect.signature(function).parameters
    if len(parameters) == 5 and len(set(parameters) - set(_MODES)) >= 3:
        return (
            function  # Parameters, state and inputs are no modes, whatever the others are called.
        )
    plain = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    others = list(parameters.values())[2:]
    for parameter in others:
        needed = parameter.default is parameter.empty and parameter.kind not in plain
        if needed and parameter.name not in _MODES:
            raise ValueError(
                f'{getattr(function, "__name__", "a function")} takes {parameter.name!r}, which is '
                f'never passed: after parameters and inputs there are {", ".join(_MODES)}'
            )
    names = [parameter.name for parameter in others if parameter.name in _MODES]

    def full(params, state, inputs, train, key):
        mode = {name: _MODES[name](train, key) for name in names}
        return function(params, inputs, **mode), state

    return full


def _struct(array):
    return jax.ShapeDtypeStruct(jnp.shape(array), jnp.result_type(array))


def _zeros(structs):
    return jax.tree.map(lambda struct: jnp.zeros(struct.shape, struct.dtype), structs)
