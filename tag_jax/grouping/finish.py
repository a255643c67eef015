"""The end of a run: the chosen networks are trained, and judged on the test split."""

import functools
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tag_jax import evaluation, examples, parallel, selection, training
from tag_jax.data import label_overlaps
from tag_jax.grouping import answers, remarks
from tag_jax.grouping import metrics as metrics_of
from tag_jax.grouping import run as runs
from tag_jax.grouping.errors import errors_of
from tag_jax.grouping.gain import interval_of_run
from tag_jax.grouping.method import Proposal
from tag_jax.grouping.pictures import NUM_EXAMPLES, pictures
from tag_jax.grouping.result import Group, Network, Result, to_json
from tag_jax.grouping.run import ALL_IN_ONE, Run
from tag_jax.runs import storage
from tag_jax.runs import workdir as workdirs
from tag_jax.training import NetworkPlan, TrainedNetwork


class Chosen(NamedTuple):
    """The networks of the chosen groups, and the network for all tasks, trained.

    Attributes:
      plans: a `NetworkPlan` for each network that serves a task.
      serves: `[networks][...]`, the names of the tasks that each serves.
      trained: `{name: TrainedNetwork}` of these, of the network for all tasks, and of others.
      cost: `{name: number}` of training them, as far as the search had not, and `slots`, how many
        trained side by side.
      unjudged: `{task: why}` of those whose error is not defined on the validation split.
    """

    plans: Sequence[NetworkPlan]
    serves: Sequence[tuple[str, ...]]
    trained: Mapping[str, TrainedNetwork]
    cost: Mapping[str, float]
    unjudged: Mapping[str, str]

    @property
    def networks(self) -> tuple[TrainedNetwork, ...]:
        """The networks of the chosen groups."""
        return tuple(self.trained[plan.name] for plan in self.plans)

    @property
    def served_by(self) -> dict[str, str]:
        """The name of the network that serves each task."""
        pairs = zip(self.plans, self.serves, strict=True)
        return {task: plan.name for plan, served in pairs for task in served}


def finish(
    run: Run,
    proposal: Proposal,
    trained: Mapping[str, TrainedNetwork],
    cost: Mapping[str, float],
    slots: Mapping[float, int],
) -> Result:
    """Trains the chosen networks and the all-in-one baseline, and evaluates them on the test split.

    Args:
      run: a `Run`.
      proposal: a `Proposal`.
      trained: `{name: TrainedNetwork}` that exist already.
      cost: `{name: number}` of the search.
      slots: `{cost: slots}`, see `run.train`.

    Returns:
      The `Result`, which is written where the run has a folder.

    Raises:
      FloatingPointError: if a test score of a task that can be judged is not finite.
      OSError: if files cannot be written.
    """
    chosen = _train(run, proposal, trained, slots)
    result = _result_of(run, proposal, chosen, cost)
    if run.writes:
        _write(run, chosen, result)
    return result


def _train(run, proposal, trained, slots) -> Chosen:
    """Trains what is missing of the chosen networks and the baseline."""
    names = run.problem.task_names
    baseline = runs.all_in_one_plan(run)
    plans = []
    for n, group in enumerate(proposal.groups):
        own = run if proposal.costs is None else run.sized(proposal.costs[n])
        one = runs.plan(own, f'network_{n + 1}', tuple(names[task] for task in group))
        plans.append(baseline if one._replace(name=ALL_IN_ONE) == baseline else one)
    if ALL_IN_ONE not in trained:  # A run that goes on may have measured with it before.
        trained = trained | runs.kept(run, [baseline._replace(measures_affinity=True)])
    missing = [plan for plan in dict.fromkeys([*plans, baseline]) if plan.name not in trained]
    trained = trained | runs.train(run, missing, slots)
    new = [trained[plan.name] for plan in missing if plan in plans]
    cost = {
        'training_steps': sum(network.steps for network in new),
        'training_seconds': math.fsum(network.seconds for network in new),
        'slots': runs.num_slots(run, [plan for plan in missing if plan.cost == run.cost]),
    }
    unjudged = evaluation.left_out(run.problem, run.dataset.validation)
    if proposal.serves is None:
        by = run.config.select_by
        plans, serves = _served_on_validation(names, plans, trained, by, unjudged)
    else:
        serves = [tuple(names[n] for n in served) for served in proposal.serves]
    return Chosen(plans, serves, trained, cost, unjudged)


def _result_of(run, proposal, chosen, cost) -> Result:
    """The result of a run, with the scores of its networks on the test split."""
    names, by = run.problem.task_names, run.config.select_by
    with training.doing('evaluating on the test split', parallel.is_first()):
        mesh = parallel.make_mesh(run.config.mesh)
        test = evaluation.prepare(
            run.problem, run.dataset.test, mesh, by, run.config.shard_parameters
        )
        scores = {
            name: _scores(run, chosen.trained[name], test)
            for name in dict.fromkeys([*(plan.name for plan in chosen.plans), ALL_IN_ONE])
        }
        exact = _exact_metrics(run, chosen)
    served_by = chosen.served_by
    metrics = {task: scores[served_by[task]][task] | exact.get(task, {}) for task in names}
    found = proposal.selection
    judged = evaluation.judged(names, by, chosen.unjudged)
    return Result(
        dataset=run.dataset.name,
        method=run.method,
        budget=run.budget,
        seed=run.config.seed,
        task_names=names,
        groups=tuple(
            Group(plan.tasks, served, plan.name, plan.cost)
            for plan, served in zip(chosen.plans, chosen.serves, strict=True)
        ),
        select_by=by,
        **errors_of(metrics, by, test.left_out)._asdict(),
        metrics=metrics,
        baselines={ALL_IN_ONE: errors_of(scores[ALL_IN_ONE], by, test.left_out)},
        affinities=proposal.affinities,
        cost={**cost, **chosen.cost},
        objective=None if found is None else found.objective,
        bound=None if found is None or not found.optimal else found.bound,
        confidence=proposal.confidence,
        remarks=tuple(_remarks(run, proposal, chosen, test, scores, metrics)),
        networks=tuple(_network(run, one, run.config.batch_size) for one in chosen.networks),
        tasks=run.problem.tasks,
        encoding=getattr(run.dataset, 'encoding', None),
        gain_interval=interval_of_run(run, chosen.plans, chosen.serves, chosen.trained, test),
        label_overlaps=_label_overlaps(run),
        own_best=_own_best({task: chosen.trained[served_by[task]] for task in judged}, by),
    )


def _remarks(run, proposal, chosen, test, scores, metrics):
    """The remarks of a result, in their order."""
    tasks, by, measured = run.problem.tasks, run.config.select_by, _measured(proposal)
    if measured:
        yield from remarks.remarks_on_still_parameters(run)
    yield from proposal.remarks
    yield from remarks.remarks_on_numbers(chosen.networks)
    yield from _remarks_on_own_steps(run, chosen, test, metrics)
    yield from remarks.remarks_on_left_out(run.problem, run.dataset, by)
    yield from remarks.remarks_on_labels(run, measured, metrics)
    yield from remarks.remarks_on_splits(tasks, run.dataset)
    yield from remarks.remarks_on_targets(tasks, run.dataset)
    yield from remarks.remarks_on_steps(run.config.steps, [chosen.trained[name] for name in scores])


def _write(run, chosen, result):
    """Writes results.json and pictures, and removes what only an unfinished run needs."""
    storage.write_json(run.path / workdirs.RESULTS, to_json(result))
    few = [_network(run, one, NUM_EXAMPLES).predict for one in chosen.networks]
    predict = functools.partial(answers.served_outputs, result.groups, few)
    if shown := pictures(run.problem, run.dataset.test, predict):
        storage.write_arrays(run.path / workdirs.PICTURES, shown)
    shutil.rmtree(run.path / workdirs.RUNNING, ignore_errors=True)


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


def _exact_metrics(run, chosen):
    """`{task: {name: value}}` on the test split, by scikit-learn's names; see `metrics.metrics`."""
    split, encoding = run.dataset.test, getattr(run.dataset, 'encoding', None)
    tasks = {task: one for task, one in run.problem.tasks.items() if one.kind in metrics_of.KINDS}
    if not examples.in_memory(split) and parallel.process_count() > 1:
        return {}  # No process reads all of it.
    found = {}
    for network, serves in zip(chosen.networks, chosen.serves, strict=True):
        own = [task for task in tasks if task in serves]
        if not own:
            continue
        predict = _network(run, network, run.config.batch_size).predict
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


def _remarks_on_own_steps(run, chosen, test, metrics):
    """A sentence on what keeping each task at its own step costs and gains, where that is done."""
    if run.config.keep == training.TOTAL:
        return
    by, served_by = run.config.select_by, chosen.served_by
    networks = {name: chosen.trained[name] for name in served_by.values()}
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
