import contextlib
import dataclasses
import io
import zipfile
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image
from tensorflow_datasets.core.download import checksums, extractor
from tensorflow_datasets.datasets.celeb_a.celeb_a_dataset_builder import (
    ATTR_HEADINGS,
    LANDMARK_HEADINGS,
)

from tag_jax import data
from tag_jax.data.celeb_a import TAG_ATTRIBUTES

PARTITION = [0, 1, 0, 2, 0, 1, 0, 2, 0]
NAMES = [f'{n + 1:06}.jpg' for n in range(len(PARTITION))]


def raw_files(folder):
    """The five files of CelebA as they are downloaded, with nine images. Returns their labels."""
    rng = np.random.default_rng(0)
    labels = rng.choice([-1, 1], (len(NAMES), 40))
    table = lambda header, rows: f'{len(rows)}\n{header}\n' + lines(rows)
    lines = lambda rows: ''.join(
        f'{name} {" ".join(map(str, row))}\n' for name, row in zip(NAMES, rows, strict=True)
    )
    with zipfile.ZipFile(folder / 'img_align_celeba.zip', 'w') as archive:
        for n, name in enumerate(NAMES):
            jpeg = io.BytesIO()
            face(n).save(jpeg, 'JPEG', quality=95)
            archive.writestr(f'img_align_celeba/{name}', jpeg.getvalue())
    files = {
        'list_eval_partition.txt': lines([[part] for part in PARTITION]),
        'list_attr_celeba.txt': table(' '.join(ATTR_HEADINGS), labels),
        'list_landmarks_align_celeba.txt': table(
            ' '.join(LANDMARK_HEADINGS), rng.integers(178, size=(9, 10))
        ),
        'identity_CelebA.txt': lines([[n] for n in range(len(NAMES))]),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return labels


def face(n):
    """A smooth image whose number can be read from its brightness."""
    rows, columns = np.mgrid[:218, :178]
    channels = [rows / 4, columns / 4, 20.0 * n + 0 * rows]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


@contextlib.contextmanager
def opened(path):
    """What the builder does through TensorFlow otherwise: opens an archive."""
    yield path if hasattr(path, 'read') else io.BytesIO(epath.Path(path).read_bytes())


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """A data directory that the real builder of TensorFlow Datasets has written, and the labels."""
    manual, data_dir = tmp_path_factory.mktemp('manual'), tmp_path_factory.mktemp('data')
    labels = raw_files(manual)
    builder = tfds.builder('celeb_a', data_dir=data_dir, file_format='array_record')
    found = {
        url: dataclasses.replace(
            checksums.compute_url_info(manual / info.filename), filename=info.filename
        )
        for url, info in type(builder).url_infos.items()
    }
    with (
        mock.patch.object(type(builder), 'url_infos', found),
        mock.patch.object(extractor, '_open_or_pass', opened),
    ):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual)
        )
    return data_dir, labels


@pytest.fixture(scope='module')
def celeb_a(prepared):
    return data.celeb_a(prepared[0])


def number_of(image):
    """Which face an image shows."""
    return round(float(image[..., 2].mean()) * 255 / 20)


def test_the_form_of_the_dataset(celeb_a):
    assert celeb_a.name == 'celeb_a'
    assert len(celeb_a.tasks) == 40
    assert set(celeb_a.tasks.values()) == {data.TaskKind('classification', 2)}
    assert [len(split) for split in celeb_a[2:]] == [5, 2, 2]
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
    for part, split in enumerate(celeb_a[2:]):
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
