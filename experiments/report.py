"""Reports of finished runs, written anew, and runs side by side.

    python -m experiments.report RUN [RUN ...]

is `tag-jax report` from a clone, with its flags: --help says what it does.
"""

from tag_jax.launchers import launch
from tag_jax.launchers.report import main

if __name__ == '__main__':
    launch.launch(main)
