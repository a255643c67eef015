import numpy as np
import pytest
from small import TASKS

from tag_jax import grouping
from tag_jax.grouping.methods.verifying import preferred, proposed
from tag_jax.runs import score_table, storage
from tag_jax.training import Measurement, TrainingConfig

CONFIG = TrainingConfig(
    steps=20,
    batch_size=64,
    learning_rate=1e-2,
    eval_every=4,
    affinity=Measurement(every=4),
    slots=2,
)
ALL = tuple(TASKS)


def row(*tasks, **errors):
    scores = {task: {'error': error} for task, error in errors.items()}
    return {'tasks': tasks, 'validation': scores, 'cost': 1.0}


def test_the_lowest_mean_over_seeds_is_preferred():
    """By hand: the second grouping is best for one seed, the first over both."""
    groupings = [((0, 1), (1, 2)), ((0,), (1, 2))]
    rows = [
        [row('a', 'b', a=5.0, b=1.0), row('b', 'c', b=3.0, c=2.0), row('a', a=4.0)],
        [row('a', 'b', a=5.0, b=2.0), row('b', 'c', b=3.0, c=2.0), row('a', a=5.0)],
    ]
    of_seeds = [score_table.candidates(one, 'abc') for one in rows]
    found, total = preferred(groupings, of_seeds[:1])
    assert (found, total) == (groupings[0], 5 + 1 + 2)
    rows[0][2] = row('a', a=1.0)
    of_seeds = [score_table.candidates(one, 'abc') for one in rows]
    found, total = preferred(groupings, of_seeds)
    assert (found, total) == (groupings[1], 3 + 3 + 2)


def test_verification_by_trying_all(problem, dataset, tmp_path):
    """Where every grouping is proposed, the choice is the best of all by its brief networks."""
    path = tmp_path / 'run'
    result = grouping.group_tasks(
        problem, dataset, 2, grouping.verify(proposals=100, fraction=0.2, seeds=2), CONFIG, path
    )
    with score_table.ScoreTable(path / 'networks', {}) as book:
        rows = book.rows()
    tried = proposed(result.affinity, 2, 100)
    assert len(tried) == len(set(tried)) > 3
    errors = {
        tuple(ALL.index(task) for task in tasks): np.mean(
            [
                [one['validation'].get(task, {'error': np.inf})['error'] for task in ALL]
                for one in rows
                if tuple(one['tasks']) == tasks
            ],
            axis=0,
        )
        for tasks in {tuple(one['tasks']) for one in rows}
    }
    totals = [np.min([errors[group] for group in groups], axis=0).sum() for groups in tried]
    assert result.objective == pytest.approx(min(totals))
    chosen = tried[int(np.argmin(totals))]
    assert {group.tasks for group in result.groups} <= {
        tuple(ALL[task] for task in group) for group in chosen
    }
    assert {(one['seed'], one['steps_taken']) for one in rows} == {(0, 4), (1, 4)}
    assert result.cost['search_steps'] == 20 + 4 * len(rows)
    assert storage.read_json(path / 'config.json')['options']['proposals'] == 100
    first = grouping.group_tasks(problem, dataset, 2, grouping.verify(proposals=1), CONFIG)
    assert {group.tasks for group in first.groups} == {
        group.tasks
        for group in grouping.group_tasks(problem, dataset, 2, grouping.tag(), CONFIG).groups
    }


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        ({'proposals': 0}, 'proposals must be an integer of at least 1, not 0'),
        ({'seeds': 0}, 'seeds must be an integer of at least 1, not 0'),
        ({'base': grouping.random()}, 'random predicts nothing, so that there is nothing to verif'),
        ({'base': grouping.hoa(smaller=0.5)}, 'standard networks: leave smaller out of its base'),
        ({'fraction': 1.5}, 'fraction must be above 0 and at most 1, not 1.5'),
    ],
)
def test_what_cannot_be_asked_for(asked, message):
    with pytest.raises(ValueError, match=message):
        grouping.verify(**asked)
