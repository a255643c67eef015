"""Tasks whose error is not defined on a split: NaN to the reader, and in no total or choice."""

import dataclasses
import itertools
import json
import math

import jax
import numpy as np
import pytest
from small import TASKS, Broken, breaks_off, make_problem, make_split

from tag_jax import (
    comparison,
    data,
    evaluation,
    grouping,
    multi_objective,
    objectives,
    report,
    training,
    weighting,
)
from tag_jax.data import Dataset
from tag_jax.grouping.linear_estimates import can_be_linearised
from tag_jax.grouping.rows import beginning
from tag_jax.objectives import NotDefined
from tag_jax.runs import score_table
from tag_jax.training import NetworkPlan, TrainingConfig

AREA = objectives.judged_by(objectives.binary(), 'roc_auc')
JUDGED = {**TASKS, 'up': AREA}
NAMES = tuple(JUDGED)
OTHERS = tuple(TASKS)
CONFIG = TrainingConfig(
    steps=30, batch_size=64, learning_rate=1e-2, eval_every=5, patience=0, slots=2
)


def split(size, seed, one_class=(), mask=None):
    """Points as in `small`, and whether each is above the plane; of some tasks one value only."""
    found = make_split(size, seed)
    targets = {**found.targets, 'up': (found.inputs[:, 2] > 0).astype(np.int32)}
    targets |= {task: np.zeros_like(targets[task]) for task in one_class}
    return found._replace(targets=targets, mask=mask)


def made(validation=(), test=(), train=()):
    """A dataset in whose splits some tasks have one class only."""
    parts = split(256, 0, train), split(100, 1, validation), split(100, 2, test)
    return Dataset('points', JUDGED, *parts)


@pytest.fixture(scope='module')
def judged_problem():
    return make_problem(JUDGED)


def refuse(name):
    raise AssertionError(f'{name} is not JSON')


def read(path):
    return json.loads(path.read_text(), parse_constant=refuse)


# Metrics and splits.


@pytest.mark.parametrize('labels', [np.zeros(6, np.int32), np.ones(6, np.int32)])
@pytest.mark.parametrize('measure', ['roc_auc', 'average_precision'])
def test_a_measure_of_one_class_is_not_defined(labels, measure):
    metric = objectives.judged_by(objectives.binary(), measure).metric
    output, mask = np.linspace(-1, 1, 6)[:, None].astype(np.float32), np.ones(6, bool)
    with pytest.raises(NotDefined, match=r'and the split lacks some: .* \(stratify=\), or'):
        metric.reference(labels, mask)
    found = metric.finish(jax.tree.map(np.asarray, metric.sums(output, labels, mask)), math.nan)
    assert math.isnan(found['error'])
    assert math.isnan(found[measure])
    assert found['accuracy'] == 0.5


def test_the_error_of_equal_values_is_not_defined():
    metric, values = objectives.regression().metric, np.full(4, 3.0, np.float32)
    mask = np.ones(4, bool)
    with pytest.raises(NotDefined, match='all its targets are equal'):
        metric.reference(values, mask)
    sums = metric.sums(np.zeros((4, 1), np.float32), values, mask)
    found = metric.finish(jax.tree.map(np.asarray, sums), math.nan)
    assert math.isnan(found['error'])
    assert found['mse'] == pytest.approx(9)


def test_what_is_read_as_it_is_needed_is_not_looked_through_before(judged_problem):
    lacking = split(50, 3, ['up'])

    def decode(n):
        targets = {task: values[n] for task, values in lacking.targets.items()}
        return data.Split(lacking.inputs[n], targets)

    source = data.Source(decode, 50)
    assert not evaluation.left_out(judged_problem, source)
    network = judged_problem.init(jax.random.key(0))
    with pytest.raises(ValueError, match="^the targets of 'up' will not do: roc_auc needs"):
        evaluation.evaluate(judged_problem, *network, source, 16)


def test_which_tasks_are_left_out_follows_from_the_labels(judged_problem):
    params, state = judged_problem.init(jax.random.key(0))
    lacking = split(50, 3, ['up', 'radius'])
    for network in (params, jax.tree.map(lambda x: x + 1, params)):
        found = evaluation.evaluate(judged_problem, network, state, lacking, 16)
        undefined = {task for task, scores in found.items() if math.isnan(scores['error'])}
        assert undefined == {'up', 'radius'}
        assert all(math.isfinite(scores['loss']) for scores in found.values())
    without = evaluation.left_out(judged_problem, lacking)
    assert (
        set(without)
        == {'up', 'radius'}
        == set(evaluation.prepare(judged_problem, lacking).left_out)
    )
    assert without['up'].startswith('roc_auc needs')
    assert not evaluation.left_out(judged_problem, split(50, 3))
    # Behind a mask there is one class only.
    whole = split(50, 3)
    masked = whole._replace(mask={'up': whole.targets['up'] == 1})
    assert set(evaluation.left_out(judged_problem, masked)) == {'up'}
    parts = {task: whole if task != 'up' else split(20, 4, ['up']) for task in NAMES}
    union = data.union(parts)
    assert set(evaluation.left_out(judged_problem, union)) == {'up'}
    found = evaluation.evaluate(judged_problem, params, state, union, 16)
    assert math.isnan(found['up']['error'])
    assert math.isfinite(found['sign']['error'])


def test_splits_that_train_or_on_which_nothing_is_judged_are_refused(judged_problem):
    lacking = split(50, 3, ['up'])
    with pytest.raises(ValueError, match="^the test split .* the targets of 'up' will not do: roc"):
        evaluation.check_split(judged_problem, lacking, 'test')
    evaluation.check_split(judged_problem, lacking, 'test', judges=True)
    evaluation.check_splits(judged_problem, made(['up'], ['up', 'radius']))
    with pytest.raises(ValueError, match="the train split .* 'up' will not do"):
        evaluation.check_splits(judged_problem, made(train=['up']))
    areas = {'sign': AREA, 'up': AREA}
    with pytest.raises(
        ValueError, match="validation split .*: no task can be judged on it; the targets of 'sign'"
    ):
        evaluation.check_splits(make_problem(areas), made(['sign', 'up']))
    wrong = lacking._replace(targets={**lacking.targets, 'up': np.full(50, 7, np.int32)})
    with pytest.raises(ValueError, match="'up' will not do: .* 0 or 1"):
        evaluation.check_split(judged_problem, wrong, 'test', judges=True)


def test_totals_and_choices_are_without_them():
    scores = {'a': {'error': 3.0, 'loss': 1.0}, 'b': {'error': math.nan, 'loss': 2.0}}
    assert evaluation.summands(scores, 'error', {'b'}) == {'a': 3.0, 'b': 0.0}
    assert evaluation.summands(scores, 'loss', {'b'}) == {'a': 1.0, 'b': 2.0}
    assert math.isnan(evaluation.summands(scores, 'error', ())['b']), 'a bad number stays one'
    assert evaluation.kept_by('ab', 'error', {'b'}) == ('error', ['a'])
    assert evaluation.kept_by('b', 'error', {'b'}) == ('loss', ['b'])
    assert evaluation.kept_by('ab', 'loss', {'b'}) == ('loss', ['a', 'b'])


# Training.


def train(problem, dataset, config=CONFIG, **options):
    """(networks for all tasks, for one that is left out, and for one that is not; records)."""
    records = []
    plans = [
        NetworkPlan('all', NAMES, 0, 1e-2),
        NetworkPlan('up', ('up',), 1, 1e-2),
        NetworkPlan('sign', ('sign',), 2, 1e-2),
    ]
    networks = training.train_networks(
        problem, dataset.train, dataset.validation, plans, config, records.append, **options
    )
    return networks, records


def best(records, name, value):
    """The step of the lowest value of a network."""
    own = [record for record in records if record.network == name]
    return min(own, key=value).step


def test_networks_are_kept_by_the_other_tasks_or_else_by_their_losses(judged_problem):
    part = made().validation  # True labels, of one class only: their loss falls.
    masked = made()._replace(validation=part._replace(mask={'up': part.targets['up'] == 0}))
    networks, records = train(judged_problem, masked)
    steps = [network.best_step for network in networks]
    assert steps[1] > CONFIG.eval_every, 'the first evaluation would need no choice'
    by_others = lambda record: sum(record.validation_error[task] for task in OTHERS)
    assert steps == [
        best(records, 'all', by_others),
        best(records, 'up', lambda record: record.validation_loss['up']),
        best(records, 'sign', lambda record: record.validation_error['sign']),
    ]
    assert math.isnan(networks[0].validation['up']['error'])
    for record in records:
        judged = [task for task in record.validation_error if task != 'up']
        total = sum(record.validation_error[task] for task in judged)
        assert record.total_validation_error == pytest.approx(total)
        line = json.loads(json.dumps(record.to_json()), parse_constant=refuse)
        assert line['validation_error'].get('up') is None
    by_loss, records = train(
        judged_problem, made(['up']), dataclasses.replace(CONFIG, select_by='loss')
    )
    assert by_loss[0].best_step == best(
        records, 'all', lambda record: sum(record.validation_loss.values())
    )


@pytest.mark.sweep
def test_each_task_at_its_own_step_but_for_those_left_out(judged_problem):
    networks, _ = train(judged_problem, made(['up']), dataclasses.replace(CONFIG, keep='each_task'))
    for network in networks:
        kept = {task: one.best_step for one, own in training.kept(network) for task in own}
        assert set(kept) == set(network.plan.tasks)
        assert kept.get('up', network.best_step) == network.best_step
        assert set(network.best_of_tasks) == set(network.plan.tasks) - {'up'}


@pytest.mark.sweep
def test_broken_off_training_goes_on(judged_problem, tmp_path):
    expected, _ = train(judged_problem, made(['up']))

    config = dataclasses.replace(CONFIG, checkpoint_seconds=0)
    folders = {'checkpoints': lambda plan: tmp_path / plan.name}
    dataset = made(['up'])
    plans = [one.plan for one in expected]
    asked = judged_problem, dataset.train, dataset.validation, plans, config
    with pytest.raises(Broken):
        training.train_networks(*asked, breaks_off(15), **folders)
    for one, other in zip(training.train_networks(*asked, **folders), expected, strict=True):
        assert one.best_step == other.best_step
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_a_bad_number_is_not_taken_for_one_that_is_not_defined(judged_problem):
    """The same NaN, of a metric of one's own that every split defines."""
    metric = JUDGED['sign'].metric

    def finish(totals, reference=None):
        return {**metric.finish(totals, reference), 'error': math.nan}

    own = JUDGED['sign']._replace(metric=metric._replace(finish=finish))
    faulty = dataclasses.replace(judged_problem, tasks={**JUDGED, 'sign': own})
    with pytest.raises(
        FloatingPointError, match="validation error of 'sign' in (all|sign) is not finite"
    ):
        train(faulty, made(['up']))


# Runs.


def brute_force(rows, budget, judged):
    """The lowest total validation error over some tasks of any networks that cover all tasks."""
    found = []
    for count in range(1, budget + 1):
        for chosen in itertools.combinations(rows, count):
            if set().union(*(row['tasks'] for row in chosen)) == set(NAMES):
                totals = [
                    min(row['validation'][t]['error'] for row in chosen if t in row['tasks'])
                    for t in judged
                ]
                found.append((math.fsum(totals), {tuple(row['tasks']) for row in chosen}))
    return min(found, key=lambda one: one[0])


@pytest.fixture(scope='module')
def run(judged_problem, tmp_path_factory):
    """(folder, `Result`) of an exhaustive search with a task left out on both splits."""
    folder = tmp_path_factory.mktemp('left_out') / 'run'
    dataset = made(['up'], ['up'])
    method = grouping.exhaustive()
    return folder, grouping.group_tasks(judged_problem, dataset, 2, method, CONFIG, folder)


def test_exhaustive_chooses_by_the_other_tasks(run):
    folder, result = run
    with score_table.ScoreTable(folder / 'networks', {}) as table:
        rows = [row for row in table.rows() if 'curve' in row]
    assert len(rows) == 2 ** len(NAMES) - 1
    total, groups = brute_force(rows, 2, OTHERS)
    assert result.objective == pytest.approx(total)
    by_tasks = {tuple(row['tasks']): row for row in rows}
    for group in result.groups:
        for task in set(group.serves) - {'up'}:
            own = by_tasks[group.tasks]['validation'][task]['error']
            assert own == min(
                by_tasks[tasks]['validation'][task]['error'] for tasks in groups if task in tasks
            )
    assert set(itertools.chain(*(group.serves for group in result.groups))) == set(NAMES)


def test_results_say_so(run, judged_problem):
    folder, result = run
    assert math.isnan(result.test_error['up'])
    assert math.isnan(result.metrics['up']['roc_auc'])
    assert math.isfinite(result.metrics['up']['accuracy'])
    for errors in (result, result.baselines['mtl']):
        assert errors.total_test_error == pytest.approx(sum(errors.test_error[t] for t in OTHERS))
        assert errors.total_test_score == errors.total_test_error
    assert result.gain_interval is None or result.gain_interval[0] <= result.gain_interval[1]
    for name in ('validation', 'test'):
        (remark,) = (one for one in result.remarks if f'errors on the {name} split' in one)
        assert 'leave out up, for all methods alike' in remark
        assert '(stratify=), or judge it by another measure.' in remark
    assert not any('ROC AUC is not defined' in one for one in result.remarks), 'it is said once'
    assert set(result.own_best) == set(OTHERS)
    found = read(folder / 'results.json')
    assert found['test_error']['up'] is None
    assert found['baselines']['mtl']['test_error']['up'] is None
    for line in (folder / 'metrics.jsonl').read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    loaded = grouping.load(folder, judged_problem)
    assert math.isnan(loaded.test_error['up'])
    assert loaded.total_test_error == pytest.approx(result.total_test_error)
    assert loaded.remarks == result.remarks
    assert math.isnan(loaded.to_dataframe().loc['up', 'test_error'])
    again = grouping.group_tasks(
        judged_problem, made(['up'], ['up']), 2, grouping.exhaustive(), CONFIG, folder, resume=True
    )
    assert again.groups == result.groups
    first, *_ = (folder / 'networks.csv').read_text().splitlines()
    assert first == '# Not defined on validation, so 0 for all networks: up'


@pytest.mark.sweep
def test_reports_show_nan_and_the_remark(run):
    folder, result = run
    text = report.write(folder)
    (row,) = [line.split() for line in text.splitlines() if line.startswith('up ')]
    assert row[2:4] == ['nan', 'nan']
    assert row[4:] == ['roc_auc', 'nan']
    assert f'{result.total_test_error:.2f}' in text
    assert 'leave out up' in text
    page = (folder / 'report.html').read_text()
    assert 'leave out up' in page
    assert (folder / 'errors.csv').read_text().count('nan') == 3


def test_a_gain_is_as_sure_as_without_the_task(judged_problem):
    """Its interval is that of the other tasks, which a task without an error cannot widen."""
    dataset, config = made(test=['up']), dataclasses.replace(CONFIG, steps=10)
    method = grouping.given([['sign', 'octant'], ['radius', 'up']])
    result = grouping.group_tasks(judged_problem, dataset, 2, method, config)
    low, high = result.gain_interval
    gain = 100 * (1 - result.total_test_error / result.baselines['mtl'].total_test_error)
    assert low < gain < high


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'method', [grouping.tag(), grouping.single_task(), grouping.random()], ids=lambda one: one.name
)
def test_ways_without_scores_work_as_well(judged_problem, method):
    """Alone, a task that is left out has a network of its own, which is kept by its loss."""
    config = dataclasses.replace(CONFIG, steps=10, keep='each_task')
    budget = len(NAMES) if method.name == 'single_task' else 2
    dataset = made(['up'], ['up'])
    result = grouping.group_tasks(judged_problem, dataset, budget, method, config)
    assert math.isnan(result.test_error['up'])
    assert result.total_test_error == pytest.approx(sum(result.test_error[t] for t in OTHERS))
    assert set(result.predict(dataset.test.inputs)) == set(NAMES)


def test_the_beginning_of_a_network_is_chosen_alike(run):
    folder, _ = run
    with score_table.ScoreTable(folder / 'networks', {}) as table:
        rows = {tuple(row['tasks']): row for row in table.rows() if 'curve' in row}
    for tasks, row in rows.items():
        brief, curve = beginning(row, 15), row['curve']
        seen = range(curve['step'].index(15) + 1)
        judged = [task for task in tasks if task != 'up']
        of = curve['validation_error' if judged else 'validation_loss']
        totals = [sum(of[task][n] for task in judged or tasks) for n in seen]
        assert brief['best_step'] == curve['step'][int(np.argmin(totals))]
        assert score_table.scores(brief).get('up', 0) == 0
    assert beginning({**rows[NAMES], 'keep': 'each_task'}, 15)['validation']['up']['error'] is None


# Comparisons.


@pytest.mark.sweep
def test_comparisons_leave_it_out_for_all_methods_alike(judged_problem, tmp_path):
    dataset, config = made(['up'], ['up']), dataclasses.replace(CONFIG, steps=10)
    methods = [
        *(grouping.exhaustive(), grouping.hoa(), grouping.subsets(count=6), grouping.esa(0.5)),
        *(grouping.recommended(), grouping.verify(proposals=3), grouping.pessimal()),
        grouping.all_in_one(),
    ]
    asked = judged_problem, dataset, methods, (2,), config
    found = comparison.compare_groupings(*asked, seeds=2, scores=tmp_path / 'scores')
    with score_table.ScoreTable(tmp_path / 'scores', {}) as table:
        rows = [row for row in table.rows() if 'curve' in row and row['steps'] == 10]
    by_name = {(tuple(row['tasks']), row['seed']): row for row in rows}
    for one in found.outcomes:
        if one.method == 'random':
            continue
        for split_name, total in (
            ('validation', one.validation_error),
            ('test', one.test_error),
        ):
            own = [
                by_name[tasks, one.seed][split_name][task]['error']
                for tasks, serves in zip(one.groups, one.serves, strict=True)
                for task in serves
                if task != 'up'
            ]
            assert len(own) == len(OTHERS)
            assert total == pytest.approx(sum(own)), one.method
        assert np.isfinite(one.test_draws).all()
    exhaustive = {one.seed: one for one in found.outcomes if one.method == 'exhaustive'}
    for seed, one in exhaustive.items():
        total, _ = brute_force([row for row in rows if row['seed'] == seed], 2, OTHERS)
        assert one.validation_error == pytest.approx(total)
    assert math.isfinite(found.optima[2].error)
    assert len(found.remarks) == 2
    again = comparison.compare_groupings(*asked, seeds=2, scores=tmp_path / 'scores')
    assert [one.test_error for one in again.outcomes] == [one.test_error for one in found.outcomes]
    folder = tmp_path / 'report'
    folder.mkdir()
    text = report.write_comparison(folder, found, NAMES, {'dataset': 'points'})
    assert 'leave out up' in text.replace('\n', ' ')
    assert 'leave out up' in (folder / 'report.html').read_text()
    assert read(folder / 'results.json')['remarks'] == list(found.remarks)


@pytest.mark.sweep
def test_comparisons_over_splits_say_which_split_it_is(judged_problem):
    config = dataclasses.replace(CONFIG, steps=5)
    datasets = [made(test=['up']), made(validation=['radius'])._replace(train=split(256, 9))]
    found = comparison.compare_groupings(
        *(judged_problem, datasets.__getitem__, [grouping.all_in_one()], (2,), config),
        seeds=1,
        splits=2,
    )
    assert [remark[:8] for remark in found.remarks] == ['Split 0:', 'Split 1:']
    assert all(math.isfinite(one.test_error) for one in found.outcomes)


def test_estimates_relative_to_a_constant_need_labels_that_vary():
    tasks = {'up': objectives.binary(), 'sign': TASKS['sign']}
    parts = split(64, 0), split(32, 1, ['up']), split(32, 2)
    small = Dataset('points', tasks, *parts)
    assert not can_be_linearised(small)
    assert can_be_linearised(small._replace(validation=split(32, 1)))
    with pytest.raises(ValueError, match="all labels of 'up' in the validation split are the same"):
        grouping.group_tasks(make_problem(tasks), small, 2, grouping.linearised(), CONFIG)


def test_studies_need_every_task(judged_problem):
    with (
        pytest.raises(ValueError, match="of 'up' is not defined on the test split: roc_auc"),
        comparison.training_seeds(judged_problem, made(test=['up']), CONFIG, 1),
    ):
        pass


@pytest.mark.sweep
def test_weightings_are_compared_without_it(judged_problem, tmp_path):
    config = dataclasses.replace(CONFIG, steps=10)
    ways = {'equal': weighting.equal}
    outcomes = multi_objective.compare(
        judged_problem, made(['up'], ['up']), ways, config, 2, learning_rates=(1e-3, 1e-2)
    )
    for one in outcomes:
        assert np.isnan(one.test_error[:, NAMES.index('up')]).all()
        kept = one.test_error[:, [NAMES.index(task) for task in OTHERS]]
        np.testing.assert_allclose(one.mean_error('test'), kept.mean(axis=1))
        assert np.isfinite(one.mean_error('validation')).all()
    assert multi_objective.best(outcomes) in outcomes
    text = report.write_multi_objective(tmp_path, outcomes, NAMES, {'seeds': 2})
    assert 'The test split does not define the errors of up' in text.replace('\n', ' ')
    assert 'nan' in text
    found = read(tmp_path / 'results.json')
    assert found['outcomes'][0]['test_error'][0][NAMES.index('up')] is None


@pytest.mark.sweep
def test_a_dry_run_needs_no_class_in_the_first_rows(judged_problem):
    """It looks at the first validation examples only."""
    dataset = made()
    order = np.argsort(dataset.validation.targets['up'], kind='stable')
    part = dataset.validation
    ordered = part._replace(
        inputs=part.inputs[order], targets={t: y[order] for t, y in part.targets.items()}
    )
    config = dataclasses.replace(CONFIG, batch_size=16)
    found = grouping.dry_run(
        judged_problem, dataset._replace(validation=ordered), 2, grouping.tag(), config
    )
    assert found.seconds > 0
