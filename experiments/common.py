"""What launchers that train share: flags, and the way from a dataset to a problem."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from absl import flags
from flax import nnx

from experiments import launch
from experiments.launch import choose
from tag_jax import data, models, objectives, optim
from tag_jax.problem import from_nnx
from tag_jax.training import TrainingConfig


class Recipe(NamedTuple):
    """A dataset, and how networks are trained on it unless flags say otherwise.

    Attributes:
      load: () -> `Dataset`.
      widths: units of each layer of the encoder.
      settings: of a `TrainingConfig`, where they are not its defaults.
    """

    load: Callable[[], data.Dataset]
    widths: tuple[int, ...] = (128, 32)
    settings: Mapping[str, Any] = MappingProxyType({})


DATASETS = {
    'multi_digits': Recipe(data.multi_digits),
    'digit_attributes': Recipe(
        data.digit_attributes,
        (16, 6),
        {'steps': 1500, 'batch_size': 64, 'learning_rate': 3e-3, 'eval_every': 50, 'patience': 0},
    ),
    'table': Recipe(lambda: _table(), (64, 32), {'batch_size': 64, 'steps': 3000}),
}
# Named once each: what is compiled is kept by their identity. An epoch of dwa is 100 steps, and the
# norm of nash_mtl is limited to 1, as in its authors' code.
WEIGHTINGS = {
    'equal': optim.equal,
    'mgda_ub': optim.mgda_ub,
    'mgda_ub_loss+': functools.partial(optim.mgda_ub, 'loss+'),
    'mgda': optim.mgda,
    'uncertainty': optim.uncertainty,
    'gradnorm': optim.gradnorm,
    'pcgrad': optim.pcgrad,
    'cagrad': optim.cagrad,
    'upgrad': optim.upgrad,
    'imtl_g': optim.imtl_g,
    'aligned_mtl': optim.aligned_mtl,
    'nash_mtl': functools.partial(optim.nash_mtl, max_norm=1.0),
    'dwa': functools.partial(optim.dwa, 100),
    'rlw': optim.rlw,
    'famo': optim.famo,
}

flags.adopt_module_key_flags(launch)
flags.DEFINE_string('dataset', 'multi_digits', f'One of: {", ".join(DATASETS)}.')
flags.DEFINE_string('table', None, 'A .csv, .parquet or .npz file, for --dataset=table.')
flags.DEFINE_list('targets', None, 'Its target columns, one for each task.')
flags.DEFINE_list('inputs', None, 'Its input columns; by default all others.')
flags.DEFINE_list(
    'kinds', [], 'Where the kind of a target is not to be inferred: age:regression, and so on.'
)
flags.DEFINE_string(
    'split_column', None, 'Its column that says train, validation or test; at random if left out.'
)
flags.DEFINE_float('budget', 2, 'Number of networks allowed at inference.')
flags.DEFINE_integer('seed', TrainingConfig.seed, 'Of initial parameters and batches.')
flags.DEFINE_integer(
    'steps', None, 'Most training steps of a network; by default as the dataset asks.'
)
flags.DEFINE_integer('batch_size', None, 'Examples a step; by default as the dataset asks.')
flags.DEFINE_float('learning_rate', None, 'Learning rate; by default that of the dataset.')
flags.DEFINE_list('widths', None, 'Units of each layer of the encoder, from the first to the last.')
flags.DEFINE_string('weighting', 'equal', f'Task weighting, one of: {", ".join(WEIGHTINGS)}.')
flags.DEFINE_integer(
    'eval_every', None, 'Steps between evaluations; by default as the dataset asks.'
)
flags.DEFINE_integer(
    'patience',
    None,
    'Evaluations without improvement before a network stops, 0 to train all steps; by default as '
    'the dataset asks.',
)
flags.DEFINE_integer(
    'affinity_every', TrainingConfig.affinity_every, 'Steps between affinity measurements.'
)
flags.DEFINE_string(
    'affinity_kind',
    TrainingConfig.affinity_kind,
    'exact (lookahead losses), first_order (no lookahead passes) or cosine (of task gradients).',
)
flags.DEFINE_string(
    'affinity_step',
    TrainingConfig.affinity_step,
    'sgd for lookahead steps of plain gradient descent, optimizer for those of the optimizer.',
)
flags.DEFINE_list(
    'affinity_window',
    [str(share) for share in TrainingConfig.affinity_window],
    'Shares of --steps between which affinities are measured, such as 0,0.25.',
)
flags.DEFINE_integer(
    'affinity_examples',
    TrainingConfig.affinity_examples,
    'Examples of each batch that take part in measurements; all if left out.',
)
flags.DEFINE_string(
    'affinity_split',
    TrainingConfig.affinity_split,
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
flags.DEFINE_bool('resume', False, 'Go on with the run that the workdir holds, if it holds one.')

FLAGS = flags.FLAGS

# What launchers that compare ways to group take of the flags above.
COMPARISON_FLAGS = (
    *('dataset', 'table', 'targets', 'inputs', 'kinds', 'split_column', 'seed', 'steps'),
    *('batch_size', 'learning_rate', 'eval_every', 'patience', 'widths', 'weighting'),
    *('affinity_every', 'resume', 'budgets', 'seeds', 'store'),
)

# Settings that flags leave to the dataset.
_BY_DATASET = ('steps', 'batch_size', 'learning_rate', 'eval_every', 'patience')


def define_comparison_flags():
    """The flags that only launchers that compare ways to group have."""
    flags.DEFINE_list('budgets', '2,3,4', 'Numbers of networks at inference.')
    flags.DEFINE_integer('seeds', 3, 'Searches and networks for each budget.')
    flags.DEFINE_string(
        'store', None, 'Folder of the trained networks; by default one in the workdir.'
    )


def budget():
    """The budget that --budget names."""
    return _plain(FLAGS.budget)


def budgets():
    """The budgets that --budgets names."""
    return list(map(_plain, launch.numbers('budgets', FLAGS.budgets)))


def training_config():
    """The `TrainingConfig` that the flags ask for."""
    given = {name: FLAGS[name].value for name in _BY_DATASET if FLAGS[name].value is not None}
    return TrainingConfig(
        **{**_recipe().settings, **given},
        seed=FLAGS.seed,
        affinity_every=FLAGS.affinity_every,
        affinity_kind=FLAGS.affinity_kind,
        affinity_step=FLAGS.affinity_step,
        affinity_window=tuple(launch.numbers('affinity_window', FLAGS.affinity_window)),
        affinity_examples=FLAGS.affinity_examples,
        affinity_split=FLAGS.affinity_split,
        weighting=choose('weighting', FLAGS.weighting, WEIGHTINGS),
    )


def load_dataset():
    """The `Dataset` that --dataset names."""
    for name in ('table', 'targets', 'inputs', 'kinds', 'split_column'):
        if FLAGS[name].value and FLAGS.dataset != 'table':
            raise ValueError(f'--{name} is for --dataset=table')
    return _recipe().load()


def widths(default=None):
    """Units of each layer of the encoder: --widths, or a default, or those of the dataset."""
    if FLAGS.widths is None:
        return default or _recipe().widths
    try:
        found = tuple(map(int, FLAGS.widths))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ValueError(f'--widths needs positive integers, not {",".join(FLAGS.widths)!r}')
    return found


def _plain(number):
    return int(number) if number.is_integer() else number


def _recipe():
    return choose('dataset', FLAGS.dataset, DATASETS)


def _table():
    """The dataset in the file that --table names."""
    if FLAGS.table is None or not FLAGS.targets:
        raise ValueError('--dataset=table needs --table, a file, and --targets, its target columns')
    pairs = [text.partition(':') for text in FLAGS.kinds]
    return data.table(
        FLAGS.table,
        FLAGS.targets,
        FLAGS.inputs,
        {target: kind for target, _, kind in pairs},
        FLAGS.split_column,
    )


def dense_problem(dataset, units, width=1.0):
    """A problem for a dataset of flat inputs: an MLP encoder, a linear head for each task.

    Args:
      dataset: a `Dataset`.
      units: of each layer of the encoder.
      width: multiplies them.
    """
    example = dataset.train.inputs[:1]
    goals = objectives.for_tasks(dataset.tasks)
    make_encoder = _encoder(example, units)
    features = nnx.eval_shape(lambda: make_encoder(width, nnx.Rngs(0))).num_features
    return from_nnx(
        lambda rngs: make_encoder(width, rngs),
        {
            task: lambda rngs, outputs=goal.width: nnx.Linear(features, outputs, rngs=rngs)
            for task, goal in goals.items()
        },
        *objectives.losses_and_metrics(goals),
        example,
    )


def problem_of_cost(dataset, units, cost):
    """The problem whose encoder costs so much, in units of the one with these units."""
    example = dataset.train.inputs[:1]
    width = models.width_for(_encoder(example, units), example.shape[1:], cost)
    return dense_problem(dataset, units, width)


def _encoder(example, units):
    return lambda width, rngs: models.MLP(example.size, units, width=width, rngs=rngs)


def smaller_problem(dataset, units):
    """The problem with the encoder that --smaller asks for, or None."""
    if FLAGS.smaller is None:
        return None
    if not 0 < FLAGS.smaller < 1:
        raise ValueError(f'--smaller must be above 0 and below 1, not {FLAGS.smaller:g}')
    return problem_of_cost(dataset, units, FLAGS.smaller)


def run_folder(name):
    """The folder that --workdir names, or a new one under runs/."""
    if FLAGS.resume and FLAGS.workdir is None:
        raise ValueError('--resume needs --workdir, the folder of the run to go on with')
    return launch.run_folder(name)
