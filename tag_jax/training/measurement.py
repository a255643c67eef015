"""How inter-task affinities are measured while a network trains."""

import dataclasses
import math
import numbers

from tag_jax import affinity

STEPS, SPLITS = ('sgd', 'optimizer'), ('train', 'validation')
_MOST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Measurement:
    """How inter-task affinities are measured while a network trains.

    Attributes:
      every: steps between measurements.
      kind: 'exact', 'first_order' or 'cosine', see `affinity.inter_task_affinities`.
      step: 'sgd' for lookahead steps of plain gradient descent (the paper), 'optimizer' for those
        that the optimizer would take from where it stands.
      window: shares of the largest number of steps between which affinities are measured; (0, 1)
        for all.
      examples: examples of each batch that take part; None for all.
      split: where losses are compared, 'train', on the batch of the step (the paper), or
        'validation', on a batch of that split. There a task's affinity onto itself can be compared
        with the others', so that `grouping.tag` may leave a task alone.

    Raises:
      ValueError: if a setting is out of its range.
    """

    every: int = 10
    kind: str = 'exact'
    step: str = 'sgd'
    window: tuple[float, float] = (0.0, 1.0)
    examples: int | None = None
    split: str = 'train'

    def __post_init__(self):
        for name in ('every', 'examples'):
            value = getattr(self, name)
            if name == 'examples' and value is None:
                continue
            if not isinstance(value, numbers.Integral) or not 1 <= value <= _MOST:
                raise ValueError(
                    f'affinity.{name} must be an integer of at least 1 and at most {_MOST}, not '
                    f'{value!r}'
                )
            object.__setattr__(self, name, int(value))
        for name, known in (('kind', affinity.KINDS), ('step', STEPS), ('split', SPLITS)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                raise ValueError(
                    f'affinity.{name} must be one of {", ".join(known)}, not {value!r}'
                )
        try:
            start, stop = map(float, self.window)
        except (TypeError, ValueError, OverflowError):
            start, stop = math.nan, math.nan
        if not 0 <= start < stop <= 1:
            raise ValueError(
                'affinity.window must be two shares of training, 0 <= start < stop <= 1, not '
                f'{self.window!r}'
            )
        object.__setattr__(self, 'window', (start, stop))

    def bounds(self, steps: int) -> tuple[float, float]:
        """The steps between which affinities are measured, the second one excluded.

        Args:
          steps: the largest number of training steps.
        """
        start, stop = (share * steps - 1e-9 for share in self.window)
        return start, min(stop, steps)

    def check(self, steps: int) -> None:
        """Raises ValueError unless training has a step at which affinities are measured.

        Args:
          steps: the largest number of training steps.
        """
        start, stop = self.bounds(steps)
        if not math.ceil(start / self.every) * self.every < stop:
            raise ValueError(
                f'affinity.window {self.window} of {steps} steps holds no multiple of '
                f'affinity.every, {self.every}: nothing would be measured'
            )

    @property
    def compiled(self) -> 'Measurement':
        """The settings that a compiled program depends on; when it measures is no part of it."""
        return dataclasses.replace(self, every=1, window=(0.0, 1.0), split='train')
