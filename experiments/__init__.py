"""Launchers of the papers' experiments and benchmarks. Run them from the repository's root.

Those that need no paper's dataset are front doors of `tag_jax.launchers`, as `tag-jax` is.
"""
