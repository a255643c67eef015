"""Flags of networks, and the problem that they make of a dataset."""

import dataclasses
import functools
import math

import numpy as np
from absl import flags, logging

import tag_jax
from tag_jax.launchers.datasets import recipe
from tag_jax.launchers.launch import choose
from tag_jax.launchers.recipes import NETWORKS

flags.DEFINE_string(
    'network', None, f'By default that of the dataset, one of: {", ".join(NETWORKS)}.'
)
flags.DEFINE_list(
    'widths', None, 'Units of each layer of an mlp encoder, from the first to the last.'
)
flags.DEFINE_float(
    'width', 1.0, 'Multiplies the channels, or units, of every layer of the encoder.'
)
flags.DEFINE_float(
    'size',
    None,
    'Multiply-adds of the encoder, in units of those at width 1; sets the width.',
)
flags.DEFINE_string('dtype', 'float32', 'Of the computation: float32 or bfloat16.')
flags.DEFINE_float(
    'smaller',
    None,
    'Cost of a smaller encoder, on which searches train single tasks as well, in standard '
    'networks; budgets may then be fractions.',
)
flags.DEFINE_string(
    'pretrained',
    None,
    'An .npz file of encoder weights to begin with, of models.save_weights or of a residual '
    'network of torchvision (see models.from_torchvision).',
)
flags.DEFINE_string(
    'remat',
    None,
    'What the backward pass of the encoder computes again, to save memory on GPU and TPU, a policy '
    'of jax.checkpoint: nothing_saveable, dots_saveable, dots_with_no_batch_dims_saveable or '
    'everything_saveable. By default all of it is remembered.',
)

FLAGS = flags.FLAGS

# What no machine has memory for, and nobody waits for.
_MOST_UNITS, _MOST_WIDTH, _MOST_SIZE = 2**20, 2**12, 2**24
# Flags that say which networks are trained, for config.json of launchers that write their own.
_NETWORK = ('network', 'width', 'size', 'dtype', 'smaller', 'pretrained')


def units(default=None):
    """Units of each layer of an mlp encoder: --widths, or a default, or those of the dataset."""
    if FLAGS.widths is None:
        return default or recipe().units
    if _network_name() != 'mlp':
        raise ValueError(f'--widths is for --network=mlp, not {_network_name()}: give --width')
    try:
        found = tuple(map(int, FLAGS.widths))
    except ValueError:
        found = ()
    if not found or not 1 <= min(found) <= max(found) <= _MOST_UNITS:
        raise ValueError(
            f'--widths needs positive integers, not {",".join(FLAGS.widths)!r}, of at most '
            f'{_MOST_UNITS}'
        )
    return found


def settings_of_network(default_units=None):
    """The settings of the networks that the flags ask for, as JSON types."""
    found = {name: FLAGS[name].value for name in _NETWORK}
    found['network'] = _network_name()
    return found | ({'widths': list(units(default_units))} if found['network'] == 'mlp' else {})


def make_problem(dataset, default_units=None, width=None):
    """The problem for a dataset: the encoder that the flags ask for, and a head for each task.

    Args:
      dataset: a `Dataset`.
      default_units: of an mlp encoder, where --widths says nothing.
      width: multiplies the channels, or units, of every layer, in place of --width and --size.
    """
    import jax.numpy as jnp
    from flax import nnx

    shape = _shape(dataset)
    make_encoder = functools.partial(
        _encoder(shape, units(default_units)),
        width=_width(shape, default_units) if width is None else width,
        dtype=choose('dtype', FLAGS.dtype, {'float32': None, 'bfloat16': jnp.bfloat16}),
    )
    abstract = nnx.eval_shape(lambda: make_encoder(rngs=nnx.Rngs(0)))
    head = NETWORKS[_network_name()].head
    heads = {task: head(abstract, goal.width, shape) for task, goal in dataset.tasks.items()}
    problem = tag_jax.problem.from_nnx(
        lambda rngs: make_encoder(rngs=rngs),
        dataset.tasks,
        tag_jax.examples.input_shapes(dataset.train),
        {task: lambda rngs, make=make: make(rngs=rngs) for task, make in heads.items()},
        remat=FLAGS.remat,
    )
    if FLAGS.pretrained is not None:
        return _pretrained(problem, FLAGS.pretrained)
    if recipe().pretrained:
        logging.warning(
            'the encoder starts from scratch; the paper starts from ImageNet: see --pretrained'
        )
    return problem


def wider_problem(dataset, factor):
    """The problem with so many times the channels."""
    return make_problem(dataset, width=factor * _width(_shape(dataset)))


def problem_of_cost(dataset, cost, at_most=False):
    """The problem whose encoder costs so much, in units of the one that the flags ask for."""
    shape = _shape(dataset)
    encoder = _encoder(shape, units())
    now, whole = (
        tag_jax.models.multiply_adds(
            lambda rngs, width=width: encoder(width=width, rngs=rngs), shape
        )
        for width in (_width(shape), 1.0)
    )
    size = cost * now / whole
    width = tag_jax.models.width_for(encoder, shape, size, at_most=at_most)
    return make_problem(dataset, width=width)


def wider(dataset, problem, budget):
    """(cost, problem) of the widest encoder that costs a budget at most."""
    other = problem_of_cost(dataset, budget, at_most=True)
    return tag_jax.grouping.cost_of_encoder(other, problem, dataset), other


def sizes(dataset, problem):
    """(`{cost: problem}` of the encoder that --smaller asks for, its cost); ({}, None) of none."""
    smaller = smaller_problem(dataset)
    if smaller is None:
        return {}, None
    cost = tag_jax.grouping.cost_of_encoder(smaller, problem, dataset)
    if not 0 < cost < 1:
        raise ValueError(f'--smaller must be cheaper than the encoder, and it costs {cost:g} of it')
    return {cost: smaller}, cost


def smaller_problem(dataset):
    """The problem with the encoder that --smaller asks for, or None."""
    if FLAGS.smaller is None:
        return None
    if not 0 < FLAGS.smaller < 1:
        raise ValueError(f'--smaller must be above 0 and below 1, not {FLAGS.smaller:g}')
    return problem_of_cost(dataset, FLAGS.smaller)


def _pretrained(problem, file):
    """The problem whose encoder begins with the weights in a file."""
    params, state = problem.shapes
    models = tag_jax.models
    with np.load(file) as archive:
        of_torchvision = any(name.endswith('.weight') for name in archive)
    convert = models.from_torchvision if of_torchvision else None
    weights = models.load_weights(file, params['shared'], state['shared'], convert)

    def init(key):
        return tuple(
            {**made, 'shared': shared}
            for made, shared in zip(problem.init(key), weights, strict=True)
        )

    return dataclasses.replace(problem, init=init)


def _encoder(shape, dense_units):
    """A function of `width`, `dtype` and `rngs` that makes the encoder."""
    return NETWORKS[_network_name()].encoder(shape, dense_units)


def _width(shape, default_units=None):
    """The factor of the channels: --width, or the one that --size asks for."""
    if FLAGS.size is not None:
        if FLAGS['width'].present:
            raise ValueError('--size sets the width: leave --width out')
        if _MOST_SIZE < FLAGS.size < math.inf:
            raise ValueError(f'--size must be at most {_MOST_SIZE}, not {FLAGS.size}')
        return tag_jax.models.width_for(_encoder(shape, units(default_units)), shape, FLAGS.size)
    if not 0 < FLAGS.width <= _MOST_WIDTH:
        raise ValueError(f'--width must be positive and at most {_MOST_WIDTH}, not {FLAGS.width}')
    return FLAGS.width


def _shape(dataset):
    """The shape of the inputs of one example."""
    return tag_jax.examples.input_shapes(dataset.train).shape[1:]


def _network_name():
    name = FLAGS.network or recipe().network
    choose('network', name, NETWORKS)
    return name
