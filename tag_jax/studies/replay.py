"""Answers searches from a recorded table: nothing is trained."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax import affinity
from tag_jax.affinity import AffinitySummary
from tag_jax.grouping.trainer import check_fraction, measuring
from tag_jax.selection import Candidates
from tag_jax.studies.recorded import BEST, SPLITS, RecordedTable
from tag_jax.training import Measurement, TrainingConfig


class RecordedRun(NamedTuple):
    """The settings that a method may see of a recorded run.

    Attributes:
      config: a `TrainingConfig`.
    """

    config: TrainingConfig


class RecordedTrainer:
    """One seed of a recorded table, in place of a `grouping.trainer.Trainer`.

    A search sees the validation scores of its own seed. A brief network is at its best evaluation,
    if that came before the end of its share of training, else at its best of the shares up to
    there. A second is a step.

    Args:
      table: a `RecordedTable`.
      seed: of those of the table, 0 to S - 1.
      select_by: what networks are chosen by, of `evaluation.CRITERIA`.
      judge_by: what test scores are of; None for `select_by`.

    Attributes:
      names: T task names.
      run: a `RecordedRun`.
    """

    def __init__(
        self,
        table: RecordedTable,
        seed: int,
        select_by: str = 'relative_loss',
        judge_by: str | None = None,
    ):
        self._table, self._seed, self._judge_by = table, seed, judge_by or select_by
        self.names = table.task_names
        self._values = {
            (split, one): table.values(split, one)[seed]
            for split in SPLITS
            for one in {select_by, self._judge_by}
        }
        config = TrainingConfig(
            steps=table.steps,
            eval_every=max(1, round(min(table.shares) * table.steps)),
            patience=0,
            seed=seed,
            select_by=select_by,
            affinity=Measurement(every=1),
        )
        self.run = RecordedRun(config)
        self._places = {
            (tuple(np.flatnonzero(tasks).tolist()), cost): n
            for n, (tasks, cost) in enumerate(
                zip(table.members, table.costs.round(6).tolist(), strict=True)
            )
        }

    def rows(
        self,
        sets: Sequence[tuple[str, ...]],
        fraction: float = 1.0,
        cost: float = 1.0,
        slots: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of networks, see `grouping.trainer.Trainer.rows`; slots are those of the table.

        Raises:
          ValueError: if the table has no such network, or not after that share of training.
        """
        del slots
        check_fraction(fraction)
        return [self._row(tasks, fraction, cost) for tasks in sets]

    def measured(self, **changes: Any) -> tuple[AffinitySummary, int, float]:
        """Affinities of a kind, see `grouping.trainer.Trainer.measured`.

        Raises:
          ValueError: if they were not recorded.
        """
        config = measuring(self.run.config, changes)
        own = dataclasses.replace(config.affinity, kind='exact', window=(0, 1), split='train')
        kind = config.affinity.kind + '_validation' * (config.affinity.split == 'validation')
        changed = dataclasses.replace(config, affinity=self.run.config.affinity) != self.run.config
        if own != self.run.config.affinity or changed or kind not in self._table.affinities:
            raise ValueError(
                f'the table {self._table.name} has no such affinities: it has '
                f'{", ".join(self._table.affinities)}, in windows of training'
            )
        history = self._table.affinities[kind][self._seed]
        size = len(history)
        start, stop = (round(share * size) for share in config.affinity.window)
        kept = range(start, max(stop, start + 1))
        middles = [int((n + 0.5) / size * self._table.steps) for n in kept]
        found = affinity.AffinityStatistics(self.names, tuple(middles), tuple(history[kept]))
        return affinity.summary(found), self._table.steps, float(self._table.steps)

    def estimated(
        self, kind: str, fraction: float, options: Mapping[str, Any]
    ) -> tuple[Candidates, float, float]:
        """Estimated scores of all sets, see `grouping.trainer.Trainer.estimated`.

        Raises:
          ValueError: if they were not recorded.
        """
        known = self._table.about.get('estimates', {})
        asked = {'fraction': fraction, **options}
        if kind not in known or known[kind]['options'] != asked:
            raise ValueError(
                f'the table {self._table.name} has no estimates {kind!r} with {asked}: it has '
                f'{known or "none"}'
            )
        members = self._table.members[self._table.costs == 1]
        scores, steps = self._table.estimates[kind][self._seed], known[kind]['steps']
        return Candidates(members, scores, np.ones(len(members)), self.names), steps, float(steps)

    @property
    def reference(self) -> tuple[int, float]:
        """(steps, seconds) of an all-in-one network that trains alone."""
        return self._table.steps, float(self._table.steps)

    def slots_of(self, keys: Sequence[str] | None) -> dict[float, int]:
        """Nothing: brief networks of a table are the beginnings of the others as they are."""
        del keys
        return {}

    def changed(self, **changes: Any) -> 'RecordedTrainer':
        """Refuses: a search sees its own seed and settings.

        Raises:
          ValueError: if anything changes.
        """
        if set(changes) == {'seed'} and changes['seed'] == self._seed:
            return self
        raise ValueError(
            f'a search of a recorded table sees one seed and its settings: it cannot have {changes}'
        )

    def _row(self, tasks, fraction, cost):
        table, select_by = self._table, self.run.config.select_by
        members = tuple(sorted(self.names.index(task) for task in tasks))
        n = self._places.get((members, round(float(cost), 6)))
        if n is None:
            raise ValueError(
                f'the table {table.name} has no network for {", ".join(tasks)} of cost {cost:g}'
            )
        point, steps = self._point(n, fraction)
        of_splits = {'validation': (select_by,), 'test': (select_by, self._judge_by)}
        scores = {
            split: {
                self.names[m]: {one: float(self._values[split, one][point, n, m]) for one in own}
                for m in members
            }
            for split, own in of_splits.items()
        }
        return {
            'key': f'{n}:{point}',
            'tasks': [self.names[m] for m in members],
            'seed': self._seed,
            'cost': float(table.costs[n]),
            'select_by': select_by,
            'judge_by': self._judge_by,
            'steps_taken': steps,
            'seconds': float(steps),
            **scores,
        }

    def _point(self, n, fraction):
        """(the point that a network of a share of training is at, its steps)."""
        table, select_by = self._table, self.run.config.select_by
        best = BEST.index(select_by if select_by in BEST else 'relative_loss')
        if fraction == 1:
            return len(table.shares) + best, table.steps
        shares = [k for k, share in enumerate(table.shares) if share <= fraction + 1e-9]
        if not shares or abs(table.shares[shares[-1]] - fraction) > 1e-9:
            known = ', '.join(f'{share:g}' for share in table.shares)
            raise ValueError(
                f'the table {table.name} has networks after {known} of training, not {fraction:g}'
            )
        steps = round(fraction * table.steps)
        if table.best_steps[self._seed, n, best] <= steps:
            return len(table.shares) + best, steps
        values = self._values['validation', select_by]
        totals = [np.nansum(values[k, n]) for k in shares]
        return shares[int(np.argmin(totals))], steps
