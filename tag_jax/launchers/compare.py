"""Compares ways to group tasks: what each grouping costs to find, and what it gains.

    tag-jax compare --budgets=2,3,4 --seeds=3

trains a network for every set of the eight tasks of MultiDigits, three seeds each, and compares the
groups that every method of the papers chooses among them, for two, three and four networks: total
test error, gain over one network for all tasks and over random groupings, share of what the best
groups gain, cost of the search. It took 18 minutes on two CPU cores that had other work too.

    tag-jax compare --methods=all_in_one,tag,hoa

leaves the exhaustive search out, and trains only what these methods ask for; with --dry_run it says
how many networks that is, and how long it takes. An interrupted command goes on with
--workdir=FOLDER --resume; with --cluster=processes:4 other processes train, with --cluster=ray
other machines.

    tag-jax compare --smaller=0.5 --budgets=1,1.5,2,2.5,3

lets single tasks have an encoder of half the cost, as Standley et al. do. Their independent
networks are equal_single_task: one a task, which cost the budget together.

    tag-jax compare --table=mine.csv --targets=a,b,c --splits=5

does it for the columns of a table, on five splits of its rows: standard errors then say what seeds
on one split cannot. With --folds=5 in place of --splits each row is in the test split once.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

import tag_jax
from tag_jax.launchers import common, datasets, launch, methods, networks, workers
from tag_jax.runs import storage, workdir

# How the encoder of wide_all_in_one follows from the budget.
WIDER = {'channels': networks.wider_problem, 'cost': networks.problem_of_cost}
# Methods on other encoders, by names of their own.
WIDE, SMALL, EQUAL = 'wide_all_in_one', 'small_single_task', 'equal_single_task'
OWN = (WIDE, SMALL, EQUAL)
NAMES = [
    *('all_in_one', WIDE, 'all_but_one', 'random_even', 'single_task', SMALL, EQUAL, 'tag'),
    'cosine_similarity',
    *('spectral', 'verify', 'linearised', 'hoa', 'esa', 'subsets', 'recommended', 'exhaustive'),
    'pessimal',
]

flags.DEFINE_list(
    'methods',
    'all_in_one,tag,cosine_similarity,hoa,esa,subsets,exhaustive',
    f'Ways to group, beside random ones, or all: {", ".join(NAMES)}; options follow a name, as in '
    'subsets:count=30. Others may follow all; linearised is part of it where the data allow it.',
)
flags.DEFINE_string(
    'wider',
    'channels',
    'The encoder of wide_all_in_one: channels for as many times the units as the budget (Fifty et '
    'al. 2021), cost for one as costly as it (Standley et al. 2020).',
)
flags.DEFINE_list(
    'weightings',
    [],
    'Networks for all tasks that these task weightings train, beside the groups, such as '
    'uncertainty,gradnorm,pcgrad,mgda_ub (Fifty et al. 2021, Figure 2).',
)
flags.DEFINE_integer(
    'splits', 1, 'Splits of the data, drawn anew, with networks of --seeds seeds on each.'
)
flags.DEFINE_integer(
    'folds', 0, 'Folds of a table, each the test split once, in place of --splits; at least 2.'
)
flags.DEFINE_bool(
    'dry_run', False, 'Say what the command would train, and how long that takes, and stop.'
)
common.define_comparison_flags()
flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(workers)
for name in (*common.COMPARISON_FLAGS, 'smaller'):
    flags.declare_key_flag(name)

FLAGS = flags.FLAGS


class Encoders(NamedTuple):
    """The encoders of other sizes that some methods need.

    Attributes:
      makers: `{cost: make}`; `make(dataset)` is the problem with the encoder of that cost, which
        depends on what the networks of a split see.
      problems: `{cost: problem}`, what they make of the first split.
      smaller: the cost of the one that --smaller asks for, or None.
      wide: `{budget: cost}`, of those of WIDE.
      equal: `{budget: cost}`, of those of EQUAL.
      widest: `{budget: cost}`, of the widest ones within a budget, for methods that try them.
    """

    makers: dict[float, Callable]
    problems: dict[float, Any]
    smaller: float | None
    wide: dict[float, float]
    equal: dict[float, float]
    widest: dict[float, float]


def main():
    """Compares the ways to group that the flags name, and writes the report."""
    workers.check()
    names = _method_names()
    launch.choose('way to widen', FLAGS.wider, WIDER)
    splits, dataset = _splits(), datasets.load_dataset()
    if 'all' in FLAGS.methods and not tag_jax.grouping.linear_estimates.can_be_linearised(dataset):
        names.remove('linearised')
    budgets = common.budgets(dataset)
    config, problem = common.training_config(dataset), networks.make_problem(dataset)
    encoders = _encoders(names, dataset, problem, budgets)
    chosen = _methods(names, encoders)
    weightings = {name: common.make_weighting(name) for name in FLAGS.weightings}
    options = {'seeds': FLAGS.seeds, 'weightings': weightings, 'splits': splits}
    if splits == 1:
        options['sizes'] = encoders.problems
        asked = problem, dataset, chosen, budgets, config
    else:
        options['sizes'] = encoders.makers
        load = functools.cache(lambda number: datasets.load_split(number, FLAGS.folds))
        asked = networks.make_problem, load, chosen, budgets, config
        dataset = load(0)
    tag_jax.comparison.check(*asked, **options)
    if FLAGS.dry_run:
        datasets.tell_columns(dataset)
        print(tag_jax.report.dry_run_text(tag_jax.comparison.dry_run(*asked, **options)))
        return
    settings = {
        'methods': names,
        'wider': FLAGS.wider if encoders.wide else None,
        'weightings': list(weightings),
        'splits': splits,
        'folds': FLAGS.folds,
        **common.comparison_settings(dataset, budgets, config),
    }
    _compare(dataset, problem.task_names, settings, asked, options)


def _compare(dataset, task_names, settings, asked, options):
    """Compares what was asked for, in the folder of the run, and writes the report."""
    folder = common.run_folder(f'compare_groupings_{dataset.name}')
    folder = workdir.open_run(folder, settings, FLAGS.resume)
    datasets.tell_columns(dataset, folder)
    storage.write_records(folder / workdir.METRICS, [])

    def on_outcome(outcome):
        storage.append_record(folder / workdir.METRICS, outcome.to_json())

    with launch.resumable(folder), workers.executor() as executor:
        found = tag_jax.comparison.compare_groupings(
            *asked,
            scores=FLAGS.scores or folder / 'networks',
            executor=executor,
            on_outcome=on_outcome,
            **options,
        )
        launch.record_command(folder)
        with tag_jax.training.doing('drawing the report'):
            text = tag_jax.report.write_comparison(folder, found, task_names, settings)
        print(text)


def _method_names():
    """The names of --methods, each once. Raises ValueError at one that is no method."""
    names = FLAGS.methods
    if 'all' in names:
        every = [name for name in NAMES if FLAGS.smaller or name not in (SMALL, EQUAL)]
        names = list(dict.fromkeys([*every, *(name for name in names if name != 'all')]))
    for name in names:
        if name not in OWN:
            methods.make(name)
    if SMALL in names and FLAGS.smaller is None:
        raise ValueError(f'{SMALL} needs a smaller encoder: give --smaller, or leave it out')
    return names


def _encoders(names, dataset, problem, budgets):
    """The `Encoders` that methods of these names need."""
    problems, smaller = networks.sizes(dataset, problem)
    makers = dict.fromkeys(problems, networks.smaller_problem)
    costs = {WIDE: {}, EQUAL: {}}
    for name, make in ((WIDE, WIDER[FLAGS.wider]), (EQUAL, _share_of_a_task)):
        for budget in budgets if name in names else ():
            other = make(dataset, budget)
            cost = tag_jax.grouping.cost_of_encoder(other, problem, dataset)
            costs[name][budget], problems[cost] = cost, other
            makers[cost] = functools.partial(_swapped, make, budget)
    widest = {}
    if any(name.partition(':')[0] in methods.WITH_WIDER for name in names):
        for budget in budgets:
            cost, problems[cost] = networks.wider(dataset, problem, budget)
            widest[budget] = cost
            makers[cost] = functools.partial(networks.problem_of_cost, cost=budget, at_most=True)
    return Encoders(makers, problems, smaller, costs[WIDE], costs[EQUAL], widest)


def _methods(names, encoders):
    """The methods of these names; those of one network a task and of wide ones have the names."""
    own = {
        WIDE: lambda: tag_jax.grouping.all_in_one(encoders.wide),
        SMALL: lambda: tag_jax.grouping.single_task(encoders.smaller),
        EQUAL: lambda: tag_jax.grouping.single_task(encoders.equal),
    }
    chosen = [
        own[name]()._replace(name=name, options={})
        if name in own
        else methods.make(name, encoders.smaller, encoders.widest or None)
        for name in names
    ]
    # What every method has, since the encoder is there, is no part of their names.
    of_all = ('smaller', 'wider')
    return [
        one._replace(options={name: x for name, x in one.options.items() if name not in of_all})
        for one in chosen
    ]


def _splits():
    """The number of splits: --splits, or --folds."""
    most = tag_jax.comparison.MOST_SPLITS
    if not 1 <= FLAGS.splits <= most:
        raise ValueError(f'--splits must be from 1 to {most}, not {FLAGS.splits}')
    if FLAGS.folds == 0:
        return FLAGS.splits
    if not 2 <= FLAGS.folds <= most:
        raise ValueError(f'--folds must be from 2 to {most}, or 0 for none, not {FLAGS.folds}')
    if FLAGS.splits > 1:
        raise ValueError('--folds takes the place of --splits: leave one of them out')
    return FLAGS.folds


def _swapped(make, budget, dataset):
    """Makes the problem of a dataset and a budget, with the dataset last."""
    return make(dataset, budget)


def _share_of_a_task(dataset, budget):
    """The problem whose encoder costs what a budget leaves for each task."""
    return networks.problem_of_cost(dataset, budget / len(dataset.tasks))
