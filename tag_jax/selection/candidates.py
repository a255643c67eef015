"""Candidate networks: what each trains, how well it serves each task, and what it costs.

Examples:
  >>> from tag_jax import selection
  >>> members, scores = [[True, True], [True, False]], [[0.3, 0.2], [0.1, np.nan]]
  >>> candidates = selection.Candidates(members, scores, costs=[1, 0.5], task_names=('a', 'b'))
  >>> selection.select_networks(candidates, budget=1.5).networks
  (1, 0)
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tag_jax.selection.labels import in_order_of, labels_of

# Beyond this, sums of scores could overflow.
LARGEST = 1e300

_ROW_KEYS = ('scores', 'tasks', 'cost', 'name')


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """N networks that a selection may choose from, over T tasks.

    Attributes:
      members: bool `[N, T]`, which tasks each network trains.
      scores: `[N, T]`, what each network is expected to reach on each task: a validation or a
        predicted loss (or accuracy, for `select_networks(maximize=True)`). NaN where it cannot
        serve the task. A task that a network does not train has no score.
      costs: `[N]`, at inference, in any unit; the papers' is the time of a standard network.
      task_names: T names.
      network_names: N names; by default 'network 0', 'network 1', ...

    Raises:
      ValueError: if shapes do not match, a name stands twice, a score is infinite or is given for
        a task that the network does not train, a cost is negative or not finite, or a network
        trains nothing.
    """

    members: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    task_names: tuple[str, ...]
    network_names: tuple[str, ...] | None = None

    def __post_init__(self):
        scores = np.array(self._in_order('scores'), np.float64)
        if scores.ndim != 2 or 0 in scores.shape:
            raise ValueError(f'scores must be [networks, tasks], not of shape {scores.shape}')
        size, num_tasks = scores.shape
        members = np.array(self._in_order('members'))
        if members.shape != scores.shape:
            raise ValueError(f'members are of shape {members.shape}, scores of {scores.shape}')
        if members.dtype != bool and not np.isin(members, (0, 1)).all():
            raise ValueError('members must be true or false: whether a network trains a task')
        costs = np.array(self._in_order('costs'), np.float64)
        if costs.shape != (size,):
            raise ValueError(f'{size} networks need {size} costs, not costs of shape {costs.shape}')
        task_names = _distinct(self.task_names, num_tasks, 'task')
        network_names = self.network_names
        if network_names is None:
            network_names = [f'network {n}' for n in range(size)]
        network_names = _distinct(network_names, size, 'network')
        members = members.astype(bool)
        for field, value in (
            ('members', members),
            ('scores', scores),
            ('costs', costs),
            ('task_names', task_names),
            ('network_names', network_names),
        ):
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, field, value)
        _check_values(self)

    def _in_order(self, field):
        """A field whose labels, if it has any, are in the order of the names."""
        values, networks = getattr(self, field), self.network_names
        if np.ndim(values) > 1:
            values = in_order_of(field, values, 1, tuple(map(str, self.task_names)))
        labels = labels_of(values, 0)
        if labels is None or networks is None or set(labels) != set(map(str, networks)):
            return values
        return in_order_of(field, values, 0, tuple(map(str, networks)))

    def __len__(self):
        return len(self.costs)

    def __repr__(self):
        return f'Candidates({len(self)} networks over {len(self.task_names)} tasks)'

    def gains(self, maximize: bool) -> np.ndarray:
        """Scores turned so that high ones are good, `[N, T]`; -inf where there is none.

        Args:
          maximize: whether they are high already, and not to be negated.
        """
        return np.where(np.isnan(self.scores), -np.inf, self.scores if maximize else -self.scores)

    def replace(self, **fields: Any) -> 'Candidates':
        """The same candidates with other fields: other scores, say.

        Args:
          **fields: those that change, by name.

        Raises:
          ValueError: see `Candidates`.
        """
        return dataclasses.replace(self, **fields)

    def take(self, networks: ArrayLike) -> 'Candidates':
        """Some of the candidates.

        Args:
          networks: indices `[M]`, or bool `[N]`.
        """
        networks = np.arange(len(self))[networks]
        return Candidates(
            self.members[networks],
            self.scores[networks],
            self.costs[networks],
            self.task_names,
            [self.network_names[n] for n in networks],
        )

    def only(self, tasks: Sequence[str]) -> 'Candidates':
        """The candidates for some of the tasks: networks that train nothing else.

        Args:
          tasks: their names.

        Raises:
          ValueError: if there is no such task, or no network of these tasks alone.
        """
        for task in tasks:
            if task not in self.task_names:
                raise ValueError(
                    f'there is no task {task!r}: choose from {", ".join(self.task_names)}'
                )
        kept = np.isin(self.task_names, list(tasks))
        networks = np.flatnonzero(~self.members[:, ~kept].any(axis=1))
        if not len(networks):
            raise ValueError(f'no network trains {", ".join(tasks)} and nothing else')
        return Candidates(
            self.members[np.ix_(networks, kept)],
            self.scores[np.ix_(networks, kept)],
            self.costs[networks],
            [task for task in self.task_names if task in tasks],
            [self.network_names[n] for n in networks],
        )

    @classmethod
    def from_table(
        cls, rows: Iterable[Mapping], task_names: Sequence[str] | None = None
    ) -> 'Candidates':
        """Candidates from a table of trained networks.

        Args:
          rows: a mapping a network: 'scores' `{task: score}`, and where they are known 'tasks'
            (the names of all tasks that it trained; by default those with a score), 'cost' (by
            default 1) and 'name'.
          task_names: by default the tasks of the rows, in the order in which they appear.

        Raises:
          ValueError: if there are no rows, a row has no scores, has a key of another name, or names
            an unknown task, and as `Candidates`.
        """
        if hasattr(rows, 'columns') or isinstance(rows, str | os.PathLike):
            raise ValueError(
                'from_table takes a mapping a network, not a data frame or a file: '
                'Candidates.from_csv(path) reads a CSV file of networks'
            )
        rows = list(rows)
        if not rows:
            raise ValueError('there is no network in the table')
        for n, row in enumerate(rows):
            if not isinstance(row, Mapping) or not isinstance(row.get('scores'), Mapping):
                raise ValueError(f"row {n} of the table has no 'scores' {{task: score}}")
            if unknown := [key for key in row if key not in _ROW_KEYS]:
                raise ValueError(
                    f'row {n} of the table has a key {unknown[0]!r}: its keys may be '
                    f'{", ".join(_ROW_KEYS)}'
                )
        trained = [list(row.get('tasks', row['scores'])) for row in rows]
        if task_names is None:
            task_names = list(dict.fromkeys(task for tasks in trained for task in tasks))
        members = np.zeros((len(rows), len(task_names)), bool)
        scores = np.full(members.shape, np.nan)
        names = [str(row.get('name', f'network {n}')) for n, row in enumerate(rows)]
        for n, (row, tasks) in enumerate(zip(rows, trained, strict=True)):
            for task in [*tasks, *row['scores']]:
                if task not in task_names:
                    raise ValueError(
                        f'{names[n]!r} names the task {task!r}, which is not among '
                        f'{", ".join(task_names)}'
                    )
            members[n] = [task in tasks for task in task_names]
            scores[n] = [row['scores'].get(task, np.nan) for task in task_names]
        costs = [row.get('cost', 1.0) for row in rows]
        return cls(members, scores, costs, tuple(task_names), tuple(names))

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike,
        split: str = 'validation',
        tasks: Sequence[str] | None = None,
    ) -> 'Candidates':
        """Candidates from a CSV file, with the scores of one split.

        Args:
          path: the file, see `read_candidates`.
          split: whose scores.
          tasks: the columns that are tasks; None for all that have no other meaning.

        Raises:
          ValueError: if there is no such split, and as `read_candidates`.
          OSError: if the file cannot be read.
        """
        from tag_jax.selection.reading import read_candidates  # Which imports this class.

        splits = read_candidates(path, tasks)
        if split not in splits:
            raise ValueError(f'{path} has no split {split!r}, only {", ".join(splits)}')
        return splits[split]


def check_same_networks(name: str, others: Candidates, candidates: Candidates) -> None:
    """Raises ValueError if candidates are not the same networks over the same tasks.

    Args:
      name: what the caller calls the others.
      others: to compare, with any scores.
      candidates: what the others are to be like.
    """
    for field in ('task_names', 'network_names', 'costs', 'members'):
        if not np.array_equal(getattr(others, field), getattr(candidates, field)):
            raise ValueError(
                f'{name} must be scores of the same networks and tasks as the others, but their '
                f'{field} differ'
            )


def _distinct(names, size, kind):
    names = tuple(str(name) for name in names)
    if len(names) != size:
        raise ValueError(f'{size} {kind}s need {size} names, not {len(names)}')
    if len(set(names)) < size:
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'two {kind}s are called {name!r}')
    return names


def _check_values(candidates):
    """Raises ValueError for values that mean nothing."""
    members, scores, costs = candidates.members, candidates.scores, candidates.costs
    networks, tasks = candidates.network_names, candidates.task_names
    unsound = ~np.isnan(scores) & ~(np.abs(scores) < LARGEST)
    for problem, sentence in (
        (
            unsound,
            'the score of {network!r} on {task!r} is {score}: scores must be finite, or NaN '
            'where a network cannot serve a task',
        ),
        (
            ~members & ~np.isnan(scores),
            '{network!r} has a score on {task!r}, which it does not train',
        ),
    ):
        for n, t in np.argwhere(problem):
            raise ValueError(
                sentence.format(network=networks[n], task=tasks[t], score=scores[n, t])
            )
    for n in np.flatnonzero(~(np.isfinite(costs) & (costs >= 0))):
        raise ValueError(f'the cost of {networks[n]!r} is {costs[n]}: costs must be 0 or more')
    for n in np.flatnonzero(~members.any(axis=1)):
        raise ValueError(f'{networks[n]!r} trains no task')
