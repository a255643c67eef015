import dataclasses
import functools
import json
import shutil
import sys

import jax
import numpy as np
import optax
import pytest
from small import TASKS, kinds, make_problem, make_split

from tag_jax import affinity, grouping, training
from tag_jax.data import Dataset
from tag_jax.grouping import saved_networks
from tag_jax.grouping.methods import affinities as methods
from tag_jax.runs import affinity_files, storage
from tag_jax.training import Measurement, TrainingConfig

CONFIG = TrainingConfig(
    steps=40, batch_size=64, learning_rate=1e-2, eval_every=20, affinity=Measurement(every=10)
)
ALL = tuple(TASKS)

# 'sign' and 'radius' help each other, 'octant' is best helped by 'sign'.
GIVEN = np.array([[0.0, 2.0, 3.0], [-1.0, 0.0, -1.0], [3.0, -1.0, 0.0]])


def without_times(path):
    """results.json without what a clock told."""
    results = storage.read_json(path / 'results.json')
    results['cost'] = {k: v for k, v in results['cost'].items() if not k.endswith('_seconds')}
    return results


@pytest.fixture(scope='module')
def run(problem, dataset, tmp_path_factory):
    """A finished run with two networks, and its result."""
    path = tmp_path_factory.mktemp('runs') / 'run'
    return path, grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG, path)


def test_the_result_holds_together(run, problem, dataset):
    _, result = run
    assert (result.dataset, result.method, result.budget, result.seed) == ('points', 'tag', 2, 0)
    assert result.task_names == ALL
    assert 1 <= len(result.groups) == len(result.networks) <= 2
    assert sorted(t for group in result.groups for t in group.serves) == sorted(ALL)
    assert result.affinity.shape == (3, 3)
    assert list(result.test_error) == list(ALL)
    assert result.total_test_error == pytest.approx(sum(result.test_error.values()))
    for task in ALL:
        assert result.metrics[task]['error'] == result.test_error[task]
    assert set(result.metrics['radius']) == {'error', 'loss', 'mse', 'mae', 'r2'}
    assert set(result.metrics['sign']) > {'error', 'accuracy', 'balanced_accuracy', 'roc_auc'}
    baseline = result.baselines['mtl']
    assert baseline.total_test_error == pytest.approx(sum(baseline.test_error.values()))
    assert result.cost['search_steps'] == 40
    assert result.cost['search_seconds'] > 0
    assert result.bound == result.objective
    assert 0.5 <= result.confidence <= 1
    assert any('score higher than the runner-up' in remark for remark in result.remarks)
    loaded = grouping.load(run[0])
    assert (loaded.confidence, loaded.remarks) == (result.confidence, result.remarks)


def test_each_task_is_answered_by_the_network_that_serves_it(run, problem, dataset):
    _, result = run
    found = result.outputs(dataset.test.inputs)
    assert list(found) == list(ALL)
    for group, network in zip(result.groups, result.networks, strict=True):
        outputs = problem.predict(network.params, network.model_state, dataset.test.inputs)
        for task in group.serves:
            np.testing.assert_allclose(found[task], outputs[task], rtol=1e-5, atol=1e-6)
    answers = result.predict(dataset.test.inputs)
    np.testing.assert_array_equal(answers['radius'], found['radius'][:, 0])
    wrong = answers['octant'] != dataset.test.targets['octant']
    assert set(result.predict_proba(dataset.test.inputs)) == {'sign', 'octant'}
    assert result.test_error['octant'] == pytest.approx(100 * wrong.mean())


def test_the_files_of_a_run(run):
    path, result = run
    names = {file.name for file in path.iterdir()}
    assert names == {
        *('config.json', 'metrics.jsonl', 'affinity.npz', 'results.json'),
        *('checkpoints', 'networks', '.lock'),
    }
    results = storage.read_json(path / 'results.json')
    assert set(results) >= {
        'dataset', 'method', 'budget', 'seed', 'task_names', 'groups', 'test_error',
        'total_test_error', 'baselines', 'cost', 'objective', 'bound',
    }  # fmt: skip
    for group in results['groups']:
        assert set(group) >= {'tasks', 'serves'}
        assert (path / 'checkpoints' / group['network'] / 'network.json').exists()
    assert set(results['baselines']['mtl']) == {
        *('test_error', 'total_test_error', 'test_score', 'total_test_score'),
    }
    with np.load(path / 'affinity.npz') as file:
        assert set(file) >= {'mean', 'stderr', 'count', 'history', 'steps', 'task_names'}
        np.testing.assert_array_equal(file['steps'], [0, 10, 20, 30])
        np.testing.assert_array_equal(file['mean'], result.affinity)
        np.testing.assert_allclose(file['history'].mean(axis=0), result.affinity, rtol=1e-5)
    config = storage.read_json(path / 'config.json')
    assert config['steps'] == 40
    assert config['weighting'] == 'equal'
    assert config['optimizer'] == 'adam'
    assert config['examples'] == {'train': 512, 'validation': 200, 'test': 200}
    assert config['parameters'] == 3 * 16 + 16 + 16 * 8 + 8 + 9 * (2 + 8 + 1)
    records = storage.read_records(path / 'metrics.jsonl')
    assert [r['step'] for r in records if r['network'] == 'mtl'] == [20, 40]


@pytest.mark.parametrize('with_code', [False, True])
def test_a_result_comes_back(run, problem, dataset, with_code):
    path, result = run
    found = grouping.load(path, problem if with_code else None)
    for field in dataclasses.fields(grouping.Result):
        if field.name not in ('networks', 'affinities'):
            plain = kinds if field.name == 'tasks' else lambda value: value
            assert plain(getattr(found, field.name)) == plain(getattr(result, field.name))
    for mine, theirs in zip(found.affinities, result.affinities, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    expected, answers = (r.outputs(dataset.test.inputs[:70]) for r in (result, found))
    for task in ALL:
        np.testing.assert_allclose(answers[task], expected[task], rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(found.networks, result.networks, strict=True):
        for field in ('params', 'model_state'):
            pairs = zip(
                *(jax.tree.leaves(getattr(network, field)) for network in (mine, theirs)),
                strict=True,
            )
            assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.sweep  # Its short form: a broken run is continued to the same end.
def test_the_same_seed_gives_the_same_results(run, problem, dataset, tmp_path):
    path, _ = run
    grouping.group_tasks(make_problem(), dataset, 2, grouping.tag(), CONFIG, tmp_path / 'again')
    assert without_times(tmp_path / 'again') == without_times(path)
    grouping.group_tasks(
        problem, dataset, 2, grouping.tag(), dataclasses.replace(CONFIG, seed=1), tmp_path / 'other'
    )
    assert without_times(tmp_path / 'other')['test_error'] != without_times(path)['test_error']


def test_nothing_is_left_behind_without_a_workdir(run, problem, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG)
    assert result.test_error == run[1].test_error
    assert not list(tmp_path.iterdir())


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    'lost',
    [
        *('results', 'network'),
        *(pytest.param(one, marks=pytest.mark.sweep) for one in ('networks', 'everything')),
    ],
)
def test_a_broken_run_is_continued_to_the_same_end(run, problem, dataset, tmp_path, lost):
    """A run is cut off after any of its stages by taking away what came later."""
    path, unbroken = tmp_path / 'run', run[0]
    shutil.copytree(unbroken, path)
    (path / 'results.json').unlink()
    networks = sorted(folder.name for folder in (path / 'checkpoints').iterdir())
    assert networks[0] == 'mtl'
    gone = {'results': [], 'network': networks[-1:], 'networks': networks[1:]}.get(lost, networks)
    for name in gone:
        (path / 'checkpoints' / name / 'network.json').unlink()
    if lost == 'everything':
        (path / 'affinity.npz').unlink()
    with open(path / 'metrics.jsonl', 'a') as file:
        file.write('{"network": "mt')
    grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG, path, resume=True)
    assert without_times(path) == without_times(unbroken)
    arrays, expected = (affinity_files.read_affinity(p / 'affinity.npz') for p in (path, unbroken))
    assert set(arrays) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(arrays[key], value)
    by_network = lambda p: sorted(
        (r['network'], r['step'], json.dumps(r)) for r in storage.read_records(p / 'metrics.jsonl')
    )
    assert by_network(path) == by_network(unbroken)


def test_a_finished_run_can_be_asked_for_again(run, problem, dataset):
    path, result = run
    before = (path / 'results.json').stat().st_mtime_ns
    again = grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG, path, resume=True)
    assert again.test_error == result.test_error
    assert again.cost == result.cost
    assert (path / 'results.json').stat().st_mtime_ns == before


def test_a_workdir_with_another_run_is_refused(run, problem, dataset):
    path, _ = run
    before = (path / 'results.json').read_bytes()
    with pytest.raises(ValueError, match='already holds a run'):
        grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG, path)
    with pytest.raises(ValueError, match='budget was 2 and is 3'):
        grouping.group_tasks(problem, dataset, 3, grouping.tag(), CONFIG, path, resume=True)
    negative = dataset._replace(train=dataset.train._replace(inputs=-dataset.train.inputs))
    with pytest.raises(ValueError, match=r'other settings \(train_data was .* and is'):
        grouping.group_tasks(problem, negative, 2, grouping.tag(), CONFIG, path, resume=True)
    with pytest.raises(ValueError, match=r'parameters was \d+ and is \d+, model was'):
        grouping.group_tasks(
            make_problem(widths=(4, 8)), dataset, 2, grouping.tag(), CONFIG, path, resume=True
        )
    with pytest.raises(ValueError, match='resume needs the workdir'):
        grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG, resume=True)
    assert (path / 'results.json').read_bytes() == before


@pytest.mark.sweep
def test_settings_are_told_apart_by_the_arguments_of_their_functions(problem, dataset, tmp_path):
    def config(**arguments):
        return dataclasses.replace(CONFIG, optimizer=functools.partial(optax.sgd, **arguments))

    grouping.group_tasks(
        problem, dataset, 1, grouping.tag(), config(momentum=0.5), tmp_path / 'run'
    )
    with pytest.raises(ValueError, match=r'optimizer was sgd\(momentum=0.5\) and is sgd\(nest'):
        grouping.group_tasks(
            problem,
            dataset,
            1,
            grouping.tag(),
            config(nesterov=True),
            tmp_path / 'run',
            resume=True,
        )


def test_training_that_ends_before_the_window_of_measuring(problem, dataset):
    config = dataclasses.replace(CONFIG, steps=400, eval_every=10, patience=1, learning_rate=1e-9)
    config = config.measuring(window=(0.9, 1))
    with pytest.raises(ValueError, match='training stopped before affinity.window began'):
        grouping.group_tasks(problem, dataset, 2, grouping.tag(), config)


@pytest.mark.sweep
def test_on_validation_a_task_may_be_left_alone(problem, dataset, tmp_path):
    """Then its affinity onto itself is its score; on training data it never is."""
    alone = GIVEN + np.diag([0.0, 9.0, 0.0])
    for split, expected in (('train', False), ('validation', True)):
        config = CONFIG.measuring(split=split)
        result = grouping.group_tasks(
            problem, dataset, 2, grouping.from_affinities(alone), config, tmp_path / split
        )
        assert (('octant',) in [group.tasks for group in result.groups]) == expected
        assert result.confidence is None
        assert not [one for one in result.remarks if 'still improving' not in one]


def test_one_network_is_the_baseline_itself(problem, dataset, tmp_path):
    result = grouping.group_tasks(problem, dataset, 1, grouping.tag(), CONFIG, tmp_path / 'run')
    assert result.groups == (grouping.Group(ALL, ALL, 'mtl'),)
    assert result.test_error == result.baselines['mtl'].test_error
    assert result.cost['training_steps'] == 0
    assert [folder.name for folder in (tmp_path / 'run' / 'checkpoints').iterdir()] == ['mtl']


def test_given_affinities_are_selected_from(run, problem, dataset, tmp_path):
    result = grouping.group_tasks(
        problem, dataset, 2, grouping.from_affinities(GIVEN), CONFIG, tmp_path / 'array'
    )
    assert [set(group.tasks) for group in result.groups] == [{'sign', 'radius'}, {'sign', 'octant'}]
    assert [group.serves for group in result.groups] == [('sign', 'radius'), ('octant',)]
    assert result.objective == 8
    assert result.cost['search_steps'] == 0
    assert 'mtl' in result.baselines
    np.testing.assert_array_equal(result.affinity, GIVEN)
    loaded = grouping.load(tmp_path / 'array')
    np.testing.assert_array_equal(loaded.affinity, GIVEN)
    assert set(loaded.predict(dataset.test.inputs)) == set(ALL)

    table = tmp_path / 'affinity.csv'
    rows = [','.join([task, *map(str, row)]) for task, row in zip(ALL, GIVEN, strict=True)]
    table.write_text('\n'.join([f'source,{",".join(ALL)}', *rows]) + '\n')
    from_table = grouping.group_tasks(problem, dataset, 2, grouping.from_affinities(table), CONFIG)
    assert from_table.test_error == result.test_error


def test_affinities_of_another_run_keep_their_history(run, problem, dataset, tmp_path):
    measured = run[0] / 'affinity.npz'
    result = grouping.group_tasks(
        problem, dataset, 3, grouping.from_affinities(measured), CONFIG, tmp_path / 'run'
    )
    np.testing.assert_array_equal(result.affinity, run[1].affinity)
    found, expected = (
        affinity_files.read_affinity(p / 'affinity.npz') for p in (tmp_path / 'run', run[0])
    )
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_other_affinities_make_another_run(problem, dataset, tmp_path):
    """Networks of an unfinished run are not taken for those of other groups."""
    path, table = tmp_path / 'run', tmp_path / 'affinity.csv'

    def write(matrix):
        rows = [','.join([task, *map(str, row)]) for task, row in zip(ALL, matrix, strict=True)]
        table.write_text('\n'.join([f'source,{",".join(ALL)}', *rows]) + '\n')

    write(GIVEN)
    grouping.group_tasks(problem, dataset, 2, grouping.from_affinities(table), CONFIG, path)
    (path / 'results.json').unlink()
    write(GIVEN[::-1, ::-1])
    with pytest.raises(ValueError, match=r'affinity=affinity.csv \(.*\) and is .*affinity.csv'):
        grouping.group_tasks(
            problem, dataset, 2, grouping.from_affinities(table), CONFIG, path, resume=True
        )


def test_given_affinities_must_fit(problem, dataset, tmp_path):
    workdir_path = tmp_path / 'run'
    for given, message in (
        (np.zeros((2, 2)), '3 tasks is 3 x 3'),
        (np.where(GIVEN == 2, np.nan, GIVEN), "no affinity of 'sign' onto 'octant'"),
    ):
        with pytest.raises(ValueError, match=message):
            grouping.group_tasks(
                problem, dataset, 2, grouping.from_affinities(given), CONFIG, workdir_path
            )
    on_validation = CONFIG.measuring(split='validation')
    alone = GIVEN + np.diag([0, np.nan, 0])
    with pytest.raises(ValueError, match="no affinity of 'octant' onto 'octant' among those given"):
        grouping.group_tasks(
            problem, dataset, 2, grouping.from_affinities(alone), on_validation, workdir_path
        )
    with pytest.raises(FileNotFoundError, match='there is no file of affinities'):
        grouping.group_tasks(
            problem, dataset, 2, grouping.from_affinities(tmp_path / 'no.npz'), CONFIG, workdir_path
        )
    assert not workdir_path.exists()


def test_a_pair_without_a_sample_is_named_and_the_affinities_are_kept(problem, dataset, tmp_path):
    """Labels of 'octant' and 'radius' never meet: their tasks have examples of their own."""
    first = np.arange(512) < 256
    mask = {'octant': first, 'radius': ~first}
    config = dataclasses.replace(CONFIG.measuring(every=1), batch_size=1)
    apart = dataset._replace(train=dataset.train._replace(mask=mask))
    path = tmp_path / 'run'
    message = "no affinity of 'octant' onto 'radius' was measured"
    with pytest.raises(ValueError, match=message):
        grouping.group_tasks(problem, apart, 2, grouping.tag(), config, path)
    with np.load(path / 'affinity.npz') as file:
        assert file['count'][1, 2] == 0
        assert file['count'][0, 2] > 0
    assert (path / 'checkpoints' / 'mtl' / 'network.json').exists()


@pytest.mark.parametrize('budget', [0, -1, 4, 2.5, 2.0, '2', None, True])
def test_budgets_out_of_range_are_refused(problem, dataset, tmp_path, budget):
    with pytest.raises(ValueError, match='budget must be an integer between 1 and .*, 3, not'):
        grouping.group_tasks(problem, dataset, budget, grouping.tag(), CONFIG, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_task_without_labels_is_refused(problem, dataset, tmp_path):
    mask = {'octant': np.zeros(200, bool)}
    for name in ('validation', 'test'):
        split = getattr(dataset, name)._replace(mask=mask)
        with pytest.raises(ValueError, match=f"'octant' has no label in the {name} split"):
            grouping.group_tasks(
                problem,
                dataset._replace(**{name: split}),
                2,
                grouping.tag(),
                CONFIG,
                tmp_path / 'run',
            )
    assert not (tmp_path / 'run').exists()


def test_one_task(tmp_path):
    tasks = {'radius': TASKS['radius']}
    splits = (make_split(128, seed) for seed in range(3))
    result = grouping.group_tasks(
        make_problem(tasks),
        Dataset('one', tasks, *splits),
        1,
        grouping.tag(),
        CONFIG,
        tmp_path / 'run',
    )
    assert [group.tasks for group in result.groups] == [('radius',)]
    assert result.objective == 0
    assert grouping.load(tmp_path / 'run').total_test_error == result.total_test_error


@pytest.mark.sweep
def test_missing_labels(problem, dataset):
    splits = {
        name: make_split(size, seed, labelled=0.5)
        for seed, (name, size) in enumerate((('train', 512), ('validation', 200), ('test', 200)))
    }
    result = grouping.group_tasks(problem, dataset._replace(**splits), 2, grouping.tag(), CONFIG)
    assert np.isfinite(list(result.test_error.values())).all()


def test_numbers_of_numpy_are_settings(problem, dataset, tmp_path):
    config = dataclasses.replace(CONFIG, seed=np.int64(3), learning_rate=np.float32(0.01))
    result = grouping.group_tasks(
        problem, dataset, np.int64(2), grouping.tag(), config, tmp_path / 'run'
    )
    assert storage.read_json(tmp_path / 'run' / 'results.json')['seed'] == 3
    assert result.budget == 2


def test_a_result_is_shown_in_a_line(run):
    _, result = run
    assert repr(result).startswith('Result(tag on points, budget 2: {')
    assert f'{result.total_test_error:.2f} %' in repr(result)
    assert len(repr(result)) < 300
    told = dataclasses.replace(result, remarks=('One.', 'Two.'))
    assert repr(told).endswith('; 2 remarks in result.remarks)')
    assert repr(dataclasses.replace(told, remarks=('One.',))).endswith(
        '; 1 remark in result.remarks)'
    )
    assert 'remark' not in repr(dataclasses.replace(told, remarks=()))
    wide = dataclasses.replace(told, groups=(told.groups[0]._replace(cost=1.99),))
    assert ' at cost 1.99;' in repr(wide)
    assert ' at cost' not in repr(told)
    assert repr(result.networks[0]) == 'Network(299 parameters)'


def test_loading_what_is_not_there(run, tmp_path):
    with pytest.raises(ValueError, match='holds no finished run'):
        grouping.load(tmp_path)
    path = tmp_path / 'run'
    shutil.copytree(run[0], path)
    for function in path.rglob('predict.stablehlo'):
        function.unlink()
    bare = grouping.load(path)
    assert bare.total_test_error == run[1].total_test_error
    with pytest.raises(ValueError, match='give the problem to predict'):
        bare.predict(np.ones((2, 3), np.float32))
    assert grouping.load(path, make_problem()).groups == run[1].groups


def test_the_summary_of_given_affinities_has_no_samples(problem):
    summary = methods._given_affinities(problem.task_names, CONFIG, GIVEN)
    assert isinstance(summary, affinity.AffinitySummary)
    assert not summary.count.any()


def test_networks_are_kept_under_their_names(run, problem):
    path, result = run
    for group, network in zip(result.groups, result.networks, strict=True):
        plan = training.NetworkPlan(group.network, group.tasks, 0, 1e-2)
        kept = saved_networks.load(path / 'checkpoints' / group.network, problem, plan)
        jax.tree.map(np.testing.assert_array_equal, kept.params, network.params)


def frozen(problem, scale=0.0):
    """The problem with an encoder from which next to no gradient comes back."""

    def encode(shared, state, inputs, train, key):
        found, state = problem.encode(shared, state, inputs, train, key)
        still = jax.lax.stop_gradient(found)
        return still + scale * (found - still), state

    return dataclasses.replace(problem, encode=encode)


@pytest.mark.parametrize('scale', [0.0, pytest.param(1e-8, marks=pytest.mark.sweep)])
def test_affinities_that_are_rounding_are_said_to_be(problem, dataset, scale):
    """Of an encoder that does not train: groups come out, and say nothing."""
    result = grouping.group_tasks(frozen(problem, scale), dataset, 2, grouping.tag(), CONFIG)
    (remark,) = (one for one in result.remarks if 'still improving' not in one)
    assert 'is rounding: the steps that were measured change no loss' in remark
    assert 'frozen' in remark


@pytest.mark.sweep
def test_cosines_of_gradients_that_are_zero_are_not_to_be_had(problem, dataset):
    with pytest.raises(
        ValueError, match='no affinity was measured at all: the gradients of the en'
    ):
        grouping.group_tasks(frozen(problem), dataset, 2, grouping.cosine_similarity(), CONFIG)


def test_a_result_as_a_table(run, monkeypatch):
    _, result = run
    table = result.to_dataframe()
    assert tuple(table.index) == result.task_names
    assert table['test_error'].to_dict() == pytest.approx(dict(result.test_error))
    assert table['all_together'].sum() == pytest.approx(result.baselines['mtl'].total_test_error)
    for group in result.groups:
        for task in group.serves:
            assert table.loc[task, 'network'] == group.network
            assert table.loc[task, 'tasks'].split(', ') == list(group.tasks)
    for task, found in result.metrics.items():
        known = table.loc[task].dropna()
        assert {name for name in found if name != 'error'} <= set(known.index)
    monkeypatch.setitem(sys.modules, 'pandas', None)
    with pytest.raises(ImportError, match='needs pandas: pip install pandas'):
        result.to_dataframe()


def test_spectral_clustering_finds_blocks_and_covers_all_tasks():
    """Blocks of tasks that help each other are found, whatever the order of the tasks."""
    size, rng = 6, np.random.default_rng(0)
    problem_names = tuple('abcdef')
    for _ in range(5):
        order = rng.permutation(size)
        blocks = np.isin(order, order[:3])
        matrix = np.where(blocks[:, None] == blocks[None, :], 0.2, -0.1)
        matrix += 0.01 * rng.normal(size=(size, size))

        class Answers:
            task_names, config, seed = problem_names, CONFIG, 0

            def affinities(self, matrix=matrix):
                statistics = affinity.AffinityStatistics(problem_names, (1,), (matrix,))
                return affinity.summary(statistics)

        for budget, count in ((1, 1), (2, 2), (6, 6)):
            groups = grouping.spectral().propose(Answers(), budget).groups
            assert len(groups) == count
            assert sorted(sum(groups, ())) == list(range(size))
            if budget == 2:
                assert set(groups) == {
                    tuple(np.flatnonzero(blocks).tolist()),
                    tuple(np.flatnonzero(~blocks).tolist()),
                }
