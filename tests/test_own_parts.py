"""A method, an objective, a weighting and a dataset of a user's own, none of them in tag_jax."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_wine

from tag_jax import comparison, data, grouping, objectives, problem, training, weighting
from tag_jax.grouping import Method, Proposal, Stage

CONFIG = training.TrainingConfig(
    steps=40, batch_size=32, eval_every=10, affinity=training.Measurement(every=10)
)


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


APART = ((0, 1), (2,))


@pytest.mark.parametrize(
    ('proposal', 'message'),
    [
        (None, 'must propose a grouping.Proposal, not NoneType'),
        ([(0, 1), (2,)], 'must propose a grouping.Proposal, not list'),
        (Proposal(((0, 1),)), "bad proposes no group for 'proline'"),
        (Proposal(((0, 1), (2, 3))), 'groups must be tuples of task indices, 0 to 2'),
        (Proposal(((0, 1), (2, -1))), 'groups must be tuples of task indices, 0 to 2'),
        (Proposal(((0, 1), ())), 'groups must be tuples of task indices'),
        (Proposal((('cultivar',), (1, 2))), 'groups must be tuples of task indices'),
        (Proposal(((0, 0, 1), (2,))), 'no task twice in a group, and no group twice'),
        (Proposal(((0, 1, 2), (0, 1, 2))), 'no task twice in a group, and no group twice'),
        (Proposal(APART, ((0, 1),)), 'which tasks it serves, by their indices'),
        (Proposal(APART, (('cultivar',), (2,))), 'which tasks it serves, by their indices'),
        (Proposal(APART, ((0,), (2,))), 'must serve every task once, and serves'),
        (Proposal(((0, 1), (1, 2)), ((0, 1), (1, 2))), 'must serve every task once'),
        (Proposal(APART, ((0,), (1, 2))), "serves 'alcohol' from a network that does not train it"),
        (Proposal(APART, costs=(1.0,)), 'a positive cost for each of its 2 groups'),
        (Proposal(APART, remarks='a remark'), 'remarks as a tuple of sentences'),
        (Proposal(APART, affinities=np.zeros((3, 3))), 'affinities as an AffinitySummary'),
    ],
)
def test_proposals_that_do_not_fit_are_refused_everywhere(model, dataset, proposal, message):
    bad = Method('bad', lambda searcher, budget: proposal, lambda *asked: ())
    with pytest.raises(ValueError, match=message):
        grouping.group_tasks(model, dataset, 2, bad, CONFIG)
    with pytest.raises(ValueError, match=message):
        comparison.compare_groupings(model, dataset, [bad], (2,), CONFIG, seeds=1)


def test_groups_may_be_integers_of_numpy(model, dataset):
    groups = np.array_split(np.random.default_rng(0).permutation(3), 2)
    own = Method('own', lambda searcher, budget: Proposal(groups), lambda *asked: ())
    result = grouping.group_tasks(model, dataset, 2, own, CONFIG)
    assert sorted(len(group.tasks) for group in result.groups) == [1, 2]
    dear = Method('dear', lambda *asked: Proposal(((0,), (1,), (2,))), lambda *asked: ())
    with pytest.raises(ValueError, match='networks that cost 3, and the budget is 2'):
        grouping.group_tasks(model, dataset, 2, dear, CONFIG)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'propose': None}, "propose of the method 'bad' must be a function, not None"),
        ({'stages': ()}, "stages of the method 'bad' must be a function"),
        (
            {'options': {'x': np.zeros(2)}},
            "options of the method 'bad' must be a dict of JSON types",
        ),
    ],
)
def test_methods_that_are_none_are_refused(model, dataset, change, message):
    bad = Method('bad', lambda *asked: Proposal(APART), lambda *asked: ())._replace(**change)
    with pytest.raises(ValueError, match=message):
        grouping.group_tasks(model, dataset, 2, bad, CONFIG)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'config': {'steps': 3}}, 'config must be a training.TrainingConfig, not'),
        ({'config': training.TrainingConfig}, 'config must be a training.TrainingConfig, not'),
        ({'problem': Encoder()}, 'problem must be a MultiTaskProblem, not Encoder'),
        ({'on_record': None}, 'on_record must be a function, not None'),
        ({'on_finish': []}, r'on_finish must be a function, not \[\]'),
    ],
)
def test_arguments_of_other_kinds_are_named(model, dataset, change, message):
    asked = {'problem': model, 'dataset': dataset, 'budget': 2, 'config': CONFIG} | change
    with pytest.raises(ValueError, match=message):
        grouping.group_tasks(**asked)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'budgets': 2}, r'budgets must be a list, as \(2, 3\), not 2'),
        ({'methods': grouping.tag()}, 'methods must be a list, as .* not Method'),
        ({'methods': 'tag'}, 'methods must be a list, as .* not str'),
        (
            {'methods': [Method('random', lambda *asked: Proposal(APART), lambda *asked: ())]},
            "a method of your own cannot be called 'random'",
        ),
    ],
)
def test_comparisons_of_other_kinds_are_named(model, dataset, change, message):
    asked = {'methods': [grouping.tag()], 'budgets': (2,), 'config': CONFIG, 'seeds': 1} | change
    with pytest.raises(ValueError, match=message):
        comparison.compare_groupings(model, dataset, **asked)


def test_modules_of_the_other_kind_are_named(dataset):
    example = dataset.example_inputs
    with pytest.raises(ValueError, match='this is a module of Linen: give it to from_linen'):
        problem.from_nnx(Encoder(), dataset.tasks, example)
    with pytest.raises(ValueError, match='this is a module of Linen: give it to from_linen'):
        problem.from_nnx(Encoder, dataset.tasks, example)
    with pytest.raises(ValueError, match=r'and not its class Encoder: Encoder\(\)'):
        problem.from_linen(Encoder, dataset.tasks, example)


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
        steps=40,
        batch_size=32,
        eval_every=10,
        affinity=training.Measurement(every=10),
        weighting=gentle,
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
        (lambda searcher: searcher.networks([()]), 'at least one task, and a set has none'),
        (lambda searcher: searcher.networks([(9,)]), 'no task 9: indices go from 0 to 2'),
        (lambda searcher: searcher.networks([(-1,)]), 'no task -1: indices go from 0 to 2'),
        (lambda searcher: searcher.networks(['cultivar']), 'sets must be lists of tasks'),
    ):
        with pytest.raises(ValueError, match=message):
            grouping.group_tasks(model, dataset, 2, asks(question), CONFIG)


def test_a_wider_encoder_beyond_the_budget_is_refused_before_training(model, dataset, monkeypatch):
    monkeypatch.setattr(training, 'train_networks', None)
    asked = model, dataset, 2, grouping.recommended(wider=2.5), CONFIG
    with pytest.raises(ValueError, match='of recommended costs 2.5, and the budget is 2: give a'):
        grouping.group_tasks(*asked, sizes={2.5: model})


@pytest.mark.sweep
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


@pytest.mark.sweep
def test_networks_that_a_hook_ended_stand_for_no_whole_ones(model, dataset, tmp_path):
    """In a score table that is shared, and in a run that is resumed without the hook."""
    asked = model, dataset, [grouping.tag(), grouping.random_even()], (2,), CONFIG
    fresh = comparison.compare_groupings(*asked, seeds=1)
    short = comparison.compare_groupings(
        *asked, seeds=1, scores=tmp_path / 'scores', on_record=lambda record: True
    )
    again = comparison.compare_groupings(*asked, seeds=1, scores=tmp_path / 'scores')
    errors = [[one.test_error for one in found.outcomes] for found in (fresh, short, again)]
    assert errors[0] == errors[2] != errors[1]
    path = tmp_path / 'run'
    run = model, dataset, 2, grouping.tag(), CONFIG
    whole = grouping.group_tasks(*run)

    class Interrupted(Exception):
        pass

    seen = []

    def stop_then_fail(record):
        seen.append(record)
        if len(seen) > 2:
            raise Interrupted
        return True

    with pytest.raises(Interrupted):
        grouping.group_tasks(*run, path, on_record=stop_then_fail)
    resumed = grouping.group_tasks(*run, path, resume=True)
    assert resumed.test_error == whole.test_error
    assert resumed.cost['search_steps'] == CONFIG.steps


def encoders(dataset, **options):
    return problem.from_linen(Encoder(), dataset.tasks, dataset.example_inputs, **options)


@pytest.mark.sweep  # Its short form: frozen weights tell networks apart.
def test_a_score_table_tells_networks_of_other_objectives_and_weights_apart(wine, tmp_path):
    """Each is trained anew: with other weights of classes, another loss, other frozen weights."""
    inputs, targets = wine
    weights = {'Dense_0': {'kernel': np.ones((11, 8)), 'bias': np.zeros(8)}}
    plain = {'cultivar': objectives.classification(3), 'alcohol': objectives.regression()}
    weighed = plain | {'cultivar': objectives.classification(3, [1, 2, 3])}
    absolute = plain | {'alcohol': objectives.regression(absolute=True)}

    def quartic(output, target):
        return (output[:, 0] - target) ** 4

    own = plain | {'alcohol': plain['alcohol']._replace(loss=quartic)}
    scores, count = tmp_path / 'scores', 0
    for tasks, options in (
        (plain, {}),
        (weighed, {}),
        (absolute, {}),
        (own, {}),
        (plain, {'pretrained': weights}),
        (plain, {'pretrained': {'Dense_0': {'kernel': 2 * np.ones((11, 8))}}}),
    ):
        dataset = data.from_arrays(inputs, targets, tasks)
        model = encoders(dataset, **options)
        found = grouping.group_tasks(model, dataset, 1, grouping.hoa(), CONFIG, scores=scores)
        again = grouping.group_tasks(model, dataset, 1, grouping.hoa(), CONFIG, scores=scores)
        assert again.test_error == found.test_error
        count += 3
        assert (scores / 'networks.jsonl').read_text().count('\n') == count
    lambda_loss = plain | {
        'alcohol': plain['alcohol']._replace(loss=lambda z, t: (z[:, 0] - t) ** 2)
    }
    dataset = data.from_arrays(inputs, targets, lambda_loss)
    with pytest.raises(ValueError, match="of 'alcohol' has a function without a name"):
        grouping.group_tasks(encoders(dataset), dataset, 1, grouping.hoa(), CONFIG, scores=scores)


@pytest.mark.sweep
def test_frozen_weights_tell_networks_apart(dataset, tmp_path):
    counts = []
    for scale in (1, 2, 1):
        kernel = scale * np.random.default_rng(0).normal(size=(11, 8))
        model = encoders(
            dataset,
            pretrained={'Dense_0': {'kernel': kernel}},
            trainable=lambda path: path[-1] == 'bias',
        )
        grouping.group_tasks(model, dataset, 1, grouping.hoa(), CONFIG, scores=tmp_path / 'scores')
        counts.append((tmp_path / 'scores' / 'networks.jsonl').read_text().count('\n'))
    assert counts == [6, 12, 12]


def make_optimizer(rate_of_own):
    def optimizer(rate):
        del rate
        return optax.sgd(rate_of_own)

    return optimizer


@pytest.mark.sweep
def test_functions_are_known_by_what_they_close_over(model, dataset, tmp_path):
    """Closures of one name are two optimizers, in a score table and where a run is resumed."""
    found = []
    for rate in (1e-3, 0.1):
        config = dataclasses.replace(CONFIG, optimizer=make_optimizer(rate))
        run = model, dataset, 1, grouping.hoa(), config
        found.append(grouping.group_tasks(*run, scores=tmp_path / 'scores').test_error)
        assert found[-1] == grouping.group_tasks(*run).test_error
    assert found[0] != found[1]
    config = dataclasses.replace(CONFIG, optimizer=make_optimizer(0.1))
    grouping.group_tasks(model, dataset, 1, config=config, workdir=tmp_path / 'run')
    other = dataclasses.replace(CONFIG, optimizer=make_optimizer(0.2))
    with pytest.raises(ValueError, match='optimizer was'):
        grouping.group_tasks(model, dataset, 1, config=other, workdir=tmp_path / 'run', resume=True)


def test_a_network_of_other_settings_is_no_baseline(model, dataset):
    """Affinities may be measured with other settings; groups are trained with those of the run."""

    def propose(searcher, budget):
        searcher.affinities(steps=10, learning_rate=1e-5)
        return Proposal(((0, 1, 2),))

    brief = Method('brief', propose, lambda *asked: ())
    found = grouping.group_tasks(model, dataset, 2, brief, CONFIG)
    plain = grouping.group_tasks(model, dataset, 2, grouping.all_in_one(), CONFIG)
    assert found.test_error == plain.test_error
    assert found.baselines['mtl'].test_error == plain.test_error


def test_another_encoding_is_another_run(wine, tmp_path):
    inputs, targets = wine
    tasks = {'cultivar': objectives.classification(3)}
    for names in (targets['cultivar'], np.char.upper(targets['cultivar'])):
        own = data.from_arrays(inputs, {'cultivar': names}, tasks)
        run = encoders(own), own, 1, grouping.all_in_one(), CONFIG, tmp_path / 'run'
        if names is targets['cultivar']:
            grouping.group_tasks(*run)
        else:
            with pytest.raises(ValueError, match='encoding was'):
                grouping.group_tasks(*run, resume=True)
    assert set(grouping.load(tmp_path / 'run').predict(inputs)['cultivar']) <= set(
        targets['cultivar']
    )


def test_rows_without_an_answer_are_named(model, dataset):
    result = grouping.group_tasks(model, dataset, 1, grouping.all_in_one(), CONFIG)
    inputs = dataset.test.inputs.astype(np.float64)
    inputs[2, 0] = 1e300
    with pytest.raises(ValueError, match="no answer for 'cultivar' in row 3: its output is"):
        result.predict(inputs)


def test_hooks_may_answer_in_booleans_of_numpy(model, dataset):
    result = grouping.group_tasks(
        model, dataset, 1, grouping.all_in_one(), CONFIG, on_record=lambda record: np.True_
    )
    assert result.cost['training_steps'] == 10
