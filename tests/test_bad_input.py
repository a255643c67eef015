"""Bad input to public functions: they work, or raise one line that names what is wrong."""

import math
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import ENVIRONMENT
from small import TASKS, make_problem, make_split

from tag_jax import data, evaluation, grouping, objectives, selection, training
from tag_jax.data import Dataset
from tag_jax.problem import MultiTaskProblem
from tag_jax.runs import affinity_files, workdir
from tag_jax.training import Measurement, TrainingConfig

PROBLEM, SPLIT = make_problem(), make_split(12)
CONFIG = TrainingConfig(steps=4, eval_every=2, affinity=Measurement(every=2))
GOOD = Dataset('points', TASKS, SPLIT, SPLIT, SPLIT)

NUMBERS = (
    st.integers() | st.floats() | st.sampled_from([0, 10**400, -(2**31), 2**32, 1e308, 5e-324])
)
ANYTHING = (
    NUMBERS
    | st.none()
    | st.booleans()
    | st.text(max_size=5)
    | st.lists(NUMBERS, max_size=3)
    | st.sampled_from([np.ones(2), np.array(3), np.float32(0.5), np.int8(3), b'x', {}, object, 1j])
)
ARRAYS = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    st.lists(st.sampled_from([0, 1, 2, 3, 12]), max_size=3).map(tuple),
    st.sampled_from(
        [bool, np.int8, np.int64, np.uint8, np.float16, np.float64, complex, str, object]
    ),
    st.sampled_from([0, 1, 2, 7, 100]),
)


class Began(Exception):
    """Training has begun: everything was checked."""


def refused(function, *arguments, **options):
    """What a call says that it refuses, or None if it works."""
    try:
        function(*arguments, **options)
    except (ValueError, TypeError) as error:
        sentence = str(error)
    except Began:
        return None
    else:
        return None
    assert sentence.strip()
    assert '\n' not in sentence
    return sentence


@settings(max_examples=150)
@given(st.sampled_from(sorted(TrainingConfig.__dataclass_fields__)), ANYTHING)
def test_settings_are_valid_or_named(name, value):
    if sentence := refused(TrainingConfig, **{name: value}):
        assert name in sentence


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('steps', 2**31),
        ('learning_rate', 1e308),
        ('learning_rate', 1e-320),
        ('learning_rate', 10**400),
        ('checkpoint_seconds', math.inf),
    ],
)
def test_what_could_not_be_computed_with_is_refused(name, value):
    assert name in refused(TrainingConfig, **{name: value})


def test_measurements_that_could_not_be_made_are_refused():
    assert 'affinity.window' in refused(Measurement, window=(0, 10**400))
    assert 'affinity.kind' in refused(Measurement, kind=['exact'])
    assert 'training.Measurement' in refused(TrainingConfig, affinity='exact')


def test_as_many_steps_as_there_can_be_are_checked_at_once():
    TrainingConfig(steps=2**31 - 1)
    assert 'nothing would be measured' in refused(
        TrainingConfig, steps=2**31 - 1, affinity=Measurement(every=2**31 - 1, window=(0.1, 1))
    )


@settings(max_examples=80)
@given(st.sampled_from(['inputs', 'mask', *TASKS]), ARRAYS)
def test_splits_fit_or_say_which_part_does_not(part, array):
    if part == 'inputs':
        split = SPLIT._replace(inputs=array)
    elif part == 'mask':
        split = SPLIT._replace(mask={'sign': array})
    else:
        split = SPLIT._replace(targets={**SPLIT.targets, part: array})
    if sentence := refused(evaluation.check_split, PROBLEM, split, 'training'):
        assert 'training split' in sentence


@settings(max_examples=40)
@given(st.sampled_from(['split', 'targets', 'mask']), ANYTHING)
def test_what_is_no_split_is_refused(part, value):
    split = value if part == 'split' else SPLIT._replace(**{part: value})
    sentence = refused(evaluation.check_split, PROBLEM, split, 'training')
    if sentence is None:
        assert part == 'mask'
        assert value is None or value == {}
    else:
        assert 'training split' in sentence


def of_own(wrap_loss=lambda loss: loss):
    """The problem with metrics that do not look at targets first."""
    tasks = {
        task: one._replace(
            loss=wrap_loss(one.loss), metric=objectives.Metric(one.metric.sums, one.metric.finish)
        )
        for task, one in PROBLEM.tasks.items()
    }
    return MultiTaskProblem(tasks, PROBLEM.init, PROBLEM.encode, PROBLEM.decode)


@pytest.mark.parametrize('labels', [[-1, 0], [0, 2], [0.0, 1.0]])
def test_labels_are_classes_whatever_the_metric(labels):
    targets = {**SPLIT.targets, 'sign': np.array(labels * 6)}
    sentence = refused(evaluation.check_split, of_own(), SPLIT._replace(targets=targets), 'test')
    assert "the targets of 'sign' will not do" in sentence
    assert evaluation.check_split(of_own(), SPLIT, 'test') is None


def test_a_loss_that_is_a_mean_is_refused():
    mean = lambda loss: lambda output, target: jnp.mean(loss(output, target))
    sentence = refused(evaluation.check_split, of_own(mean), SPLIT, 'test')
    assert "the loss of 'sign' must be one number for each example" in sentence


def test_one_class_only_can_be_trained():
    one = SPLIT._replace(targets={**SPLIT.targets, 'sign': np.zeros(12, np.int32)})
    found = grouping.group_tasks(
        PROBLEM, GOOD._replace(train=one, validation=one), 1, grouping.all_in_one(), CONFIG
    )
    assert np.isfinite(found.total_test_error)


@pytest.mark.sweep
@settings(max_examples=60)
@given(
    st.sampled_from([grouping.tag(), grouping.hoa(), grouping.verify(), grouping.random()]),
    st.sampled_from(['budget', 'affinity', 'train', 'resume']),
    ANYTHING | ARRAYS,
)
def test_methods_leave_nothing_behind_that_they_refuse(tmp_path_factory, method, what, value):
    folder = tmp_path_factory.getbasetemp() / 'nowhere'
    arguments = {'problem': PROBLEM, 'dataset': GOOD, 'budget': 2, 'config': CONFIG}
    if what == 'train':
        arguments['dataset'] = GOOD._replace(train=value)
    elif what == 'affinity':
        method = value
    elif what == 'budget':
        arguments[what] = value
    else:
        arguments |= {'budget': 0, 'resume': bool(np.size(value))}

    def run():
        way = grouping.from_affinities(method) if what == 'affinity' else method
        return grouping.group_tasks(method=way, workdir=folder, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, 'train_networks', _begin)
        try:
            sentence = refused(run)
        except OSError as error:
            sentence = str(error)
    if sentence is not None:
        assert not folder.exists(), sentence
    else:
        _clear(folder)


def _begin(*arguments, **options):
    raise Began


def _clear(folder):
    for path in sorted(folder.rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_devices_that_are_not_there_are_missed_before_a_folder_is_made(tmp_path):
    config = TrainingConfig(steps=4, mesh=(64, 64))
    sentence = refused(
        grouping.group_tasks, PROBLEM, GOOD, 2, grouping.tag(), config, tmp_path / 'run'
    )
    assert 'needs 4096 devices' in sentence
    assert not list(tmp_path.iterdir())


@settings(max_examples=60)
@given(ARRAYS | ANYTHING, ANYTHING)
def test_groups_of_anything(affinity, budget):
    if sentence := refused(selection.select_groups, affinity, 2):
        assert 'affinity' in sentence
    if sentence := refused(selection.select_groups, np.eye(3), budget):
        assert 'budget' in sentence


@settings(max_examples=60)
@given(ANYTHING)
def test_networks_within_anything(budget):
    candidates = selection.Candidates(np.ones((2, 2), bool), np.ones((2, 2)), [1.0, 1.0], 'ab')
    if sentence := refused(selection.select_networks, candidates, budget):
        assert 'budget' in sentence or 'no candidate that costs' in sentence


MAKERS = st.sampled_from(
    [objectives.classification, objectives.regression, objectives.segmentation, objectives.tokens]
)


@settings(max_examples=60)
@given(MAKERS, ANYTHING)
def test_sizes_of_objectives(make, size):
    if sentence := refused(make, size):
        assert 'must be an integer' in sentence


@settings(max_examples=60)
@given(ARRAYS, ARRAYS)
def test_archives_of_affinities(tmp_path_factory, mean, names):
    path = tmp_path_factory.getbasetemp() / 'any.npz'
    np.savez(path, mean=mean, task_names=names)
    if sentence := refused(affinity_files.read_affinity, path):
        assert 'any.npz holds no affinities' in sentence


@settings(max_examples=60)
@given(st.binary(max_size=60), st.sampled_from(['.csv', '.npz']))
def test_files_of_anything(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f'anything{suffix}'
    path.write_bytes(content)
    for read in (affinity_files.read_affinity, lambda path: data.table(path, ['a'])):
        if sentence := refused(read, path):
            assert 'anything' in sentence


def test_columns_are_lists():
    assert 'targets must be a list' in refused(data.table, 'x.csv', 'age')


_HELD = """
import sys
from tag_jax.runs import affinity_files, workdir
folder = workdir.open_run(sys.argv[1], {'budget': 2})
print('open', flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize('killed', [False, True])
def test_a_run_belongs_to_one_process_at_a_time(tmp_path, killed):
    run = tmp_path / 'run'
    command = [sys.executable, '-c', _HELD, str(run)]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as other:
        assert other.stdout.readline() == 'open\n'
        before = {path: path.read_bytes() for path in run.iterdir()}
        with pytest.raises(
            ValueError, match='another process is at work on the run in .*run: wait'
        ):
            workdir.open_run(run, {'budget': 2}, resume=True)
        assert {path: path.read_bytes() for path in run.iterdir()} == before
        other.kill() if killed else other.stdin.close()
        other.wait(60)
    workdir.open_run(run, {'budget': 2}, resume=True)
    assert sorted(path.name for path in run.iterdir()) == [workdir.LOCK, workdir.CONFIG]


def test_a_process_may_open_its_own_run_again(tmp_path):
    first = workdir.open_run(tmp_path / 'run', {})
    assert workdir.open_run(first, {}, resume=True) == first


def test_folders_that_cannot_be_runs(tmp_path):
    for name in ('x' * 300, 'a\0b'):
        with pytest.raises(OSError, match='cannot be a workdir .*choose another one'):
            workdir.open_run(tmp_path / name, {})
