"""The run of a method: checks what can be wrong, opens its folder, and trains networks."""

import dataclasses
import json
import numbers
import pathlib
import types
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tag_jax import evaluation, examples, parallel, training
from tag_jax.data import Dataset, encoding
from tag_jax.grouping import saved_networks
from tag_jax.grouping.identity import description, model, objective
from tag_jax.grouping.method import CHOSEN, Method, check_method
from tag_jax.grouping.result import folder_of
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import storage
from tag_jax.runs import workdir as workdirs
from tag_jax.training import NetworkPlan, TrainedNetwork, TrainingConfig

ALL_IN_ONE = 'mtl'


def _ignore(_):
    return None


class Run(NamedTuple):
    """The problem, the data, the settings and the folder that a method works on.

    Attributes:
      problem, dataset: what is trained.
      config: a `TrainingConfig`.
      method: its displayed name.
      budget: what the chosen networks may cost, in networks of the problem.
      path: the folder of the run, or None. Where there are several processes, all of them see it.
      sizes: `{cost: problem}`, the same tasks on other encoders, in units of the problem's.
      cost: of a network of the problem.
      on_record: called with each `training.Record`; that network stops where it returns True.
      on_finish: called with each `TrainedNetwork`.
      workers: the `remote.Workers` that train networks of searches; None for this process.
      draws: of test examples in memory, by which rows of searches say how sure their test scores
        are.
    """

    problem: Any
    dataset: Any
    config: TrainingConfig
    method: str
    budget: float
    path: pathlib.Path | None
    sizes: Mapping[float, Any] = types.MappingProxyType({})
    cost: float = 1.0
    on_record: Callable = _ignore
    on_finish: Callable = _ignore
    workers: Any = None
    draws: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes into the folder of the run."""
        return self.path is not None and parallel.is_first()

    def sized(self, cost) -> 'Run':
        """The run with the encoder that costs so much.

        Raises:
          ValueError: if there is no such encoder.
        """
        if cost == self.cost:
            return self
        if cost not in self.sizes:
            raise ValueError(
                f'networks of cost {cost:g} are asked for: give their problem with '
                f'sizes={{{cost:g}: problem}}'
            )
        return self._replace(problem=self.sizes[cost], cost=cost)


def begin(problem, dataset, budget, config, method, workdir=None, resume=False, sizes=None) -> Run:
    """Checks everything that can be wrong, and opens the folder of a run.

    Args:
      problem, dataset, budget, config, method, workdir, resume, sizes: see
        `grouping.group_tasks`.

    Raises:
      ValueError, OSError: see `grouping.group_tasks`.
    """
    check_method(method)
    check_problem(problem)
    if not isinstance(config, TrainingConfig):
        raise ValueError(
            f'config must be a training.TrainingConfig, not {config!r}: TrainingConfig(steps=1000)'
        )
    if workdir is None and resume:
        raise ValueError('resume needs the workdir of the run to go on with')
    run = parallel.on_all(lambda: check(problem, dataset, budget, config, [method], sizes))
    if workdir is None:
        return run
    opened = []  # By the first process, which keeps others out while the run has its path.

    def open_folder():
        asked = {'options': dict(method.options), **(getattr(dataset, 'reading', None) or {})}
        if (known := getattr(dataset, 'encoding', None)) is not None:
            text = json.dumps(encoding.to_json(known), sort_keys=True)
            asked['encoding'] = f'{zlib.crc32(text.encode()):08x}'
        if run.sizes:
            asked['sizes'] = {str(cost): model(run.sized(cost)) for cost in run.sizes}
        opened.append(workdirs.open_run(workdir, description(run) | asked, resume))
        if known is not None:
            storage.write_json(opened[0] / workdirs.ENCODING, encoding.to_json(known))
        return str(opened[0])

    path = parallel.first_says(open_folder)
    return run._replace(path=opened[0] if opened else pathlib.Path(path))


def check_problem(problem: Any) -> None:
    """Raises ValueError unless this is a `MultiTaskProblem`.

    Args:
      problem: what was given.
    """
    if not isinstance(problem, MultiTaskProblem):
        raise ValueError(
            f'problem must be a MultiTaskProblem, not {type(problem).__name__}: '
            'problem.from_linen(encoder, tasks, example_inputs) makes one'
        )


def check(problem, dataset, budget, config, methods, sizes=None, strict=True) -> Run:
    """A `Run` without a folder, if nothing is wrong with it.

    Args:
      problem, dataset, budget, config, sizes: see `grouping.group_tasks`.
      methods: the `Method`s that are to run.
      strict: whether groups that cost more than the budget are refused.

    Raises:
      ValueError: see `grouping.group_tasks`.
    """
    for name in ('train', 'validation', 'test'):
        if not hasattr(dataset, name):
            raise ValueError(
                f'dataset must be a data.Dataset with a {name} split, not '
                f'{type(dataset).__name__}: data.from_arrays(inputs, targets, tasks) makes one'
            )
    evaluation.check_splits(problem, dataset)
    training.check_devices(problem, config, dataset.train, dataset.validation)
    if config.select_by == evaluation.RELATIVE_LOSS:
        for split in (dataset.validation, dataset.test):
            evaluation.constant_losses(problem, split)
    sizes = dict(sizes or {})
    for cost, other in sizes.items():
        _check_size(cost, other, problem, dataset)
    _check_budget(problem, budget, sizes)
    name = methods[0].displayed
    run = Run(problem, dataset, config, name, _plain(budget), None, sizes)
    for method in methods:
        _check_stages(method, run, strict)
    return run


def train(run, plans, slots=None) -> dict[str, TrainedNetwork]:
    """Trains networks, `{name: TrainedNetwork}`; with a workdir, keeps each as it finishes.

    The number of slots follows from all the plans of a size, finished or not, so that a continued
    run computes what an unbroken one does.

    Args:
      run: a `Run`.
      plans: of the networks.
      slots: `{cost: slots}`, where networks are to be as they were in so many of them.
    """
    trained = {}
    for cost in dict.fromkeys(plan.cost for plan in plans):
        own = run.sized(cost)
        if slots and cost in slots:
            config = dataclasses.replace(run.config, slots=slots[cost])
            own = own._replace(config=config)
        trained |= _train(own, [plan for plan in plans if plan.cost == cost])
    return trained


def _train(run, plans):
    """`train`, for networks of one size."""
    finished = kept(run, plans)
    waiting = [plan for plan in plans if plan.name not in finished]

    def on_record(record):
        if run.writes:
            storage.append_record(run.path / workdirs.METRICS, record.to_json())
        return run.on_record(record)

    def on_finish(network):
        if run.writes:
            saved_networks.save(
                folder_of(run.path, network.plan.name),
                run.problem,
                network,
                examples.input_shapes(run.dataset.train),
                run.config.batch_size,
            )
        run.on_finish(network)

    if run.writes:
        # Networks that start or go on write all of their records again.
        restarted = {plan.name for plan in waiting}
        records = storage.read_records(run.path / workdirs.METRICS)
        storage.write_records(
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


def kept(run, plans):
    """`{name: TrainedNetwork}` of the plans whose networks the folder of the run holds already.

    Args:
      run: a `Run`.
      plans: of the networks.
    """
    if run.path is None:
        return {}
    find = lambda plan: saved_networks.load(folder_of(run.path, plan.name), run.problem, plan)
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


def _check_stages(method: Method, run, strict):
    """Raises ValueError if a method cannot work, or asks for what is not there."""
    check_method(method)
    for stage in method.stages(run.problem.task_names, run.budget, run.config):
        run.sized(stage.cost)
        if strict and stage.what == CHOSEN and stage.networks * stage.cost > run.budget + 1e-9:
            least = stage.networks * stage.cost
            raise ValueError(
                f'{method.displayed} trains {stage.networks} networks: ask for a budget of '
                f'{least:g}'
            )


def _check_size(cost, other, problem, dataset):
    """Raises ValueError unless another encoder has the tasks of the problem, and fits the data."""
    if not isinstance(cost, numbers.Real) or isinstance(cost, bool) or not 0 < cost < float('inf'):
        raise ValueError(f'sizes must be {{cost: problem}} with positive costs, not {cost!r}')
    if other.task_names != problem.task_names:
        raise ValueError(
            f'an encoder of another size must have the tasks of the problem, '
            f'{", ".join(problem.task_names)}, and not {", ".join(other.task_names)}'
        )
    for task, one in problem.tasks.items():
        if objective(other.tasks[task]) != objective(one):
            raise ValueError(
                f'an encoder of another size must have the objectives of the problem: that of '
                f'{task!r} is another one'
            )
    evaluation.check_split(other, dataset.train, 'train')


def _check_budget(problem, budget, sizes):
    size = len(problem.task_names)
    number = isinstance(budget, numbers.Real) and not isinstance(budget, bool)
    smaller = [cost for cost in sizes if cost < 1]
    least = min([1.0, *(size * cost for cost in smaller)])
    whole = isinstance(budget, numbers.Integral)
    if number and least <= budget <= size and (smaller or whole):
        return
    if not smaller:
        raise ValueError(
            f'budget must be an integer between 1 and the number of tasks, {size}, not '
            f'{_on_one_line(budget)}'
        )
    raise ValueError(
        f'budget must be between {least:g}, what the cheapest networks for all tasks cost, and '
        f'{size}, not {_on_one_line(budget)}'
    )


def _on_one_line(value):
    return ' '.join(repr(value).split())


def cost_of_encoder(other: MultiTaskProblem, problem: MultiTaskProblem, dataset: Dataset) -> float:
    """The cost of another encoder, in units of the problem's, to a hundredth.

    The ratio of the multiply-adds of the encoders, for one example.

    Args:
      other: a `MultiTaskProblem`.
      problem: the standard one.
      dataset: what both are to be trained on.

    Raises:
      ValueError: if the other has other tasks, or does not fit the data.
    """
    _check_size(1.0, other, problem, dataset)
    shapes = examples.input_shapes(dataset.train)
    costs = [evaluation.encoder_cost(one, shapes) for one in (other, problem)]
    return round(costs[0] / costs[1], 2)


def _plain(budget):
    """A budget as an int where it is a whole number."""
    return int(budget) if budget == int(budget) else float(budget)
