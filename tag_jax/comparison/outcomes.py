"""The result of a way to group, for one budget, seed and split, and of a comparison of ways."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax import selection
from tag_jax.comparison.optimum import CrossFitted
from tag_jax.grouping import Proposal
from tag_jax.grouping.trainer import Trainer
from tag_jax.numbers import mean_of_known
from tag_jax.runs import score_table
from tag_jax.tables import data_frame


class Outcome(NamedTuple):
    """The result of a method, for one budget and seed.

    Attributes:
      method, budget, seed: of the search.
      groups: tuples of task names; empty for random groupings, which are many.
      cost: of their networks at inference, in standard networks.
      steps: network-steps of the search, in units of the steps of one all-in-one network.
      seconds: of the search, in units of the seconds of one all-in-one network, trained alone.
      validation_error: total over tasks of the chosen networks of this seed: of the errors in
        percent, or of the losses, if networks are selected by these (`select_by`). Tasks whose
        error is not defined on a split are left out of totals there, for all methods alike.
      test_error: the same on the test split.
      fresh_errors: `{seed: total}` on the test split, of networks for these groups of the other
        seeds, which had no part in the choice; each task is served by the one of them with its
        lowest validation error. Empty where they were not trained.
      split: number of the split of the data, from 0.
      test_draws: what the errors on the test split that count (`fresh_errors` on average, else
        `test_error`) would be on other test examples, see `evaluation.resampled`; None if not
        known.
      serves: for each of the groups, the names of the tasks that its network answers; empty where
        `groups` is.
      costs: of the network of each group, in standard networks; empty where `groups` is.
    """

    method: str
    budget: float
    seed: int
    groups: tuple[tuple[str, ...], ...]
    cost: float
    steps: float
    seconds: float
    validation_error: float
    test_error: float
    fresh_errors: Mapping[int, float]
    split: int = 0
    test_draws: tuple[float, ...] | None = None
    serves: tuple[tuple[str, ...], ...] = ()
    costs: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The line of metrics.jsonl, JSON types."""
        found = self._asdict()
        del found['test_draws']
        return found


class Comparison(NamedTuple):
    """The results of a comparison.

    Attributes:
      outcomes: an `Outcome` for each method, budget and seed.
      optima: `{budget: CrossFitted}`; empty unless all networks were trained, for several seeds.
      correlations: `{method: [T]}`, see `within_task_correlations`; empty like `optima`.
      select_by: what errors in it are: see `training.TrainingConfig`.
      test_share: test examples of a split, over those for training and validation.
      remarks: what a reader of the totals should know of the splits, a sentence each.
    """

    outcomes: tuple[Outcome, ...]
    optima: Mapping[int, CrossFitted]
    correlations: Mapping[str, np.ndarray]
    select_by: str = 'error'
    test_share: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def splits(self) -> int:
        """How many splits of the data it has."""
        return len({one.split for one in self.outcomes})

    def to_dataframe(self) -> Any:
        """The outcomes as a table: a row a method, budget, seed and split, in their order.

        Returns:
          A pandas DataFrame with the columns `method`, `budget`, `seed`, `split`, `cost`, `steps`,
          `seconds`, `validation_error` and `test_error` as an `Outcome` has them; `fresh_error`,
          the mean of its `fresh_errors`, NaN where there are none; and `groups`, names joined by
          commas and groups by semicolons, '' for random groupings, which are many.

        Raises:
          ImportError: if pandas is not installed.
        """
        plain = (
            *('method', 'budget', 'seed', 'split', 'cost', 'steps', 'seconds'),
            *('validation_error', 'test_error'),
        )
        rows = [
            {
                **{name: getattr(one, name) for name in plain},
                'fresh_error': float(np.mean([*one.fresh_errors.values()] or [math.nan])),
                'groups': '; '.join(map(', '.join, one.groups)),
            }
            for one in self.outcomes
        ]
        return data_frame(rows)

    def __repr__(self):
        methods = dict.fromkeys(one.method for one in self.outcomes)
        return (
            f'Comparison({", ".join(methods)}: {len(self.outcomes)} outcomes; '
            'comparison.summary(...) has their means)'
        )


def joined(parts: Sequence[Comparison]) -> Comparison:
    """The comparisons on some splits as one.

    Args:
      parts: a `Comparison` for each.
    """
    if len(parts) == 1:
        return parts[0]
    methods = dict.fromkeys(name for part in parts for name in part.correlations)
    return Comparison(
        outcomes=tuple(outcome for part in parts for outcome in part.outcomes),
        optima={
            budget: CrossFitted(
                float(np.mean([part.optima[budget].error for part in parts])),
                tuple(groups for part in parts for groups in part.optima[budget].groups),
            )
            for budget in parts[0].optima
        },
        correlations={
            name: mean_of_known(
                [one.correlations[name] for one in parts if name in one.correlations]
            )
            for name in methods
        },
        select_by=parts[0].select_by,
        test_share=float(np.mean([part.test_share for part in parts])),
        remarks=tuple(
            f'Split {n}: {remark}' for n, part in enumerate(parts) for remark in part.remarks
        ),
    )


def outcome_of(
    method: str,
    budget: float,
    trainer: Trainer,
    others: Sequence[Trainer],
    proposals: Sequence[Proposal],
    took: tuple[float, float],
    reference: tuple[float, float] | None = None,
    split: int = 0,
) -> Outcome:
    """The mean over proposals, which are several for random groupings only.

    Args:
      method, budget, split: see `Outcome`.
      trainer: of the seed of the search.
      others: of the seeds whose networks judge the groups as well.
      proposals: `Proposal`s.
      took: (steps, seconds) of the search.
      reference: the same of an all-in-one network; None to take it from the trainer.
    """
    networks = [_networks(trainer, proposal) for proposal in proposals]
    own = [_served(found) for found in networks]
    again = [proposal._replace(serves=None, networks=None) for proposal in proposals]
    fresh = {
        other.run.config.seed: [_served(_networks(other, proposal)) for proposal in again]
        for other in others
    }
    groups = _named(proposals[0].groups, trainer.names) if len(proposals) == 1 else ()
    costs = _costs(proposals[0])[: len(groups)]
    judges = list(fresh.values()) or [own]
    steps, seconds = reference or trainer.reference
    return Outcome(
        method=method,
        budget=budget,
        seed=trainer.run.config.seed,
        groups=groups,
        cost=math.fsum(_costs(proposals[0])),
        steps=took[0] / steps,
        seconds=took[1] / seconds,
        validation_error=_mean_total(own, 'validation'),
        test_error=_mean_total(own, 'test'),
        fresh_errors={seed: _mean_total(served, 'test') for seed, served in fresh.items()},
        split=split,
        test_draws=_mean_draws([pairs for served in judges for pairs in served]),
        serves=tuple(
            _served_by(networks[0], network) for network in zip(groups, costs, strict=True)
        ),
        costs=costs,
    )


def _served_by(networks, network):
    """The tasks that a network, (tasks, cost), answers; none where it is not needed."""
    found = {(tuple(row['tasks']), cost): served for row, cost, served in networks}
    return found.get(network, ())


def _served(networks):
    """`(row, task)` of each task, of what `_networks` gives."""
    return [(row, task) for row, _, tasks in networks for task in tasks]


def _networks(trainer, proposal):
    """`(row, cost, tasks that it answers)` of each network of a proposal, of one seed."""
    groups, costs = _named(proposal.groups, trainer.names), _costs(proposal)
    slots, rows = trainer.slots_of(proposal.networks), {}
    for cost in dict.fromkeys(costs):
        of_cost = [tasks for tasks, own in zip(groups, costs, strict=True) if own == cost]
        found = trainer.rows(of_cost, cost=cost, slots=slots.get(cost))
        rows |= {(tuple(row['tasks']), cost): row for row in found}
    chosen = [rows[network] for network in zip(groups, costs, strict=True)]
    serves = proposal.serves
    if serves is None:
        candidates = score_table.candidates(chosen, trainer.names)
        served = selection.serve(candidates, list(range(len(chosen))))
        chosen, serves = [chosen[n] for n in served.networks], served.serves
        costs = [costs[n] for n in served.networks]
    return list(zip(chosen, costs, _named(serves, trainer.names), strict=True))


def _mean_total(proposals, split):
    """The total error of the networks of proposals, a mean."""
    return float(
        np.mean(
            [
                math.fsum(score_table.scores(row, split)[task] for row, task in pairs)
                for pairs in proposals
            ]
        )
    )


def _mean_draws(proposals):
    """The same on each draw of test examples; None where a row does not know them."""
    counts = {}  # Random groupings have the same networks many times.
    for pairs in proposals:
        for row, task in pairs:
            if 'test_draws' not in row:
                return None
            if task in score_table.left_out(row, 'test'):
                continue
            name = row['key'], task
            counts[name] = (row['test_draws'][task], 1 + counts.get(name, (None, 0))[1])
    total = sum(np.array(draws, float) * count for draws, count in counts.values())
    return tuple((total / len(proposals)).tolist())


def _costs(proposal):
    return proposal.costs or (1.0,) * len(proposal.groups)


def _named(groups, task_names):
    return tuple(tuple(task_names[n] for n in group) for group in groups)
