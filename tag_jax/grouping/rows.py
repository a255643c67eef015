"""Trains networks of a search, and makes a row of each: its scores, and how it came to them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tag_jax import evaluation, parallel, training
from tag_jax.grouping.run import Run
from tag_jax.runs import score_table, storage
from tag_jax.training import EACH_TASK, NetworkPlan

# What the beginning of a network is known by, as the whole of it is.
_KNOWN = ('tasks', 'seed', 'cost', 'slots', 'select_by', 'keep', 'left_out')
MOST_BLOCKS = 100  # Of test examples, for many networks: see `evaluation.blocks_of`.


def train_rows(
    run: Run,
    plans: Sequence[NetworkPlan],
    folders: Mapping[str, Any],
    on_record: Callable,
    on_row: Callable,
    progress_bar: bool = True,
) -> None:
    """Trains networks, and gives the row of each as soon as it has finished.

    Args:
      run: a `Run` whose config says the number of slots.
      plans: of the networks.
      folders: `{name: folder}` for the checkpoints of each network; an empty dict for none.
      on_record: called with each `training.Record`; that network stops where it returns True.
      on_row: called with the row of a network, JSON types, and its `training.TrainedNetwork`.
      progress_bar: whether a bar shows the steps.
    """
    config, mesh = run.config, parallel.make_mesh(run.config.mesh)
    test = evaluation.prepare(
        run.problem, run.dataset.test, mesh, config.select_by, config.shard_parameters
    )
    blocks = evaluation.blocks_of(
        test.examples.size, getattr(run.dataset, 'test_groups', None), MOST_BLOCKS
    )
    unjudged = evaluation.left_out(run.problem, run.dataset.validation)
    curves = {}

    def keep_record(record):
        _extend(curves.setdefault(record.network, {'step': []}), record)
        return on_record(record)

    def finish(network):
        scores = training.evaluate(run.problem, network, test, config.batch_size)
        row = {
            'cost': run.cost,
            'slots': config.slots,
            'validation': storage.finite(training.validation_scores(network)),
            'test': storage.finite(scores),
            'curve': curves.pop(network.plan.name),
            'best_step': network.best_step,
            'steps_taken': network.steps,
            'seconds': network.seconds,
        }
        if (without := _left_out(network.plan.tasks, unjudged, test.left_out)) is not None:
            row['left_out'] = without
        # (What is read from files is not read once more for this.)
        in_memory = test.examples.source is None
        if run.draws and in_memory and (found := _drawn(run, network, test, blocks)) is not None:
            row['test_draws'] = found
        on_row(row, network)

    training.train_networks(
        run.problem,
        run.dataset.train,
        run.dataset.validation,
        plans,
        config,
        keep_record,
        finish,
        keep=False,
        checkpoints=(lambda plan: folders[plan.name]) if folders else None,
        progress_bar=progress_bar,
    )


def _extend(curve, record):
    """Adds the scores of a record to the curve of its network, as JSON types."""
    curve['step'].append(record.step)
    for criterion in evaluation.CRITERIA:
        of_tasks = curve.setdefault(f'validation_{criterion}', {})
        for task, value in record.validation(criterion).items():
            of_tasks.setdefault(task, []).append(storage.finite(value))


def _drawn(run, network, test, blocks):
    """`{task: test scores}` if other examples had been drawn, as JSON types; or None."""
    found, by = {}, run.config.select_by
    for one, tasks in training.kept(network):
        arrays = one.params, one.model_state
        judged = evaluation.judged(tasks, by, test.left_out)
        asked = by, run.draws, run.config.batch_size
        some = evaluation.resampled(run.problem, arrays, test, blocks, judged, *asked)
        if some is None:
            return None
        found |= some
    return {
        # (Six digits are plenty, and keep the table small.)
        task: [float(f'{value:.6g}') if math.isfinite(value) else None for value in values]
        for task, values in found.items()
    }


def _left_out(tasks, *left_out):
    """`{split: those of some tasks whose errors are not defined there}`; None without any."""
    own = [[task for task in tasks if task in without] for without in left_out]
    return dict(zip(score_table.SPLITS, own, strict=True)) if any(own) else None


def beginning(row: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The row of a network after its first steps, without test scores.

    Args:
      row: of the network when it had finished.
      steps: at which it was evaluated.
    """
    curve = row['curve']
    seen = [n for n, step in enumerate(curve['step']) if step <= steps]
    without = score_table.left_out(row, 'validation')
    kept_by, judged = evaluation.kept_by(row['tasks'], row['select_by'], without)
    by = curve[f'validation_{kept_by}']
    totals = [math.fsum(by[task][n] for task in judged) for n in seen]
    best = totals.index(min(totals))
    at = dict.fromkeys(by, best)
    if row.get('keep') == EACH_TASK and kept_by == row['select_by']:
        at |= {task: min(seen, key=by[task].__getitem__) for task in judged}
    validation = {
        task: {
            criterion: of_tasks[task][at[task]]
            for criterion in evaluation.CRITERIA
            if task in (of_tasks := curve.get(f'validation_{criterion}', {}))
        }
        for task in by
    }
    return {
        **{name: row[name] for name in _KNOWN if name in row},
        'key': f'{row["key"]}:{steps}',
        'validation': validation,
        'best_step': curve['step'][best],
        'steps_taken': curve['step'][seen[-1]],
        'seconds': row['seconds'] * curve['step'][seen[-1]] / row['steps_taken'],
    }
