"""MultiMNIST: two handwritten digits in one image, two tasks.

Sener & Koltun 2018, Section 4.1 and supplement C.1. From the four files of MNIST, or of anything in
its format (Fashion-MNIST, KMNIST).
"""

import gzip
import os
import pathlib
import zlib

import numpy as np

from tag_jax import objectives
from tag_jax.data.dataset import Dataset, Split

_CANVAS, _OFFSET = 36, 6


def multi_mnist(
    data_dir: str | os.PathLike,
    name: str = 'multi_mnist',
    num_validation: int = 10_000,
    size: int = 28,
    seed: int = 0,
) -> Dataset:
    """Builds MultiMNIST in memory.

    Every image of the source is the top left digit of one example; the bottom right digit is
    another one of the same split, drawn uniformly. Where they overlap, the brighter pixel stays.
    The training images of MNIST are split at random into sources for training and for validation,
    60,000 examples together; the 10,000 test images are the sources of the test split. So no digit
    occurs in two splits.

    The paper says neither how large the canvas is nor how far the digits overlap, nor where its
    validation examples come from. As in its authors' code, the canvas is 36 x 36 with the second
    digit 6 pixels to the right and below the first, and is resized to the 28 x 28 of MNIST by
    taking the nearest pixel, so that networks for MNIST apply as they are. Inputs are not
    standardised.

    Args:
      data_dir: folder with train-images-idx3-ubyte, train-labels-idx1-ubyte,
        t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, as downloaded (.gz) or unpacked; see
        https://github.com/zalandoresearch/fashion-mnist for files in this format.
      name: of the dataset, in reports.
      num_validation: training images that are sources of the validation split.
      size: height and width of the images; 36 to leave the canvas as it is.
      seed: of the split and of the pairs; the same for every run by default.

    Returns:
      A `Dataset` with the tasks 'left' and 'right', 10 classes each: inputs float32
      `[N, size, size, 1]` in [0, 1], targets int32 `[N]`.

    Raises:
      FileNotFoundError: if a file is missing.
      ValueError: if a file is cut off or no such file, or too few training images are left.
    """
    data_dir = pathlib.Path(data_dir).expanduser()
    (images, labels), test = _read_pair(data_dir, 'train'), _read_pair(data_dir, 't10k')
    if not 2 <= num_validation <= len(images) - 2:
        raise ValueError(
            f'num_validation={num_validation} of {len(images)} training images: '
            'training and validation need two images each'
        )
    rng = np.random.default_rng(seed)
    parts = np.split(rng.permutation(len(images)), [len(images) - num_validation])
    sources = [*((images[part], labels[part]) for part in parts), test]
    tasks = dict.fromkeys(('left', 'right'), objectives.classification(10))
    return Dataset(name, tasks, *(_pairs(rng, *source, size) for source in sources))


def _pairs(rng, images, labels, size):
    """An example for every image, with another one below and to the right of it."""
    number, height, width = images.shape
    other = (np.arange(number) + rng.integers(1, number, number)) % number
    canvas = np.zeros((number, _CANVAS, _CANVAS), np.uint8)
    canvas[:, :height, :width] = images
    corner = canvas[:, _OFFSET : _OFFSET + height, _OFFSET : _OFFSET + width]
    np.maximum(corner, images[other], out=corner)
    nearest = (2 * np.arange(size) + 1) * _CANVAS // (2 * size)
    inputs = canvas[:, nearest][:, :, nearest, None].astype(np.float32) / 255
    return Split(inputs, {'left': labels, 'right': labels[other]})


def _read_pair(data_dir, part):
    """Images uint8 `[N, 28, 28]` and labels int32 `[N]`."""
    images = _read_idx(data_dir, f'{part}-images-idx3-ubyte', 3)
    labels = _read_idx(data_dir, f'{part}-labels-idx1-ubyte', 1)
    if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max(initial=0) > 9:
        raise ValueError(
            f'the {part} files in {data_dir} are not those of MNIST: images {list(images.shape)} '
            f'and labels {list(labels.shape)} up to {labels.max(initial=0)}'
        )
    return images, labels.astype(np.int32)


def _read_idx(data_dir, name, ndim):
    """An array of bytes in the IDX format: a magic number, the sizes, the values."""
    path = next((p for p in (data_dir / f'{name}.gz', data_dir / name) if p.exists()), None)
    if path is None:
        raise FileNotFoundError(
            f'{data_dir} has neither {name}.gz nor {name}: put the four files of MNIST there'
        )
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == '.gz' else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f'{path} is cut off or no gzip file: download it again') from error
    if content[:4] != bytes((0, 0, 8, ndim)) or len(content) < 4 + 4 * ndim:
        raise ValueError(f'{path} is no IDX file of bytes with {ndim} axes')
    shape = tuple(np.frombuffer(content, '>u4', ndim, offset=4).tolist())
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    if values.size != np.prod(shape):
        raise ValueError(f'{path} is cut off: it has {values.size} values, not {list(shape)}')
    return values.reshape(shape)
