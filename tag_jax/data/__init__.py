"""Datasets, all in one form; one file a dataset."""

from tag_jax.data.append import append
from tag_jax.data.arrays import from_arrays
from tag_jax.data.celeb_a import celeb_a
from tag_jax.data.cityscapes import cityscapes, depth_from_disparity
from tag_jax.data.dataset import Dataset, Split
from tag_jax.data.digit_attributes import digit_attributes
from tag_jax.data.encoding import Encoding
from tag_jax.data.multi_digits import multi_digits
from tag_jax.data.multi_mnist import multi_mnist
from tag_jax.data.overlaps import label_overlaps
from tag_jax.data.records import from_records, from_stream
from tag_jax.data.rows import encode_rows
from tag_jax.data.source import Source
from tag_jax.data.table import table
from tag_jax.data.taskonomy import taskonomy
from tag_jax.data.union import union

__all__ = [
    'Dataset',
    'Encoding',
    'Source',
    'Split',
    'append',
    'celeb_a',
    'cityscapes',
    'depth_from_disparity',
    'digit_attributes',
    'encode_rows',
    'from_arrays',
    'from_records',
    'from_stream',
    'label_overlaps',
    'multi_digits',
    'multi_mnist',
    'table',
    'taskonomy',
    'union',
]
