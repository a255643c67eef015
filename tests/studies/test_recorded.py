"""Recorded tables: what they hold, and searches that are answered from them."""

import dataclasses

import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import evaluation, grouping, training
from tag_jax.data import Dataset
from tag_jax.grouping import Searcher
from tag_jax.studies import recorded, recording
from tag_jax.studies.replay import RecordedTrainer
from tag_jax.training import Measurement, NetworkPlan, TrainingConfig

CONFIG = TrainingConfig(
    steps=40,
    batch_size=16,
    learning_rate=1e-2,
    eval_every=2,
    patience=0,
    select_by='relative_loss',
    affinity=Measurement(every=2),
)


@pytest.fixture(scope='module')
def datasets():
    splits = [[make_split(size, 10 * n + size) for size in (60, 40)] for n in range(3)]
    test = make_split(50, 99)
    return [Dataset(f'seed {n}', TASKS, *own, test) for n, own in enumerate(splits)]


@pytest.fixture(scope='module')
def problem():
    return make_problem(widths=(8, 4))


@pytest.fixture(scope='module')
def table(problem, datasets):
    sizes = {2.0: make_problem(widths=(16, 4)), 0.5: make_problem(widths=(4, 4))}
    about = {'data': {'source': 'made up'}}
    found = recording.record('points', problem, datasets, CONFIG, sizes, about, lambda text: None)
    return recording.estimated(found, problem, datasets, CONFIG)


@pytest.fixture(scope='module')
def read(table, tmp_path_factory):
    path = tmp_path_factory.mktemp('tables') / 'points.npz'
    recorded.write(path, table)
    return recorded.read(path)


@pytest.mark.sweep
def test_every_set_is_there_with_wider_and_narrower_networks(table):
    assert table.members[table.costs == 1].sum() == 12
    assert (table.costs == 1).sum() == 7
    assert table.members[table.costs == 2].tolist() == [[True] * 3]
    assert (table.members[table.costs == 0.5] == np.eye(3, dtype=bool)).all()
    assert table.seeds == 3
    for values in table.scores.values():
        assert values.shape == (3, 7, 11, 3)
        assert (np.isfinite(values) == table.members).all()


@pytest.mark.sweep
def test_a_network_of_a_table_is_the_one_that_is_trained(problem, datasets, table):
    """Another route: training it alone, and evaluating its best parameters."""
    config = dataclasses.replace(CONFIG, seed=1)
    names = problem.task_names[:2]
    plan = NetworkPlan('two', names, 1, CONFIG.learning_rate)
    data = datasets[1]
    (network,) = training.train_networks(problem, data.train, data.validation, [plan], config)
    test = evaluation.evaluate(problem, network.params, network.model_state, data.test, 64)
    place = table.members.tolist().index([True, True, False])
    best = len(table.shares) + recorded.BEST.index('relative_loss')
    assert table.best_steps[1, place, 1] == network.best_step
    for n, task in enumerate(names):
        for split, scores in (('validation', network.validation), ('test', test)):
            for measure in recorded.MEASURES:
                value = table.scores[split, measure][1, best, place, n]
                np.testing.assert_allclose(value, scores[task][measure], rtol=1e-3, atol=1e-3)
        relative = table.values('validation', 'relative_loss')[1, best, place, n]
        np.testing.assert_allclose(relative, network.validation[task]['relative_loss'], rtol=1e-3)


def test_a_table_is_read_as_it_was_written_to_half_precision(table, read):
    for key, values in table.scores.items():
        np.testing.assert_allclose(read.scores[key], values, rtol=1e-3)
    for kind, values in table.affinities.items():
        np.testing.assert_allclose(read.affinities[kind], values, rtol=1e-6)
    np.testing.assert_allclose(
        read.estimates['linearised'], table.estimates['linearised'], rtol=1e-3
    )
    for name in ('name', 'task_names', 'steps', 'shares', 'about'):
        assert getattr(read, name) == getattr(table, name)


def test_scores_that_do_not_fit_are_refused(table, tmp_path):
    values = table.scores['test', 'loss'].copy()
    values[0, 0, 0, 0] = 1e6
    wrong = table._replace(scores={**table.scores, ('test', 'loss'): values})
    with pytest.raises(ValueError, match='not finite or above 60000: scores are recorded in half'):
        recorded.write(tmp_path / 'a.npz', wrong)
    (tmp_path / 'b.npz').write_bytes(b'nothing')
    with pytest.raises(ValueError, match=r'b.npz is no recorded table'):
        recorded.read(tmp_path / 'b.npz')


def test_a_search_sees_the_scores_of_its_seed(read):
    searcher = Searcher(RecordedTrainer(read, 2))
    (one,) = searcher.networks([('sign', 'radius')])
    place = read.members.tolist().index([True, False, True])
    expected = read.values('validation', 'relative_loss')[2, -1, place]
    assert one.validation == {'sign': expected[0], 'radius': expected[2]}
    assert one.steps == read.steps == searcher.steps
    assert searcher.affinities().mean.shape == (3, 3)
    assert searcher.estimates('linearised', **recording.ESTIMATED).members.shape == (7, 3)


def test_a_brief_network_is_at_its_best_up_to_there(read):
    searcher = Searcher(RecordedTrainer(read, 0))
    sets = [tuple(np.array(read.task_names)[row]) for row in read.members[read.costs == 1]]
    values = read.values('validation', 'relative_loss')[0]
    for n, (half, whole) in enumerate(
        zip(searcher.networks(sets, 0.5), searcher.networks(sets), strict=True)
    ):
        assert half.steps == 20
        total, best = sum(half.validation.values()), sum(whole.validation.values())
        assert best <= total + 1e-9
        if read.best_steps[0, n, 1] <= 20:
            assert half.validation == whole.validation
        else:
            ends = [np.nansum(values[k, n]) for k, s in enumerate(read.shares) if s <= 0.5]
            assert total == pytest.approx(min(ends))


@pytest.mark.parametrize(
    ('ask', 'sentence'),
    [
        (lambda s: s.networks([('sign',)], 0.3), 'networks after 0.05, 0.1, 0.2, 0.5, 1 of'),
        (lambda s: s.networks([('sign',)], cost=3), 'no network for sign of cost 3'),
        (lambda s: s.networks([('sign',)], seed=5), "cannot have {'seed': 5}"),
        (lambda s: s.affinities(step='optimizer'), 'has no such affinities: it has exact, first'),
        (lambda s: s.affinities(learning_rate=1.0), 'has no such affinities'),
        (lambda s: s.estimates('linearised', bases=7), 'no estimates'),
    ],
)
def test_what_was_not_recorded_is_refused(read, ask, sentence):
    with pytest.raises(ValueError, match=sentence):
        ask(Searcher(RecordedTrainer(read, 0)))


def test_windows_of_affinities_are_parts_of_training(read):
    searcher = Searcher(RecordedTrainer(read, 1))
    late = searcher.affinities(kind='cosine', window=(0.5, 1.0))
    np.testing.assert_allclose(late.mean, read.affinities['cosine'][1, 5:].mean(axis=0), rtol=1e-5)


def test_recording_refuses_what_is_no_table(problem, datasets):
    for changes, sentence in (
        ({'patience': 3}, 'train to the end'),
        ({'eval_every': 3}, 'let eval_every divide'),
        ({'select_by': 'error'}, "select_by='relative_loss'"),
    ):
        config = dataclasses.replace(CONFIG, **changes)
        with pytest.raises(ValueError, match=sentence):
            recording.record('points', problem, datasets, config, {}, {})


def test_methods_search_a_table(read):
    for method in (
        *(grouping.tag(), grouping.cosine_similarity(), grouping.hoa(), grouping.esa()),
        *(grouping.subsets(count=5), grouping.exhaustive(), grouping.verify(proposals=3)),
        *(grouping.linearised(), grouping.recommended(wider=2.0), grouping.single_task(0.5)),
    ):
        proposal = method.propose(Searcher(RecordedTrainer(read, 0)), 2)
        assert set().union(*proposal.groups) == {0, 1, 2}
