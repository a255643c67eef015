"""Weights of examples and of classes, in the losses that networks train on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_class_weight
from small import make_problem, make_split

from tag_jax import data, evaluation, gradients, objectives, training
from tag_jax.problem import Batch, from_functions
from tag_jax.training import NetworkPlan, TrainingConfig

TASKS = {'price': objectives.regression(), 'sold': objectives.binary()}


def arrays(size=60, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(size, 3)).astype(np.float32)
    price = inputs.sum(axis=1) + rng.normal(size=size)
    price[::7] = np.nan
    return inputs, {'price': price, 'sold': rng.integers(2, size=size)}


def line(tasks=None):
    """A linear encoder without heads, so that gradients can be written down."""
    tasks = {'price': objectives.regression()} if tasks is None else tasks
    start = lambda key: {'shared': jnp.zeros(3), 'heads': {task: {} for task in tasks}}
    decode = {task: lambda head, z: z[:, None] for task in tasks}
    return from_functions(start, lambda w, x: x @ w, decode, tasks)


def test_weights_are_relative_and_of_training_rows_alone():
    inputs, targets = arrays()
    weights = np.random.default_rng(1).uniform(0, 5, 60)
    weights[:20] = 0
    plain = data.from_arrays(inputs, targets, TASKS)
    weighted = data.from_arrays(inputs, targets, TASKS, weights=weights)
    ids = {'row': objectives.classification(60)}
    order = data.from_arrays(inputs, {'row': np.arange(60)}, ids).train.targets['row']
    own = weights[order]
    expected = own / own[own > 0].mean()
    np.testing.assert_allclose(weighted.train.mask['sold'], expected, rtol=1e-6)
    known = plain.train.mask['price']
    np.testing.assert_allclose(weighted.train.mask['price'], known * expected, rtol=1e-6)
    for split in ('validation', 'test'):
        assert 'sold' not in (getattr(weighted, split).mask or {})
        assert getattr(weighted, split).mask['price'].dtype == bool
    np.testing.assert_array_equal(weighted.train.inputs, plain.train.inputs)


def test_a_column_of_weights_is_no_input(tmp_path):
    lines = ['size,weight,grade,part']
    lines += [f'{n},{n % 3},{"ab"[n % 2]},train' for n in range(6)]
    lines += [f'{n},9,{"ab"[n % 2]},{part}' for part in ('validation', 'test') for n in range(2)]
    (tmp_path / 'things.csv').write_text('\n'.join(lines))
    found = data.table(tmp_path / 'things.csv', ['grade'], split='part', weights='weight')
    assert found.train.inputs.shape == (6, 1)
    np.testing.assert_allclose(found.train.mask['grade'], np.array([0, 1, 2, 0, 1, 2]) / 1.5)
    assert found.test.mask is None
    both = data.table(
        *(tmp_path / 'things.csv', ['grade']), split='part', weights='weight', inputs=['weight']
    )
    assert both.train.inputs.shape == (6, 1)


def test_a_target_is_neither_weights_nor_split(tmp_path):
    (tmp_path / 't.csv').write_text('x,y,z\n' + ''.join(f'{n},{n % 2},{n}\n' for n in range(20)))
    for rule in ('weights', 'split'):
        with pytest.raises(ValueError, match=f"'z' is a target, and cannot be {rule} as well"):
            data.table(tmp_path / 't.csv', ['y', 'z'], **{rule: 'z'})


def test_a_column_of_a_data_frame_may_hold_the_weights():
    pandas = pytest.importorskip('pandas')
    inputs, targets = arrays()
    weights = np.arange(60.0)
    frame = pandas.DataFrame(inputs, columns=['a', 'b', 'c']).assign(w=weights)
    named = data.from_arrays(frame, targets, TASKS, weights='w')
    given = data.from_arrays(frame.drop(columns='w'), targets, TASKS, weights=weights)
    assert [column.name for column in named.encoding.inputs] == ['a', 'b', 'c']
    np.testing.assert_array_equal(named.train.mask['sold'], given.train.mask['sold'])


def test_a_weight_counts_as_so_many_copies_of_an_example():
    """Losses and gradients, over the number of examples that have a weight."""
    problem, split = make_problem(), make_split(12, labelled=0.8)
    copies = np.random.default_rng(2).integers(0, 4, 12)
    weighted = {task: mask * copies.astype(np.float32) for task, mask in split.mask.items()}
    repeated = jax.tree.map(lambda x: np.repeat(x, copies, axis=0), split)
    params, state = problem.init(jax.random.key(0))
    of = lambda one: gradients.task_gradients(problem, params, state, Batch(*one), None)[0]
    found, expected = of(split._replace(mask=weighted)), of(repeated)
    for n, task in enumerate(problem.task_names):
        labels = (weighted[task] > 0).sum()
        scale = weighted[task].sum() / labels
        assert found.losses[n] == pytest.approx(float(expected.losses[n]) * scale, rel=1e-5)
        for one, other in zip(
            *(jax.tree.leaves(part.shared()) for part in (found, expected)), strict=True
        ):
            np.testing.assert_allclose(one[n], other[n] * scale, rtol=2e-4, atol=1e-6)


def test_a_network_trains_on_weighted_losses():
    """One step of gradient descent from zero, by hand."""
    inputs, targets = arrays()
    weights = np.random.default_rng(3).uniform(0, 2, 60)
    dataset = data.from_arrays(
        inputs, {'price': targets['price']}, {'price': objectives.regression()}, weights=weights
    )
    train = dataset.train
    mask = np.asarray(train.mask['price'], np.float64)
    known = mask > 0
    config = TrainingConfig(steps=1, batch_size=known.sum(), eval_every=1, optimizer=optax.sgd)
    (found,) = training.train_networks(
        line(), train, dataset.validation, [NetworkPlan('one', ('price',), 0, 0.1)], config
    )
    errors = -np.where(known, train.targets['price'], 0)  # Of a prediction of zero.
    gradient = (2 * mask * errors) @ train.inputs / known.sum()
    np.testing.assert_allclose(found.params['shared'], -0.1 * gradient, rtol=1e-4)


def test_errors_and_metrics_count_all_labels_alike():
    problem, split = make_problem(), make_split(40, labelled=0.7)
    weighted = {task: mask * np.float32(2.5) for task, mask in split.mask.items()}
    network = problem.init(jax.random.key(1))
    scores = [
        evaluation.evaluate(problem, *network, split._replace(mask=mask), 16)
        for mask in (split.mask, weighted)
    ]
    losses = [[of_task.pop('loss') for of_task in found.values()] for found in scores]
    np.testing.assert_allclose(losses[1], 2.5 * np.array(losses[0]), rtol=1e-6)
    assert scores[0] == scores[1]


def table_with_classes(tmp_path, **options):
    classes = ['well'] * 6 + ['ill'] * 2 + ['']
    parts = ['train'] * 9 + ['validation', 'test'] * 3
    lines = ['x,state,age,part']
    states = [*classes, 'well', 'ill', 'well', 'ill', 'well', 'ill']
    for n, (state, part) in enumerate(zip(states, parts, strict=True)):
        lines.append(f'{n},{state},{n / 7},{part}')
    (tmp_path / 'ward.csv').write_text('\n'.join(lines))
    return data.table(tmp_path / 'ward.csv', ['state', 'age'], split='part', **options)


@pytest.mark.parametrize(
    ('asked', 'expected'),
    [({'ill': 5}, [5, 1]), ({'well': 0.5, 'ill': 2}, [2, 0.5]), ('balanced', None)],
)
def test_weights_of_classes_by_their_names(tmp_path, asked, expected):
    dataset = table_with_classes(tmp_path, class_weights={'state': asked})
    labels = dataset.train.targets['state'][dataset.train.mask['state']]
    if expected is None:
        expected = compute_class_weight('balanced', classes=np.array([0, 1]), y=labels)
        assert expected.tolist() == pytest.approx([2, 2 / 3])
    logits = np.array([[1.0, -0.5]] * 9)
    batch = Batch(np.zeros((9, 2), np.float32), dataset.train.targets, dataset.train.mask)
    problem = from_functions(
        lambda key: {'shared': jnp.zeros((2, 2)), 'heads': {'state': {}}},
        lambda w, x: x @ w,
        {'state': lambda head, z: z + jnp.asarray(logits)},
        {'state': dataset.tasks['state']},
    )
    cross_entropies = np.log(np.exp(logits[0]).sum()) - logits[0][labels]
    by_hand = (np.asarray(expected)[labels] * cross_entropies).sum() / len(labels)
    losses, *_ = gradients.task_losses(
        problem, *problem.init(jax.random.key(0)), batch, jax.random.key(0)
    )
    assert float(np.ravel(losses)[0]) == pytest.approx(by_hand, rel=1e-5)
    assert dataset.tasks['state'].options['class_weights'] == pytest.approx(list(expected))


@pytest.mark.parametrize(
    ('asked', 'message'),
    [
        ({'grade': 'balanced'}, "class_weights has 'grade', which is no target"),
        ({'age': 'balanced'}, "'age', which is regressed and has no classes"),
        ({'state': {'dead': 2}}, "'state' has 'dead', which is none of its classes ill, well"),
        ({'state': {'ill': -1}}, "class 'ill' of 'state' must be a number of at least 0, not -1"),
        ({'state': {'ill': 'much'}}, "'ill' of 'state' must be a number of at least 0"),
        ({'state': [1, 2]}, "'state' must be 'balanced' or {class: weight}, not \\[1, 2\\]"),
        ('balanced', 'class_weights must be {target'),
    ],
)
def test_weights_of_no_classes_are_refused(tmp_path, asked, message):
    with pytest.raises(ValueError, match=message):
        table_with_classes(tmp_path, class_weights=asked)


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        (np.where(np.arange(60) == 3, -1, 1), 'the weight of row 4 is -1: give a number of at lea'),
        (np.where(np.arange(60) == 3, np.nan, 1), 'the weight of row 4 is missing'),
        (np.zeros(60), 'the weights of all training examples are zero'),
        (['much'] * 60, 'weights must be numbers'),
        (np.ones((60, 2)), 'weights must be numbers'),
        (np.ones(59), 'there are 60 examples, but 59 values in weights'),
        ('w', "weights names the column 'w', which is none of a DataFrame"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    inputs, targets = arrays()
    with pytest.raises(ValueError, match=message):
        data.from_arrays(inputs, targets, TASKS, weights=weights)


def test_weights_of_a_split_by_hand_are_finite_and_not_negative():
    problem, split = make_problem(), make_split(8)
    wrong = split._replace(mask={'sign': np.array([1.0, 2, 3, 4, 5, 6, 7, -1])})
    with pytest.raises(ValueError, match="mask of 'sign' that is neither true or false nor weigh"):
        evaluation.check_split(problem, wrong, 'training')


def test_measures_of_targets_by_their_names(tmp_path):
    dataset = table_with_classes(
        tmp_path, metrics={'state': 'f1'}, class_weights={'state': 'balanced'}
    )
    assert dataset.tasks['state'].options['judged_by'] == 'f1'
    assert 'class_weights' in dataset.tasks['state'].options
    for asked, message in (
        ({'grade': 'f1'}, "metrics has 'grade', which is no target"),
        ({'state': 'recall'}, "cannot be judged by 'recall'"),
        ('f1', 'metrics must be {target: measure}'),
    ):
        with pytest.raises(ValueError, match=message):
            table_with_classes(tmp_path, metrics=asked)
