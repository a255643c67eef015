"""Judges ways to group tasks on recorded tables of real problems: nothing is trained.

    python -m experiments.grouping_benchmark

prints a leaderboard of all methods over the tables that come with the package, and writes a report
with a picture. It takes about a minute on two CPU cores.

    python -m experiments.grouping_benchmark --method=my_module:my_method

judges a method of your own beside them: a `grouping.Method`, or a function that returns one.
`python -m experiments.record_table` makes tables of other problems, which --tables takes as files.
"""

import importlib
import pathlib
import sys

from absl import flags

from tag_jax import grouping, report
from tag_jax.evaluation import CRITERIA
from tag_jax.launchers import compiled, launch, methods
from tag_jax.runs import workdir
from tag_jax.studies import judging, recorded

WIDE = 'wide_all_in_one'
NAMES = [
    *('all_in_one', WIDE, 'random_even', 'single_task', 'tag', 'cosine_similarity', 'linearised'),
    *('verify', 'hoa', 'esa', 'subsets', 'exhaustive', 'recommended'),
]
RIVALS = ('all_in_one', WIDE, 'random_even', 'tag', 'subsets')

flags.DEFINE_list('methods', NAMES, 'Ways to group; options follow a name, as in subsets:count=30.')
flags.DEFINE_string('method', None, 'One of your own: module:function, or module:value.')
flags.DEFINE_list('tables', None, 'Names of tables of the package, or files; by default all.')
flags.DEFINE_list('budgets', ['2', '3', '4'], 'What networks may cost at inference.')
flags.DEFINE_string(
    'select_by', 'relative_loss', f'What searches see: {", ".join(CRITERIA)} on validation.'
)
flags.DEFINE_string(
    'judge_by', 'relative_loss', f'What groups are judged by: {", ".join(CRITERIA)} on the test.'
)
flags.DEFINE_string('workdir', None, 'Folder of the report; by default runs/grouping_benchmark.')
flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(compiled)

FLAGS = flags.FLAGS


def main():
    for name in ('select_by', 'judge_by'):
        launch.choose(name, getattr(FLAGS, name), dict.fromkeys(CRITERIA))
    budgets = [float(budget) for budget in FLAGS.budgets]
    chosen = [
        judging.wide_all_in_one(budgets) if name == WIDE else methods.make(name)
        for name in FLAGS.methods
    ]
    if FLAGS.method is not None:
        chosen.append(own_method(FLAGS.method))
    tables = [recorded.read(name) for name in FLAGS.tables or recorded.names()]
    if not tables:
        raise ValueError('there is no recorded table: give files with --tables')
    judged = []
    for table in tables:
        judged.append(judging.judge(table, chosen, budgets, FLAGS.select_by, FLAGS.judge_by))
        print(f'{table.name}: {table.seeds} seeds, {len(table.task_names)} tasks', flush=True)
    standings = judging.standings(judged, RIVALS)
    folder = pathlib.Path(FLAGS.workdir or 'runs/grouping_benchmark')
    settings = {
        'tables': [table.name for table in tables],
        'budgets': budgets,
        'select_by': FLAGS.select_by,
        'judge_by': FLAGS.judge_by,
        'rivals': list(RIVALS),
    }
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_json(folder / workdir.CONFIG, settings)
    print(report.write_benchmark(folder, standings, judged, settings))


def own_method(place):
    """The method that `module:name` says."""
    module, colon, name = place.partition(':')
    if not (module and colon and name):
        raise ValueError(f'--method must be module:name, as my_module:my_method, not {place!r}')
    sys.path.insert(0, '')
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f'--method={place} cannot be imported: {error}') from error
    found = found() if callable(found) and not isinstance(found, grouping.Method) else found
    if not isinstance(found, grouping.Method):
        raise ValueError(f'{place} must be a grouping.Method, or a function that returns one')
    return found


if __name__ == '__main__':
    launch.launch(main)
