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

does the same for networks of your own: columns `network`, `cost`, `split` (optional) and one for
each task. --tasks=depth,edges says which columns are tasks.

    tag-jax select --affinity=affinities.csv --budget=2,3

selects groups of tasks by affinities of your own, in the form that `tag-jax group --affinity`
reads.
"""

import csv
import pathlib

import numpy as np
from absl import flags

import tag_jax
from tag_jax import selection
from tag_jax.launchers import launch, select_notes
from tag_jax.runs import affinity_files, storage, workdir
from tag_jax.selection.least import least_budget

EXAMPLES = pathlib.Path(__file__).parent / 'examples'
EXAMPLE = EXAMPLES / 'standley2020_setting1.csv'
# Flags of networks, which say nothing of affinities.
_OF_NETWORKS = (
    *('tasks', 'weights', 'limits', 'set_size', 'transfer', 'select_on', 'score_on'),
    *('early', 'maximize'),
)
# More of them nobody reads.
MOST_SOLUTIONS = 100

flags.DEFINE_string('networks', str(EXAMPLE), 'CSV file of candidate networks.')
flags.DEFINE_string(
    'affinity', None, 'File of affinities (.csv or .npz), to select groups by instead of networks.'
)
flags.DEFINE_list(
    'budget',
    None,
    "What the networks may cost at inference; one or more. By default the paper's 1 to 5, or "
    'five from the costs of the networks of your own.',
)
flags.DEFINE_list('tasks', None, 'Columns of --networks that are tasks; by default all others.')
flags.DEFINE_list('weights', None, 'Weights of tasks: depth:10,edges:0.5; others weigh 1.')
flags.DEFINE_list(
    'limits', None, 'Scores that tasks must reach, of --select_on: depth:0.2,edges:0.05.'
)
flags.DEFINE_list('must_link', None, 'Tasks that train together or not: depth+edges,a+b+c.')
flags.DEFINE_list('cannot_link', None, 'Tasks that never train together: depth+edges,a+b.')
flags.DEFINE_integer(
    'solutions',
    1,
    'How many of the best selections to print.',
    lower_bound=1,
    upper_bound=MOST_SOLUTIONS,
)
flags.DEFINE_string('select_on', 'validation', 'Split whose scores select networks.')
flags.DEFINE_string('score_on', 'test', 'Split whose scores count, if the file has it.')
flags.DEFINE_string(
    'early', 'validation_early_stopped', 'Split of early scores, if the file has it.'
)
flags.DEFINE_integer(
    'set_size',
    None,
    'Also the means over all sets of so many tasks, with the weights, limits and links of these.',
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

# Some of these mean something else in launchers that train.
OWN_GROUPS = {
    'What is chosen from': (
        *('networks', 'affinity', 'tasks', 'select_on', 'score_on', 'early', 'maximize'),
        'transfer',
    ),
    'What is chosen': (
        *('budget', 'weights', 'limits', 'must_link', 'cannot_link', 'solutions', 'set_size'),
    ),
}


def main():
    """Selects among the networks of a file, or groups by affinities, and writes what came out."""
    if FLAGS.affinity is not None:
        _select_groups()
    else:
        _select_networks()


def _select_networks():
    """Selects among the networks of a file for each budget, and writes tables and pictures."""
    splits = selection.read_candidates(FLAGS.networks, FLAGS.tasks)
    candidates = _split('select_on', splits)
    budgets = _budgets(candidates)
    score_on, early = (_present(flag, splits) for flag in ('score_on', 'early'))
    outcomes = splits.get(score_on)
    if outcomes is not None:
        _check_outcomes(candidates, outcomes, score_on)
    arguments = outcomes, splits.get(early), FLAGS.maximize
    rules = _rules()
    weights = _by_task('weights')
    options = {**rules, 'task_weights': weights, 'limits': _by_task('limits')}
    found = selection.explained_trade_off(candidates, budgets, *arguments, **options)
    choices = found.choices
    means, notes = _means(candidates, budgets, *arguments, **options)
    notes = [
        *select_notes.left_out(found),
        *notes,
        *select_notes.blanks(candidates, FLAGS.select_on),
        *select_notes.scales(candidates, weights),
    ]
    several = _solutions(candidates, choices, options)
    transfer = _transfer(candidates if outcomes is None else outcomes)
    counted = score_on or FLAGS.select_on
    settings = {
        'networks': FLAGS.networks,
        'budget': budgets,
        'select_on': FLAGS.select_on,
        'score_on': counted,
        'early': early,
        'maximize': FLAGS.maximize,
        'set_size': FLAGS.set_size,
        **_given(tasks=FLAGS.tasks, solutions=FLAGS.solutions, **options),
    }
    _check_folder()
    folder = workdir.open_run(launch.run_folder('network_selection'), settings)
    remarks = [*notes, *select_notes.predictions(candidates, *arguments[:2])]
    if transfer is not None:
        remarks.append(tag_jax.report.transfer_sentence(transfer))
        picture = tag_jax.report.page.png(tag_jax.report.transfer_figure(transfer))
        storage.write_bytes(folder / tag_jax.report.TRANSFER, picture)
    asked = choices, candidates, settings | _best(several), FLAGS.maximize
    tables = tag_jax.report.write_trade_off(folder, *asked, means=means, remarks=remarks)
    print(select_notes.summary(candidates))
    print(f'\nTotal score on {counted}, of networks selected on {FLAGS.select_on}\n\n{tables}')
    if several:
        print(f'\n{tag_jax.report.solutions_text(list(several.values()), candidates)}')
    print(f'\ntables and pictures: {folder}')


def _means(candidates, budgets, *arguments, **options):
    """The choices in the mean over sets of tasks that --set_size asks for, and notes on them."""
    size = FLAGS.set_size
    if size is None:
        return (), []
    try:
        found = selection.explained_mean_trade_off(candidates, budgets, size, *arguments, **options)
    except ValueError as error:  # All tasks together have a selection.
        raise ValueError(f'--set_size={size}: {error}') from error
    return found.choices, [
        f'In the mean over sets of {size}: {one}' for one in select_notes.left_out(found)
    ]


def _transfer(final):
    """How transfer affinities compare with final scores; None if they are of other networks."""
    if FLAGS['networks'].present and not FLAGS['transfer'].present:
        return None
    return tag_jax.report.compare_transfer(_read_transfer(FLAGS.transfer), final)


def _solutions(candidates, choices, options):
    """`{budget: the best selections}` of budgets that have one, if --solutions asks for several."""
    if FLAGS.solutions == 1:
        return {}
    budgets = list(dict.fromkeys(choice.budget for choice in choices))
    found = selection.select_networks(
        candidates, budgets, FLAGS.maximize, num_solutions=FLAGS.solutions, **options
    )
    return dict(zip(budgets, found, strict=True))


def _best(by_budget):
    """The entry of results.json with the best selections for each budget, if there are several."""
    return {'best_selections': _records(by_budget)} if by_budget else {}


def _records(by_budget):
    return [
        {'budget': budget, **tag_jax.report.selection_record(one)}
        for budget, found in by_budget.items()
        for one in found
    ]


def _select_groups():
    """Selects groups of tasks by the affinities of a file, and writes them."""
    if FLAGS['networks'].present:
        raise ValueError('--affinity and --networks are two ways to select: leave one out')
    for flag in _OF_NETWORKS:
        if FLAGS[flag].present:
            raise ValueError(f'--{flag} is for --networks, not for --affinity: leave it out')
    if FLAGS.budget is None:
        raise ValueError('--affinity needs --budget, how many groups there may be: 2, or 2,3,4')
    budgets = launch.numbers('budget', FLAGS.budget)
    for budget in budgets:
        if not budget.is_integer():
            raise ValueError(f'--budget of --affinity is a number of groups, not {budget:g}')
    budgets = [int(budget) for budget in budgets]
    read = affinity_files.read_affinity(FLAGS.affinity)
    names, rules = read['task_names'], _rules()
    found = {}
    for budget in budgets:
        chosen = selection.select_groups(
            read['mean'], budget, num_solutions=FLAGS.solutions, task_names=names, **rules
        )
        found[budget] = [chosen] if FLAGS.solutions == 1 else list(chosen)
    given = _given(solutions=FLAGS.solutions, **rules)
    settings = {'affinity': FLAGS.affinity, 'budget': budgets, **given}
    _check_folder()
    folder = workdir.open_run(launch.run_folder('group_selection'), settings)
    results = {**settings, 'task_names': list(names), 'selections': _records(found)}
    storage.write_json(folder / workdir.RESULTS, results)
    figure = tag_jax.report.affinity_figure(read['mean'], names, read.get('stderr'), kind=None)
    storage.write_bytes(folder / tag_jax.report.HEAT_MAP, tag_jax.report.page.png(figure))
    for budget, chosen in found.items():
        text = '\n\n'.join(map(str, chosen))
        print(f'Groups within a budget of {budget}: {text}\n')
    print(f'results and picture: {folder}')


def _budgets(candidates):
    """The budgets that --budget names, or those that suit the costs of the networks."""
    if FLAGS.budget is not None:
        return launch.numbers('budget', FLAGS.budget)
    if not FLAGS['networks'].present:
        return [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    able = ~np.isnan(candidates.scores)
    least = least_budget(able, candidates.costs)
    alone = np.where(able, candidates.costs[:, None], 0).max(axis=0).sum()
    if least is None or not np.isfinite(least):
        raise ValueError('--budget is missing: say what the networks may cost together')
    found = np.linspace(least, max(alone, least), 5)
    return sorted({float(f'{budget:.4g}') if n else least for n, budget in enumerate(found)})


def _links(flag):
    """Sets of tasks that a flag names: a+b,c+d."""
    links = [link.split('+') for link in FLAGS[flag].value or ()]
    for link in links:
        if len(set(link)) < 2:
            raise ValueError(
                f'--{flag} needs two tasks or more in a set: a+b, not {"+".join(link)}'
            )
    return links


def _rules():
    """The rules that flags state, as arguments of selections."""
    return {name: _links(name) for name in ('must_link', 'cannot_link')}


def _by_task(flag):
    """`{task: number}` of a flag; None if it is not given."""
    found = {}
    for text in FLAGS[flag].value or ():
        task, _, value = text.rpartition(':')
        if not task:
            raise ValueError(f'--{flag} needs task:number, not {text!r}')
        (found[task],) = launch.numbers(flag, [value])
    return found or None


def _given(**settings):
    """Those settings that say something."""
    return {name: value for name, value in settings.items() if value not in (None, [], 1)}


def _check_folder():
    """Raises ValueError if --workdir holds a run, which this command cannot go on with."""
    folder = launch.run_folder('network_selection')
    if (folder / workdir.CONFIG).exists() or (folder / workdir.RESULTS).exists():
        raise ValueError(f'--workdir {folder} already holds a run: choose another folder')


def _check_outcomes(candidates, outcomes, score_on):
    """Raises ValueError if a network has a score to select on and none that counts."""
    for n, task in np.argwhere(np.isnan(outcomes.scores) & ~np.isnan(candidates.scores)):
        raise ValueError(
            f'{FLAGS.networks}: network {candidates.network_names[n]!r} has a score in the column '
            f'{candidates.task_names[task]!r} for the split {FLAGS.select_on}, and none for the '
            f'split {score_on}: fill the cell, or count another split with --score_on'
        )


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
