import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import TASKS, make_problem, make_split

from tag_jax import data, evaluation, gradients, objectives
from tag_jax.problem import Batch, MultiTaskProblem, from_functions, from_linen, from_nnx

REGRESSION = objectives.regression()
EXAMPLE = np.zeros((1, 3), np.float32)


def plain(decode):
    """A problem of linear functions with the given decoders."""
    return from_functions(
        lambda key: {'shared': jnp.eye(2), 'heads': {task: jnp.ones((2, 1)) for task in decode}},
        lambda shared, inputs: inputs @ shared,
        decode,
        dict.fromkeys(decode, REGRESSION),
    )


def linear(head, representation):
    return representation @ head


def test_a_problem_names_what_is_wrong_with_its_parts():
    parts = {'tasks': {'a': REGRESSION}, 'init': None, 'encode': None, 'decode': {'a': linear}}
    assert MultiTaskProblem(**parts).task_names == ('a',)
    for sentence, changes in {
        "the metric of 'a' has no sums and finish": {
            'tasks': {'a': REGRESSION._replace(metric=REGRESSION.loss)}
        },
        "the loss of 'a' must be a function, not 3": {'tasks': {'a': REGRESSION._replace(loss=3)}},
        'a problem needs at least one task': {'tasks': {}},
        "the name of a task must be text, not ''": {'tasks': {'': REGRESSION}},
        "the task 'a+b' is called like the set of the tasks a, b": {
            'tasks': dict.fromkeys(('a', 'a+b', 'b'), REGRESSION)
        },
        "the task 'a+b+c' is called like the set of the tasks a+b, c": {
            'tasks': dict.fromkeys(('a+b+c', 'c', 'a+b'), REGRESSION)
        },
        "the task 'a' must be an objective, not 'regression'": {'tasks': {'a': 'regression'}},
        'tasks must be a dict {task: objective}, not tuple': {'tasks': ('a',)},
        "decode has no entry for the task 'a'": {'decode': {}},
        "decode has an entry for 'b', which is not a task": {'decode': {'a': linear, 'b': linear}},
        'decode must be a dict': {'decode': linear},
    }.items():
        with pytest.raises(ValueError, match=re.escape(sentence)):
            MultiTaskProblem(**parts | changes)


def test_a_plus_in_the_name_of_a_task_is_no_fault_by_itself():
    names = ('Na+', 'K+', 'sodium+potassium', 'sodium')
    heads = dict.fromkeys(names, linear)
    made = MultiTaskProblem(dict.fromkeys(names, REGRESSION), None, None, heads)
    assert made.task_names == names


def test_a_problem_is_static_under_jit(problem):
    traces = []

    @jax.jit
    def count(x):
        traces.append(x)
        return x

    apply = jax.jit(lambda p, x: count(x), static_argnums=0)
    apply(problem, 1.0)
    apply(problem, 2.0)
    assert len(traces) == 1
    assert hash(problem) != hash(make_problem())


def test_a_head_does_not_depend_on_the_other_tasks():
    several = make_problem()
    one = make_problem({'radius': TASKS['radius']})
    key = jax.random.key(3)
    (params, _), (alone, _) = several.init(key), one.init(key)
    jax.tree.map(np.testing.assert_array_equal, params['heads']['radius'], alone['heads']['radius'])
    jax.tree.map(np.testing.assert_array_equal, params['shared'], alone['shared'])


def test_init_can_be_vmapped(problem):
    keys = jax.random.split(jax.random.key(0), 3)
    params, _ = jax.jit(jax.vmap(problem.init))(keys)
    single, _ = problem.init(keys[1])
    jax.tree.map(
        lambda many, one: np.testing.assert_allclose(many[1], one, rtol=1e-6), params, single
    )


def test_batch_statistics_move_in_training_only(noisy_problem, batch):
    params, state = noisy_problem.init(jax.random.key(0))
    key = jax.random.key(1)
    encode = jax.jit(noisy_problem.encode, static_argnums=3)
    _, trained = encode(params['shared'], state['shared'], batch.inputs, True, key)
    _, kept = encode(params['shared'], state['shared'], batch.inputs, False, None)
    assert jax.tree.structure(trained) == jax.tree.structure(state['shared'])
    assert all(
        np.any(a != b)
        for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(state['shared']), strict=True)
    )
    jax.tree.map(np.testing.assert_array_equal, kept, state['shared'])


def test_dropout_follows_the_key(noisy_problem, batch):
    params, state = noisy_problem.init(jax.random.key(0))

    def encode(train, key):
        arguments = params['shared'], state['shared'], batch.inputs, train, key
        return np.asarray(noisy_problem.encode(*arguments)[0])

    first, again = encode(True, jax.random.key(1)), encode(True, jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != encode(True, jax.random.key(2)))
    assert np.any(first != encode(True, jax.random.PRNGKey(2)))
    assert 0.3 < np.mean(first == 0) < 0.7
    assert not np.any(encode(False, None) == 0)
    with pytest.raises(ValueError, match=r'draws random numbers while training .*: pass key='):
        encode(True, None)


def test_random_streams_of_repeated_layers_differ():
    class Encoder(nnx.Module):
        def __init__(self, rngs):
            make = nnx.split_rngs(splits=2)(nnx.vmap(lambda r: nnx.Dropout(0.5, rngs=r)))
            self.layers = make(rngs)

        def __call__(self, inputs):
            return nnx.vmap(lambda layer: layer(inputs))(self.layers).swapaxes(0, 1)

    problem = from_nnx(
        Encoder,
        {'a': REGRESSION},
        jnp.ones((8, 4)),
    )
    params, state = problem.init(jax.random.key(0))
    encode = lambda key: problem.encode(
        params['shared'], state['shared'], jnp.ones((8, 4)), True, key
    )[0]
    one, two = encode(jax.random.key(0)).swapaxes(0, 1)
    assert np.any(one != two)


def test_modes_are_passed_to_modules_that_name_them():
    class Deterministic(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, deterministic):
            return inputs * (1.0 if deterministic else 2.0)

    class Head(nnx.Module):
        def __init__(self, rngs):
            pass

        def __call__(self, representation, train):
            return representation * (3.0 if train else 1.0)

    tasks, example = {'a': REGRESSION}, jnp.ones((2, 1))
    for problem in (
        from_linen(Deterministic(), tasks, example),
        from_nnx(lambda rngs: nnx.Linear(1, 1, rngs=rngs), tasks, example, {'a': Head}),
    ):
        params, state = problem.init(jax.random.key(0))

        def output(train, problem=problem, params=params, state=state):
            z, _ = problem.encode(params['shared'], state['shared'], example, train, None)
            head = params['heads']['a'], state['heads']['a']
            return problem.decode['a'](*head, z, train, None)[0]

        assert np.any(output(True) != output(False))
        np.testing.assert_array_equal(output(False), problem.predict(params, state, example)['a'])


def test_functions_come_in_three_forms():
    key, inputs = jax.random.key(0), jnp.ones((3, 2))

    def noisy(head, representation, key, train):
        return linear(head, representation) + (jax.random.normal(key) if train else 0)

    def counting(head, state, representation, train, key):
        return linear(head, representation), state + 1

    problem = plain({'simple': linear, 'noisy': noisy})
    params, state = problem.init(key)
    assert state == {'shared': {}, 'heads': {'simple': {}, 'noisy': {}}}
    decode = problem.decode['noisy']
    quiet, _ = decode(params['heads']['noisy'], {}, inputs, False, None)
    loud, _ = decode(params['heads']['noisy'], {}, inputs, True, key)
    np.testing.assert_array_equal(
        quiet, problem.decode['simple'](jnp.ones((2, 1)), {}, inputs, True, key)[0]
    )
    assert np.any(quiet != loud)

    stateful = from_functions(
        lambda key: (
            {'shared': jnp.eye(2), 'heads': {'a': jnp.ones((2, 1))}},
            {'shared': {}, 'heads': {'a': jnp.zeros(())}},
        ),
        lambda shared, inputs: inputs @ shared,
        {'a': counting},
        {'a': REGRESSION},
    )
    params, state = stateful.init(key)
    _, state = stateful.decode['a'](params['heads']['a'], state['heads']['a'], inputs, True, key)
    assert state == 1


def test_masked_targets_are_replaced():
    batch = Batch(
        np.zeros((3, 1)),
        {
            'a': np.array([1.0, np.nan, 3.0]),
            'image': np.full((3, 2, 2, 4), np.nan),
            'b': np.ones(3),
            'bool': np.array([True, True, False]),
        },
        {
            **dict.fromkeys(('a', 'bool'), np.array([True, False, True])),
            'image': np.zeros((3, 2, 2), bool),
        },
    )
    target, mask = batch.labels('bool')
    assert target.dtype == bool
    np.testing.assert_array_equal(target, [True, False, False])
    target, mask = batch.labels('a')
    np.testing.assert_array_equal(target, [1, 0, 3])
    np.testing.assert_array_equal(mask, [True, False, True])
    target, mask = batch.labels('image')
    assert not np.any(target)
    assert mask.shape == (3, 2, 2)
    target, mask = batch.labels('b')
    assert target is batch.targets['b']
    assert np.all(mask)


def test_functions_must_give_the_parts_of_a_problem():
    problem = from_functions(
        lambda key: {'w': jnp.eye(2)},
        lambda shared, inputs: inputs,
        {'a': linear},
        {'a': REGRESSION},
    )
    with pytest.raises(ValueError, match="init must return {'shared': ..., 'heads'.* each of a"):
        problem.init(jax.random.key(0))


def test_modules_that_nnx_cannot_make_are_refused():
    class WithPlainArray(nnx.Module):
        def __init__(self, rngs):
            self.scale = jnp.ones(3)

        def __call__(self, inputs):
            return inputs * self.scale

    parts = ({'a': REGRESSION}, jnp.ones((1, 3)))
    make = lambda rngs: nnx.Linear(3, 1, rngs=rngs)
    with pytest.raises(ValueError, match='WithPlainArray.scale is a plain array'):
        from_nnx(WithPlainArray, *parts)
    with pytest.raises(ValueError, match='give a function from nnx.Rngs to a Linear'):
        from_nnx(make(nnx.Rngs(0)), *parts)
    with pytest.raises(ValueError, match='give a function from nnx.Rngs to a Linear'):
        from_nnx(make, *parts, {'a': make(nnx.Rngs(0))})


class Whole(nn.Module):
    """Encoder and heads in one."""

    @nn.compact
    def __call__(self, x):
        shared = nn.Dense(4)(x)
        return {task: nn.Dense(one.width)(shared) for task, one in TASKS.items()}


def test_a_module_with_heads_of_its_own_is_no_encoder():
    with pytest.raises(ValueError, match='let it return what they share'):
        from_linen(Whole(), TASKS, jnp.zeros((1, 3)))
    several = {task: Both(one.width) for task, one in TASKS.items()}
    problem = from_linen(Whole(), TASKS, jnp.zeros((1, 3)), several)  # For heads that take it.
    params, _ = problem.init(jax.random.key(0))
    assert set(params['heads']) == set(TASKS)


def test_inputs_of_which_nothing_is_left_are_said():
    class Striding(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.avg_pool(images, (4, 4), (4, 4)).reshape(len(images), -1)

    small = jnp.zeros((1, 3, 3, 2))
    sentence = r'leaves nothing of inputs of shape \(1, 3, 3, 2\): .* shape \(1, 0\)'
    with pytest.raises(ValueError, match=sentence):
        from_linen(Striding(), TASKS, small)
    with pytest.raises(ValueError, match=sentence):
        from_nnx(lambda rngs: nnx.bridge.ToNNX(Striding(), rngs=rngs), TASKS, small)


class Narrow(nnx.Module):
    """An encoder of inputs of two columns."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(2, 4, rngs=rngs)

    def __call__(self, x):
        return self.dense(x)


def narrow_functions():
    return from_functions(
        lambda key: {'shared': jnp.ones((2, 4)), 'heads': {'a': jnp.ones((4, 1))}},
        lambda shared, x: x @ shared,
        {'a': linear},
        {'a': REGRESSION},
    )


def test_an_encoder_that_cannot_take_the_inputs_is_named():
    """Those of from_arrays have a column more where a column has missing values."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    rows[3, 1] = np.nan
    dataset = data.from_arrays(rows, {'a': np.arange(40.0)}, {'a': REGRESSION})
    sentence = (
        r'the encoder cannot take inputs of shape \[N, 3\]: .*contracting dim.*\(a dataset whose '
        r'inputs have missing values has one more column .*Dataset.example_inputs'
    )
    with pytest.raises(ValueError, match=sentence):
        from_nnx(Narrow, dataset.tasks, dataset.example_inputs)
    for problem in (
        from_nnx(Narrow, dataset.tasks, np.zeros((1, 2), np.float32)),
        from_linen(nn.Dense(4), dataset.tasks, np.zeros((1, 2), np.float32)),
        narrow_functions(),
    ):
        with pytest.raises(ValueError, match=r'train split.*: the encoder cannot take.*\[N, 3\]'):
            evaluation.check_split(problem, dataset.train, 'train')
        as_it_is = dataset.train._replace(inputs=dataset.train.inputs[:, :2])
        evaluation.check_split(problem, as_it_is, 'train')


class Fussy(nn.Module):
    """An encoder of images that says itself what it takes."""

    @nn.compact
    def __call__(self, images):
        assert images.ndim == 4, 'images are [B, H, W, C]'
        return nn.Dense(4)(images.mean(axis=(1, 2)))


def test_what_an_encoder_says_of_its_inputs_is_told():
    for encoder, example, sentence in (
        (Fussy(), np.zeros((1, 8, 8)), r'shape \[N, 8, 8\]: images are \[B, H, W, C\]'),
        (nn.Embed(9, 4), np.zeros((1, 5)), r'shape \[N, 5\]: Input type must be an integer'),
        (nn.Dense(4), np.zeros(()), r'shape \[\]: '),
    ):
        with pytest.raises(ValueError, match=f'the encoder cannot take inputs of {sentence}'):
            from_linen(encoder, {'a': REGRESSION}, example.astype(np.float32))


def test_branches_on_values_are_no_matter_of_shapes():
    class Branching(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x) if x.sum() > 0 else x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        from_linen(Branching(), {'a': REGRESSION}, np.ones((1, 3), np.float32))


@pytest.mark.parametrize('library', ['linen', 'nnx'])
def test_heads_are_looked_at_when_a_problem_is_made(library):
    def make(task, width, features=4, **tasks):
        tasks = {**TASKS, **tasks}
        if library == 'linen':
            return from_linen(nn.Dense(4), tasks, EXAMPLE, {task: nn.Dense(width)})
        head = lambda rngs: nnx.Linear(features, width, rngs=rngs)
        return from_nnx(lambda rngs: nnx.Linear(3, 4, rngs=rngs), tasks, EXAMPLE, {task: head})

    assert make('octant', 8).task_names == tuple(TASKS)
    sentence = "the head of 'octant' has 5 outputs, and its objective .classification. needs 8"
    with pytest.raises(ValueError, match=sentence):
        make('octant', 5)
    with pytest.raises(ValueError, match="the head of 'radius' has 2 outputs"):
        make('radius', 2)
    own = TASKS['radius']._replace(loss=lambda z, target: (z[:, 0] - target) ** 2 * z[:, 1])
    make('radius', 2, radius=own)  # A loss of one's own may want what it likes.
    if library == 'nnx':
        with pytest.raises(ValueError, match=r"'octant' cannot take a representation.*\[N, 4\]"):
            make('octant', 8, features=5)


class Both(nn.Module):
    """A head on a representation of several arrays."""

    width: int

    @nn.compact
    def __call__(self, parts):
        return nn.Dense(self.width)(jnp.concatenate(list(parts.values()), axis=-1))


def test_several_random_streams_of_linen():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, inputs, train):
            if not train:
                return inputs
            noise = jax.random.normal(self.make_rng('noise'), inputs.shape)
            return nn.Dropout(0.5, deterministic=False)(inputs + noise)

    problem = from_linen(Noisy(), {'a': REGRESSION}, jnp.ones((4, 3)))
    params, state = problem.init(jax.random.key(0))
    encode = lambda key: problem.encode(
        params['shared'], state['shared'], jnp.ones((4, 3)), True, key
    )[0]
    np.testing.assert_array_equal(encode(jax.random.key(1)), encode(jax.random.key(1)))
    assert np.any(encode(jax.random.key(1)) != encode(jax.random.key(2)))


def test_a_batch_without_the_targets_of_a_task_is_named():
    with pytest.raises(ValueError, match="no targets for the task 'a'"):
        Batch(np.ones(3), {}).labels('a')


@pytest.mark.parametrize('name', ['training', 'is_training'])
def test_a_mode_that_is_never_passed_is_refused(name):
    """A module that waits for it would stay in evaluation mode without a word."""
    functions = {'training': lambda self, x, training=False: x}
    functions['is_training'] = lambda self, x, is_training=False: x
    encoder = type('Encoder', (nn.Module,), {'__call__': functions[name]})
    with pytest.raises(ValueError, match=f"a __call__ takes '{name}', which is never passed"):
        from_linen(encoder(), {'a': REGRESSION}, np.zeros((1, 3), np.float32))


@pytest.mark.filterwarnings('ignore:.*sow:DeprecationWarning', 'ignore:.*capture')
def test_what_an_nnx_module_sows_is_no_state():
    class Sowing(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(3, 8, rngs=rngs)

        def __call__(self, inputs):
            hidden = self.dense(inputs)
            self.sow(nnx.Intermediate, 'hidden', hidden)
            return hidden

    split = make_split(16)
    problem = from_nnx(Sowing, {'radius': TASKS['radius']}, split.inputs[:1])
    params, state = problem.init(jax.random.key(0))
    _, after = gradients.task_gradients(problem, params, state, Batch(*split))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert not jax.tree.leaves(after)


@pytest.mark.parametrize(
    ('name', 'training', 'evaluation'),
    [
        ('train', True, False),
        ('training', True, False),
        ('is_training', True, False),
        ('is_train', True, False),
        ('deterministic', False, True),
        ('key', 'the key', None),
        ('rng', 'the key', None),
        ('dropout_rng', 'the key', None),
    ],
)
def test_functions_are_told_their_mode_and_their_key_by_any_usual_name(name, training, evaluation):
    """With a default or without: dropout that waits for a name would be off without a word."""
    seen = []
    for default in ('', '=None'):
        scope = {'seen': seen}
        code = (
            f'def encode(shared, inputs, {name}{default}):\n  seen.append({name})\n  return inputs'
        )
        exec(code, scope)
        problem = from_functions(
            lambda key: {'shared': {}, 'heads': {'a': {}}},
            scope['encode'],
            {'a': lambda head, z: z},
            {'a': REGRESSION},
        )
        for train, key in ((True, 'the key'), (False, None)):
            problem.encode({}, {}, np.ones(3), train, key)
    assert seen == [training, evaluation] * 2


@pytest.mark.parametrize('names', ['train, key', 'train, rng', 'training, dropout_rng', 't, k'])
def test_the_full_form_is_known_whatever_its_parameters_are_called(names):
    scope = {}
    exec(f'def decode(head, state, z, {names}):\n  return z @ head, state + 1', scope)
    problem = plain({'a': scope['decode']})
    assert problem.decode['a'] is scope['decode']


def test_what_a_function_needs_and_never_gets_is_refused():
    def encode(shared, inputs, temperature):
        return inputs / temperature

    parts = {'a': linear}, {'a': REGRESSION}
    with pytest.raises(ValueError, match="encode takes 'temperature', which is never passed"):
        from_functions(lambda key: None, encode, *parts)
    assert from_functions(lambda key: None, lambda s, x, temperature=2.0: x, *parts)


def test_batch_norm_that_is_not_told_its_mode_is_named():
    class Untold(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(4)(inputs))

    with pytest.raises(ValueError, match='Untold changes its state.*let its __call__ take train'):
        from_linen(Untold(), TASKS, jnp.ones((2, 3)))
