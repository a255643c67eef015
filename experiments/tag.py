"""The main job: which tasks should train together?

    python -m experiments.tag

measures inter-task affinities while one network trains on all eight tasks of MultiDigits, selects
two groups, trains a network for each, and writes a report. It takes about half a minute on two CPU
cores and finds that the tasks of the left digit and those of the right digit should part.

    python -m experiments.tag --affinity=runs/tag_multi_digits_001/affinity.npz --budget=3

selects for another budget without measuring again.
"""

from absl import flags

from experiments import common, launch
from tag_jax import grouping, report

METHODS = {'tag': grouping.tag}

flags.DEFINE_string('method', 'tag', f'How groups are found, one of: {", ".join(METHODS)}.')
flags.adopt_module_key_flags(common)

FLAGS = flags.FLAGS


def main():
    method = launch.choose('method', FLAGS.method, METHODS)
    config = common.training_config()
    dataset = common.load_dataset()
    folder = common.run_folder(f'{FLAGS.method}_{FLAGS.dataset}')
    with launch.resumable(folder):
        method(
            common.dense_problem(dataset, common.widths()),
            dataset,
            FLAGS.budget,
            config,
            folder,
            affinity=FLAGS.affinity,
            resume=FLAGS.resume,
        )
    print(report.write(folder))


if __name__ == '__main__':
    launch.launch(main)
