import dataclasses
import itertools

import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import comparison, grouping, report, studies
from tag_jax.data import Dataset
from tag_jax.numbers import mean_and_error
from tag_jax.runs import storage
from tag_jax.studies.result import within_targets
from tag_jax.training import Measurement, TrainingConfig

CONFIG = TrainingConfig(
    steps=20,
    batch_size=64,
    learning_rate=1e-2,
    eval_every=4,
    affinity=Measurement(every=4),
    slots=2,
)
ALL = tuple(TASKS)


@pytest.fixture(scope='module')
def study(problem, dataset, tmp_path_factory):
    """Runs a study; all of them share a store."""
    store = tmp_path_factory.mktemp('studies') / 'networks'
    return lambda function, config=CONFIG, seeds=2, **more: function(
        problem, dataset, config, (2,), seeds, store, **more
    )


@pytest.fixture(scope='module')
def rows(study, problem, dataset, tmp_path_factory):
    """`{seed: {tasks: row}}` of all networks."""
    sets = [s for k in (1, 2, 3) for s in itertools.combinations(ALL, k)]
    with comparison.training_seeds(problem, dataset, CONFIG, 2) as searches:
        return [dict(zip(sets, one.rows(sets), strict=True)) for one in searches]


def test_frequency(study):
    found = study(studies.frequency)
    (table,) = found.tables
    cells = {name: cells for name, *cells in table.rows}
    assert list(cells) == [
        'every step', 'every 5 steps', 'every 10 steps', 'every 25 steps', 'every 50 steps',
        'every 100 steps', 'first quarter', 'middle quarter', 'last quarter',
    ]  # fmt: skip
    below, faster, alike = cells['every step']
    assert (faster, alike) == (1, (pytest.approx(1), pytest.approx(0, abs=1e-12)))
    assert cells['every 25 steps'][2] == cells['every 50 steps'][2], 'both measure step 0 only'
    lines = {line.method: line for line in comparison.summary(found.comparison)}
    assert below == pytest.approx(lines['every step'].over_random, nan_ok=True)


def test_validation_by_hand(study, problem, dataset):
    correlations, groups = study(studies.validation).tables
    different = ~np.eye(3, dtype=bool)
    with comparison.training_seeds(problem, dataset, CONFIG, 2) as searches:
        pairs = [
            [one.measured(split=split)[0].mean for split in ('train', 'validation')]
            for one in searches
        ]
    alike = [np.corrcoef(*(matrix[different] for matrix in pair))[0, 1] for pair in pairs]
    assert correlations.rows[0][1] == pytest.approx(mean_and_error(alike))
    assert [name for name, *_ in groups.rows] == [
        'training batches', 'validation batches', 'validation batches, none alone',
    ]  # fmt: skip


@pytest.mark.sweep
def test_on_validation_the_diagonal_counts_as_for_tag(study, problem, dataset):
    """Groups of the study are those of `tag` with the split in its config."""
    found = study(studies.validation).comparison
    chosen = {(one.method, one.seed): set(one.groups) for one in found.outcomes}
    names = ('training batches', 'validation batches')
    for name, split in zip(names, ('train', 'validation'), strict=True):
        for seed in (0, 1):
            measurement = dataclasses.replace(CONFIG.affinity, split=split)
            config = dataclasses.replace(CONFIG, seed=seed, affinity=measurement)
            alone = grouping.group_tasks(problem, dataset, 2, grouping.tag(), config)
            groups = {group.tasks for group in alone.groups}
            assert chosen[name, seed] == groups, (name, seed)


@pytest.fixture(scope='module')
def four():
    """A problem and data of four tasks, two of them the same."""
    tasks = {**TASKS, 'radius again': TASKS['radius']}
    splits = []
    for seed, size in enumerate((512, 200, 200)):
        split = make_split(size, seed)
        twice = {**split.targets, 'radius again': split.targets['radius']}
        splits.append(split._replace(targets=twice))
    return make_problem(tasks), Dataset('points', tasks, *splits)


def test_task_sets(four):
    """In any set with both of the tasks that are the same, they are partners."""
    found = studies.task_sets(*four, CONFIG, (2,), 1, count=4)
    table, agreement = found.tables
    assert [name.count(',') for name, *_ in table.rows] == [2] * 4
    assert 0.3 <= agreement.rows[0][1] <= 1
    assert all(np.isfinite(row[1][0]) for row in table.rows)


def test_named_sets_have_heat_maps(four):
    """Sets of two, three and four tasks: the numbers by hand, and why some are missing."""
    all_four = four[0].task_names
    sets = [('radius', 'sign'), ALL, all_four]
    found = studies.task_sets(*four, CONFIG, (2,), 2, sets=sets)
    table, _, shared = found.tables
    with comparison.training_seeds(*four, CONFIG, 2) as searches:
        pair = [one.measured_in([('sign', 'radius')])[0].mean for one in searches]
        whole = [one.measured()[0].mean for one in searches]
    cells = {row[0]: row[1:] for row in table.rows}
    assert cells['sign, radius'] == ('needs three tasks', 'needs four tasks')
    assert cells[', '.join(ALL)][1] == 'needs four tasks'
    for cell in cells[', '.join(all_four)]:
        assert cell == pytest.approx((1, 0), abs=1e-5)
    first, _, third, last = found.heat_maps
    places = [all_four.index('sign'), all_four.index('radius')]
    assert first.task_names == ('sign', 'radius')
    np.testing.assert_allclose(
        first.mean, np.mean([one[np.ix_(places, places)] for one in pair], axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(last.mean, np.mean(whole, axis=0), rtol=1e-5)
    np.testing.assert_allclose(third.mean, last.mean, rtol=1e-4)
    onto = {row[0]: row[1:] for row in shared.rows}
    assert len(onto) == 3 * 2, 'all pairs of the second set are in the third'
    source, target = places
    expected = mean_and_error([one[source, target] for one in pair])
    assert onto['sign onto radius'][0] == pytest.approx(expected, rel=1e-5)
    assert onto['sign onto octant'][0] is None


@pytest.mark.parametrize(
    ('sets', 'sentence'),
    [
        ([], 'name at least one set of tasks, and none twice'),
        ([('sign', 'radius'), ('radius', 'sign')], 'name at least one set of tasks'),
        ([('sign',)], 'a set needs two tasks or more, and none twice: not sign'),
        ([('sign', 'x')], "there is no task 'x' for a set: choose from sign, octant, radius"),
    ],
)
def test_bad_sets(sets, sentence):
    with pytest.raises(ValueError, match=sentence):
        studies.check_sets(ALL, sets)


@pytest.fixture(scope='module')
def hyperparameters(study):
    return study(studies.hyperparameters)


def test_hyperparameters_by_hand(hyperparameters):
    """Networks with the usual settings judge the groups."""
    found = hyperparameters
    errors = {}
    for one in found.comparison.outcomes:
        errors.setdefault(one.method, []).extend(one.fresh_errors.values())
    for way, table in zip(('exhaustive', 'TAG'), found.tables, strict=True):
        assert table.header == ('budget', 'half the batch', 'twice the learning rate')
        ((budget, *cells),) = table.rows
        assert budget == '2'
        typical = np.mean(errors[f'{way}, typical'])
        for name, cell in zip(table.header[1:], cells, strict=True):
            assert cell == pytest.approx(100 * (np.mean(errors[f'{way}, {name}']) / typical - 1))


@pytest.mark.sweep  # Its short form: hyperparameters by hand.
def test_groups_are_those_of_searches_with_other_settings(hyperparameters, problem, dataset):
    config = dataclasses.replace(CONFIG, batch_size=32)
    outcomes = hyperparameters.comparison.outcomes
    chosen = {one.method: set(one.groups) for one in outcomes if one.seed == CONFIG.seed}
    for way, method in (('exhaustive', grouping.exhaustive()), ('TAG', grouping.tag())):
        alone = grouping.group_tasks(problem, dataset, 2, method, config)
        assert chosen[f'{way}, half the batch'] == {group.tasks for group in alone.groups}


def test_partners_by_hand(study, rows, problem, dataset):
    table, _ = study(studies.partner).tables
    errors = {
        (source, target): [
            one[tuple(task for task in ALL if task in (source, target))]['test'][target]['error']
            for one in rows
        ]
        for source, target in itertools.permutations(ALL, 2)
    }
    with comparison.training_seeds(problem, dataset, CONFIG, 2) as searches:
        affinities = [one.measured()[0].mean for one in searches]
    for n, (target, chosen, best, worst, _) in enumerate(table.rows):
        others = [task for task in ALL if task != target]
        gains = []
        for judge in (1, 0):  # The other seed.
            onto = np.array([errors[source, target][judge] for source in others])
            gains.append(100 * (1 - onto / onto.mean()))
        picked = [np.delete(affinity[:, n], n).argmax() for affinity in affinities]
        tag = [gain[pick] for gain, pick in zip(gains, picked, strict=True)]
        assert chosen == pytest.approx(mean_and_error(tag), nan_ok=True)
        assert best == pytest.approx(mean_and_error(np.max(gains, axis=1)), nan_ok=True)
        assert worst == pytest.approx(mean_and_error(np.min(gains, axis=1)), nan_ok=True)


def test_relations_by_hand(study, rows):
    gains, mutual = study(studies.relations).tables
    assert gains.header == ('with', *ALL, 'average')

    def gain(source, target):
        pair = tuple(task for task in ALL if task in (source, target))
        error = lambda row: row['test'][target]['error']
        return np.mean([100 * (1 - error(one[pair]) / error(one[target,])) for one in rows])

    cells = {name: dict(zip(ALL, cells, strict=False)) for name, *cells in gains.rows}
    for source, target in itertools.permutations(ALL, 2):
        assert cells[source][target] == pytest.approx(gain(source, target))
    assert cells['sign']['sign'] is None
    assert mutual.rows[0][0] == 'sign, octant'
    both = (gain('sign', 'octant') + gain('octant', 'sign')) / 2
    assert mutual.rows[0][1][0] == pytest.approx(both)


def test_early_errors_by_hand(study, rows):
    (table,) = study(studies.early).tables
    found = {name: (pooled, within) for name, pooled, within in table.rows}
    for share, step in (('0.2', 4), ('0.4', 8)):
        pooled = []
        for one in rows:
            early, final = [], []
            for row in one.values():
                seen = [n for n, at in enumerate(row['curve']['step']) if at <= step]
                errors = row['curve']['validation_error']
                best = min(seen, key=lambda n, errors=errors: sum(e[n] for e in errors.values()))
                early.append(np.mean([e[best] for e in errors.values()]))
                final.append(np.mean([scores['error'] for scores in row['test'].values()]))
            pooled.append(np.corrcoef(early, final)[0, 1])
        assert found[share][0] == pytest.approx(mean_and_error(pooled))


def test_smaller_task_sets_by_hand(study, rows):
    (table,) = study(studies.smaller_task_sets).tables
    cells = dict(table.rows)
    totals = []
    for one in rows:
        of_sets = []
        for tasks in itertools.combinations(ALL, 2):
            inside = {s: row for s, row in one.items() if set(s) <= set(tasks)}
            of_sets.append(
                sum(
                    min(
                        (row for s, row in inside.items() if task in s),
                        key=lambda row, task=task: row['validation'][task]['error'],
                    )['test'][task]['error']
                    for task in tasks
                )
            )
        totals.append(np.mean(of_sets))
    assert cells['optimal'] == pytest.approx(mean_and_error(totals))
    assert {'optimal', 'hoa', 'esa', 'all_in_one', 'random'} <= set(cells)


def test_low_data(study):
    (table,) = study(studies.low_data, seeds=1).tables
    assert table.header == ('pair', '26 examples', '128 examples', '512 examples')
    assert len(table.rows) == 3


def test_a_study_needs_tasks(problem):
    with pytest.raises(ValueError, match='task_sets needs 4 tasks at least, and there are 3'):
        studies.check(studies.task_sets, problem)
    with pytest.raises(ValueError, match='partner needs 3 tasks at least, and there is 1'):
        studies.partner(make_problem({'sign': TASKS['sign']}), None, CONFIG, (1,), 1)


def test_alike_within_targets():
    rng = np.random.default_rng(0)
    affinity = rng.normal(size=(5, 5))
    assert within_targets(affinity, affinity) == pytest.approx(1)
    assert within_targets(affinity, -affinity + rng.normal(size=5)) == pytest.approx(-1)
    assert np.isnan(within_targets(affinity[:2, :2], affinity[:2, :2]))


def test_what_is_written(tmp_path):
    table = studies.Table('A title', ('name', 'x'), (('a', (1.0, 0.25)), ('b', None), ('c', 2.0)))
    assert report.studies.cell_text((1.0, 7.9e-17)) == '1 ± 0'
    assert report.studies.cell_text((0.0, 2.5e-17)) == '0 ± 2.5e-17'
    text = report.write_study(tmp_path, 'early', studies.Study((table,)), {'dataset': 'letters'})
    assert '1 ± 0.25' in text
    assert text.endswith(f'report: {tmp_path}/report.html')
    results = storage.read_json(tmp_path / 'results.json')
    assert results['tables'][0]['rows'] == [['a', [1.0, 0.25]], ['b', None], ['c', 2.0]]
    assert 'A title' in (tmp_path / 'report.html').read_text()
