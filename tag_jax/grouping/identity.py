"""The identity of a run: checksums of its data and its model, its settings, its versions."""

import dataclasses
import functools
import os
import platform
import re
import zlib

import flax
import jax
import jax.extend.core
import numpy as np
import optax

import tag_jax
from tag_jax import examples
from tag_jax.runs import checkpoint, workdir


def subject(run):
    """The data that a run is about, as checksums."""
    return {
        f'{name}_data': _fingerprint(run.problem, getattr(run.dataset, name))
        for name in ('train', 'validation', 'test')
    }


def model(run):
    """A checksum of what networks compute, in training, in evaluation and at the start.

    Behind it stands another one of the weights that all networks begin with, if there are any.
    """
    params, model_state = run.problem.shapes
    # Computing again in the backward pass is no part of what is computed.
    problem = dataclasses.replace(run.problem, remat=None)
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype),
        examples.input_shapes(run.dataset.train),
    )
    goals = {task: objective(one) for task, one in run.problem.tasks.items()}
    key = jax.random.key(0)

    def train(params, state, inputs, key):
        representation, _ = problem.represent(params, state, inputs, True, key)
        return {
            task: decode(params['heads'][task], state['heads'][task], representation, True, key)[0]
            for task, decode in run.problem.decode.items()
        }

    begin, weights = _without_weights(jax.make_jaxpr(run.problem.init)(key))
    programs = [
        jax.make_jaxpr(run.problem.predict)(params, model_state, one).jaxpr,
        jax.make_jaxpr(train)(params, model_state, one, key).jaxpr,
        begin,
    ]
    text = str((params, model_state, goals, *map(_program, programs)))
    known = f'{zlib.crc32(text.encode()):08x}'
    return f'{known}{workdir.FROM}{checkpoint.checksum(weights)}' if weights else known


def _without_weights(closed):
    """The program of an initialisation, and the weights that it gives whatever the key is.

    These are its constants. With them go single numbers that it gives as they are, which JAX writes
    into the program itself.
    """
    if not closed.consts:
        return closed.jaxpr, []
    outputs = closed.jaxpr.outvars
    numbers = [np.asarray(one.val) for one in outputs if isinstance(one, jax.extend.core.Literal)]
    others = [one for one in outputs if not isinstance(one, jax.extend.core.Literal)]
    return closed.jaxpr.replace(outvars=others), [*closed.consts, *numbers]


def _program(jaxpr):
    """A program as text that is the same in every process: its operations and their numbers."""
    return re.sub(r' at 0x[0-9a-f]+|0x[0-9a-f]+', '', str(jaxpr))


def objective(one):
    """The identity of an `Objective`, as JSON types: functions by their names."""
    functions = (one.loss, one.metric.sums, one.metric.finish)
    return [one.kind, one.width, dict(one.options), *map(_as_json, functions)]


def settings(config):
    """A `TrainingConfig` as JSON types."""
    return {name: _as_json(value) for name, value in vars(config).items()}


def description(run):
    """The contents of config.json, as JSON types: what a run was asked for.

    Data and model are in it by checksums, so that a run is not continued with others.
    """
    splits = {name: getattr(run.dataset, name) for name in ('train', 'validation', 'test')}
    shapes = run.problem.shapes
    return {
        'method': run.method,
        'dataset': run.dataset.name,
        'task_names': list(run.problem.task_names),
        'examples': {name: examples.count(split) for name, split in splits.items()},
        'budget': run.budget,
        **settings(run.config),
        'parameters': sum(x.size for x in jax.tree.leaves(shapes[0])),
        **subject(run),
        'model': model(run),
        'versions': versions(),
    }


def versions():
    """The versions and devices that a run has, as JSON types."""
    return {
        'tag_jax': tag_jax.__version__,
        'jax': jax.__version__,
        'flax': flax.__version__,
        'optax': optax.__version__,
        'numpy': np.__version__,
        'python': platform.python_version(),
        'system': f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores',
        'backend': jax.default_backend(),
        'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    }


def _fingerprint(problem, split):
    """A checksum of a split; of one that is read, of some of its examples and their number."""
    if examples.in_memory(split):
        return checkpoint.checksum(examples.as_batch(problem, split))
    size = len(split)
    some = split.read(sorted({0, size // 2, size - 1}))
    return checkpoint.checksum((examples.as_batch(problem, some), np.array(size)))


def _as_json(value):
    """A setting as a JSON type: functions by their names and arguments."""
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, tuple):
        return [_as_json(one) for one in value]
    if dataclasses.is_dataclass(value):
        return {name: _as_json(one) for name, one in vars(value).items()}
    if isinstance(value, functools.partial):
        arguments = [*map(_as_json, value.args)]
        arguments += [f'{name}={_as_json(one)}' for name, one in value.keywords.items()]
        return f'{_as_json(value.func)}({", ".join(map(str, arguments))})'
    return _function(value)


def _function(value, depth=3):
    """A function by its name, its module if it is a user's own, and what it closes over."""
    name = getattr(value, '__qualname__', None)
    if name is None:
        return str(value)
    # Of a function in the clothes of another one (functools.wraps), its own.
    module = getattr(value, '__globals__', {}).get('__name__')
    module = module or getattr(value, '__module__', None) or ''
    if module.split('.')[0] not in ('', 'optax', 'tag_jax', 'experiments', 'builtins', '__main__'):
        name = f'{module}.{name}'
    if not depth or module.split('.')[0] in ('optax', 'jax'):
        return name
    cells = getattr(value, '__closure__', None) or ()
    held = []
    if module.split('.')[0] not in ('tag_jax', 'experiments'):  # Of these a version has one each.
        held += [_held(one, depth - 1) for one in getattr(value, '__defaults__', None) or ()]
        named = getattr(value, '__kwdefaults__', None) or {}
        held += [f'{key}={_held(one, depth - 1)}' for key, one in named.items()]
    if not cells and not held:
        return name
    for free, cell in zip(value.__code__.co_freevars if cells else (), cells, strict=True):
        try:
            held.append(f'{free}={_held(cell.cell_contents, depth - 1)}')
        except ValueError:  # Not filled yet.
            continue
    return f'{name}[{", ".join(held)}]'


def _held(value, depth):
    """A value that a function closes over, as text that is the same in every process."""
    if callable(value):
        return _function(value, depth)
    if isinstance(value, np.ndarray | jax.Array):
        return checkpoint.checksum(np.asarray(value))
    return re.sub(r' at 0x[0-9a-f]+', '', str(value))
