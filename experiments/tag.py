"""The main job: which tasks should train together?

    python -m experiments.tag

measures inter-task affinities while one network trains on all eight tasks of MultiDigits, selects
two groups, trains a network for each, and writes a report. It takes about half a minute on two CPU
cores and finds that the tasks of the left digit and those of the right digit should part.

    python -m experiments.tag --affinity=runs/tag_multi_digits_001/affinity.npz --budget=3

selects for another budget without measuring again.

    python -m experiments.tag --method=exhaustive --store=runs/networks

finds groups in another way: here by training a network for every set of tasks. What is in the store
is not trained again, and several such commands share the work.
"""

import functools

from absl import flags

from experiments import common, launch, processes
from tag_jax import grouping, parallel, report

METHODS = {
    'tag': grouping.tag,
    'cosine_similarity': grouping.cosine_similarity,
    'verify': grouping.verify,
    'hoa': grouping.hoa,
    'esa': grouping.esa,
    'subsets': grouping.subsets,
    'exhaustive': grouping.exhaustive,
    'pessimal': functools.partial(grouping.exhaustive, pessimal=True),
    'random': grouping.random,
    'random_even': grouping.random_even,
    'single_task': grouping.single_task,
    'all_in_one': grouping.all_in_one,
}

# Flags that some methods take.
OPTIONS = {
    'affinity': ('tag',),
    'store': ('verify', 'hoa', 'esa', 'subsets', 'exhaustive', 'pessimal'),
    'smaller': ('hoa', 'esa', 'exhaustive', 'pessimal'),
}

flags.DEFINE_string('method', 'tag', f'How groups are found, one of: {", ".join(METHODS)}.')
flags.DEFINE_string(
    'store',
    None,
    'Folder of the networks that a search trains, for several runs and processes; by default one '
    'in the workdir.',
)
flags.DEFINE_bool(
    'dry_run', False, 'Say what the command would train, and how long that takes, and stop.'
)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(processes)

FLAGS = flags.FLAGS


def main():
    method = launch.choose('method', FLAGS.method, METHODS)
    options = {name: FLAGS[name].value for name in OPTIONS if FLAGS[name].value is not None}
    for name in options:
        if FLAGS.method not in OPTIONS[name]:
            raise ValueError(f'--{name} is for --method={" or ".join(OPTIONS[name])}')
    processes.join()
    dataset = common.load_dataset()
    config = common.training_config(dataset)
    if 'smaller' in options:
        options['smaller'] = common.smaller_problem(dataset)
    if FLAGS.dry_run:
        options.pop('store', None)
        found = grouping.foresee(
            FLAGS.method,
            common.make_problem(dataset),
            dataset,
            common.budget(),
            config,
            **options,
        )
        print(report.foresight_text(found))
        return
    common.tell_columns(dataset)
    folder = common.run_folder(f'{FLAGS.method}_{FLAGS.dataset}')
    with processes.together(), launch.resumable(folder):
        method(
            common.make_problem(dataset),
            dataset,
            common.budget(),
            config,
            folder,
            resume=FLAGS.resume,
            **options,
        )
        if parallel.is_first():
            launch.record_command(folder)
            print(report.write(folder))


if __name__ == '__main__':
    launch.launch(main)
