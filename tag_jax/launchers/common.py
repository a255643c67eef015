"""Flags of the launchers that train, and the way from a dataset to a problem.

The file is long because a third of it defines flags. JAX is slow to import, and flags are defined
without it: parts of the package are named as `tag_jax.training`, which imports them then.
"""

import dataclasses
import functools
import math

import numpy as np
from absl import flags, logging

import tag_jax
from tag_jax.launchers import compiled, launch, optimizers, tables, weightings
from tag_jax.launchers.launch import choose
from tag_jax.launchers.recipes import DATASETS, NETWORKS
from tag_jax.runs import workdir

flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(compiled)
flags.adopt_module_key_flags(optimizers)
flags.adopt_module_key_flags(tables)
flags.DEFINE_string(
    'dataset',
    'multi_digits',
    f'One of: {", ".join(DATASETS)}; table is understood where --table names a file.',
)
flags.DEFINE_string(
    'data_dir', None, 'Folder of the files of a dataset that does not come with the package.'
)
flags.DEFINE_list(
    'image_size', None, 'Side of its images, or height and width; by default as its paper has it.'
)
flags.DEFINE_integer(
    'num_validation',
    None,
    'Training images that multi_mnist and cityscapes hold out for validation; 0 to train again on '
    'all of cityscapes.',
)
flags.DEFINE_integer(
    'images_per_building',
    1000,
    'Images of a building of taskonomy in validation and in test, at most, as in the code of its '
    'papers; 0 for all.',
)
flags.DEFINE_float('budget', 2, 'Number of networks allowed at inference.')
flags.DEFINE_integer('seed', 0, 'Of initial parameters and batches.')
flags.DEFINE_integer(
    'steps', None, 'Most training steps of a network; by default as the dataset asks.'
)
flags.DEFINE_integer('batch_size', None, 'Examples a step; by default as the dataset asks.')
flags.DEFINE_float('learning_rate', None, 'Learning rate; by default that of the dataset.')
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
flags.DEFINE_string(
    'pretrained',
    None,
    'An .npz file of encoder weights to begin with, of models.save_weights or of a residual '
    'network of torchvision (see models.from_torchvision).',
)
flags.DEFINE_string(
    'loss_reduction',
    None,
    'sum or mean of the task losses, for equal weights; by default what the paper of the dataset '
    'trains on.',
)
flags.DEFINE_string(
    'weighting',
    'equal',
    f'Task weighting, one of: {", ".join(weightings.WEIGHTINGS)}; {weightings.NUMBERED}.',
)
flags.DEFINE_string(
    'sampling',
    'proportional',
    'How batches are drawn where tasks have labels of different examples: proportional, balanced, '
    'or a temperature of at least 1 between the two.',
)
flags.DEFINE_integer(
    'eval_every', None, 'Steps between evaluations; by default as the dataset asks.'
)
flags.DEFINE_integer(
    'patience',
    None,
    'Evaluations without improvement before a network stops, 0 to train all steps; by default as '
    'the dataset asks.',
)
flags.DEFINE_string(
    'select_by',
    None,
    'What the best evaluation of a network, groups and totals go by: error, loss, or '
    'relative_loss, in percent of that of the best constant answer; by default as the dataset '
    'asks.',
)
flags.DEFINE_string(
    'keep',
    'total',
    'At which step a network is kept: total, the best one for its tasks together; each_task, for '
    'each task its own, which takes up to an encoder a task at inference.',
)
flags.DEFINE_integer('affinity_every', 10, 'Steps between affinity measurements.')
flags.DEFINE_string(
    'affinity_kind',
    'exact',
    'exact (lookahead losses), first_order (no lookahead passes) or cosine (of task gradients).',
)
flags.DEFINE_string(
    'affinity_step',
    'sgd',
    'sgd for lookahead steps of plain gradient descent, optimizer for those of the optimizer.',
)
flags.DEFINE_list(
    'affinity_window',
    ['0.0', '1.0'],
    'Shares of --steps between which affinities are measured, such as 0,0.25.',
)
flags.DEFINE_integer(
    'affinity_examples',
    None,
    'Examples of each batch that take part in measurements; all if left out.',
)
flags.DEFINE_string(
    'affinity_split',
    'train',
    'train compares losses on the batch of the step; validation on one of that split, which lets '
    'tasks train alone.',
)
flags.DEFINE_string(
    'affinity',
    None,
    'Select from the affinities in this file and measure none: affinity.npz of a run, or a .csv '
    'with the target tasks in its first row and the source tasks in its first column.',
)
flags.DEFINE_float(
    'smaller',
    None,
    'Cost of a smaller encoder, on which searches train single tasks as well, in standard '
    'networks; budgets may then be fractions.',
)
flags.DEFINE_list(
    'mesh',
    [],
    'Devices to train on, along the networks that train side by side and along the examples of '
    'each batch: networks:2,batch:4. By default one.',
)
flags.DEFINE_bool(
    'shard_parameters',
    False,
    'Each device along the batch of --mesh holds a part of every parameter, of its moments and of '
    'its best copy, for models that do not fit one device.',
)
flags.DEFINE_string(
    'remat',
    None,
    'What the backward pass of the encoder computes again, to save memory on GPU and TPU, a policy '
    'of jax.checkpoint: nothing_saveable, dots_saveable, dots_with_no_batch_dims_saveable or '
    'everything_saveable. By default all of it is remembered.',
)
flags.DEFINE_string(
    'if_not_finite',
    'stop',
    'Where a loss or a gradient is not finite: stop, skip the step, or drop the task from it.',
)
flags.DEFINE_float(
    'checkpoint_seconds',
    60.0,
    'How long a network trains, at least, between two checkpoints of it.',
)
flags.DEFINE_bool(
    'resume',
    False,
    'Go on with the run that the workdir holds; if it holds none, begin it and say so.',
)

FLAGS = flags.FLAGS

# What launchers that compare ways to group take of the flags above, and below.
COMPARISON_FLAGS = (
    *('dataset', *tables.NAMES, 'seed', 'steps'),
    *('batch_size', 'learning_rate', 'eval_every', 'patience', 'widths', 'weighting'),
    *('data_dir', 'image_size', 'num_validation', 'images_per_building'),
    *('network', 'width', 'size', 'dtype', *optimizers.NAMES),
    *(
        'loss_reduction',
        'affinity_every',
        'select_by',
        'keep',
        'sampling',
        'resume',
        'budgets',
        'seeds',
    ),
    *('scores', 'mesh', 'shard_parameters', 'remat', 'if_not_finite', 'checkpoint_seconds'),
    *('pretrained', 'compilation_cache'),
)

# Settings that flags leave to the dataset.
_BY_DATASET = ('steps', 'batch_size', 'learning_rate', 'eval_every', 'patience', 'select_by')
# What no machine has memory for, and nobody waits for.
_MOST_UNITS, _MOST_WIDTH, _MOST_SIZE = 2**20, 2**12, 2**24
# Flags that say which networks are trained, for config.json of launchers that write their own.
_NETWORK = ('network', 'width', 'size', 'dtype', 'smaller', 'pretrained')


def define_comparison_flags():
    """The flags that only launchers that compare ways to group have."""
    flags.DEFINE_list(
        'budgets',
        None,
        'Numbers of networks at inference; by default 2, 3 and 4, up to the tasks.',
    )
    flags.DEFINE_integer('seeds', 3, 'Searches and networks for each budget.')
    flags.DEFINE_string('scores', None, 'Folder of the score table; by default one in the workdir.')


def budget():
    """The budget that --budget names."""
    return _plain('budget', FLAGS.budget)


def budgets(dataset):
    """The budgets that --budgets names, or those of 2, 3 and 4 that a dataset has tasks for."""
    if FLAGS.budgets is None:
        return [n for n in (2, 3, 4) if n <= len(dataset.tasks)] or [1]
    found = [_plain('budgets', number) for number in launch.numbers('budgets', FLAGS.budgets)]
    return list(dict.fromkeys(found))


def comparison_settings(dataset, budgets, config):
    """The settings of a comparison for config.json, as JSON types."""
    return {
        'dataset': dataset.name,
        **(dataset.reading or {}),
        'budgets': budgets,
        'seeds': FLAGS.seeds,
        **settings_of_network(),
        **tag_jax.grouping.identity.settings(config),
    }


def training_config(dataset):
    """The `TrainingConfig` that the flags ask for, on a dataset."""
    given = {name: FLAGS[name].value for name in _BY_DATASET if FLAGS[name].value is not None}
    usual = _recipe().settings(tag_jax.examples.count(dataset.train), FLAGS.batch_size)
    asked = {**usual, **given}
    if optimizer := optimizers.chosen(asked.get('steps', tag_jax.training.TrainingConfig.steps)):
        asked['optimizer'] = optimizer
    return tag_jax.training.TrainingConfig(
        **asked,
        seed=FLAGS.seed,
        affinity=tag_jax.training.Measurement(
            every=FLAGS.affinity_every,
            kind=FLAGS.affinity_kind,
            step=FLAGS.affinity_step,
            window=tuple(launch.numbers('affinity_window', FLAGS.affinity_window)),
            examples=FLAGS.affinity_examples,
            split=FLAGS.affinity_split,
        ),
        weighting=make_weighting(FLAGS.weighting),
        keep=FLAGS.keep,
        sampling=sampling(),
        mesh=mesh(),
        shard_parameters=FLAGS.shard_parameters,
        if_not_finite=FLAGS.if_not_finite,
        checkpoint_seconds=FLAGS.checkpoint_seconds,
    )


def sampling():
    """The value of --sampling: a number where it is one."""
    try:
        return float(FLAGS.sampling)
    except ValueError:
        return FLAGS.sampling


def takes_mean():
    """Whether networks train on the mean of the losses, and not on their sum."""
    reduction = FLAGS.loss_reduction
    if reduction is None:
        reduction = 'mean' if _recipe().mean_loss else 'sum'
    return choose('loss reduction', reduction, {'sum': False, 'mean': True})


def make_weighting(name):
    """The task weighting of that name, with the loss that the flags ask for."""
    return weightings.make(name, takes_mean())


def mesh():
    """The devices (along the networks, along the batch) that --mesh asks for."""
    sizes = dict.fromkeys(tag_jax.parallel.AXES, 1)
    for part in FLAGS.mesh:
        axis, _, size = part.partition(':')
        if axis not in sizes or not size.isdecimal() or int(size) < 1:
            raise ValueError(f'--mesh needs parts such as networks:2 and batch:4, not {part!r}')
        sizes[axis] = int(size)
    return tuple(sizes.values())


def dataset_name():
    """The dataset that --dataset names; 'table' where only --table says which one it is."""
    understood = FLAGS.table is not None and FLAGS['dataset'].using_default_value
    return 'table' if understood else FLAGS.dataset


def load_dataset():
    """The `Dataset` that --dataset names."""
    recipe = _recipe()
    for name in sorted({flag for one in DATASETS.values() for flag in one.flags}):
        if FLAGS[name].present and name not in recipe.flags:
            raise ValueError(f'--{name} is of no use to --dataset={dataset_name()}')
    return _with_reading(recipe.load(FLAGS))


def _with_reading(dataset):
    """A dataset with what config.json holds of how a table was read."""
    return dataset._replace(reading=_reading()) if dataset_name() == 'table' else dataset


def _reading():
    """The flags that say how a table is read and split, where they say something, for config.json.

    The file stands apart: a run goes on with it when it has moved.
    """
    given = {name: FLAGS[name].value for name in tables.NAMES}
    changed = {name: value for name, value in given.items() if value != FLAGS[name].default}
    return {'table_file': changed.pop('table'), workdir.TABLE: changed}


def load_split(number, folds):
    """One of several splits of the `Dataset` that --dataset names.

    Args:
      number: of the split, from 0.
      folds: how many folds the examples are in, of which this one is the test split; 0 to split
        them anew.
    """
    split = _recipe().split
    if split is None:
        able = ', '.join(name for name, recipe in DATASETS.items() if recipe.split)
        raise ValueError(
            f'--splits and --folds are for datasets that can be split anew ({able}), and '
            f'{dataset_name()} comes with its splits'
        )
    return _with_reading(split(FLAGS, number, folds))


def tell_columns(dataset, folder=None):
    """Prints what the columns of a table were taken for, and keeps it in the folder of a run.

    Args:
      dataset: a `Dataset`.
      folder: of the run; None to keep nothing.
    """
    if dataset.encoding is not None and tag_jax.parallel.is_first():
        print(dataset.encoding.describe(flags=True), flush=True)
        if folder is not None:
            encoding = tag_jax.data.encoding.to_json(dataset.encoding)
            workdir.write_json(folder / workdir.ENCODING, encoding)


def units(default=None):
    """Units of each layer of an mlp encoder: --widths, or a default, or those of the dataset."""
    if FLAGS.widths is None:
        return default or _recipe().units
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
    if _recipe().pretrained:
        logging.warning(
            'the encoder starts from scratch; the paper starts from ImageNet: see --pretrained'
        )
    return problem


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
    name = FLAGS.network or _recipe().network
    choose('network', name, NETWORKS)
    return name


def _plain(flag, number):
    """A number as an int where it is whole. Raises ValueError unless it is finite."""
    if not math.isfinite(number):
        raise ValueError(f'--{flag} must be finite, not {number}')
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _recipe():
    return choose('dataset', dataset_name(), DATASETS)


def run_folder(name):
    """The folder that --workdir names, or a new one under runs/."""
    if FLAGS.resume and FLAGS.workdir is None:
        raise ValueError('--resume needs --workdir, the folder of the run to go on with')
    return launch.run_folder(name)
