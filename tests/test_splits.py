"""Comparisons over several splits of the data, and how sure their differences are."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from small import TASKS, make_problem, make_split

from tag_jax import comparison, data, evaluation, grouping, models, report
from tag_jax.comparison import Comparison, Outcome, covers, differences, summary
from tag_jax.comparison.statistics import EXAMPLES, SEEDS, SPLITS
from tag_jax.problem import from_nnx
from tag_jax.training import MOST_SEEDS, Measurement, TrainingConfig

CONFIG = TrainingConfig(
    steps=8, batch_size=32, learning_rate=1e-2, eval_every=4, affinity=Measurement(every=4), slots=2
)
METHODS = [grouping.all_in_one(), grouping.single_task()]
POINTS = make_split(150, 5)


def dataset_of(number):
    """Split by its number; a column of text makes the width follow from the training rows."""
    return data.from_arrays(POINTS.inputs, POINTS.targets, TASKS, seed=number)


def problem_of(dataset):
    width = dataset.train.inputs.shape[1]
    return from_nnx(
        lambda rngs: models.MLP(width, (6,), rngs=rngs), dataset.tasks, dataset.example_inputs
    )


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
    """The `Comparison` over two splits, and the folder of its score table."""
    folder = tmp_path_factory.mktemp('scores')
    asked = problem_of, dataset_of, METHODS, [3], CONFIG
    return comparison.compare_groupings(*asked, seeds=2, splits=2, scores=folder), folder


def test_every_split_has_seeds_and_a_table_of_its_own(compared):
    found, folder = compared
    units = {(one.split, one.seed) for one in found.outcomes}
    assert units == {(0, 0), (0, 1), (1, MOST_SEEDS), (1, MOST_SEEDS + 1)}
    assert found.splits == 2
    assert (folder / 'split_1' / 'networks.jsonl').exists()
    assert covers(found) == (SPLITS, SEEDS, EXAMPLES)
    assert found.test_share == pytest.approx(0.25)
    assert '2 splits, with 2 seeds of its own each' in report.differences_text(found)


def test_a_split_is_compared_as_if_it_were_alone(compared):
    found, _ = compared
    config = dataclasses.replace(CONFIG, seed=MOST_SEEDS)
    dataset = dataset_of(1)
    alone = comparison.compare_groupings(
        problem_of(dataset), dataset, METHODS, [3], config, seeds=2
    )
    assert covers(alone) == (SEEDS, EXAMPLES)
    for one, other in zip(found.outcomes[len(alone.outcomes) :], alone.outcomes, strict=True):
        same = {'seconds': 0, 'split': 1}
        assert one._replace(**same) == other._replace(**same)


def test_another_comparison_trains_nothing_again(compared):
    found, folder = compared
    before = [path.read_bytes() for path in sorted(folder.rglob('networks.jsonl'))]
    asked = problem_of, dataset_of, METHODS, [3], CONFIG
    again = comparison.compare_groupings(*asked, seeds=2, splits=2, scores=folder)
    assert again.outcomes == found.outcomes
    assert [path.read_bytes() for path in sorted(folder.rglob('networks.jsonl'))] == before
    with pytest.raises(ValueError, match='is about another'):
        comparison.compare_groupings(
            problem_of, lambda n: dataset_of(n + 5), METHODS, [3], CONFIG, splits=2, scores=folder
        )


@pytest.mark.sweep
def test_a_dry_run_counts_all_splits():
    asked = problem_of, dataset_of, METHODS, [3], CONFIG
    one, three = (comparison.dry_run(*asked, seeds=1, splits=splits) for splits in (1, 3))
    counts = [[stage.networks for stage in found.stages] for found in (one, three)]
    assert counts[1] == [3 * count for count in counts[0]]


@pytest.mark.parametrize(
    ('dataset', 'splits', 'sentence'),
    [
        (dataset_of(0), 2, 'one dataset is one split: give a function of the number of the split'),
        (lambda n: dataset_of(0), 3, 'the splits 0 and 1 are the same'),
        (lambda n: dataset_of(n).only(list(TASKS)[n:]), 2, 'the tasks of split 1 are .* same'),
        (dataset_of, 0, 'splits must be an integer from 1 to 100, not 0'),
        (lambda n: n, 2, 'dataset must be a data.Dataset with a train split, not int'),
    ],
)
def test_splits_that_say_nothing_are_refused(dataset, splits, sentence):
    make = problem_of if splits != 2 or not isinstance(dataset, type(dataset_of)) else _problem_of
    with pytest.raises(ValueError, match=sentence):
        comparison.compare_groupings(make, dataset, METHODS, [2], CONFIG, seeds=1, splits=splits)


def _problem_of(dataset):
    return problem_of(dataset) if hasattr(dataset, 'tasks') else make_problem()


def outcome(method, split, seed, error, draws=None):
    return Outcome(
        *(method, 2, seed, (('a',),), 1.0, 0.0, 0.0, 0.0, error), {}, split=split, test_draws=draws
    )


def made_up(errors, share=0.0):
    """A comparison of `{method: [splits, seeds]}`, with random groupings beside."""
    errors = errors | {'random': np.full_like(next(iter(errors.values())), 50.0)}
    shape = next(iter(errors.values())).shape
    cells = itertools.product(errors, range(shape[0]), range(shape[1]))
    found = [outcome(m, split, seed, float(errors[m][split, seed])) for m, split, seed in cells]
    return Comparison(tuple(found), {}, {}, test_share=share)


def test_errors_over_splits_by_hand():
    """Those of the means of splits, wider by what splits share (Nadeau & Bengio 2003)."""
    rng = np.random.default_rng(0)
    errors = {name: rng.normal(30, 3, (5, 2)) for name in ('tag', 'hoa')}
    found = made_up(errors, share=0.25)
    means = {name: values.mean(axis=1) for name, values in errors.items()}
    wider = math.sqrt(1 / 5 + 0.25)
    (line,) = (one for one in summary(found) if one.method == 'tag')
    assert line.error == pytest.approx((means['tag'].mean(), means['tag'].std(ddof=1) * wider))
    pair = differences(found)['tag', 'hoa']
    gap = means['tag'] - means['hoa']
    assert (pair.value, pair.error) == pytest.approx((gap.mean(), gap.std(ddof=1) * wider))
    half = stats.t.ppf(0.975, 4) * pair.error
    assert (pair.low, pair.high) == pytest.approx((pair.value - half, pair.value + half))
    assert pair.told == (abs(pair.value) > half)


def test_seeds_and_examples_add_up():
    """Two sources of variance, with the degrees of freedom of Welch 1947."""
    rng = np.random.default_rng(1)
    draws = {name: rng.normal(30, 2, (4, 200)) for name in ('tag', 'hoa', 'random')}
    seeds = {name: rng.normal(30, 1, 4) for name in draws}
    found = Comparison(
        tuple(
            outcome(name, 0, seed, seeds[name][seed], tuple(draws[name][seed]))
            for name in draws
            for seed in range(4)
        ),
        {},
        {},
    )
    assert covers(found) == (SEEDS, EXAMPLES)
    pair = differences(found)['tag', 'hoa']
    parts = [
        (seeds['tag'] - seeds['hoa']).var(ddof=1) / 4,
        (draws['tag'].mean(0) - draws['hoa'].mean(0)).var(ddof=1),
    ]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 199)
    assert pair.error == pytest.approx(math.sqrt(sum(parts)))
    half = stats.t.ppf(0.975, freedom) * pair.error
    assert (pair.low, pair.high) == pytest.approx((pair.value - half, pair.value + half))


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Errors of seeds and of examples around a true difference of 1, drawn 400 times."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        rows = rng.normal(0, 1, 120)  # Of each test example, the same for all networks.
        own = rng.normal(0, 0.1, 5)  # Of each seed.
        times = rng.multinomial(120, np.full(120, 1 / 120), 100)
        found = Comparison(
            tuple(
                outcome(
                    name, 0, seed, more * (1 + rows.mean()) + more * own[seed],
                    tuple(more * (1 + own[seed]) + more * (times @ rows / 120)),
                )
                for name, more in (('tag', 1.0), ('random', 0.0))
                for seed in range(5)
            ),
            {},
            {},
        )  # fmt: skip
        pair = differences(found)['tag', 'random']
        held += pair.low <= 1 <= pair.high
    assert 0.92 <= held / 400 <= 0.985


@pytest.mark.parametrize(
    ('shape', 'words'),
    [
        ((1, 1), 'One seed of one split: there are no standard errors'),
        ((1, 3), 'over 3 seeds, and not over test examples; which examples'),
        ((3, 1), 'over 3 splits, with 1 seed of its own each'),
    ],
)
def test_what_intervals_cover_is_said(shape, words):
    rng = np.random.default_rng(0)
    found = made_up({name: rng.normal(30, 3, shape) for name in ('tag', 'hoa')})
    text = ' '.join(report.differences_text(found).split())
    assert words in text
    verdict = 'not known' if shape == (1, 1) else None
    assert verdict is None or text.count(verdict) == 3


def test_only_test_examples_are_covered_by_one_seed():
    draws = tuple(np.random.default_rng(0).normal(30, 1, 50))
    found = Comparison(
        (outcome('tag', 0, 0, 30.0, draws), outcome('random', 0, 0, 40.0, tuple([40.0] * 50))),
        {},
        {},
    )
    assert covers(found) == (EXAMPLES,)
    pair = differences(found)['tag', 'random']
    assert pair.error == pytest.approx(np.std(draws, ddof=1))
    assert pair.told
    text = ' '.join(report.differences_text(found).split())
    assert 'over the choice of test examples, of these networks only' in text
    assert 'random tag +10.00' in text
    assert text.count('higher') == 1


def test_rows_know_how_sure_their_test_scores_are(compared):
    """The spread of draws is that of a mean over examples: a closed form, from the networks."""
    problem = make_problem()
    network = problem.init(jax.random.key(0))
    split = make_split(400, 7)
    prepared = evaluation.prepare(problem, split)
    blocks = evaluation.blocks_of(400, most=400)
    found = evaluation.resampled(problem, network, prepared, blocks, ['sign'], 'error', 2000, 64)
    outputs = problem.predict(*network, jnp.asarray(split.inputs))
    wrong = 100.0 * (np.argmax(outputs['sign'], -1) != split.targets['sign'])
    np.testing.assert_allclose(found['sign'].mean(), wrong.mean(), atol=0.3)
    np.testing.assert_allclose(found['sign'].std(), wrong.std() / 20, rtol=0.08)
    comparisons, _ = compared
    assert all(len(one.test_draws) == 200 for one in comparisons.outcomes)
    for one in comparisons.outcomes:
        spread = np.std(one.test_draws)
        assert abs(np.mean(one.test_draws) - one.test_error) < spread


def test_groups_are_drawn_as_a_whole():
    """Examples of a group that are alike say no more than one: the closed form of clusters."""
    problem = make_problem()
    network = problem.init(jax.random.key(0))
    split = make_split(60, 7)
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 5))
    whole = data.Split(split.inputs[groups], {k: v[groups] for k, v in split.targets.items()})
    prepared = evaluation.prepare(problem, whole)
    blocks = evaluation.blocks_of(300, groups)
    assert sorted(map(len, blocks)) == [5] * 60
    found = evaluation.resampled(problem, network, prepared, blocks, ['sign'], 'error', 2000, 64)
    outputs = problem.predict(*network, jnp.asarray(split.inputs))
    wrong = 100.0 * (np.argmax(outputs['sign'], -1) != split.targets['sign'])
    np.testing.assert_allclose(found['sign'].std(), wrong.std() / math.sqrt(60), rtol=0.08)
    few = evaluation.blocks_of(300, groups % 9)
    assert evaluation.resampled(problem, network, prepared, few, ['sign'], 'error', 9, 64) is None


@pytest.mark.parametrize('count', [3, 200, 500])
def test_blocks_hold_every_example_once(count):
    groups = np.random.default_rng(0).integers(count, size=1000)
    for blocks in (evaluation.blocks_of(1000, groups, 50), evaluation.blocks_of(1000, most=50)):
        np.testing.assert_array_equal(np.sort(np.concatenate(blocks)), np.arange(1000))
        assert len(blocks) <= 50
    blocks = evaluation.blocks_of(1000, groups, 50)
    members = [set(groups[block]) for block in blocks]
    assert sum(map(len, members)) == len(np.unique(groups))
