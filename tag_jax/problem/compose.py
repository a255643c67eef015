"""Joins an encoder and heads, each as two functions, to a problem."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tag_jax import objectives
from tag_jax.objectives.objective import has_loss_of_ours
from tag_jax.problem.alike import map_tasks
from tag_jax.problem.problem import MultiTaskProblem, task_keys
from tag_jax.problem.trainable import Encoder, on_device, with_frozen
from tag_jax.problem.unfit import ModeError, taking


class ModuleFunctions(NamedTuple):
    """A Flax module as functions: `init(key, struct)`, `apply(params, state, x, train, key)`."""

    init: Callable
    apply: Callable


def compose(
    encoder: Encoder,
    heads: Mapping[str, ModuleFunctions],
    tasks: Mapping[str, Any],
    representation: Any,
    remat: Any = None,
) -> MultiTaskProblem:
    """A problem from an encoder and its heads.

    Args:
      encoder: the encoder as functions.
      heads: `{task: ModuleFunctions}`.
      tasks: `{task: Objective}`.
      representation: its shapes and dtypes, for any number of examples.
      remat: see `MultiTaskProblem`.
    """

    def init(key):
        shared_key, heads_key = jax.random.split(key)
        params, state = {'heads': {}}, {'heads': {}}
        params['shared'], state['shared'] = encoder.init(shared_key)
        made = map_tasks(
            lambda task, row: heads[task].init(*row, representation),
            (task_keys(heads_key, tuple(heads)),),
            {task: head.init for task, head in heads.items()},
            draws=True,
        )
        for task, (head, head_state) in made.items():
            params['heads'][task], state['heads'][task] = head, head_state
        return params, with_frozen(state, on_device(encoder.frozen))

    decode = {task: heads[task].apply for task in tasks}
    return MultiTaskProblem(tasks, init, encoder.apply, decode, encoder.frozen, remat)


def representation_of(init: Callable, apply: Callable, example_inputs: Any) -> Any:
    """The shapes and dtypes of the representation of some inputs.

    Args:
      init: `key -> (params, state)` of the encoder.
      apply: `(params, state, inputs, train, key) -> (representation, state)`.
      example_inputs: shapes and dtypes.

    Raises:
      ValueError: if the encoder cannot take the inputs, or an array of it has no elements.
    """
    network = jax.eval_shape(init, jax.random.key(0))
    with taking('the encoder', example_inputs):
        found = _output_shapes(apply, network, example_inputs)
    if empty := [leaf.shape for leaf in jax.tree.leaves(found) if 0 in leaf.shape]:
        shapes = ', '.join(str(leaf.shape) for leaf in jax.tree.leaves(example_inputs))
        raise ValueError(
            f'the encoder leaves nothing of inputs of shape {shapes}: its representation has the '
            f'shape {empty[0]}; give it larger inputs, or less striding and pooling'
        )
    return found


def heads_of_tasks(
    tasks: Mapping[str, Any], heads: Mapping[str, Any] | None, dense: Callable[[int], Any]
) -> dict[str, Any]:
    """The head of each task: the one that was given, or a dense layer.

    Args:
      tasks: `{task: Objective}`.
      heads: `{task: head}` of some tasks, or None.
      dense: width -> head.

    Raises:
      ValueError: if tasks are not `{task: Objective}`, or a head is of no task.
    """
    objectives.check_tasks(tasks)
    if heads is not None and not isinstance(heads, Mapping):
        raise ValueError('heads must be a dict {task: head}; tasks that it lacks get a dense layer')
    if unknown := [name for name in heads or {} if name not in tasks]:
        raise ValueError(f'heads has an entry for {unknown[0]!r}, which is not a task')
    return {
        task: (heads or {}).get(task) or dense(objective.width) for task, objective in tasks.items()
    }


def functions_of_heads(
    heads: Mapping[str, Any], make: Callable[[Any, str], ModuleFunctions]
) -> dict[str, ModuleFunctions]:
    """The functions of each head; heads that are equal have the same ones.

    Args:
      heads: `{task: head}`.
      make: `(head, words for it) -> ModuleFunctions`.

    Raises:
      ValueError: what `make` raises.
    """
    known, found = {}, {}
    for task, head in heads.items():
        try:
            hash(head)
            key = head
        except TypeError:  # A module with a list in it.
            key = id(head)
        if key not in known:
            known[key] = make(head, f'the head of {task!r}')
        found[task] = known[key]
    return found


def check_heads(
    heads: Mapping[str, ModuleFunctions], tasks: Mapping[str, Any], representation: Any
) -> None:
    """Raises ValueError at a head that cannot take the representation, or has another width.

    Only the losses of `objectives` are known to need an output of the width of their objective.

    Args:
      heads: `{task: ModuleFunctions}` of the heads to check.
      tasks: `{task: Objective}`.
      representation: its shapes and dtypes.
    """
    for task, head in heads.items():
        network = jax.eval_shape(
            lambda key, head=head: head.init(key, representation), jax.random.key(0)
        )
        with taking(f'the head of {task!r}', representation, 'a representation'):
            output = _output_shapes(head.apply, network, representation)
        objective = tasks[task]
        shape = getattr(output, 'shape', ())
        # Images of one value a pixel may come without a last axis of length one.
        known = len(shape) == 2 or (len(shape) > 2 and objective.width > 1)
        if has_loss_of_ours(objective) and known and shape[-1] != objective.width:
            raise ValueError(
                f'the head of {task!r} has {shape[-1]} outputs, and its objective '
                f'({objective.kind}) needs {objective.width}: give a head of that width, or leave '
                'it out of heads for a dense layer'
            )


def _output_shapes(apply, network, arrays):
    """The shapes of what a module gives in evaluation mode, of the shapes of its variables."""
    run = lambda network, arrays: apply(*network, arrays, False, None)[0]
    return jax.eval_shape(run, network, arrays)


def features_of(representation: Any) -> int:
    """The length of the last axis of a representation that is one array.

    Args:
      representation: shapes and dtypes.

    Raises:
      ValueError: if it is not one array with an axis for examples and one for features.
    """
    leaves = jax.tree.leaves(representation)
    if len(leaves) != 1 or len(leaves[0].shape) < 2:
        raise ValueError(
            'a dense layer needs a representation that is one array [B, ..., D]: give heads={task: '
            '...}, or where the module has heads of its own let it return what they share '
            '(docs/linen.md)'
        )
    return leaves[0].shape[-1]


def struct(array: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array."""
    return jax.ShapeDtypeStruct(jnp.shape(array), jnp.result_type(array))


def untold_mode(module: Any) -> ModeError:
    """The error of a module that changes its state in evaluation mode too."""
    return ModeError(
        f'{type(module).__name__} changes its state (running statistics, say) outside of training '
        'as well: let its __call__ take train, and hand it on as use_running_average=not train'
    )


def missing_key(module: Any) -> ValueError:
    """The error of a module that needs a key and got none."""
    return ValueError(
        f'{type(module).__name__} draws random numbers while training (dropout, say): pass key='
    )
