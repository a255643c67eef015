"""Networks of a search trained by other processes or machines, through an executor.

The process that runs the search owns the score table. It hands out jobs of as many networks as
train side by side; workers answer with rows. A worker leaves each row beside the checkpoints as
soon as it has it, so that a job that is tried again trains no network twice.
"""

import dataclasses
import functools
import pathlib
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import cloudpickle
import jax

from tag_jax import parallel
from tag_jax.grouping.rows import train_rows
from tag_jax.grouping.run import Run
from tag_jax.runs import storage
from tag_jax.training import NetworkPlan, TrainedNetwork, steps_bar

# Workers may run jobs in several threads, and settings of JAX hold for a process.
_ONE_AT_A_TIME = threading.Lock()


class Answer(NamedTuple):
    """The answer of a worker for one network.

    Attributes:
      row: see `rows.train_rows`.
      network: the `TrainedNetwork`, without its parameters and model state.
      records: its `training.Record`s.
    """

    row: Mapping[str, Any]
    network: TrainedNetwork
    records: tuple


class Workers:
    """The workers of an executor, for the networks of one problem.

    Args:
      executor: a `concurrent.futures.Executor`.
      run: a `Run` with the problem, the data, and the settings that networks share.

    Raises:
      ValueError: if this is no executor, there are several processes of JAX, or the problem, the
        data or the settings cannot be sent.
    """

    def __init__(self, executor: futures.Executor, run: Run):
        if not isinstance(executor, futures.Executor):
            raise ValueError(
                f'executor must be a concurrent.futures.Executor, not {executor!r}: '
                'futures.ProcessPoolExecutor(2), or leave it out'
            )
        if jax.process_count() > 1:
            raise ValueError(
                'an executor and several processes of JAX do not go together: leave one of them out'
            )
        self._executor, self._config = executor, run.config
        try:
            self._sent = cloudpickle.dumps((run.problem, run.sizes, run.dataset, run.config))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ValueError(
                f'the problem, the data or the settings cannot be sent to workers ({error}): '
                'let no function hold a lock, an open file or a generator'
            ) from error

    def train_rows(
        self,
        run: Run,
        plans: Sequence[NetworkPlan],
        folders: Mapping[str, Any],
        on_record: Callable,
        on_row: Callable,
    ) -> None:
        """Trains networks as `rows.train_rows` does, with the same numbers.

        Records of a network come when it has finished; what the hook answers ends nothing. An
        error of a worker ends the search, and rows that came before are kept.

        Args:
          run: a `Run`; its settings may differ from those of all.
          plans: of the networks.
          folders: see `rows.train_rows`; workers have to see them, if checkpoints are to help.
          on_record, on_row: see `rows.train_rows`.
        """
        changes = {
            field.name: value
            for field in dataclasses.fields(run.config)
            if (value := getattr(run.config, field.name)) is not getattr(self._config, field.name)
        }
        settings = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
        common = self._sent, cloudpickle.dumps((run.cost, run.draws, changes, settings))
        size = run.config.slots
        parts = [tuple(plans[n : n + size]) for n in range(0, len(plans), size)]
        jobs = [
            self._executor.submit(
                train_job, *common, part, {one.name: folders.get(one.name) for one in part}
            )
            for part in parts
        ]
        bar = steps_bar(len(plans) * run.config.steps, f'{len(plans)} networks by workers')
        try:
            with bar:
                for job in futures.as_completed(jobs):
                    for answer in job.result():
                        for record in answer.records:
                            on_record(record)
                        on_row(answer.row, answer.network)
                        _forget(folders.get(answer.network.plan.name))
                        bar.update(run.config.steps)
        except futures.BrokenExecutor as error:
            raise OSError(
                'a worker died while it trained networks: it may have had too little memory; the '
                'same command goes on where its table is'
            ) from error
        finally:
            for job in jobs:
                job.cancel()


def train_job(
    sent: bytes, settings: bytes, plans: Sequence[NetworkPlan], folders: Mapping[str, Any]
) -> list[Answer]:
    """The work of a worker: trains some networks side by side.

    Args:
      sent: the pickled problem, sizes, data and config of all networks.
      settings: the pickled cost, draws of test examples, changes of the config, and settings of JAX
        for these.
      plans: of the networks.
      folders: `{name: folder}` for their checkpoints, or None in place of each.
    """
    with _ONE_AT_A_TIME:
        cost, draws, changes, (wide, precision) = cloudpickle.loads(settings)
        run = _received(sent)
        config = dataclasses.replace(run.config, **changes)
        run = run.sized(cost)._replace(config=config, draws=draws)
        with jax.enable_x64(wide), jax.default_matmul_precision(precision):
            return _answers(run, plans, folders)


@functools.lru_cache(maxsize=1)  # Programs are compiled once for a problem, which is an object.
def _received(sent):
    problem, sizes, dataset, config = cloudpickle.loads(sent)
    return Run(problem, dataset, config, '', len(problem.task_names), None, sizes)


def _answers(run, plans, folders):
    answers = {one.name: _kept(folders[one.name]) for one in plans}
    records = {one.name: [] for one in plans}

    def on_row(row, network):
        network = network._replace(params=None, model_state=None, copies=())
        name = network.plan.name
        answers[name] = Answer(row, network, tuple(records[name]))
        if folders[name] is not None:
            file = _answer_beside(folders[name])
            file.parent.mkdir(parents=True, exist_ok=True)
            storage.write_bytes(file, pickle.dumps(answers[name]))

    train_rows(
        run,
        [one for one in plans if answers[one.name] is None],
        folders if all(folders.values()) else {},
        lambda record: records[record.network].append(record),
        on_row,
        progress_bar=False,
    )
    return list(answers.values())


def _kept(folder):
    """The answer that a job left before it was broken off, or None."""
    if folder is None or not _answer_beside(folder).exists():
        return None
    return pickle.loads(_answer_beside(folder).read_bytes())


def _forget(folder):
    if folder is not None and parallel.is_first():
        _answer_beside(folder).unlink(missing_ok=True)


def _answer_beside(folder):
    return pathlib.Path(f'{folder}.answer')
