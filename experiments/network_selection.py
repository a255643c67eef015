"""Which trained networks to use within an inference budget (Standley et al. 2020).

    python -m experiments.network_selection

reads the candidate networks of the paper's setting 1, selects among them by validation loss for
budgets of 1 to 5 standard network times, in every way the paper does, and prints the total test
loss of each (Table 7) and the chosen networks (Table 6). A second or two. Capital letters are tasks
that a network serves, small ones tasks that it only trains.

    python -m experiments.network_selection --networks=mine.csv --budget=1,2,4

does the same for networks of your own: columns `network`, `cost`, `split` and one for each task.
"""

import pathlib

from absl import flags

from experiments import launch
from tag_jax import report, selection
from tag_jax.runs import workdir

EXAMPLE = pathlib.Path(__file__).parent / 'examples' / 'standley2020_setting1.csv'

flags.DEFINE_string('networks', str(EXAMPLE), 'CSV file of candidate networks.')
flags.DEFINE_list(
    'budget', '1,1.5,2,2.5,3,3.5,4,4.5,5', 'What the networks may cost at inference; one or more.'
)
flags.DEFINE_string('select_on', 'validation', 'Split whose scores select networks.')
flags.DEFINE_string('score_on', 'test', 'Split whose scores count, if the file has it.')
flags.DEFINE_string(
    'early', 'validation_early_stopped', 'Split of early scores, if the file has it.'
)
flags.DEFINE_bool('maximize', False, 'Whether scores are to be high (accuracies), not low.')
flags.adopt_module_key_flags(launch)

FLAGS = flags.FLAGS


def main():
    budgets = launch.numbers('budget', FLAGS.budget)
    splits = selection.read_candidates(FLAGS.networks)
    candidates = launch.choose('split', FLAGS.select_on, splits)
    score_on, early = (_present(flag, splits) for flag in ('score_on', 'early'))
    choices = selection.trade_off(
        candidates, budgets, splits.get(score_on), splits.get(early), FLAGS.maximize
    )
    counted = score_on or FLAGS.select_on
    settings = {
        'networks': FLAGS.networks,
        'budget': budgets,
        'select_on': FLAGS.select_on,
        'score_on': counted,
        'early': early,
        'maximize': FLAGS.maximize,
    }
    folder = workdir.open_run(launch.run_folder('network_selection'), settings)
    tables = report.write_trade_off(folder, choices, candidates, settings, FLAGS.maximize)
    print(f'Total score on {counted}, of networks selected on {FLAGS.select_on}\n\n{tables}')
    print(f'\ntables and pictures: {folder}')


def _present(flag, splits):
    """The split that a flag names; None if the file lacks it and nobody asked for it."""
    name = FLAGS[flag].value
    if name not in splits and not FLAGS[flag].present:
        return None
    launch.choose('split', name, splits)
    return name


if __name__ == '__main__':
    launch.launch(main)
