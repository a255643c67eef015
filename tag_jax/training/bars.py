"""Progress bars: on a terminal and in a notebook, and nowhere else."""

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
    in_notebook = tqdm.auto.notebook_tqdm is not tqdm.std.tqdm
    disable = None if not in_notebook else False  # None: unless this is a terminal.
    return tqdm.auto.tqdm(
        total=total, desc=text, unit='step', disable=disable if shown else True, leave=False
    )
