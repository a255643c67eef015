import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tag_jax import selection
from tag_jax.runs import score_table

SUBJECT = {'task_names': ['a', 'b'], 'train_data': '1'}


def specification(*tasks, seed=0):
    return {'tasks': list(tasks), 'seed': seed}


def result(**errors):
    scores = {task: {'error': error} for task, error in errors.items()}
    return {'cost': 1.0, 'validation': scores, 'test': scores}


@pytest.mark.parametrize('kept', [True, False])
def test_rows_are_found_by_what_they_were_trained_as(tmp_path, kept):
    path = tmp_path / 'table' if kept else None
    with score_table.ScoreTable(path, SUBJECT) as table:
        assert table.find(specification('a')) is None
        table.add(specification('a'), result(a=1.5))
        table.add(specification('a', seed=1), result(a=2.5))
        assert table.find(specification('a'))['validation'] == {'a': {'error': 1.5}}
        assert [row['seed'] for row in table.rows()] == [0, 1]
    if kept:
        with score_table.ScoreTable(path, SUBJECT) as table:
            assert table.find(specification('a', seed=1))['validation'] == {'a': {'error': 2.5}}


@pytest.mark.parametrize('kept', [True, False])
def test_estimates_are_found_by_how_they_were_made(tmp_path, kept):
    path = tmp_path / 'table' if kept else None
    candidates = selection.Candidates(
        np.array([[True, False], [True, True]]), np.array([[0.5, np.nan], [0.4, 0.3]]),
        np.array([1.0, 1.0]), task_names=('a', 'b'),
    )  # fmt: skip
    with score_table.ScoreTable(path, SUBJECT) as table:
        assert table.estimate({'ridge': 1.0}) is None
        table.add_estimate({'ridge': 1.0}, candidates, {'steps_taken': 8})
        assert table.estimate({'ridge': 1.0})[1] == {'ridge': 1.0, 'steps_taken': 8}
    if kept:
        with score_table.ScoreTable(path, SUBJECT) as table:
            assert table.estimate({'ridge': 2.0}) is None
            found, row = table.estimate({'ridge': 1.0})
        assert row['steps_taken'] == 8
        assert found.task_names == ('a', 'b')
        for name in ('members', 'scores', 'costs'):
            np.testing.assert_array_equal(getattr(found, name), getattr(candidates, name))


def test_what_does_not_last_is_not_written(tmp_path):
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        table.add(specification('a'), result(a=1.5), lasting=False)
        assert table.find(specification('a'))['cost'] == 1
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        assert table.rows() == []


@pytest.mark.variants(1)
@pytest.mark.parametrize('killed', [True, False])
def test_one_process_at_a_time_has_a_table_open(tmp_path, killed):
    """However it ends, the next one may open it."""
    code = f"""
        from tag_jax.runs import score_table
        table = score_table.ScoreTable({str(tmp_path)!r}, {SUBJECT})
        table.add({specification('a')}, {result(a=1.0)})
        print('open', flush=True)
        input()
        table.close()
    """
    command = [sys.executable, '-c', textwrap.dedent(code)]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == 'open\n'
        with pytest.raises(ValueError, match='the score table .* is in use: wait until'):
            score_table.ScoreTable(tmp_path, SUBJECT)
        other.kill() if killed else other.communicate('\n')
        other.wait(60)
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        assert [row['tasks'] for row in table.rows()] == [['a']]
        with pytest.raises(ValueError, match='is in use'):
            score_table.ScoreTable(tmp_path, SUBJECT)


def test_a_row_that_a_crash_cut_off_is_no_row(tmp_path):
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        table.add(specification('a'), result(a=1.0))
    file = tmp_path / score_table.ROWS
    whole = file.read_text()
    file.write_text(whole + whole[:40])
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        assert len(table.rows()) == 1
        table.add(specification('b'), result(b=2.0))
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        assert [row['tasks'] for row in table.rows()] == [['a'], ['b']]


def test_a_score_table_is_about_one_thing(tmp_path):
    score_table.ScoreTable(tmp_path / 'table', SUBJECT).close()
    with pytest.raises(ValueError, match=r'about another train_data \(1, and not 2\): choose'):
        score_table.ScoreTable(tmp_path / 'table', SUBJECT | {'train_data': '2'})
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='cannot write to the score table .*file .* choose'):
        score_table.ScoreTable(tmp_path / 'file', SUBJECT)


def test_rows_are_candidates_and_a_table_for_selection(tmp_path):
    rows = [
        {**specification('a', 'b'), **result(a=3.0, b=4.0), 'cost': 2.0},
        {**specification('b'), **result(b=5.0)},
        {**specification('b', seed=1), **result(b=6.0)},
    ]
    found = score_table.candidates(rows, ('a', 'b'))
    np.testing.assert_array_equal(found.scores, [[3, 4], [np.nan, 5], [np.nan, 6]])
    np.testing.assert_array_equal(found.costs, [2, 1, 1])
    score_table.write_csv(tmp_path / 'networks.csv', rows, ('a', 'b'))
    read = selection.read_candidates(tmp_path / 'networks.csv')
    assert list(read) == ['validation', 'test']
    for split in read.values():
        np.testing.assert_array_equal(split.scores, found.scores)
        np.testing.assert_array_equal(split.costs, found.costs)


def test_rows_are_json_without_nan(tmp_path):
    with (
        score_table.ScoreTable(tmp_path, SUBJECT) as table,
        pytest.raises(ValueError, match='JSON'),
    ):
        table.add(specification('a'), result(a=float('nan')))
    assert not (tmp_path / score_table.ROWS).exists()
