"""The main job: which tasks should train together?

    tag-jax group

measures inter-task affinities while one network trains on all eight tasks of MultiDigits, selects
two groups, trains a network for each, and writes a report. It takes about half a minute on two CPU
cores and finds that the tasks of the left digit and those of the right digit should part.

    tag-jax group --affinity=runs/tag_multi_digits_001/affinity.npz --budget=3

selects for another budget without measuring again.

    tag-jax group --method=exhaustive --scores=runs/networks

finds groups in another way: here by training a network for every set of tasks. What is in that
folder is not trained again. With --cluster=processes:4 other processes train them, with
--cluster=ray other machines.
"""

from absl import flags

import tag_jax
from tag_jax.launchers import common, datasets, launch, methods, networks, processes, workers

flags.DEFINE_string(
    'method',
    'tag',
    f'How groups are found, one of: {", ".join(methods.METHODS)}; options follow it, as in '
    'subsets:count=30.',
)
flags.DEFINE_string(
    'scores',
    None,
    'Folder of the score table: the networks that searches train, for several runs; by default one '
    'in the workdir.',
)
flags.DEFINE_bool(
    'dry_run', False, 'Say what the command would train, and how long that takes, and stop.'
)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(processes)
flags.adopt_module_key_flags(workers)

FLAGS = flags.FLAGS


def main():
    """Finds groups as the flags ask, trains their networks, and writes the report."""
    name = FLAGS.method.partition(':')[0]
    methods.make(FLAGS.method)
    workers.check()
    if FLAGS.affinity is not None and FLAGS.method != 'tag':
        raise ValueError('--affinity is for --method=tag')
    if FLAGS.smaller is not None and name not in methods.WITH_SMALLER:
        raise ValueError(f'--smaller is for --method={" or ".join(methods.WITH_SMALLER)}')
    processes.join()
    dataset = datasets.load_dataset()
    config, problem = common.training_config(dataset), networks.make_problem(dataset)
    sizes, smaller = networks.sizes(dataset, problem)
    wider = None
    if name in methods.WITH_WIDER and common.budget() > 1:
        wider, other = networks.wider(dataset, problem, common.budget())
        sizes = {**sizes, wider: other}
    method = methods.make(FLAGS.method, smaller, wider)
    if FLAGS.affinity is not None:
        method = tag_jax.grouping.from_affinities(FLAGS.affinity)
    asked = problem, dataset, common.budget(), method, config
    if FLAGS.dry_run:
        datasets.tell_columns(dataset)
        print(tag_jax.report.dry_run_text(tag_jax.grouping.dry_run(*asked, sizes=sizes)))
        return
    datasets.tell_columns(dataset)
    folder = common.run_folder(f'{name}_{datasets.dataset_name()}')
    with workers.executor() as executor, processes.together(), launch.resumable(folder):
        options = {'scores': FLAGS.scores, 'sizes': sizes, 'executor': executor}
        tag_jax.grouping.group_tasks(*asked, folder, FLAGS.resume, **options)
        if tag_jax.parallel.is_first():
            launch.record_command(folder)
            with tag_jax.training.doing('drawing the report'):
                text = tag_jax.report.write(folder)
            print(text)
