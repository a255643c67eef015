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
        assert table.claim(specification('a'))
        table.add(specification('a'), result(a=1.5))
        table.add(specification('a', seed=1), result(a=2.5))
        assert table.find(specification('a'))['validation'] == {'a': {'error': 1.5}}
        assert not table.claim(specification('a')), 'it is there already'
        assert [row['seed'] for row in table.rows()] == [0, 1]
    if kept:
        with score_table.ScoreTable(path, SUBJECT) as table:
            assert table.find(specification('a', seed=1))['validation'] == {'a': {'error': 2.5}}


def in_another_process(path, code):
    begin = f"""
        from tag_jax.runs import score_table
        table = score_table.ScoreTable({str(path)!r}, {SUBJECT})
        one = lambda *tasks: {{'tasks': list(tasks), 'seed': 0}}
    """
    code = textwrap.dedent(begin) + code
    return subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_processes_share_the_work(tmp_path):
    """A claim holds until its row is written, or its process is gone, however it went."""
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        assert table.claim(specification('a'))
        code = 'print(table.claim(one("a")), table.claim(one("b")), flush=True); input()'
        other = in_another_process(tmp_path, code)
        assert other.stdout.readline().split() == ['False', 'True']
        assert not table.claim(specification('b'))
        other.kill()
        other.communicate()
        assert table.claim(specification('b'))
        table.add(specification('a'), result(a=1.0))
        other = in_another_process(tmp_path, 'print(table.find(one("a"))["cost"])')
        assert other.communicate()[0].strip() == '1.0'


def test_processes_may_open_a_new_score_table_together(tmp_path):
    started = [in_another_process(tmp_path / 'new', 'print(len(table.rows()))') for _ in range(4)]
    assert [process.communicate()[0].strip() for process in started] == ['0'] * 4


def test_rows_of_other_processes_are_seen(tmp_path):
    with score_table.ScoreTable(tmp_path, SUBJECT) as table:
        table.add(specification('a'), result(a=1.0))
        code = f'table.add(one("b"), {result(b=2.0)})'
        in_another_process(tmp_path, code).communicate()
        assert table.find(specification('b'))['test'] == {'b': {'error': 2.0}}
        assert not table.claim(specification('b'))
        assert len(table.rows()) == 2


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
