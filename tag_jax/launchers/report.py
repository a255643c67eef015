"""Reports of finished runs, written anew, and runs side by side.

    tag-jax report runs/tag_multi_digits_001

writes report.html and the pictures of a run again, from its files alone, in place of those it has.

    tag-jax report runs/tag_multi_digits_001 runs/tag_multi_digits_002

does so for each run, prints them side by side, and writes comparison.html here, or the page that
--out names: total errors, gains, what the search cost, errors of each task, and the settings that
differ. Runs of the same settings with several seeds get means and standard errors. A file in the
place of the page is replaced only if it is such a page.
"""

from absl import flags

import tag_jax
from tag_jax.launchers import launch

flags.DEFINE_string('out', 'comparison.html', 'The page that compares several runs.')

FLAGS = flags.FLAGS


def main(*runs):
    """Writes the reports of the folders that the arguments name."""
    if not runs:
        command = ' '.join(launch.program())
        raise ValueError(f'name the folder of a run: {command} RUN [RUN ...]')
    if len(runs) > 1:
        print(tag_jax.report.write_runs(runs, FLAGS.out))
        return
    if FLAGS['out'].present:
        raise ValueError('--out is the page that compares several runs: name a second run')
    print(tag_jax.report.write(runs[0]))
