"""Networks and functions that compute differently are told apart."""

import functools

import flax.linen as nn
import jax
import optax
import pytest
from small import TASKS, make_problem, make_split

from tag_jax import grouping
from tag_jax.data import Dataset, Source, Split
from tag_jax.grouping import identity, run
from tag_jax.grouping.run import Run
from tag_jax.problem import from_linen
from tag_jax.training import TrainingConfig


class Encoder(nn.Module):
    rate: float = 0.1
    slope: float = 0.01
    kernel_init: object = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x, train: bool):
        hidden = nn.leaky_relu(nn.Dense(4, kernel_init=self.kernel_init)(x), self.slope)
        return nn.Dropout(self.rate, deterministic=not train)(hidden)


def known(**options):
    split = make_split(8)
    problem = from_linen(Encoder(**options), TASKS, split.inputs[:1])
    dataset = Dataset('points', TASKS, split, split, split)
    return identity.model(Run(problem, dataset, TrainingConfig(), 'tag', 2, None))


@pytest.mark.parametrize(
    'options', [{'rate': 0.9}, {'slope': 0.9}, {'kernel_init': nn.initializers.zeros}]
)
def test_models_are_known_by_what_they_compute(options):
    """In training and at the start as well; made again, they are the same."""
    assert known() == known() != known(**options) == known(**options)


def test_functions_are_known_by_their_defaults_and_not_by_their_clothes():
    def scaled(by):
        def optimizer(rate, by=by):
            return optax.chain(optax.sgd(rate), optax.scale(by))

        return optimizer

    @functools.wraps(optax.adam)
    def still(rate):
        return optax.set_to_zero()

    def name(optimizer):
        return identity.settings(TrainingConfig(optimizer=optimizer))['optimizer']

    assert name(scaled(1.0)) == name(scaled(1.0)) != name(scaled(0.0))
    assert name(still) != name(optax.adam) == 'adam'


def test_arguments_of_partial_functions_are_settings(tmp_path):
    opened = functools.partial(
        run.begin, make_problem(), Dataset('points', TASKS, *[make_split(8)] * 3), 1
    )
    asked = grouping.tag(), tmp_path / 'run', True
    scheduled = lambda share: functools.partial(optax.adam, b1=share)
    opened(TrainingConfig(optimizer=scheduled(0.8)), *asked)
    with pytest.raises(ValueError, match=r'optimizer was adam\(b1=0.8\) and is adam\(b1=0.9\)'):
        opened(TrainingConfig(optimizer=scheduled(0.9)), *asked)


def test_a_split_that_is_read_is_known_by_some_of_its_examples(tmp_path):
    split = make_split(8)
    one = lambda arrays, n: {task: array[n] for task, array in arrays.items()}
    source = lambda shift: Source(
        lambda n: Split(split.inputs[n] + shift * (n == 4), one(split.targets, n)), 8
    )

    def opened(shift):
        dataset = Dataset('points', TASKS, source(shift), split, split)
        asked = TrainingConfig(), grouping.tag(), tmp_path / 'run', True
        return run.begin(make_problem(), dataset, 1, *asked)

    opened(0)
    opened(0)
    with pytest.raises(ValueError, match='train_data'):
        opened(1)


class Weighted(nn.Module):
    """An encoder with a single number among its parameters, which JAX writes into programs."""

    @nn.compact
    def __call__(self, x):
        scale = self.param('scale', nn.initializers.ones, ())
        return scale * nn.Dense(4, name='last')(nn.Dense(4, name='first')(x))


@pytest.mark.variants(1)
@pytest.mark.parametrize('trainable', [None, lambda path: path[0] == 'last'])
def test_other_weights_to_begin_with_are_told_from_another_model(trainable, tmp_path):
    split = make_split(8)

    def opened(seed, **options):
        weights = Weighted().init(jax.random.key(seed), split.inputs[:1])['params']
        weights['scale'] += seed
        problem = from_linen(
            Weighted(), TASKS, split.inputs[:1], trainable=trainable, pretrained=weights, **options
        )
        dataset = Dataset('points', TASKS, split, split, split)
        run.begin(problem, dataset, 1, TrainingConfig(), grouping.tag(), tmp_path / 'run', True)

    opened(0)
    opened(0)
    sentence = r'settings \(the model is the same, but the weights that it begins with, frozen or '
    with pytest.raises(ValueError, match=sentence + r'pretrained, had the checksum \w+ and have'):
        opened(1)
    with pytest.raises(ValueError, match=r', model was \w+ from \w+ and is \w+ from \w+'):
        opened(0, heads={'sign': nn.Sequential([nn.Dense(3), nn.Dense(2)])})
