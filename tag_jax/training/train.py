"""Training and early-stopping K networks that differ in tasks, seed, learning rate.

The networks run in S slots of one compiled program, which runs in several threads on CPU. A network
that stops early gives its slot to the next one. Batches and random keys of a network depend on its
own seed and step only, so among the same number of slots a network is bitwise the same whatever
runs beside it. The heads of tasks that a network does not train never move.

Steps run in chunks, with an evaluation on the validation split after each. A chunk of a dense
encoder is one `lax.scan` with the slots under `vmap`. Convolutions on CPU, which XLA runs slowly in
loops and in groups, go one network and one step after another through the same step function.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

from tag_jax import parallel
from tag_jax.data import Source, Split
from tag_jax.problem import MultiTaskProblem
from tag_jax.training.bars import steps_bar
from tag_jax.training.checks import (
    AtRate,
    check_devices,
    check_optimizer,
    takes_traced_rate,
)
from tag_jax.training.config import MEASURE, NetworkPlan, TrainedNetwork, TrainingConfig
from tag_jax.training.desk import Desk
from tag_jax.training.measured import measured_slots
from tag_jax.training.progress import Record
from tag_jax.training.work import make_work, with_settings
from tag_jax.training.worker import Worker


def train_networks(
    problem: MultiTaskProblem,
    train_split: Split | Source,
    validation_split: Split | Source,
    plans: Sequence[NetworkPlan],
    config: TrainingConfig,
    on_record: Callable[[Record], bool | None] = lambda record: None,
    on_finish: Callable[[TrainedNetwork], None] = lambda network: None,
    keep: bool = True,
    checkpoints: Callable[[NetworkPlan], Any] | None = None,
    progress_bar: bool = True,
    watched_split: Split | Source | None = None,
) -> tuple[TrainedNetwork, ...]:
    """Trains networks, and keeps each at its best evaluation.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      train_split, validation_split: `tag_jax.data.Split`s, or anything with the same fields, which
        go to the device; or `tag_jax.data.Source`s, of which the next steps' examples do.
      plans: the networks to train, with different names.
      config: a `TrainingConfig`.
      on_record: called after every evaluation of a network with its `Record`; training of that
        network stops where it returns True.
      on_finish: called with each network as soon as it has finished.
      keep: whether the networks are returned; where there are hundreds, `on_finish` may be enough.
      checkpoints: gives each plan a folder for the checkpoints of its network; None for none. A
        network that has some goes on from there, bit for bit, and its records up to there come
        again; the folder is removed after `on_finish`. They are written after evaluations, as
        often as `checkpoint_seconds` says, and where training ends by an error or an interrupt.
      progress_bar: whether a bar on a terminal shows the steps, or a line now and then elsewhere.
      watched_split: another split that is evaluated whenever the validation split is, for records
        of how networks come on (`Record.watched`); nothing is chosen by it. None for none.

    Returns:
      The networks that were trained, in the order of the plans.

    Raises:
      ValueError: if the mesh does not fit the devices, or the config measures slots and there are
        checkpoints, which only go on in as many slots as before.
      FloatingPointError: if the loss or the gradient of a task is not finite, see
        `if_not_finite`.
      OSError: if a checkpoint cannot be written.
    """
    if not plans:
        return ()
    check_devices(problem, config, train_split, validation_split)
    check_optimizer(problem, plans, config)
    config = _settled(problem, train_split, validation_split, plans, config, checkpoints)
    if not takes_traced_rate(problem, config.optimizer):
        # Networks of one rate share a program, and the rate is a number of Python there.
        trained = {}
        for rate in dict.fromkeys(plan.learning_rate for plan in plans):
            some = [plan for plan in plans if plan.learning_rate == rate]
            own = dataclasses.replace(config, optimizer=AtRate(config.optimizer, rate))
            rest = (on_record, on_finish, keep, checkpoints, progress_bar, watched_split)
            for network in train_networks(problem, train_split, validation_split, some, own, *rest):
                trained[network.plan.name] = network
        return tuple(trained[plan.name] for plan in plans if plan.name in trained)
    splits = train_split, validation_split, watched_split
    measures = any(plan.measures_affinity for plan in plans)
    work = make_work(problem, splits, config, len(plans), measures, checkpoints)
    shown = progress_bar and parallel.is_first()
    # Compiling is the first thing that takes long.
    with steps_bar(len(plans) * config.steps, 'compiling', shown) as bar:
        desk = Desk(plans, on_record, on_finish, bar, keep)
        _run_workers(lambda: Worker(work, desk).run(), work.num_workers, desk)
    return tuple(desk.finished[plan.name] for plan in plans if plan.name in desk.finished)


def _settled(problem, train_split, validation_split, plans, config, checkpoints):
    """The config with a number of slots where it says `measure`; see `measured_slots`."""
    if config.slots != MEASURE:
        return config
    if checkpoints is not None:
        raise ValueError(
            f'slots={MEASURE!r} and checkpoints do not go together, since networks that go on need '
            'as many slots as before: give slots=training.measured_slots(...).slots'
        )
    if any(plan.measures_affinity for plan in plans):
        return dataclasses.replace(config, slots=None)
    found = measured_slots(problem, train_split, validation_split, len(plans), config)
    return dataclasses.replace(config, slots=found.slots, workers=found.workers)


def _run_workers(work, count, desk):
    """Runs `count` workers in threads of their own.

    This thread waits, and so can be interrupted: then the workers end the steps that they are at,
    write their checkpoints and leave.
    """
    with futures.ThreadPoolExecutor(count) as pool:
        running = [pool.submit(with_settings(work)) for _ in range(count)]
        try:
            for one in futures.as_completed(running):
                one.result()
        finally:
            desk.stopped = True
