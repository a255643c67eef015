"""How many networks of a search train side by side: what the settings say, or what is measured."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tag_jax import examples, parallel, training
from tag_jax.grouping.run import Run
from tag_jax.runs.score_table import ScoreTable
from tag_jax.training import MEASURE, TrainingConfig

# Entries of a specification that do not change how long a step takes.
_OF_A_NETWORK = ('tasks', 'seed', 'learning_rate', 'patience', 'select_by')
# What the score table keeps of a choice.
_KEPT = ('slots', 'workers', 'cores', 'milliseconds')


def settled(
    run: Run, table: ScoreTable, networks: int, missing: int, specification: Mapping[str, Any]
) -> TrainingConfig:
    """The settings of a search with a number in the place of `slots`.

    With `slots='measure'` the score table keeps what was chosen for a search of so many networks
    and steps, so that a search that goes on, here or on another machine, trains the same networks.
    What was measured once stands for other large searches of the same program, too.

    Args:
      run: a `Run`.
      table: the `ScoreTable`.
      networks: that the search asks for, finished or not.
      missing: those of them that are to be trained.
      specification: of one of them.
    """
    config, shapes = run.config, examples.input_shapes(run.dataset.train)
    usual = training.num_slots(run.problem, networks, shapes, config)
    if config.slots != MEASURE:
        return dataclasses.replace(config, slots=usual)
    program = {name: one for name, one in specification.items() if name not in _OF_A_NETWORK}
    search = {**program, 'networks': networks}
    del program['steps']
    chosen = parallel.first_says(lambda: table.slots(search))
    if chosen is None:
        if not training.worth_measuring(run.problem, missing, shapes, config):
            return dataclasses.replace(config, slots=usual)
        chosen = table.slots(program) or _measured(run, table, missing, program)
        table.add_slots(search, {name: chosen[name] for name in _KEPT})
    workers = config.workers
    if workers is None and chosen['cores'] == os.cpu_count():  # Else they are of another machine.
        workers = chosen['workers']
    return dataclasses.replace(config, slots=chosen['slots'], workers=workers)


def _measured(run, table, missing, program):
    """The entry of the table about slots; one that was measured is kept for the program."""
    data = run.dataset
    with training.doing('measuring how many networks train fastest side by side'):
        found = training.measured_slots(
            run.problem, data.train, data.validation, missing, run.config
        )
    chosen = {
        'slots': found.slots,
        'workers': found.workers,
        'cores': os.cpu_count(),
        'milliseconds': [[*pair, round(time, 6)] for pair, time in found.milliseconds.items()],
    }
    if found.milliseconds:
        table.add_slots(program, chosen)
    return chosen
