"""Which trained networks to use within an inference budget (Standley et al. 2020).

    tag-jax select

reads the candidate networks of the paper's setting 1, selects among them by validation loss for
budgets of 1 to 5 standard network times, in every way the paper does, and prints the total test
loss of each (Table 7) and the chosen networks (Table 6). A second or two. Capital letters are tasks
that a network serves, small ones tasks that it only trains. Then how far predictions from pairs are
off (Section 3.3.2: 5.2 %), how early losses correlate with final ones (Section 3.3.1: r = 0.49),
and transfer affinities with multi-task affinities (Figure 5: r = -0.54, p = 0.13).

    tag-jax select --set_size=4 --budget=1,2,3,4

selects for all sets of four of the five tasks as well, and prints the means (Appendix A.2, Figure
6).

    tag-jax select --networks=mine.csv --budget=1,2,4

does the same for networks of your own: columns `network`, `cost`, `split` and one for each task.
"""

import csv
import pathlib

from absl import flags

import tag_jax
from tag_jax import selection
from tag_jax.launchers import launch
from tag_jax.runs import workdir

EXAMPLES = pathlib.Path(__file__).parent / 'examples'
EXAMPLE = EXAMPLES / 'standley2020_setting1.csv'

flags.DEFINE_string('networks', str(EXAMPLE), 'CSV file of candidate networks.')
flags.DEFINE_list(
    'budget', '1,1.5,2,2.5,3,3.5,4,4.5,5', 'What the networks may cost at inference; one or more.'
)
flags.DEFINE_string('select_on', 'validation', 'Split whose scores select networks.')
flags.DEFINE_string('score_on', 'test', 'Split whose scores count, if the file has it.')
flags.DEFINE_string(
    'early', 'validation_early_stopped', 'Split of early scores, if the file has it.'
)
flags.DEFINE_integer(
    'set_size', None, 'Also the means over all sets of so many tasks, instead of all tasks.'
)
flags.DEFINE_string(
    'transfer',
    str(EXAMPLES / 'taskonomy_transfer_affinity.csv'),
    'CSV file of transfer affinities: columns first, second (tasks) and affinity. Its default is '
    'for the default of --networks.',
)
flags.DEFINE_bool('maximize', False, 'Whether scores are to be high (accuracies), not low.')
flags.adopt_module_key_flags(launch)

FLAGS = flags.FLAGS


def main():
    """Selects among the networks of a file, and writes tables and pictures."""
    budgets = launch.numbers('budget', FLAGS.budget)
    splits = selection.read_candidates(FLAGS.networks)
    candidates = _split('select_on', splits)
    score_on, early = (_present(flag, splits) for flag in ('score_on', 'early'))
    outcomes = splits.get(score_on)
    arguments = outcomes, splits.get(early), FLAGS.maximize
    choices = selection.trade_off(candidates, budgets, *arguments)
    means = ()
    if FLAGS.set_size is not None:
        means = selection.mean_trade_off(candidates, budgets, FLAGS.set_size, *arguments)
    transfer = None
    if FLAGS['transfer'].present or not FLAGS['networks'].present:
        final = candidates if outcomes is None else outcomes
        transfer = tag_jax.report.compare_transfer(_read_transfer(FLAGS.transfer), final)
    counted = score_on or FLAGS.select_on
    settings = {
        'networks': FLAGS.networks,
        'budget': budgets,
        'select_on': FLAGS.select_on,
        'score_on': counted,
        'early': early,
        'maximize': FLAGS.maximize,
        'set_size': FLAGS.set_size,
    }
    folder = workdir.open_run(launch.run_folder('network_selection'), settings)
    remarks = list(_predictions(candidates, *arguments[:2]))
    if transfer is not None:
        remarks.append(tag_jax.report.transfer_sentence(transfer))
        tag_jax.report.transfer_figure(transfer).savefig(folder / tag_jax.report.TRANSFER, dpi=150)
    asked = choices, candidates, settings, FLAGS.maximize
    tables = tag_jax.report.write_trade_off(folder, *asked, means=means, remarks=remarks)
    print(f'Total score on {counted}, of networks selected on {FLAGS.select_on}\n\n{tables}')
    print(f'\ntables and pictures: {folder}')


def _predictions(candidates, outcomes, early):
    """Says how well networks are predicted, as far as the candidates tell."""
    try:
        predicted = selection.higher_order_approximation(candidates)
        errors = selection.ratio_errors(predicted, candidates)
    except ValueError:  # A pair is missing, or scores are not ratios.
        errors = ()
    if len(errors):
        yield (
            f'Networks of three tasks and more, predicted from pairs: off by '
            f'{100 * errors.mean():.1f} % in the mean of {len(errors)} predictions'
        )
    if early is not None:
        r = selection.correlation(early, candidates if outcomes is None else outcomes)
        yield f'Early and final scores of networks: r = {r:.2f}'


def _read_transfer(path):
    """`{(task, task): affinity}` of a CSV file."""
    with open(path, newline='') as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith('#')))
    try:
        return {(row['first'], row['second']): float(row['affinity']) for row in rows}
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f'{path} is no table of transfer affinities: it needs columns first, second and '
            'affinity, a number'
        ) from None


def _present(flag, splits):
    """The split that a flag names; None if the file lacks it and nobody asked for it."""
    name = FLAGS[flag].value
    if name not in splits and not FLAGS[flag].present:
        return None
    _split(flag, splits)
    return name


def _split(flag, splits):
    """The candidates of the split that a flag names. Raises ValueError if the file lacks it."""
    name = FLAGS[flag].value
    if name not in splits:
        raise ValueError(
            f'{FLAGS.networks} has no split {name!r}, its splits are {", ".join(splits)}: '
            f'name one with --{flag}'
        )
    return splits[name]
