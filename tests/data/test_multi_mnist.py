import gzip

import numpy as np
import pytest
from official import mnist as mnist_files
from official.mnist import NUM_TEST, NUM_TRAIN, drawings, idx
from small import kinds

from tag_jax import data


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('mnist')
    mnist_files.write(path)
    return path


@pytest.fixture(scope='module')
def whole(folder):
    """The dataset with canvases as they are."""
    return data.multi_mnist(folder, num_validation=15, size=36)


def sources(split):
    """(top left image, bottom right image) of each canvas: their parts that nothing covers."""
    canvas = np.rint(split.inputs[..., 0] * 255).astype(np.uint8)
    return canvas[:, :6, :28], canvas[:, 28:34, 6:34]


def test_the_form_of_the_dataset(folder):
    digits = data.multi_mnist(folder, num_validation=15)
    assert digits.name == 'multi_mnist'
    assert kinds(digits.tasks) == dict.fromkeys(('left', 'right'), ('classification', 10))
    for split, size in zip(digits[2:5], (45, 15, NUM_TEST), strict=True):
        assert split.inputs.shape == (size, 28, 28, 1)
        assert split.inputs.dtype == np.float32
        assert split.inputs.min() >= 0
        assert split.inputs.max() <= 1
        for target in split.targets.values():
            assert target.shape == (size,)
            assert target.dtype == np.int32


def test_every_canvas_by_hand(whole):
    """Each shows two different source images, brighter pixels on top, with their labels."""
    used = []
    for split, (images, labels) in zip(
        whole[2:5], (drawings(NUM_TRAIN, 0), drawings(NUM_TRAIN, 0), drawings(NUM_TEST, 1)),
        strict=True,
    ):  # fmt: skip
        lefts = []
        for n, (left, right) in enumerate(zip(*sources(split), strict=True)):
            (a,) = np.flatnonzero((images[:, :6] == left).all(axis=(1, 2)))
            (b,) = np.flatnonzero((images[:, 22:] == right).all(axis=(1, 2)))
            assert a != b
            expected = np.zeros((36, 36), np.uint8)
            expected[:28, :28] = images[a]
            expected[6:34, 6:34] = np.maximum(expected[6:34, 6:34], images[b])
            np.testing.assert_array_equal(split.inputs[n, :, :, 0], expected / np.float32(255))
            assert split.targets['left'][n] == labels[a]
            assert split.targets['right'][n] == labels[b]
            lefts.append(a)
            used.append((len(images), a, b))
        assert len(set(lefts)) == len(lefts)
    train, validation = (
        {d for _, *ab in used[rows] for d in ab} for rows in (slice(45), slice(45, 60))
    )
    assert not train & validation


def test_resizing_takes_the_nearest_pixel(folder, whole):
    small = data.multi_mnist(folder, num_validation=15)
    centres = (np.arange(28) + 0.5) * 36 / 28
    nearest = np.abs(centres[:, None] - (np.arange(36) + 0.5)).argmin(axis=1)
    expected = whole.test.inputs[:, nearest][:, :, nearest]
    np.testing.assert_array_equal(small.test.inputs, expected)


def test_seeds(folder, whole):
    again = data.multi_mnist(folder, num_validation=15, size=36)
    np.testing.assert_array_equal(again.train.inputs, whole.train.inputs)
    other = data.multi_mnist(folder, num_validation=15, size=36, seed=1)
    assert np.any(other.train.inputs != whole.train.inputs)


def test_unpacked_files_are_read_too(folder, whole, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    found = data.multi_mnist(tmp_path, 'multi_fashion', num_validation=15, size=36)
    assert found.name == 'multi_fashion'
    np.testing.assert_array_equal(found.train.inputs, whole.train.inputs)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda content: None, 'has neither train-images-idx3-ubyte.gz nor train-images'),
        (lambda content: content[:-9], 'images-idx3-ubyte.gz is cut off or no gzip file'),
        (lambda content: b'<html>', 'is cut off or no gzip file: download it again'),
        (lambda content: gzip.compress(b'<html>'), 'is no IDX file of bytes with 3 axes'),
        (lambda content: gzip.compress(b'<html> of some length'), 'is no IDX file of bytes'),
        (
            lambda content: gzip.compress(gzip.decompress(content)[:-1]),
            r'is cut off: it has 47039 values, not \[60, 28, 28\]',
        ),
        (
            lambda content: gzip.compress(idx(np.zeros((59, 28, 28), np.uint8))),
            r'are not those of MNIST: images \[59, 28, 28\] and labels \[60\] up to 9',
        ),
    ],
)
def test_bad_files_are_named(folder, tmp_path, change, message):
    for path in folder.iterdir():
        content = path.read_bytes()
        if path.name == 'train-images-idx3-ubyte.gz':
            content = change(content)
        if content is not None:
            (tmp_path / path.name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.multi_mnist(tmp_path, num_validation=15)


def test_too_few_training_images(folder):
    with pytest.raises(ValueError, match='num_validation=10000 of 60 training images'):
        data.multi_mnist(folder)
