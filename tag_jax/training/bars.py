"""Signs of life: bars on a terminal and in a notebook, lines now and then elsewhere."""

import sys
import time
from typing import Any

import tqdm
import tqdm.auto
import tqdm.std

LINE_SECONDS = 10.0  # Between two lines where there is no terminal, at least.


class StepLines:
    """Lines on stderr in place of a bar, for a log file: after an evaluation, now and then.

    It has what is used of `tqdm`.

    Args:
      total: how many steps there are.
      text: says what is done.

    Attributes:
      total: as it was given; it may change.
    """

    def __init__(self, total: int, text: str):
        self.total, self._text, self._note = total, text, ''
        self._done, self._said = 0, time.monotonic()

    def set_description(self, text: str) -> None:
        """Says what is done from now on."""
        self._text = text

    def note(self, text: str) -> None:
        """Says how the last network did that was evaluated."""
        self._note = text

    def update(self, steps: int) -> None:
        """Counts steps, and writes a line if the last one is LINE_SECONDS ago."""
        self._done += steps
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS:
            self._said = now
            share = 100 * self._done / max(1, self.total)
            parts = f'{self._text}: {self._done:,} of {self.total:,} steps ({share:.0f} %)'
            note = f'; {self._note}' if self._note else ''
            print(parts + note, file=sys.stderr, flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def steps_bar(total: int, text: str, shown: bool = True) -> tqdm.tqdm | StepLines:
    """A bar of training steps, which leaves nothing behind; lines where there is no terminal.

    Args:
      total: how many there are.
      text: beside the bar.
      shown: whether it is shown at all.
    """
    if shown and not (_in_notebook() or sys.stderr.isatty()):
        return StepLines(total, text)
    return _bar(shown, total=total, desc=text, unit='step')


def advance(bar: Any, steps: int, record: Any) -> None:
    """Counts the steps of a network up to an evaluation.

    Args:
      bar: from `steps_bar`.
      steps: that it took.
      record: its `training.Record`.
    """
    if isinstance(bar, StepLines):
        error = f'total validation error {record.total_validation_error:.4g} %'
        bar.note(f'{record.network} at step {record.step:,}: {error}')
    bar.update(steps)


def doing(text: str, shown: bool = True) -> tqdm.tqdm:
    """A line that says what is being done where no steps are counted, and leaves nothing behind.

    It is for a terminal and a notebook.

    Args:
      text: the line, without a point.
      shown: whether it is shown at all.
    """
    return _bar(shown, desc=text, bar_format='{desc} ...')


def _in_notebook():
    return tqdm.auto.notebook_tqdm is not tqdm.std.tqdm


def _bar(shown, **options):
    disable = None if not _in_notebook() else False  # None: unless this is a terminal.
    return tqdm.auto.tqdm(**options, disable=disable if shown else True, leave=False)
