"""The answer to a network selection problem, and how tasks are served by chosen networks."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.selection.candidates import Candidates


class Selection(NamedTuple):
    """Chosen networks, and which of them serves each task.

    Attributes:
      groups: for each network, the indices of the tasks that it trains, ascending. Ordered by the
        first task that a network serves.
      serves: for each network, the indices of the tasks that it answers at inference, ascending.
        Every task is in exactly one entry.
      objective: the value of the selection.
      bound: what no selection can exceed (or fall below, when minimising).
      optimal: whether the selection is proven to be the best (to 1e-9 of what tasks miss of the
        best that each could have), or the next best after those before it where several are asked
        for; then `bound` equals `objective`.
      networks: indices into the candidates, where it was a choice among candidates; else None.
      elapsed: seconds that the search took.
      task_names: T names, where they are known; else None.
      network_names: of the chosen networks, in the order of `networks`; else None.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...]
    objective: float
    bound: float
    optimal: bool
    networks: tuple[int, ...] | None
    elapsed: float
    task_names: tuple[str, ...] | None = None
    network_names: tuple[str, ...] | None = None

    def __str__(self):
        if self.task_names is None:
            return repr(self)
        lines = [f'objective {self.objective:g}, {certificate(self)}']
        names = self.network_names or [f'group {n}' for n in range(1, 1 + len(self.groups))]
        for name, group, served in zip(names, self.groups, self.serves, strict=True):
            trains, serves = (
                ', '.join(self.task_names[task] for task in tasks) for tasks in (group, served)
            )
            lines.append(f'{name}: trains {trains}; serves {serves}')
        return '\n'.join(lines)


def certificate(selected: Selection) -> str:
    """Says how far a selection can be from the best.

    Args:
      selected: with its bound.
    """
    if selected.optimal:
        return 'proven optimal'
    gap = abs(selected.bound - selected.objective)
    return f'not proven optimal: at most {gap:g} from the best, by its bound {selected.bound:g}'


def check_selected(selected: Selection, candidates: Candidates) -> None:
    """Raises ValueError if a selection is not one of these candidates.

    Indices alone do not tell: predicted candidates, say, stand in another order than trained ones.

    Args:
      selected: a selection of networks.
      candidates: those that its indices are to stand for.
    """
    if selected.networks is None:
        raise ValueError(
            'the selection is not one of these candidates but one of groups of tasks: '
            'select_networks chooses among candidates'
        )
    if selected.task_names not in (None, candidates.task_names):
        raise ValueError(
            f'the selection is not one of these candidates: its tasks are '
            f'{", ".join(selected.task_names)}, theirs are {", ".join(candidates.task_names)}'
        )
    names = selected.network_names or (None,) * len(selected.networks)
    for n, name, group in zip(selected.networks, names, selected.groups, strict=True):
        known = 0 <= n < len(candidates)
        same = known and name in (None, candidates.network_names[n])
        if not same or tuple(np.flatnonzero(candidates.members[n]).tolist()) != group:
            found = f'is {candidates.network_names[n]!r} among them' if known else 'is not there'
            raise ValueError(
                f'the selection is not one of these candidates: its network {n}, '
                f'{name or group!r}, {found}: look it up in the candidates that it was chosen from'
            )


def as_good(gains: np.ndarray, best: float | np.ndarray) -> np.ndarray:
    """Which gains equal the best of them but for rounding."""
    return gains >= best - 1e-13 * np.abs(best)


def served_best(gains: np.ndarray) -> list[int]:
    """Which network serves each task: the best one, the first of equals.

    Args:
      gains: `[K, T]`, none above 0; -inf where a network cannot serve a task.
    """
    return np.argmax(as_good(gains, gains.max(axis=0)), axis=0).tolist()


def in_order(networks: Sequence, gains: np.ndarray) -> tuple[tuple, tuple[tuple[int, ...], ...]]:
    """Networks by the first task that each serves, and the tasks that each serves.

    Args:
      networks: K networks, in any form.
      gains: `[K, T]`, none above 0; -inf where a network cannot serve a task.

    Returns:
      The networks that serve some task, and for each of them its tasks, ascending.
    """
    servers = served_best(gains)
    order = sorted(set(servers), key=servers.index)
    serves = tuple(tuple(t for t, server in enumerate(servers) if server == n) for n in order)
    return tuple(networks[n] for n in order), serves


def per_budget(
    select: Callable[[Any], Sequence[Selection]], budget: Any, num_solutions: int
) -> Selection | Any:
    """Answers in the form that was asked for.

    Args:
      select: budget -> list of selections, best first.
      budget: one budget, or a sequence of them.
      num_solutions: one selection is returned as it is, more as a tuple.
    """
    if np.ndim(budget):
        return tuple(per_budget(select, one, num_solutions) for one in budget)
    found = select(budget)
    return tuple(found) if num_solutions > 1 else found[0]


class Infeasible(ValueError):
    """There is no selection within the budget and the rules, or none was found."""


def checked_budget(budget: Any) -> float:
    """A finite number of at least 0. Raises ValueError if it is none."""
    try:
        if isinstance(budget, bool | str) or np.ndim(budget):
            raise TypeError
        budget = float(budget)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f'budget must be a number, not {budget!r}') from None
    if not 0 <= budget < np.inf:
        raise ValueError(f'budget must be finite and not negative, not {budget}')
    return budget


def checked_count(name: str, value: Any) -> int:
    """An integer of at least 1. Raises ValueError if it is none."""
    try:
        value = operator.index(value)
    except TypeError:
        raise ValueError(f'{name} must be an integer, not {value!r}') from None
    if value < 1:
        raise ValueError(f'{name} must be at least 1, not {value}')
    return value
