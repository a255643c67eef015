"""A way to find groups is a small value, as an optax transform is."""

import itertools
import json
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tag_jax.affinity import AffinitySummary
from tag_jax.selection import Candidates, Selection
from tag_jax.training import TrainingConfig

# What stages of a dry run are for, where more than one method has them.
MEASURING = 'all tasks, measuring affinities'
CHOSEN = 'the chosen groups'
BASELINE = 'all tasks, the baseline'


class Stage(NamedTuple):
    """Networks that a method trains.

    Attributes:
      what: they are for.
      networks: how many, at most.
      steps: of each, at most.
      measures: whether affinities are measured while they train.
      cost: of each at inference, in standard networks.
    """

    what: str
    networks: int
    steps: int
    measures: bool = False
    cost: float = 1.0


class Proposal(NamedTuple):
    """Groups that a method proposes.

    Attributes:
      groups: tuples of task indices, a network each.
      serves: the task indices that each network answers; None to let each task be served by the
        network with its lowest validation error.
      steps: network-steps of work outside the searcher, which counts what it was asked for.
      seconds: of that work.
      costs: of each network, in standard networks; None where all are standard.
      selection: the `Selection` behind the groups, or None.
      affinities: the `AffinitySummary` that they follow, or None.
      confidence: how probable it is that the groups score higher than the runner-up, or None.
      remarks: what else there is to say of the choice, a sentence each.
      networks: keys of the rows whose networks are the chosen ones, to be kept as they are, or (if
        they are brief) to go on to the end; None to train them as any other.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...] | None = None
    steps: float = 0.0
    seconds: float = 0.0
    costs: tuple[float, ...] | None = None
    selection: Selection | None = None
    affinities: AffinitySummary | None = None
    confidence: float | None = None
    remarks: tuple[str, ...] = ()
    networks: tuple[str, ...] | None = None


class Method(NamedTuple):
    """A way to find groups.

    Attributes:
      name: of the method.
      propose: `(Searcher, budget) -> Proposal`, the one place that says how groups are found.
      stages: `(task_names, budget, config) -> tuple[Stage, ...]`, what it trains at most, for dry
        runs; () where that is not known. It raises ValueError where the method cannot work.
      predict: `Searcher -> Candidates`, groups with their predicted scores (lower is better), for
        correlations with their errors; None if it predicts nothing.
      options: JSON types that tell it from others of its name, such as `{'count': 30}`.
    """

    name: str
    propose: Callable[[Any, float], Proposal]
    stages: Callable[[tuple[str, ...], float, TrainingConfig], tuple[Stage, ...]]
    predict: Callable[[Any], Candidates] | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def displayed(self) -> str:
        """The name with its options: `'subsets(count=30)'`."""
        if not self.options:
            return self.name
        return f'{self.name}({", ".join(f"{key}={_plain(v)}" for key, v in self.options.items())})'

    def __repr__(self):
        return f'grouping.{self.displayed}'


def check_method(method: Any) -> None:
    """Raises ValueError unless this is a `Method` whose parts are what they should be.

    Args:
      method: what was given.
    """
    if isinstance(method, Method):
        for part in ('propose', 'stages'):
            if not callable(getattr(method, part)):
                raise ValueError(
                    f'{part} of the method {method.name!r} must be a function, not '
                    f'{getattr(method, part)!r}'
                )
        try:
            json.dumps(dict(method.options))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'options of the method {method.name!r} must be a dict of JSON types ({error})'
            ) from error
        return
    if isinstance(method, str):
        raise ValueError(f'method must be a value such as grouping.tag(), not the name {method!r}')
    if callable(method):
        name = getattr(method, '__name__', 'tag')
        raise ValueError(f'method must be a value, and this is a function: call it, as {name}()')
    raise ValueError(f'method must be a grouping.Method, not {method!r}: grouping.tag() is one')


def checked_proposal(method: Method, proposal: Any, task_names: tuple[str, ...]) -> Proposal:
    """A proposal in plain integers, if it serves every task once, from a network that trains it.

    Args:
      method: that proposes.
      proposal: what it gave.
      task_names: T names.

    Raises:
      ValueError: if it is no `Proposal`, or does not fit the tasks.
    """

    def refuse(what):
        return ValueError(f'{method.displayed} {what}')

    if not isinstance(proposal, Proposal):
        raise refuse(f'must propose a grouping.Proposal, not {type(proposal).__name__}')
    groups = _indices(proposal.groups, task_names)
    if not groups:
        raise refuse(
            f'proposes {proposal.groups!r}: groups must be tuples of task indices, 0 to '
            f'{len(task_names) - 1}, a network each'
        )
    if any(len(set(group)) < len(group) for group in groups) or len(set(groups)) < len(groups):
        raise refuse(f'proposes {groups}: no task twice in a group, and no group twice')
    if missing := set(range(len(task_names))) - set(itertools.chain(*groups)):
        raise refuse(f'proposes no group for {task_names[min(missing)]!r}')
    serves = proposal.serves
    if serves is not None:
        serves = _indices(serves, task_names)
        if serves is None or len(serves) != len(groups):
            raise refuse('must say of each of its groups which tasks it serves, by their indices')
        if sorted(itertools.chain(*serves)) != list(range(len(task_names))):
            raise refuse(f'must serve every task once, and serves {serves}')
        for group, served in zip(groups, serves, strict=True):
            if strange := set(served) - set(group):
                name = task_names[min(strange)]
                raise refuse(f'serves {name!r} from a network that does not train it: {group}')
    costs = proposal.costs
    if costs is not None:
        costs = tuple(float(cost) for cost in costs)
        if len(costs) != len(groups) or not all(cost > 0 for cost in costs):
            raise refuse(f'must give a positive cost for each of its {len(groups)} groups')
    if isinstance(proposal.remarks, str):
        raise refuse('must give remarks as a tuple of sentences')
    if not isinstance(proposal.affinities, AffinitySummary | None):
        raise refuse('must give affinities as an AffinitySummary, as the searcher does')
    return proposal._replace(groups=groups, serves=serves, costs=costs)


def _indices(groups, task_names):
    """Groups as tuples of ascending integers; None if they are none."""
    try:
        found = tuple(tuple(sorted(operator.index(n) for n in group)) for group in groups)
    except TypeError:
        return None
    inside = all(0 <= n < len(task_names) for group in found for n in group)
    return found if inside and all(found) else None


def whole_networks(budget: float) -> int:
    """How many standard networks a budget pays for.

    Args:
      budget: in standard networks, at least 1 or at least what is cheaper.
    """
    return max(1, int(budget))


def standard_stages(budget: float, config: TrainingConfig, *search: Stage) -> tuple[Stage, ...]:
    """The stages of a method that searches, then trains groups and the baseline.

    Args:
      budget: what networks may cost.
      config: a `TrainingConfig`.
      *search: what it trains before.
    """
    chosen = Stage(CHOSEN, whole_networks(budget), config.steps)
    measured = any(stage.what == MEASURING for stage in search)
    baseline = () if measured else (Stage(BASELINE, 1, config.steps),)
    return (*search, chosen, *baseline)


def _plain(value):
    if isinstance(value, list | tuple):
        nested = any(isinstance(one, list | tuple) for one in value)
        return (' | ' if nested else ' + ').join(map(_plain, value)) if value else 'none'
    if isinstance(value, Mapping):
        return ','.join(f'{key}:{_plain(one)}' for key, one in value.items())
    return f'{value:g}' if isinstance(value, float) else str(value)
