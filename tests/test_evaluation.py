import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import evaluation, grouping, objectives
from tag_jax.data import Split
from tag_jax.problem import from_functions

ALL = tuple(TASKS)


@pytest.mark.variants(2)
@pytest.mark.parametrize('batch_size', [1, 7, 200, 1000])
def test_evaluation_does_not_depend_on_the_batch_size(problem, point, dataset, batch_size):
    found = evaluation.evaluate(problem, *point, dataset.test, batch_size)
    expected = evaluation.evaluate(problem, *point, dataset.test, 50)
    for task in ALL:
        assert found[task] == pytest.approx(expected[task], rel=1e-5)


def test_evaluation_by_hand(problem, point, dataset):
    found = evaluation.evaluate(problem, *point, dataset.test, 64)
    outputs = problem.predict(*point, dataset.test.inputs)
    radius = dataset.test.targets['radius'].astype(float)
    residual = np.asarray(outputs['radius'])[:, 0] - radius
    expected = 100 * np.mean(residual**2) / radius.var()
    assert found['radius']['error'] == pytest.approx(expected, rel=1e-4)
    wrong = np.argmax(outputs['sign'], axis=1) != dataset.test.targets['sign']
    assert found['sign']['error'] == pytest.approx(100 * wrong.mean())


def test_the_predictor_answers_any_number_of_inputs(problem, point, dataset):
    predict = evaluation.predictor(problem, *point, batch_size=64)
    expected = problem.predict(*point, dataset.test.inputs)
    for size in (1, 64, 65, 200):
        found = predict(dataset.test.inputs[:size])
        for task in ALL:
            assert isinstance(found[task], np.ndarray)
            np.testing.assert_allclose(found[task], expected[task][:size], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match='no examples to predict for'):
        predict(dataset.test.inputs[:0])
    for inputs, found in (({'u': np.ones(5), 'v': np.ones(32)}, '5 and 32'), ([[1.0]], 'a single')):
        with pytest.raises(ValueError, match=f'as many examples, one a row, not of {found}'):
            predict(inputs)


def replaced(split, **targets):
    return split._replace(targets={**split.targets, **targets})


def with_value(array, row, value):
    array = array.copy()
    array[row] = value
    return array


def test_sound_splits_pass(problem, dataset):
    evaluation.check_split(problem, dataset.train, 'train')
    evaluation.check_split(problem, make_split(10, labelled=0.5), 'train')
    unmasked = dataset.train._replace(mask={'octant': None})
    evaluation.check_split(problem, unmasked, 'train')
    on_device = jax.tree.map(jnp.asarray, dataset.train)
    evaluation.check_split(problem, on_device, 'train')
    boolean = replaced(dataset.train, sign=dataset.train.targets['sign'] == 1)
    evaluation.check_split(problem, boolean, 'train')


def malformed():
    split = make_split(64)
    sign, radius = split.targets['sign'], split.targets['radius']
    hidden = {'octant': np.zeros(64, bool)}
    return [
        (split._replace(inputs=split.inputs[:0]), 'the train split has no examples'),
        (split._replace(inputs=split.inputs[:5]), r"5 inputs, but targets \[64\] for 'sign'"),
        (split._replace(inputs=split.inputs.tolist()), 'must be arrays of one length'),
        (split._replace(inputs={'a': np.ones(3), 'b': np.ones(4)}), 'must be arrays of one length'),
        (split._replace(inputs=split.inputs[:, :2]), 'the train split does not fit the problem'),
        (split._replace(inputs=with_value(split.inputs, 3, np.nan)), 'inputs that are not finite'),
        (split._replace(targets={}), "has no targets for the task 'sign': it has those of no task"),
        (
            replaced(split.only(['sign']), raduis=radius),
            "task 'octant': it has those of sign, raduis",
        ),
        (split._replace(mask=hidden), "'octant' has no label in the train split"),
        (split._replace(mask={'radius': np.ones(3, bool)}), r"but a mask \[3\] for 'radius'"),
        (split._replace(mask={'radius': np.ones((64, 1), bool)}), r'but a mask \[64, 1\]'),
        (split._replace(mask={'raduis': np.ones(64, bool)}), "mask for 'raduis', which is not a"),
        (replaced(split, radius=with_value(radius, 7, np.nan)), "'radius' that are not finite"),
        (replaced(split, radius=np.full(64, 0.1)), "of 'radius' will not do: all its targets are"),
        (replaced(split, sign=with_value(sign, 5, -1)), "of 'sign' will not do: the label -1 is"),
        (replaced(split, sign=with_value(sign, 5, 2)), 'the label 2 is not one of the classes'),
        (replaced(split, sign=sign[:, None]), "of 'sign' will not do: class labels must be"),
        (replaced(split, sign=sign.astype(float)), 'class labels must be integers'),
        (
            replaced(split, radius=np.eye(64, 2)),
            r"the loss of 'radius' cannot take its targets: targets \[1, 2\]",
        ),
    ]


@pytest.mark.parametrize(
    ('split', 'message'), malformed(), ids=lambda x: x if isinstance(x, str) else ''
)
def test_malformed_splits_are_named(problem, split, message):
    with pytest.raises(ValueError, match=message) as raised:
        evaluation.check_split(problem, split, 'train')
    assert '\n' not in str(raised.value)


def test_inputs_of_another_shape_are_named(noisy_problem, dataset):
    """By Linen, which has errors of its own, and by NNX."""
    wide = dataset.test._replace(inputs=np.ones((200, 7), np.float32))
    with pytest.raises(ValueError, match='the test split does not fit the problem: ') as raised:
        evaluation.check_split(noisy_problem, wide, 'test')
    assert 'https' not in str(raised.value)
    network = noisy_problem.init(jax.random.key(0))
    predict = evaluation.predictor(noisy_problem, *network, 64)
    with pytest.raises(ValueError, match=r'cannot take inputs of shape \[N, 7\]: '):
        predict(wide.inputs)


def test_a_representation_without_a_gradient_is_named(dataset):
    """The padding mask of a transformer, say."""
    problem = from_functions(
        lambda key: {'shared': {'w': jnp.eye(3)}, 'heads': {'radius': {'w': jnp.ones((3, 1))}}},
        lambda shared, inputs: {'z': inputs @ shared['w'], 'mask': inputs[:, 0] > 0},
        {'radius': lambda head, representation: representation['z'] @ head['w']},
        {'radius': TASKS['radius']},
    )
    with pytest.raises(ValueError, match=r"representation has a part\['mask'\] of bool, which has"):
        evaluation.check_split(problem, dataset.train, 'train')


def test_heads_of_the_wrong_width_are_named_before_training(dataset):
    narrow = make_problem({**TASKS, 'octant': objectives.classification(3)})
    with pytest.raises(ValueError, match="of 'octant' will not do: the label [3-7] is not one of"):
        evaluation.check_split(narrow, dataset.train, 'train')


def test_splits_need_only_the_fields(problem, point, dataset):
    """Any object will do, whatever else it holds and in whatever order."""
    other = types.SimpleNamespace(
        mask=None,
        targets={**dataset.test.targets, 'name': np.array(['x'] * 200)},
        inputs=dataset.test.inputs,
    )
    evaluation.check_split(problem, other, 'test')
    found = evaluation.evaluate(problem, *point, other, 64)
    assert found == evaluation.evaluate(problem, *point, dataset.test, 64)


def test_lists_of_labels_are_labels(problem, point, dataset):
    targets = {task: target.tolist() for task, target in dataset.test.targets.items()}
    listed = dataset.test._replace(targets=targets)
    evaluation.check_split(problem, listed, 'test')
    found = evaluation.evaluate(problem, *point, listed, 64)
    expected = evaluation.evaluate(problem, *point, dataset.test, 64)
    assert found['sign'] == expected['sign']


def test_metrics_need_only_sums_and_a_finish():
    """A confusion matrix, as for mIoU, without a look at the whole split."""

    def sums(output, target, mask):
        cells = jnp.where(mask, 2 * target + (output[:, 0] > 0), 4)
        return jnp.bincount(cells, length=5)[:4].reshape(2, 2)

    class Metric:
        def __init__(self):
            self.sums = sums
            self.finish = lambda matrix: {
                'error': float(100 - 100 * np.trace(matrix) / matrix.sum())
            }

    problem = from_functions(
        lambda key: {'shared': jnp.eye(1), 'heads': {'a': jnp.ones(())}},
        lambda shared, inputs: inputs @ shared,
        {'a': lambda head, z: z * head},
        {'a': objectives.regression()._replace(metric=Metric())},
    )
    split = Split(np.array([[1.0], [-1], [2], [3]], np.float32), {'a': np.array([1, 0, 0, 1])})
    params, state = problem.init(jax.random.key(0))
    evaluation.check_split(problem, split, 'test')
    assert evaluation.evaluate(problem, params, state, split, 3) == {
        'a': {'error': 25, 'loss': 2.25}
    }


def with_loss(problem, task, loss):
    own = problem.tasks[task]._replace(loss=loss)
    return dataclasses.replace(problem, tasks={**problem.tasks, task: own})


@pytest.mark.parametrize(
    'loss',
    [
        lambda output, target: jnp.mean((output - target[None]) ** 2, axis=0),
        lambda output, target: (output[:, 0] - target) ** 2 / jnp.sum(output**2),
        lambda output, target: jnp.abs(output[:, 0] - jnp.mean(output)),
        lambda output, target: (output[:, 0] - target - jnp.max(output)) ** 2,
        lambda output, target: jnp.flip(output[:, 0] - target) ** 2,
        lambda output, target: jax.nn.softmax(output[:, 0]) + 0 * target,
    ],
)
def test_a_loss_of_an_example_must_not_depend_on_the_others(problem, dataset, loss):
    """The first is a mean over the batch that broadcasting gives the shape of a loss."""
    with pytest.raises(ValueError, match="the loss of 'radius' for one example depends on the oth"):
        evaluation.check_split(with_loss(problem, 'radius', loss), dataset.train, 'train')


@pytest.mark.parametrize(
    'loss',
    [
        lambda output, target: jnp.abs(output[:, 0] - target),
        lambda output, target: jnp.log(output[:, 0]) - target,
        lambda output, target: jnp.where(target > 1, output[:, 0], 0.0),
    ],
)
def test_losses_of_ones_own_may_be_anything_else(problem, dataset, loss):
    evaluation.check_split(with_loss(problem, 'radius', loss), dataset.train, 'train')


@pytest.mark.parametrize('dataset_like', [(np.zeros((4, 3)), np.zeros(4)), None, {'train': None}])
def test_what_is_no_dataset_is_named(problem, dataset_like):
    with pytest.raises(ValueError, match='dataset must be a data.Dataset with a train split, not'):
        grouping.group_tasks(problem, dataset_like, 2)
