"""The answer to a network selection problem."""

from typing import NamedTuple


class Selection(NamedTuple):
    """Chosen networks, and which of them serves each task.

    Attributes:
      groups: for each network, the indices of the tasks that it trains, ascending. Ordered by the
        first task that a network serves.
      serves: for each network, the indices of the tasks that it answers at inference, ascending.
        Every task is in exactly one entry.
      objective: the value of the selection.
      bound: what no selection can exceed (or fall below, when minimising).
      optimal: whether the selection is proven to be the best.
      networks: indices into the candidates, where it was a choice among candidates; else None.
      elapsed: seconds that the search took.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...]
    objective: float
    bound: float
    optimal: bool
    networks: tuple[int, ...] | None
    elapsed: float
