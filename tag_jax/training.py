"""Training and early-stopping K networks that differ in tasks, seed, learning rate.

The networks run in S slots of one compiled program, which runs in several threads on CPU. A network
that stops early gives its slot to the next one. Batches and random keys of a network depend on its
own seed and step only, so among the same number of slots a network is bitwise the same whatever
runs beside it. The heads of tasks that a network does not train never move.

Steps run in chunks, with an evaluation on the validation split after each. A chunk of a dense
encoder is one `lax.scan` with the slots under `vmap`. Convolutions on CPU, which XLA runs slowly in
loops and in groups, go one network and one step after another through the same step function.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import numbers
import os
import threading
import time
import types
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from tag_jax import affinity, evaluation, examples, gradients, parallel, progress, slots, weighting
from tag_jax.data import Source, Split
from tag_jax.problem import MultiTaskProblem, names_of, split_frozen, with_frozen

# Slots are limited in number, and by the memory of their parameters, moments and best copies.
MAX_SLOTS = 16
MAX_SLOT_BYTES = 2**30
# On CPU more of them in one program are no faster, and programs in several threads are.
CPU_SLOTS = 8
# How many of them a comparison may ask for.
MOST_SEEDS = 1000
# The smallest and the largest number of float32, in which learning rates are.
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How networks are trained.

    Attributes:
      steps: the largest number of training steps.
      batch_size: examples a step.
      learning_rate: of the optimizer; also eta, the step of the affinity measurements.
      seed: of initial parameters, batches and dropout, below 2^32.
      eval_every: steps between evaluations on the validation split.
      patience: evaluations without a better total validation error after which a network stops;
        0 for never.
      affinity_every: steps between measurements of inter-task affinity.
      affinity_kind: 'exact', 'first_order' or 'cosine', see `affinity.inter_task_affinities`.
      affinity_step: 'sgd' for lookahead steps of plain gradient descent (the paper), 'optimizer'
        for those that the optimizer would take from where it stands.
      affinity_window: shares of `steps`, the largest number, between which affinities are measured;
        (0, 1) for all.
      affinity_examples: examples of each batch that take part; None for all.
      affinity_split: where losses are compared, 'train', on the batch of the step (the paper), or
        'validation', on a batch of that split. There a task's affinity onto itself can be compared
        with the others', so that `grouping.tag` may leave a task alone.
      weighting: makes the optax transform that weighs the tasks, from `tag_jax.weighting`.
      optimizer: learning rate -> optax transform, such as `optax.adam`, or a schedule in one:
        `lambda rate: optax.adamw(optax.warmup_cosine_decay_schedule(0.0, rate, 100, steps))`. The
        rate is a traced number, so that networks of different rates share a program, unless the
        function needs a Python number, as some schedules do. What is compiled is kept by the
        identity of these two functions, so name them once.
      slots: networks trained side by side in one program; None for as many as `num_slots` says.
      workers: threads that train some slots each, at most; None for as many as there are cores, on
        CPU, else one. Results do not depend on it.
      mesh: devices (along the slots, along the examples of each batch). Slots are filled up to a
        multiple of the first; the second divides `batch_size`. Results depend on it as on
        `slots`: by rounding.
      if_not_finite: what becomes of a step in which the loss or the gradient of a task is not
        finite: 'stop' ends training, 'skip' leaves the network as it was, 'drop' leaves the task
        out of the step. In all cases such numbers are no sample of affinities.
      checkpoint_seconds: how long a network trains, at least, between two checkpoints of it.

    Raises:
      ValueError: if a number is out of its range, or a function is none.
    """

    steps: int = 6000
    batch_size: int = 256
    learning_rate: float = 2e-3
    seed: int = 0
    eval_every: int = 100
    patience: int = 10
    affinity_every: int = 10
    affinity_kind: str = 'exact'
    affinity_step: str = 'sgd'
    affinity_window: tuple[float, float] = (0.0, 1.0)
    affinity_examples: int | None = None
    affinity_split: str = 'train'
    weighting: Callable[[], optax.GradientTransformation] = weighting.equal
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam
    slots: int | None = None
    workers: int | None = None
    mesh: tuple[int, int] = (1, 1)
    if_not_finite: str = 'stop'
    checkpoint_seconds: float = 60.0

    def __post_init__(self):
        for name in ('steps', 'batch_size', 'eval_every', 'affinity_every'):
            self._set_integer(name, 1, 2**31 - 1)
        for name in ('seed', 'patience'):
            self._set_integer(name, 0, 2**32 - 1)
        for name in ('slots', 'workers', 'affinity_examples'):
            if getattr(self, name) is not None:
                self._set_integer(name, 1, 2**31 - 1)
        for name, known in (
            ('affinity_kind', affinity.KINDS),
            ('affinity_step', ('sgd', 'optimizer')),
            ('affinity_split', ('train', 'validation')),
            ('if_not_finite', slots.NOT_FINITE),
        ):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in known:
                raise ValueError(
                    f'{name} must be one of {", ".join(known)}, not {getattr(self, name)!r}'
                )
        try:
            start, stop = map(float, self.affinity_window)
        except (TypeError, ValueError, OverflowError):
            start, stop = math.nan, math.nan
        if not 0 <= start < stop <= 1:
            raise ValueError(
                'affinity_window must be two shares of training, 0 <= start < stop <= 1, not '
                f'{self.affinity_window!r}'
            )
        object.__setattr__(self, 'affinity_window', (start, stop))
        first = math.ceil((start * self.steps - 1e-9) / self.affinity_every) * self.affinity_every
        if not first < min(stop * self.steps - 1e-9, self.steps):
            raise ValueError(
                f'affinity_window {self.affinity_window} of {self.steps} steps holds no multiple '
                f'of affinity_every, {self.affinity_every}: nothing would be measured'
            )
        rate = self.learning_rate
        if callable(rate):
            raise ValueError(
                'learning_rate must be a number, not a schedule: give the schedule to optimizer, '
                'as lambda rate: optax.adam(optax.cosine_decay_schedule(rate, steps))'
            )
        if not isinstance(rate, numbers.Real) or not _LEAST <= rate <= _MOST:
            why = ' (in float32)' if isinstance(rate, numbers.Real) and 0 < rate < math.inf else ''
            raise ValueError(f'learning_rate must be positive and finite{why}, not {rate!r}')
        object.__setattr__(self, 'learning_rate', float(rate))
        self._check_mesh()
        seconds = self.checkpoint_seconds
        if not isinstance(seconds, numbers.Real) or not 0 <= seconds <= _MOST:
            raise ValueError(
                f'checkpoint_seconds must be a finite number of at least 0, not {seconds!r}'
            )
        for name, example in (
            ('weighting', 'tag_jax.weighting.equal, or lambda: weighting.mgda_ub(safeguard=2)'),
            ('optimizer', 'optax.adam, or lambda rate: optax.sgd(rate, momentum=0.9)'),
        ):
            if not callable(getattr(self, name)):
                raise ValueError(
                    f'{name} must be a function that makes a transform, as {example}; '
                    f'{type(getattr(self, name)).__name__} is none'
                )

    def measures_at(self, steps: np.ndarray) -> np.ndarray:
        """Whether affinities are measured before steps, bool `[...]`.

        Args:
          steps: their numbers, `[...]`.
        """
        start, stop = (share * self.steps - 1e-9 for share in self.affinity_window)
        return (steps % self.affinity_every == 0) & (steps >= start) & (steps < stop)

    def _check_mesh(self):
        try:
            networks, batch = self.mesh
            whole = all(isinstance(n, numbers.Integral) and n >= 1 for n in self.mesh)
        except (TypeError, ValueError):
            whole = False
        if not whole:
            raise ValueError(
                'mesh must be two numbers of devices, along the networks and along the batch, of '
                f'at least 1, not {self.mesh!r}'
            )
        object.__setattr__(self, 'mesh', (int(networks), int(batch)))

    def _set_integer(self, name, least, most=math.inf):
        value = getattr(self, name)
        if not isinstance(value, numbers.Integral) or not least <= value <= most:
            limit = '' if most == math.inf else f' and at most {most}'
            raise ValueError(f'{name} must be an integer of at least {least}{limit}, not {value!r}')
        object.__setattr__(self, name, int(value))


class NetworkPlan(NamedTuple):
    """A network to train.

    Attributes:
      name: its name in records.
      tasks: names of the tasks that it trains.
      seed: of initial parameters, batches and dropout.
      learning_rate: of the optimizer.
      measures_affinity: whether inter-task affinities are measured while it trains.
      cost: of the network at inference, in units of a standard network, for the record.
    """

    name: str
    tasks: tuple[str, ...]
    seed: int
    learning_rate: float
    measures_affinity: bool = False
    cost: float = 1.0


class TrainedNetwork(NamedTuple):
    """A network with the parameters of its best evaluation.

    Attributes:
      plan: what it was trained as.
      params, model_state: at the step with the lowest total validation error.
      validation: `{task: {'error': percent, ...}}` at that step, for the tasks it trains.
      best_step, steps: that step, and the number of steps trained.
      seconds: its share of the wall time, compilation included.
      affinities: an `AffinitySummary`, or None if it was not asked to measure.
      not_finite: `{what: steps}` whose numbers were not finite: task names, or `progress.SHARED`.
    """

    plan: NetworkPlan
    params: Any
    model_state: Any
    validation: Mapping[str, Mapping[str, float]]
    best_step: int
    steps: int
    seconds: float
    affinities: affinity.AffinitySummary | None
    not_finite: Mapping[str, int] = types.MappingProxyType({})


def train_networks(
    problem: MultiTaskProblem,
    train_split: Split | Source,
    validation_split: Split | Source,
    plans: Sequence[NetworkPlan],
    config: TrainingConfig,
    on_record: Callable[[dict], None] = lambda record: None,
    on_finish: Callable[[TrainedNetwork], None] = lambda network: None,
    claim: Callable[[NetworkPlan], bool] = lambda plan: True,
    keep: bool = True,
    checkpoints: Callable[[NetworkPlan], Any] | None = None,
) -> tuple[TrainedNetwork, ...]:
    """Trains networks, and keeps each at its best evaluation.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      train_split, validation_split: `tag_jax.data.Split`s, or anything with the same fields, which
        go to the device; or `tag_jax.data.Source`s, of which the next steps' examples do.
      plans: the networks to train, with different names.
      config: a `TrainingConfig`.
      on_record: called after every evaluation with a record for metrics.jsonl: network, step, mean
        training loss since the last evaluation and validation error of each task.
      on_finish: called with each network as soon as it has finished.
      claim: asked of each plan before it begins; those that it denies are not trained.
      keep: whether the networks are returned; where there are hundreds, `on_finish` may be enough.
      checkpoints: gives each plan a folder for the checkpoints of its network; None for none. A
        network that has some goes on from there, bit for bit, and its records up to there come
        again; the folder is removed after `on_finish`. They are written after evaluations, as
        often as `checkpoint_seconds` says, and where training ends by an error or an interrupt.

    Returns:
      The networks that were trained, in the order of the plans.

    Raises:
      ValueError: if the mesh does not fit the devices.
      FloatingPointError: if the loss or the gradient of a task is not finite, see
        `if_not_finite`.
      OSError: if a checkpoint cannot be written.
    """
    if not plans:
        return ()
    shapes = examples.input_shapes(train_split)
    check_devices(config, train_split, validation_split)
    check_optimizer(problem, plans, config)
    if not _takes_traced_rate(problem, config.optimizer):
        # Networks of one rate share a program, and the rate is a number of Python there.
        trained = {}
        for rate in dict.fromkeys(plan.learning_rate for plan in plans):
            some = [plan for plan in plans if plan.learning_rate == rate]
            own = dataclasses.replace(config, optimizer=_AtRate(config.optimizer, rate))
            rest = (on_record, on_finish, claim, keep, checkpoints)
            for network in train_networks(problem, train_split, validation_split, some, own, *rest):
                trained[network.plan.name] = network
        return tuple(trained[plan.name] for plan in plans if plan.name in trained)
    mesh = parallel.make_mesh(config.mesh)
    slots_each = num_slots(problem, len(plans), shapes, config)
    train = examples.examples(problem, train_split, mesh)
    validation = evaluation.prepare(problem, validation_split, mesh)
    frozen = problem.frozen and problem.frozen.values()
    work = _Work(
        program=slots.Program(
            problem=problem,
            weighting=config.weighting,
            optimizer=config.optimizer,
            batching=_batching(problem, shapes, mesh),
            ragged=config.steps % min(config.eval_every, config.steps) != 0,
            measurement=_measurement(plans, config),
            if_not_finite=config.if_not_finite,
            mesh=mesh,
        ),
        config=config,
        num_slots=slots_each,
        num_workers=num_workers(config, len(plans), slots_each),
        train=train,
        validation=validation,
        checkpoints=checkpoints,
        frozen=frozen,
        frozen_on_device=parallel.place(mesh, frozen),
    )
    with tqdm.tqdm(
        total=len(plans) * config.steps,
        desc='compiling',  # The first thing that takes long.
        unit='step',
        disable=None if parallel.is_first() else True,
        leave=False,
    ) as bar:
        desk = _Desk(plans, claim, on_record, on_finish, bar, keep)
        _run_workers(functools.partial(_train_in_slots, work, desk), work.num_workers, desk)
    return tuple(desk.finished[plan.name] for plan in plans if plan.name in desk.finished)


class _AtRate(NamedTuple):
    """An optimizer at a learning rate that is a number of Python."""

    optimizer: Callable
    learning_rate: float

    def __call__(self, rate):
        del rate
        return self.optimizer(self.learning_rate)


def _takes_traced_rate(problem, optimizer):
    """Whether an optimizer can be made of a learning rate that is traced."""
    params, _ = problem.shapes

    def step(rate, params):
        transform = optax.with_extra_args_support(optimizer(rate))
        return transform.update(params, transform.init(params), params, value=0.0)

    try:
        jax.eval_shape(step, jax.ShapeDtypeStruct((), np.float32), params)
    except jax.errors.ConcretizationTypeError:
        return False
    return True


def check_optimizer(
    problem: MultiTaskProblem, plans: Sequence[NetworkPlan], config: TrainingConfig
) -> None:
    """Raises ValueError where the affinities that are asked for would be those of no step.

    Args:
      problem: a `MultiTaskProblem`.
      plans: the networks to train.
      config: a `TrainingConfig`.
    """
    if config.affinity_step != 'optimizer' or not any(plan.measures_affinity for plan in plans):
        return
    params, _ = problem.shapes
    state = jax.eval_shape(config.optimizer(config.learning_rate).init, params)
    several = lambda node: isinstance(node, optax.MultiStepsState)
    if any(map(several, jax.tree.leaves(state, is_leaf=several))):
        raise ValueError(
            "affinity_step='optimizer' cannot be measured behind optax.MultiSteps, whose steps in "
            "between move nothing: take affinity_step='sgd', or a larger batch_size"
        )


def still_parameters(problem: MultiTaskProblem, config: TrainingConfig) -> tuple[str, ...]:
    """Names the parameters of the encoder that the optimizer leaves in place, while others move.

    `optax.partition` with `optax.set_to_zero` does so. Affinities of plain gradient steps
    (`affinity_step='sgd'`) move these parameters all the same.

    Args:
      problem: a `MultiTaskProblem`.
      config: a `TrainingConfig`.

    Returns:
      Their names, such as 'dense/kernel'.
    """
    ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), problem.shapes[0])
    transform = optax.with_extra_args_support(config.optimizer(config.learning_rate))
    updates, _ = transform.update(ones, transform.init(ones), ones, value=jnp.ones(()))
    moves = {
        '/'.join(names_of(path)): bool(jnp.any(update != 0))
        for path, update in jax.tree_util.tree_leaves_with_path(updates['shared'])
        if update.size
    }
    return tuple(name for name, on in moves.items() if not on) if any(moves.values()) else ()


def check_devices(
    config: TrainingConfig, train_split: Split | Source, validation_split: Split | Source
) -> None:
    """Raises ValueError unless there are the devices of the mesh, and batches lie evenly over them.

    Args:
      config: a `TrainingConfig`.
      train_split, validation_split: what networks are trained and evaluated on.
    """
    parallel.make_mesh(config.mesh)
    for split in _splits_of_steps(config, train_split, validation_split):
        batch, devices = min(examples.count(split), config.batch_size), config.mesh[1]
        if batch % devices:
            raise ValueError(
                f'a batch of {batch} examples cannot be split evenly over {devices} devices: '
                'choose another batch_size, or another mesh'
            )


def num_slots(
    problem: MultiTaskProblem, num_networks: int, inputs: Any, config: TrainingConfig
) -> int:
    """How many networks train side by side in one program.

    As many as the config says, or else, by the problem and the number of networks only: one where
    convolutions run on CPU; for dense encoders there, up to CPU_SLOTS, so that there is a program
    for each of two cores at least; elsewhere all of them, up to MAX_SLOTS and MAX_SLOT_BYTES. Over
    a mesh, up to a multiple of the devices along it.

    Args:
      problem: a `MultiTaskProblem`.
      num_networks: K.
      inputs: example inputs `[N, ...]`; only shapes matter.
      config: a `TrainingConfig`.
    """
    devices = config.mesh[0]
    found = config.slots or _usual_slots(problem, num_networks, inputs, config)
    return -(-found // devices) * devices


def num_workers(config: TrainingConfig, num_networks: int, slots_each: int) -> int:
    """How many threads train networks at once; one over a mesh.

    Args:
      config: a `TrainingConfig`.
      num_networks: K.
      slots_each: slots of each.
    """
    most = config.workers
    if most is None:
        most = os.cpu_count() if jax.default_backend() == 'cpu' else 1
    if config.mesh != (1, 1):
        most = 1
    return max(1, min(most, -(-num_networks // slots_each)))


def _usual_slots(problem, num_networks, inputs, config):
    if _batching(problem, inputs) == 'unroll':
        return 1
    if jax.default_backend() == 'cpu':
        return max(1, min(-(-num_networks // 2), CPU_SLOTS))
    at_most = MAX_SLOT_BYTES // max(slot_bytes(problem, config), 1)
    return max(1, min(num_networks, MAX_SLOTS, at_most))


def slot_bytes(problem: MultiTaskProblem, config: TrainingConfig) -> int:
    """The memory that a slot takes: parameters and model state, now and at their best, and moments.

    Frozen parameters are there once for all slots, and do not count.

    Args:
      problem: a `MultiTaskProblem`.
      config: a `TrainingConfig`, for its optimizer and weighting.
    """
    params, model_state = problem.shapes
    model_state, _ = split_frozen(model_state)
    transform = optax.chain(config.weighting(), config.optimizer(config.learning_rate))
    moments = jax.eval_shape(transform.init, params)
    held = (params, params, model_state, model_state, moments)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(held))


def _splits_of_steps(config, train, validation):
    """The splits that a step takes batches of: training, and validation where affinities do."""
    return (train, validation) if config.affinity_split == 'validation' else (train,)


class _Work(NamedTuple):
    """The work that all workers share.

    Attributes:
      program: a `slots.Program`.
      config: a `TrainingConfig`.
      num_slots: of each worker.
      num_workers: how many there are.
      train: the training split, ready for computing.
      validation: the validation split, prepared for evaluation.
      checkpoints: plan -> folder of its checkpoints, or None.
      frozen: the frozen parameters of all networks; None if there are none.
      frozen_on_device: the same where they are computed with, once on each device.
    """

    program: slots.Program
    config: TrainingConfig
    num_slots: int
    num_workers: int
    train: examples.Examples
    validation: evaluation.PreparedSplit
    checkpoints: Callable[[NetworkPlan], Any] | None
    frozen: Any
    frozen_on_device: Any

    @property
    def splits(self):
        """See `_splits_of_steps`."""
        return _splits_of_steps(self.config, self.train, self.validation.examples)


class _Desk:
    """The desk where workers take plans and hand in results, one at a time."""

    def __init__(self, plans, claim, on_record, on_finish, bar, keep):
        self.finished, self._keep = {}, keep
        self.stopped = False
        self._compiling, self._lock = threading.Lock(), threading.Lock()
        self._waiting = collections.deque(plans)
        self._claim, self._on_record, self._on_finish = claim, on_record, on_finish
        self._bar, self._activity = bar, _activity(plans)

    def next_plan(self):
        """A plan that nobody else trains, or None if there is none left."""
        with self._lock:
            while self._waiting:
                plan = self._waiting.popleft()
                if self._claim(plan):
                    return plan
            return None

    @contextlib.contextmanager
    def compiling(self):
        """Keeps other workers waiting through a first chunk, which is compiled once for all."""
        with self._compiling:
            yield
        self._bar.set_description(self._activity)

    def hand_in_record(self, record, steps):
        with self._lock:
            self._bar.update(steps)
            self._on_record(record)

    def hand_in_network(self, network, steps_left):
        with self._lock:
            self._bar.total -= steps_left
            if self._keep:
                self.finished[network.plan.name] = network
            self._on_finish(network)


def _run_workers(work, count, desk):
    """Runs `count` workers in threads of their own.

    This thread waits, and so can be interrupted: then the workers end the steps that they are at,
    write their checkpoints and leave. What a thread sets JAX to holds for that thread, so it is
    handed on.
    """
    wide, precision = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    device = jax.config.jax_default_device

    def in_thread():
        with (
            jax.enable_x64(wide),
            jax.default_matmul_precision(precision),
            jax.default_device(device),
        ):
            work()

    with futures.ThreadPoolExecutor(count) as pool:
        running = [pool.submit(in_thread) for _ in range(count)]
        try:
            for one in futures.as_completed(running):
                one.result()
        finally:
            desk.stopped = True


def _train_in_slots(work, desk):
    """One worker: trains plans from the desk in its slots until there is none left."""
    program, config, num_slots = work.program, work.config, work.num_slots
    problem = program.problem
    batch_size = min(config.batch_size, work.train.size)
    chunk = min(config.eval_every, config.steps)
    runs: list[progress.Progress | None] = [None] * num_slots
    written = [0.0] * num_slots  # When each began, or its last checkpoint was written.
    state, compiled, stopped = None, False, False
    while not stopped:
        began = time.perf_counter()
        for n in range(num_slots):
            if runs[n] is None and (plan := desk.next_plan()):
                runs[n], slot = _begun(work, plan)
                written[n] = began
                for record in runs[n].records:
                    desk.hand_in_record(record, chunk)
                if state is None or num_slots == 1:
                    state = slots.repeat(program, slot, num_slots)
                else:
                    state = slots.place(state, slot, n)
        occupied = [n for n in range(num_slots) if runs[n] is not None]
        if not occupied:
            return

        sizes = [split.size for split in work.splits]
        schedule = _schedule(runs, chunk, batch_size, sizes, config)
        with contextlib.nullcontext() if compiled else desk.compiling():
            state, outputs = _advance(work, state, schedule)
            networks = state.params, state.model_state
            scores = evaluation.scores(
                problem,
                networks,
                work.validation,
                config.batch_size,
                program.batching,
                work.frozen_on_device,
            )
        compiled = True
        seconds = (time.perf_counter() - began) / len(occupied) / work.num_workers

        improved = np.zeros(num_slots, bool)
        for n in occupied:
            taken = slots.reports_of(outputs, schedule, n)
            runs[n] = progress.observe(problem, runs[n], taken, scores[n], seconds, config)
            improved[n] = runs[n].best_step == runs[n].step
            desk.hand_in_record(runs[n].records[-1], len(taken.losses))
        if improved.any():
            state = slots.keep_best(state, improved)

        now = time.perf_counter()
        due = [now - since >= config.checkpoint_seconds for since in written]
        stopped, *due = parallel.any_process(desk.stopped, *due)
        for n in occupied:
            if progress.is_done(runs[n], config):
                best = slots.take_slot(program, state.best, n)
                if program.mesh is not None:
                    best = jax.tree.map(np.asarray, best)
                params, model_state = best
                best = params, with_frozen(model_state, work.frozen)
                desk.hand_in_network(_trained(runs[n], best), config.steps - runs[n].step)
                _forget(work, runs[n].plan)
                runs[n] = None
            elif work.checkpoints and (stopped or due[n]):
                slot = slots.take_slot(program, state, n)
                progress.save(work.checkpoints(runs[n].plan), runs[n], slot)
                written[n] = now
    if not desk.stopped:
        raise KeyboardInterrupt('another process is interrupted')


def _begun(work, plan):
    """(`Progress`, `slots.Slot`) of a network: as its checkpoints have it, or before any step."""
    problem = work.program.problem
    slot = slots.initial(
        work.program,
        np.uint32(plan.seed),
        np.array([task in plan.tasks for task in problem.task_names]),
        np.float32(plan.learning_rate),
    )
    if work.checkpoints is not None:
        found = progress.restore(work.checkpoints(plan), problem, plan, slot)
        if found is not None:
            return found
    return progress.start(problem, plan), slot


def _forget(work, plan):
    """Removes the checkpoints of a network that has finished."""
    if work.checkpoints is not None and parallel.is_first():
        progress.forget(work.checkpoints(plan))


def _advance(work, state, schedule):
    """`slots.advance` over a schedule, as many steps at a time as their examples allow.

    Returns:
      The slots, and their `slots.Outputs` as NumPy arrays.
    """
    steps, num_slots, batch_size = schedule.rows.shape
    size = min(
        examples.steps_of_windows(split, steps, num_slots * batch_size) for split in work.splits
    )
    pieces = [
        jax.tree.map(lambda x, at=start: x[at : at + size], schedule)
        for start in range(0, steps, size)
    ]
    train, *validation = (
        examples.windows(split, [piece[n] for piece in pieces])
        for n, split in enumerate(work.splits)
    )
    outputs = []
    for piece, own, other in zip(
        pieces, train, validation[0] if validation else itertools.repeat((None, None)), strict=False
    ):
        data, rows = zip(own, other, strict=True)
        piece = piece._replace(rows=rows[0], validation_rows=rows[1])
        state, output = slots.advance(work.program, state, data, piece, work.frozen_on_device)
        outputs.append(output)
    return state, jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


def check_seeds(config: TrainingConfig, seeds: int) -> None:
    """Raises ValueError unless networks of so many seeds, from that of a config, can be trained.

    Args:
      config: a `TrainingConfig`.
      seeds: how many.
    """
    if not isinstance(seeds, numbers.Integral) or seeds < 1:
        raise ValueError(f'seeds must be at least 1, not {seeds!r}')
    if seeds > MOST_SEEDS or config.seed + seeds > 2**32:
        raise ValueError(
            f'seeds must be at most {MOST_SEEDS}, and the last of them below 2^32, not {seeds}'
        )


def batch_rows(seed: int, step: int, batch_size: int, num_examples: int) -> np.ndarray:
    """The rows of the training split that make the batch of one step, int `[batch_size]`.

    Every epoch is a fresh permutation; examples beyond its last whole batch are left out.

    Args:
      seed: of the network.
      step: its number, from 0.
      batch_size: examples a step, at most `num_examples`.
      num_examples: in the training split.
    """
    per_epoch = num_examples // batch_size
    start = step % per_epoch * batch_size
    return _permutation(seed, step // per_epoch, num_examples)[start : start + batch_size]


@functools.lru_cache(maxsize=4 * MAX_SLOTS)
def _permutation(seed, epoch, num_examples):
    return np.random.default_rng((seed, epoch)).permutation(num_examples).astype(np.int32)


def _activity(plans):
    """The text of the progress bar once everything is compiled."""
    count = f'{len(plans)} network{"s" * (len(plans) > 1)}'
    measuring = any(plan.measures_affinity for plan in plans)
    return f'training {count}' + ', measuring affinities' * measuring


def _measurement(plans, config):
    """A `slots.Measurement`, or None if no plan asks for affinities."""
    if not any(plan.measures_affinity for plan in plans):
        return None
    return slots.Measurement(config.affinity_kind, config.affinity_step, config.affinity_examples)


def _schedule(runs, chunk, batch_size, sizes, config):
    """The plan of all slots for the next chunk; empty slots look at the batches of one that is not.

    Args:
      sizes: the numbers of examples in the training split, and in the validation split where
        affinities are compared there.
    """
    some = next(run for run in runs if run is not None)
    steps = np.array([(run or some).step for run in runs]) + np.arange(chunk)[:, None]
    seeds = [(run or some).plan.seed for run in runs]
    rows = [
        np.array(
            [
                [
                    batch_rows(*slot, min(batch_size, size), size)
                    for slot in zip(seeds, now, strict=True)
                ]
                for now in steps.tolist()
            ]
        )
        for size in sizes
    ]
    live = (steps < config.steps) & np.array([run is not None for run in runs])
    asked = np.array([run is not None and run.plan.measures_affinity for run in runs])
    measured = live & asked & config.measures_at(steps)
    validation_rows = rows[1] if len(rows) > 1 else None
    return slots.Schedule(rows[0], validation_rows, live, measured.any(axis=1))


def _trained(run, best):
    params, model_state = best
    return TrainedNetwork(
        plan=run.plan,
        params=params,
        model_state=model_state,
        validation=run.best_scores,
        best_step=run.best_step,
        steps=run.step,
        seconds=run.seconds,
        affinities=affinity.summary(run.affinities) if run.plan.measures_affinity else None,
        not_finite=run.not_finite,
    )


def _batching(problem, inputs, mesh=None):
    """How networks are batched: `gradients.preferred_batching`, or vmap over a mesh of them."""
    if parallel.size(mesh, parallel.NETWORKS) > 1:
        return 'vmap'
    params, model_state = problem.shapes
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    return gradients.preferred_batching(problem, params, model_state, example)
