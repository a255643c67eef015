"""Sentences of `tag-jax select` on the networks of a file, and on what was left out."""

import textwrap

import numpy as np

import tag_jax
from tag_jax import selection


def summary(candidates):
    """Which tasks there are, how many networks, and what they cost."""
    least, most = candidates.costs.min(), candidates.costs.max()
    costs = f'{least:g}' if least == most else f'{least:g} to {most:g}'
    text = (
        f'{len(candidates.task_names)} tasks: {", ".join(candidates.task_names)}; '
        f'{len(candidates)} networks, which cost {costs}'
    )
    return textwrap.fill(text, 100)


def left_out(found):
    """Sentences on methods without a selection, one each: at which budgets, and why at the last."""
    by_name = {}
    for method, budget, reason in found.left_out:
        name = 'every method' if method is None else tag_jax.report.trade_off.NAMES[method]
        by_name.setdefault(name, []).append((budget, reason))
    return [
        f'Left out: {name}{_at(reasons)}: {reasons[-1][1]}' for name, reasons in by_name.items()
    ]


def _at(reasons):
    at = [f'{budget:g}' for budget, _ in reasons if budget is not None]
    return f' at a budget of {", ".join(at)}' if at else ''


def blanks(candidates, split):
    """Says which networks train a task that they cannot serve."""
    blank = np.argwhere(candidates.members & np.isnan(candidates.scores))
    if len(blank):
        shown = ', '.join(
            f'{candidates.network_names[n]!r} on {candidates.task_names[task]!r}'
            for n, task in blank[:5]
        )
        more = f' and {len(blank) - 5} more' if len(blank) > 5 else ''
        yield (
            f'Without a score for the split {split}, but with one for another split: '
            f'{shown}{more}; these networks count as training the task, and never serve it'
        )


def scales(candidates, weights):
    """Says if the scores of one task are so large that they decide."""
    weigh = np.array([(weights or {}).get(task, 1.0) for task in candidates.task_names])
    sizes = np.nanmean(np.abs(candidates.scores), axis=0) * weigh
    kept = np.flatnonzero(sizes > 0)
    if not len(kept):
        return
    low, high = (kept[place] for place in (sizes[kept].argmin(), sizes[kept].argmax()))
    if sizes[high] > 10 * sizes[low]:
        names = candidates.task_names
        yield (
            f'Scores are summed: those of {names[high]!r} ({sizes[high]:.3g} in the mean) outweigh '
            f'those of {names[low]!r} ({sizes[low]:.3g}); --weights makes them comparable'
        )


def predictions(candidates, outcomes, early):
    """Says how well networks are predicted, as far as the candidates tell."""
    try:
        predicted = selection.higher_order_approximation(candidates)
        errors = selection.ratio_errors(predicted, candidates)
    except ValueError:  # A pair is missing, or scores are not ratios.
        errors = ()
    if len(errors):
        yield (
            f'Networks of three tasks and more, predicted from pairs: off by '
            f'{100 * errors.mean():.1f} % in the mean of {len(errors)} predictions'
        )
    if early is not None:
        r = selection.correlation(early, candidates if outcomes is None else outcomes)
        yield f'Early and final scores of networks: r = {r:.2f}'
