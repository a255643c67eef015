"""How well networks do on a split, and whether a split can be used at all."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tag_jax import examples, gradients, models, objectives, parallel
from tag_jax.constant_loss import constant_loss
from tag_jax.data import Source, Split
from tag_jax.problem import MultiTaskProblem, split_frozen, with_frozen, with_trailing_axes

# What networks can be chosen by, the lower the better: the error of a task in percent; its mean
# loss as it is trained; that in percent of the loss of the best constant answer.
CRITERIA = ('error', 'loss', 'relative_loss')
RELATIVE_LOSS = CRITERIA[2]

# What a model and data that do not fit each other end in.
_UNFIT = (TypeError, ValueError, flax.errors.FlaxError)


class PreparedSplit(NamedTuple):
    """A split that is ready to be evaluated on.

    Attributes:
      examples: `examples.Examples`.
      references: what the metrics of some tasks need to know of the whole split.
      constant_losses: `{task: loss}` of the best constant answers; empty where not asked for.
    """

    examples: examples.Examples
    references: Mapping[str, Any]
    constant_losses: Mapping[str, float] = MappingProxyType({})


def evaluate(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    split: Split | Source | PreparedSplit,
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """The metrics of every task on a split.

    Args:
      problem: a `MultiTaskProblem`.
      params, model_state: of one network.
      split: a `tag_jax.data.Split`, anything with the same fields, a `tag_jax.data.Source`, or a
        `PreparedSplit`.
      batch_size: examples a pass.

    Returns:
      `{task: {'error': percent, 'loss': mean loss, ...}}`; metrics of the problem name the rest.
    """
    prepared = split if isinstance(split, PreparedSplit) else prepare(problem, split)
    model_state, frozen = split_frozen(model_state)
    network, frozen = parallel.place(prepared.examples.mesh, ((params, model_state), frozen))
    networks = jax.tree.map(lambda x: x[None], network)
    return scores(problem, networks, prepared, batch_size, 'unroll', frozen)[0]


def scores(
    problem: MultiTaskProblem,
    networks: tuple[Any, Any],
    prepared: PreparedSplit,
    batch_size: int,
    batching: str | int | None,
    frozen: Any = None,
) -> list[dict[str, dict[str, float]]]:
    """The metrics of S networks on a split.

    Args:
      problem: a `MultiTaskProblem`.
      networks: (params, model_state), `[S, ...]`, without frozen parameters.
      prepared: a `PreparedSplit`.
      batch_size: examples a pass.
      batching: of the networks, see `gradients.map_stacked`.
      frozen: the frozen parameters of all networks, on the device; None if there are none.

    Returns:
      A list of `{task: {'error': percent, ...}}`.
    """
    sums = _batch_sums(problem, networks, prepared, batch_size, batching, frozen)
    totals = jax.tree.map(
        lambda *parts: np.sum([np.asarray(part, np.float64) for part in parts], axis=0), *sums
    )
    return [
        {
            task: finished(problem, task, jax.tree.map(lambda x, n=n: x[n], totals[task]), prepared)
            for task in problem.task_names
        }
        for n in range(len(jax.tree.leaves(networks)[0]))
    ]


def sums_of_batches(
    problem: MultiTaskProblem, network: tuple[Any, Any], prepared: PreparedSplit, batch_size: int
) -> list[dict[str, Any]]:
    """The sums behind the metrics of a network, for each batch of a split.

    Args:
      problem: a `MultiTaskProblem`.
      network: (params, model_state).
      prepared: a `PreparedSplit`.
      batch_size: neighbouring examples of a batch; over a mesh, up to a multiple of its devices.

    Returns:
      A list of `{task: sums}`; `finished` makes metrics of their total.
    """
    params, model_state = network
    model_state, frozen = split_frozen(model_state)
    one, frozen = parallel.place(prepared.examples.mesh, ((params, model_state), frozen))
    networks = jax.tree.map(lambda x: x[None], one)
    sums = _batch_sums(problem, networks, prepared, batch_size, 'unroll', frozen)
    return [jax.tree.map(lambda x: x[0], found) for found in sums]


def _batch_sums(problem, networks, prepared, batch_size, batching, frozen):
    """`{task: sums [S, ...]}` for each batch of a split."""
    size, mesh = prepared.examples.size, prepared.examples.mesh
    devices = parallel.size(mesh, parallel.BATCH)
    batch_size = -(-min(batch_size, size) // devices) * devices  # What is beyond does not count.
    rows = [np.arange(start, start + batch_size) for start in range(0, size, batch_size)]
    windows = examples.windows(prepared.examples, [np.minimum(r, size - 1) for r in rows])
    return [
        _metric_sums(problem, networks, frozen, batch, places, wanted < size, batching, mesh)
        for wanted, (batch, places) in zip(rows, windows, strict=True)
    ]


def prepare(
    problem: MultiTaskProblem,
    split: Split | Source,
    mesh: Mesh | None = None,
    select_by: str = 'error',
) -> PreparedSplit:
    """Puts a split on the device, with what the metrics need to know of it as a whole.

    (A `tag_jax.data.Source` stays where it is, and metrics do without.)

    Args:
      problem: a `MultiTaskProblem`.
      split: see `evaluate`.
      mesh: the devices on which it is to be, see `parallel`; None for one.
      select_by: what networks are chosen by, of CRITERIA: for 'relative_loss' the losses of the
        best constant answers are found as well.

    Raises:
      ValueError: if a task cannot have the targets that it has there, or losses cannot be relative.
    """
    found = examples.examples(problem, split, mesh)
    references = {} if found.source else _references(problem, found.batch)
    if select_by != RELATIVE_LOSS:
        return PreparedSplit(found, references)
    return PreparedSplit(found, references, constant_losses(problem, split))


def check_split(problem: MultiTaskProblem, split: Split | Source, name: str) -> None:
    """Raises ValueError, with a sentence, unless a split can be trained and evaluated on.

    It needs arrays of one length, N > 0, whose finite targets fit the losses and metrics of every
    task, and at least one label of every task. Nothing is computed but shapes and sums of targets.
    Of a `tag_jax.data.Source` the first examples are looked at, in which labels may be missing.

    Args:
      problem: a `MultiTaskProblem`.
      split: a `tag_jax.data.Split`, anything with the same fields, or a `Source`.
      name: what to call it in the error.
    """
    whole = examples.in_memory(split)
    if not whole and not hasattr(split, 'read'):
        raise ValueError(
            f'the {name} split must be a data.Split or a data.Source, not {type(split).__name__}'
        )
    if not whole and not len(split):
        raise ValueError(f'the {name} split has no examples')
    split = examples.sample(split)
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(split.inputs)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            f'the inputs of the {name} split must be arrays of one length, examples first'
        )
    for what, part in (
        ('targets', split.targets),
        ('masks', {} if split.mask is None else split.mask),
    ):
        if not isinstance(part, Mapping):
            raise ValueError(f'the {what} of the {name} split must be a dict, an entry a task')
    ((size,),) = lengths
    if not size:
        raise ValueError(f'the {name} split has no examples')
    for task in problem.task_names:
        if task not in split.targets:
            raise ValueError(f'the {name} split has no targets for the task {task!r}')
    for task in split.mask or {}:
        if task not in split.targets:
            raise ValueError(f'the {name} split has a mask for {task!r}, which is not a task')
    batch = examples.as_batch(problem, split)
    for leaf in jax.tree.leaves(batch.inputs):
        if not _is_real(leaf):
            raise ValueError(f'the {name} split has inputs that are no numbers: {leaf.dtype}')
        if not _finite(leaf):
            raise ValueError(f'the {name} split has inputs that are not finite')
    for task, target in batch.targets.items():
        _check_labels(task, target, (batch.mask or {}).get(task), size, name, whole)
    try:
        if whole:
            _references(problem, batch)
        _check_shapes(problem, jax.tree.map(lambda x: x[:1], batch))
        _check_examples_stay_apart(problem, batch)
    except _UNFIT as error:
        raise ValueError(
            f'the {name} split does not fit the problem: {_first_line(error)}'
        ) from error


def predictor(
    problem: MultiTaskProblem,
    params: Mapping[str, Any],
    model_state: Mapping[str, Any],
    batch_size: int,
) -> Callable[[Any], dict[str, Any]]:
    """A trained network as a function `inputs [N, ...] -> {task: NumPy output [N, ...]}`.

    Args:
      problem: a `MultiTaskProblem`.
      params, model_state: of one network.
      batch_size: examples a pass.

    Raises:
      ValueError: from the function, if there are no examples, or the network cannot take them.
    """

    def predict(inputs):
        try:
            return _predict(problem, params, model_state, inputs)
        except _UNFIT as error:
            shapes = {str(['N', *np.shape(x)[1:]]) for x in jax.tree.leaves(inputs)}
            shapes = ' and '.join(sorted(shapes)).replace("'", '')
            raise ValueError(
                f'the network cannot take inputs of shape {shapes}: {_first_line(error)}'
            ) from error

    return lambda inputs: in_batches(predict, inputs, batch_size)


def in_batches(function: Callable, inputs: Any, batch_size: int) -> Any:
    """Applies a function to N examples in batches of one size, so that it is compiled once.

    The last batch is filled up with copies of its first example, whose results are dropped.

    Args:
      function: pytree of `[batch_size, ...]` -> pytree of `[batch_size, ...]`.
      inputs: pytree of arrays `[N, ...]`, N at least 1.
      batch_size: examples a batch.

    Returns:
      Pytree of NumPy arrays `[N, ...]`.

    Raises:
      ValueError: if there are no examples, or not as many in all arrays.
    """
    sizes = {np.shape(x)[:1] for x in jax.tree.leaves(inputs)}
    if len(sizes) != 1 or () in sizes:
        found = ' and '.join(str(*size) if size else 'a single number' for size in sorted(sizes))
        raise ValueError(f'inputs must be arrays of as many examples, one a row, not of {found}')
    ((size,),) = sizes
    if not size:
        raise ValueError('there are no examples to predict for')
    results = []
    for start in range(0, size, batch_size):
        rows = np.arange(start, start + batch_size)
        rows = np.where(rows < size, rows, start)
        results.append(function(jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], inputs)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:size], *results)


def encoder_cost(problem: MultiTaskProblem, inputs: Any) -> int:
    """Multiply-adds of the encoder for one example at inference: see `models.multiply_adds_of`.

    The papers' budgets are in the time of a standard network; by this count it is the same on every
    device.

    Args:
      problem: a `MultiTaskProblem`.
      inputs: `[N, ...]`; only shapes matter.
    """
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    encode = lambda params, state, x: problem.represent(params, state, x, False, None)[0]
    return models.multiply_adds_of(encode, *problem.shapes, one)


def constant_losses(problem: MultiTaskProblem, split: Split | Source) -> dict[str, float]:
    """The losses of the best constant answers, `{task: loss}`.

    Args:
      problem: a `MultiTaskProblem`.
      split: with its labels in memory.

    Raises:
      ValueError: if it is a `Source`, or an answer is right for all labels of a task.
    """
    if not examples.in_memory(split):
        raise ValueError(
            f"select_by='{RELATIVE_LOSS}' needs labels in memory, and this split is a data.Source: "
            "take select_by='loss'"
        )
    batch = examples.as_batch(problem, split)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), batch.inputs)
    outputs = jax.eval_shape(problem.predict, *problem.shapes, one)
    found = {}
    for task, objective in problem.tasks.items():
        target, mask = batch.labels(task)
        try:
            shape, weights = outputs[task].shape[1:], batch.weights(task)
            found[task] = constant_loss(objective, shape, target, mask, weights)
        except ValueError as error:
            raise ValueError(f'of the task {task!r}, {error}') from error
    return found


def _references(problem, batch):
    """`{task: reference}` for the metrics that look at a whole split.

    A loss of `objectives` looks at its targets as well, whatever the metric.
    """
    references = {}
    for task in problem.task_names:
        reference = getattr(problem.tasks[task].metric, 'reference', None)
        check = getattr(problem.tasks[task].loss, 'check_targets', None)
        if reference or check:
            target = np.asarray(batch.targets[task])
            mask = np.ones(target.shape[:1], bool)
            if batch.mask is not None and task in batch.mask:
                mask = np.asarray(batch.mask[task], bool)
            try:
                if check and check is not reference:
                    check(target, mask)
                if reference:
                    references[task] = reference(target, mask)
            except ValueError as error:
                raise ValueError(f'the targets of {task!r} will not do: {error}') from error
    return references


def _check_labels(task, target, mask, size, name, whole):
    """Raises ValueError unless the targets and the mask of a task are whole."""
    if target.shape[:1] != (size,):
        raise ValueError(
            f'the {name} split has {size} inputs, but targets {list(target.shape)} for {task!r}'
        )
    if not _is_real(target):
        raise ValueError(
            f'the {name} split has targets of {task!r} that are no numbers: {target.dtype}'
        )
    weights = mask is not None and mask.dtype != bool
    if weights and not (_is_real(mask) and _finite(mask) and (mask >= 0).all()):
        raise ValueError(
            f'the {name} split has a mask of {task!r} that is neither true or false nor weights of '
            'labels, finite and at least 0'
        )
    if mask is None:
        labelled = target
    elif mask.shape[:1] != (size,) or mask.shape != target.shape[: mask.ndim]:
        raise ValueError(
            f'the {name} split has targets {list(target.shape)}, '
            f'but a mask {list(mask.shape)} for {task!r}'
        )
    else:
        labelled = np.asarray(target)[np.asarray(mask, bool)]
    if whole and not labelled.size:
        raise ValueError(f'the task {task!r} has no label in the {name} split')
    if not _finite(labelled):
        raise ValueError(
            f'the {name} split has targets of {task!r} that are not finite: '
            'put examples without a label behind a mask'
        )


def _check_shapes(problem, batch):
    """Goes through the losses and the metrics of a batch with shapes only."""
    network = problem.shapes
    encode = lambda *network: problem.represent(*network, batch.inputs, False, None)
    representation, _ = jax.eval_shape(encode, *network)
    for path, leaf in jax.tree_util.tree_leaves_with_path(representation):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f'the representation has a part{jax.tree_util.keystr(path)} of {leaf.dtype}, which '
                'has no gradient: let the encoder return numbers only'
            )
    try:
        _check_losses(problem, network, batch)
    except _UNFIT:
        for task in problem.task_names:
            try:
                _check_losses(_only(problem, task), network, batch)
            except _UNFIT as error:
                raise ValueError(f'of the task {task!r}, {_first_line(error)}') from error
        raise
    jax.eval_shape(lambda *network: _sums(problem, network, batch, np.ones(1, bool)), *network)


def _check_examples_stay_apart(problem, batch):
    """Raises ValueError at a loss of an example that depends on another one.

    A mean over the batch has the shape of a loss where it is broadcast, `(z[B, 1] - t[B]) ** 2`.
    Losses of `objectives` are known not to do so.
    """
    tasks = [
        task
        for task in problem.task_names
        if not str(getattr(problem.tasks[task].loss, '__module__', '')).startswith(
            f'{objectives.__name__}.'
        )
    ]
    inputs = jax.tree.map(lambda x: x[:2], batch.inputs)
    if not tasks or len(jax.tree.leaves(inputs)[0]) < 2:
        return
    shapes = jax.eval_shape(lambda *network: problem.predict(*network, inputs), *problem.shapes)
    for n, task in enumerate(tasks):
        target, _ = batch.labels(task)
        outputs = [_noise(shapes[task], seed) for seed in (n, n + 1)]
        mixed = jax.tree.map(lambda a, b: np.concatenate([a[:1], b[1:]]), *outputs)
        first, other = (
            np.asarray(problem.tasks[task].loss(z, target[:2]))[0] for z in (outputs[0], mixed)
        )
        if np.isfinite([first, other]).all() and not np.allclose(first, other, rtol=1e-3):
            raise ValueError(
                f'the loss of {task!r} for one example depends on the others: it must give a '
                'number for each example, and no mean over them'
            )


def _noise(shapes, seed):
    """Random outputs of some shapes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda z: rng.normal(size=z.shape).astype(z.dtype), shapes)


def _check_losses(problem, network, batch):
    key = jax.random.key(0)
    jax.eval_shape(lambda *network: gradients.task_losses(problem, *network, batch, key), *network)


def _only(problem, task):
    """The problem with one of its tasks; parameters and state are as before."""
    tasks, decode = {task: problem.tasks[task]}, {task: problem.decode[task]}
    return dataclasses.replace(problem, tasks=tasks, decode=decode)


def _first_line(error):
    """The first line of an error, without the address that Flax adds."""
    return (str(error) or type(error).__name__).splitlines()[0].split(' (https://')[0]


def _is_real(array):
    kinds = jnp.floating, jnp.integer, jnp.bool_
    return any(jnp.issubdtype(array.dtype, kind) for kind in kinds)


def _finite(array):
    return not jnp.issubdtype(array.dtype, jnp.floating) or bool(np.isfinite(array).all())


def finished(
    problem: MultiTaskProblem, task: str, totals: Any, prepared: PreparedSplit
) -> dict[str, float]:
    """The metrics of a task, with its mean loss, also in percent of that of a constant answer.

    Args:
      problem: a `MultiTaskProblem`.
      task: its name.
      totals: the total of its sums, see `sums_of_batches`.
      prepared: the split.
    """
    metric, sums, (losses, labels) = problem.tasks[task].metric, *totals
    reference = prepared.references.get(task)
    constant = prepared.constant_losses.get(task)
    found = metric.finish(sums) if reference is None else metric.finish(sums, reference)
    loss = float(np.sum(losses) / max(labels, 1))
    relative = {} if constant is None else {RELATIVE_LOSS: 100 * loss / constant}
    return {**found, 'loss': loss, **relative}


@functools.partial(jax.jit, static_argnames=('problem', 'batching', 'mesh'))
def _metric_sums(problem, networks, frozen, split, rows, counts, batching, mesh):
    """`{task: sums [S, ...]}` over the rows of a split that count."""
    batch = parallel.constrain(mesh, jax.tree.map(lambda x: x[rows], split), parallel.BATCH)

    def sums_of(network):
        params, model_state = network
        return _sums(problem, (params, with_frozen(model_state, frozen)), batch, counts)

    sums = gradients.map_stacked(sums_of, networks, batching)
    return parallel.constrain(mesh, sums)


def _sums(problem, network, batch, counts):
    """`{task: sums}` of one network over the examples of a batch that count."""
    outputs = problem.predict(*network, batch.inputs)
    results = {}
    for task in problem.task_names:
        target, mask = batch.labels(task)
        mask &= with_trailing_axes(counts, mask.ndim)
        losses = gradients.weighed(
            problem.tasks[task].loss(outputs[task], target), batch.weights(task)
        )
        sums = problem.tasks[task].metric.sums(outputs[task], target, mask)
        results[task] = sums, _loss_sums(losses, mask)
    return results


def _loss_sums(losses, mask):
    """Sums of losses where there is a label, and the number of labels.

    Rows of images stay apart: float32 loses digits in a sum over all of their pixels.
    """
    mask = jnp.broadcast_to(with_trailing_axes(mask, losses.ndim), losses.shape)
    axes = (0, *range(2, losses.ndim))
    return jnp.sum(jnp.where(mask, losses, 0), axis=axes), jnp.sum(mask)


@functools.partial(jax.jit, static_argnames='problem')
def _predict(problem, params, model_state, inputs):
    return problem.predict(params, model_state, inputs)
