"""Compares ways to group tasks: what each grouping costs to find, and what it gains.

    python -m experiments.compare_groupings

is `tag-jax compare` from a clone, with its flags: --help says what it does.
"""

from tag_jax.launchers import launch
from tag_jax.launchers.compare import main

if __name__ == '__main__':
    launch.launch(main)
