"""Finds groups of tasks, trains a network for each of them, and evaluates them."""

import functools
import logging
import math
import os
import shutil
import types
from collections.abc import Callable, Mapping
from concurrent import futures

import numpy as np

from tag_jax import evaluation, examples, parallel, selection, training
from tag_jax.data import Dataset, label_overlaps
from tag_jax.grouping import answers, remarks
from tag_jax.grouping import metrics as metrics_of
from tag_jax.grouping import run as runs
from tag_jax.grouping.errors import errors_of
from tag_jax.grouping.gain import interval_of_run
from tag_jax.grouping.method import Method, Proposal, checked_proposal
from tag_jax.grouping.methods import tag
from tag_jax.grouping.pictures import NUM_EXAMPLES, pictures
from tag_jax.grouping.remote import Workers
from tag_jax.grouping.result import Group, Network, Result, load, to_json
from tag_jax.grouping.run import ALL_IN_ONE
from tag_jax.grouping.searcher import Searcher
from tag_jax.grouping.trainer import TABLE, Trainer, open_table
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import affinity_files, score_table, storage
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
    return _finish(run, proposal, trained, cost, slots)


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


def _finish(run, proposal, trained, cost, slots) -> Result:
    """Trains the chosen networks and the all-in-one baseline, and evaluates them on the test split.

    Args:
      run: a `Run`.
      proposal: a `Proposal`.
      trained: `{name: TrainedNetwork}` that exist already.
      cost: `{name: number}` of the search.
      slots: see `run.train`.
    """
    names, by = run.problem.task_names, run.config.select_by
    baseline = runs.all_in_one_plan(run)
    chosen = []
    for n, group in enumerate(proposal.groups):
        own = run if proposal.costs is None else run.sized(proposal.costs[n])
        one = runs.plan(own, f'network_{n + 1}', tuple(names[task] for task in group))
        chosen.append(baseline if one._replace(name=ALL_IN_ONE) == baseline else one)
    if ALL_IN_ONE not in trained:  # A run that goes on may have measured with it before.
        trained = trained | runs.kept(run, [baseline._replace(measures_affinity=True)])
    missing = [plan for plan in dict.fromkeys([*chosen, baseline]) if plan.name not in trained]
    trained = trained | runs.train(run, missing, slots)
    new = [trained[plan.name] for plan in missing if plan in chosen]
    unjudged = evaluation.left_out(run.problem, run.dataset.validation)
    if proposal.serves is None:
        chosen, serves = _served_on_validation(names, chosen, trained, by, unjudged)
    else:
        serves = [tuple(names[n] for n in served) for served in proposal.serves]

    mesh = parallel.make_mesh(run.config.mesh)
    served_by = {
        task: plan.name for plan, served in zip(chosen, serves, strict=True) for task in served
    }
    with training.doing('evaluating on the test split', parallel.is_first()):
        test = evaluation.prepare(
            run.problem, run.dataset.test, mesh, by, run.config.shard_parameters
        )
        scores = {
            plan.name: _scores(run, trained[plan.name], test)
            for plan in dict.fromkeys([*chosen, baseline])
        }
        exact = _exact_metrics(run, trained, served_by)
    metrics = {task: scores[served_by[task]][task] | exact.get(task, {}) for task in names}
    found = proposal.selection
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
        select_by=by,
        **errors_of(metrics, by, test.left_out)._asdict(),
        metrics=metrics,
        baselines={ALL_IN_ONE: errors_of(scores[ALL_IN_ONE], by, test.left_out)},
        affinities=proposal.affinities,
        cost={
            **cost,
            'training_steps': sum(network.steps for network in new),
            'training_seconds': math.fsum(network.seconds for network in new),
            'slots': runs.num_slots(run, [plan for plan in missing if plan.cost == run.cost]),
        },
        objective=None if found is None else found.objective,
        bound=None if found is None or not found.optimal else found.bound,
        confidence=proposal.confidence,
        remarks=(
            *(remarks.remarks_on_still_parameters(run) if _measured(proposal) else ()),
            *proposal.remarks,
            *remarks.remarks_on_numbers([trained[plan.name] for plan in chosen]),
            *_remarks_on_own_steps(run, served_by, trained, test, metrics),
            *remarks.remarks_on_left_out(run.problem, run.dataset, by),
            *remarks.remarks_on_labels(run, _measured(proposal), metrics),
            *remarks.remarks_on_splits(run.problem.tasks, run.dataset),
            *remarks.remarks_on_targets(run.problem.tasks, run.dataset),
            *remarks.remarks_on_steps(run.config.steps, [trained[name] for name in scores]),
        ),
        networks=tuple(_network(run, trained[plan.name], run.config.batch_size) for plan in chosen),
        tasks=run.problem.tasks,
        encoding=getattr(run.dataset, 'encoding', None),
        gain_interval=interval_of_run(run, chosen, serves, trained, test),
        label_overlaps=_label_overlaps(run),
        own_best=_own_best(
            {task: trained[served_by[task]] for task in evaluation.judged(names, by, unjudged)}, by
        ),
    )
    if run.writes:
        storage.write_json(run.path / workdirs.RESULTS, to_json(result))
        few = [_network(run, trained[plan.name], NUM_EXAMPLES).predict for plan in chosen]
        predict = functools.partial(answers.served_outputs, result.groups, few)
        if shown := pictures(run.problem, run.dataset.test, predict):
            storage.write_arrays(run.path / workdirs.PICTURES, shown)
        shutil.rmtree(run.path / workdirs.RUNNING, ignore_errors=True)
    return result


def _own_best(networks, by):
    """See `Result.own_best`; networks are those of the tasks that it is about."""
    if not all(task in network.best_of_tasks for task, network in networks.items()):
        return None
    found = {}
    for task, network in networks.items():
        step, value = network.best_of_tasks[task]
        (at,) = (one.best_step for one, tasks in training.kept(network) if task in tasks)
        kept = {'step': at, 'validation': training.validation_scores(network)[task][by]}
        found[task] = {**kept, 'own_step': step, 'own_validation': value}
    return found or None


def _label_overlaps(run):
    """See `Result.label_overlaps`."""
    found = label_overlaps(run.dataset.train, run.problem.task_names)
    if found is None or (found == found.max()).all():
        return None
    return tuple(map(tuple, found.tolist()))


def _served_on_validation(names, plans, trained, by, unjudged):
    """The plans of networks that serve a task, and what each serves: what it does best."""
    scores = {plan.name: training.validation_scores(trained[plan.name]) for plan in plans}
    table = [
        {
            'name': plan.name,
            'tasks': plan.tasks,
            'cost': plan.cost,
            'scores': evaluation.summands(scores[plan.name], by, unjudged),
        }
        for plan in plans
    ]
    found = selection.serve(selection.Candidates.from_table(table, names), list(range(len(plans))))
    kept = [plans[n] for n in found.networks]
    return kept, [tuple(names[n] for n in served) for served in found.serves]


def _scores(run, network, split):
    problem = run.sized(network.plan.cost).problem
    found = training.evaluate(problem, network, split, run.config.batch_size)
    needed = dict.fromkeys(['error', run.config.select_by])
    for name in needed:
        for task in evaluation.judged(network.plan.tasks, name, split.left_out):
            if not math.isfinite(found[task][name]):
                raise FloatingPointError(
                    f'the test {name.replace("_", " ")} of {task!r} in {network.plan.name} is not '
                    'finite: look for bad values in the test split'
                )
    return found


def _exact_metrics(run, trained, served_by):
    """`{task: {name: value}}` on the test split, by scikit-learn's names; see `metrics.metrics`."""
    split, encoding = run.dataset.test, getattr(run.dataset, 'encoding', None)
    tasks = {task: one for task, one in run.problem.tasks.items() if one.kind in metrics_of.KINDS}
    if not examples.in_memory(split) and parallel.process_count() > 1:
        return {}  # No process reads all of it.
    found = {}
    for name in dict.fromkeys(served_by.values()):
        own = [task for task in tasks if served_by[task] == name]
        if not own:
            continue
        predict = _network(run, trained[name], run.config.batch_size).predict
        outputs, parts = [], []
        for part in examples.in_parts(split, run.config.batch_size):
            of_part = predict(part.inputs)
            outputs.append({task: of_part[task] for task in own})
            parts.append(part)
        for task in own:
            masks = [(part.mask or {}).get(task) for part in parts]
            given = all(mask is not None for mask in masks)
            found[task] = metrics_of.metrics(
                tasks[task],
                np.concatenate([of_part[task] for of_part in outputs]),
                np.concatenate([np.asarray(part.targets[task]) for part in parts]),
                np.concatenate([np.asarray(mask, bool) for mask in masks]) if given else None,
                encoding and encoding.targets.get(task),
            )
    return found


def _measured(proposal):
    """Whether the groups rest on affinities that were measured."""
    return proposal.affinities is not None and len(proposal.affinities.steps) > 0


def _remarks_on_own_steps(run, served_by, trained, test, metrics):
    """A sentence on what keeping each task at its own step costs and gains, where that is done."""
    if run.config.keep == training.TOTAL:
        return
    by, networks = run.config.select_by, {name: trained[name] for name in served_by.values()}
    encoders = sum(
        any(served_by[task] == name for task in tasks)
        for name, network in networks.items()
        for _, tasks in training.kept(network)
    )
    together = {name: _scores(run, one._replace(copies=()), test) for name, one in networks.items()}
    own, usual = (
        math.fsum(evaluation.summands(found, by, test.left_out).values())
        for found in (metrics, {task: together[name][task] for task, name in served_by.items()})
    )
    yield (
        f'Each task is kept at its own best step, so that inference takes {encoders} encoders, not '
        f'{len(networks)}. The total test {by.replace("_", " ")} is {own:.4g}; at the steps that '
        f'are best for the tasks of a network together it would be {usual:.4g}.'
    )


def _network(run, trained, batch_size):
    problem = run.sized(trained.plan.cost).problem
    how = batch_size, parallel.make_mesh(run.config.mesh), run.config.shard_parameters
    kept = [(one.params, one.model_state) for one in (trained, *trained.copies)]
    predictors = [evaluation.predictor(problem, *arrays, *how) for arrays in kept]
    tasks = [tuple(copy.validation) for copy in trained.copies]
    return Network(*kept[0], answers.at_own_steps(predictors, tasks))
