"""What a result says of labels that do not overlap, and of classes that the test split lacks."""

import logging

import numpy as np
from small import TASKS, make_problem, make_split

from tag_jax import data, grouping, multi_objective, weighting
from tag_jax.training import Measurement, TrainingConfig

CONFIG = TrainingConfig(steps=4, eval_every=2, affinity=Measurement(every=2), batch_size=32)


def apart(size, seed):
    """Half of the examples have signs, the other half radii."""
    half = size // 2
    return data.union(
        {task: make_split(half, seed + n).only([task]) for n, task in enumerate(('sign', 'radius'))}
    )


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
