"""Judges ways to group tasks on recorded tables of real problems.

    python -m experiments.grouping_benchmark --method=my_module:my_method

is `tag-jax benchmark` from a clone, with its flags: --help says what it does.
"""

from tag_jax.launchers import launch
from tag_jax.launchers.benchmark import main

if __name__ == '__main__':
    launch.launch(main)
