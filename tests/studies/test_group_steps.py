"""Estimates by group steps, against a lookahead by hand, and where groups are planted."""

import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_up_tables import made_up
from small import TASKS, make_problem, make_split

from tag_jax import examples, grouping, objectives
from tag_jax.data import Dataset, Split
from tag_jax.grouping import Searcher
from tag_jax.problem import from_functions
from tag_jax.studies import group_steps, judging, recorded
from tag_jax.studies.replay import RecordedTrainer
from tag_jax.training import TrainingConfig

ROOT = pathlib.Path(__file__).parents[2]
SLOPES = {'up': 1.0, 'higher': 1.5, 'down': -1.0, 'lower': -2.0}


@pytest.mark.sweep
def test_a_step_of_a_set_is_the_lookahead_by_hand():
    """By `jax.grad` of the mean loss of the set, one set at a time."""
    problem = make_problem(widths=(6, 4))
    params, model_state = problem.init(jax.random.key(1))
    batch, fresh = (examples.as_batch(problem, make_split(size, size)) for size in (40, 30))

    def losses(shared, own):
        outputs = problem.predict({**params, 'shared': shared}, model_state, own.inputs)
        return {t: one.loss(outputs[t], own.targets[t]).mean() for t, one in TASKS.items()}

    def mean_loss(shared, tasks):
        found = losses(shared, batch)
        return sum(found[task] for task in tasks) / len(tasks)

    norm = lambda tree: np.sqrt(sum(np.square(x).sum() for x in jax.tree.leaves(tree)))
    shared, names = params['shared'], tuple(TASKS)
    rate = 0.1 * norm(shared) / norm(jax.grad(mean_loss)(shared, names))
    before = losses(shared, fresh)
    sets = [s for n in (1, 2, 3) for s in itertools.combinations(names, n)]
    members = np.array([[task in tasks for task in names] for tasks in sets])
    for sources, times in (
        (members / members.sum(axis=1, keepdims=True), lambda tasks: 1),
        (members, len),
    ):
        found = group_steps.step_changes(
            problem, params, model_state, batch, fresh, sources, 0.1, jax.random.key(0)
        )
        for n, tasks in enumerate(sets):
            gradient, size = jax.grad(mean_loss)(shared, tasks), times(tasks)
            step = jax.tree.map(lambda g, size=size: rate * size * g, gradient)
            after = losses(jax.tree.map(jnp.subtract, shared, step), fresh)
            for m, task in enumerate(names):
                expected = 100 * float(after[task] / before[task] - 1)
                assert found[n, m] == pytest.approx(expected, abs=5e-3), (tasks, task)


def lines():
    """Tasks on one slope that all share: two of them want it up, two down."""
    tasks = dict.fromkeys(SLOPES, objectives.regression())
    problem = from_functions(
        init=lambda key: {'shared': 0.1 * jnp.ones((1, 1)), 'heads': {t: {} for t in SLOPES}},
        encode=lambda shared, inputs: inputs @ shared,
        decode=dict.fromkeys(SLOPES, lambda head, representation: representation),
        tasks=tasks,
    )
    x = np.linspace(-1, 1, 32, dtype=np.float32)
    split = Split(x[:, None], {task: slope * x for task, slope in SLOPES.items()})
    return problem, Dataset('lines', tasks, split, split, split)


@pytest.fixture(scope='module')
def found():
    problem, dataset = lines()
    config = TrainingConfig(steps=10, batch_size=16, eval_every=5)
    return group_steps.estimates(problem, dataset, config)


@pytest.mark.variants(1)
@pytest.mark.parametrize('kind', ['mean', 'sum'])
def test_planted_groups_are_found(found, kind):
    scores, members = found[kind].scores, found[kind].members
    assert (np.isfinite(scores) == members).all()
    method = group_steps.method('group_steps', [found[kind]])
    proposal = method.propose(Searcher(RecordedTrainer(made_up(), 0)), 2)
    friends = {0, 1}, {2, 3}
    assert all(any(set(group) <= pair for pair in friends) for group in proposal.groups)


def test_sizes_alone_are_means_over_sets_of_a_size(found):
    whole, alone = found['mean'], group_steps.by_size(found['mean'])
    sizes = whole.members.sum(axis=1)
    assert (np.isfinite(alone.scores) == alone.members).all()
    for size, task in itertools.product((1, 2, 3, 4), range(4)):
        own = (sizes == size) & whole.members[:, task]
        np.testing.assert_allclose(alone.scores[own, task], whole.scores[own, task].mean())


def test_the_page_says_what_the_tables_say_of_it():
    """The column of one problem under "Tried and not kept", where nothing has to be measured."""
    table = recorded.read('emotions')
    judged = judging.judge(table, [grouping.all_in_one(), grouping.all_but_one()])
    page = (ROOT / 'docs' / 'benchmark.md').read_text().partition('| points a task above')[2]
    rows = [line.strip('|').split('|') for line in page.splitlines()]
    place = [cell.strip() for cell in rows[0]].index('emotions')
    said = {row[0].strip(): row[place] for row in rows[2:7]}
    for name, score in judged.scores.items():
        regret = (score - judged.optimum) / len(table.task_names)
        assert float(said[name]) == pytest.approx(regret, abs=0.0051), name


def test_sources_are_refused():
    problem, dataset = lines()
    config = TrainingConfig(steps=10, batch_size=16, eval_every=5)
    with pytest.raises(ValueError, match=r'group steps need splits in memory'):
        group_steps.estimates(problem, dataset._replace(train=object()), config)
