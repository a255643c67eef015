import numpy as np
import pytest
from official import celeb_a as celeb_a_files
from official.celeb_a import ATTR_HEADINGS, NAMES, PARTITION, face
from PIL import Image
from small import kinds

from tag_jax import data
from tag_jax.data.celeb_a import TAG_ATTRIBUTES


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """A data directory that the real builder of TensorFlow Datasets has written, and the labels."""
    data_dir = tmp_path_factory.mktemp('data')
    return data_dir, celeb_a_files.prepare(tmp_path_factory.mktemp('manual'), data_dir)


@pytest.fixture(scope='module')
def celeb_a(prepared):
    return data.celeb_a(prepared[0])


def number_of(image):
    """Which face an image shows."""
    return round(float(image[..., 2].mean()) * 255 / 20)


def test_the_form_of_the_dataset(celeb_a):
    assert celeb_a.name == 'celeb_a'
    assert len(celeb_a.tasks) == 40
    assert set(kinds(celeb_a.tasks).values()) == {('classification', 2)}
    assert [len(split) for split in celeb_a[2:5]] == [5, 2, 2]
    example = celeb_a.train.example()
    assert example.inputs.shape == (64, 64, 3)
    assert example.inputs.dtype == np.float32
    assert 0 <= example.inputs.min() < example.inputs.max() <= 1
    assert example.mask is None
    batch = celeb_a.train.read([0, 1, 2])
    assert batch.targets['Young'].dtype == np.int32


def test_every_label_is_that_of_the_image(prepared, celeb_a):
    """By hand from the text files; the builder shuffles, but images say which they are."""
    _, labels = prepared
    seen = []
    for part, split in enumerate(celeb_a[2:5]):
        for example in split:
            n = number_of(example.inputs)
            assert PARTITION[n] == part
            assert list(example.targets) == list(ATTR_HEADINGS)
            assert list(example.targets.values()) == list((labels[n] + 1) // 2)
            seen.append(n)
    assert sorted(seen) == list(range(len(NAMES)))


@pytest.mark.parametrize('size', [64, 32, 150])
def test_images_are_resized_as_a_whole(prepared, size):
    example = data.celeb_a(prepared[0], size=size).test[0]
    whole = face(number_of(example.inputs)).resize((size, size), Image.Resampling.BOX)
    np.testing.assert_allclose(example.inputs, np.asarray(whole) / 255, atol=0.02)


def test_batches_in_threads(celeb_a):
    rows = np.random.default_rng(0).integers(5, size=(20, 8))
    for batch, expected in zip(celeb_a.train.batches(rows, workers=4), rows, strict=True):
        read = celeb_a.train.read(expected)
        np.testing.assert_array_equal(batch.inputs, read.inputs)
        assert all((batch.targets[task] == read.targets[task]).all() for task in ATTR_HEADINGS)


def test_the_nine_attributes_of_the_paper(prepared, celeb_a):
    nine = data.celeb_a(prepared[0], TAG_ATTRIBUTES)
    assert list(nine.tasks) == list(nine.train[0].targets) == list(TAG_ATTRIBUTES)
    assert len(set(TAG_ATTRIBUTES)) == 9
    assert nine.train[3].targets == celeb_a.only(TAG_ATTRIBUTES).train[3].targets


def test_attributes_that_do_not_exist(prepared):
    with pytest.raises(ValueError, match="CelebA has no attribute 'Tall': it has 5_o_Clock"):
        data.celeb_a(prepared[0], ('Young', 'Tall'))


def test_what_to_run_if_it_is_not_prepared(tmp_path):
    with pytest.raises(FileNotFoundError, match='is not prepared .*pip install tens') as raised:
        data.celeb_a(tmp_path)
    command = str(raised.value).split('python -c ')[1]
    assert str(tmp_path) in command
    compile(command.strip('"'), 'command', 'exec')
