"""Ways of weighting tasks side by side (Sener & Koltun 2018, Section 4.1).

    tag-jax weigh

trains networks for the two digits of MultiDigits, with an encoder so narrow that they compete: each
task alone, a grid of static weights, and weightings that adapt, five seeds each. It prints the
errors of both digits (the paper's Table 3) and draws the scatter of accuracies (its Figure 3). A
few minutes on two CPU cores.

    tag-jax weigh --tasks=all --methods=equal,mgda_ub,uncertainty

does it for all eight tasks, with the radar chart (Figure 2). --methods=all takes every weighting.
Learning rates, and the one way that is recommended, are chosen on the validation split.

    tag-jax weigh --tasks=all --methods=equal --tune_static=8

tunes static weights: it measures losses and gradient norms on a few batches, trains with eight
vectors of weights, which these propose or which are drawn at random, and chooses one of them by its
validation errors.
"""

import functools

from absl import flags

import tag_jax
from tag_jax import numbers
from tag_jax.launchers import common, datasets, launch, networks, optimizers, tables, weightings
from tag_jax.runs import storage, workdir

flags.DEFINE_list('tasks', 'left_digit,right_digit', 'Tasks of the dataset, or all.')
flags.DEFINE_list(
    'methods',
    'equal,uncertainty,gradnorm,mgda_ub,mgda,pcgrad,cagrad,upgrad',
    f'Weightings, or all: {", ".join(weightings.WEIGHTINGS)}; {weightings.NUMBERED}.',
)
flags.DEFINE_integer('seeds', 5, 'Networks for each weighting.')
flags.DEFINE_integer(
    'grid',
    7,
    'Static weights of two or three tasks, in multiples of 1 / (grid + 1); 0 for none.',
)
flags.DEFINE_integer(
    'tune_static',
    0,
    'Vectors of static weights to try, each with all seeds and learning rates: equal ones, inverse '
    'gradient norms, inverse losses, inverse roots of norms, then random ones. One of all static '
    'weights is chosen on validation.',
)
flags.DEFINE_bool(
    'retrain',
    False,
    'Train again, with the chosen learning rates and to the last step, on training and validation '
    'examples together, and test these networks.',
)
flags.DEFINE_list(
    'learning_rates', None, 'To choose from on validation, for each way; else --learning_rate.'
)
flags.adopt_module_key_flags(launch)
for name in (
    *('dataset', 'data_dir', 'image_size', 'num_validation', 'images_per_building'),
    *('seed', 'steps', 'batch_size'),
    *('learning_rate', 'eval_every', 'patience', 'network', 'widths', 'width', 'size', 'dtype'),
    *(
        'loss_reduction',
        *tables.NAMES,
        'pretrained',
        'select_by',
        'keep',
        'sampling',
        *optimizers.NAMES,
    ),
    *('mesh', 'shard_parameters', 'remat', 'if_not_finite', 'compilation_cache'),
):
    flags.declare_key_flag(name)

FLAGS = flags.FLAGS

# Of the encoder, unless --widths says otherwise: narrow, so that two tasks compete.
NARROW = (16, 8)


def take_settings_of_paper(learning_rates, retrain=False):
    """All tasks, and the search of a paper, where no flag says otherwise."""
    if FLAGS['tasks'].using_default_value:
        FLAGS['tasks'].value = ['all']
    if FLAGS.learning_rates is None and FLAGS.learning_rate is None:
        FLAGS['learning_rates'].value = learning_rates
    if FLAGS['retrain'].using_default_value:
        FLAGS['retrain'].value = retrain


def static_weights(names):
    """The grid that --grid asks for; none for more than three tasks unless it is asked for.

    The weights sum as in the paper where losses are averaged, to 1 / T: (1 / T) sum_t c_t L_t.
    """
    if not FLAGS.grid or (not 2 <= len(names) <= 3 and not FLAGS['grid'].present):
        return {}
    total = 1 / len(names) if common.takes_mean() else len(names)
    return tag_jax.multi_objective.static_weights(names, FLAGS.grid, total)


def retraining(dataset):
    """The settings on training and validation examples together, if --retrain asks for it."""
    if not FLAGS.retrain:
        return None
    both = tag_jax.data.append(dataset.train, dataset.validation)
    return common.training_config(dataset._replace(train=both))


def propose(problem, dataset, config):
    """The static weights that --tune_static asks for, `{name: {task: weight}}`.

    Equal ones are what `equal` minimises: the sum of the losses, or their mean.
    """
    if not FLAGS.tune_static:
        return {}
    total = 1 if common.takes_mean() else len(problem.task_names)
    scales = tag_jax.scalarization.measure_scales(problem, dataset.train, config)
    return tag_jax.scalarization.propose_weights(
        problem.task_names, scales, FLAGS.tune_static, total, config.seed
    )


def main():
    """Compares the weightings that the flags name, and writes the report."""
    methods = list(weightings.WEIGHTINGS) if FLAGS.methods == ['all'] else FLAGS.methods
    ways = {name: common.make_weighting(name) for name in methods}
    rates = FLAGS.learning_rates and launch.numbers('learning_rates', FLAGS.learning_rates)
    dataset = datasets.load_dataset()
    config = common.training_config(dataset)
    if FLAGS.tasks != ['all']:
        dataset = dataset.only(FLAGS.tasks)
    names = tuple(dataset.tasks)
    ways = static_weights(names) | ways
    problem = networks.make_problem(dataset, NARROW)
    tag_jax.multi_objective.check(problem, dataset, ways, config, FLAGS.seeds, rates)
    proposed = propose(problem, dataset, config)
    ways = {
        name: functools.partial(tag_jax.weighting.fixed, weights)
        for name, weights in proposed.items()
    } | ways
    settings = _settings(dataset, ways, proposed, rates, config)
    folder = workdir.open_run(launch.run_folder(f'multi_objective_{dataset.name}'), settings)
    datasets.tell_columns(dataset, folder)

    def on_outcome(outcome):
        mean, _ = numbers.mean_and_error(outcome.test_error)
        errors = storage.finite(dict(zip(names, mean.tolist(), strict=True)))
        record = {'name': outcome.name, 'learning_rates': outcome.learning_rates, 'error': errors}
        storage.append_record(folder / workdir.METRICS, record)

    outcomes = tag_jax.multi_objective.compare(
        problem,
        dataset,
        ways,
        config,
        FLAGS.seeds,
        rates,
        on_outcome,
        retraining(dataset),
    )
    launch.record_command(folder)
    print(tag_jax.report.write_multi_objective(folder, outcomes, names, settings))
    if proposed:
        took = len(proposed) * FLAGS.seeds * len(rates or [None])
        print(f'The {len(proposed)} static weights that were proposed took {took} networks.')
    print(f'\nreport: {folder / tag_jax.report.REPORT}')


def _settings(dataset, ways, proposed, rates, config):
    """The settings of the comparison for config.json, as JSON types."""
    return {
        'dataset': dataset.name,
        **(dataset.reading or {}),
        'tasks': list(dataset.tasks),
        'weightings': list(ways),
        'seeds': FLAGS.seeds,
        'seed': config.seed,
        'steps': config.steps,
        'batch_size': config.batch_size,
        'learning_rates': rates or [config.learning_rate],
        **networks.settings_of_network(NARROW),
        'eval_every': config.eval_every,
        'patience': config.patience,
        'keep': config.keep,
        'retrain': FLAGS.retrain,
        'loss_reduction': 'mean' if common.takes_mean() else 'sum',
        'optimizer': tag_jax.grouping.identity.settings(config)['optimizer'],
        'if_not_finite': config.if_not_finite,
        'mesh': list(config.mesh),
        'versions': tag_jax.grouping.identity.versions(),
        **({'static_weights': proposed} if proposed else {}),
    }
