"""The result of a grouping method, and the way to and from results.json."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tag_jax import evaluation, objectives, parallel
from tag_jax.affinity import AffinitySummary
from tag_jax.data import Encoding, encode_rows, encoding
from tag_jax.grouping import answers, saved_networks
from tag_jax.grouping.errors import Errors, errors_from_json
from tag_jax.objectives import Objective
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import affinity_files, storage
from tag_jax.runs import workdir as workdirs
from tag_jax.tables import data_frame
from tag_jax.training import TrainingConfig


class Group(NamedTuple):
    """Tasks that train together in one network.

    Attributes:
      tasks: names of the tasks that the network trains.
      serves: names of those that it answers at inference.
      network: its name in metrics.jsonl and checkpoints/.
      cost: of the network, in units of a standard one.
    """

    tasks: tuple[str, ...]
    serves: tuple[str, ...]
    network: str
    cost: float = 1.0


class Network(NamedTuple):
    """A trained network.

    Attributes:
      params, model_state: its arrays, at the step that is best for its tasks together.
      predict: `inputs [N, ...] -> {task: NumPy output [N, ...]}`, for every head, trained or not.
    """

    params: Any
    model_state: Any
    predict: Callable

    def __repr__(self):
        return f'Network({sum(np.size(x) for x in jax.tree.leaves(self.params))} parameters)'


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The groups that a method found, and the networks it trained.

    Attributes:
      dataset, method: names.
      budget: what networks were allowed to cost; their number, where all cost the same.
      seed: of training.
      task_names: T names.
      groups: the chosen groups, one for each network.
      test_error: `{task: percent}`, each from the network that serves it; NaN for a task whose
        labels in the test split do not define it, as ROC AUC needs examples of both classes.
      total_test_error: the sum of the others.
      select_by: what networks and groups are selected by, see `training.TrainingConfig`.
      test_score, total_test_score: the same of that on the test split; errors, where it is these.
      metrics: `{task: {name: value}}` on the test split, in natural units.
      baselines: `{'mtl': Errors}`: one network for all tasks, trained the same way.
      gain_interval: (lowest, highest) gain over that network in percent of its total, with 95 %
        confidence over the choice of test examples, see `gain.gain_interval`; None if not known.
      affinities: those that were selected from, an `AffinitySummary`; None if the method uses none.
      cost: steps and seconds of search and training.
      objective, bound: of the selection; None if nothing was optimised.
      confidence: how probable it is, as far as noise of measuring goes, that the chosen groups
        score higher than the runner-up (`confidence.confidence`); None where there are too few
        measurements, no other choice, or a selection that is not proven optimal.
      remarks: what else the measurements say of the choice, a sentence each.
      networks: a `Network` for each group.
      tasks: `{task: Objective}`.
      encoding: the `tag_jax.data.Encoding` of the dataset; None where it had none.
      label_overlaps: `[T, T]`, how many training examples have labels of both tasks, see
        `data.label_overlaps`; None where all have all labels, or that is not known.
      own_best: `{task: {'step', 'validation', 'own_step', 'own_validation'}}`: the step at which
        the network of a task was kept, the best for its tasks together, and what that step is for
        the task alone, with the scores on the validation split; None if not known.
    """

    dataset: str
    method: str
    budget: float
    seed: int
    task_names: tuple[str, ...]
    groups: tuple[Group, ...]
    test_error: Mapping[str, float]
    total_test_error: float
    select_by: str
    test_score: Mapping[str, float]
    total_test_score: float
    metrics: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, Errors]
    affinities: AffinitySummary | None
    cost: Mapping[str, float]
    objective: float | None
    bound: float | None
    confidence: float | None
    remarks: tuple[str, ...]
    networks: tuple[Network, ...]
    tasks: Mapping[str, Objective]
    encoding: Encoding | None = None
    gain_interval: tuple[float, float] | None = None
    label_overlaps: tuple[tuple[int, ...], ...] | None = None
    own_best: Mapping[str, Mapping[str, float]] | None = None

    def __repr__(self):
        groups = ', '.join(
            f'{{{", ".join(group.tasks)}}} serves {{{", ".join(group.serves)}}}'
            + (f' at cost {group.cost:g}' if group.cost != 1 else '')
            for group in self.groups
        )
        count = len(self.remarks)
        remarks = f'; {count} remark{"s" * (count > 1)} in result.remarks' if count else ''
        return (
            f'Result({self.method} on {self.dataset}, budget {self.budget}: {groups}; '
            f'total test error {self.total_test_error:.2f} %{self._beside()}{remarks})'
        )

    def _beside(self):
        return ''.join(
            f', {name} {errors.total_test_error:.2f} %' for name, errors in self.baselines.items()
        )

    @property
    def affinity(self) -> np.ndarray | None:
        """The mean affinities, `[T, T]`, source task first; None if the method uses none."""
        return None if self.affinities is None else self.affinities.mean

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        """Answers each task, from the network that serves it.

        Args:
          inputs: N examples: raw rows, if the dataset was made by `data.from_arrays` or
            `data.table`: arrays `[N, ...]`, a DataFrame, `{column: values}` or the path of a file;
            else `[N, ...]` as the networks were trained on.

        Returns:
          `{task: NumPy [N, ...]}`, in the order of `task_names`: classes by their own names (by
          number, where the dataset has no names), numbers in natural units, `[N]` of one value.

        Raises:
          ValueError: if the inputs are not like those of the dataset.
          OSError: if a file cannot be read.
        """
        return answers.answers(self.tasks, self.encoding, self.outputs(inputs))

    def predict_proba(self, inputs: Any) -> dict[str, np.ndarray]:
        """The probabilities of the classes, of the tasks that have classes.

        Args:
          inputs: see `predict`.

        Returns:
          `{task: NumPy [N, ..., C]}`, classes in their order: `[N, 2]` for binary tasks, and for
          several labels `[N, size]`, each of them by itself.

        Raises:
          ValueError, OSError: see `predict`.
        """
        return answers.probabilities(self.tasks, self.outputs(inputs))

    def to_dataframe(self) -> Any:
        """The test results as a table: a row a task, in the order of `task_names`.

        Returns:
          A pandas DataFrame, indexed by task: `network` that serves it, `tasks` that train there
          (names, joined by commas), `test_error` in percent, `all_together` (that of one network
          for all tasks), and every measure of `metrics` in a column of its name, NaN where a task
          has none.

        Raises:
          ImportError: if pandas is not installed.
        """
        server = {task: group for group in self.groups for task in group.serves}
        together = self.baselines.get('mtl')
        rows = [
            {
                'task': task,
                'network': server[task].network,
                'tasks': ', '.join(server[task].tasks),
                'test_error': self.test_error[task],
                'all_together': None if together is None else together.test_error[task],
                **{name: one for name, one in self.metrics[task].items() if name != 'error'},
            }
            for task in self.task_names
        ]
        return data_frame(rows).set_index('task')

    def outputs(self, inputs: Any) -> dict[str, np.ndarray]:
        """The outputs of the heads, each task from the network that serves it.

        Args:
          inputs: see `predict`.

        Returns:
          `{task: NumPy output [N, ...]}`, in the order of `task_names`: logits `[N, C]` for
          classification, standardised values `[N, D]` for regression.

        Raises:
          ValueError, OSError: see `predict`.
        """
        predictors = [network.predict for network in self.networks]
        encoded = encode_rows(self.encoding, inputs)
        outputs = answers.served_outputs(self.groups, predictors, encoded)
        return {task: outputs[task] for task in self.task_names}


def load(
    workdir: str | os.PathLike,
    problem: MultiTaskProblem | None = None,
    config: TrainingConfig | None = None,
) -> Result:
    """Brings back the result of a finished run.

    Args:
      workdir: its folder.
      problem: the `MultiTaskProblem` that was trained. None to predict with the functions that the
        run exported, which need no model code; networks on a smaller encoder always do.
      config: a `TrainingConfig` whose mesh and `shard_parameters` say over which devices networks
        lie that predict; None for one device. It needs the problem.

    Returns:
      A `Result`.

    Raises:
      ValueError: if the folder holds no finished run, a config comes without a problem, or the
        problem is not the one that was trained; from `Result.predict`, if no problem is given and
        the model could not be exported, or a task has an objective of one's own with answers.
      OSError: if files of the run are missing or cannot be read.
    """
    if problem is not None and not isinstance(problem, MultiTaskProblem):
        raise ValueError(
            f'problem must be the MultiTaskProblem that was trained, not {type(problem).__name__}: '
            'leave it out to predict without it'
        )
    if config is not None and problem is None:
        raise ValueError('config says over which devices a network lies: give its problem as well')
    mesh = None if config is None else parallel.make_mesh(config.mesh)
    devices = () if config is None else (mesh, config.shard_parameters)
    path = pathlib.Path(workdir)
    found = workdirs.read_results(path)
    batch_size = storage.read_json(path / workdirs.CONFIG)['batch_size']
    task_names = tuple(found['task_names'])
    groups = tuple(
        Group(
            tuple(group['tasks']), tuple(group['serves']), group['network'], group.get('cost', 1.0)
        )
        for group in found['groups']
    )
    return Result(
        **{
            name: found[name]
            for name in ('dataset', 'method', 'budget', 'seed', 'objective', 'bound')
        },
        confidence=found.get('confidence'),
        remarks=tuple(found.get('remarks', ())),
        **errors_from_json(found)._asdict(),
        **{name: found[name] for name in ('select_by', 'metrics', 'cost')},
        task_names=task_names,
        groups=groups,
        baselines={name: errors_from_json(one) for name, one in found['baselines'].items()},
        affinities=_affinities(path, task_names),
        networks=tuple(
            _load_network(
                folder_of(path, group.network),
                problem if group.cost == 1 else None,
                batch_size,
                devices,
            )
            for group in groups
        ),
        tasks=_tasks(found, problem),
        encoding=_encoding(path),
        gain_interval=tuple(interval) if (interval := found.get('gain_interval')) else None,
        label_overlaps=tuple(map(tuple, overlaps))
        if (overlaps := found.get('label_overlaps'))
        else None,
        own_best=found.get('own_best'),
    )


def _tasks(found, problem):
    """The objectives of a saved run, by their kinds where there is no problem."""
    if problem is not None:
        return problem.tasks
    kinds, own = found.get('tasks', {}), found.get('own_answers', ())
    tasks = {
        task: objectives.of_kind(*kinds.get(task, ('custom', 1))) for task in found['task_names']
    }
    return {
        task: objectives.without_answers(one, task) if task in own else one
        for task, one in tasks.items()
    }


def _encoding(path):
    file = path / workdirs.ENCODING
    return encoding.from_json(storage.read_json(file)) if file.exists() else None


def _affinities(path, task_names):
    if not (path / workdirs.AFFINITY).exists():
        return None
    return AffinitySummary(**affinity_files.read_affinity(path / workdirs.AFFINITY, task_names))


def judged_by(tasks: Mapping[str, Objective]) -> dict[str, str]:
    """The measures that the errors of tasks follow from, see `objectives.judged_by`.

    Args:
      tasks: `{task: Objective}`.

    Returns:
      `{task: measure}`, of the tasks that are judged by one.
    """
    found = {task: getattr(one, 'options', {}).get('judged_by') for task, one in tasks.items()}
    return {task: measure for task, measure in found.items() if measure}


def folder_of(path, network):
    """The folder of a network, by its name, in the folder of a run."""
    return pathlib.Path(path) / workdirs.CHECKPOINTS / network


def _load_network(folder, problem, batch_size, devices):
    kept, predictors = [], []
    tasks = saved_networks.tasks_of_copies(folder)
    for place in (folder, *tasks):
        kept.append(saved_networks.arrays(place, problem))
        if problem is None:
            predictors.append(saved_networks.predictor(place, batch_size))
        else:
            predictors.append(evaluation.predictor(problem, *kept[-1], batch_size, *devices))
    return Network(*kept[0], answers.at_own_steps(predictors, list(tasks.values())))


def to_json(result):
    """A result as results.json holds it. Numbers of tasks that are not finite are null there."""
    found = {
        name: value
        for name, value in vars(result).items()
        if name not in ('affinities', 'networks', 'groups', 'baselines', 'tasks', 'encoding')
    }
    return found | {
        'tasks': {task: [one.kind, one.width] for task, one in result.tasks.items()},
        'own_answers': [
            task for task, one in result.tasks.items() if objectives.answers_by_itself(one)
        ],
        'judged_by': judged_by(result.tasks),
        **{name: storage.finite(found[name]) for name in ('metrics', 'test_error', 'test_score')},
        'groups': [group._asdict() for group in result.groups],
        'baselines': {
            name: storage.finite(errors._asdict()) for name, errors in result.baselines.items()
        },
    }
