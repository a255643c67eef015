"""CelebA: the five files that are downloaded, and what TensorFlow Datasets makes of them."""

import contextlib
import dataclasses
import io
import zipfile
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image
from tensorflow_datasets.core.download import checksums, extractor
from tensorflow_datasets.datasets.celeb_a.celeb_a_dataset_builder import (
    ATTR_HEADINGS,
    LANDMARK_HEADINGS,
)

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


def prepare(manual, data_dir):
    """Lets the real builder of TensorFlow Datasets write a data directory; returns the labels.

    Args:
      manual: an empty folder, for the files as they are downloaded.
      data_dir: the data directory.
    """
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
    return labels
