"""Launchers: flags -> frozen config -> one library call; and what all of them share.

`tag-jax` (`command`) starts `group`, `compare`, `weigh`, `select` and `report`. The launchers of the
papers' experiments, in a clone's `experiments/`, begin here too.
"""
