"""How many networks train side by side, where that is measured."""

import dataclasses
import itertools
import json
import math
import shutil
from concurrent import futures

import numpy as np
import pytest
from small import TASKS

from tag_jax import grouping, training
from tag_jax.runs import score_table, storage
from tag_jax.training import MEASURE, NetworkPlan, TrainingConfig, measured

# As many network-steps as are worth measuring; no test trains them.
LARGE = TrainingConfig(steps=4000, batch_size=32, eval_every=20, workers=1, slots=MEASURE)
NETWORKS = 32
# What a search of the tests trains.
SEARCH = TrainingConfig(
    steps=20, batch_size=64, learning_rate=1e-2, eval_every=10, workers=1, slots=MEASURE
)


def never():
    raise AssertionError('nothing is to be measured')


def clock_of(*seconds):
    """A clock on which one call after another takes so many seconds."""
    moments = itertools.accumulate(itertools.chain.from_iterable((0.0, one) for one in seconds))
    return lambda: next(moments)


def choose(problem, dataset, clock, config=LARGE, networks=NETWORKS):
    return training.measured_slots(
        problem, dataset.train, dataset.validation, networks, config, clock
    )


def rounds_of(by_slots):
    """The seconds of all timed calls, by the milliseconds of a network-step in 8, 4 and 16 slots.

    Steps in a call are 20, and the first two calls are of the usual number: one compiles.
    """
    once = [1e-3 * by_slots[size] * 20 * size for size in (8, 4, 16)]
    return [2 * once[0], once[0], *once * measured.ROUNDS]


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('by_slots', 'slots'),
    [
        ({4: 1.0, 8: 1.0, 16: 0.8}, 16),
        ({4: 0.8, 8: 1.0, 16: 0.78}, 4),  # Sixteen are no faster than four, but for noise.
        ({4: 0.95, 8: 1.0, 16: 0.92}, 8),
    ],
)
def test_the_number_that_is_clearly_faster_is_chosen(problem, dataset, by_slots, slots):
    found = choose(problem, dataset, clock_of(*rounds_of(by_slots)))
    assert (found.slots, found.workers) == (slots, 1)
    assert found.milliseconds == {(size, 1): pytest.approx(by_slots[size]) for size in by_slots}


def test_a_busy_moment_does_not_choose():
    """One round of five was ten times as slow for the number that is best."""
    steady = {(8, 2): [1.0] * 5, (16, 2): [0.8, 8.0, 0.8, 0.8, 0.8]}
    assert measured.fastest(steady) == (16, 2)
    assert measured.fastest(steady | {(16, 2): [0.8, 8.0, 8.0, 8.0, 0.8]}) == (8, 2)


def test_threads_are_chosen_too():
    assert measured.fastest({(8, 4): [1.0], (8, 2): [0.7], (16, 2): [0.69]}) == (8, 2)


def test_what_would_take_too_long_is_not_measured(problem, dataset):
    """Compiling took as long as a large part of the search: the clock is not asked again."""
    found = choose(problem, dataset, clock_of(10.0, 0.1))
    assert found == (8, 1, {})


@pytest.mark.parametrize(
    'changes',
    [{'slots': 5}, {'steps': 40}, {'mesh': (2, 1)}],
    ids=['a number is given', 'a small search', 'a mesh'],
)
def test_nothing_is_measured(problem, dataset, changes):
    config = dataclasses.replace(LARGE, **changes)
    found = choose(problem, dataset, never, config)
    usual = dataclasses.replace(config, slots=changes.get('slots'))
    assert found.slots == training.num_slots(problem, NETWORKS, dataset.train.inputs, usual)
    assert not found.milliseconds
    assert choose(problem, dataset, never, networks=NETWORKS - 1).slots == 8


def test_convolutions_are_not_measured(convolutional_problem, dataset):
    assert choose(convolutional_problem, dataset, never).slots == 1


@pytest.fixture
def small_searches_measure(monkeypatch):
    monkeypatch.setattr(measured, 'LEAST_NETWORKS', 1)
    monkeypatch.setattr(measured, 'LEAST_NETWORK_STEPS', 1)
    monkeypatch.setattr(measured, 'MOST_SHARE', math.inf)


def lines(folder):
    return storage.read_records(folder / score_table.SLOTS)


def rows(folder):
    """The rows of a score table by their tasks; times are those of the machine."""
    with score_table.ScoreTable(folder, {}) as table:
        return {tuple(row['tasks']): {**row, 'seconds': None} for row in table.rows()}


def search(problem, dataset, config, path=None, method=None, **options):
    method = method or grouping.exhaustive()
    return grouping.group_tasks(problem, dataset, 2, method, config, path, **options)


def decree(folder, slots):
    """Rewrites the numbers that a table has recorded."""
    text = ''.join(json.dumps({**line, 'slots': slots}) + '\n' for line in lines(folder))
    (folder / score_table.SLOTS).write_text(text)


def test_a_search_keeps_what_it_measured(problem, dataset, tmp_path, small_searches_measure):
    """It is in the table, the networks are those of that number, and resuming obeys."""
    path = tmp_path / 'run'
    result = search(problem, dataset, SEARCH, path)
    program, searched = lines(path / 'networks')
    assert {size for size, _, _ in program['milliseconds']} == {4, 8, 16}
    assert program['slots'] == searched['slots']
    assert searched['networks'] == 2 ** len(TASKS) - 1
    assert 'networks' not in program
    found = rows(path / 'networks')
    assert {row['slots'] for row in found.values()} == {program['slots']}

    given = dataclasses.replace(SEARCH, slots=program['slots'])
    assert search(problem, dataset, given, tmp_path / 'given').groups == result.groups
    assert rows(tmp_path / 'given' / 'networks') == found
    assert not (tmp_path / 'given' / 'networks' / score_table.SLOTS).exists()

    kept = (path / 'networks' / score_table.ROWS).read_text().splitlines(keepends=True)[:2]
    (path / 'networks' / score_table.ROWS).write_text(''.join(kept))
    (path / 'results.json').unlink()
    decree(path / 'networks', 3)
    search(problem, dataset, SEARCH, path, resume=True)
    again = rows(path / 'networks')
    assert sorted(row['slots'] for row in again.values()) == sorted(
        [program['slots']] * 2 + [3] * (2 ** len(TASKS) - 3)
    )
    assert len(lines(path / 'networks')) == 2


@pytest.mark.sweep
def test_a_program_is_measured_once(problem, dataset, tmp_path, small_searches_measure):
    """Other searches in the same table take the same number, and workers of an executor do."""
    path = tmp_path / 'table'
    search(problem, dataset, SEARCH, method=grouping.hoa(), scores=path)
    decree(path, 5)
    with futures.ThreadPoolExecutor(1) as executor:
        search(problem, dataset, SEARCH, scores=path, executor=executor)
    _, pairs, everything = lines(path)
    assert everything['slots'] == 5
    assert everything['networks'] > pairs['networks']
    (all_,) = [row for tasks, row in rows(path).items() if tasks == tuple(TASKS)]
    assert all_['slots'] == 5


@pytest.mark.sweep
def test_a_search_without_a_folder_measures(problem, dataset, tmp_path, small_searches_measure):
    alone = search(problem, dataset, SEARCH)
    search(problem, dataset, SEARCH, tmp_path / 'run')
    assert alone.groups
    assert lines(tmp_path / 'run' / 'networks')


def test_threads_are_those_of_the_machine(
    problem, dataset, tmp_path, small_searches_measure, monkeypatch
):
    """The number of threads that another machine measured is not taken; that of slots is."""
    path, config = tmp_path / 'run', dataclasses.replace(SEARCH, workers=None)
    search(problem, dataset, config, path)
    shutil.rmtree(path / 'checkpoints')
    for name in (score_table.ROWS, '../results.json'):
        (path / 'networks' / name).unlink()
    text = ''.join(
        json.dumps({**line, 'slots': 3, 'cores': 999, 'workers': 99}) + '\n'
        for line in lines(path / 'networks')
    )
    (path / 'networks' / score_table.SLOTS).write_text(text)
    seen, train = [], training.train_networks
    monkeypatch.setattr(
        training, 'train_networks', lambda *a, **k: seen.append(a[4]) or train(*a, **k)
    )
    search(problem, dataset, config, path, resume=True)
    assert {(one.slots, one.workers) for one in seen if one.slots == 3} == {(3, None)}


@pytest.mark.sweep
def test_small_searches_are_as_they_were(problem, dataset, tmp_path):
    """Nothing is measured, or written, and networks are those of the usual number."""
    usual = dataclasses.replace(SEARCH, slots=None)
    for name, config in (('usual', usual), ('measure', SEARCH)):
        search(problem, dataset, config, scores=tmp_path / name)
        assert not (tmp_path / name / score_table.SLOTS).exists()
    assert rows(tmp_path / 'usual') == rows(tmp_path / 'measure')


def test_networks_alone(problem, dataset, small_searches_measure, tmp_path):
    """`train_networks` measures as well; with checkpoints the number has to be known."""
    plans = [NetworkPlan(task, (task,), 0, 1e-2) for task in TASKS]
    splits = dataset.train, dataset.validation
    networks = training.train_networks(problem, *splits, plans, SEARCH)
    assert [network.plan for network in networks] == plans
    assert all(
        np.isfinite(network.validation[t]['error'])
        for network in networks
        for t in network.plan.tasks
    )
    with pytest.raises(ValueError, match="slots='measure' and checkpoints do not go together"):
        training.train_networks(
            problem, *splits, plans, SEARCH, checkpoints=lambda plan: tmp_path / plan.name
        )


@pytest.mark.parametrize('slots', [0, 'mesure', 2.5])
def test_numbers_of_slots_out_of_range_are_named(slots):
    with pytest.raises(ValueError, match=f"slots must be 'measure' or an integer.* not {slots!r}"):
        TrainingConfig(slots=slots)


@pytest.mark.sweep
def test_a_dry_run_measures_nothing(problem, dataset, small_searches_measure, monkeypatch):
    """It tries the usual number, and says how long that takes."""
    monkeypatch.setattr(measured, 'make_work', never)
    tried = grouping.dry_run(problem, dataset, 2, grouping.exhaustive(), SEARCH)
    assert tried.seconds > 0
