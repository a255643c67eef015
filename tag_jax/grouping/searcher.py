"""Gives methods what they may ask for: affinities, and validation scores of networks."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tag_jax.affinity import AffinitySummary
from tag_jax.grouping.trainer import Trainer
from tag_jax.runs import score_table
from tag_jax.selection import Candidates
from tag_jax.training import TrainingConfig


class NetworkScores(NamedTuple):
    """The scores of a network that a search may know.

    Attributes:
      tasks: names of the tasks that it trains.
      seed: of its training.
      cost: at inference, in standard networks.
      steps: that it trained.
      seconds: that it took.
      validation: `{task: value}` at its best evaluation, of what networks are selected by; 0 in
        every network, where the error of a task is not defined on the split.
      key: of its row in the score table.
    """

    tasks: tuple[str, ...]
    seed: int
    cost: float
    steps: int
    seconds: float
    validation: Mapping[str, float]
    key: str


class Searcher:
    """Trains and measures what a method asks for, for one seed. It shows no test scores.

    Whatever was trained or measured once is not trained again, by another method, budget or run.
    A method is charged all the same for all that it asks for, as if it had trained alone.

    Args:
      trainer: a `Trainer`, which trains what is not known.

    Attributes:
      task_names: T names.
      seed: of the run.
      config: the `TrainingConfig` of the run.
    """

    def __init__(self, trainer: Trainer):
        self._trainer, self._charged, self._networks = trainer, {}, {}
        self.task_names: tuple[str, ...] = trainer.names
        self.config: TrainingConfig = trainer.run.config
        self.seed: int = self.config.seed

    @property
    def steps(self) -> int:
        """The network-steps of all that was asked for."""
        return sum(steps for steps, _ in self._charged.values())

    @property
    def seconds(self) -> float:
        """The seconds of all that was asked for, whenever they were spent."""
        return math.fsum(seconds for _, seconds in self._charged.values())

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The rows of all networks that were asked for, in that order."""
        return list(self._networks.values())

    def affinities(self, **changes: Any) -> AffinitySummary:
        """Inter-task affinities, measured while one network trains on all tasks.

        Args:
          **changes: fields of `training.Measurement`, such as `kind='cosine'`, or of the config.

        Returns:
          An `AffinitySummary`.

        Raises:
          ValueError: if a change is no setting, or nothing is measured.
          FloatingPointError: if a loss is not finite.
        """
        summary, steps, seconds = self._trainer.measured(**changes)
        self._charged['measured', str(sorted(changes.items()))] = steps, seconds
        return summary

    def networks(
        self,
        sets: Sequence[Sequence],
        fraction: float = 1.0,
        cost: float = 1.0,
        seed: int | None = None,
    ) -> list[NetworkScores]:
        """Networks for sets of tasks.

        Args:
          sets: of task names or task indices.
          fraction: of the steps that the network for all tasks takes, above 0 and at most 1.
          cost: of their encoder, in standard networks: 1, or one of `sizes=`.
          seed: of their training; None for that of the run.

        Returns:
          A `NetworkScores` for each set, in their order.

        Raises:
          ValueError: if there is no such task or cost, or the fraction is out of range.
          FloatingPointError: if a loss is not finite.
        """
        trainer = self._trainer if seed is None else self._trainer.changed(seed=seed)
        named = [self._named(tasks) for tasks in sets]
        found = []
        for row in trainer.rows(named, fraction, cost):
            self._networks[row['key']] = row
            # The beginning of a network that went on costs no more than the whole of it.
            whole = row['key'].partition(':')[0]
            cost = row['steps_taken'], row['seconds']
            self._charged[whole] = max(cost, self._charged.get(whole, cost))
            found.append(
                NetworkScores(
                    tuple(row['tasks']),
                    row['seed'],
                    row['cost'],
                    row['steps_taken'],
                    row['seconds'],
                    score_table.scores(row),
                    row['key'],
                )
            )
        return found

    def candidates(
        self, sets: Sequence[Sequence], fraction: float = 1.0, cost: float = 1.0
    ) -> Candidates:
        """Networks for sets of tasks as candidates, scored on the validation split.

        Args:
          sets, fraction, cost: see `networks`.

        Raises:
          ValueError, FloatingPointError: see `networks`.
        """
        return candidates_of(self.networks(sets, fraction, cost), self.task_names)

    def estimates(self, kind: str, fraction: float = 0.1, **options: Any) -> Candidates:
        """Scores of every set of tasks that are estimated without training its network.

        Args:
          kind: 'linearised', see `grouping.linear_estimates`.
          fraction: of the steps, which the networks train that the estimates follow from.
          **options: of that kind.

        Returns:
          `Candidates` of cost 1.

        Raises:
          ValueError: if there is no such kind, or the problem does not allow it.
        """
        candidates, steps, seconds = self._trainer.estimated(kind, fraction, options)
        self._charged['estimated', kind, fraction, str(sorted(options.items()))] = steps, seconds
        return candidates

    def changed(self, **changes: Any) -> 'Searcher':
        """A searcher with other settings of training, which is charged by itself.

        Args:
          **changes: of the config.
        """
        return Searcher(self._trainer.changed(**changes))

    def _named(self, tasks):
        """A set of tasks by their names, in the order of the problem."""
        if isinstance(tasks, str) or not isinstance(tasks, Iterable):
            raise ValueError(f'sets must be lists of tasks, as [("a", "b"), ("c",)], not {tasks!r}')
        names = [task if isinstance(task, str) else self._name(task) for task in tasks]
        if not names:
            raise ValueError('a network needs at least one task, and a set has none')
        if unknown := [name for name in names if name not in self.task_names]:
            raise ValueError(
                f'there is no task {unknown[0]!r}: choose from {", ".join(self.task_names)}'
            )
        return tuple(name for name in self.task_names if name in names)

    def _name(self, index):
        """The name of a task by its index."""
        try:
            place = operator.index(index)
        except TypeError:
            place = -1
        if not 0 <= place < len(self.task_names):
            raise ValueError(
                f'there is no task {index!r}: indices go from 0 to {len(self.task_names) - 1}'
            )
        return self.task_names[place]


def candidates_of(networks: Sequence[NetworkScores], task_names: Sequence[str]) -> Candidates:
    """Networks as candidates, scored on the validation split.

    Args:
      networks: `NetworkScores`; several of the same tasks stay several candidates.
      task_names: T names.
    """
    return Candidates.from_table(
        [
            {
                'name': f'{" + ".join(one.tasks)} #{n}',
                'tasks': one.tasks,
                'cost': one.cost,
                'scores': one.validation,
            }
            for n, one in enumerate(networks)
        ],
        task_names,
    )
