"""How networks are trained, which networks are, and what comes of it."""

import dataclasses
import math
import numbers
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from tag_jax import affinity, evaluation, sharding, weighting
from tag_jax.training.measurement import Measurement
from tag_jax.training.program import NOT_FINITE

MEASUREMENT = Measurement()
# Of `slots`: the number that trains fastest is found by a short measurement.
MEASURE = 'measure'
# The steps at which networks are kept.
KEEP = TOTAL, EACH_TASK = 'total', 'each_task'
# How many seeds a comparison may ask for.
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
      patience: evaluations without a better one after which a network stops;
        0 for never.
      select_by: what the best evaluation of a network, groups and totals go by, the lower the
        better: 'error', in percent; 'loss', the mean loss on the split as it is trained (Standley
        et al. 2020, Section 3); 'relative_loss', that in percent of the loss of the best constant
        answer, so that tasks weigh alike. A task whose error is not defined on a split
        (`evaluation.left_out`) is left out of its totals; a network that trains only such tasks
        goes by their losses.
      keep: at which step a network is kept, of its evaluations: 'total', the best one for its tasks
        together; 'each_task', for each task the best one for that task, so that a network is kept
        up to T times, and each task has an encoder of its own step at inference. When training
        ends follows from the total in both.
      sampling: how batches are drawn where tasks have labels of different examples: 'proportional',
        all rows alike; 'balanced', as many rows for each task; a temperature of at least 1 between
        the two, see `batches.task_quotas`.
      affinity: how affinities are measured, a `Measurement`.
      weighting: makes the optax transform that weighs the tasks, from `tag_jax.weighting`.
      optimizer: learning rate -> optax transform, such as `optax.adam`, or a schedule in one:
        `lambda rate: optax.adamw(optax.warmup_cosine_decay_schedule(0.0, rate, 100, steps))`. The
        rate is a traced number, so that networks of different rates share a program, unless the
        function needs a Python number, as some schedules do. What is compiled is kept by the
        identity of these two functions, so name them once.
      slots: networks trained side by side in one program; None for as many as `num_slots` says;
        'measure' for as many as train fastest here, where hundreds of networks of dense encoders
        train on a CPU: see `measured_slots`. Searches keep what they measured, and others have the
        usual number. Results depend on the number by rounding.
      workers: threads that train some slots each, at most; None for as many as there are cores, on
        CPU, else one. Results do not depend on it.
      mesh: devices (along the slots, along the examples of each batch). Slots are filled up to a
        multiple of the first; the second divides `batch_size`. Results depend on it as on
        `slots`: by rounding.
      shard_parameters: whether each device along the batch axis of the mesh holds a part of every
        parameter, of its moments and of its best copy, in place of all of them: True splits each
        along its largest axis that the devices divide, and leaves whole what has none. A dict
        `{pattern: PartitionSpec}` says it by names: a regular expression that is found in
        'shared/dense/kernel' or 'heads/task/kernel', the first that is; the others are split as by
        True. Or a function `(path, shape) -> PartitionSpec or None` of names and shape, None for as
        by True. Frozen parameters count with the shared ones. Results depend on it by rounding.
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
    select_by: str = 'error'
    keep: str = 'total'
    sampling: str | float = 'proportional'
    affinity: Measurement = MEASUREMENT
    weighting: Callable[[], optax.GradientTransformation] = weighting.equal
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam
    slots: int | str | None = None
    workers: int | None = None
    mesh: tuple[int, int] = (1, 1)
    shard_parameters: Any = False
    if_not_finite: str = 'stop'
    checkpoint_seconds: float = 60.0

    def __post_init__(self):
        for name in ('steps', 'batch_size', 'eval_every'):
            self._set_integer(name, 1, 2**31 - 1)
        for name in ('seed', 'patience'):
            self._set_integer(name, 0, 2**32 - 1)
        if self.slots not in (None, MEASURE):
            self._set_integer('slots', 1, 2**31 - 1, f'{MEASURE!r} or ')
        if self.workers is not None:
            self._set_integer('workers', 1, 2**31 - 1)
        for name, known in (
            ('select_by', evaluation.CRITERIA),
            ('keep', KEEP),
            ('if_not_finite', NOT_FINITE),
        ):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in known:
                raise ValueError(
                    f'{name} must be one of {", ".join(known)}, not {getattr(self, name)!r}'
                )
        if not isinstance(self.affinity, Measurement):
            raise ValueError(
                'affinity must be a training.Measurement, such as Measurement(every=5), not '
                f'{self.affinity!r}'
            )
        self.affinity.check(self.steps)
        check_sampling(self.sampling)
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

    def measuring(self, **changes: Any) -> 'TrainingConfig':
        """The config with affinities measured in another way.

        Args:
          **changes: fields of `Measurement`, such as `every=5`.

        Raises:
          ValueError: if a field is out of its range.
        """
        return dataclasses.replace(self, affinity=dataclasses.replace(self.affinity, **changes))

    def measures_at(self, steps: np.ndarray) -> np.ndarray:
        """Whether affinities are measured before steps, bool `[...]`.

        Args:
          steps: their numbers, `[...]`.
        """
        start, stop = self.affinity.bounds(self.steps)
        return (steps % self.affinity.every == 0) & (steps >= start) & (steps < stop)

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
        sharding.check_rule(self.shard_parameters)
        if self.shard_parameters is not False and batch == 1:
            raise ValueError(
                f'shard_parameters needs a mesh with several devices along the batch, such as '
                f'mesh=(1, 8) (--mesh=batch:8), not {self.mesh}'
            )

    def _set_integer(self, name, least, most=math.inf, else_=''):
        value = getattr(self, name)
        if not isinstance(value, numbers.Integral) or not least <= value <= most:
            limit = '' if most == math.inf else f' and at most {most}'
            raise ValueError(
                f'{name} must be {else_}an integer of at least {least}{limit}, not {value!r}'
            )
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
      params, model_state: at the best evaluation, see `select_by`.
      validation: `{task: {'error': percent, ...}}` at that step, for the tasks it trains.
      best_step, steps: that step, and the number of steps trained.
      seconds: its share of the wall time; its first evaluation period, in which programs may be
        compiled, counts as the second where that took less.
      affinities: an `AffinitySummary`, or None if it was not asked to measure.
      not_finite: `{what: steps}` whose numbers were not finite: task names, or `progress.SHARED`.
      stopped: whether a hook ended its training.
      best_of_tasks: `{task: (step, value)}` of the best evaluation of each task on its own, by what
        networks are selected by: what keeping each task at its own step would gain on validation.
      copies: the network at the best steps of single tasks, where it is kept for each, see `kept`.
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
    stopped: bool = False
    best_of_tasks: Mapping[str, tuple[int, float]] = types.MappingProxyType({})
    copies: tuple['TrainedNetwork', ...] = ()


def check_sampling(sampling: str | float) -> None:
    """Raises ValueError unless this is a way to sample tasks.

    Args:
      sampling: what was given.
    """
    if isinstance(sampling, str) and sampling in ('proportional', 'balanced'):
        return
    number = isinstance(sampling, numbers.Real) and not isinstance(sampling, bool)
    if not number or not 1 <= sampling < math.inf:
        raise ValueError(
            "sampling must be 'proportional', 'balanced' or a temperature of at least 1, not "
            f'{sampling!r}'
        )


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
