import numpy as np
import pytest
from sklearn.datasets import load_digits

from tag_jax import data


@pytest.fixture(scope='module')
def digits():
    return data.multi_digits(num_train=3000, num_validation=500, num_test=500)


def scans(split, side):
    """The part of each canvas that only one of the two digits covers, as bytes."""
    canvas = (split.inputs[..., 0] * 16).astype(np.uint8)
    corner = canvas[:, :4, :8] if side == 'left' else canvas[:, 8:, 4:]
    return [scan.tobytes() for scan in corner]


def test_the_form_of_the_dataset(digits):
    assert digits.name == 'multi_digits'
    assert list(digits.tasks) == [
        f'{side}_{task}'
        for side in ('left', 'right')
        for task in ('digit', 'even', 'at_least_5', 'loop')
    ]
    for split, size in ((digits.train, 3000), (digits.validation, 500), (digits.test, 500)):
        assert split.inputs.shape == (size, 12, 12, 1)
        assert split.inputs.dtype == np.float32
        assert split.inputs.min() == 0
        assert split.inputs.max() == 1
        assert split.mask is None
        for task, kind in digits.tasks.items():
            assert split.targets[task].shape == (size,)
            assert split.targets[task].dtype == np.int32
            assert set(split.targets[task]) == set(range(kind.width))


def test_labels_follow_from_the_digits(digits):
    for side in ('left', 'right'):
        digit = digits.train.targets[f'{side}_digit']
        expected = {'even': {0, 2, 4, 6, 8}, 'at_least_5': {5, 6, 7, 8, 9}, 'loop': {0, 6, 8, 9}}
        for task, members in expected.items():
            found = digits.train.targets[f'{side}_{task}']
            np.testing.assert_array_equal(found, [value in members for value in digit])


def test_every_canvas_shows_the_digits_that_its_labels_name(digits):
    """Decodes examples by hand: looks for the two scans that make each canvas."""
    embedded = load_digits()
    images = (embedded.images / 16).astype(np.float32)
    for n in range(50):
        canvas = digits.test.inputs[n, :, :, 0]
        left = np.flatnonzero((images[:, :4] == canvas[:4, :8]).all(axis=(1, 2)))
        right = np.flatnonzero((images[:, 4:] == canvas[8:, 4:]).all(axis=(1, 2)))
        matches = [
            (a, b)
            for a in left
            for b in right
            if (np.maximum(images[a, 4:, 4:], images[b, :4, :4]) == canvas[4:8, 4:8]).all()
        ]
        assert matches
        for a, b in matches:
            assert embedded.target[a] == digits.test.targets['left_digit'][n]
            assert embedded.target[b] == digits.test.targets['right_digit'][n]


def test_splits_share_no_scan():
    """Scans are drawn from disjoint sources: whole left digits never recur in another split."""
    splits = data.multi_digits(num_train=3000, num_validation=500, num_test=500)[2:5]
    embedded = load_digits().images.astype(np.uint8)
    halves = [scan[:4].tobytes() for scan in embedded]
    unique = {half for half in halves if halves.count(half) == 1}
    seen = [unique & set(scans(split, 'left')) for split in splits]
    assert all(seen)
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_the_same_seed_gives_the_same_data(digits):
    again = data.multi_digits(num_train=3000, num_validation=500, num_test=500)
    np.testing.assert_array_equal(digits.train.inputs, again.train.inputs)
    other = data.multi_digits(num_train=3000, num_validation=500, num_test=500, seed=1)
    assert np.any(digits.train.inputs != other.train.inputs)
