"""Studies what trained networks say about tasks: the analyses of Standley et al. 2020."""

import itertools
import os
from collections.abc import Sequence

import numpy as np

from tag_jax import comparison, examples, selection
from tag_jax.data import Dataset
from tag_jax.grouping import cost_of_encoder
from tag_jax.grouping.methods.networks import EARLY
from tag_jax.grouping.task_sets import all_sets
from tag_jax.numbers import correlation, mean_and_error
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import score_table
from tag_jax.studies.result import Study, Table, needs
from tag_jax.training import TrainingConfig

FRACTIONS = (0.05, 0.1, 0.2, 0.4)  # Of training, for early errors.
PORTIONS = (0.05, 0.25, 1.0)  # Of the training examples.


@needs(2)
def relations(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
    smaller: MultiTaskProblem | None = None,
) -> Study:
    """Measures what two tasks do for each other (Tables 2 and 3).

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`.
      config: a `TrainingConfig`; its seed is the first of `seeds` seeds.
      budgets: not used.
      seeds: how many networks the test errors of a pair are averaged over.
      scores: the folder of a score table, shared with comparisons; None to keep it in memory.
      smaller: the same tasks on a cheaper encoder: a task alone is then trained on that, as in the
        paper, where a pair is compared with two networks of half its cost.

    Raises:
      ValueError, OSError, FloatingPointError: see `comparison.compare_groupings`.
    """
    del budgets
    names = problem.task_names
    gains = _pair_gains(problem, dataset, config, seeds, scores, smaller)
    mean = gains.mean(axis=0)
    average = lambda values: mean_and_error(np.nanmean(values, axis=1))
    rows = [(source, *map(_known, mean[n]), average(gains[:, n])) for n, source in enumerate(names)]
    columns = [average(gains[:, :, n]) for n in range(len(names))]
    rows.append(('average', *columns, mean_and_error(np.nanmean(gains, axis=(1, 2)))))
    return Study(
        (
            Table(
                'How much lower the test error of a task (column) is in a pair with another (row) '
                'than alone, in percent (Standley et al. 2020, Table 2)',
                ('with', *names, 'average'),
                tuple(rows),
            ),
            _mutual(names, {'gain (%)': gains}, '(Standley et al. 2020, Table 3)'),
        )
    )


@needs(2)
def low_data(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
) -> Study:
    """Do relations between tasks change with the number of training examples? (Appendix A.3.)

    Args:
      problem, dataset, config, budgets, seeds: see `relations`.
      scores: not used: networks on fewer examples are another matter for a table.
    """
    del budgets, scores
    gains = {}
    for portion in PORTIONS:
        size = max(2, round(portion * examples.count(dataset.train)))
        few = dataset._replace(train=examples.first(dataset.train, size))
        gains[f'{size} examples'] = _pair_gains(problem, few, config, seeds)
    title = 'by the number of training examples (Standley et al. 2020, Appendix A.3)'
    return Study((_mutual(problem.task_names, gains, title),))


@needs(3)
def early(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
) -> Study:
    """How well early validation errors predict final test errors (Section 3.3.1).

    Args:
      problem, dataset, config, budgets, seeds, scores: see `relations`.

    Raises:
      ValueError: if there are too many tasks; see also `relations`.
    """
    del budgets
    names = problem.task_names
    rows = []
    with comparison.training_seeds(problem, dataset, config, seeds, scores) as searches:
        sets = all_sets(names)
        for one in searches:
            one.rows(sets)
        for fraction in (*FRACTIONS, 1.0):
            pooled, within = [], []
            for one in searches:
                before = score_table.candidates(one.rows(sets, fraction), names)
                final = score_table.candidates(one.rows(sets), names, 'test')
                pooled.append(selection.correlation(before, final))
                of_tasks = [
                    correlation(before.scores[:, n], final.scores[:, n]) for n in range(len(names))
                ]
                within.append(np.nanmean(of_tasks))
            rows.append((f'{fraction:g}', mean_and_error(pooled), mean_and_error(within)))
    table = Table(
        'Correlation of early validation errors with final test errors, over all networks '
        '(Standley et al. 2020, Section 3.3.1: r = 0.49 after a fifth of the data, seen once, a '
        'twentieth of training at most)',
        ('share of training', 'of means over the tasks of a network', 'within a task, mean'),
        tuple(rows),
    )
    return Study((table,))


@needs(3)
def smaller_task_sets(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
) -> Study:
    """Ways to select networks for all but one of the tasks, averaged (Appendix A.2, Figure 6).

    Args:
      problem, dataset, config, seeds, scores: see `relations`.
      budgets: what networks may cost.

    Raises:
      ValueError: if there are too many tasks; see also `relations`.
    """
    names = problem.task_names
    totals = {}
    with comparison.training_seeds(problem, dataset, config, seeds, scores) as searches:
        for one, tasks in itertools.product(
            searches, itertools.combinations(names, len(names) - 1)
        ):
            sets = all_sets(tasks)
            rows, briefly = one.rows(sets), one.rows(sets, EARLY)
            final, test = (
                score_table.candidates(rows, tasks, split) for split in score_table.SPLITS
            )
            choices = selection.trade_off(
                final,
                [budget for budget in budgets if budget <= len(tasks)],
                test,
                early=score_table.candidates(briefly, tasks),
            )
            for choice in choices:
                of_seeds = totals.setdefault(choice.method, {}).setdefault(choice.budget, {})
                of_seeds.setdefault(one.run.config.seed, []).append(choice.total)
    rows = [
        (
            method,
            *(
                mean_and_error([np.mean(of_sets) for of_sets in by_budget[budget].values()])
                if budget in by_budget
                else None
                for budget in budgets
            ),
        )
        for method, by_budget in totals.items()
    ]
    table = Table(
        f'Total test error (%) of {len(names) - 1} of the {len(names)} tasks, mean over which '
        '(Standley et al. 2020, Figure 6)',
        ('method', *(f'budget {budget:g}' for budget in budgets)),
        tuple(rows),
    )
    return Study((table,))


def _pair_gains(problem, dataset, config, seeds, scores=None, smaller=None):
    """`selection.pair_gains` of test errors for every seed, `[S, T, T]`."""
    names = problem.task_names
    singles = [(task,) for task in names]
    pairs = list(itertools.combinations(names, 2))
    gains, cost, sizes = [], 1.0, {}
    if smaller is not None:
        cost = cost_of_encoder(smaller, problem, dataset)
        sizes = {cost: smaller}
    with comparison.training_seeds(problem, dataset, config, seeds, scores, sizes) as searches:
        for one in searches:
            rows = one.rows(pairs) + one.rows(singles, cost=cost)
            gains.append(selection.pair_gains(score_table.candidates(rows, names, 'test')))
    return np.array(gains)


def _mutual(names, gains, title):
    """A table of what pairs gain in the mean, for gains `{column: [S, T, T]}`."""
    rows = [
        (
            f'{names[first]}, {names[second]}',
            *(
                mean_and_error([selection.mutual_gains(seed)[first, second] for seed in of_seeds])
                for of_seeds in gains.values()
            ),
        )
        for first, second in itertools.combinations(range(len(names)), 2)
    ]
    return Table(f'What two tasks gain from each other, percent {title}', ('pair', *gains), rows)


def _known(value):
    return None if np.isnan(value) else float(value)
