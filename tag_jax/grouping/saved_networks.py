"""Trained networks on disk: a folder each, whole or not there.

parameters/          params and model state (orbax)
predict.stablehlo    its prediction function, which runs without the model's code
affinity.npz         the affinities measured while it trained, if any were
at_120/              the same of it at step 120, if it is kept there for some of its tasks
network.json         what it was trained as and how it did; written last

Frozen parameters lie beside the networks that share them, in a folder named by their checksum.
"""

import logging
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax

from tag_jax import evaluation
from tag_jax.affinity import AffinitySummary
from tag_jax.problem import MultiTaskProblem, split_frozen, with_frozen
from tag_jax.problem.names import by_names
from tag_jax.runs import affinity_files, checkpoint, exported, storage, workdir
from tag_jax.training import NetworkPlan, TrainedNetwork

_COPY = 'at_'
# The names on the way to the parameters of the encoder: to those that train, and to the others.
_ENCODER, _FROZEN = ('params', 'shared'), 'frozen'
_PARAMETERS, _FUNCTION, _RECORD = 'parameters', 'predict.stablehlo', 'network.json'


def save(
    folder: str | os.PathLike,
    problem: MultiTaskProblem,
    network: TrainedNetwork,
    inputs: Any,
    batch_size: int,
    shared: str | os.PathLike | None = None,
) -> None:
    """Writes a trained network.

    A model that cannot be exported is kept without its prediction function, with a warning.

    Args:
      folder: where; anything there is replaced.
      problem: the `MultiTaskProblem` that was trained.
      network: a `TrainedNetwork`.
      inputs: example inputs `[N, ...]`; only shapes matter.
      batch_size: examples a pass of the exported function.
      shared: the folder for frozen parameters; None for that above the network's.

    Raises:
      OSError: if it cannot be written.
    """
    folder = pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shared = folder.parent if shared is None else shared
    for copy in network.copies:
        at = folder / f'{_COPY}{copy.best_step}'
        save(at, problem, copy, inputs, batch_size, shared)
    arrays = (network.params, network.model_state)
    model_state, frozen = split_frozen(network.model_state)
    checkpoint.save(folder / _PARAMETERS, _tree(network.params, model_state))
    example = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype), inputs
    )
    predict = lambda tree, inputs: problem.predict(tree['params'], tree['model_state'], inputs)
    try:
        function = exported.export_function(predict, _tree(*arrays), example)
    except Exception as error:  # The network is trained and kept, whatever its code does here.
        logging.warning('predicting from %s will need the problem: %s', folder, error)
    else:
        storage.write_bytes(folder / _FUNCTION, function)
    if network.affinities is not None:
        affinity_files.write_affinity(folder / workdir.AFFINITY, network.affinities)
    storage.write_json(
        folder / _RECORD,
        {
            **network.plan._asdict(),
            'validation': storage.finite(network.validation),
            'best_step': network.best_step,
            'steps': network.steps,
            'seconds': network.seconds,
            'not_finite': network.not_finite,
            'stopped': network.stopped,
            'best_of_tasks': network.best_of_tasks,
            **({} if frozen is None else {'frozen': _keep_frozen(folder, shared, frozen)}),
        },
    )


def _keep_frozen(folder, shared, frozen):
    """Writes frozen parameters, unless they are there; their place beside the network's folder."""
    path = pathlib.Path(shared) / f'frozen_{checkpoint.checksum(frozen)}'
    if not path.exists():
        checkpoint.save(path, frozen)
    return pathlib.Path(os.path.relpath(path, folder.parent)).as_posix()


def load(
    folder: str | os.PathLike, problem: MultiTaskProblem, plan: NetworkPlan
) -> TrainedNetwork | None:
    """The network of a plan, or None if the folder does not hold just that network whole.

    Args:
      folder: where `save` may have written it.
      problem: the `MultiTaskProblem` that was trained.
      plan: a `NetworkPlan`.

    Raises:
      ValueError, OSError: see `arrays`.
    """
    folder = pathlib.Path(folder)
    if not (folder / _RECORD).exists():
        return None
    record = storage.read_json(folder / _RECORD)
    asked = plan._asdict() | {'tasks': list(plan.tasks)}
    found = {**plan._field_defaults, **record}  # Older records lack what was added later.
    if any(found[name] != value for name, value in asked.items()) or record.get('stopped'):
        return None  # What a hook ended is no network of this plan for those without the hook.
    params, model_state = arrays(folder, problem)
    affinities = None
    if plan.measures_affinity:
        affinities = AffinitySummary(**affinity_files.read_affinity(folder / workdir.AFFINITY))
    own = plan._replace(measures_affinity=False)
    return TrainedNetwork(
        plan=plan,
        params=params,
        model_state=model_state,
        **{name: record[name] for name in ('validation', 'best_step', 'steps', 'seconds')},
        affinities=affinities,
        not_finite=record.get('not_finite', {}),
        best_of_tasks={task: tuple(of) for task, of in record.get('best_of_tasks', {}).items()},
        copies=tuple(load(at, problem, own) for at in tasks_of_copies(folder)),
    )


def tasks_of_copies(folder: str | os.PathLike) -> dict[pathlib.Path, tuple[str, ...]]:
    """The folders of a kept network at other steps, and the tasks that it is kept for there.

    Args:
      folder: where `save` wrote it.
    """
    found = sorted(
        pathlib.Path(folder).glob(f'{_COPY}*'), key=lambda at: int(at.name[len(_COPY) :])
    )
    return {at: tuple(storage.read_json(at / _RECORD)['validation']) for at in found}


def arrays(folder: str | os.PathLike, problem: MultiTaskProblem | None = None) -> tuple[Any, Any]:
    """The params and the model state of a kept network.

    Args:
      folder: where `save` wrote it.
      problem: the `MultiTaskProblem` that was trained, for the structure that it gives them; None
        for nested dicts with string keys.

    Raises:
      ValueError: if the problem is not the one that was trained: a parameter has another name or
        shape.
      OSError: if files of the network are missing or cannot be read.
    """
    folder, like, frozen_like = pathlib.Path(folder), None, None
    name = _record(folder).get('frozen')
    frozen_folder = None if name is None else folder.parent / name
    if problem is not None:
        params, model_state = problem.shapes
        model_state, frozen_like = split_frozen(model_state)
        like = _tree(params, model_state)
        _check_problem(folder, frozen_folder, like, frozen_like)
    tree = checkpoint.restore(folder / _PARAMETERS, like)
    frozen = name and checkpoint.restore(frozen_folder, frozen_like)
    return tree['params'], with_frozen(tree['model_state'], frozen)


def _record(folder):
    """The contents of network.json of a kept network."""
    if not (folder / _RECORD).exists():
        raise FileNotFoundError(
            f'there is no file {folder / _RECORD}: it belongs to the run, so bring the folder back '
            'from a copy of the run'
        )
    return storage.read_json(folder / _RECORD)


def _check_problem(folder, frozen_folder, like, frozen_like):
    """Raises ValueError unless the arrays of a kept network are those of a problem.

    Args:
      folder: of the network.
      frozen_folder: of its frozen parameters; None if it has none.
      like: the shapes of the problem, without frozen parameters.
      frozen_like: the shapes of those; None if there are none.
    """
    stored = checkpoint.shapes(folder / _PARAMETERS)
    if frozen_folder is not None:
        stored |= _prefixed(checkpoint.shapes(frozen_folder))
    wanted = {**by_names(like), **_prefixed(by_names(frozen_like))}
    wanted = {names: tuple(leaf.shape) for names, leaf in wanted.items()}
    if difference := _first_difference(stored, wanted):
        raise ValueError(
            f'{folder} was trained with {difference}: give the problem that was trained, or none '
            'to predict with the functions that the run exported'
        )


def _prefixed(frozen):
    return {(_FROZEN, *names): value for names, value in frozen.items()}


def _first_difference(stored, wanted):
    """The first array that differs between a kept network and a problem; None if there is none."""
    # The encoder first: where it differs, heads and state may differ because of it.
    rank = lambda names: (not _of_encoder(names), names[0] == 'model_state')
    for names in sorted({**stored, **wanted}, key=rank):
        there, here = stored.get(names), wanted.get(names)
        if there == here:
            continue
        name = '/'.join(names[1:] if names[0] == _FROZEN else names[2:])
        if there is None or here is None:
            other = (*_ENCODER, *names[1:]) if names[0] == _FROZEN else (_FROZEN, *names[2:])
            if _of_encoder(names) and (other in stored or other in wanted):
                how = 'was frozen' if (names[0] == _FROZEN) == (here is None) else 'trained'
                return f'another trainable= ({name!r} {how} there, so give the same)'
            detail = f'{"the problem" if there is None else "the run"} alone has {name!r}'
        else:
            detail = f'{name!r} has the shape {list(there)} in the run, and {list(here)} here'
        return f'another {"encoder" if _of_encoder(names) else "head"} ({detail})'
    return None


def _of_encoder(names):
    return names[0] == _FROZEN or names[1] == 'shared'


def predictor(folder: str | os.PathLike, batch_size: int) -> Callable[[Any], dict[str, Any]]:
    """The exported function of a kept network: `inputs [N, ...] -> {task: output [N, ...]}`.

    Args:
      folder: where `save` wrote it.
      batch_size: examples a pass, as it was given to `save`.

    Raises:
      ValueError: from the function, if the model could not be exported.
    """
    file = pathlib.Path(folder) / _FUNCTION
    if not file.exists():

        def refuse(inputs):
            raise ValueError(f'{folder} holds no exported function: give the problem to predict')

        return refuse
    function = exported.import_function(file.read_bytes(), _tree(*arrays(folder)))
    return lambda inputs: evaluation.in_batches(function, inputs, batch_size)


def _tree(params, model_state):
    return {'params': params, 'model_state': model_state}
