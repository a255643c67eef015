"""How many networks train fastest side by side on the machine at hand, by a short measurement.

The usual numbers of slots and threads fit one kind of machine. A search of hundreds of networks can
afford to try others. Networks are bitwise the same only among the same number of slots, and a
measurement is never quite the same twice, so it is made only where it is asked for
(`TrainingConfig(slots='measure')`), and searches record what they chose.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np

from tag_jax import examples, parallel
from tag_jax.data import Source, Split
from tag_jax.problem import MultiTaskProblem
from tag_jax.training import progress, slots
from tag_jax.training.batches import schedule_of
from tag_jax.training.capacity import (
    MAX_SLOT_BYTES,
    batching_of,
    num_slots,
    num_workers,
    slot_bytes,
)
from tag_jax.training.checks import AtRate, takes_traced_rate
from tag_jax.training.config import MEASURE, NetworkPlan, TrainingConfig
from tag_jax.training.work import Work, advance, make_work, with_settings

# The numbers of slots that are tried.
CANDIDATES = (4, 8, 16)
# With fewer networks, or network-steps, compiling the candidates takes too much of the whole.
LEAST_NETWORKS, LEAST_NETWORK_STEPS = 2 * max(CANDIDATES), 100_000
# The share of a search that measuring may take, at most.
MOST_SHARE = 0.05
# Another number has to be faster by this share than the one that stands.
CLEARLY = 0.1
# Steps of a network in each call that is timed, and rounds in which all candidates are timed.
TIMED_STEPS, ROUNDS = 20, 5


class MeasuredSlots(NamedTuple):
    """The numbers of slots and threads to train networks with.

    Attributes:
      slots: networks side by side in one program.
      workers: threads, each with a program of its own.
      milliseconds: `{(slots, workers): of a network-step}` of all that was tried, medians; empty
        where nothing was measured, and both numbers are the usual ones.
    """

    slots: int
    workers: int
    milliseconds: Mapping[tuple[int, int], float]


def measured_slots(
    problem: MultiTaskProblem,
    train_split: Split | Source,
    validation_split: Split | Source,
    num_networks: int,
    config: TrainingConfig,
    clock: Callable[[], float] = time.perf_counter,
) -> MeasuredSlots:
    """Times some steps of the compiled program with several numbers of slots and threads.

    The usual numbers stay where `worth_measuring` says no, where the first timing shows that
    measuring would take more than MOST_SHARE of all training, and where no other numbers are
    faster by CLEARLY. All candidates are timed in turns, so that a busy moment of the machine
    strikes all of them.

    Args:
      problem: a `MultiTaskProblem`.
      train_split, validation_split: see `train_networks`.
      num_networks: K, which are to be trained; none of them measures affinities.
      config: a `TrainingConfig`. Where its `slots` is a number, that number is returned, and
        nothing is measured. Where its `workers` is a number, threads are no more than that.
      clock: gives the time in seconds.

    Returns:
      `MeasuredSlots`.

    Raises:
      ValueError: if the mesh does not fit the devices.
    """
    shapes = examples.input_shapes(train_split)
    usual = _with_workers(config, num_networks, num_slots(problem, num_networks, shapes, config))
    if config.slots not in (None, MEASURE):
        return MeasuredSlots(*usual, {})
    if not worth_measuring(problem, num_networks, shapes, config):
        return MeasuredSlots(*usual, {})
    if not takes_traced_rate(problem, config.optimizer):
        rate = AtRate(config.optimizer, config.learning_rate)
        config = dataclasses.replace(config, optimizer=rate)
    pairs = _candidates(problem, num_networks, config, usual)
    work = make_work(problem, (train_split, validation_split, None), config, num_networks)
    found = _timed(work, pairs, num_networks, clock)
    if found is None:
        return MeasuredSlots(*usual, {})
    milliseconds = {pair: 1e3 * float(np.median(seconds)) for pair, seconds in found.items()}
    return MeasuredSlots(*fastest(found), milliseconds)


def worth_measuring(
    problem: MultiTaskProblem, num_networks: int, inputs: Any, config: TrainingConfig
) -> bool:
    """Whether other numbers than the usual ones may pay: many networks of dense encoders on a CPU.

    Args:
      problem: a `MultiTaskProblem`.
      num_networks: K.
      inputs: example inputs `[N, ...]`; only shapes matter.
      config: a `TrainingConfig`.
    """
    return (
        num_networks >= LEAST_NETWORKS
        and num_networks * config.steps >= LEAST_NETWORK_STEPS
        and jax.default_backend() == 'cpu'
        and config.mesh == (1, 1)
        and parallel.process_count() == 1
        and batching_of(problem, inputs) == 'vmap'
    )


def fastest(seconds: Mapping[tuple[int, int], Sequence[float]]) -> tuple[int, int]:
    """The (slots, workers) to take, by the times of all candidates.

    Args:
      seconds: `{(slots, workers): [rounds]}` of a network-step, the usual numbers first. The first
        ones stay unless others are faster by CLEARLY, in the median over rounds of the ratio.
    """
    chosen, *others = seconds
    for pair in others:
        ratio = np.median(np.asarray(seconds[pair]) / np.asarray(seconds[chosen]))
        if ratio < 1 - CLEARLY:
            chosen = pair
    return chosen


def _with_workers(config, num_networks, size):
    """(slots, as many threads as they usually have)."""
    return size, num_workers(config, num_networks, size)


def _candidates(problem, num_networks, config, usual):
    """The (slots, workers) to try: the usual ones, then others, the smaller numbers first.

    Threads are as many as there are cores, and half of that, since two cores may be one in fact.
    """
    found = [usual]
    for size in sorted({usual[0], *CANDIDATES}):
        _, most = _with_workers(config, num_networks, size)
        fits = size * most * slot_bytes(problem, config) <= MAX_SLOT_BYTES
        if fits or size <= usual[0]:
            found += [(size, count) for count in sorted({most, max(1, most // 2)})]
    return list(dict.fromkeys(found))


def _timed(work: Work, pairs, num_networks, clock):
    """`{(slots, workers): seconds [rounds]}` of a network-step; None where it would take too long.

    Args:
      work: the `Work` of the program.
      pairs: what to try, the usual numbers first.
      num_networks: K.
      clock: gives the time in seconds.
    """
    steps = min(TIMED_STEPS, work.chunk)
    sizes = list(dict.fromkeys(size for size, _ in pairs))

    def seconds_of(call, workers):
        began = clock()
        call(workers)
        return clock() - began

    calls = {sizes[0]: stepping(work, sizes[0], steps)}
    compiling = seconds_of(calls[sizes[0]], 1)
    once = seconds_of(calls[sizes[0]], pairs[0][1])
    whole = num_networks * work.config.steps * once / (steps * pairs[0][0] * pairs[0][1])
    # (Candidates hold twice as many networks as usual, at most.)
    if compiling * len(sizes) + 2 * once * len(pairs) * ROUNDS > MOST_SHARE * whole:
        return None
    for size in sizes[1:]:
        calls[size] = stepping(work, size, steps)
        calls[size](1)  # Compiles.
    found = {pair: [] for pair in pairs}
    for _, (size, workers) in itertools.product(range(ROUNDS), pairs):
        seconds = seconds_of(calls[size], workers)
        found[size, workers].append(seconds / (steps * size * workers))
    return found


def stepping(work, size, steps):
    """A function of a number of workers: each takes some steps in its slots, in its own thread."""
    config, program = work.config, work.program
    names, rate = program.problem.task_names, config.learning_rate
    runs = [
        progress.start(program.problem, NetworkPlan(str(n), names, config.seed + n, rate))
        for n in range(size)
    ]
    sizes = [split.size for split in work.splits]
    schedule = schedule_of(runs, steps, work.batch_size, sizes, config, work.labelled())
    everything = np.ones(len(names), bool)
    slot = slots.initial(program, np.uint32(config.seed), everything, np.float32(rate))
    states = []

    def step(worker):
        states[worker], _ = advance(work, states[worker], schedule)

    def call(workers):
        while len(states) < workers:
            states.append(slots.repeat(program, slot, size))
        with futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(with_settings(step), range(workers)))

    return call
