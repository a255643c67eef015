import collections
import dataclasses
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import TASKS, make_problem

from tag_jax import comparison, data, grouping, objectives, selection
from tag_jax.grouping import task_sets, trainer
from tag_jax.grouping.task_sets import even_groups, random_groups
from tag_jax.runs import score_table, storage
from tag_jax.training import TrainingConfig

CONFIG = TrainingConfig(steps=20, batch_size=64, learning_rate=1e-2, eval_every=10, slots=2)
ALL = tuple(TASKS)
SETS = [s for k in (1, 2, 3) for s in itertools.combinations(ALL, k)]


@pytest.fixture(scope='module')
def searched(problem, dataset, tmp_path_factory):
    """An exhaustive search, and the rows of its networks."""
    path = tmp_path_factory.mktemp('runs') / 'run'
    result = grouping.group_tasks(problem, dataset, 2, grouping.exhaustive(), CONFIG, path)
    with score_table.ScoreTable(path / 'networks', {}) as book:
        return path, result, {tuple(row['tasks']): row for row in book.rows()}


def total(rows, split, groups):
    """The total error where each task is served by the best of these groups on validation."""
    served = {
        task: min(
            (row for row in (rows[group] for group in groups) if task in row['tasks']),
            key=lambda row, task=task: row['validation'][task]['error'],
        )
        for task in ALL
    }
    return sum(row[split][task]['error'] for task, row in served.items())


def covers(budget):
    for groups in itertools.combinations(SETS, budget):
        if set(itertools.chain(*groups)) == set(ALL):
            yield groups


def test_exhaustive_by_trying_all(searched):
    _, result, rows = searched
    assert set(rows) == set(SETS)
    best = min(total(rows, 'validation', g) for n in (1, 2) for g in covers(n))
    assert result.objective == pytest.approx(best)
    groups = [group.tasks for group in result.groups]
    assert total(rows, 'validation', groups) == pytest.approx(best)
    assert result.total_test_error == pytest.approx(total(rows, 'test', groups), rel=1e-9)
    assert result.affinity is None
    assert result.cost['search_steps'] == 20 * len(SETS)


def test_the_run_can_be_loaded_and_its_networks_selected_from(searched, dataset):
    path, result, rows = searched
    loaded = grouping.load(path)
    assert loaded.affinity is None
    assert loaded.groups == result.groups
    assert set(loaded.predict(dataset.test.inputs)) == set(ALL)
    found = selection.read_candidates(path / 'networks.csv')
    assert len(found['test']) == len(rows)
    assert selection.select_networks(found['validation'], 2).objective == pytest.approx(
        result.objective
    )


def test_what_is_in_the_store_is_not_trained_again(searched, problem, dataset, monkeypatch):
    """Other budgets, other methods; a brief network is the beginning of one that went on."""
    path, _, rows = searched
    store = path / 'networks'
    trained = []
    train = trainer.training.train_networks
    monkeypatch.setattr(
        trainer.training,
        'train_networks',
        lambda *arguments, **more: trained.append(arguments[3]) or train(*arguments, **more),
    )
    worst = grouping.group_tasks(problem, dataset, 2, grouping.pessimal(), CONFIG, scores=store)
    highest = max(total(rows, 'validation', g) for n in (1, 2) for g in covers(n))
    assert worst.objective == pytest.approx(highest)
    hoa = grouping.group_tasks(problem, dataset, 2, grouping.hoa(), CONFIG, scores=store)
    brief = grouping.group_tasks(
        problem, dataset, 2, grouping.esa(fraction=0.5), CONFIG, scores=store
    )
    assert not [plans for plans in trained if len(plans) > 3], 'only chosen networks'
    assert hoa.method == 'hoa'
    assert hoa.cost['search_steps'] == 20 * 6
    assert brief.cost['search_steps'] == 10 * len(SETS)
    again = grouping.group_tasks(
        problem, dataset, 2, grouping.esa(fraction=1), dataclasses.replace(CONFIG, steps=10)
    )
    assert brief.objective == pytest.approx(again.objective)


def test_plain_ways(problem, dataset, tmp_path):
    alone = grouping.group_tasks(
        problem, dataset, 3, grouping.single_task(), CONFIG, tmp_path / 'alone'
    )
    assert [group.tasks for group in alone.groups] == [(task,) for task in ALL]
    assert alone.objective is None
    together = grouping.group_tasks(problem, dataset, 2, grouping.all_in_one(), CONFIG)
    assert [group.tasks for group in together.groups] == [ALL]
    assert together.test_error == together.baselines['mtl'].test_error
    with pytest.raises(ValueError, match='single_task trains 3 networks: ask for a budget of 3'):
        grouping.group_tasks(problem, dataset, 2, grouping.single_task(), CONFIG)
    drawn = grouping.group_tasks(problem, dataset, 2, grouping.random(), CONFIG)
    assert sorted(task for group in drawn.groups for task in group.serves) == sorted(ALL)
    assert (
        drawn.groups == grouping.group_tasks(problem, dataset, 2, grouping.random(), CONFIG).groups
    )
    similar = grouping.group_tasks(
        problem, dataset, 2, grouping.cosine_similarity(), CONFIG, tmp_path / 'similar'
    )
    np.testing.assert_allclose(np.diagonal(similar.affinity), 1, rtol=1e-5)


def test_random_groups_are_equally_likely():
    rng = np.random.default_rng(0)
    counts = collections.Counter(random_groups(rng, 3, 2) for _ in range(20_000))
    expected = {
        tuple(sorted(groups))
        for groups in itertools.combinations(
            [s for k in (1, 2, 3) for s in itertools.combinations(range(3), k)], 2
        )
        if set(itertools.chain(*groups)) == {0, 1, 2}
    }
    assert set(counts) == expected
    share = 20_000 / len(expected)
    assert max(abs(count - share) for count in counts.values()) < 5 * share**0.5


@pytest.mark.variants(1)
@pytest.mark.parametrize('budget', [1, 2, 3])
def test_random_sets_of_all_tasks_but_one(problem, dataset, budget):
    """Different ones, no more than there are tasks."""
    method = grouping.all_but_one()
    drawn = grouping.group_tasks(problem, dataset, budget, method, CONFIG)
    groups = {group.tasks for group in drawn.groups}
    assert groups <= {tuple(t for t in ALL if t != left_out) for left_out in (*ALL, None)}
    assert {len(group) for group in groups} == {2 if budget > 1 else 3}
    assert len(groups) == len(drawn.groups) <= budget
    assert sorted(task for group in drawn.groups for task in group.serves) == sorted(ALL)
    assert method.stages(ALL, budget, CONFIG)[0].networks == budget


def test_random_groups_of_equal_size(problem, dataset):
    drawn = grouping.group_tasks(problem, dataset, 2, grouping.random_even(), CONFIG)
    assert sorted(len(group.tasks) for group in drawn.groups) == [1, 2]
    assert all(group.serves == group.tasks for group in drawn.groups)
    rng = np.random.default_rng(0)
    counts = collections.Counter(even_groups(rng, 4, 2) for _ in range(3000))
    assert set(counts) == {((0, n), tuple(sorted({1, 2, 3} - {n}))) for n in (1, 2, 3)}
    assert max(abs(count - 1000) for count in counts.values()) < 5 * 1000**0.5
    assert sorted(map(len, even_groups(rng, 9, 4))) == [2, 2, 2, 3]


@given(st.integers(1, 10), st.data())
def test_random_sets_are_of_all_sizes(num_tasks, data):
    names = tuple(f't{n}' for n in range(num_tasks))
    count = data.draw(st.integers(1, 2**num_tasks))
    sets = task_sets.random_sets(names, count, data.draw(st.integers(0, 2**32 - 1)))
    assert len(sets) == len(set(sets)) == min(count, 2**num_tasks - 1)
    assert names in sets
    assert all(sorted(tasks, key=names.index) == list(tasks) for tasks in sets)
    sizes = collections.Counter(map(len, sets))
    least = count // 2 // num_tasks
    assert all(
        sizes[size] >= min(least, math.comb(num_tasks, size)) for size in range(1, num_tasks + 1)
    )


def test_random_sets_follow_from_their_seed():
    names = tuple('abcdefghi')
    sizes = collections.Counter(len(tasks) for tasks in task_sets.random_sets(names, 50, 0))
    assert min(sizes[1], sizes[8]) >= 2  # Of 50 drawn from all 511, less than one is expected.
    assert task_sets.random_sets(names, 50, 0) == task_sets.random_sets(names, 50, 0)
    assert task_sets.random_sets(names, 50, 0) != task_sets.random_sets(names, 50, 1)


def test_random_sets_of_any_number_of_tasks():
    """More sets than can be listed, drawn by the same rule."""
    names = tuple(f't{n}' for n in range(50))
    sets = task_sets.random_sets(names, 200, 0)
    assert len(set(sets)) == 200
    assert names in sets
    assert sets == sorted(sets, key=lambda tasks: (len(tasks), [names.index(t) for t in tasks]))
    assert sets == task_sets.random_sets(names, 200, 0) != task_sets.random_sets(names, 200, 1)
    sizes = collections.Counter(map(len, sets))
    assert min(sizes[size] for size in range(1, 50)) >= 2, 'a hundred are spread over sizes'
    middle = sum(sizes[size] for size in range(20, 31))
    assert middle > 22 + 0.7 * 100, 'the others are mostly of middle sizes'
    with pytest.raises(ValueError, match='20001 sets are more than 20000: give a smaller count'):
        task_sets.random_sets(names, 20_001, 0)


@pytest.mark.sweep  # Its short form: selection/test_select_additive.py.
def test_subsets_of_more_tasks_than_can_be_listed(tmp_path):
    """Twenty-two tasks: the best groups of the model that the rows of the search teach."""
    rng, size = np.random.default_rng(0), 22
    inputs = rng.normal(size=(60, 3))
    values = inputs @ rng.normal(size=(3, size))
    tasks = {f't{n}': objectives.regression() for n in range(size)}
    targets = {task: values[:, n] for n, task in enumerate(tasks)}
    points = data.from_arrays(inputs, targets, tasks, seed=0)
    problem = make_problem(tasks, (4,))
    config = dataclasses.replace(CONFIG, steps=4, eval_every=2, slots=None)
    method = grouping.subsets(count=6)
    result = grouping.group_tasks(problem, points, 3, method, config, tmp_path / 'run')
    assert result.cost['search_steps'] == 6 * 2
    assert set().union(*(group.tasks for group in result.groups)) == set(tasks)
    assert len(result.groups) <= 3
    with score_table.ScoreTable(tmp_path / 'run' / 'networks', {}) as book:
        rows = score_table.candidates(book.rows(), tuple(tasks))
    assert len(rows) == 6
    model = selection.fit_additive_model(rows)
    best = selection.select_additive(model, 3)
    assert result.objective == pytest.approx(best.objective, rel=1e-9)


def test_the_cost_of_a_search_is_what_it_says(problem, dataset, tmp_path):
    """Where the network for all tasks stops early, fractions are of the steps that it took."""
    config = dataclasses.replace(CONFIG, steps=400, eval_every=1, patience=3, learning_rate=0.3)
    method = grouping.subsets(count=4)
    result = grouping.group_tasks(problem, dataset, 2, method, config, tmp_path / 'run')
    with score_table.ScoreTable(tmp_path / 'run' / 'networks', {}) as book:
        rows = book.rows()
    records = storage.read_records(tmp_path / 'run' / 'metrics.jsonl')
    whole = max(one['step'] for one in records if one['network'] == 'mtl')
    assert whole < 200
    assert len(rows) == 4
    assert all(row['steps'] == round(whole / 2) for row in rows)
    assert result.cost['search_steps'] == sum(row['steps_taken'] for row in rows) <= 2 * whole + 2


@pytest.mark.sweep
def test_the_best_brief_networks_are_finished_and_kept(problem, dataset, tmp_path):
    """The chosen networks are the very ones of the search: their curves begin with its numbers."""
    config = dataclasses.replace(CONFIG, slots=None)
    path, method = tmp_path / 'run', grouping.subsets(count=5, keep=True)
    assert method.displayed == 'subsets(count=5, keep=True)'
    result = grouping.group_tasks(problem, dataset, 2, method, config, path)
    with score_table.ScoreTable(path / 'networks', {}) as book:
        brief = {tuple(row['tasks']): row for row in book.rows()}
    sets = task_sets.random_sets(ALL, 5, 0)
    assert set(brief) == set(sets)
    chosen = {group.tasks for group in result.groups}
    assert chosen <= set(sets)
    records = storage.read_records(path / 'metrics.jsonl')
    for group in result.groups:
        (first,) = [r for r in records if r['network'] == group.network and r['step'] == 10]
        curve = brief[group.tasks]['curve']['validation_error']
        assert first['validation_error'] == {task: values[-1] for task, values in curve.items()}
        assert max(r['step'] for r in records if r['network'] == group.network) == 20
    best = selection.select_networks(score_table.candidates(list(brief.values()), ALL), 2)
    assert result.objective == best.objective
    assert result.cost['search_steps'] == 5 * 10
    # Broken off before it had finished, it goes on to the same result.
    (path / 'results.json').unlink()
    shutil.rmtree(path / 'checkpoints' / result.groups[-1].network)
    again = grouping.group_tasks(problem, dataset, 2, method, config, path, resume=True)
    assert again.test_error == result.test_error
    assert again.groups == result.groups


@pytest.mark.sweep
def test_kept_networks_stand_in_comparisons(problem, dataset, tmp_path):
    """Their own errors are of the networks that the search finished, in as many slots."""
    config = dataclasses.replace(CONFIG, slots=None)
    method = grouping.subsets(count=5, keep=True)
    alone = grouping.group_tasks(problem, dataset, 2, method, config)
    found = comparison.compare_groupings(
        problem, dataset, [method], (2,), config, seeds=1, scores=tmp_path / 'scores'
    )
    (one,) = [one for one in found.outcomes if one.method == method.displayed]
    assert {group.tasks for group in alone.groups} <= set(one.groups)
    assert one.test_error == pytest.approx(alone.total_test_error, rel=1e-9)
    with score_table.ScoreTable(tmp_path / 'scores', {}) as book:
        slots = {row['slots'] for row in book.rows() if tuple(row['tasks']) in one.groups}
    assert slots == {3}, 'half of the five'


@pytest.mark.sweep
def test_networks_of_another_precision_are_other_networks(problem, dataset, tmp_path):
    """Parameters are the same shapes, and float32 both."""
    half = dataclasses.replace(
        problem,
        encode=lambda *arguments: (lambda found: (found[0].astype('bfloat16'), found[1]))(
            problem.encode(*arguments)
        ),
    )
    store = tmp_path / 'store'
    for one, count in ((problem, 6), (half, 12)):
        grouping.group_tasks(one, dataset, 2, grouping.hoa(), CONFIG, scores=store)
        assert (store / 'networks.jsonl').read_text().count('\n') == count


def test_functions_without_a_name_cannot_tell_networks_apart(problem, dataset, tmp_path):
    config = dataclasses.replace(CONFIG, optimizer=lambda rate: optax.sgd(rate))
    with pytest.raises(ValueError, match='optimizer is .*<lambda>: networks in a score table'):
        grouping.group_tasks(problem, dataset, 2, grouping.hoa(), config, scores=tmp_path / 'store')


def test_too_many_sets_are_refused_before_training(problem):
    names = tuple(f'task_{n}' for n in range(20))
    with pytest.raises(ValueError, match='20 tasks have 1048575 sets'):
        task_sets.all_sets(names)
    assert len(task_sets.all_sets(names, (1, 2))) == 210


SEARCH = """
    import sys
    sys.path.insert(0, {tests!r})
    from small import TASKS, make_problem, make_split
    from tag_jax import grouping
    from tag_jax.data import Dataset
    from tag_jax.training import TrainingConfig

    if __name__ == '__main__':
        points = Dataset('points', TASKS, make_split(512), make_split(200, 1), make_split(200, 2))
        config = TrainingConfig(
            steps=20, batch_size=64, learning_rate=1e-2, eval_every=10, slots=1, workers=1
        )
        grouping.group_tasks(
                make_problem(), points, 2, grouping.exhaustive(), config, {path!r}, resume=True
        )
"""


@pytest.mark.sweep  # Its short form: what is in the store is not trained again.
def test_a_search_that_is_killed_goes_on(problem, dataset, tmp_path):
    """Its store is that of an unbroken one, but for times; what had finished is not repeated."""
    config = dataclasses.replace(CONFIG, slots=1, workers=1)
    grouping.group_tasks(problem, dataset, 2, grouping.exhaustive(), config, tmp_path / 'unbroken')
    path = tmp_path / 'broken'
    rows = path / 'networks' / 'networks.jsonl'
    code = textwrap.dedent(
        SEARCH.format(tests=os.path.dirname(os.path.dirname(__file__)), path=str(path))
    )
    for least in (1, 4):
        with subprocess.Popen([sys.executable, '-c', code]) as process:
            while not rows.exists() or rows.read_text().count('\n') < least:
                assert process.poll() is None
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
    kept = rows.read_text()
    grouping.group_tasks(problem, dataset, 2, grouping.exhaustive(), config, path, resume=True)
    assert rows.read_text().startswith(kept[: kept.rfind('\n') + 1])
    lines = {}
    for run in ('unbroken', 'broken'):
        read = storage.read_records(tmp_path / run / 'networks' / 'networks.jsonl')
        lines[run] = [{**row, 'seconds': None} for row in read]
    assert lines['broken'] == lines['unbroken']
