"""Which tasks should train together: measure, select, train, evaluate. One function a method.

result = grouping.tag(problem, dataset, budget=2, config=TrainingConfig(), workdir='runs/mine')
result.groups, result.test_error, result.total_test_error
result.predict(inputs)                            # each task from the network that serves it
result = grouping.load('runs/mine')
"""

import dataclasses
import functools
import math
import numbers
import os
import pathlib
import platform
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
import optax

import tag_jax
from tag_jax import affinity as affinities
from tag_jax import evaluation, selection, store, training, trust
from tag_jax import workdir as workdirs
from tag_jax.training import NetworkPlan, TrainedNetwork, TrainingConfig

ALL_IN_ONE = 'mtl'
DEFAULTS = TrainingConfig()


class Group(NamedTuple):
    """Tasks that train together in one network.

    Attributes:
      tasks: names of the tasks that the network trains.
      serves: names of those that it answers at inference.
      network: its name in metrics.jsonl and checkpoints/.
    """

    tasks: tuple[str, ...]
    serves: tuple[str, ...]
    network: str


class Network(NamedTuple):
    """A trained network.

    Attributes:
      params, model_state: its arrays.
      predict: `inputs [N, ...] -> {task: NumPy output [N, ...]}`, for every head, trained or not.
    """

    params: Any
    model_state: Any
    predict: Callable

    def __repr__(self):
        return f'Network({sum(np.size(x) for x in jax.tree.leaves(self.params))} parameters)'


class Errors(NamedTuple):
    """Test errors of one way to serve all tasks.

    Attributes:
      test_error: `{task: percent}`.
      total_test_error: their sum.
    """

    test_error: Mapping[str, float]
    total_test_error: float


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a grouping method found, and the networks it trained.

    Attributes:
      dataset, method: names.
      budget: how many networks were allowed.
      seed: of training.
      task_names: T names.
      groups: the chosen groups, one for each network.
      test_error: `{task: percent}`, each from the network that serves it.
      total_test_error: their sum.
      metrics: `{task: {name: value}}` on the test split, in natural units.
      baselines: `{'mtl': Errors}`: one network for all tasks, trained the same way.
      affinity: `[T, T]`, the affinities that were selected from, source task first.
      cost: steps and seconds of search and training.
      objective, bound: of the selection.
      confidence: how probable it is, as far as noise of measuring goes, that the chosen groups
        score higher than the runner-up (`trust.confidence`); None where there are too few
        measurements, no other choice, or a selection that is not proven optimal.
      remarks: what else the measurements say of the choice, a sentence each.
      networks: a `Network` for each group.
    """

    dataset: str
    method: str
    budget: int
    seed: int
    task_names: tuple[str, ...]
    groups: tuple[Group, ...]
    test_error: Mapping[str, float]
    total_test_error: float
    metrics: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, Errors]
    affinity: np.ndarray
    cost: Mapping[str, float]
    objective: float
    bound: float
    confidence: float | None
    remarks: tuple[str, ...]
    networks: tuple[Network, ...]

    def __repr__(self):
        groups = ', '.join(
            f'{{{", ".join(group.tasks)}}} serves {{{", ".join(group.serves)}}}'
            for group in self.groups
        )
        return (
            f'Result({self.method} on {self.dataset}, budget {self.budget}: {groups}; '
            f'total test error {self.total_test_error:.2f} %)'
        )

    def predict(self, inputs):
        """Answers each task from the network that serves it.

        Args:
          inputs: N examples, shaped like those of the dataset.

        Returns:
          `{task: NumPy output [N, ...]}`, in the order of `task_names`: what the heads give,
          logits `[N, C]` for classification, values `[N, D]` for regression.
        """
        outputs = {}
        for group, network in zip(self.groups, self.networks, strict=True):
            answers = network.predict(inputs)
            outputs |= {task: answers[task] for task in group.serves}
        return {task: outputs[task] for task in self.task_names}


def tag(
    problem,
    dataset,
    budget: int,
    config: TrainingConfig = DEFAULTS,
    workdir=None,
    affinity=None,
    resume: bool = False,
) -> Result:
    """Task Affinity Grouping (Fifty et al. 2021, Section 4).

    Trains all tasks together once, measuring inter-task affinities on the way; selects at most
    `budget` groups that maximise the affinity onto every task; trains a network for each group.
    Where affinities are compared on the validation split (`affinity_split` of the config), a task
    may be left alone: then its affinity onto itself is its score.
    Every network is kept at its lowest total validation error. The network for all tasks is the
    baseline 'mtl'. The test split is used once, at the end.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`, or anything with its name, train, validation and test.
      budget: the number of networks allowed at inference, 1 to T.
      config: a `TrainingConfig`.
      workdir: a folder for everything that the run leaves behind; None to leave nothing. The
        pictures and the report are drawn from it by `tag_jax.report.write`.
      affinity: affinities to select from, instead of measuring: `[T, T]`, or a file that
        `tag_jax.workdir.read_affinity` reads (.npz of another run, or .csv). Their diagonal counts
        where `affinity_split` is 'validation'.
      resume: go on with the run that the workdir holds. Networks that had finished are kept, those
        that had not start again; the result is that of an unbroken run. A finished run is loaded.

    Returns:
      A `Result`.

    Raises:
      ValueError: before any training, if the budget is out of range, a split does not fit the
        problem, a task has no label in a split, the affinities do not fit or the workdir holds
        another run. After the search, if a pair of tasks ended without an affinity (affinity.npz
        is kept).
      OSError: if the workdir cannot be written to.
      FloatingPointError: if a loss is not finite.
    """
    _check_budget(problem, budget)
    for name in ('train', 'validation', 'test'):
        evaluation.check_split(problem, getattr(dataset, name), name)
    on_validation = config.affinity_split == 'validation'
    summary = None
    if affinity is not None:
        summary = _given_affinities(problem, affinity, on_validation)
    run = _Run(problem, dataset, config, 'tag', int(budget), None)
    if workdir is None and resume:
        raise ValueError('resume needs the workdir of the run to go on with')
    if workdir is not None:
        asked = _description(run, affinity, summary)
        run = run._replace(path=workdirs.open_run(workdir, asked, resume))
        if (run.path / workdirs.RESULTS).exists():
            return load(run.path, problem)

    trained, cost = {}, {'search_steps': 0, 'search_seconds': 0.0}
    if summary is None:
        trained = _train(run, [_all_in_one(run)._replace(measures_affinity=True)])
        search = trained[problem.task_names]
        summary = search.affinities
        cost = {'search_steps': search.steps, 'search_seconds': search.seconds}
    if run.path is not None:
        workdirs.write_affinity(run.path / workdirs.AFFINITY, summary)
    if not len(summary.steps) and affinity is None:
        raise ValueError(
            f'training stopped after {search.steps} steps, before affinity_window began: its '
            f'shares are of the {config.steps} steps allowed'
        )
    if pair := _pair_without_affinity(problem.task_names, summary.mean, on_validation):
        source, target = pair
        kept = '' if run.path is None else f'; all others are in {run.path / workdirs.AFFINITY}'
        raise ValueError(
            f'no affinity of {source!r} onto {target!r} was measured: their labels never met in a '
            f'measured batch, or the loss of {target!r} was not positive. Measure more often or '
            f'in larger batches, or leave one of the tasks out{kept}'
        )
    alone = np.diagonal(summary.mean) if on_validation else None
    selected = selection.select_groups(summary.mean, budget, alone)
    return _train_selected(run, selected, trained, summary, alone, cost)


def load(workdir, problem=None) -> Result:
    """Brings back the result of a finished run.

    Args:
      workdir: its folder.
      problem: the `MultiTaskProblem` that was trained. None to predict with the functions that the
        run exported, which need no model code.

    Returns:
      A `Result`.

    Raises:
      ValueError: if the folder holds no finished run, or an exported function is missing and no
        problem is given.
    """
    path = pathlib.Path(workdir)
    found = workdirs.read_results(path)
    batch_size = workdirs.read_json(path / workdirs.CONFIG)['batch_size']
    task_names = tuple(found['task_names'])
    groups = tuple(
        Group(tuple(group['tasks']), tuple(group['serves']), group['network'])
        for group in found['groups']
    )
    return Result(
        **{
            name: found[name]
            for name in ('dataset', 'method', 'budget', 'seed', 'objective', 'bound')
        },
        confidence=found.get('confidence'),
        remarks=tuple(found.get('remarks', ())),
        **{name: found[name] for name in ('test_error', 'total_test_error', 'metrics', 'cost')},
        task_names=task_names,
        groups=groups,
        baselines={name: Errors(**errors) for name, errors in found['baselines'].items()},
        affinity=workdirs.read_affinity(path / workdirs.AFFINITY, task_names)['mean'],
        networks=tuple(
            _load_network(_folder(path, group.network), problem, batch_size) for group in groups
        ),
    )


class _Run(NamedTuple):
    """What every stage of a method works on."""

    problem: Any
    dataset: Any
    config: TrainingConfig
    method: str
    budget: int
    path: pathlib.Path | None


def _train_selected(run, selected, trained, summary, alone, cost) -> Result:
    """Trains the networks of a selection and the all-in-one baseline, and evaluates them.

    Args:
      run: a `_Run`.
      selected: a `selection.Selection`.
      trained: `{tasks: TrainedNetwork}`, networks that exist already.
      summary: the `AffinitySummary` that was selected from.
      alone: `[T]`, the scores of tasks that train alone; None if no task may.
      cost: of the search.
    """
    names = run.problem.task_names
    other = confidence = None
    if len(summary.steps) and selected.optimal:
        other = trust.runner_up(summary.mean, run.budget, selected, alone)
    if other is not None:
        confidence = trust.confidence(summary, selected, other)
    groups = [tuple(names[n] for n in group) for group in selected.groups]
    serves = [tuple(names[n] for n in served) for served in selected.serves]
    plans = {tasks: _plan(run, f'network_{n}', tasks) for n, tasks in enumerate(groups, 1)}
    plans[names] = _all_in_one(run)
    missing = [plan for tasks, plan in plans.items() if tasks not in trained]
    trained = trained | _train(run, missing)
    new = [trained[plan.tasks] for plan in missing if plan.tasks in groups]

    test = evaluation.prepare(run.problem, run.dataset.test)
    scores = {
        tasks: evaluation.evaluate(
            run.problem,
            trained[tasks].params,
            trained[tasks].model_state,
            test,
            run.config.batch_size,
        )
        for tasks in plans
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
        **_errors(metrics)._asdict(),
        metrics=metrics,
        baselines={ALL_IN_ONE: _errors(scores[names])},
        affinity=summary.mean,
        cost={
            **cost,
            'selection_seconds': selected.elapsed + (other.elapsed if other else 0.0),
            'training_steps': sum(network.steps for network in new),
            'training_seconds': math.fsum(network.seconds for network in new),
            'slots': _num_slots(run, missing),
        },
        objective=selected.objective,
        bound=selected.bound,
        confidence=confidence,
        remarks=trust.remarks(summary, other, confidence),
        networks=tuple(_network(run, trained[tasks]) for tasks in groups),
    )
    if run.path is not None:
        workdirs.write_json(run.path / workdirs.RESULTS, _to_json(result))
    return result


def _train(run, plans) -> dict[tuple[str, ...], TrainedNetwork]:
    """Trains networks, `{tasks: TrainedNetwork}`; with a workdir, keeps each as it finishes.

    The number of slots follows from all the plans, finished or not, so that a continued run
    computes what an unbroken one does.
    """
    finished = {}
    if run.path is not None:
        for plan in plans:
            if network := store.kept(_folder(run.path, plan.name), run.problem, plan):
                finished[plan.tasks] = network
    waiting = [plan for plan in plans if plan.tasks not in finished]

    def on_record(record):
        if run.path is not None:
            workdirs.append_record(run.path / workdirs.METRICS, record)

    def on_finish(network):
        if run.path is not None:
            store.keep(
                _folder(run.path, network.plan.name),
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
        dataclasses.replace(run.config, slots=_num_slots(run, plans)),
        on_record,
        on_finish,
    )
    return finished | {network.plan.tasks: network for network in trained}


def _num_slots(run, plans):
    inputs = run.dataset.train.inputs
    return run.config.slots or training.default_slots(run.problem, len(plans), inputs)


def _all_in_one(run):
    return _plan(run, ALL_IN_ONE, run.problem.task_names)


def _plan(run, name, tasks):
    return NetworkPlan(name, tasks, run.config.seed, run.config.learning_rate)


def _folder(path, network):
    return path / workdirs.CHECKPOINTS / network


def _network(run, trained):
    arrays = trained.params, trained.model_state
    return Network(*arrays, evaluation.predictor(run.problem, *arrays, run.config.batch_size))


def _errors(metrics):
    """The errors among the metrics of every task, `{task: {'error': percent, ...}}`."""
    errors = {task: values['error'] for task, values in metrics.items()}
    return Errors(errors, math.fsum(errors.values()))


def _given_affinities(problem, affinity, with_itself):
    """Affinities from elsewhere, an array or a file, in the form of measured ones."""
    names = problem.task_names
    found = {}
    if isinstance(affinity, str | os.PathLike):
        found = workdirs.read_affinity(affinity, names)
        affinity = found['mean']
    affinity = np.asarray(affinity, np.float64)
    size = len(names)
    if affinity.shape != (size, size):
        raise ValueError(
            f'an affinity matrix of {size} tasks is {size} x {size}, not {affinity.shape}'
        )
    if pair := _pair_without_affinity(names, affinity, with_itself):
        raise ValueError(f'there is no affinity of {pair[0]!r} onto {pair[1]!r} among those given')
    nothing = affinities.summary(affinities.init(problem))
    return nothing._replace(**found | {'mean': affinity})


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


def _pair_without_affinity(names, affinity, with_itself=False):
    """The first pair of tasks whose affinity selection needs and does not have, or None."""
    missing = ~np.isfinite(affinity) & (with_itself | ~np.eye(len(names), dtype=bool))
    for source, target in np.argwhere(missing):
        return names[source], names[target]
    return None


def _load_network(folder, problem, batch_size):
    if problem is None:
        return Network(*store.arrays(folder), store.predictor(folder, batch_size))
    arrays = store.arrays(folder, problem)
    return Network(*arrays, evaluation.predictor(problem, *arrays, batch_size))


def _to_json(result):
    """What results.json says of a result."""
    found = {
        name: value
        for name, value in vars(result).items()
        if name not in ('affinity', 'networks', 'groups', 'baselines')
    }
    return found | {
        'groups': [group._asdict() for group in result.groups],
        'baselines': {name: errors._asdict() for name, errors in result.baselines.items()},
    }


def _description(run, affinity, summary):
    """What a run was asked for, as JSON types, for config.json.

    Data and model are in it by checksums, so that a run is not continued with others.
    """
    splits = {name: getattr(run.dataset, name) for name in ('train', 'validation', 'test')}
    shapes = jax.eval_shape(run.problem.init, jax.random.key(0))
    given = None
    if affinity is not None:
        is_file = isinstance(affinity, str | os.PathLike)
        source = pathlib.Path(affinity).name if is_file else 'an array'
        given = f'{source} ({_checksum(summary.mean)})'
    return {
        'method': run.method,
        'dataset': run.dataset.name,
        'task_names': list(run.problem.task_names),
        'examples': {name: evaluation.num_examples(split) for name, split in splits.items()},
        'budget': run.budget,
        **{name: _as_json(value) for name, value in vars(run.config).items()},
        'affinity': given,
        'parameters': sum(x.size for x in jax.tree.leaves(shapes[0])),
        **{
            f'{name}_data': _checksum(evaluation.as_batch(run.problem, split))
            for name, split in splits.items()
        },
        'model': f'{zlib.crc32(str(shapes).encode()):08x}',
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


def _checksum(tree):
    """A checksum of the arrays in a tree."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.ascontiguousarray(leaf), total)
    return f'{total:08x}'


def _as_json(value):
    """A setting as a JSON type: functions by their names and arguments."""
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, functools.partial):
        arguments = [*map(_as_json, value.args)]
        arguments += [f'{name}={_as_json(one)}' for name, one in value.keywords.items()]
        return f'{_as_json(value.func)}({", ".join(map(str, arguments))})'
    return getattr(value, '__qualname__', str(value))
