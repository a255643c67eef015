import numpy as np
import pandas
import pytest

from tag_jax.selection import Candidates, read_candidates

NAN = np.nan


def candidates(**changes):
    fields = {
        'members': [[1, 1], [0, 1]],
        'scores': [[0.1, NAN], [NAN, 0.2]],
        'costs': [1, 0.5],
        'task_names': ('depth', 'edges'),
    }
    return Candidates(**fields | changes)


def test_fields():
    found = candidates()
    assert len(found) == 2
    assert found.members.dtype == bool
    assert found.scores.dtype == found.costs.dtype == np.float64
    assert found.network_names == ('network 0', 'network 1')
    assert repr(found) == 'Candidates(2 networks over 2 tasks)'
    assert found.take([1]).network_names == ('network 1',)
    assert found.take(found.costs == 1).costs.tolist() == [1]
    assert found.replace(costs=[2, 3]).costs.tolist() == [2, 3]


def test_arrays_are_copied_and_cannot_be_changed():
    scores = np.array([[0.1, NAN], [NAN, 0.2]])
    found = candidates(scores=scores)
    scores[0, 0] = 9
    assert found.scores[0, 0] == 0.1
    with pytest.raises(ValueError, match='read-only'):
        found.scores[0, 0] = 9


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'scores': [0.1, 0.2]}, r'scores must be \[networks, tasks\], not of shape \(2,\)'),
        ({'members': [[1, 1]]}, r'members are of shape \(1, 2\), scores of \(2, 2\)'),
        ({'members': [[1, 2], [0, 1]]}, 'members must be true or false'),
        ({'costs': [1]}, '2 networks need 2 costs'),
        ({'costs': [1, -1]}, "the cost of 'network 1' is -1.0: costs must be 0 or more"),
        ({'costs': [1, np.inf]}, "the cost of 'network 1' is inf"),
        ({'scores': [[0.1, np.inf], [NAN, 0.2]]}, "'network 0' on 'edges' is inf"),
        ({'scores': [[0.1, NAN], [0.3, 0.2]]}, "'network 1' has a score on 'depth', which it does"),
        ({'members': [[0, 0], [0, 1]], 'scores': [[NAN, NAN], [NAN, 1]]}, 'trains no task'),
        ({'task_names': ('a', 'a')}, "two tasks are called 'a'"),
        ({'task_names': ('a',)}, '2 tasks need 2 names, not 1'),
        ({'network_names': ('n', 'n')}, "two networks are called 'n'"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        candidates(**changes)


def test_from_a_table_of_trained_networks():
    found = Candidates.from_table(
        [
            {'name': 'both', 'tasks': ['depth', 'edges'], 'scores': {'depth': 0.1}, 'cost': 2},
            {'scores': {'edges': 0.2}},
        ]
    )
    assert found.task_names == ('depth', 'edges')
    assert found.network_names == ('both', 'network 1')
    assert found.members.tolist() == [[True, True], [False, True]]
    assert found.costs.tolist() == [2, 1]
    np.testing.assert_array_equal(found.scores, [[0.1, NAN], [NAN, 0.2]])
    with pytest.raises(ValueError, match="'network 0' names the task 'x', which is not among y"):
        Candidates.from_table([{'scores': {'x': 1}}], ['y'])
    with pytest.raises(ValueError, match="row 0 of the table has no 'scores'"):
        Candidates.from_table([{'tasks': ['a']}])
    with pytest.raises(ValueError, match='there is no network in the table'):
        Candidates.from_table([])
    for key in ('costs', 'scores ', 'split'):
        with pytest.raises(ValueError, match=f"row 1 of the table has a key '{key}': its keys"):
            Candidates.from_table([{'scores': {'a': 1}}, {'scores': {'a': 1}, key: 2}])
    with pytest.raises(ValueError, match=r'Candidates.from_csv\(path\) reads a CSV file'):
        Candidates.from_table(pandas.DataFrame({'network': ['N'], 'cost': [1], 'a': [0.5]}))
    with pytest.raises(ValueError, match=r'Candidates.from_csv\(path\) reads a CSV file'):
        Candidates.from_table('networks.csv')


def write(tmp_path, text):
    path = tmp_path / 'networks.csv'
    path.write_text(text)
    return path


def test_from_csv(tmp_path):
    path = write(
        tmp_path,
        '# a remark\nnetwork,cost_snt,split,depth,edges\n'
        'D,1,validation,0.1,\nD,1,test,0.11,\nDE,1,validation,0.2,0.3\nDE,1,test,0.21,0.31\n'
        'D,0.5,validation,0.15,\nD,0.5,test,0.16,\n',
    )
    splits = read_candidates(path)
    assert list(splits) == ['validation', 'test']
    test = Candidates.from_csv(path, 'test')
    assert test.network_names == ('D (cost 1)', 'DE', 'D (cost 0.5)')
    assert test.costs.tolist() == [1, 1, 0.5]
    np.testing.assert_array_equal(test.scores, [[0.11, NAN], [0.21, 0.31], [0.16, NAN]])
    np.testing.assert_array_equal(splits['validation'].members, test.members)
    with pytest.raises(ValueError, match="has no split 'early', only validation, test"):
        Candidates.from_csv(path, 'early')


def test_a_csv_file_as_spreadsheets_save_it(tmp_path):
    path = tmp_path / 'networks.csv'
    path.write_bytes(b'\xef\xbb\xbfnetwork,cost,a\r\nN,1,0.5\r\n')
    assert Candidates.from_csv(path).scores.tolist() == [[0.5]]


def test_a_csv_file_without_splits(tmp_path):
    path = write(tmp_path, 'network,cost,a\nN,1,0.5\n')
    assert Candidates.from_csv(path).scores.tolist() == [[0.5]]


def test_columns_that_are_no_tasks(tmp_path):
    path = write(tmp_path, 'network,cost,params,b,a,note\nN,1,9e6,0.5,,x\nM,1,9e6,,0.4,y\n')
    with pytest.raises(ValueError, match="note: 'x' is not a number; if this column is no task"):
        read_candidates(path)
    found = Candidates.from_csv(path, tasks=['a', 'b'])
    assert found.task_names == ('a', 'b')
    np.testing.assert_array_equal(found.scores, [[NAN, 0.5], [0.4, NAN]])
    only = Candidates.from_csv(path, tasks=['a'])
    assert only.network_names == ('M',)
    with pytest.raises(ValueError, match="no column of a task 'cost': choose from params, b, a"):
        Candidates.from_csv(path, tasks=['cost'])


def test_a_blank_of_one_split_is_trained_and_not_served_by_it(tmp_path):
    text = 'network,cost,split,a,b\nN,1,validation,0.1,\nN,1,test,0.2,0.3\n'
    found = Candidates.from_csv(write(tmp_path, text))
    assert found.members.tolist() == [[True, True]]
    np.testing.assert_array_equal(found.scores, [[0.1, NAN]])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'is no table of networks'),
        ('name,cost,a\nN,1,2\n', "no column 'network' among name, cost, a; .*split is optional"),
        ('network,costs,a\nN,1,2\n', "no column 'cost' among network, costs, a"),
        ('network;cost;a\nN;1;2\n', "its separator seems to be ';', not a comma"),
        ('network,cost,a,a\nN,1,2,3\n', 'no name twice'),
        ('network,cost,a\n', 'is no table of networks: no row follows'),
        ('network,cost\nN,1\n', 'needs a column with a name for each task'),
        ('network,cost,a,\nN,1,2,\n', 'needs a column with a name for each task'),
        ('network,cost,a\nN,1\n', 'network row 1 has 2 cells, not 3'),
        ('network,cost,a\nN,one,2\n', "network 'N', cost: 'one' is not a number"),
        ('network,cost,a\nN,,2\n', "the cost of 'N' is nan"),
        ('network,cost,a\nN,1,x\n', "network 'N', a: 'x' is not a number"),
        ('network,cost,a\nN,1,2\nN,1,2\n', "network 'N' of cost 1 stands twice"),
        (
            'network,cost,split,a\nN,1,v,2\nN,2,t,2\n',
            "'N' costs 1 for the split 'v' and 2 for another one: give all its rows one cost",
        ),
        ('network,cost,split,a\nN,1,v,2\nM,1,v,2\nN,1,t,2\n', "'M' has no row for the split 't'"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_candidates(write(tmp_path, text))
