"""Studies what inter-task affinities depend on: the ablations of Fifty et al. 2021, Section 5.2."""

import itertools
import os
from collections.abc import Sequence

import numpy as np

from tag_jax import comparison
from tag_jax.affinity import margin
from tag_jax.data import Dataset
from tag_jax.grouping import Method, exhaustive
from tag_jax.grouping.methods.affinities import by_affinities
from tag_jax.numbers import correlation, mean_and_error
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import score_table
from tag_jax.studies.result import (
    Study,
    Table,
    needs,
    of_different_tasks,
    within_targets,
)
from tag_jax.training import TrainingConfig

PERIODS = (1, 5, 10, 25, 50, 100)
QUARTERS = {'first': (0.0, 0.25), 'middle': (0.375, 0.625), 'last': (0.75, 1.0)}
DRAWS = 5  # Random groupings of a seed and budget, whose networks are trained.


@needs(2)
def frequency(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
) -> Study:
    """Must affinities be measured at every step, and throughout training? (Table 2.)

    The network that is measured trains all its steps, so that there is a last quarter of them.
    Within a quarter every step is measured. Speed-ups are ratios of wall times, compilation aside.

    Args:
      problem: a `MultiTaskProblem` with T tasks.
      dataset: a `tag_jax.data.Dataset`.
      config: a `TrainingConfig`; its seed is the first of `seeds` seeds.
      budgets: numbers of networks.
      seeds: how many.
      scores: the folder of a score table, shared with comparisons; None to keep it in memory.

    Raises:
      ValueError, OSError, FloatingPointError: see `comparison.compare_groupings`.
    """
    options = {
        'every step' if period == 1 else f'every {period} steps': {'every': period}
        for period in PERIODS
    }
    options |= {
        f'{name} quarter': {'every': 1, 'window': window} for name, window in QUARTERS.items()
    }
    options = {name: {**changes, 'patience': 0} for name, changes in options.items()}
    methods = [by_affinities(name, **changes) for name, changes in options.items()]
    first, *_ = options
    with comparison.training_seeds(problem, dataset, config, seeds, scores) as searches:
        found = _compared(searches, methods, budgets)
        measured = {
            name: [one.measured(**changes) for one in searches] for name, changes in options.items()
        }
    lines = _lines_of_means(found, budgets)
    rows = []
    for name, own in measured.items():
        alike, faster = [], []
        for (summary, _, seconds), (whole, _, longest) in zip(own, measured[first], strict=True):
            alike.append(correlation(*map(of_different_tasks, (summary.mean, whole.mean))))
            faster.append(longest / seconds)
        rows.append(
            (name, lines[name].over_random, float(np.median(faster)), mean_and_error(alike))
        )
    table = Table(
        'How often, and when, affinities are measured (Fifty et al. 2021, Table 2): error of the '
        'groups below that of random ones, and time against measuring at every step',
        ('measured', 'below random (%)', 'speed-up', 'correlation with every step'),
        tuple(rows),
    )
    return Study((table,), found)


@needs(2)
def validation(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
) -> Study:
    """Are losses to be compared on training or on validation batches? (Section 5.2.)

    Args:
      problem, dataset, config, budgets, seeds, scores: see `frequency`.
    """
    # On validation a task's affinity onto itself counts, as for `grouping.tag` (Appendix B.4). The
    # last way leaves it out, so that groups are chosen as they are on training batches.
    methods = [
        by_affinities('training batches', split='train'),
        by_affinities('validation batches', split='validation'),
        by_affinities('validation batches, none alone', alone=False, split='validation'),
    ]
    with comparison.training_seeds(problem, dataset, config, seeds, scores) as searches:
        found = _compared(searches, methods, budgets)
        pairs = [
            [one.measured(split=split)[0].mean for split in ('train', 'validation')]
            for one in searches
        ]
    lines = _lines_of_means(found, budgets)
    alike = [correlation(*map(of_different_tasks, pair)) for pair in pairs]
    tables = (
        Table(
            'Affinities on training and on validation batches (Fifty et al. 2021: r = 0.9804)',
            ('correlation', 'r'),
            (
                ('of all pairs of tasks', mean_and_error(alike)),
                ('within a target task, mean', mean_and_error([within_targets(*p) for p in pairs])),
            ),
        ),
        Table(
            'The groups that they choose',
            ('losses on', 'total test error (%)', 'below random (%)'),
            tuple((m.name, lines[m.name].error, lines[m.name].over_random) for m in methods),
        ),
    )
    return Study(tables, found)


@needs(2)
def hyperparameters(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
) -> Study:
    """Do groups that are best with other settings of training serve these settings? (Table 3.)

    The best groups of each setting are those of an exhaustive search, by validation errors (the
    paper's are chosen on the test split); beside them stand the groups of TAG.

    Args:
      problem, dataset, config, budgets, seeds, scores: see `frequency`.
    """
    settings = {
        'typical': {},
        'half the batch': {'batch_size': max(1, config.batch_size // 2)},
        'twice the learning rate': {'learning_rate': 2 * config.learning_rate},
    }
    methods = []
    for name, changes in settings.items():
        methods.append(_searched_elsewhere(f'exhaustive, {name}', changes))
        methods.append(by_affinities(f'TAG, {name}', **changes))
    with comparison.training_seeds(problem, dataset, config, seeds, scores) as searches:
        found = _compared(searches, methods, budgets)
    lines = {(line.method, line.budget): line for line in comparison.summary(found)}
    budgets = sorted(set(budgets))
    keys = [*budgets, *([None] if len(budgets) > 1 else [])]
    tables = tuple(
        Table(
            f'{way}: error of groups found with other settings, above that of groups found with '
            'these, in percent of it (Fifty et al. 2021, Table 3, signs reversed)',
            ('budget', *list(settings)[1:]),
            tuple(
                (
                    'mean' if budget is None else f'{budget:g}',
                    *(
                        100 * (lines[f'{way}, {name}', budget].error[0] / best - 1)
                        for name in list(settings)[1:]
                    ),
                )
                for budget in keys
                for best in [lines[f'{way}, typical', budget].error[0]]
            ),
        )
        for way in ('exhaustive', 'TAG')
    )
    return Study(tables, found)


@needs(3)
def partner(
    problem: MultiTaskProblem,
    dataset: Dataset,
    config: TrainingConfig,
    budgets: Sequence[float],
    seeds: int,
    scores: str | os.PathLike | None = None,
) -> Study:
    """Does a task do well beside the task that has the highest affinity onto it? (Table 1.)

    Pairs are judged by the test errors of their networks, averaged over the other seeds, if there
    are any: relative to the mean over all partners, in percent. Best and worst are chosen on the
    same errors, so they are flattered by noise, as in the paper.

    Args:
      problem, dataset, config, budgets, seeds, scores: see `frequency`; budgets are not used.
    """
    del budgets
    names = problem.task_names
    pairs = list(itertools.combinations(names, 2))
    with comparison.training_seeds(problem, dataset, config, seeds, scores) as searches:
        errors = np.array([_errors_in_pairs(names, pairs, one.rows(pairs)) for one in searches])
        affinities = [one.measured()[0].mean for one in searches]
    rows, correlations = [], []
    for n, target in enumerate(names):
        gains = {'TAG': [], 'best': [], 'worst': [], 'range': []}
        for seed, affinity in enumerate(affinities):
            judges = np.delete(errors, seed, axis=0) if seeds > 1 else errors
            onto = np.delete(judges.mean(axis=0)[:, n], n)
            relative = 100 * (1 - onto / onto.mean())
            sources = np.delete(affinity[:, n], n)
            gains['TAG'].append(relative[sources.argmax()])
            gains['best'].append(relative.max())
            gains['worst'].append(relative.min())
            gains['range'].append(margin(affinity, normalized=True)[n])
            correlations.append(correlation(sources, relative))
        rows.append((target, *map(mean_and_error, gains.values())))
    chosen, best = ([row[column][0] for row in rows] for column in (1, 2))
    tables = (
        Table(
            'Test error below that of a random partner, in percent of it (Fifty et al. 2021, Table '
            '1), and the range of affinities onto the task over their median size (Table 13)',
            ('task', 'with the partner of highest affinity', 'best', 'worst', 'range of affinity'),
            tuple(rows),
        ),
        Table(
            'Correlations',
            ('', 'r'),
            (
                (
                    'over tasks: gain with the partner of TAG, gain with the best',
                    correlation(np.array(chosen), np.array(best)),
                ),
                (
                    'within a task: affinity, gain',
                    mean_and_error([r for r in correlations if np.isfinite(r)] or [np.nan]),
                ),
            ),
        ),
    )
    return Study(tables)


def _compared(searches, methods, budgets):
    """The `Comparison` of methods with random groupings, judged by all other seeds."""
    outcomes = comparison.propose(searches, methods, budgets, len(searches) > 1, DRAWS)
    return comparison.Comparison(outcomes, {}, {})


def _lines_of_means(found, budgets):
    """`{method: Line}`, of the mean over budgets."""
    wanted = None if len(set(budgets)) > 1 else budgets[0]
    return {line.method: line for line in comparison.summary(found) if line.budget == wanted}


def _searched_elsewhere(name, changes):
    """The exhaustive choice with other settings of training, for networks of these settings."""

    def propose(searcher, budget):
        elsewhere = searcher.changed(**changes)
        found = exhaustive().propose(elsewhere, budget)
        return found._replace(steps=elsewhere.steps, seconds=elsewhere.seconds, networks=None)

    return Method(name, propose, exhaustive().stages)


def _errors_in_pairs(names, pairs, rows):
    """Test errors `[T, T]` of the second task beside the first; NaN on the diagonal."""
    errors = np.full((len(names), len(names)), np.nan)
    for pair, row in zip(pairs, rows, strict=True):
        for source, target in (pair, pair[::-1]):
            errors[names.index(source), names.index(target)] = score_table.scores(row, 'test')[
                target
            ]
    return errors
