"""What every grouping method does: opens its run, trains networks, evaluates those it chose."""

import dataclasses
import functools
import math
import numbers
import os
import pathlib
import platform
import shutil
import types
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
import optax

import tag_jax
from tag_jax import checkpoint, evaluation, examples, parallel, selection, store, training
from tag_jax import workdir as workdirs
from tag_jax.affinity import AffinitySummary
from tag_jax.data import encoding
from tag_jax.grouping.answers import served_outputs
from tag_jax.grouping.pictures import NUM_EXAMPLES, pictures
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
      budget: what the chosen networks may cost, in networks of the problem.
      path: the folder of the run, or None. Where there are several processes, all of them see it.
      sizes: `{cost: problem}`, the same tasks on other encoders, in units of the problem's.
      smaller: the cost of the one on which single tasks may train as well, or None.
      cost: of a network of the problem.
    """

    problem: Any
    dataset: Any
    config: TrainingConfig
    method: str
    budget: float
    path: pathlib.Path | None
    sizes: Mapping[float, Any] = types.MappingProxyType({})
    smaller: float | None = None
    cost: float = 1.0

    @property
    def writes(self) -> bool:
        """Whether this process writes into the folder of the run."""
        return self.path is not None and parallel.is_first()

    def sized(self, cost) -> 'Run':
        """The run with the encoder that costs so much."""
        if cost == self.cost:
            return self
        return self._replace(problem=self.sizes[cost], cost=cost)


class Choice(NamedTuple):
    """The groups that a method chose, before their networks are trained.

    Attributes:
      groups: tuples of task indices, a network each.
      serves: the tasks that each network serves; None to let each task be served by the network
        with its lowest validation error.
      costs: of each network; None where all are those of the run's problem.
      objective, bound: of the selection, or None.
      confidence, remarks: what can be said of it, see `Result`.
      affinities: those that it follows, an `AffinitySummary`; None if there are none.
      cost: of the search, `{name: number}`.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...] | None
    costs: tuple[float, ...] | None = None
    objective: float | None = None
    bound: float | None = None
    confidence: float | None = None
    remarks: tuple[str, ...] = ()
    affinities: AffinitySummary | None = None
    cost: Mapping[str, float] = NO_SEARCH


def begin(problem, dataset, budget, config, method, workdir, resume, smaller=None, **asked) -> Run:
    """Checks everything that can be wrong, and opens the folder of a run.

    Args:
      problem, dataset, budget, config, workdir, resume: of a grouping method.
      method: its name.
      smaller: the same tasks on a cheaper encoder, for networks of a single task; or None.
      **asked: what else it was asked for, as JSON types, for config.json.

    Raises:
      ValueError, OSError: see `grouping.tag`.
    """
    if workdir is None and resume:
        raise ValueError('resume needs the workdir of the run to go on with')
    run = parallel.on_all(lambda: _checked(problem, dataset, budget, config, method, smaller))
    if workdir is None:
        return run
    opened = []  # By the first process, which keeps others out while the run has its path.

    def open_folder():
        if run.sizes:
            asked['smaller'] = {str(cost): model(run.sized(cost)) for cost in run.sizes}
        opened.append(workdirs.open_run(workdir, _description(run) | asked, resume))
        if (known := getattr(dataset, 'encoding', None)) is not None:
            workdirs.write_json(opened[0] / workdirs.ENCODING, encoding.to_json(known))
        return str(opened[0])

    path = parallel.first_says(open_folder)
    return run._replace(path=opened[0] if opened else pathlib.Path(path))


def _checked(problem, dataset, budget, config, method, smaller):
    """A `Run` without a folder, if nothing is wrong with it."""
    for name in ('train', 'validation', 'test'):
        evaluation.check_split(problem, getattr(dataset, name), name)
    training.check_devices(config, dataset.train, dataset.validation)
    cost = None if smaller is None else _cost_of_smaller(smaller, problem, dataset)
    sizes = {} if smaller is None else {cost: smaller}
    _check_budget(problem, budget, sizes)
    return Run(problem, dataset, config, method, _plain(budget), None, sizes, cost)


def finished(run) -> Result | None:
    """The result of a run that is being resumed and had finished; else None."""
    if run.path is None:
        return None
    if not parallel.first_says((run.path / workdirs.RESULTS).exists):
        return None
    return load(run.path, run.problem)


def finish(run, choice, trained) -> Result:
    """Trains the chosen networks and the all-in-one baseline, and evaluates them on the test split.

    Args:
      run: a `Run`.
      choice: a `Choice`.
      trained: `{name: TrainedNetwork}`, networks that exist already.
    """
    names = run.problem.task_names
    baseline = all_in_one_plan(run)
    chosen = []
    for n, group in enumerate(choice.groups):
        own = run if choice.costs is None else run.sized(choice.costs[n])
        one = plan(own, f'network_{n + 1}', tuple(names[task] for task in group))
        chosen.append(baseline if one._replace(name=ALL_IN_ONE) == baseline else one)
    missing = [plan for plan in dict.fromkeys([*chosen, baseline]) if plan.name not in trained]
    trained = trained | train(run, missing)
    new = [trained[plan.name] for plan in missing if plan in chosen]
    if choice.serves is None:
        chosen, serves = _served_on_validation(names, chosen, trained)
    else:
        serves = [tuple(names[n] for n in served) for served in choice.serves]

    test = evaluation.prepare(run.problem, run.dataset.test, parallel.make_mesh(run.config.mesh))
    scores = {
        plan.name: _scores(run, trained[plan.name], test)
        for plan in dict.fromkeys([*chosen, baseline])
    }
    served_by = {
        task: plan.name for plan, served in zip(chosen, serves, strict=True) for task in served
    }
    metrics = {task: scores[served_by[task]][task] for task in names}
    result = Result(
        dataset=run.dataset.name,
        method=run.method,
        budget=run.budget,
        seed=run.config.seed,
        task_names=names,
        groups=tuple(
            Group(plan.tasks, served, plan.name, plan.cost)
            for plan, served in zip(chosen, serves, strict=True)
        ),
        **errors_of(metrics)._asdict(),
        metrics=metrics,
        baselines={ALL_IN_ONE: errors_of(scores[ALL_IN_ONE])},
        affinities=choice.affinities,
        cost={
            **choice.cost,
            'training_steps': sum(network.steps for network in new),
            'training_seconds': math.fsum(network.seconds for network in new),
            'slots': num_slots(run, [plan for plan in missing if plan.cost == run.cost]),
        },
        objective=choice.objective,
        bound=choice.bound,
        confidence=choice.confidence,
        remarks=(*choice.remarks, *_remarks_on_numbers(chosen, trained)),
        networks=tuple(_network(run, trained[plan.name], run.config.batch_size) for plan in chosen),
        tasks=run.problem.tasks,
        encoding=getattr(run.dataset, 'encoding', None),
    )
    if run.writes:
        workdirs.write_json(run.path / workdirs.RESULTS, to_json(result))
        few = [_network(run, trained[plan.name], NUM_EXAMPLES).predict for plan in chosen]
        predict = functools.partial(served_outputs, result.groups, few)
        if shown := pictures(run.problem, run.dataset.test, predict):
            workdirs.write_arrays(run.path / workdirs.PICTURES, shown)
        shutil.rmtree(run.path / workdirs.RUNNING, ignore_errors=True)
    return result


def train(run, plans) -> dict[str, TrainedNetwork]:
    """Trains networks, `{name: TrainedNetwork}`; with a workdir, keeps each as it finishes.

    The number of slots follows from all the plans of a size, finished or not, so that a continued
    run computes what an unbroken one does.
    """
    trained = {}
    for cost in dict.fromkeys(plan.cost for plan in plans):
        trained |= _train(run.sized(cost), [plan for plan in plans if plan.cost == cost])
    return trained


def _train(run, plans):
    """`train`, for networks of one size."""
    finished = _kept(run, plans)
    waiting = [plan for plan in plans if plan.name not in finished]

    def on_record(record):
        if run.writes:
            workdirs.append_record(run.path / workdirs.METRICS, record)

    def on_finish(network):
        if run.writes:
            store.keep(
                folder_of(run.path, network.plan.name),
                run.problem,
                network,
                examples.input_shapes(run.dataset.train),
                run.config.batch_size,
            )

    if run.writes:
        # Networks that start or go on write all of their records again.
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
        checkpoints=run.path and (lambda plan: run.path / workdirs.RUNNING / plan.name),
    )
    return finished | {network.plan.name: network for network in trained}


def _kept(run, plans):
    """`{name: TrainedNetwork}` of the plans whose networks the run holds already."""
    if run.path is None:
        return {}
    find = lambda plan: store.kept(folder_of(run.path, plan.name), run.problem, plan)
    names = parallel.first_says(lambda: [plan.name for plan in plans if find(plan) is not None])
    return {plan.name: find(plan) for plan in plans if plan.name in names}


def num_slots(run, plans):
    """How many networks train side by side, by all plans of a stage, finished or not."""
    shapes = examples.input_shapes(run.dataset.train)
    return training.num_slots(run.problem, len(plans), shapes, run.config)


def all_in_one_plan(run):
    """The network of all tasks: what affinities are measured on, and the baseline."""
    return plan(run, ALL_IN_ONE, run.problem.task_names)


def plan(run, name, tasks):
    """A network to train as the run says."""
    return NetworkPlan(name, tasks, run.config.seed, run.config.learning_rate, cost=run.cost)


def _served_on_validation(names, plans, trained):
    """The plans of networks that serve a task, and what each serves: what it does best."""
    table = [
        {
            'name': plan.name,
            'tasks': plan.tasks,
            'cost': plan.cost,
            'scores': {
                task: score['error'] for task, score in trained[plan.name].validation.items()
            },
        }
        for plan in plans
    ]
    found = selection.serve(selection.Candidates.from_table(table, names), list(range(len(plans))))
    kept = [plans[n] for n in found.networks]
    return kept, [tuple(names[n] for n in served) for served in found.serves]


def _scores(run, network, split):
    problem = run.sized(network.plan.cost).problem
    arrays = network.params, network.model_state
    found = evaluation.evaluate(problem, *arrays, split, run.config.batch_size)
    for task in network.plan.tasks:
        if not math.isfinite(found[task]['error']):
            raise FloatingPointError(
                f'the test error of {task!r} in {network.plan.name} is not finite: look for bad '
                'values in the test split'
            )
    return found


def _remarks_on_numbers(plans, trained):
    """A sentence for each chosen network that met numbers that were not finite."""
    for plan in plans:
        found = trained[plan.name].not_finite
        if found:
            steps = ', '.join(f'{name} in {count}' for name, count in found.items())
            yield (
                f'Of the {trained[plan.name].steps} steps of {plan.name} some had numbers that '
                f'were not finite: {steps}.'
            )


def _network(run, trained, batch_size):
    problem = run.sized(trained.plan.cost).problem
    arrays = trained.params, trained.model_state
    return Network(*arrays, evaluation.predictor(problem, *arrays, batch_size))


def _check_budget(problem, budget, sizes):
    size = len(problem.task_names)
    number = isinstance(budget, numbers.Real) and not isinstance(budget, bool)
    least = min([1.0, *(size * cost for cost in sizes)])
    whole = isinstance(budget, numbers.Integral)
    if number and least <= budget <= size and (sizes or whole):
        return
    if not sizes:
        raise ValueError(
            f'budget must be an integer between 1 and the number of tasks, {size}, not {budget!r}'
        )
    raise ValueError(
        f'budget must be between {least:g}, what the cheapest networks for all tasks cost, and '
        f'{size}, not {budget!r}'
    )


def cost_of_encoder(other, problem, dataset):
    """What another encoder costs, in units of the problem's, to a hundredth.

    Args:
      other: a `MultiTaskProblem`.
      problem: the standard one.
      dataset: what both are to be trained on.

    Raises:
      ValueError: if the other has other tasks, or does not fit the data.
    """
    if other.task_names != problem.task_names:
        raise ValueError(
            f'an encoder of another size must have the tasks of the problem, '
            f'{", ".join(problem.task_names)}, and not {", ".join(other.task_names)}'
        )
    evaluation.check_split(other, dataset.train, 'train')
    shapes = examples.input_shapes(dataset.train)
    costs = [evaluation.encoder_cost(one, shapes) for one in (other, problem)]
    return round(costs[0] / costs[1], 2)


def _cost_of_smaller(smaller, problem, dataset):
    cost = cost_of_encoder(smaller, problem, dataset)
    if not 0 < cost < 1:
        raise ValueError(
            f'smaller must be cheaper than the problem, but its encoder costs {cost:g} of it'
        )
    return cost


def _plain(budget):
    """A budget as an int where it is a whole number."""
    return int(budget) if budget == int(budget) else float(budget)


def subject(run):
    """The data that a run is about, as checksums."""
    return {
        f'{name}_data': _fingerprint(run.problem, getattr(run.dataset, name))
        for name in ('train', 'validation', 'test')
    }


def model(run):
    """A checksum of the shapes and dtypes of parameters, representation and outputs.

    With another one of the weights that all networks begin with, if there are any.
    """
    params, model_state = run.problem.shapes
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype),
        examples.input_shapes(run.dataset.train),
    )
    computed = jax.eval_shape(
        lambda params, state, inputs: (
            run.problem.represent(params, state, inputs, False, None)[0],
            run.problem.predict(params, state, inputs),
        ),
        *(params, model_state, one),
    )
    known = f'{zlib.crc32(str((params, model_state, computed)).encode()):08x}'
    # Weights that networks begin with, whatever the key, are constants of the initialisation.
    begun = jax.make_jaxpr(run.problem.init)(jax.random.key(0)).consts
    return f'{known} from {checkpoint.checksum(begun)}' if begun else known


def settings(config):
    """A `TrainingConfig` as JSON types."""
    return {name: _as_json(value) for name, value in vars(config).items()}


def _description(run):
    """What a run was asked for, as JSON types, for config.json.

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
        'versions': {
            'tag_jax': tag_jax.__version__,
            'jax': jax.__version__,
            'flax': flax.__version__,
            'optax': optax.__version__,
            'numpy': np.__version__,
            'python': platform.python_version(),
            'system': f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores',
            'backend': jax.default_backend(),
            'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
        },
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
    if isinstance(value, functools.partial):
        arguments = [*map(_as_json, value.args)]
        arguments += [f'{name}={_as_json(one)}' for name, one in value.keywords.items()]
        return f'{_as_json(value.func)}({", ".join(map(str, arguments))})'
    return getattr(value, '__qualname__', str(value))
