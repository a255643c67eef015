"""Finds groups of tasks, trains a network for each of them, and evaluates them."""

import functools
import logging
import math
import os
import types
from collections.abc import Callable, Mapping
from concurrent import futures

from tag_jax import parallel
from tag_jax.data import Dataset
from tag_jax.grouping import remarks
from tag_jax.grouping import run as runs
from tag_jax.grouping.finish import finish
from tag_jax.grouping.method import Method, Proposal, checked_proposal
from tag_jax.grouping.methods import tag
from tag_jax.grouping.remote import Workers
from tag_jax.grouping.result import Result, load
from tag_jax.grouping.run import ALL_IN_ONE
from tag_jax.grouping.searcher import Searcher
from tag_jax.grouping.trainer import TABLE, Trainer, open_table
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import affinity_files, score_table
from tag_jax.runs import workdir as workdirs
from tag_jax.training import TrainingConfig

DEFAULTS = TrainingConfig()
TAG = tag()


def _ignore(_):
    return None


def group_tasks(
    problem: MultiTaskProblem,
    dataset: Dataset,
    budget: float,
    method: Method = TAG,
    config: TrainingConfig = DEFAULTS,
    workdir: str | os.PathLike | None = None,
    resume: bool = False,
    *,
    scores: str | os.PathLike | None = None,
    sizes: Mapping[float, MultiTaskProblem] = types.MappingProxyType({}),
    executor: futures.Executor | None = None,
    on_record: Callable = _ignore,
    on_finish: Callable = _ignore,
) -> Result:
    """Finds groups of tasks, trains a network for each of them, and evaluates them.

    Every network is kept at its lowest total validation error. The network for all tasks is the
    baseline 'mtl'. The test split is used once, at the end. Totals leave out tasks whose error is
    not defined on a split (`evaluation.left_out`), and a remark of the result names them.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`, or anything with its name, train, validation and test.
      budget: what the networks may cost at inference, in standard networks: their number, 1 to T,
        or any such number where there is a cheaper encoder among `sizes`.
      method: how groups are found, such as `grouping.tag()`.
      config: a `TrainingConfig`.
      workdir: a folder for everything that the run leaves behind; None to leave nothing. The
        pictures and the report are drawn from it by `tag_jax.report.write`.
      resume: go on with the run that the workdir holds. Networks that had finished are kept, those
        that had not start again; the result is that of an unbroken run. A finished run is loaded.
        If there is no run, a new one begins, and a warning says so.
      scores: the folder of a `score_table.ScoreTable`, which may hold networks already; None
        for one in the workdir. One process at a time has it open.
      sizes: `{cost: problem}`, the same tasks on other encoders, by what a network costs at
        inference in networks of the problem (`grouping.cost_of_encoder` counts multiply-adds).
      executor: whose workers train the networks of the search, see `cluster`; None for threads of
        this process. The numbers are the same.
      on_record: called after every evaluation of a network with its `training.Record`; training of
        that network stops where it returns True. (Records of a worker come when its network has
        finished, and stop nothing.)
      on_finish: called with each `training.TrainedNetwork` as soon as it has finished; those of
        workers come without parameters.

    Returns:
      A `Result`.

    Raises:
      ValueError: before any training, if the budget is out of range, a split does not fit the
        problem, a task has no label in a split, the method cannot work or the workdir holds
        another run; and after the search if a pair of tasks ended without an affinity.
      OSError: if files cannot be written.
      FloatingPointError: if a loss is not finite.
    """
    for name, hook in (('on_record', on_record), ('on_finish', on_finish)):
        if not callable(hook):
            raise ValueError(f'{name} must be a function, not {hook!r}: leave it out for none')
    run = runs.begin(problem, dataset, budget, config, method, workdir, resume, sizes)
    workers = None if executor is None else Workers(executor, run)
    run = run._replace(on_record=on_record, on_finish=on_finish, workers=workers)
    if result := _finished(run):
        return result
    for remark in remarks.remarks_on_splits(run.problem.tasks, run.dataset):
        logging.warning('%s', remark)
    trained = {}
    try:
        return _searched_and_trained(run, method, scores, trained)
    except KeyboardInterrupt as error:
        if run.path is not None:
            error.add_note(f'the run in {run.path} is saved: group_tasks(..., resume=True) goes on')
        raise


def _searched_and_trained(run, method, scores, trained) -> Result:
    """Lets the method search, and trains and evaluates what it proposes; see `group_tasks`.

    Args:
      run: a `Run`.
      method: the `Method`.
      scores: the folder of the score table, or None.
      trained: an empty dict, to which networks that the search keeps are added.
    """
    with open_table(run, scores) as table:
        train = functools.partial(_train_all_in_one, run, trained)
        trainer = Trainer(run, table, train, always=scores is None)
        searcher = Searcher(trainer)
        proposal = method.propose(searcher, run.budget)
        proposal = checked_proposal(method, proposal, run.problem.task_names)
        _check_costs(run, method, proposal)
        if run.writes and searcher.asked:
            score_table.write_csv(run.path / TABLE, searcher.asked, run.problem.task_names)
        if run.writes and proposal.affinities is not None:
            affinity_files.write_affinity(run.path / workdirs.AFFINITY, proposal.affinities)
        slots = trainer.slots_of(proposal.networks)
    seconds = 0.0 if proposal.selection is None else proposal.selection.elapsed
    cost = {
        'search_steps': searcher.steps + proposal.steps,
        'search_seconds': searcher.seconds + proposal.seconds,
        'selection_seconds': seconds,
    }
    return finish(run, proposal, trained, cost, slots)


def _finished(run) -> Result | None:
    """The result of a run that is being resumed and had finished; else None."""
    if run.path is None:
        return None
    if not parallel.first_says((run.path / workdirs.RESULTS).exists):
        return None
    return load(run.path, run.problem)


def _train_all_in_one(run, trained, own, measures):
    """Trains the network for all tasks, which is the baseline as well, and keeps it.

    Args:
      run: the `Run` of the method.
      trained: `{name: TrainedNetwork}`, to which it is added.
      own: the `Run` with the settings that the method asks for.
      measures: whether affinities are measured.
    """
    plan = runs.all_in_one_plan(own)._replace(measures_affinity=measures)
    own = own._replace(on_record=run.on_record, on_finish=run.on_finish)
    found = runs.train(own, [plan])
    trained |= found
    if run.writes and measures:  # Kept, whatever becomes of the search.
        affinity_files.write_affinity(run.path / workdirs.AFFINITY, found[ALL_IN_ONE].affinities)
    return found[ALL_IN_ONE]


def _check_costs(run, method, proposal: Proposal):
    """Raises ValueError unless the networks exist, and cost no more than the budget."""
    costs = proposal.costs or (1.0,) * len(proposal.groups)
    for cost in costs:
        run.sized(cost)
    if math.fsum(costs) > run.budget + 1e-9 and method.name != 'all_in_one':
        raise ValueError(
            f'{method.displayed} proposes networks that cost {math.fsum(costs):g}, and the budget '
            f'is {run.budget:g}'
        )
