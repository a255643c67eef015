"""How far a grouping by affinities can be trusted, from the measurements behind it."""

import numpy as np

from tag_jax import affinity, selection


def runner_up(affinities, budget, chosen, singleton_scores=None):
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


def confidence(summary, chosen, other, samples=1000, seed=0) -> float:
    """How probable it is that the chosen groups score at least what others do.

    The share of block bootstrap samples of the measurements (`affinity.block_bootstrap`) in which
    they do. It tells noise of measuring from a preference; whether affinities are worth following
    is another question.

    Args:
      summary: the `affinity.AffinitySummary` that was selected from.
      chosen, other: `selection.Selection`s.
      samples, seed: of the bootstrap.

    Returns:
      A number between 0 and 1; NaN if there are fewer than two blocks of measurements.
    """
    means = affinity.block_bootstrap(summary, samples, seed)
    differences = _objectives(means, chosen) - _objectives(means, other)
    known = np.isfinite(differences)
    if len(summary.steps) < 4 or not known.any():
        return float('nan')
    return float(np.mean(differences[known] >= 0))


def remarks(summary, other, confident) -> tuple[str, ...]:
    """What a reader of the result should know, a sentence each.

    Args:
      summary: the `affinity.AffinitySummary` that was selected from.
      other: the runner-up, or None.
      confident: what `confidence` says, or None.
    """
    if not len(summary.steps):
        return ()
    names, found = summary.task_names, []
    if other is not None and confident is not None:
        rivals = ' '.join(
            '{' + ', '.join(names[task] for task in group) + '}' for group in other.groups
        )
        found.append(
            f'In {100 * confident:.0f} % of bootstrap samples of the measured affinities these '
            f'groups score at least as high as the runner-up, {rivals}.'
        )
    if alike := affinity.indistinct(summary):
        found.append(
            f'The affinities onto {", ".join(alike)} lie within two standard errors of each other: '
            'which tasks to train with is left to chance there. Measure more often or train longer.'
        )
    if rare := affinity.rarely_together(summary):
        pairs = ', '.join(f'{source} onto {target}' for source, target in rare)
        found.append(
            'Fewer than a tenth of the measurements had labels for both tasks, or a positive loss: '
            f'{pairs}.'
        )
    return tuple(found)


def _objectives(means, selected):
    """What a selection scores under each of R affinity matrices `[R, T, T]`, `[R]`."""
    total = np.zeros(len(means))
    for group, served in zip(selected.groups, selected.serves, strict=True):
        for task in served:
            sources = [other for other in group if other != task] or [task]
            total = total + means[:, sources, task].mean(axis=1)
    return total
