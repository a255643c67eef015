"""Trains what searches ask for, one seed of a problem, unless the score table has it already."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from tag_jax import affinity, parallel, training
from tag_jax.affinity import AffinitySummary
from tag_jax.grouping import linear_estimates
from tag_jax.grouping.identity import model, objective, settings, subject
from tag_jax.grouping.rows import beginning, train_rows
from tag_jax.grouping.run import Run, all_in_one_plan, plan
from tag_jax.grouping.side_by_side import settled
from tag_jax.runs.score_table import ScoreTable, candidates
from tag_jax.selection import Candidates
from tag_jax.training import TOTAL, TrainingConfig

FOLDER, TABLE = 'networks', 'networks.csv'
# Estimates of networks that are not trained, by name.
ESTIMATES = {'linearised': linear_estimates.estimate}

# What a row is known by, of the settings of training.
_SETTINGS = (
    *('steps', 'batch_size', 'eval_every', 'patience', 'weighting', 'optimizer', 'select_by'),
    *('sampling', 'if_not_finite'),
)


def open_table(run: Run, path=None) -> ScoreTable:
    """The score table of a run: in a given folder, in its own folder, or in memory.

    Raises:
      ValueError: if the folder holds a table about other data.
      OSError: if it cannot be written to.
    """
    if path is None and run.path is not None:
        path = run.path / FOLDER
    elif path is not None:
        check_named(run.config)
        for task, one in run.problem.tasks.items():
            if '<lambda>' in str(objective(one)):
                raise ValueError(
                    f'the objective of {task!r} has a function without a name: networks in a score '
                    'table are known by the names of their functions, so define it with def'
                )
    opened = []  # By the first process, which speaks for all.

    def open_folder():
        about = {'task_names': list(run.problem.task_names), **subject(run)}
        opened.append(ScoreTable(path, about))

    parallel.first_says(open_folder)
    return opened[0] if opened else ScoreTable()


def check_named(config: TrainingConfig) -> None:
    """Raises ValueError where a function of a config has no name that tells it from others.

    Args:
      config: a `TrainingConfig`.
    """
    for name in ('weighting', 'optimizer'):
        if '<lambda>' in (found := str(settings(config)[name])):
            raise ValueError(
                f'{name} is {found}: networks in a score table are known by the names of their '
                'functions, so give it one'
            )


class Trainer:
    """One seed of a problem: rows of networks and measurements, trained when they are asked for.

    Args:
      run: a `Run` with the config of this seed.
      table: the `ScoreTable`.
      train_all_in_one: `(run, measures) -> TrainedNetwork`, which keeps the first network for all
        tasks; None to train it for its scores only.
      always: whether that is asked even where the table knows what it would measure.

    Attributes:
      run, table: as they were given.
      names: T task names.
    """

    def __init__(
        self,
        run: Run,
        table: ScoreTable,
        train_all_in_one: Callable | None = None,
        always: bool = False,
    ):
        self.run, self.table, self.names = run, table, run.problem.task_names
        self._train_all_in_one, self._always = train_all_in_one, always
        self._others, self._known, self._models = {}, {}, {}

    def rows(
        self,
        sets: Sequence[tuple[str, ...]],
        fraction: float = 1.0,
        cost: float = 1.0,
        slots: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of networks, in the order of the sets.

        Where the table has a network that went on to the end, its beginning is the brief one.

        Args:
          sets: tuples of task names.
          fraction: of the steps that the network for all tasks takes, above 0 and at most 1.
          cost: of the encoder that they are on, in standard networks.
          slots: in how many of them they train, so that they go on as brief ones did; None for as
            many as the sets need.
        """
        check_fraction(fraction)
        run, unique = self.run.sized(cost), list(dict.fromkeys(sets))
        known = self._known.setdefault((cost, fraction), {})
        if any(tasks not in known for tasks in unique):
            if slots is not None:
                run = run._replace(config=dataclasses.replace(run.config, slots=slots))
            missing = [tasks for tasks in unique if tasks not in known]
            find = self._whole_rows if fraction == 1 else self._brief_rows
            # As many slots whatever is there already, so that a search that goes on is the same.
            known |= find(run, missing, len(unique), fraction)
        return [known[tasks] for tasks in sets]

    def slots_of(self, keys: Sequence[str] | None) -> dict[float, int]:
        """`{cost: slots}` of networks that are to be kept as the search had them.

        Args:
          keys: of their rows, whole or brief; None or () for no networks.
        """
        slots = {}
        for key in keys or ():
            # The row of a beginning is that of the whole network.
            row = parallel.first_says(lambda key=key: self.table.row(key.partition(':')[0]))
            if row is not None:
                slots.setdefault(row['cost'], set()).add(row['slots'])
        return {cost: found.pop() for cost, found in slots.items() if len(found) == 1}

    def _whole_rows(self, run, sets, asked, fraction=1.0):
        """`{tasks: row}` of networks that train to the end, of so many that are asked for."""
        del fraction
        specifications = _specifications(run, _plans(run, sets).values(), self._model(run))
        return _trained_rows(run, specifications, asked, self.table)

    def _brief_rows(self, run, sets, asked, fraction):
        """`{tasks: row}` of networks that train for a fraction of the steps."""
        steps, rows = self.steps_of(fraction), {}
        if steps % run.config.eval_every == 0:
            wholes = _specifications(run, _plans(run, sets).values(), self._model(run))
            found = parallel.first_says(lambda: [self.table.find(one) for one in wholes.values()])
            rows = {
                tasks: beginning(row, steps)
                for tasks, row in zip(wholes, found, strict=True)
                if row is not None
            }
        missing = [tasks for tasks in sets if tasks not in rows]
        brief = dataclasses.replace(run.config.measuring(window=(0, 1)), steps=steps)
        if not missing:
            return rows
        return rows | self._whole_rows(run._replace(config=brief), missing, asked)

    def _model(self, run):
        """The checksum of the encoder of a run."""
        if run.cost not in self._models:
            self._models[run.cost] = model(run)
        return self._models[run.cost]

    def steps_of(self, fraction: float) -> int:
        """How many steps a fraction of training is: of those that the all-in-one network takes.

        Early stopping ends that network after some of the steps allowed, so a fraction of these
        would be more than its share. Where there is an evaluation, it is a step that has one.

        Args:
          fraction: above 0 and at most 1.
        """
        taken = self.run.config.steps
        if self.run.config.patience:
            taken, _ = self.reference
        every, steps = self.run.config.eval_every, fraction * taken
        return max(1, round(steps) if steps < every else every * round(steps / every))

    def measured(self, **changes: Any) -> tuple[AffinitySummary, int, float]:
        """(`AffinitySummary`, steps, seconds) of an all-in-one network.

        Args:
          **changes: fields of `training.Measurement`, such as `kind='cosine'`, or of the config.
        """
        config = measuring(self.run.config, changes)
        return self._all_in_one(self.run._replace(config=config), True)

    def estimated(
        self, kind: str, fraction: float, options: Mapping[str, Any]
    ) -> tuple[Candidates, int, float]:
        """(estimated scores of every set of tasks, steps, seconds).

        Args:
          kind: of ESTIMATES.
          fraction: of the steps, which the networks train that it follows from.
          options: its own.

        Raises:
          ValueError: if there is no such kind, or the problem does not allow it.
        """
        if kind not in ESTIMATES:
            raise ValueError(f'there are no estimates {kind!r}: choose from {", ".join(ESTIMATES)}')
        check_fraction(fraction)
        config = dataclasses.replace(
            self.run.config.measuring(window=(0, 1)), steps=self.steps_of(fraction)
        )
        run = self.run._replace(config=config)
        (specification,) = _specifications(run, [all_in_one_plan(run)], self._model(run)).values()
        specification |= {'estimates': kind, **options}
        if not all(parallel.each_says(lambda: self.table.estimate(specification) is not None)):
            began = time.perf_counter()
            candidates, steps = ESTIMATES[kind](run.problem, run.dataset, config, **options)
            result = {'steps_taken': steps, 'seconds': time.perf_counter() - began}
            self.table.add_estimate(specification, candidates, result)
        candidates, row = self.table.estimate(specification)
        return candidates, row['steps_taken'], row['seconds']

    def measured_in(self, sets: Sequence[tuple[str, ...]]) -> list[AffinitySummary]:
        """An `AffinitySummary` for each of some sets of task names, of a network for them.

        What it says of other tasks is NaN.

        Args:
          sets: tuples of task names.
        """
        plans = [plan(self.run, '+'.join(s), s)._replace(measures_affinity=True) for s in sets]
        data = self.run.dataset
        networks = training.train_networks(
            self.run.problem, data.train, data.validation, plans, self.run.config
        )
        return [network.affinities for network in networks]

    @functools.cached_property
    def reference(self) -> tuple[int, float]:
        """(steps, seconds) of an all-in-one network that trains alone."""
        _, steps, seconds = self._all_in_one(self.run, False)
        return steps, seconds

    def changed(self, **changes: Any) -> 'Trainer':
        """The same with other settings of training, another seed among them.

        Args:
          **changes: of the config.
        """
        name = tuple(sorted(changes.items()))
        if name not in self._others:
            run = self.run._replace(config=dataclasses.replace(self.run.config, **changes))
            self._others[name] = Trainer(run, self.table)
            self._others[name]._models = self._models
        return self._others[name]

    def _all_in_one(self, run, measures):
        """(affinities, steps, seconds) of an all-in-one network, measured once for all."""
        own = all_in_one_plan(run)
        (specification,) = _specifications(run, [own], self._model(run)).values()
        found = settings(run.config)
        specification['measuring'] = found['affinity'] if measures else None
        has = parallel.each_says(lambda: self.table.measurement(specification) is not None)
        kept = self._always and self._train_all_in_one
        if not all(has) or (kept and _only_measures_otherwise(run.config, self.run.config)):
            train = _train_alone
            if self._train_all_in_one and _only_measures_otherwise(run.config, self.run.config):
                train, self._train_all_in_one = self._train_all_in_one, None
            network = train(run, measures)
            summary = network.affinities
            if summary is None:
                summary = affinity.summary(affinity.init(run.problem))
            result = {'steps_taken': network.steps, 'seconds': network.seconds}
            self.table.add_measurement(specification, summary, result, not network.stopped)
        summary, row = self.table.measurement(specification)
        return summary, row['steps_taken'], row['seconds']


def measuring(config: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    """A config with settings of measuring, or of training, changed.

    Args:
      config: a `TrainingConfig`.
      changes: `{name: value}` of the fields of `training.Measurement` or of the config.

    Raises:
      ValueError: if a name is none of them, or a value is out of its range.
    """
    fields = {field.name for field in dataclasses.fields(training.Measurement)}
    known = fields | {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(
            f'there is no setting {unknown[0]!r} of measuring: choose from '
            f'{", ".join(sorted(fields))}, or a setting of TrainingConfig'
        )
    own = {name: value for name, value in changes.items() if name in fields}
    rest = {name: value for name, value in changes.items() if name not in fields}
    return dataclasses.replace(config, **rest).measuring(**own)


def _only_measures_otherwise(config, usual):
    """Whether a config trains the network that another one trains: the baseline of a run."""
    return dataclasses.replace(config, affinity=usual.affinity) == usual


def _train_alone(run, measures):
    """An all-in-one network, which is not kept."""
    own = all_in_one_plan(run)._replace(measures_affinity=measures)
    data = run.dataset
    return training.train_networks(run.problem, data.train, data.validation, [own], run.config)[0]


def candidates_of(trainer: Trainer, rows: Sequence[Any], split: str = 'validation') -> Candidates:
    """Rows as candidates, scored by what networks are selected by.

    Args:
      trainer: that gave them.
      rows: of networks.
      split: 'validation' or 'test'.
    """
    return candidates(rows, trainer.names, split)


def check_fraction(fraction):
    """Raises ValueError unless a number is a share of training."""
    if not 0 < fraction <= 1:
        raise ValueError(f'fraction must be above 0 and at most 1, not {fraction}')


def cost_of(rows) -> dict[str, float]:
    """The cost of training the networks of some rows, whenever that was."""
    return {
        'search_steps': sum(row['steps_taken'] for row in rows),
        'search_seconds': math.fsum(row['seconds'] for row in rows),
    }


def _trained_rows(run, known, asked, table) -> dict[tuple[str, ...], dict]:
    """`{tasks: row}` of networks; those that the table lacks are trained.

    Args:
      run: a `Run`.
      known: `{tasks: specification}`.
      asked: how many networks the search asks for, these among them.
      table: the `ScoreTable`.
    """

    def found():
        rows = parallel.first_says(lambda: [table.find(known[tasks]) for tasks in known])
        return dict(zip(known, rows, strict=True))

    def on_row(row, network):
        if parallel.is_first():
            # What a hook ended would stand for a whole network in other runs.
            table.add(known[network.plan.tasks], row, lasting=not network.stopped)
        run.on_finish(network)

    plans = _plans(run, known)
    missing = [plans[tasks] for tasks, row in found().items() if row is None]
    folders = parallel.first_says(lambda: [table.running(known[one.tasks]) for one in missing])
    folders = {one.name: folder for one, folder in zip(missing, folders, strict=True) if folder}
    if missing:
        config = settled(run, table, asked, len(missing), known[missing[0].tasks])
        train = train_rows if run.workers is None else run.workers.train_rows
        train(run._replace(config=config), missing, folders, run.on_record, on_row)
    return found()


def _plans(run, sets):
    return {tasks: plan(run, '+'.join(tasks), tasks) for tasks in sets}


def _specifications(run, plans, shapes):
    """`{tasks: specification}`: what the rows of planned networks are known by."""
    chosen, precision = settings(run.config), jax.config.jax_default_matmul_precision
    return {
        one.tasks: {
            'tasks': list(one.tasks),
            'seed': one.seed,
            'learning_rate': one.learning_rate,
            **({} if one.cost == 1 else {'cost': one.cost}),
            **{name: chosen[name] for name in _SETTINGS},
            **({} if run.config.keep == TOTAL else {'keep': run.config.keep}),
            'model': shapes,
            **({'x64': True} if jax.config.jax_enable_x64 else {}),
            **({'precision': precision} if precision else {}),
        }
        for one in plans
    }
