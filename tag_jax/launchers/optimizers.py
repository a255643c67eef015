"""The flags of the optimizer: optax's, with weight decay, clipping and a schedule."""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from tag_jax.launchers import launch

if TYPE_CHECKING:
    import optax

# Functions of optax, with arguments.
OPTIMIZERS = {
    **{name: (name, {}) for name in ('adam', 'adamw', 'sgd')},
    'momentum': ('sgd', {'momentum': 0.9}),
    'nesterov': ('sgd', {'momentum': 0.9, 'nesterov': True}),
    **{name: (name, {}) for name in ('lion', 'lamb', 'rmsprop', 'adagrad', 'nadam')},
}
SCHEDULES = ('constant', 'cosine', 'linear', 'step')
NAMES = ('optimizer', 'weight_decay', 'clip', 'schedule', 'warmup')

_DECOUPLED = ('adamw', 'lion', 'lamb')
# A schedule in steps: thirds of training after which the rate is a tenth of what it was.
_DROPS, _DROP = (1 / 3, 2 / 3), 0.1

flags.DEFINE_string(
    'optimizer',
    None,
    f'One of: {", ".join(OPTIMIZERS)}; by default as the dataset asks, else adam.',
)
flags.DEFINE_float(
    'weight_decay',
    None,
    f'Of the optimizer: decoupled from the gradient for {", ".join(_DECOUPLED)}, which have one '
    'of their own if it is left out; else added to the gradient.',
)
flags.DEFINE_float(
    'clip', None, 'Longest update of the gradient of all parameters; by default it is not clipped.'
)
flags.DEFINE_string(
    'schedule',
    'constant',
    'Of the learning rate over --steps: constant; cosine or linear, down to 0; step, a tenth '
    'after each third.',
)
flags.DEFINE_integer('warmup', 0, 'Steps in which the learning rate rises from 0.')

FLAGS = flags.FLAGS


def scheduled(
    learning_rate: float,
    name: str = 'adam',
    weight_decay: float | None = None,
    clip: float | None = None,
    schedule: str = 'constant',
    warmup: int = 0,
    steps: int = 1,
) -> 'optax.GradientTransformation':
    """An optimizer of optax with weight decay, clipping and a schedule.

    Args:
      learning_rate: the highest one, which may be traced.
      name: of OPTIMIZERS.
      weight_decay: as the flag says; None for that of the optimizer.
      clip: the longest gradient over all parameters, None for any.
      schedule: of SCHEDULES.
      warmup: steps in which the rate rises from 0.
      steps: of training.
    """
    import optax  # Slow to import, as below.

    function, arguments = OPTIMIZERS[name]
    make = functools.partial(getattr(optax, function), **arguments)
    if weight_decay is not None and name in _DECOUPLED:
        make = functools.partial(make, weight_decay=weight_decay)
    parts = [] if clip is None else [optax.clip_by_global_norm(clip)]
    if weight_decay and name not in _DECOUPLED:
        parts.append(optax.add_decayed_weights(weight_decay))
    parts.append(make(learning_rate))
    if schedule != 'constant' or warmup:
        parts.append(optax.scale_by_schedule(_shares(schedule, warmup, steps)))
    return optax.chain(*parts)


def _shares(schedule, warmup, steps):
    """Step -> the share of the learning rate."""
    import optax

    rest = max(1, steps - warmup)
    after = {
        'constant': lambda: optax.constant_schedule(1.0),
        'cosine': lambda: optax.cosine_decay_schedule(1.0, rest),
        'linear': lambda: optax.linear_schedule(1.0, 0.0, rest),
        'step': lambda: optax.piecewise_constant_schedule(*_drops(warmup, steps)),
    }[schedule]()
    if not warmup:
        return after
    # The first step counts: a rate of 0 would be a step that does nothing.
    rising = optax.linear_schedule(1 / warmup, 1.0, max(1, warmup - 1))
    return optax.join_schedules([rising, after], [warmup])


def _drops(warmup, steps):
    """(the share at the end of the warmup, {step after it: factor}) of the schedule in steps."""
    after = [round(share * steps) - warmup for share in _DROPS]
    passed = sum(step <= 0 for step in after)
    return _DROP**passed, {step: _DROP for step in after if step > 0}


def chosen(steps: int) -> Callable | None:
    """The optimizer that the flags ask for, or None if they leave it to the dataset.

    Args:
      steps: of training.

    Raises:
      ValueError: if a flag is out of its range.
    """
    if not any(FLAGS[name].present for name in NAMES):
        return None
    name = FLAGS.optimizer or 'adam'
    launch.choose('optimizer', name, OPTIMIZERS)
    launch.choose('schedule', FLAGS.schedule, dict.fromkeys(SCHEDULES))
    for flag, least in (('weight_decay', 0), ('clip', 0), ('warmup', 0)):
        value = FLAGS[flag].value
        if value is not None and not least <= value < math.inf:
            raise ValueError(f'--{flag} must be a number of at least 0, not {value}')
    if FLAGS.clip == 0:
        raise ValueError('--clip=0 leaves no gradient: leave it out for none')
    if FLAGS.warmup > steps:
        raise ValueError(f'--warmup={FLAGS.warmup} is more than all steps, {steps}')
    asked = {
        'name': name,
        'weight_decay': FLAGS.weight_decay,
        'clip': FLAGS.clip,
        'schedule': FLAGS.schedule,
        'warmup': FLAGS.warmup,
    }
    if FLAGS.schedule != 'constant':
        asked['steps'] = steps
    return functools.partial(scheduled, **asked)
