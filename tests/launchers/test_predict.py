"""`tag-jax predict`, on a run of `tag-jax group`, through the real commands."""

import csv
import shutil
import subprocess
import sys

import numpy as np
import pandas
import pyarrow
import pytest
from launching import ENVIRONMENT, WARNINGS, files, tag_jax
from pyarrow import parquet
from small import make_problem

from tag_jax import data, grouping, objectives
from tag_jax.runs import storage, workdir
from tag_jax.training import TrainingConfig

FLAGS = """
# How the table is read.
--table=t.csv
--targets=score,grade
--groups=patient
--kinds=visit:number,part:text
--delimiter=;
--decimal=,
--missing=weight:-9
--leave_out=site
--workdir=run
"""
QUICK = ('--steps=20', '--eval_every=10', '--affinity_every=10', '--batch_size=32', '--widths=4')
ASKED = f'--flagfile=t.flags {" ".join(QUICK)}'.split()
NAMES = ('patient', 'site', 'age', 'weight', 'colour', 'visit', 'part', 'score', 'grade')


def rows():
    """Rows of a table, as text, with a comma for a decimal point."""
    rng = np.random.default_rng(0)
    for n in range(80):
        numbers = [f'{x:.2f}'.replace('.', ',') for x in rng.normal(50, 10, 3)]
        weight = '-9' if n % 9 == 0 else numbers[1]
        colour, part = rng.choice(['red', 'blue']), str(1 + n % 2)
        visit = f'2024-{n % 12 + 1:02}-{n % 28 + 1:02}'
        grade = ('I', 'II', 'IV')[n % 3]
        yield [f'0{n // 2}', 'x', numbers[0], weight, colour, visit, part, numbers[2], grade]


def write(path, lines, names=NAMES):
    with open(path, 'w', newline='') as file:
        csv.writer(file, delimiter=';').writerows([names, *lines])
    return path


def read(path):
    """The rows of a file of answers, as dicts."""
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a table, a run on it, and new rows."""
    here = tmp_path_factory.mktemp('here')
    lines = list(rows())
    write(here / 't.csv', lines)
    (here / 't.flags').write_text(FLAGS)
    done = tag_jax('group', *ASKED, cwd=here)
    assert done.returncode == 0, done.stderr
    write(here / 'new.csv', [line[:7] for line in lines[:6]], NAMES[:7])
    return here


@pytest.mark.sweep  # Its short form: a run goes on with the same table only.
def test_the_run_says_how_its_rows_were_read_and_split(folder):
    config = storage.read_json(folder / 'run' / workdir.CONFIG)
    assert config['table_file'] == 't.csv'
    assert config['table'] == {
        'targets': ['score', 'grade'],
        'groups': 'patient',
        'kinds': ['visit:number', 'part:text'],
        'delimiter': ';',
        'decimal': ',',
        'missing': ['weight:-9'],
        'leave_out': ['site'],
    }
    expanded = [line for line in FLAGS.splitlines() if line[:2] == '--' and 'workdir' not in line]
    expanded[4] = "'--delimiter=;'"
    assert config['command'] == f'tag-jax group {" ".join([*expanded, *QUICK])}'
    page = (folder / 'run' / 'report.html').read_text()
    assert 'groups patient' in page
    assert '--groups=patient' in page
    assert 'flagfile' not in page


@pytest.mark.sweep
def test_a_run_goes_on_with_the_same_table_only(folder, tmp_path):
    """Wherever the file lies; and also where an older version did not say how it was read."""
    shutil.copytree(folder / 'run', tmp_path / 'run')
    (tmp_path / 'moved').mkdir()
    shutil.copy(folder / 't.csv', tmp_path / 'moved')
    (tmp_path / 't.flags').write_text(FLAGS.replace('=t.csv', '=moved/t.csv'))
    path = tmp_path / 'run' / workdir.CONFIG
    before = storage.read_json(path)
    storage.write_json(path, {k: v for k, v in before.items() if k[:5] != 'table'})
    for _ in range(2):
        done = tag_jax('group', *ASKED, '--resume', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    after = storage.read_json(path)
    assert after['table_file'] == 'moved/t.csv'
    assert after['table'] == before['table']
    done = tag_jax('group', *ASKED, '--resume', '--stratify=grade', cwd=tmp_path)
    assert done.returncode == 2
    assert 'table.stratify was None and is grade' in done.stderr


def test_answers_are_those_of_the_run_in_a_file_beside_the_table(folder):
    """In a process of its own, as users have it."""
    done = subprocess.run(
        [sys.executable, *WARNINGS, '-m', 'tag_jax', 'predict', 'run', 'new.csv'],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'answers: new_answers.csv\n'
    assert done.stderr == '', 'these rows are like those of training'
    found = read(folder / 'new_answers.csv')
    expected = grouping.load(folder / 'run').predict(folder / 'new.csv')
    assert list(found[0]) == ['score', 'grade']
    assert [row['grade'] for row in found] == expected['grade'].tolist()
    np.testing.assert_allclose([float(row['score']) for row in found], expected['score'], 1e-6)
    again = tag_jax('predict', 'run', 'new.csv', cwd=folder)
    assert again.returncode == 2
    assert 'new_answers.csv is there already' in again.stderr


def test_columns_are_kept_and_classes_have_probabilities(folder):
    flags = ('--run=run', '--table=new.csv', '--keep=patient,visit', '--out=all.csv')
    done = tag_jax('predict', *flags, '--probabilities', cwd=folder)
    assert done.returncode == 0, done.stderr
    found = read(folder / 'all.csv')
    classes = ['grade: I', 'grade: II', 'grade: IV']
    assert list(found[0]) == ['patient', 'visit', 'score', 'grade', *classes]
    assert [row['patient'] for row in found] == ['00', '00', '01', '01', '02', '02']
    assert found[0]['visit'] == '2024-01-01'
    expected = grouping.load(folder / 'run').predict_proba(folder / 'new.csv')['grade']
    chances = [[float(row[name]) for name in classes] for row in found]
    np.testing.assert_allclose(chances, expected, rtol=1e-6)
    again = tag_jax('predict', *flags, '--overwrite', cwd=folder)
    assert again.returncode == 0, again.stderr
    assert list(read(folder / 'all.csv')[0]) == ['patient', 'visit', 'score', 'grade']


def test_a_bad_cell_is_named_and_its_mend_works(folder):
    """Beside what the run took for missing, which goes on being so."""
    lines = [line[:7] for line in list(rows())[:6]]
    lines[3][2] = 'fifty'
    assert lines[0][3] == '-9'
    write(folder / 'bad.csv', lines, NAMES[:7])
    done = tag_jax('predict', 'run', 'bad.csv', cwd=folder)
    assert done.returncode == 2
    assert "row 4 of the column 'age' is 'fifty'" in done.stderr
    assert '--missing=age:fifty' in done.stderr
    assert 'kind' not in done.stderr, 'the networks were trained on numbers'
    done = tag_jax('predict', 'run', 'bad.csv', '--missing=age:fifty', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 of 6 rows of 'age' have no value (first row 4)" in done.stderr
    assert 'weight' not in done.stderr
    bad, good = (read(folder / f'{name}_answers.csv') for name in ('bad', 'new'))
    assert [one == other for one, other in zip(bad, good, strict=True)].count(False) == 1


def test_another_format_by_flags_and_typed_columns(folder, tmp_path):
    lines = [line[:7] for line in list(rows())[:6]]
    with open(tmp_path / 'new.csv', 'w') as file:
        for line in (NAMES[:7], *lines):
            file.write('|'.join(line).replace(',', '.') + '\n')
    columns = dict(zip(NAMES, zip(*lines, strict=False), strict=False))
    for name in ('age', 'weight'):
        columns[name] = [float(cell.replace(',', '.')) for cell in columns[name]]
    columns['visit'] = np.array(columns['visit'], 'datetime64[ms]')
    parquet.write_table(pyarrow.table(columns), tmp_path / 'typed.parquet')
    expected = grouping.load(folder / 'run').predict(folder / 'new.csv')['score']
    for flags in (['new.csv', '--delimiter=|', '--decimal=.'], ['typed.parquet']):
        arguments = (str(folder / 'run'), *flags, '--out=out.csv', '--overwrite', '--keep=visit')
        done = tag_jax('predict', *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = read(tmp_path / 'out.csv')
        np.testing.assert_allclose([float(row['score']) for row in found], expected, rtol=1e-6)
        assert found[1]['visit'] == '2024-02-02'


@pytest.fixture(scope='module')
def others(folder):
    """What is no run that answers rows of a table."""
    (folder / 'empty').mkdir()
    workdir.open_run(folder / 'begun', {})
    workdir.open_run(folder / 'compared', {'budgets': [2], 'command': 'tag-jax compare'})
    storage.write_json(folder / 'compared' / workdir.RESULTS, {'outcomes': []})
    shutil.copytree(folder / 'run', folder / 'arrays')
    inputs, labels = np.zeros((30, 4, 4, 1)), {'y': np.arange(30) % 2}
    images = data.from_arrays(inputs, labels, {'y': objectives.binary()})
    encoding = data.encoding.to_json(images.encoding)
    storage.write_json(folder / 'arrays' / workdir.ENCODING, encoding)
    write(folder / 'less.csv', [line[:6] for line in rows()], NAMES[:6])
    return folder


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['nowhere', 'new.csv'], 'there is no folder nowhere'),
        (['empty', 'new.csv'], 'empty holds no finished run'),
        (['begun', 'new.csv'], 'goes on with --workdir=begun --resume'),
        (['compared', 'new.csv'], 'compared holds no grouping of tasks'),
        (['arrays', 'new.csv'], 'arrays was not trained on columns'),
        (['run'], 'name the folder of a run and a table: tag-jax predict RUN TABLE'),
        (['run', 'new.csv', 'x'], "there is no use for 'x'"),
        (['run', 'no.csv'], 'there is no table no.csv'),
        (['run', 'less.csv'], "less.csv has no column 'part', which is an input: it has patient"),
        (['run', 'new.csv', '--keep=patients'], "--keep names the column 'patients', and new.csv"),
        (['run', 'new.csv', '--missing=ag:x'], "--missing names the column 'ag', and new.csv"),
        (['run', 't.csv', '--keep=grade'], '--keep=grade would stand beside the answers'),
        (['run', 'new.csv', '--out=x.txt'], '--out must be a .csv file, not x.txt'),
        (['run', 'new.csv', '--out=no/x.csv'], 'there is no folder no for the answers'),
        (['run', 'new.csv', '--out=t.csv'], 't.csv is there already: name another file'),
        (['run', 'new.csv', '--out=new.csv', '--overwrite'], 'new.csv is the table itself'),
        (['run', 'new.csv', '--targets=a'], '--targets'),
    ],
)
def test_bad_input_ends_with_one_sentence(others, arguments, sentence):
    if '--out' not in ''.join(arguments):
        arguments = [*arguments, '--out=other.csv']
    before = files(others)
    done = tag_jax('predict', *arguments, cwd=others)
    assert done.returncode == 2, done
    assert done.stderr.startswith('error: ')
    assert sentence in done.stderr
    assert done.stderr.count('\n') == 1, done.stderr
    assert done.stdout == ''
    assert files(others) == before


def test_several_labels_have_columns_of_their_names(tmp_path):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(rng.normal(size=(60, 2)), columns=['x', 'y'])
    weather = pandas.DataFrame({'sunny': frame['x'] > 0, 'windy': frame['y'] > 0}).astype(int)
    targets = {'weather': weather, 'sum': frame['x'] + frame['y']}
    tasks = {'weather': objectives.multilabel(2), 'sum': objectives.regression()}
    dataset = data.from_arrays(frame, targets, tasks)
    model = make_problem(tasks, (4,), 2)
    config = TrainingConfig(steps=4, eval_every=2, batch_size=8)
    grouping.group_tasks(model, dataset, 1, grouping.all_in_one(), config, tmp_path / 'run')
    frame.to_csv(tmp_path / 'new.csv', index=False)
    done = tag_jax('predict', 'run', 'new.csv', '--probabilities', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / 'new_answers.csv')
    labels = ['weather[sunny]', 'weather[windy]']
    assert list(found[0]) == [*labels, 'sum', 'weather: sunny', 'weather: windy']
    for row in found:
        for label, chance in zip(labels, ('weather: sunny', 'weather: windy'), strict=True):
            assert (row[label] == '1') == (float(row[chance]) > 0.5)
