"""What a result says of labels, of the scales of targets, and of networks that still improve."""

import logging
import math

import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import data, grouping, multi_objective, objectives, weighting
from tag_jax.grouping import remarks
from tag_jax.grouping import run as runs
from tag_jax.training import Measurement, NetworkPlan, TrainedNetwork, TrainingConfig

CONFIG = TrainingConfig(steps=4, eval_every=2, affinity=Measurement(every=2), batch_size=32)


def apart(size, seed):
    """Half of the examples have signs, the other half radii."""
    half = size // 2
    return data.union(
        {task: make_split(half, seed + n).only([task]) for n, task in enumerate(('sign', 'radius'))}
    )


def test_what_the_labels_say():
    """Labels that no example has together, with a weighting that is blind to them, by losses."""
    tasks = {'sign': objectives.judged_by(TASKS['sign'], 'f1'), 'radius': TASKS['radius']}
    dataset = data.Dataset('apart', tasks, apart(80, 0), apart(40, 2), apart(40, 4))
    config = TrainingConfig(weighting=weighting.mgda_ub, select_by='loss')
    problem = make_problem(tasks, widths=(4,))
    asked = runs.Run(problem, dataset, config, 'tag', 1, None)
    metrics = {'sign': {'roc_auc': math.nan}, 'radius': {}}
    losses, together, norms, area = remarks.remarks_on_labels(asked, True, metrics)
    assert losses.startswith('Networks were selected by their loss, so reports show that.')
    assert '(sign: 100 x (1 - f1))' in losses
    assert 'No training example has labels of both sign and radius: the affinities' in together
    assert 'it weighs sign and radius by norms alone' in norms
    assert 'ROC AUC is not defined (NaN) for sign: the test split' in area


@pytest.mark.sweep  # Its short form: what the labels say.
def test_labels_that_do_not_overlap_and_classes_that_are_missing():
    tasks = {task: TASKS[task] for task in ('sign', 'radius')}
    test = apart(40, 4)
    test.targets['sign'][:] = 1
    dataset = data.Dataset('apart', tasks, apart(80, 0), apart(40, 2), test)
    problem = make_problem(tasks, widths=(4,))
    config = TrainingConfig(**{**vars(CONFIG), 'weighting': weighting.mgda_ub})
    result = grouping.group_tasks(problem, dataset, 1, config=config)
    assert np.isnan(result.metrics['sign']['roc_auc'])
    text = '\n'.join(result.remarks)
    assert 'No training example has labels of both sign and radius: the affinities' in text
    assert 'it weighs sign and radius by norms alone' in text
    assert 'ROC AUC is not defined (NaN) for sign: the test split' in text
    whole = data.Dataset('whole', tasks, *(make_split(40, n) for n in range(3)))
    quiet = grouping.group_tasks(problem, whole, 1, config=config)
    assert not [one for one in quiet.remarks if 'norms' in one or 'both' in one or 'ROC' in one]


@pytest.mark.sweep
def test_the_comparison_of_weightings_warns(caplog):
    tasks = {task: TASKS[task] for task in ('sign', 'radius')}
    dataset = data.Dataset('apart', tasks, apart(80, 0), apart(40, 2), apart(40, 4))
    problem, seen = make_problem(tasks, widths=(4,)), []
    with caplog.at_level(logging.WARNING):
        multi_objective.compare(
            problem,
            dataset,
            {'mine': weighting.mgda_ub, 'other': weighting.equal},
            CONFIG,
            seeds=1,
            on_outcome=seen.append,
        )
    assert len(seen) == 3
    (warning,) = [one for one in caplog.messages if 'norms alone' in one]
    assert warning.startswith('mine compares gradients in the space of the representation')


def said_of(tasks, split):
    dataset = data.Dataset('own', tasks, split, split, split)
    return list(remarks.remarks_on_targets(tasks, dataset))


def regressed(**targets):
    """What is said of tasks of regression with some training targets."""
    size = len(next(iter(targets.values())))
    tasks = dict.fromkeys(targets, objectives.regression())
    return said_of(tasks, data.Split(np.zeros((size, 1)), targets))


def test_targets_on_unlike_scales():
    one = np.random.default_rng(0).normal(size=500)
    assert not regressed(a=one, b=5 * one, c=one - 1e6)
    assert not regressed(a=1000 * one)  # Alone, it drowns none.
    (said,) = regressed(a=one, price=1000 * one)
    assert 'far from 1, or from each other (price ' in said
    assert 'standardise the targets, as data.from_arrays does' in said
    assert '(small ' in regressed(a=one, small=one / 50)[0]
    (said,) = regressed(a=one / 5, b=one, c=5 * one)
    assert '(a ' in said
    assert ', c ' in said


def test_masked_targets_and_losses_of_ones_own_have_no_scale():
    one, known = np.random.default_rng(0).normal(size=500), np.arange(500) < 400
    tasks = dict.fromkeys('ab', objectives.regression())
    split = data.Split(one[:, None], {'a': one, 'b': np.where(known, one, 1e9)}, {'b': known})
    assert not said_of(tasks, split)
    assert said_of(tasks, split._replace(mask=None))
    own = {**tasks, 'b': tasks['b']._replace(loss=lambda z, target: (z[:, 0] / 1e9 - target) ** 2)}
    assert not said_of(own, split._replace(mask=None))


def test_classes_without_a_training_example():
    tasks = {'octant': TASKS['octant'], 'sign': TASKS['sign'], 'yes': objectives.binary()}
    split = make_split(400)
    octant, sign = split.targets['octant'], split.targets['sign']
    targets = {'octant': octant, 'sign': sign, 'yes': sign}
    assert not said_of(tasks, split._replace(targets=targets))
    targets = {**targets, 'octant': np.where(octant == 5, 4, octant), 'yes': 0 * sign}
    (said,) = said_of(tasks, split._replace(targets=targets))
    assert said.startswith('No training example has these classes: octant 5, yes 1. ')
    wide = {**tasks, 'octant': objectives.classification(20)}
    (said,) = said_of(wide, split._replace(targets=targets))
    assert 'octant 5, octant 8, octant 9, octant 10 (and 10 more). ' in said


def test_classes_have_the_names_of_the_dataset():
    """A class that is rare may be in the test split alone."""
    colours = np.array(['red', 'green'] * 20 + ['mauve'])
    split = np.array(
        ['train', 'train', 'validation', 'validation', 'test', 'test'] * 6 + ['test'] * 5
    )
    tasks = {'colour': objectives.classification(3)}
    dataset = data.from_arrays(np.arange(41.0)[:, None], {'colour': colours}, tasks, split=split)
    (said,) = remarks.remarks_on_targets(tasks, dataset)
    assert 'these classes: colour mauve. ' in said


def generated():
    """A table with targets on very unlike scales, which from_arrays standardises."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 4))
    targets = {'price': 1e5 * inputs[:, 0], 'share': 1e-3 * inputs[:, 1], 'kind': inputs[:, 2] > 0}
    tasks = dict.fromkeys(('price', 'share'), objectives.regression())
    return data.from_arrays(inputs, targets, {**tasks, 'kind': objectives.classification(2)})


@pytest.mark.parametrize('make', [data.multi_digits, data.digit_attributes, generated])
def test_nothing_is_said_of_the_datasets_of_the_package(make):
    dataset = make()
    assert not list(remarks.remarks_on_targets(dataset.tasks, dataset))


def said_of_splits(tasks, *splits, known=None):
    dataset = data.Dataset('own', known or tasks, *splits)
    return list(remarks.remarks_on_splits(tasks, dataset))


def test_splits_on_another_scale_and_targets_of_no_task():
    pictures = np.random.default_rng(0).uniform(size=(40, 4, 4, 1))
    split = data.Split(pictures, {'a': np.arange(40.0)})
    other = split._replace(inputs=(255 * pictures).astype(np.uint8))
    tasks = {'a': objectives.regression()}
    assert not said_of_splits(tasks, split, split, split)
    (said,) = said_of_splits(tasks, split, split, other)
    assert said.startswith('The test split is on another scale than the training split: inputs go')
    assert len(said_of_splits(tasks, other, split, split)) == 2
    more = split._replace(targets={**split.targets, 'b': np.arange(40.0)})
    (said,) = said_of_splits(tasks, more, split, split)
    assert said == 'The training split has targets of no task, which nothing trains on: b.'
    both = {**tasks, 'b': objectives.regression()}
    assert not said_of_splits(tasks, more, split, split, known=both), 'some tasks of a dataset'


def test_a_split_on_another_scale_is_told_before_training_and_in_the_result(caplog):
    train = make_split(64)
    test = train._replace(inputs=255 * train.inputs)
    dataset = data.Dataset('points', TASKS, train, make_split(64, 1), test)
    result = grouping.group_tasks(make_problem(), dataset, 1, grouping.all_in_one(), CONFIG)
    (warning,) = caplog.messages
    assert warning.startswith('The test split is on another scale')
    assert warning in result.remarks


def network(name, best_step, steps):
    plan = NetworkPlan(name, ('a',), 0, 0.1)
    return TrainedNetwork(plan, {}, {}, {}, best_step, steps, 0.0, None)


def test_networks_that_were_still_improving():
    still, done, early = network('b', 300, 300), network('c', 200, 300), network('d', 100, 100)
    assert not list(remarks.remarks_on_steps(300, [done, early]))
    (said,) = remarks.remarks_on_steps(300, [still, done, early])
    assert said.startswith('b took all 300 steps, and the last evaluation was the best one: it was')
    (said,) = remarks.remarks_on_steps(300, [network('mtl', 300, 300), still])
    assert said.startswith('mtl, b took all 300 steps')
    assert 'more steps (steps=, --steps) may change errors and gain' in said


def test_a_result_says_that_more_steps_may_change_it():
    dataset = data.Dataset('points', TASKS, *(make_split(64, n) for n in range(3)))
    config = TrainingConfig(**{**vars(CONFIG), 'learning_rate': 1e-2})
    result = grouping.group_tasks(make_problem(), dataset, 1, grouping.all_in_one(), config)
    assert any('mtl took all 4 steps' in remark for remark in result.remarks)
