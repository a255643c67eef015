"""Ways of weighting tasks side by side (Sener & Koltun 2018, Section 4.1).

    python -m experiments.multi_objective

is `tag-jax weigh` from a clone, with its flags: --help says what it does.
"""

from tag_jax.launchers import launch
from tag_jax.launchers.weigh import main

if __name__ == '__main__':
    launch.launch(main)
