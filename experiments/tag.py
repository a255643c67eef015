"""The main job: which tasks should train together?

    python -m experiments.tag

is `tag-jax group` from a clone, with its flags: --help says what it does.
"""

from tag_jax.launchers import launch
from tag_jax.launchers.group import main

if __name__ == '__main__':
    launch.launch(main)
