"""Launchers: flags -> frozen config -> one library call; and what all of them share.

`tag-jax` (`command`) starts `group`, `compare`, `weigh`, `select` and `report`. The launchers of
the papers' experiments, in `experiments/` of a clone, begin here too. No part of the package for
other people's programs: import none of it.
"""
