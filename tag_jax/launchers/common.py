"""Flags of the launchers that train, and the settings that they ask for.

JAX is slow to import, and flags are defined without it: parts of the package are named as
`tag_jax.training`, which imports them then.
"""

import math

from absl import flags

import tag_jax
from tag_jax.launchers import compiled, datasets, launch, networks, optimizers, tables, weightings
from tag_jax.launchers.launch import choose

flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(compiled)
flags.adopt_module_key_flags(optimizers)
flags.adopt_module_key_flags(datasets)
flags.adopt_module_key_flags(networks)
flags.DEFINE_float('budget', 2, 'Number of networks allowed at inference.')
flags.DEFINE_integer('seed', 0, 'Of initial parameters and batches.')
flags.DEFINE_integer(
    'steps', None, 'Most training steps of a network; by default as the dataset asks.'
)
flags.DEFINE_integer('batch_size', None, 'Examples a step; by default as the dataset asks.')
flags.DEFINE_float('learning_rate', None, 'Learning rate; by default that of the dataset.')
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
    'if_not_finite',
    'stop',
    'Where a loss or a gradient is not finite: stop, skip the step, or drop the task from it.',
)
flags.DEFINE_string(
    'slots',
    None,
    'Networks that train side by side in one program; measure for as many as train fastest on this '
    'machine, where a search trains hundreds of dense networks on a CPU. By default as many as '
    'usual. Results depend on the number by rounding.',
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
    *('slots', 'pretrained', 'compilation_cache'),
)

# Settings that flags leave to the dataset.
_BY_DATASET = ('steps', 'batch_size', 'learning_rate', 'eval_every', 'patience', 'select_by')
# What no machine has memory for, and nobody waits for.
_MOST_SLOTS = 2**12


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
        **networks.settings_of_network(),
        **tag_jax.grouping.identity.settings(config),
    }


def training_config(dataset):
    """The `TrainingConfig` that the flags ask for, on a dataset."""
    given = {name: FLAGS[name].value for name in _BY_DATASET if FLAGS[name].value is not None}
    usual = datasets.recipe().settings(tag_jax.examples.count(dataset.train), FLAGS.batch_size)
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
        slots=slots(),
    )


def slots():
    """The value of --slots: a number, or `measure`; None where it is left out."""
    if FLAGS.slots is None or FLAGS.slots == tag_jax.training.MEASURE:
        return FLAGS.slots
    if not FLAGS.slots.isdecimal() or not 1 <= int(FLAGS.slots) <= _MOST_SLOTS:
        raise ValueError(
            f'--slots must be an integer from 1 to {_MOST_SLOTS}, or measure, not {FLAGS.slots!r}'
        )
    return int(FLAGS.slots)


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
        reduction = 'mean' if datasets.recipe().mean_loss else 'sum'
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


def _plain(flag, number):
    """A number as an int where it is whole. Raises ValueError unless it is finite."""
    if not math.isfinite(number):
        raise ValueError(f'--{flag} must be finite, not {number}')
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def run_folder(name):
    """The folder that --workdir names, or a new one under runs/."""
    if FLAGS.resume and FLAGS.workdir is None:
        raise ValueError('--resume needs --workdir, the folder of the run to go on with')
    return launch.run_folder(name)
