"""Every way to select networks, over a range of budgets (Standley et al. 2020, Section 5)."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tag_jax.selection import baselines
from tag_jax.selection.candidates import Candidates, check_same_networks
from tag_jax.selection.networks import select_networks, serve, served_scores
from tag_jax.selection.predictors import higher_order_approximation
from tag_jax.selection.result import Infeasible, Selection, checked_budget


class Choice(NamedTuple):
    """The selection of a method for a budget, and its errors.

    Attributes:
      method, budget: as asked for.
      selected: the networks, each task served by the best of them by its final validation score;
        None for random selections.
      outcomes: `[T]`, the scores of the networks that serve; None for random selections.
      total: their sum; the mean of it for random selections.
    """

    method: str
    budget: float
    selected: Selection | None
    outcomes: np.ndarray | None
    total: float


def trade_off(
    candidates: Candidates,
    budgets: float | Sequence[float],
    outcomes: Candidates | None = None,
    early: Candidates | None = None,
    maximize: bool = False,
) -> list[Choice]:
    """Selects networks for every budget in every way that the candidates allow.

    'optimal' selects by the candidates' scores; 'hoa' by the higher order approximation from
    networks of one and two tasks; 'esa' by early scores. Whatever a method selects by, its networks
    serve by the candidates' scores, as they would once they are trained to the end. Then the
    baselines: 'random', 'pessimal', 'all_in_one', 'independent_equal' (a network a task, all of the
    same cost, as in the paper) and 'independent' (networks of one task, of any costs).

    Args:
      candidates: N networks over T tasks, with their validation scores.
      budgets: what networks may cost together.
      outcomes: the same networks with the scores to count, on a test set; by default those of the
        candidates.
      early: the same networks with early scores; without them there is no 'esa'.
      maximize: whether scores are to be high.

    Returns:
      A `Choice` for every method and budget at which it has a valid selection, by method.

    Raises:
      Infeasible: if the smallest budget pays for no selection that covers every task. It is a
        ValueError.
      ValueError: if outcomes or early scores are of other networks, if outcomes lack a score that
        the candidates have, or if a budget is negative or not finite.
    """
    outcomes = candidates if outcomes is None else outcomes
    budgets = [checked_budget(budget) for budget in np.atleast_1d(budgets).tolist()]
    if not budgets:
        raise ValueError('budgets is empty: name one or more')
    for name, others in (('outcomes', outcomes), ('early', early)):
        if others is not None:
            check_same_networks(name, others, candidates)
    for n, task in np.argwhere(np.isnan(outcomes.scores) & ~np.isnan(candidates.scores)):
        raise ValueError(
            f'outcomes lack a score of {candidates.network_names[n]!r} on '
            f'{candidates.task_names[task]!r}'
        )
    select_networks(candidates, min(budgets), maximize)  # Raises if there is no selection.

    def choice(method, budget, networks):
        selected = serve(candidates, networks, maximize)
        scores = served_scores(selected, outcomes)
        return Choice(method, budget, selected, scores, float(scores.sum()))

    methods = {
        'optimal': lambda budget: select_networks(candidates, budget, maximize).networks,
        'hoa': _by_approximation(candidates, maximize),
        'esa': early and (lambda budget: select_networks(early, budget, maximize).networks),
        'all_in_one': lambda b: baselines.all_in_one(candidates, b, maximize).networks,
        'independent_equal': lambda b: (
            baselines.independent(candidates, b, maximize, equal=True).networks
        ),
        'independent': lambda b: baselines.independent(candidates, b, maximize).networks,
        'pessimal': lambda budget: baselines.pessimal(candidates, budget, maximize).networks,
    }
    found = []
    for method, networks in methods.items():
        for budget in budgets if networks else ():
            try:
                found.append(choice(method, budget, networks(budget)))
            except Infeasible:
                continue  # No valid selection of this kind within the budget.
    for budget in budgets:
        try:
            spread = baselines.random_selections(candidates, budget, maximize, outcomes)
        except Infeasible:
            continue
        found.append(Choice('random', budget, None, None, spread.mean))
    return found


def mean_trade_off(
    candidates: Candidates,
    budgets: float | Sequence[float],
    size: int,
    outcomes: Candidates | None = None,
    early: Candidates | None = None,
    maximize: bool = False,
) -> list[Choice]:
    """The mean of `trade_off` over all sets of so many tasks (Appendix A.2, Figure 6).

    For each set, the candidates are the networks that train no other task.

    Args:
      candidates, budgets, outcomes, early, maximize: see `trade_off`.
      size: how many tasks.

    Returns:
      A `Choice` without networks for every method and budget at which it has a valid selection for
      every set; its total is the mean.

    Raises:
      Infeasible, ValueError: see `trade_off`; if there are not so many tasks.
    """
    names = candidates.task_names
    if not 1 <= size <= len(names):
        raise ValueError(f'sets have 1 to {len(names)} tasks, as many as there are, not {size}')
    sets = list(itertools.combinations(names, size))
    totals = {}
    for tasks in sets:
        own = [None if one is None else one.only(tasks) for one in (candidates, outcomes, early)]
        for choice in trade_off(own[0], budgets, *own[1:], maximize):
            totals.setdefault((choice.method, choice.budget), []).append(choice.total)
    return [
        Choice(method, budget, None, None, float(np.mean(found)))
        for (method, budget), found in totals.items()
        if len(found) == len(sets)
    ]


def _by_approximation(candidates, maximize):
    """A function budget -> networks by the higher order approximation; None if pairs are missing.

    A predicted network stands for the candidate of the same tasks and cost.
    """
    try:
        predicted = higher_order_approximation(candidates)
    except ValueError:
        return None
    known = np.flatnonzero(candidates.members.sum(axis=1) <= 2).tolist()
    place = {}
    for n, (members, cost) in enumerate(zip(candidates.members, candidates.costs, strict=True)):
        place.setdefault((members.tobytes(), float(cost)), n)
    larger = zip(predicted.members[len(known) :], predicted.costs[len(known) :], strict=True)
    places = known + [place.get((members.tobytes(), float(cost))) for members, cost in larger]
    trained = [n for n, where in enumerate(places) if where is not None]
    predicted, places = predicted.take(trained), [places[n] for n in trained]

    def networks(budget):
        return [places[n] for n in select_networks(predicted, budget, maximize).networks]

    return networks
