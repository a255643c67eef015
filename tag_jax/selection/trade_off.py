"""Every way to select networks, over a range of budgets (Standley et al. 2020, Section 5)."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tag_jax.selection import baselines
from tag_jax.selection.candidates import Candidates, check_same_networks
from tag_jax.selection.networks import (
    allowed_gains,
    checked_weights,
    of_tasks,
    select_networks,
    serve,
    served_scores,
)
from tag_jax.selection.predictors import higher_order_approximation
from tag_jax.selection.result import Infeasible, Selection, checked_budget
from tag_jax.selection.rules import rules_of


class Choice(NamedTuple):
    """The selection of a method for a budget, and its errors.

    Attributes:
      method, budget: as asked for.
      selected: the networks, each task served by the best of them by its final validation score;
        None for random selections. `optimal` and `bound` are those of the search for 'optimal' and
        'pessimal'; other methods do not search by these scores.
      outcomes: `[T]`, the scores of the networks that serve; None for random selections.
      total: their sum, weighted if tasks have weights; the mean of it for random selections.
    """

    method: str
    budget: float
    selected: Selection | None
    outcomes: np.ndarray | None
    total: float


class LeftOut(NamedTuple):
    """A method that has no valid selection for a budget, and why.

    Attributes:
      method: its name; None where no method has one.
      budget: at which; None for all budgets.
      reason: a sentence without its full stop.
    """

    method: str | None
    budget: float | None
    reason: str


class TradeOff(NamedTuple):
    """The selections of every method for every budget.

    Attributes:
      choices: a `Choice` for each method and budget that have one, by method.
      left_out: a `LeftOut` for each that has none.
    """

    choices: list[Choice]
    left_out: list[LeftOut]


def trade_off(
    candidates: Candidates,
    budgets: float | Sequence[float],
    outcomes: Candidates | None = None,
    early: Candidates | None = None,
    maximize: bool = False,
    **options: Any,
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
      **options: task_weights, limits, min_size, max_size, must_link and cannot_link, see
        `select_networks`: every method keeps them.

    Returns:
      A `Choice` for every method and budget at which it has a valid selection, by method.
      `explained_trade_off` says why others have none.

    Raises:
      Infeasible: if the smallest budget pays for no selection that covers every task. It is a
        ValueError.
      ValueError: if outcomes or early scores are of other networks, if outcomes lack a score that
        the candidates have, or if a budget is negative or not finite.
    """
    found = explained_trade_off(candidates, budgets, outcomes, early, maximize, **options)
    return _of_every_budget(found)


def _of_every_budget(found):
    """The choices of a `TradeOff`. Raises Infeasible if a budget pays for no selection at all."""
    for left in found.left_out:
        if left.method is None:
            raise Infeasible(left.reason)
    return found.choices


def explained_trade_off(
    candidates: Candidates,
    budgets: float | Sequence[float],
    outcomes: Candidates | None = None,
    early: Candidates | None = None,
    maximize: bool = False,
    *,
    task_weights: Any = None,
    limits: Any = None,
    min_size: int = 1,
    max_size: int | None = None,
    must_link: Iterable[Iterable[int | str]] = (),
    cannot_link: Iterable[Iterable[int | str]] = (),
) -> TradeOff:
    """The same as `trade_off`, and why a method has no selection for a budget.

    Budgets that pay for no selection at all are left out, as long as one pays for some.

    Args:
      candidates, budgets, outcomes, early, maximize: see `trade_off`.
      task_weights, limits, min_size, max_size, must_link, cannot_link: see `select_networks`.

    Returns:
      A `TradeOff`.

    Raises:
      Infeasible: if no budget pays for a selection that covers every task. It is a ValueError.
      ValueError: see `trade_off`.
    """
    outcomes = candidates if outcomes is None else outcomes
    budgets = _checked(candidates, budgets, outcomes, early)
    rules = rules_of(candidates.task_names, min_size, max_size, must_link, cannot_link)
    weights = checked_weights(task_weights, candidates)

    def prepared(one, limits=None):
        """Scores that may serve, times the weights of their tasks."""
        allowed = np.isfinite(allowed_gains(one, maximize, limits, rules))
        return one.replace(scores=np.where(allowed, one.scores, np.nan) * weights)

    final, best, left_out = prepared(candidates, limits), {}, []
    for budget in budgets:
        try:
            best[budget] = select_networks(final, budget, maximize)
        except Infeasible as error:
            left_out.append(LeftOut(None, budget, str(error)))
    if not best:
        raise Infeasible(left_out[-1].reason)
    weighted = outcomes.replace(scores=outcomes.scores * weights)
    choices = []
    for method, select in _methods(candidates, early, final, best, maximize, prepared).items():
        for budget in best if callable(select) else ():
            try:
                selected = select(budget)
            except Infeasible as error:
                left_out.append(LeftOut(method, budget, str(error)))
                continue
            scores = served_scores(selected, outcomes)
            total = float(served_scores(selected, weighted).sum())
            choices.append(Choice(method, budget, selected, scores, total))
        if not callable(select):
            left_out.append(LeftOut(method, None, select))
    for budget in best:
        try:
            spread = baselines.random_selections(final, budget, maximize, weighted)
        except Infeasible as error:
            left_out.append(LeftOut('random', budget, str(error)))
            continue
        choices.append(Choice('random', budget, None, None, spread.mean))
    return TradeOff(choices, left_out)


def _checked(candidates, budgets, outcomes, early):
    """Budgets as a list. Raises ValueError if they or the scores will not do."""
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
    return budgets


def _methods(candidates, early, final, best, maximize, prepared):
    """`{method: budget -> Selection}`, or why a method cannot be.

    Args:
      candidates, early, maximize: see `trade_off`.
      final: the candidates as they may serve.
      best: `{budget: the best selection}`.
      prepared: candidates -> those of their scores that may serve, weighted.
    """

    def by_early(budget):
        chosen = select_networks(prepared(early), budget, maximize)
        return serve(final, chosen.networks, maximize)

    methods = {
        'optimal': best.get,
        'hoa': _by_approximation(candidates, final, maximize, prepared),
        'esa': by_early,
        'all_in_one': lambda budget: baselines.all_in_one(final, budget, maximize),
        'independent_equal': lambda budget: baselines.independent(
            final, budget, maximize, equal=True
        ),
        'independent': lambda budget: baselines.independent(final, budget, maximize),
        'pessimal': lambda budget: baselines.pessimal(final, budget, maximize),
    }
    if early is None:
        del methods['esa']
    return methods


def mean_trade_off(
    candidates: Candidates,
    budgets: float | Sequence[float],
    size: int,
    outcomes: Candidates | None = None,
    early: Candidates | None = None,
    maximize: bool = False,
    **options: Any,
) -> list[Choice]:
    """The mean of `trade_off` over all sets of so many tasks (Appendix A.2, Figure 6).

    For each set, the candidates are the networks that train no other task, and of weights, limits
    and links those count that concern its tasks.

    Args:
      candidates, budgets, outcomes, early, maximize, options: see `trade_off`.
      size: how many tasks.

    Returns:
      A `Choice` without networks for every method and budget at which it has a valid selection for
      every set; its total is the mean.

    Raises:
      Infeasible, ValueError: see `trade_off`; if there are not so many tasks.
    """
    found = explained_mean_trade_off(
        candidates, budgets, size, outcomes, early, maximize, **options
    )
    return _of_every_budget(found)


def explained_mean_trade_off(
    candidates: Candidates,
    budgets: float | Sequence[float],
    size: int,
    outcomes: Candidates | None = None,
    early: Candidates | None = None,
    maximize: bool = False,
    **options: Any,
) -> TradeOff:
    """The same as `mean_trade_off`, and why a method has no mean for a budget.

    Args:
      candidates, budgets, size, outcomes, early, maximize, options: see `mean_trade_off`.

    Returns:
      A `TradeOff`; its reasons name the first set of tasks for which there is no selection.

    Raises:
      Infeasible: if for some set of tasks no budget pays for a selection. It is a ValueError.
      ValueError: see `mean_trade_off`.
    """
    names = candidates.task_names
    if not 1 <= size <= len(names):
        raise ValueError(f'sets have 1 to {len(names)} tasks, as many as there are, not {size}')
    sets = list(itertools.combinations(names, size))
    totals, left_out = {}, {}
    for tasks in sets:
        own = [None if one is None else one.only(tasks) for one in (candidates, outcomes, early)]
        of_set = _concerning(tasks, names, **options)
        try:
            found = explained_trade_off(own[0], budgets, *own[1:], maximize, **of_set)
        except Infeasible as error:
            raise Infeasible(f'of the tasks {", ".join(tasks)}: {error}') from error
        for choice in found.choices:
            totals.setdefault((choice.method, choice.budget), []).append(choice.total)
        for method, budget, reason in found.left_out:
            told = LeftOut(method, budget, f'of the tasks {", ".join(tasks)}: {reason}')
            left_out.setdefault((method, budget), told)
    choices = [
        Choice(method, budget, None, None, float(np.mean(found)))
        for (method, budget), found in totals.items()
        if len(found) == len(sets)
    ]
    return TradeOff(choices, list(left_out.values()))


def _concerning(tasks, names, must_link=(), cannot_link=(), **options):
    """The options of `explained_trade_off` as far as they concern some of the tasks.

    Args:
      tasks: names of these.
      names: T names of all.
      must_link, cannot_link, options: of all tasks.
    """
    rules = rules_of(names, must_link=must_link, cannot_link=cannot_link)
    links = [
        [
            [names[n] for n in range(len(names)) if mask >> n & 1 and names[n] in tasks]
            for mask in of
        ]
        for of in (rules.linked, rules.apart)
    ]
    inside = [[link for link in of if len(link) > 1] for of in links]
    for name in ('task_weights', 'limits'):
        if options.get(name) is not None:
            values = of_tasks(name, options[name], names, np.nan)
            known = {task: x for task, x in zip(names, values.tolist(), strict=True) if x == x}
            options[name] = {task: x for task, x in known.items() if task in tasks}
    return {**options, 'must_link': inside[0], 'cannot_link': inside[1]}


def _by_approximation(candidates, final, maximize, prepared):
    """A function budget -> `Selection` by the higher order approximation, or why there is none.

    A predicted network stands for the candidate of the same tasks and cost.
    """
    try:
        predicted = higher_order_approximation(candidates)
    except ValueError as error:
        return str(error)
    known = np.flatnonzero(candidates.members.sum(axis=1) <= 2).tolist()
    place = {}
    for n, (members, cost) in enumerate(zip(candidates.members, candidates.costs, strict=True)):
        place.setdefault((members.tobytes(), float(cost)), n)
    larger = zip(predicted.members[len(known) :], predicted.costs[len(known) :], strict=True)
    places = known + [place.get((members.tobytes(), float(cost))) for members, cost in larger]
    trained = [n for n, where in enumerate(places) if where is not None]
    predicted, places = predicted.take(trained), [places[n] for n in trained]

    def select(budget):
        chosen = select_networks(prepared(predicted), budget, maximize)
        return serve(final, [places[n] for n in chosen.networks], maximize)

    return select
