"""MNIST: its four files."""

import gzip
import struct

import numpy as np

NUM_TRAIN, NUM_TEST = 60, 20


def idx(array):
    """The format of http://yann.lecun.com/exdb/mnist: big-endian magic number and sizes, bytes."""
    magic = 0x800 + array.ndim
    return struct.pack(f'>{1 + array.ndim}I', magic, *array.shape) + array.tobytes()


def drawings(number, seed):
    """Images that are recognised by any of their pixels, none of them black."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 256, (number, 28, 28)).astype(np.uint8), np.arange(number) % 10


def write(path):
    """The four files."""
    for part, number, seed in (('train', NUM_TRAIN, 0), ('t10k', NUM_TEST, 1)):
        images, labels = drawings(number, seed)
        labels = idx(labels.astype(np.uint8))
        (path / f'{part}-images-idx3-ubyte.gz').write_bytes(gzip.compress(idx(images)))
        (path / f'{part}-labels-idx1-ubyte.gz').write_bytes(gzip.compress(labels))
