"""The measurement of many small tasks, on made-up tables."""

import numpy as np
import pytest
from launching import check_sentences, launch, loaded

from tag_jax import grouping, models
from tag_jax.problem import from_nnx
from tag_jax.training import TrainingConfig

many_tasks = loaded('benchmarks.many_tasks')
QUICK = ('--steps=10', '--eval_every=5', '--batch_size=16', '--widths=4', '--seeds=2')


def columns(classes, size=40):
    """Inputs, and three tasks that share no row; of values, one is far from the others."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3 * size, 4)).astype(np.float32)
    values = inputs @ rng.normal(size=4) + rng.normal(size=3 * size)
    if classes:
        values = (values > 1).astype(float)
    found = {'x': inputs}
    for n in range(3):
        own = np.arange(3 * size) % 3 == n
        found[f'y{n}'] = np.where(own, values + (0 if classes else 50 * (n == 2)), np.nan)
    return found


@pytest.fixture(scope='module')
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tables')
    for classes, name in ((True, 'mines'), (False, 'schools')):
        np.savez(folder / f'{name}.npz', **columns(classes))
    shared = columns(True)
    shared['y1'] = np.where(np.isnan(shared['y1']), shared['y0'], shared['y1'])
    np.savez(folder / 'shared.npz', **shared)
    np.savez(folder / 'no_inputs.npz', y0=shared['y0'], y1=shared['y1'])
    np.savez(folder / 'blank.npz', **shared | {'y2': np.full(120, np.nan)})
    np.savez(folder / 'wide.npz', **columns(True) | {'y1': np.zeros((120, 2))})
    return folder


@pytest.mark.sweep
@pytest.mark.parametrize(
    ('name', 'measure'),
    [
        ('mines', 'ROC AUC'),
        pytest.param('schools', 'explained variance (%)', marks=pytest.mark.sweep),
        pytest.param('shared', 'ROC AUC', marks=pytest.mark.sweep),
    ],
)
def test_the_measurement_runs(tables, name, measure):
    done = launch('benchmarks.many_tasks', f'--table={name}.npz', *QUICK, cwd=tables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f'{name}: 120 rows, 3 tasks, 2 seeds' in lines
    assert lines[-5] == f'| | error (%) | {measure} | seconds |'
    ways = ['one network for all', 'random_even, budget 2', 'one network each']
    assert [line.split('|')[1].strip() for line in lines[-3:]] == ways
    for line in lines[-3:]:
        error, score = (list(map(float, cell.split('±'))) for cell in line.split('|')[2:4])
        assert error[0] > 0
        assert score[1] > 0, 'two seeds have two splits'


def test_every_task_is_split_alike(tables):
    table = many_tasks.read(tables / 'mines.npz')
    parts = many_tasks.split(table, 1)
    assert table.classes
    own = table.known.argmax(axis=1)
    label = np.nansum(table.labels, axis=1)
    for task in range(3):
        for value in (0, 1):
            some = parts[(own == task) & (label == value)]
            counts = np.array([np.sum(some == part) for part in many_tasks.PARTS])
            np.testing.assert_allclose(counts, np.array([0.6, 0.2, 0.2]) * len(some), atol=1)
    assert np.any(parts != many_tasks.split(table, 2))
    assert many_tasks.usable(table, parts) == [0, 1, 2]
    same = (own == 1) & (parts == 'test')
    labels = np.where(same[:, None] & table.known, 0, table.labels)
    constant = table._replace(labels=labels)
    assert many_tasks.usable(constant, parts) == [0, 2]
    dataset = many_tasks.load(constant, parts, [0, 2])
    assert list(dataset.tasks) == ['y0', 'y2']
    assert len(dataset.train.inputs) == np.sum((own != 1) & (parts == 'train'))


def test_rows_with_labels_of_several_tasks_are_split_together(tables):
    table = many_tasks.read(tables / 'shared.npz')
    parts = many_tasks.split(table, 0)
    counts = [np.sum(parts == part) for part in many_tasks.PARTS]
    assert counts == [72, 24, 24]
    dataset = many_tasks.load(table, parts, [0, 1, 2])
    both = dataset.train.mask['y0'] & dataset.train.mask['y1']
    known = table.known[parts == 'train']
    assert both.sum() == np.sum(known[:, 0] & known[:, 1]) > 0


def test_explained_variance_by_hand(tables):
    """From the answers of the networks, in natural units, over the rows of all tasks."""
    table = many_tasks.read(tables / 'schools.npz')
    parts = many_tasks.split(table, 0)
    dataset = many_tasks.load(table, parts, [0, 1, 2])
    model = from_nnx(
        lambda rngs: models.MLP(4, (4,), rngs=rngs), dataset.tasks, dataset.example_inputs
    )
    config = TrainingConfig(steps=20, batch_size=16, eval_every=10)
    result = grouping.group_tasks(model, dataset, 1, grouping.all_in_one(), config)
    test = parts == 'test'
    answers = result.predict(table.inputs[test])
    known = table.known[test]
    predicted = np.stack([answers[task] for task in table.tasks], axis=1)[known]
    labels = table.labels[test][known]
    expected = 1 - np.square(predicted - labels).sum() / np.square(labels - labels.mean()).sum()
    error, found = many_tasks.scores(table, parts, result)
    assert found == pytest.approx(100 * expected, rel=1e-4)
    assert error == pytest.approx(np.mean(list(result.test_error.values())))


def test_tables_of_another_kind_are_refused(tables):
    check_sentences(
        'benchmarks.many_tasks',
        [
            ([], '--table is needed: an .npz file with inputs x'),
            (['--table=blank.npz'], 'blank.npz has no label: leave it out'),
            (['--table=no_inputs.npz'], 'must hold inputs x and an array for each of two or more'),
            (['--table=wide.npz'], "must hold a label a row for 'y1'"),
            (['--table=none.npz'], 'none.npz'),
            (['--table=mines.npz', '--methods=best'], "there is no method called 'best'"),
        ],
        tables,
    )
