import numpy as np
import pytest
from sklearn.datasets import load_digits

from tag_jax import data


def test_labels_follow_from_the_digits():
    """Each scan is found again among those of scikit-learn, and its labels by hand."""
    found = data.digit_attributes()
    digits = load_digits()
    known = {
        scan.tobytes(): digit for scan, digit in zip(digits.images, digits.target, strict=True)
    }
    by_hand = {
        'even': lambda d: d % 2 == 0,
        'at_least_5': lambda d: d >= 5,
        'loop': lambda d: d in (0, 6, 8, 9),
        'prime': lambda d: d in (2, 3, 5, 7),
        'straight': lambda d: d in (1, 4, 7),
        'square': lambda d: d in (0, 1, 4, 9),
        'symmetric': lambda d: d in (0, 1, 3, 8),
        'multiple_of_3': lambda d: d % 3 == 0,
        'curved_and_odd': lambda d: d in (3, 5, 9),
    }
    assert list(found.tasks) == list(by_hand)
    for split, size in ((found.train, 250), (found.validation, 400), (found.test, 1147)):
        assert split.inputs.shape == (size, 8, 8, 1)
        assert split.inputs.dtype == np.float32
        for row, scan in enumerate(split.inputs[:50, ..., 0]):
            digit = known[(16 * scan).astype(np.float64).tobytes()]
            for task, label in by_hand.items():
                assert split.targets[task][row] == label(digit)


def test_no_scan_is_in_two_splits():
    found = data.digit_attributes()
    scans = [s.tobytes() for part in found[2:5] for s in part.inputs]
    assert len(set(scans)) == len({scan.tobytes() for scan in load_digits().images})


def test_a_test_split_must_be_left():
    with pytest.raises(ValueError, match='no test split is left beside 1500 for training'):
        data.digit_attributes(1500, 400)
