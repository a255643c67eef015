"""What every grouping method does: opens its run, trains networks, evaluates those it chose."""

import dataclasses
import functools
import math
import numbers
import pathlib
import platform
import types
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
import optax

import tag_jax
from tag_jax import evaluation, selection, store, training
from tag_jax import workdir as workdirs
from tag_jax.grouping.result import Group, Network, Result, errors_of, folder_of, load, to_json
from tag_jax.training import NetworkPlan, TrainedNetwork, TrainingConfig

ALL_IN_ONE = 'mtl'
NO_SEARCH = types.MappingProxyType(
    {'search_steps': 0, 'search_seconds': 0.0, 'selection_seconds': 0.0}
)


class Run(NamedTuple):
    """What every stage of a method works on.

    Attributes:
      problem, dataset: what is trained.
      config: a `TrainingConfig`.
      method: its name.
      budget: how many networks may be chosen.
      path: the folder of the run, or None.
    """

    problem: Any
    dataset: Any
    config: TrainingConfig
    method: str
    budget: int
    path: pathlib.Path | None


class Choice(NamedTuple):
    """The groups that a method chose, before their networks are trained.

    Attributes:
      groups: tuples of task indices, a network each.
      serves: the tasks that each network serves; None to let each task be served by the network
        with its lowest validation error.
      objective, bound: of the selection, or None.
      confidence, remarks: what can be said of it, see `Result`.
      affinity: `[T, T]`, the affinities that it follows; None if there are none.
      cost: of the search, `{name: number}`.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...] | None
    objective: float | None = None
    bound: float | None = None
    confidence: float | None = None
    remarks: tuple[str, ...] = ()
    affinity: np.ndarray | None = None
    cost: Mapping[str, float] = NO_SEARCH


def begin(problem, dataset, budget, config, method, workdir, resume, **asked) -> Run:
    """Checks everything that can be wrong, and opens the folder of a run.

    Args:
      problem, dataset, budget, config, workdir, resume: of a grouping method.
      method: its name.
      **asked: what else it was asked for, as JSON types, for config.json.

    Raises:
      ValueError, OSError: see `grouping.tag`.
    """
    _check_budget(problem, budget)
    for name in ('train', 'validation', 'test'):
        evaluation.check_split(problem, getattr(dataset, name), name)
    if workdir is None and resume:
        raise ValueError('resume needs the workdir of the run to go on with')
    run = Run(problem, dataset, config, method, int(budget), None)
    if workdir is None:
        return run
    return run._replace(path=workdirs.open_run(workdir, _description(run) | asked, resume))


def finished(run) -> Result | None:
    """The result of a run that is being resumed and had finished; else None."""
    if run.path is None or not (run.path / workdirs.RESULTS).exists():
        return None
    return load(run.path, run.problem)


def finish(run, choice, trained) -> Result:
    """Trains the chosen networks and the all-in-one baseline, and evaluates them on the test split.

    Args:
      run: a `Run`.
      choice: a `Choice`.
      trained: `{tasks: TrainedNetwork}`, networks that exist already.
    """
    names = run.problem.task_names
    groups = [tuple(names[n] for n in group) for group in choice.groups]
    plans = {tasks: plan(run, f'network_{n}', tasks) for n, tasks in enumerate(groups, 1)}
    plans[names] = all_in_one_plan(run)
    missing = [plan for tasks, plan in plans.items() if tasks not in trained]
    trained = trained | train(run, missing)
    new = [trained[plan.tasks] for plan in missing if plan.tasks in groups]
    if choice.serves is None:
        groups, serves = _served_on_validation(names, groups, trained)
    else:
        serves = [tuple(names[n] for n in served) for served in choice.serves]

    test = evaluation.prepare(run.problem, run.dataset.test)
    scores = {
        tasks: evaluation.evaluate(
            run.problem,
            trained[tasks].params,
            trained[tasks].model_state,
            test,
            run.config.batch_size,
        )
        for tasks in {*groups, names}
    }
    served_by = {
        task: group for group, served in zip(groups, serves, strict=True) for task in served
    }
    metrics = {task: scores[served_by[task]][task] for task in names}
    result = Result(
        dataset=run.dataset.name,
        method=run.method,
        budget=run.budget,
        seed=run.config.seed,
        task_names=names,
        groups=tuple(
            Group(tasks, served, plans[tasks].name)
            for tasks, served in zip(groups, serves, strict=True)
        ),
        **errors_of(metrics)._asdict(),
        metrics=metrics,
        baselines={ALL_IN_ONE: errors_of(scores[names])},
        affinity=choice.affinity,
        cost={
            **choice.cost,
            'training_steps': sum(network.steps for network in new),
            'training_seconds': math.fsum(network.seconds for network in new),
            'slots': num_slots(run, missing),
        },
        objective=choice.objective,
        bound=choice.bound,
        confidence=choice.confidence,
        remarks=choice.remarks,
        networks=tuple(_network(run, trained[tasks]) for tasks in groups),
    )
    if run.path is not None:
        workdirs.write_json(run.path / workdirs.RESULTS, to_json(result))
    return result


def train(run, plans) -> dict[tuple[str, ...], TrainedNetwork]:
    """Trains networks, `{tasks: TrainedNetwork}`; with a workdir, keeps each as it finishes.

    The number of slots follows from all the plans, finished or not, so that a continued run
    computes what an unbroken one does.
    """
    finished = {}
    if run.path is not None:
        for plan in plans:
            if network := store.kept(folder_of(run.path, plan.name), run.problem, plan):
                finished[plan.tasks] = network
    waiting = [plan for plan in plans if plan.tasks not in finished]

    def on_record(record):
        if run.path is not None:
            workdirs.append_record(run.path / workdirs.METRICS, record)

    def on_finish(network):
        if run.path is not None:
            store.keep(
                folder_of(run.path, network.plan.name),
                run.problem,
                network,
                run.dataset.train.inputs,
                run.config.batch_size,
            )

    if run.path is not None:
        restarted = {plan.name for plan in waiting}
        records = workdirs.read_records(run.path / workdirs.METRICS)
        workdirs.write_records(
            run.path / workdirs.METRICS, [r for r in records if r['network'] not in restarted]
        )
    trained = training.train_networks(
        run.problem,
        run.dataset.train,
        run.dataset.validation,
        waiting,
        dataclasses.replace(run.config, slots=num_slots(run, plans)),
        on_record,
        on_finish,
    )
    return finished | {network.plan.tasks: network for network in trained}


def num_slots(run, plans):
    """How many networks train side by side, by all plans of a stage, finished or not."""
    inputs = run.dataset.train.inputs
    return run.config.slots or training.default_slots(run.problem, len(plans), inputs)


def all_in_one_plan(run):
    """The network of all tasks: what affinities are measured on, and the baseline."""
    return plan(run, ALL_IN_ONE, run.problem.task_names)


def plan(run, name, tasks):
    """A network to train as the run says."""
    return NetworkPlan(name, tasks, run.config.seed, run.config.learning_rate)


def _served_on_validation(names, groups, trained):
    """The groups that serve a task, and what each serves: the tasks it does best on validation."""
    table = [
        {
            'tasks': tasks,
            'scores': {task: score['error'] for task, score in trained[tasks].validation.items()},
        }
        for tasks in groups
    ]
    found = selection.serve(selection.Candidates.from_table(table, names), list(range(len(groups))))
    kept = [groups[n] for n in found.networks]
    return kept, [tuple(names[n] for n in served) for served in found.serves]


def _network(run, trained):
    arrays = trained.params, trained.model_state
    return Network(*arrays, evaluation.predictor(run.problem, *arrays, run.config.batch_size))


def _check_budget(problem, budget):
    size = len(problem.task_names)
    if (
        not isinstance(budget, numbers.Integral)
        or isinstance(budget, bool)
        or not 1 <= budget <= size
    ):
        raise ValueError(
            f'budget must be an integer between 1 and the number of tasks, {size}, not {budget}'
        )


def subject(run):
    """The data that a run is about, as checksums."""
    splits = {name: getattr(run.dataset, name) for name in ('train', 'validation', 'test')}
    return {
        f'{name}_data': checksum(evaluation.as_batch(run.problem, split))
        for name, split in splits.items()
    }


def model(run):
    """The shapes of a run's parameters, as a checksum."""
    shapes = jax.eval_shape(run.problem.init, jax.random.key(0))
    return f'{zlib.crc32(str(shapes).encode()):08x}'


def settings(config):
    """A `TrainingConfig` as JSON types."""
    return {name: _as_json(value) for name, value in vars(config).items()}


def _description(run):
    """What a run was asked for, as JSON types, for config.json.

    Data and model are in it by checksums, so that a run is not continued with others.
    """
    splits = {name: getattr(run.dataset, name) for name in ('train', 'validation', 'test')}
    shapes = jax.eval_shape(run.problem.init, jax.random.key(0))
    return {
        'method': run.method,
        'dataset': run.dataset.name,
        'task_names': list(run.problem.task_names),
        'examples': {name: evaluation.num_examples(split) for name, split in splits.items()},
        'budget': run.budget,
        **settings(run.config),
        'parameters': sum(x.size for x in jax.tree.leaves(shapes[0])),
        **subject(run),
        'model': model(run),
        'versions': {
            'tag_jax': tag_jax.__version__,
            'jax': jax.__version__,
            'flax': flax.__version__,
            'optax': optax.__version__,
            'numpy': np.__version__,
            'python': platform.python_version(),
            'backend': jax.default_backend(),
        },
    }


def checksum(tree):
    """A checksum of the arrays in a tree."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.ascontiguousarray(leaf), total)
    return f'{total:08x}'


def _as_json(value):
    """A setting as a JSON type: functions by their names and arguments."""
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, functools.partial):
        arguments = [*map(_as_json, value.args)]
        arguments += [f'{name}={_as_json(one)}' for name, one in value.keywords.items()]
        return f'{_as_json(value.func)}({", ".join(map(str, arguments))})'
    return getattr(value, '__qualname__', str(value))
