"""Datasets, all in one form; one file a dataset."""

from tag_jax.data.dataset import Dataset, Split, TaskKind
from tag_jax.data.multi_digits import multi_digits

__all__ = ['Dataset', 'Split', 'TaskKind', 'multi_digits']
