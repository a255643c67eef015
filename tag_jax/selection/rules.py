"""Which groups of tasks may train together: sizes, must-links and cannot-links."""

import itertools
import operator
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Rules(NamedTuple):
    """Rules that every chosen network has to keep.

    Attributes:
      smallest, largest: bounds of the number of tasks that a network trains.
      linked: bit masks of tasks that train together or not at all, disjoint, two tasks or more.
      apart: bit masks of two tasks that never train together.
    """

    smallest: int
    largest: int
    linked: tuple[int, ...]
    apart: tuple[int, ...]

    @property
    def with_links(self) -> int:
        """Bit mask of the tasks in any link."""
        mask = 0
        for link in (*self.linked, *self.apart):
            mask |= link
        return mask

    def allow(self, members) -> np.ndarray:
        """Which groups keep the rules, bool `[N]`.

        Args:
          members: bool `[N, T]`.
        """
        sizes = members.sum(axis=1)
        allowed = (sizes >= self.smallest) & (sizes <= self.largest)
        for link in self.linked:
            inside = members[:, _indices(link)]
            allowed &= inside.all(axis=1) | ~inside.any(axis=1)
        for pair in self.apart:
            allowed &= ~members[:, _indices(pair)].all(axis=1)
        return allowed

    def __str__(self):
        parts = []
        if self.smallest > 1:
            parts.append(f'at least {self.smallest} tasks')
        parts.append(f'at most {self.largest} tasks')
        if self.linked or self.apart:
            parts.append('the links')
        return ', '.join(parts)


def rules_of(task_names, min_size=1, max_size=None, must_link=(), cannot_link=()) -> Rules:
    """Rules as users state them.

    Args:
      task_names: T names.
      min_size, max_size: bounds of the number of tasks that a network trains; None is T.
      must_link: sets of two or more tasks, by index or by name, that train together in a network or
        not in that network at all.
      cannot_link: sets of two or more tasks of which no two train together.

    Raises:
      ValueError: if no group could keep the rules, or a task is not known.
    """
    num_tasks = len(task_names)
    smallest = _integer('min_size', min_size)
    largest = num_tasks if max_size is None else _integer('max_size', max_size)
    if smallest > num_tasks:
        raise ValueError(f'min_size is {smallest}, but there are {num_tasks} tasks')
    if not 1 <= smallest <= largest:
        raise ValueError(
            f'sizes must be at least 1, and min_size at most max_size, not {smallest} and {largest}'
        )
    linked = []
    for link in _links('must_link', must_link, task_names):
        mask = sum(1 << task for task in link)
        for other in [other for other in linked if other & mask]:
            linked.remove(other)
            mask |= other
        linked.append(mask)
    apart = sorted(
        {
            1 << a | 1 << b
            for link in _links('cannot_link', cannot_link, task_names)
            for a, b in itertools.combinations(sorted(link), 2)
        }
    )
    for mask in linked:
        names = ', '.join(task_names[task] for task in _indices(mask))
        if mask.bit_count() > largest:
            raise ValueError(f'{names} are linked, but a network may train {largest} at most')
        for pair in apart:
            if pair & mask == pair:
                first, second = (task_names[task] for task in _indices(pair))
                raise ValueError(f'{first} and {second} are in a must_link and in a cannot_link')
    return Rules(smallest, min(largest, num_tasks), tuple(sorted(linked)), tuple(apart))


def _links(what, links, task_names):
    found = []
    for link in () if links is None else links:
        if isinstance(link, str) or not isinstance(link, Iterable):
            raise ValueError(f'{what} is a list of sets of tasks, not of single tasks: {link!r}')
        tasks = {_task(what, task, task_names) for task in link}
        if len(tasks) < 2:
            raise ValueError(f'{what} needs two different tasks or more, not {list(link)}')
        found.append(tasks)
    return found


def _task(what, task, task_names):
    if isinstance(task, str):
        if task not in task_names:
            raise ValueError(f'{what} names {task!r}, which is not among {", ".join(task_names)}')
        return task_names.index(task)
    index = _integer(f'a task of {what}', task)
    if not 0 <= index < len(task_names):
        raise ValueError(f'{what} names task {index}, but there are {len(task_names)} tasks')
    return index


def _integer(what, value):
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f'{what} must be an integer, not {value!r}') from None


def _indices(mask):
    return [task for task in range(mask.bit_length()) if mask >> task & 1]
