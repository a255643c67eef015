"""Networks of searches that an executor trains."""

import dataclasses
import multiprocessing
import os
import pathlib
import pickle
import signal
import sys
import threading
from concurrent import futures

import pytest
from small import TASKS, make_problem

from tag_jax import cluster, comparison, grouping
from tag_jax.grouping import remote
from tag_jax.grouping.run import Run, plan
from tag_jax.runs import score_table, workdir
from tag_jax.training import TrainingConfig

CONFIG = TrainingConfig(steps=20, batch_size=64, learning_rate=1e-2, eval_every=10, slots=2)
SETS = 2 ** len(TASKS) - 1


def rows(folder):
    """The rows of a score table by their tasks; times are those of the machine."""
    with score_table.ScoreTable(folder, {}) as table:
        return {tuple(row['tasks']): {**row, 'seconds': None} for row in table.rows()}


@pytest.fixture(scope='module')
def alone(problem, dataset, tmp_path_factory):
    """The rows of a search, trained by threads of this process."""
    path = tmp_path_factory.mktemp('alone')
    grouping.group_tasks(problem, dataset, 2, grouping.exhaustive(), CONFIG, scores=path)
    return rows(path)


@pytest.fixture(scope='module')
def processes():
    with cluster.executor('processes:2') as executor:
        yield executor


def test_a_cluster_whose_package_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    for where in ('ray', 'ray://head:10001'):
        with pytest.raises(ImportError, match=r"Ray is not installed: pip install 'tag-jax\[clus"):
            cluster.check(where)
        with pytest.raises(ImportError, match='Ray is not installed'), cluster.executor(where):
            pass


def test_processes_train_the_same_networks_bit_for_bit(
    alone, problem, dataset, processes, tmp_path
):
    records, networks = [], []
    asked = problem, dataset, 2, grouping.exhaustive(), CONFIG
    found = grouping.group_tasks(
        *asked,
        scores=tmp_path,
        executor=processes,
        on_record=records.append,
        on_finish=networks.append,
    )
    assert rows(tmp_path) == alone
    assert {path.name for path in tmp_path.rglob('*')} <= {
        *(score_table.SUBJECT, score_table.ROWS, score_table.LOCK, workdir.RUNNING)
    }, 'nothing is left of the jobs'
    searched = [one for one in networks if one.params is None]
    assert len(searched) == SETS
    assert len([one for one in networks if one.params is not None]) == len(networks) - SETS > 0
    of_searched = {one.plan.name for one in searched}
    assert len([one for one in records if one.network in of_searched]) == 2 * SETS
    assert found.groups == grouping.group_tasks(*asked, scores=tmp_path).groups


@pytest.mark.sweep  # Its short form: processes train the same networks.
def test_a_comparison_by_processes(problem, dataset, processes):
    methods = [grouping.tag(), grouping.esa(fraction=0.5)]
    asked = problem, dataset, methods, [2], CONFIG
    one, other = (
        comparison.compare_groupings(*asked, seeds=1, executor=executor)
        for executor in (None, processes)
    )
    for a, b in zip(one.outcomes, other.outcomes, strict=True):
        assert a._replace(seconds=0) == b._replace(seconds=0)


@pytest.mark.sweep  # Its short form: processes train the same networks.
def test_closures_travel(problem, dataset, processes, tmp_path):
    """Encoders, losses and optimizers that no module names."""
    rate = 0.5

    def optimizer(learning_rate):
        return CONFIG.optimizer(rate * learning_rate)

    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    for name, executor in (('here', None), ('there', processes)):
        grouping.group_tasks(
            *(make_problem(widths=(4,)), dataset, 2, grouping.hoa(), config),
            scores=tmp_path / name,
            executor=executor,
        )
    assert rows(tmp_path / 'here') == rows(tmp_path / 'there')


def dies_once(flag, sent, settings, plans, folders):
    """`remote.train_job` in a process that is killed when its first network is done."""
    if not pathlib.Path(flag).exists():

        def watch():
            while not list(pathlib.Path(flag).parent.rglob('*.answer')):
                pass
            pathlib.Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
    return remote.train_job(sent, settings, plans, folders)


@pytest.mark.sweep  # Its short form: processes train the same networks.
def test_an_answer_outlives_its_worker(alone, problem, dataset, tmp_path):
    """The next search takes what the job of a worker that died had done, and trains the rest."""

    class Dying(futures.ProcessPoolExecutor):
        def submit(self, fn, *args):
            return super().submit(dies_once, str(tmp_path / 'died'), *args)

    config = dataclasses.replace(CONFIG, workers=1)
    asked = problem, dataset, 2, grouping.exhaustive(), config
    path = tmp_path / 'table'
    with (
        pytest.raises(OSError, match='a worker died .* the same command goes on'),
        Dying(1, multiprocessing.get_context('spawn')) as executor,
    ):
        grouping.group_tasks(*asked, scores=path, executor=executor)
    answers = list(path.rglob('*.answer'))
    assert answers
    left = [pickle.loads(one.read_bytes()).row['seconds'] for one in answers]
    grouping.group_tasks(*asked, scores=path, executor=futures.ThreadPoolExecutor(1))
    assert rows(path) == alone
    with score_table.ScoreTable(path, {}) as table:
        assert set(left) <= {row['seconds'] for row in table.rows()}, 'not trained again'
    assert not list(path.rglob('*.answer'))


def test_an_error_of_a_worker_ends_the_search(problem, dataset, processes, tmp_path):
    hot = dataclasses.replace(CONFIG, learning_rate=1e38)
    with pytest.raises(FloatingPointError, match='not finite'):
        grouping.group_tasks(
            *(problem, dataset, 2, grouping.hoa(), hot), scores=tmp_path, executor=processes
        )


def test_what_cannot_be_an_executor(problem, dataset):
    asked = problem, dataset, 2, grouping.hoa(), CONFIG
    with pytest.raises(ValueError, match=r'executor must be a concurrent.futures.Executor, not 3'):
        grouping.group_tasks(*asked, executor=3)
    locked = dataclasses.replace(CONFIG, optimizer=HoldsALock())
    with (
        pytest.raises(ValueError, match='cannot be sent to workers .*let no function hold a lock'),
        futures.ThreadPoolExecutor(1) as executor,
    ):
        grouping.group_tasks(*asked[:-1], locked, executor=executor)
    with pytest.raises(ValueError, match="no cluster 'processes:0': choose ray"):
        cluster.executor('processes:0').__enter__()


class HoldsALock:
    def __init__(self):
        self._lock = threading.Lock()

    def __call__(self, learning_rate):
        return CONFIG.optimizer(learning_rate)


@pytest.mark.sweep
def test_ray(alone, problem, dataset, tmp_path, monkeypatch):
    """Its workers train the same networks; a task whose worker is killed is tried again."""
    pytest.importorskip('ray')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))  # Of this file.
    asked = problem, dataset, 2, grouping.exhaustive(), dataclasses.replace(CONFIG, workers=1)
    with cluster.executor('ray', {'num_cpus': 1}) as executor:

        class Dying(futures.Executor):
            def submit(self, fn, *args):
                return executor.submit(dies_once, str(tmp_path / 'died'), *args)

        grouping.group_tasks(*asked, scores=tmp_path / 'table', executor=Dying())
    assert (tmp_path / 'died').exists()
    assert rows(tmp_path / 'table') == alone


@pytest.mark.sweep  # Its short form: processes train the same networks.
def test_a_job_is_as_many_networks_as_train_side_by_side(problem, dataset):
    sizes = []

    class Counting(futures.Executor):
        def submit(self, fn, sent, settings, plans, folders):
            sizes.append(len(plans))
            found = futures.Future()
            found.set_result([])
            return found

    run = Run(problem, dataset, CONFIG, '', 1, None)
    plans = [plan(run, str(n), (task,)) for n, task in enumerate(TASKS)]
    remote.Workers(Counting(), run).train_rows(run, plans, {}, print, print)
    assert sizes == [2, 1]
