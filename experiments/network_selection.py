"""Which trained networks to use within an inference budget (Standley et al. 2020).

    python -m experiments.network_selection

is `tag-jax select` from a clone, with its flags: --help says what it does.
"""

from tag_jax.launchers import launch
from tag_jax.launchers.select import main

if __name__ == '__main__':
    launch.launch(main)
