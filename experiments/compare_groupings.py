"""What a grouping costs to find, and what it gains: ways to group tasks side by side.

    python -m experiments.compare_groupings --budgets=2,3,4 --seeds=3

trains a network for every set of the eight tasks of MultiDigits, three seeds each, and compares the
groups that every method of the papers chooses among them, for two, three and four networks: total
test error, gain over one network for all tasks and over random groupings, share of what the best
groups gain, cost of the search. It took 18 minutes on two CPU cores that had other work too.

    python -m experiments.compare_groupings --methods=all_in_one,tag,hoa

leaves the exhaustive search out, and trains only what these methods ask for; with --dry_run it says
how many networks that is, and how long it takes. An interrupted command goes on with
--workdir=FOLDER --resume; several commands with one --store share the work.

    python -m experiments.compare_groupings --smaller=0.5 --budgets=1,1.5,2,2.5,3

lets single tasks have an encoder of half the cost, as Standley et al. do.

    python -m experiments.compare_groupings --dataset=table --table=mine.csv --targets=a,b,c

does it for the columns of a table.
"""

from absl import flags

from experiments import common, launch
from tag_jax import comparison, report, workdir

# How the encoder of wide_all_in_one follows from the budget.
WIDER = {'channels': common.wider_problem, 'cost': common.problem_of_cost}

flags.DEFINE_list(
    'methods',
    'all_in_one,tag,cosine_similarity,hoa,esa,subsets,exhaustive',
    f'Ways to group, beside random ones, or all: {", ".join(comparison.METHODS)}.',
)
flags.DEFINE_string(
    'wider',
    'channels',
    'The encoder of wide_all_in_one: channels for as many times the units as the budget (Fifty et '
    'al. 2021), cost for one as costly as it (Standley et al. 2020).',
)
flags.DEFINE_bool(
    'dry_run', False, 'Say what the command would train, and how long that takes, and stop.'
)
common.define_comparison_flags()
flags.adopt_module_key_flags(launch)
for name in (*common.COMPARISON_FLAGS, 'smaller'):
    flags.declare_key_flag(name)

FLAGS = flags.FLAGS


def main():
    methods = FLAGS.methods
    if methods == ['all']:
        methods = [name for name in comparison.METHODS if FLAGS.smaller or name != comparison.SMALL]
    dataset = common.load_dataset()
    budgets = common.budgets(dataset)
    config = common.training_config(dataset)
    problem, smaller = common.make_problem(dataset), common.smaller_problem(dataset)
    wide = launch.choose('way to widen', FLAGS.wider, WIDER)
    wider = {}
    if comparison.WIDE in methods:
        wider = {budget: wide(dataset, budget) for budget in budgets}
    comparison.check(problem, dataset, methods, budgets, config, FLAGS.seeds, smaller, wider)
    options = {'seeds': FLAGS.seeds, 'smaller': smaller, 'wider': wider}
    if FLAGS.dry_run:
        asked = problem, dataset, methods, budgets, config
        print(report.foresight_text(comparison.foresee(*asked, **options)))
        return
    settings = {
        'methods': methods,
        'wider': FLAGS.wider if wider else None,
        **common.comparison_settings(dataset, budgets, config),
    }
    folder = common.run_folder(f'compare_groupings_{dataset.name}')
    folder = workdir.open_run(folder, settings, FLAGS.resume)
    common.tell_columns(dataset, folder)
    workdir.write_records(folder / workdir.METRICS, [])
    store = FLAGS.store or folder / 'networks'

    def on_outcome(outcome):
        workdir.append_record(folder / workdir.METRICS, outcome._asdict())

    with launch.resumable(folder):
        found = comparison.compare(
            problem,
            dataset,
            methods,
            budgets,
            config,
            store=store,
            on_outcome=on_outcome,
            **options,
        )
        launch.record_command(folder)
        print(report.write_comparison(folder, found, problem.task_names, settings))


if __name__ == '__main__':
    launch.launch(main)
