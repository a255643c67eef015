import json

import numpy as np
import pytest

from tag_jax import affinity
from tag_jax.runs import affinity_files, storage, workdir

NAMES = ('a', 'b', 'c')
MATRIX = np.array([[0.0, 1.0, -2.0], [3.0, 0.0, 4.0], [5.0, 6.0, 0.0]])


def test_a_folder_holds_one_run(tmp_path):
    path = workdir.open_run(tmp_path / 'deep' / 'run', {'budget': 2})
    assert storage.read_json(path / 'config.json') == {'budget': 2}
    with pytest.raises(ValueError, match='already holds a run'):
        workdir.open_run(path, {'budget': 2})
    workdir.open_run(path, {'budget': 2, 'versions': {'jax': '1'}}, resume=True)
    with pytest.raises(ValueError, match=r'other settings \(budget was 2 and is 3\)'):
        workdir.open_run(path, {'budget': 3}, resume=True)
    assert storage.read_json(path / 'config.json')['budget'] == 2


def test_a_table_is_to_be_read_as_before_wherever_it_lies(tmp_path):
    """Runs that do not say how, of old and out of Python, go on."""
    path, before = tmp_path / 'run', {'table_file': 'a.csv', 'table': {'groups': 'patient'}}
    workdir.open_run(path, before)
    workdir.open_run(path, {**before, 'table_file': 'elsewhere/a.csv'}, resume=True)
    for other in ({'groups': 'site'}, {'stratify': 'ill'}):
        with pytest.raises(ValueError, match=r'\(table.groups was patient and is (site|N)'):
            workdir.open_run(path, {**before, 'table': other}, resume=True)
    workdir.open_run(path, {}, resume=True)
    workdir.open_run(path, before, resume=True)
    assert storage.read_json(path / 'config.json') == before


def test_resuming_where_there_is_no_run_starts_one_and_says_so(tmp_path, caplog):
    assert (workdir.open_run(tmp_path, {}, resume=True) / 'config.json').exists()
    assert caplog.messages == [f'there is no run in {tmp_path} to go on with: a new one begins']
    caplog.clear()
    workdir.open_run(tmp_path, {}, resume=True)
    workdir.open_run(tmp_path / 'new', {})
    assert not caplog.messages


def test_any_file_of_a_run_is_protected(tmp_path):
    (tmp_path / 'affinity.npz').write_bytes(b'precious')
    with pytest.raises(ValueError, match='already holds a run'):
        workdir.open_run(tmp_path, {})
    assert (tmp_path / 'affinity.npz').read_bytes() == b'precious'


def test_a_run_without_its_settings_cannot_be_continued(tmp_path):
    (tmp_path / 'results.json').write_text('{}')
    with pytest.raises(ValueError, match='no readable config.json'):
        workdir.open_run(tmp_path, {}, resume=True)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='cannot write to the workdir .*file/run'):
        workdir.open_run(tmp_path / 'file' / 'run', {})
    with pytest.raises(OSError, match='cannot write to the workdir .*file'):
        workdir.open_run(tmp_path / 'file', {})


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match='JSON'):
        storage.write_json(tmp_path / 'x.json', {'loss': float('nan')})
    assert not list(tmp_path.iterdir())


def test_json_takes_the_numbers_of_numpy(tmp_path):
    storage.write_json(tmp_path / 'x.json', {'a': np.float32(0.5), 'b': np.int64(3)})
    assert storage.read_json(tmp_path / 'x.json') == {'a': 0.5, 'b': 3}


def test_records(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    assert storage.read_records(path) == []
    storage.append_record(path, {'step': 1})
    storage.append_record(path, {'step': 2})
    with open(path, 'a') as file:
        file.write('{"step": 3')
    assert storage.read_records(path) == [{'step': 1}, {'step': 2}]
    storage.write_records(path, [{'step': 1}])
    assert json.loads(path.read_text()) == {'step': 1}


def test_affinities_come_back_in_the_order_that_is_asked_for(tmp_path):
    statistics = affinity.AffinityStatistics(NAMES, (0, 10), (MATRIX - 1, MATRIX + 1))
    affinity_files.write_affinity(tmp_path / 'affinity.npz', affinity.summary(statistics))
    with np.load(tmp_path / 'affinity.npz') as file:
        assert set(file) == set(affinity.AffinitySummary._fields)
        np.testing.assert_array_equal(file['steps'], [0, 10])
        assert file['history'].shape == (2, 3, 3)
    table = tmp_path / 'affinity.csv'
    table.write_text('\ufeffsource,a,b,c\nb,3,0,4\na,0,1,-2\n\nc, 5, 6, 0\n')
    order = [2, 0, 1]
    for path in (tmp_path / 'affinity.npz', table):
        np.testing.assert_allclose(affinity_files.read_affinity(path, NAMES)['mean'], MATRIX)
        found = affinity_files.read_affinity(path, [NAMES[n] for n in order])
        np.testing.assert_allclose(found['mean'], MATRIX[np.ix_(order, order)])
        assert found['task_names'] == ('c', 'a', 'b')
    found = affinity_files.read_affinity(tmp_path / 'affinity.npz', ['c', 'a', 'b'])
    np.testing.assert_allclose(found['history'][1], (MATRIX + 1)[np.ix_(order, order)])
    np.testing.assert_array_equal(found['steps'], [0, 10])
    arrays = affinity_files.read_affinity(tmp_path / 'affinity.npz')
    assert affinity.AffinitySummary(**arrays).task_names == NAMES


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('x.txt', '', 'neither .npz nor .csv'),
        ('x.csv', '', 'its first row must be the names of the target tasks'),
        ('x.csv', 'source;a;b;c\na;0;1;2\n', 'its first row must be the names'),
        ('x.csv', 'source,a,b,c\na,0\n', "the row 'a' has 1 values, not 3"),
        (
            'x.csv',
            'source,a,b,c\na,0,much,1\n',
            "in the row 'a', under 'b': 'much' is not a number",
        ),
        ('x.csv', 'source,a,b\na,0,1\nb,1,0\n', "the task 'c' is missing"),
        ('x.csv', 'source,a,b,c\na,0,1,2\nb,0,1,2\n', "the task 'c' is missing"),
        ('x.csv', 'source,a,b,c,d\na,0,1,2,3\nb,0,1,2,3\nc,0,1,2,3\n', "'d' is not one of the"),
        ('x.csv', 'source,a,b,c\na,0,1,2\nb,0,1,2\nc,0,1,2\na,0,1,2\n', 'a task occurs twice'),
        ('x.npz', 'nothing', 'it is not an .npz archive'),
    ],
)
def test_files_without_affinities_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        affinity_files.read_affinity(tmp_path / name, NAMES)
    assert name in str(raised.value)


def test_archives_without_affinities_are_named(tmp_path):
    for arrays, message in (
        ({'mean': MATRIX}, "it has no entry 'task_names'"),
        ({'task_names': NAMES}, "it has no entry 'mean'"),
        ({'mean': MATRIX[:2], 'task_names': NAMES}, r'3 tasks, and mean of shape \[2, 3\]'),
    ):
        np.savez(tmp_path / 'x.npz', **arrays)
        with pytest.raises(ValueError, match=message):
            affinity_files.read_affinity(tmp_path / 'x.npz', NAMES)
    np.save(tmp_path / 'y.npy', MATRIX)
    (tmp_path / 'y.npy').rename(tmp_path / 'y.npz')
    with pytest.raises(ValueError, match='it is not an .npz archive'):
        affinity_files.read_affinity(tmp_path / 'y.npz', NAMES)
    with pytest.raises(FileNotFoundError, match='there is no file of affinities .*nowhere.npz'):
        affinity_files.read_affinity(tmp_path / 'nowhere.npz', NAMES)
