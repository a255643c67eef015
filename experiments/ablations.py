"""The ablations of Fifty et al. 2021 and the analyses of Standley et al. 2020, on any dataset.

    python -m experiments.ablations --study=frequency

asks how often and when affinities have to be measured on MultiDigits (Table 2 of Fifty et al.). The
other studies of affinities:

    --study=validation       losses compared on training or on validation batches
    --study=task_sets        affinities among some of the tasks, and among all (Figure 7); the sets
                             are random, or those of --task_sets='a+b+c;a+d+e', with heat maps
    --study=hyperparameters  groups that are best with other settings of training (Table 3)
    --study=partner          the partner with the highest affinity (Table 1)

and of networks:

    --study=relations          what two tasks do for each other (Standley et al., Tables 2 and 3)
    --study=early              early errors as a prediction of final ones (Section 3.3.1)
    --study=smaller_task_sets  selections for all but one of the tasks (Appendix A.2)
    --study=low_data           relations by the number of training examples (Appendix A.3)

Networks that a study trains are kept in --scores, for other studies and comparisons.
"""

from absl import flags

from tag_jax import comparison, grouping, report, studies
from tag_jax.launchers import common, datasets, launch, networks
from tag_jax.runs import workdir

STUDIES = {
    study.__name__: study
    for study in (
        studies.frequency,
        studies.validation,
        studies.task_sets,
        studies.hyperparameters,
        studies.partner,
        studies.relations,
        studies.early,
        studies.smaller_task_sets,
        studies.low_data,
    )
}

flags.DEFINE_string('study', 'frequency', f'One of: {", ".join(STUDIES)}.')
flags.DEFINE_string(
    'task_sets',
    None,
    'Sets of tasks for --study=task_sets, such as a+b+c;a+d+e; by default random ones.',
)
common.define_comparison_flags()
flags.adopt_module_key_flags(launch)
for name in (*common.COMPARISON_FLAGS, 'smaller'):
    flags.declare_key_flag(name)

FLAGS = flags.FLAGS


def main():
    study = launch.choose('study', FLAGS.study, STUDIES)
    dataset = datasets.load_dataset()
    budgets = common.budgets(dataset)
    if FLAGS.smaller is not None and study is not studies.relations:
        raise ValueError('--smaller is for --study=relations')
    if FLAGS.task_sets is not None and study is not studies.task_sets:
        raise ValueError('--task_sets is for --study=task_sets')
    config = common.training_config(dataset)
    problem = networks.make_problem(dataset)
    comparison.check(problem, dataset, [grouping.tag()], budgets, config, FLAGS.seeds)
    studies.check(study, problem)
    options = {} if FLAGS.smaller is None else {'smaller': networks.smaller_problem(dataset)}
    if FLAGS.task_sets is not None:
        options['sets'] = [one.split('+') for one in FLAGS.task_sets.split(';')]
        studies.check_sets(problem.task_names, options['sets'])
    settings = {
        'study': FLAGS.study,
        **({'task_sets': FLAGS.task_sets} if FLAGS.task_sets else {}),
        **common.comparison_settings(dataset, budgets, config),
    }
    folder = common.run_folder(f'{FLAGS.study}_{dataset.name}')
    folder = workdir.open_run(folder, settings, FLAGS.resume)
    datasets.tell_columns(dataset, folder)
    with launch.resumable(folder):
        scores = FLAGS.scores or folder / 'networks'
        found = study(problem, dataset, config, budgets, FLAGS.seeds, scores, **options)
        launch.record_command(folder)
        print(report.write_study(folder, FLAGS.study, found, settings))


if __name__ == '__main__':
    launch.launch(main)
