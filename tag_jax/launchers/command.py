"""The command `tag-jax`: which tasks should train together, and is it worth it?

    tag-jax group      finds groups of tasks, trains a network for each, and writes a report
    tag-jax compare    compares ways to group, over budgets and seeds
    tag-jax weigh      compares ways of weighting the tasks of one network
    tag-jax select     chooses among trained networks within an inference budget
    tag-jax predict    answers new rows of a table with the networks of a finished run
    tag-jax report     writes the reports of finished runs again, and shows runs side by side
    tag-jax benchmark  judges ways to group, yours too, on recorded tables of real problems

Each says what it does, with examples, and lists its flags: tag-jax group --help. A table of your
own takes the place of the embedded data: tag-jax group --table=mine.csv --targets=a,b,c.
"""

import importlib
import pathlib
import sys

from tag_jax import __version__
from tag_jax.launchers import launch

# The launchers in this folder: a new one takes its name here, and a line above.
FOLDER = pathlib.Path(__file__).parent
COMMANDS = ('group', 'compare', 'weigh', 'select', 'predict', 'report', 'benchmark')
HELP = ('help', '--help', '-help', '-h')


def main():
    """Starts the launcher that the first argument names; ends the program with its exit status."""
    module = sys.modules['__main__'].__spec__
    program = launch.TAG_JAX[module is not None]
    name, *arguments = sys.argv[1:] or ['']
    if name in HELP or not sys.argv[1:]:
        print(__doc__.strip())
        sys.exit(0)
    if name == '--version':
        print(f'tag-jax {__version__}')
        sys.exit(0)
    if name not in COMMANDS:
        sentence = f'there is no command {name!r}: choose {" or ".join(COMMANDS)}'
        print(f'error: {sentence} ({program} --help)', file=sys.stderr)
        sys.exit(2)
    sys.argv = [f'{program} {name}', *arguments]
    launch.launch(importlib.import_module(f'tag_jax.launchers.{name}').main)
