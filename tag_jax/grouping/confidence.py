"""How far a grouping by affinities can be trusted, from the measurements behind it."""

import numpy as np
from numpy.typing import ArrayLike

from tag_jax import affinity, selection

# Affinities are relative changes of a loss in float32: below this they are rounding.
ROUNDING = 2e-7
# Errors come from about sqrt(N) blocks of N measurements: below ten blocks they are rough.
_FEW_MEASUREMENTS = 100


def runner_up(
    affinities: ArrayLike,
    budget: int,
    chosen: selection.Selection,
    singleton_scores: ArrayLike | None = None,
) -> selection.Selection | None:
    """The best selection of groups that is not the chosen one.

    Args:
      affinities, budget, singleton_scores: see `selection.select_groups`.
      chosen: the `selection.Selection` that it gave.

    Returns:
      A `selection.Selection`, or None if there is no other.
    """
    best = selection.select_groups(affinities, budget, singleton_scores, num_solutions=2)
    others = [one for one in best if (one.groups, one.serves) != (chosen.groups, chosen.serves)]
    return others[0] if others else None


def confidence(
    summary: affinity.AffinitySummary, chosen: selection.Selection, other: selection.Selection
) -> float | None:
    """How probable it is, as far as noise of measuring goes, that one selection beats another.

    One minus the one-sided p-value of the difference between their scores, every task served as it
    was selected, by Student's distribution and the error of `affinity.contrast`. The chosen
    selection is the best of many on the same measurements, so this is at least one half and errs
    upward. Whether affinities are worth following is another question.

    Args:
      summary: the `affinity.AffinitySummary` that was selected from.
      chosen, other: `selection.Selection`s.

    Returns:
      A number between 0 and 1; None if there are too few measurements for an error.
    """
    from scipy import special  # Slow to import.

    weights = _weights(chosen, len(summary.mean)) - _weights(other, len(summary.mean))
    difference = affinity.contrast(summary, weights)
    if not np.isfinite(difference.error):
        return None
    if difference.error == 0:
        return 0.5 + 0.5 * float(np.sign(difference.value))
    return float(special.stdtr(difference.degrees, difference.value / difference.error))


def remarks(
    summary: affinity.AffinitySummary,
    other: selection.Selection | None,
    confident: float | None,
    chosen: selection.Selection | None = None,
) -> tuple[str, ...]:
    """Sentences that a reader of the result should know.

    Args:
      summary: the `affinity.AffinitySummary` that was selected from.
      other: the runner-up; None if there was no choice.
      confident: what `confidence` says.
      chosen: the selection, from which the runner-up differs; None to name its groups in full.
    """
    if not len(summary.steps):
        return ()
    names, found = summary.task_names, []
    if (largest := np.nanmax(np.abs(summary.mean), initial=0)) < ROUNDING:
        return (
            f'No affinity is larger than {largest:.0e}, which is rounding: the steps that were '
            'measured change no loss. Look for an encoder whose gradients are zero or that is '
            'frozen, a tiny learning rate, or an optimizer that does not move at every step. The '
            'groups say nothing.',
        )
    if other is not None and confident is None:
        found.append('There are too few measurements to tell the choice of groups from chance.')
    elif other is not None:
        share = 'more than 99' if confident > 0.99 else f'{100 * confident:.0f}'
        found.append(
            f'As far as noise of measuring goes, these groups score higher than the runner-up, '
            f'{_described(names, other, chosen)}, with a probability of {share} %.'
        )
        if alike := affinity.indistinct(summary):
            found.append(_remark_on_alike(alike, len(summary.steps)))
    if rare := affinity.rarely_together(summary):
        pairs = ', '.join(f'{source} onto {target}' for source, target in rare)
        found.append(
            'Fewer than a tenth of the measurements had labels for both tasks, or a positive loss: '
            f'{pairs}.'
        )
    return tuple(found)


def _remark_on_alike(tasks, measurements):
    """Says that single affinities onto some tasks cannot be told apart, and what follows."""
    few = (
        f'{measurements} measurements tell the size of the noise itself only roughly. The test '
        'allows for that too, so it finds only large differences. '
        if measurements < _FEW_MEASUREMENTS
        else ''
    )
    return (
        f'Single affinities onto {_listed(tasks)} cannot be told apart. For each target task, the '
        'largest affinity was compared with the smallest. Noise of measuring alone makes such a '
        'difference in more than 5 % of cases, since the two were picked as extremes. '
        f'{few}So do not read single values onto such a task, in the heat map or elsewhere, as '
        'help or harm. The groups use averages over several affinities, which are surer: the '
        'probability above is for them. Measure more often (`affinity.every`, --affinity_every) '
        'or train longer (`steps`, `patience`) to tell single affinities apart.'
    )


def _listed(names):
    """Names in a sentence: a, b and c."""
    *others, last = names
    return f'{", ".join(others)} and {last}' if others else last


def dominance(
    summary: affinity.AffinitySummary,
    budget: int,
    chosen: selection.Selection,
    with_diagonal: bool = False,
) -> tuple[str, ...]:
    """Whether a few measurements decide the groups: a sentence where they do.

    And where measurements decide a mean beyond doubt (`affinity.dominant`, ten times over), since
    nothing else is to be seen in the affinities then.

    Args:
      summary: the `affinity.AffinitySummary` that was selected from.
      budget: see `selection.select_groups`.
      chosen: the `selection.Selection` that it gave.
      with_diagonal: whether a task's affinity onto itself is the score of a task alone.
    """
    steps = affinity.dominant(summary, with_diagonal)
    if not steps:
        return ()
    rest = affinity.without(summary, steps).mean
    some = ', '.join(map(str, steps[:5])) + (' and others' if len(steps) > 5 else '')
    at, those = ('steps', 'them') if len(steps) > 1 else ('step', 'it')
    sentence = (
        f'What was measured at {at} {some} decides the mean of a pair by itself: without {those} '
    )
    if not np.isfinite(rest[with_diagonal | ~np.eye(len(rest), dtype=bool)]).all():
        return (sentence + 'not every pair has an affinity.',)
    alone = np.diagonal(rest) if with_diagonal else None
    again = selection.select_groups(rest, budget, alone)
    if (again.groups, again.serves) == (chosen.groups, chosen.serves):
        plain = affinity.dominant(summary, with_diagonal, times=10)
        return (sentence + 'the groups would be the same.',) if plain else ()
    other = _described(summary.task_names, again, None)
    return (f'{sentence}the groups would be {other}.',)


def _described(names, other, chosen):
    """A selection in words: by the tasks that it moves, where these are few."""
    if chosen is not None:
        moved = set()
        for group in map(set, other.groups):
            nearest = max(map(set, chosen.groups), key=lambda one: len(one & group))
            moved |= group ^ nearest
        if 0 < len(moved) <= 2:
            return f'which differs in {" and ".join(names[task] for task in sorted(moved))}'
    groups = (', '.join(names[task] for task in group) for group in other.groups)
    return ' '.join(f'{{{group}}}' for group in groups)


def _weights(selected, size):
    """The weight of each affinity in the score of a selection, `[T, T]`."""
    weights = np.zeros((size, size))
    for group, served in zip(selected.groups, selected.serves, strict=True):
        for task in served:
            sources = [other for other in group if other != task] or [task]
            weights[sources, task] += 1 / len(sources)
    return weights
