"""What a comparison asks of a way to group: the groups that it proposes, and what that took."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tag_jax import ledger, selection, training
from tag_jax.affinity import AffinitySummary
from tag_jax.grouping import search, verification
from tag_jax.grouping.by_networks import even_groups
from tag_jax.grouping.run import Run, all_in_one_plan, plan

RANDOM, ALL_IN_ONE, EXHAUSTIVE = 'random', 'all_in_one', 'exhaustive'
WIDE, SMALL = 'wide_all_in_one', 'small_single_task'  # What needs other encoders.


class Proposal(NamedTuple):
    """Groups that a method proposes.

    Attributes:
      groups: tuples of task indices.
      serves: the tasks that each serves; None for the networks with the lowest validation error.
      steps: network-steps that the search took.
      seconds: that it took.
      costs: of each network, in standard networks; None where all are standard.
    """

    groups: tuple[tuple[int, ...], ...]
    serves: tuple[tuple[int, ...], ...] | None
    steps: float = 0.0
    seconds: float = 0.0
    costs: tuple[float, ...] | None = None


class Search:
    """One seed of a comparison: what methods may ask for.

    Args:
      run: a `grouping.run.Run` with the config of this seed.
      book: the `ledger.Ledger` of its networks.
      wider: `{budget: cost}` of the encoder that all tasks may share for a budget.

    Attributes:
      run, wider: as they were given.
      names: T task names.
    """

    def __init__(
        self, run: Run, book: ledger.Ledger, wider: Mapping[float, float] = MappingProxyType({})
    ):
        self.run, self.names, self.wider = run, run.problem.task_names, wider
        self._book, self._rows, self._found = book, {}, {}

    def rows(self, sets: Sequence[tuple[str, ...]], cost: float = 1.0) -> list[dict[str, Any]]:
        """Rows of networks, in the order of the sets.

        Args:
          sets: tuples of task names.
          cost: of the encoder that they are on, in standard ones.
        """
        known = self._rows.setdefault(cost, {})
        if missing := [tasks for tasks in sets if tasks not in known]:
            found = search.trained_rows(self.run.sized(cost), missing, self._book)
            known |= zip(missing, found, strict=True)
        return [known[tasks] for tasks in sets]

    def brief(self, sets: Sequence[tuple[str, ...]], fraction: float) -> list[dict[str, Any]]:
        """Rows of networks that are trained briefly, in the order of the sets.

        Args:
          sets: tuples of task names.
          fraction: of the steps.
        """
        return search.brief_rows(self.run, sets, self._book, fraction)

    def networks(
        self, groups: Sequence[tuple[str, ...]], costs: Sequence[float]
    ) -> list[dict[str, Any]]:
        """Rows of networks on different encoders, in the order of the groups.

        Args:
          groups: tuples of task names.
          costs: of the encoder of each, in standard ones.
        """
        rows = {}
        for cost in set(costs):
            of_cost = [tasks for tasks, own in zip(groups, costs, strict=True) if own == cost]
            rows |= zip([(tasks, cost) for tasks in of_cost], self.rows(of_cost, cost), strict=True)
        return [rows[network] for network in zip(groups, costs, strict=True)]

    def searched(
        self, method: search.NetworkSearch
    ) -> tuple[list[dict[str, Any]], selection.Candidates]:
        """The rows of the networks that a search trains, and the candidates that it predicts.

        Args:
          method: a `grouping.search.NetworkSearch`.
        """

        def train():
            rows = search.searched_rows(self.run, method, self._book)
            if method.fraction == 1:
                for row in rows:
                    self._rows.setdefault(row['cost'], {})[tuple(row['tasks'])] = row
            return rows, method.predict(ledger.candidates(rows, self.names))

        return self._kept(('searched', method.name), train)

    def verified(self, groupings: Sequence[tuple[tuple[int, ...], ...]]) -> list[dict[str, Any]]:
        """Rows of brief networks for all groups of some groupings.

        Args:
          groupings: tuples of groups, each a tuple of task indices.
        """
        (rows,) = verification.trial_rows(self.run, groupings, self._book, search.BRIEF, 1)
        return rows

    def changed(self, **changes: Any) -> 'Search':
        """The same search with other settings of training.

        Args:
          **changes: of the config.
        """
        return self._kept(('changed', *sorted(changes.items())), lambda: self._changed(changes))

    def measured(self, **changes: Any) -> tuple[AffinitySummary, int, float]:
        """(`AffinitySummary`, steps, seconds) of an all-in-one network.

        Args:
          **changes: of the config, such as `affinity_kind='cosine'`.
        """

        def measure():
            network = self._all_in_one(dataclasses.replace(self.run.config, **changes), True)
            return network.affinities, network.steps, network.seconds

        return self._kept(('measured', *sorted(changes.items())), measure)

    def measured_in(self, sets: Sequence[tuple[str, ...]]) -> list[AffinitySummary]:
        """An `AffinitySummary` for each of some sets of task names, of a network for them.

        What it says of other tasks is NaN.

        Args:
          sets: tuples of task names.
        """
        plans = [plan(self.run, '+'.join(s), s)._replace(measures_affinity=True) for s in sets]
        data = self.run.dataset
        networks = training.train_networks(
            self.run.problem, data.train, data.validation, plans, self.run.config
        )
        return [network.affinities for network in networks]

    @functools.cached_property
    def reference(self) -> tuple[int, float]:
        """(steps, seconds) of an all-in-one network that trains alone."""
        network = self._all_in_one(self.run.config, False)
        return network.steps, network.seconds

    def _all_in_one(self, config, measures):
        """An all-in-one network; the seconds that compilation takes are not counted."""
        run = self.run._replace(config=config)
        own = all_in_one_plan(run)._replace(measures_affinity=measures)
        data = self.run.dataset
        train = functools.partial(
            training.train_networks, self.run.problem, data.train, data.validation, [own]
        )
        if config.steps % config.eval_every == 0:  # Else another program would be compiled.
            train(dataclasses.replace(config, steps=config.eval_every, affinity_window=(0, 1)))
        return train(config)[0]

    def _changed(self, changes):
        run = self.run._replace(config=dataclasses.replace(self.run.config, **changes))
        return Search(run, self._book, self.wider)

    def _kept(self, name, find):
        """What was found under a name, or is found now."""
        if name not in self._found:
            self._found[name] = find()
        return self._found[name]


def standard_networks(budget) -> int:
    """How many standard networks a budget pays for."""
    return max(1, math.floor(budget))


def by_affinity(found: Search, budget, **changes) -> Proposal:
    """Groups by affinities that are measured with some settings changed, standard networks all."""
    summary, steps, seconds = found.measured(**changes)
    selected = selection.select_groups(summary.mean, standard_networks(budget))
    return Proposal(selected.groups, selected.serves, steps, seconds)


def tag(found: Search, budget) -> Proposal:
    """`grouping.tag`."""
    return by_affinity(found, budget)


def cosine_similarity(found: Search, budget) -> Proposal:
    """`grouping.cosine_similarity`."""
    return by_affinity(found, budget, affinity_kind='cosine')


def verify(found: Search, budget) -> Proposal:
    """`grouping.verify`."""
    summary, steps, seconds = found.measured()
    tried = verification.proposed(summary.mean, standard_networks(budget), verification.PROPOSALS)
    rows = found.verified(tried)
    groups, _ = verification.preferred(tried, [rows], found.names)
    cost = search.cost_of(rows)
    return Proposal(groups, None, steps + cost['search_steps'], seconds + cost['search_seconds'])


def by_networks(method: search.NetworkSearch, found: Search, budget) -> Proposal:
    """The function of `grouping` that bears the name of a search by networks."""
    rows, candidates = found.searched(method)
    selected = method.select(candidates, budget)
    cost = search.cost_of(rows)
    return Proposal(
        groups=selected.groups,
        serves=selected.serves,
        steps=cost['search_steps'],
        seconds=cost['search_seconds'],
        costs=tuple(candidates.costs[list(selected.networks)].tolist()),
    )


def random_even(found: Search, budget) -> Proposal:
    """`grouping.random_even`."""
    networks = standard_networks(budget)
    rng = np.random.default_rng((found.run.config.seed, networks))
    return Proposal(even_groups(rng, len(found.names), networks), None)


def single_task(found: Search, budget) -> Proposal:
    """`grouping.single_task`, whatever the budget."""
    del budget
    return Proposal(tuple((n,) for n in range(len(found.names))), None)


def all_in_one(found: Search, budget) -> Proposal:
    """`grouping.all_in_one`."""
    del budget
    return Proposal((tuple(range(len(found.names))),), None)


def wide_all_in_one(found: Search, budget) -> Proposal:
    """One network for all tasks on a wider encoder: capacity in place of more networks.

    (The high-capacity networks in the appendix of Fifty et al. 2021, Table 8, and in Table 7 of
    Standley et al. 2020.)
    """
    return Proposal((tuple(range(len(found.names))),), None, costs=(found.wider[budget],))


def small_single_task(found: Search, budget) -> Proposal:
    """A network for each task on the smaller encoder, whatever the budget."""
    del budget
    size = len(found.names)
    return Proposal(tuple((n,) for n in range(size)), None, costs=(found.run.smaller,) * size)


# Searches that train every set of tasks.
WHOLE = (search.EXHAUSTIVE, search.PESSIMAL)
METHODS: Mapping[str, Callable[[Search, float], Proposal]] = {
    ALL_IN_ONE: all_in_one,
    WIDE: wide_all_in_one,
    'random_even': random_even,
    'single_task': single_task,
    SMALL: small_single_task,
    'tag': tag,
    'cosine_similarity': cosine_similarity,
    'verify': verify,
    **{name: functools.partial(by_networks, method) for name, method in search.SEARCHES.items()},
}
