"""Lines that say what is being done: on a terminal and in a notebook, and nowhere else."""

import tqdm
import tqdm.auto
import tqdm.std


def steps_bar(total: int, text: str, shown: bool = True) -> tqdm.tqdm:
    """A bar of training steps, which leaves nothing behind.

    Args:
      total: how many there are.
      text: beside the bar.
      shown: whether it is shown at all.
    """
    return _bar(shown, total=total, desc=text, unit='step')


def doing(text: str, shown: bool = True) -> tqdm.tqdm:
    """A line that says what is being done where no steps are counted, and leaves nothing behind.

    Args:
      text: the line, without a point.
      shown: whether it is shown at all.
    """
    return _bar(shown, desc=text, bar_format='{desc} ...')


def _bar(shown, **options):
    in_notebook = tqdm.auto.notebook_tqdm is not tqdm.std.tqdm
    disable = None if not in_notebook else False  # None: unless this is a terminal.
    return tqdm.auto.tqdm(**options, disable=disable if shown else True, leave=False)
