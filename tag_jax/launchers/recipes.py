"""The settings that each dataset is trained with by default, and the networks to choose from.

Settings of the papers' datasets are the papers' own, in steps of the batch size that is asked for.
"""

import functools
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import tag_jax
from tag_jax.launchers import tables

if TYPE_CHECKING:
    from tag_jax import data

# The lists of buildings of Taskonomy for train, validation and test: our names, and those of the
# authors' code.
BUILDING_LISTS = (
    ('train_buildings.txt', 'validation_buildings.txt', 'test_buildings.txt'),
    ('train_models.txt', 'val_models.txt', 'test_models.txt'),
)


class Network(NamedTuple):
    """An encoder and the task heads that go with it.

    Attributes:
      encoder: (shape of an example, units) -> a function of `width`, `dtype` and `rngs`, keywords,
        that makes the encoder. Units are those of dense layers.
      head: (encoder, outputs, shape of an example) -> a function of `rngs` that makes a head.
    """

    encoder: Callable
    head: Callable


class Recipe(NamedTuple):
    """A dataset, and how networks are trained on it.

    Attributes:
      load: flags -> `Dataset`.
      flags: that load takes.
      network: its name in NETWORKS.
      settings: (training examples, batch size or None) -> fields of a `TrainingConfig`, where they
        are not its defaults.
      units: of each dense layer, for 'mlp'.
      mean_loss: whether the paper trains on the mean of the task losses and not on their sum.
      pretrained: whether the paper starts from an encoder that was trained on ImageNet.
      split: (flags, number of a split, number of folds or 0) -> `Dataset`, for comparisons over
        several splits; None where the dataset comes with its splits.
    """

    load: Callable[[Any], 'data.Dataset']
    flags: tuple[str, ...] = ()
    network: str = 'mlp'
    settings: Callable[[int, int | None], dict] = lambda size, batch_size: {}
    units: tuple[int, ...] = (128, 32)
    mean_loss: bool = False
    pretrained: bool = False
    split: Callable[[Any, int, int], 'data.Dataset'] | None = None


def _model(name, *arguments, **options):
    """A function that makes a model of `tag_jax.models`, named since importing them is slow."""
    return functools.partial(getattr(tag_jax.models, name), *arguments, **options)


def _linear(encoder, outputs, shape):
    from flax import nnx  # Slow to import, as below.

    del shape
    return functools.partial(nnx.Linear, encoder.num_features, outputs)


def _pyramid(encoder, outputs, shape):
    return _model('PyramidPooling', encoder.channels, outputs, shape[:2])


def _decoder(encoder, outputs, shape):
    del shape
    return _model('XceptionDecoder', encoder.channels, outputs)


def _plain_decoder(encoder, outputs, shape):
    del shape
    return _model('PlainDecoder', encoder.channels, outputs)


NETWORKS = {
    'mlp': Network(lambda s, units: _model('MLP', math.prod(s), units), _linear),
    'lenet': Network(lambda s, units: _model('LeNet', s), _linear),
    'small_resnet': Network(lambda s, units: _model('SmallResNet', s[:2]), _linear),
    'resnet18': Network(lambda s, units: _model('CelebAResNet18', s[:2]), _linear),
    'pspnet': Network(lambda s, units: _model('resnet50', output_stride=8), _pyramid),
    'xception': Network(lambda s, units: _model('Xception'), _decoder),
    'xception_plain': Network(
        lambda s, units: _model('Xception', 512, 8, later=True), _plain_decoder
    ),
    'resnet18_maps': Network(lambda s, units: _model('resnet18', output_stride=16), _decoder),
}


def halving_sgd(learning_rate, steps, momentum=0.9):
    """SGD with momentum whose learning rate is halved every so many steps."""
    import optax

    halve = lambda count: 0.5 ** (count // steps)
    return optax.chain(optax.sgd(learning_rate, momentum), optax.scale_by_schedule(halve))


def plateau_sgd(learning_rate, steps, momentum=0.9):
    """SGD with momentum whose learning rate is halved when the training loss stops decreasing.

    Losses are averaged over so many steps. Waits for one such mean that is not lower.
    """
    import optax

    return optax.chain(
        optax.sgd(learning_rate, momentum),
        optax.contrib.reduce_on_plateau(factor=0.5, patience=1, accumulation_size=steps),
    )


def _epochs(size, batch_size, default, share=1.0):
    """(batch size, steps of an epoch): an epoch is a pass, or a share of one."""
    batch_size = batch_size or default
    return batch_size, max(1, round(share * size / min(batch_size, size)))


def _halving(size, batch_size, *, default, epochs, every, learning_rate, patience=0):
    """The settings of Sener & Koltun 2018 and, on CelebA, of Fifty et al. 2021."""
    batch_size, epoch = _epochs(size, batch_size, default)
    return {
        'batch_size': batch_size,
        'steps': epochs * epoch,
        'eval_every': epoch,
        'patience': patience,
        'learning_rate': learning_rate,
        'optimizer': functools.partial(halving_sgd, steps=every * epoch),
    }


def _standley(size, batch_size):
    """The settings of Standley et al. 2020, Section 4, whose epoch is a fifth of the data.

    Their networks train until the validation loss stops improving, typically for 4 to 8 passes:
    here for two passes without a lower one. Fifty et al. 2021 train for 100 epochs (--patience=0).
    The paper does not say the batch size.
    """
    batch_size, epoch = _epochs(size, batch_size, 64, share=0.2)
    return {
        'batch_size': batch_size,
        'steps': 100 * epoch,
        'eval_every': epoch,
        'patience': 10,
        'learning_rate': 0.2,
        'select_by': 'loss',
        'optimizer': functools.partial(plateau_sgd, steps=epoch),
    }


def _fixed(**settings):
    """Settings that do not depend on the data."""
    return lambda size, batch_size: settings


def _data_dir(flags):
    if flags.data_dir is None:
        raise ValueError(f'--dataset={flags.dataset} needs --data_dir, the folder of its files')
    return flags.data_dir


def _image_size(flags, sides):
    """`{'size': ...}` as --image_size asks, or nothing.

    Args:
      flags: of absl.
      sides: how many numbers the dataset takes: 1 for square images.
    """
    if flags.image_size is None:
        return {}
    size = tuple(int(text) if text.isdecimal() else 0 for text in flags.image_size)
    if len(size) != sides or min(size) < 1:
        raise ValueError(
            f'--image_size of {flags.dataset} needs {sides} positive integer{"s" * (sides > 1)}, '
            f'not {",".join(flags.image_size)!r}'
        )
    return {'size': size[0] if sides == 1 else size}


def _held_out(flags, name):
    """`{name: ...}` as --num_validation asks, or nothing."""
    return {} if flags.num_validation is None else {name: flags.num_validation}


def _multi_mnist(flags):
    options = _image_size(flags, 1) | _held_out(flags, 'num_validation')
    return tag_jax.data.multi_mnist(_data_dir(flags), **options)


def _celeb_a_9(flags):
    from tag_jax.data.celeb_a import TAG_ATTRIBUTES

    return _celeb_a(flags, TAG_ATTRIBUTES)


def _celeb_a(flags, tasks=None):
    return tag_jax.data.celeb_a(_data_dir(flags), tasks, **_image_size(flags, 1))


def _cityscapes(flags):
    options = _image_size(flags, 2) | _held_out(flags, 'validation')
    return tag_jax.data.cityscapes(_data_dir(flags), **options)


def _taskonomy(flags):
    """The dataset in --data_dir, with its three lists of buildings."""
    folder, options = pathlib.Path(_data_dir(flags)).expanduser(), _image_size(flags, 1)
    lists = [[folder / name for name in names] for names in BUILDING_LISTS]
    found = [paths for paths in lists if all(path.exists() for path in paths)]
    if not found:
        raise ValueError(
            f'{folder} has no lists of buildings: put there {", ".join(BUILDING_LISTS[0])}, or '
            f'{", ".join(BUILDING_LISTS[1])}, with the name of a building a line; Fifty et al. '
            'publish the latter with their code, github.com/google-research/google-research in '
            'tag/taskonomy'
        )
    most = flags.images_per_building
    if most < 0:
        raise ValueError(f'--images_per_building must be at least 0, for all, not {most}')
    return tag_jax.data.taskonomy(folder, *found[0], most_images=most or None, **options)


def _split_digits(name, flags, number, folds):
    """One of several splits of embedded digits."""
    del flags
    if folds:
        raise ValueError(f'--folds is for tables: {name} is split anew with --splits')
    return getattr(tag_jax.data, name)(seed=number)


_SENER = {'epochs': 100, 'every': 30, 'learning_rate': 1e-2}

DATASETS = {
    'multi_digits': Recipe(
        lambda flags: tag_jax.data.multi_digits(),
        split=functools.partial(_split_digits, 'multi_digits'),
    ),
    'digit_attributes': Recipe(
        lambda flags: tag_jax.data.digit_attributes(),
        split=functools.partial(_split_digits, 'digit_attributes'),
        settings=_fixed(steps=1500, batch_size=64, learning_rate=3e-3, eval_every=50, patience=0),
        units=(16, 6),
    ),
    'table': Recipe(
        tables.load,
        tables.NAMES,
        split=tables.load_split,
        settings=_fixed(batch_size=64, steps=3000),
        units=(64, 32),
    ),
    'multi_mnist': Recipe(
        _multi_mnist,
        ('data_dir', 'image_size', 'num_validation'),
        'lenet',
        functools.partial(_halving, default=256, **_SENER),
        mean_loss=True,
    ),
    'celeb_a': Recipe(
        _celeb_a,
        ('data_dir', 'image_size'),
        'resnet18',
        functools.partial(_halving, default=256, **_SENER),
        mean_loss=True,
    ),
    'celeb_a_9': Recipe(
        _celeb_a_9,
        ('data_dir', 'image_size'),
        'small_resnet',
        functools.partial(
            _halving, default=256, epochs=100, every=15, learning_rate=5e-4, patience=10
        ),
    ),
    'cityscapes': Recipe(
        _cityscapes,
        ('data_dir', 'image_size', 'num_validation'),
        'pspnet',
        functools.partial(_halving, default=8, **{**_SENER, 'epochs': 250}),
        mean_loss=True,
        pretrained=True,
    ),
    'taskonomy': Recipe(
        _taskonomy,
        ('data_dir', 'image_size', 'images_per_building'),
        'xception',
        _standley,
        mean_loss=True,
    ),
}
