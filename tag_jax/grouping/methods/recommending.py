"""A method that tries groups beside not grouping at all, and may say: do not group."""

import math
from collections.abc import Mapping

import numpy as np

from tag_jax.grouping.method import (
    BASELINE,
    CHOSEN,
    Method,
    Proposal,
    Stage,
    check_method,
    standard_stages,
    whole_networks,
)
from tag_jax.grouping.methods.affinities import tag
from tag_jax.grouping.methods.options import cost_at, costs_given
from tag_jax.grouping.searcher import Searcher

# The share of training of the groups that are tried, and how many standard errors (over tasks) the
# groups must be better by.
TRIED, ERRORS = 0.5, 2.0


def recommended(
    base: Method | None = None,
    wider: float | Mapping[float, float] | None = None,
    errors: float = ERRORS,
) -> Method:
    """Groups tasks only where validation says that it is worth it.

    Three answers are tried: one network for all tasks; one on a wider encoder that costs what the
    groups would, where there is one; and the groups of another method, trained for half of the
    steps. Groups have to beat the one of the first two with the lower total validation score, as it
    was after half of the steps: by more than `errors` standard errors of the mean over tasks of the
    differences, each relative to the score of that network. Else the tasks are not grouped, and a
    remark says so. The search costs two or three networks, and half a network for each of the
    budget.

    Args:
      base: the method that proposes groups; None for `tag()`.
      wider: the cost of a wider encoder, one of `sizes=`, or `{budget: cost}`; None for none.
      errors: how many standard errors groups must be better by.

    Raises:
      ValueError: if the base is no method, or errors is negative; when the method begins, if there
        is no encoder of that cost, or it costs more than the budget.
    """
    base = tag() if base is None else base
    check_method(base)
    if not errors >= 0:
        raise ValueError(f'errors must be 0 or more, not {errors}')
    options = {} if base.displayed == 'tag' else {'base': base.displayed}
    options |= costs_given(wider=wider) | ({} if errors == ERRORS else {'errors': errors})

    def cost_of_wider(budget):
        cost = cost_at('recommended', 'wider', wider, budget)
        if cost > budget + 1e-9:
            raise ValueError(
                f'the wider encoder of recommended costs {cost:g}, and the budget is {budget:g}: '
                'give a narrower one, or a higher budget'
            )
        return cost

    def propose(searcher, budget):
        together = _not_grouping(searcher, cost_of_wider(budget))
        proposal = base.propose(searcher, budget)
        names = searcher.task_names
        tried = searcher.networks(proposal.groups, TRIED)
        best = {task: min(one.validation.get(task, math.inf) for one in tried) for task in names}
        # At the same steps: a network that trains on would be ahead for that alone.
        (then,) = searcher.networks([names], TRIED, cost=together.cost)
        gain, error = _mean_gain(best, then.validation)
        worth_it = len(proposal.groups) > 1 and gain > errors * error
        remark = _remark(worth_it, gain, error, base, tried, then, together.cost)
        if worth_it:
            return proposal._replace(remarks=(remark, *proposal.remarks))
        everything = (tuple(range(len(names))),)
        return Proposal(
            everything, costs=(together.cost,), affinities=proposal.affinities, remarks=(remark,)
        )

    def stages(task_names, budget, config):
        cost = cost_of_wider(budget)
        steps = max(1, round(TRIED * config.steps))
        search = [
            one
            for one in base.stages(task_names, budget, config)
            if one.what not in (CHOSEN, BASELINE)
        ]
        if cost != 1:
            search.append(Stage('all tasks on a wider encoder', 1, config.steps, cost=cost))
        search.append(Stage('groups that are tried', whole_networks(budget), steps))
        return standard_stages(budget, config, *search)

    return Method('recommended', propose, stages, None, options)


def _remark(worth_it, gain, error, base, tried, then, cost):
    """The verdict as a sentence or two.

    Args:
      worth_it: whether groups are.
      gain, error: see `_mean_gain`.
      base: the `Method` that proposed the groups.
      tried: the `NetworkScores` of the groups.
      then: the `NetworkScores` of one network for all tasks after as many steps.
      cost: of that network.
    """
    wide = f' of cost {cost:g}' * (cost != 1)
    much, steps = f'{100 * abs(gain):.1f} ± {100 * error:.1f} %', f'{then.steps} steps'
    if worth_it:
        return (
            f'Groups are worth it by validation: {much} lower, the mean over tasks, than one '
            f'network{wide} for all tasks, each after {steps}.'
        )
    groups = ' and '.join(f'{{{", ".join(one.tasks)}}}' for one in tried)
    way = 'higher' if gain < 0 else 'lower'
    return (
        f'Do not group these tasks: validation prefers one network{wide} for all of them. The '
        f'validation scores of the best groups that {base.displayed} proposes, {groups}, are '
        f'{much} {way}, the mean over tasks, each network after {steps}.'
    )


def _mean_gain(best, together):
    """The mean over tasks of relative gains, and its standard error.

    Nothing is relative to 0, which is what tasks have whose error is not defined on the split.
    """
    gains = np.array([1 - best[task] / value for task, value in together.items() if value != 0])
    if not gains.size:
        return 0.0, 0.0
    error = gains.std(ddof=1) / math.sqrt(gains.size) if gains.size > 1 else math.nan
    return gains.mean(), error


def _not_grouping(searcher: Searcher, cost: float):
    """The network for all tasks, standard or wider, that validation prefers."""
    everything = [searcher.task_names]
    found = searcher.networks(everything)
    if cost != 1:
        found = found + searcher.networks(everything, cost=cost)
    return min(found, key=lambda one: math.fsum(one.validation.values()))
