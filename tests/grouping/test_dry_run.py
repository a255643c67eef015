"""What a method will take, against what it took."""

import pytest
from small import TASKS

from tag_jax import grouping, report, training
from tag_jax.training import Measurement, TrainingConfig

CONFIG = TrainingConfig(
    steps=20,
    batch_size=32,
    learning_rate=1e-2,
    eval_every=10,
    affinity=Measurement(every=10),
    patience=0,
)


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('method', 'budget', 'searched', 'trained'),
    [
        ('tag', 2, 20, 40),
        ('hoa', 2, 6 * 20, 60),
        pytest.param('random', 2, 0, 60, marks=pytest.mark.sweep),
        ('all_in_one', 1, 0, 20),
    ],
)
def test_steps_are_those_that_the_method_takes_at_most(
    problem, dataset, method, budget, searched, trained
):
    way = getattr(grouping, method)()
    foreseen = grouping.dry_run(problem, dataset, budget, way, CONFIG)
    steps = sum(stage.networks * stage.steps for stage in foreseen.stages)
    assert steps == searched + trained
    assert foreseen.seconds > 0
    assert foreseen.bytes > 2**20
    cost = grouping.group_tasks(problem, dataset, budget, way, CONFIG).cost
    assert cost['search_steps'] == searched
    assert cost['training_steps'] <= trained
    assert f'{steps:,} steps in all' in report.dry_run_text(foreseen)


def test_networks_of_a_trial_have_names_that_say_so(problem, dataset, monkeypatch):
    """They are what the line of progress names."""
    names, train = set(), training.train_networks

    def seen(problem, train_split, validation, plans, *rest):
        names.update(plan.name for plan in plans)
        return train(problem, train_split, validation, plans, *rest)

    monkeypatch.setattr(training, 'train_networks', seen)
    grouping.dry_run(problem, dataset, 2, grouping.tag(), CONFIG)
    assert names == {'trial network 1', 'trial network 2'}


def test_what_is_given_is_not_trained(problem, dataset):
    given = [[0.0] * len(TASKS)] * len(TASKS)
    way = grouping.from_affinities(given)
    foreseen = grouping.dry_run(problem, dataset, 2, way, CONFIG)
    assert not any(stage.measures for stage in foreseen.stages)
    with pytest.raises(ValueError, match='budget must be an integer between 1 and'):
        grouping.dry_run(problem, dataset, 9, way, CONFIG)
