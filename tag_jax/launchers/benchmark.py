"""Judges ways to group tasks on recorded tables of real problems: nothing is trained.

    tag-jax benchmark

prints a leaderboard of all methods over the tables that come with the package, and writes a report
with a picture. It takes about a minute on two CPU cores.

    tag-jax benchmark --method=my_module:my_method

judges a method of your own beside them: a `grouping.Method`, or a function that returns one.
`python -m experiments.record_table` makes tables of other problems, which --tables takes as files.
"""

import importlib
import pathlib
import sys

from absl import flags

import tag_jax
from tag_jax.launchers import launch, methods

WIDE = 'wide_all_in_one'
NAMES = [
    *('all_in_one', WIDE, 'all_but_one', 'random_even', 'single_task', 'tag'),
    *('cosine_similarity', 'linearised'),
    *('verify', 'hoa', 'esa', 'subsets', 'subsets:keep=true', 'exhaustive', 'recommended'),
]
RIVALS = ('all_in_one', WIDE, 'random_even', 'tag', 'subsets')

flags.DEFINE_list('methods', NAMES, 'Ways to group; options follow a name, as in subsets:count=30.')
flags.DEFINE_string('method', None, 'One of your own: module:function, or module:value.')
flags.DEFINE_list('tables', None, 'Names of tables of the package, or files; by default all.')
flags.DEFINE_list('budgets', ['2', '3', '4'], 'What networks may cost at inference.')
flags.DEFINE_string(
    'select_by', 'relative_loss', 'What searches see of validation: error, loss or relative_loss.'
)
flags.DEFINE_string(
    'judge_by', 'relative_loss', 'What groups are judged by on the test: the same three.'
)
flags.DEFINE_string(
    'page', None, 'A Markdown file, in which the tables are written between two comments.'
)
flags.declare_key_flag('workdir')

FLAGS = flags.FLAGS


def main():
    """Judges the methods that the flags name, and writes the report."""
    from tag_jax.runs import storage, workdir
    from tag_jax.studies import judging, recorded

    for name in ('select_by', 'judge_by'):
        launch.choose(name, getattr(FLAGS, name), dict.fromkeys(tag_jax.evaluation.CRITERIA))
    budgets = [_number(budget) for budget in FLAGS.budgets]
    chosen = [_method(name, budgets) for name in FLAGS.methods]
    if FLAGS.method is not None:
        chosen.append(own_method(FLAGS.method))
    tables = [recorded.read(name) for name in FLAGS.tables or recorded.names()]
    if not tables:
        raise ValueError('there is no recorded table: give files with --tables')
    judged = []
    for table in tables:
        judged.append(judging.judge(table, chosen, budgets, FLAGS.select_by, FLAGS.judge_by))
        print(f'{table.name}: {table.seeds} seeds, {len(table.task_names)} tasks', flush=True)
    folder = pathlib.Path(FLAGS.workdir or 'runs/grouping_benchmark')
    settings = {
        'tables': [table.name for table in tables],
        'budgets': budgets,
        'select_by': FLAGS.select_by,
        'judge_by': FLAGS.judge_by,
        'rivals': list(RIVALS),
    }
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / workdir.CONFIG, settings)
    print(tag_jax.report.write_benchmark(folder, judged, settings, FLAGS.page))


def _number(text):
    """A budget."""
    try:
        found = float(text)
    except ValueError:
        found = 0
    if found < 1:
        raise ValueError(f'--budgets must be numbers of at least 1, not {text!r}')
    return found


def _method(name, budgets):
    """A method by its name. The wider encoders of the tables are there for those that use them."""
    from tag_jax.studies import judging

    if name == WIDE:
        return judging.wide_all_in_one(budgets)
    found = methods.make(name, wider={budget: budget for budget in budgets})
    return found._replace(options={k: v for k, v in found.options.items() if k != 'wider'})


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
    found = found() if callable(found) and not isinstance(found, tag_jax.grouping.Method) else found
    if not isinstance(found, tag_jax.grouping.Method):
        raise ValueError(f'{place} must be a grouping.Method, or a function that returns one')
    return found
