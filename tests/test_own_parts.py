"""A method, an objective, a weighting and a dataset of a user's own, none of them in tag_jax."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_wine

from tag_jax import comparison, data, grouping, objectives, problem, training, weighting
from tag_jax.grouping import Method, Proposal, Stage

CONFIG = training.TrainingConfig(steps=40, batch_size=32, eval_every=10, affinity_every=10)


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(8)(x))


@pytest.fixture(scope='module')
def wine():
    """Raw inputs and targets of the wine table: (inputs, targets)."""
    table = load_wine()
    names = table.target_names[table.target]
    return table.data[:, 1:12], {
        'cultivar': names,
        'alcohol': table.data[:, 0],
        'proline': table.data[:, 12],
    }


@pytest.fixture(scope='module')
def dataset(wine):
    tasks = {
        'cultivar': objectives.classification(3),
        'alcohol': objectives.regression(),
        'proline': objectives.regression(),
    }
    return data.from_arrays(*wine, tasks, fractions=(0.6, 0.2, 0.2), seed=0)


@pytest.fixture(scope='module')
def model(dataset):
    return problem.from_linen(Encoder(), dataset.tasks, dataset.example_inputs)


def test_the_whole_way(wine, dataset, model, tmp_path):
    inputs, targets = wine
    result = grouping.group_tasks(
        model, dataset, budget=2, method=grouping.tag(), config=CONFIG, workdir=tmp_path / 'wine'
    )
    for found in (result, grouping.load(tmp_path / 'wine')):
        answers = found.predict(inputs)
        assert set(answers['cultivar']) <= set(targets['cultivar'])
        assert answers['proline'].shape == (178,)
        assert 278 < answers['proline'].mean() < 1680
        chances = found.predict_proba(inputs)
        assert set(chances) == {'cultivar'}
        assert chances['cultivar'].shape == (178, 3)
        assert found.outputs(inputs)['alcohol'].shape == (178, 1)
    methods = [grouping.tag(), grouping.subsets(count=4)]
    compared = comparison.compare_groupings(model, dataset, methods, (2, 3), CONFIG, seeds=2)
    assert {one.method for one in compared.outcomes} == {'tag', 'subsets(count=4)', 'random'}
    taken = grouping.dry_run(model, dataset, budget=2, method=grouping.hoa(), config=CONFIG)
    assert taken.stages[0].networks == 6
    assert optax.chain(weighting.mgda_ub(), optax.adamw(1e-3))


def spectral():
    """Clusters a symmetrised affinity matrix, in so many groups as the budget allows."""

    def propose(searcher, budget):
        matrix = searcher.affinities().mean
        alike = (matrix + matrix.T) / 2
        alike = np.exp((alike - alike.max()) / np.abs(alike).max())
        clustering = SpectralClustering(int(budget), affinity='precomputed', random_state=0)
        labels = clustering.fit_predict(alike)
        groups = [tuple(np.flatnonzero(labels == label).tolist()) for label in set(labels)]
        return Proposal(tuple(sorted(groups)))

    def stages(task_names, budget, config):
        return (Stage('all tasks, measuring affinities', 1, config.steps, measures=True),)

    return Method('spectral', propose, stages)


def best_pair():
    """The pair with the lowest validation error after a quarter of training, and the rest."""

    def propose(searcher, budget):
        pairs = [('cultivar', 'alcohol'), ('cultivar', 'proline'), ('alcohol', 'proline')]
        tried = searcher.networks(pairs, fraction=0.25)
        assert not hasattr(tried[0], 'test')
        best = min(tried, key=lambda network: sum(network.validation.values()))
        together = tuple(searcher.task_names.index(task) for task in best.tasks)
        (alone,) = set(range(3)) - set(together)
        return Proposal((together, (alone,)), serves=(together, (alone,)), seconds=1.5)

    return Method('best_pair', propose, lambda names, budget, config: (), options={'share': 0.25})


def test_a_method_of_ones_own_groups_tasks(model, dataset, tmp_path):
    result = grouping.group_tasks(model, dataset, 2, spectral(), CONFIG)
    assert result.method == 'spectral'
    assert len(result.groups) == 2
    assert result.cost['search_steps'] == CONFIG.steps
    path = tmp_path / 'run'
    result = grouping.group_tasks(model, dataset, 2, best_pair(), CONFIG, path)
    assert result.method == 'best_pair(share=0.25)'
    assert result.cost['search_steps'] == 3 * 10
    assert result.cost['search_seconds'] > 1.5
    again = grouping.group_tasks(model, dataset, 2, best_pair(), CONFIG, path, resume=True)
    assert again.groups == result.groups
    other = best_pair()._replace(options={'share': 0.5})
    with pytest.raises(ValueError, match=r"options was \{'share': 0.25\} and is \{'share': 0.5\}"):
        grouping.group_tasks(model, dataset, 2, other, CONFIG, path, resume=True)


def test_methods_of_ones_own_are_compared(model, dataset):
    methods = [spectral(), best_pair(), grouping.tag()]
    found = comparison.compare_groupings(model, dataset, methods, (2,), CONFIG, seeds=1)
    steps = {one.method: one.steps for one in found.outcomes}
    # The measurement is one, and both that ask for it are charged.
    assert steps['spectral'] == steps['tag'] == 1
    assert steps['best_pair(share=0.25)'] == 0.75


@pytest.mark.parametrize(
    ('groups', 'message'),
    [
        (((0, 1),), "bad proposes no group for 'proline'"),
        (((0, 1), (2, 3)), 'groups must be tuples of task indices, 0 to 2'),
        (((0, 1), ()), 'groups must be tuples of task indices'),
        (((0,), (1,), (2,)), 'networks that cost 3, and the budget is 2'),
    ],
)
def test_groups_that_serve_not_all_tasks_are_refused(model, dataset, groups, message):
    bad = Method('bad', lambda searcher, budget: Proposal(groups), lambda *asked: ())
    with pytest.raises(ValueError, match=message):
        grouping.group_tasks(model, dataset, 2, bad, CONFIG)


def test_an_objective_and_a_weighting_of_ones_own(wine):
    """Quantile regression, and weights that fall with the loss."""
    inputs, targets = wine

    def loss(output, target):
        over = target - output[:, 0]
        return jnp.maximum(0.9 * over, -0.1 * over)

    def sums(output, target, mask):
        return {'below': jnp.sum(mask & (target < output[:, 0])), 'labels': jnp.sum(mask)}

    def finish(totals):
        covered = float(totals['below'] / totals['labels'])
        return {'error': 100 * abs(0.9 - covered), 'coverage': covered}

    quantile = objectives.Objective(width=1, loss=loss, metric=objectives.Metric(sums, finish))
    tasks = {'cultivar': objectives.classification(3), 'alcohol': quantile}
    own = data.from_arrays(inputs, targets, tasks)
    model = problem.from_linen(Encoder(), own.tasks, own.example_inputs)

    def gentle():
        def weigh(seen, state, step):
            return jnp.where(seen.active, 1 / (1 + seen.losses), 0), state

        rule = weighting.Rule(lambda num_tasks: (), weigh, needs_losses=True)
        return weighting.weighting('gentle', rule)

    config = training.TrainingConfig(
        steps=40, batch_size=32, eval_every=10, affinity_every=10, weighting=gentle
    )
    result = grouping.group_tasks(model, own, 2, config=config)
    assert 0 <= result.metrics['alcohol']['coverage'] <= 1
    outputs = result.outputs(inputs)['alcohol']
    np.testing.assert_array_equal(result.predict(inputs)['alcohol'], outputs)


def test_names_and_given_groups(model, dataset):
    groups = [['cultivar', 'proline'], ['alcohol']]
    result = grouping.group_tasks(model, dataset, 2, grouping.given(groups), CONFIG)
    assert {group.tasks for group in result.groups} == {('cultivar', 'proline'), ('alcohol',)}
    with pytest.raises(ValueError, match="no task 'wine' to group: choose from cultivar"):
        grouping.group_tasks(model, dataset, 2, grouping.given([['wine']]), CONFIG)
    with pytest.raises(ValueError, match="'alcohol' is in no group: add it to one"):
        grouping.group_tasks(model, dataset, 2, grouping.given(groups[:1]), CONFIG)
    with pytest.raises(ValueError, match='a list a network'):
        grouping.given(['cultivar', 'proline'])
    with pytest.raises(ValueError, match='alcohol.* trains 2 networks: ask for a budget of 2'):
        grouping.group_tasks(model, dataset, 1, grouping.given(groups), CONFIG)


def test_random_groups_are_the_same_everywhere(model, dataset):
    """In a run, and in a comparison."""
    alone = grouping.group_tasks(model, dataset, 2, grouping.random_even(), CONFIG)
    found = comparison.compare_groupings(
        model, dataset, [grouping.random_even()], (2,), CONFIG, seeds=1
    )
    (one,) = (one for one in found.outcomes if one.method == 'random_even')
    assert {group.tasks for group in alone.groups} == set(one.groups)


def test_a_resumed_comparison_measures_nothing_again(model, dataset, tmp_path, monkeypatch):
    methods = [grouping.tag(), grouping.cosine_similarity(), grouping.verify(proposals=2)]
    asked = model, dataset, methods, (2,), CONFIG
    first = comparison.compare_groupings(*asked, seeds=1, scores=tmp_path / 'scores')
    monkeypatch.setattr(training, 'train_networks', None)
    again = comparison.compare_groupings(*asked, seeds=1, scores=tmp_path / 'scores')
    assert again.outcomes == first.outcomes


def test_what_a_searcher_refuses(model, dataset):
    def asks(question):
        def propose(searcher, budget):
            question(searcher)

        return Method('asks', propose, lambda *asked: ())

    for question, message in (
        (lambda searcher: searcher.networks([('sweetness',)]), "there is no task 'sweetness'"),
        (lambda searcher: searcher.networks([(0,)], cost=0.5), 'networks of cost 0.5 are asked'),
        (lambda searcher: searcher.networks([(0,)], fraction=2), 'fraction must be above 0'),
    ):
        with pytest.raises(ValueError, match=message):
            grouping.group_tasks(model, dataset, 2, asks(question), CONFIG)


def test_hooks_of_a_run_and_of_a_comparison(model, dataset, tmp_path):
    records, networks = [], []
    hooks = {'on_record': records.append, 'on_finish': networks.append}
    result = grouping.group_tasks(
        model, dataset, 2, grouping.tag(), CONFIG, tmp_path / 'run', **hooks
    )
    assert {network.plan.name for network in networks} >= {'mtl'}
    assert {record.network for record in records} == {network.plan.name for network in networks}
    assert records[0].validation_error.keys() == dataset.tasks.keys()
    lines = (tmp_path / 'run' / 'metrics.jsonl').read_text().count('\n')
    assert lines == len(records)
    stopped = grouping.group_tasks(
        model, dataset, 2, grouping.random(), CONFIG, on_record=lambda record: record.step == 20
    )
    assert stopped.cost['training_steps'] <= 20 * len(stopped.groups)
    assert result.metrics['cultivar'].keys() >= {'accuracy', 'roc_auc', 'f1', 'log_loss'}
    records.clear()
    comparison.compare_groupings(
        model, dataset, [grouping.hoa()], (2,), CONFIG, seeds=1, on_record=records.append
    )
    assert {record.network for record in records} >= {'cultivar', 'cultivar+alcohol'}
