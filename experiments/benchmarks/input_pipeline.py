"""Images a second of the CelebA pipeline, beside plain decoding of the same files.

    python -m experiments.benchmarks.input_pipeline [--workers=2 --rounds=9]

Makes JPEG files of the size of CelebA's (218 x 178, about 9 KB) with all 40 attributes, has
TensorFlow Datasets' own builder prepare them as array_record files (without TensorFlow), and reads
batches of 256 in random order: 'pipeline' is `source.batches`, everything between the disk and a
batch of float32 images and int32 labels; 'plain decoding' decodes and resizes the same JPEG bytes,
which are in memory, in as many threads, and makes no batches; 'full decoding' does so without
leaving out detail that the small image does not need. All from warm caches, alternating; ratios are
medians. The goal is 0.70 of plain decoding; on 2 CPU cores it is 0.74 to 0.75 in five
runs (single rounds: 0.69 to 0.82), and 0.97 to 1.02 of full decoding (0.80 to 1.11).
"""

import contextlib
import dataclasses
import functools
import io
import pathlib
import tempfile
import time
import zipfile
from concurrent import futures
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from PIL import Image
from tensorflow_datasets.core.download import checksums, extractor
from tensorflow_datasets.datasets.celeb_a import celeb_a_dataset_builder as official

from tag_jax import data
from tag_jax.launchers import launch

flags.DEFINE_integer('images', 2000, 'JPEG files that are made.')
flags.DEFINE_integer('workers', 2, 'Threads.')
flags.DEFINE_integer('batch_size', 256, 'Images a batch.')
flags.DEFINE_integer('size', 64, 'Height and width of the images read.')
flags.DEFINE_integer('batches', 32, 'Batches that are read in a round.')
flags.DEFINE_integer('rounds', 9, 'Times that each is timed.')

FLAGS = flags.FLAGS


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        jpegs = [jpeg(n) for n in range(FLAGS.images)]
        prepare(folder, jpegs)
        source = data.celeb_a(folder / 'data', size=FLAGS.size).train
        shape = (FLAGS.batches, FLAGS.batch_size)
        rows = np.random.default_rng(0).integers(len(source), size=shape)
        kilobytes = np.mean([len(content) for content in jpegs]) / 1000
        print(f'{len(source)} images of {kilobytes:.1f} KB, {FLAGS.workers} threads')
        some = [jpegs[row] for row in rows.flat]
        calls = {
            'pipeline': lambda: sum(1 for _ in source.batches(rows, FLAGS.workers)),
            'plain decoding': lambda: decode_all(some, draft=True),
            'full decoding': lambda: decode_all(some, draft=False),
        }
        rates = {name: [] for name in calls}
        for n in range(FLAGS.rounds + 1):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                if n:  # the first round fills caches
                    rates[name].append(rows.size / (time.perf_counter() - began))
        for name, found in rates.items():
            ratio = np.divide(rates['pipeline'], found)
            spread = f'({ratio.min():.2f} to {ratio.max():.2f})'
            print(f'{name:16} {np.median(found):8.0f} a second {np.median(ratio):6.2f} {spread}')


def decode_all(jpegs, draft):
    """Decodes and resizes all images, a slice a thread."""
    parts = [jpegs[n :: FLAGS.workers] for n in range(FLAGS.workers)]
    with futures.ThreadPoolExecutor(FLAGS.workers) as threads:
        for _ in threads.map(lambda part: [decode(content, draft) for content in part], parts):
            pass


def decode(content, draft):
    image = Image.open(io.BytesIO(content), formats=('JPEG',))
    if draft:
        image.draft('RGB', (FLAGS.size, FLAGS.size))
    return np.asarray(image.resize((FLAGS.size, FLAGS.size), Image.Resampling.BILINEAR))


def jpeg(seed):
    """A smooth image with some noise, 218 x 178, as JPEG bytes."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 11, 3), np.uint8))
    smooth = np.asarray(coarse.resize((178, 218), Image.Resampling.BICUBIC), int)
    noisy = np.clip(smooth + rng.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(noisy).save(content, 'JPEG', quality=85)
    return content.getvalue()


def prepare(folder, jpegs):
    """Has the official builder write array_record files of images into `folder / 'data'`."""
    manual = folder / 'manual'
    manual.mkdir()
    write_official_files(manual, jpegs)
    builder = tfds.builder('celeb_a', data_dir=folder / 'data', file_format='array_record')
    found = {
        url: dataclasses.replace(
            checksums.compute_url_info(manual / info.filename), filename=info.filename
        )
        for url, info in type(builder).url_infos.items()
    }
    config = tfds.download.DownloadConfig(manual_dir=manual)
    with (
        mock.patch.object(type(builder), 'url_infos', found),
        mock.patch.object(extractor, '_open_or_pass', opened),
    ):
        builder.download_and_prepare(download_config=config)


@contextlib.contextmanager
def opened(path):
    """Opens an archive, as the builder otherwise does through TensorFlow."""
    yield path if hasattr(path, 'read') else io.BytesIO(pathlib.Path(path).read_bytes())


def write_official_files(folder, jpegs):
    """The five files of CelebA, as they are downloaded; all but two images are for training."""
    rng = np.random.default_rng(0)
    names = [f'{n + 1:06}.jpg' for n in range(len(jpegs) + 2)]
    with zipfile.ZipFile(folder / 'img_align_celeba.zip', 'w') as archive:
        for name, content in zip(names, [*jpegs, *jpegs[:2]], strict=True):
            archive.writestr(f'img_align_celeba/{name}', content)
    lines = lambda rows: ''.join(
        f'{name} {" ".join(map(str, row))}\n' for name, row in zip(names, rows, strict=True)
    )
    table = lambda headings, rows: f'{len(rows)}\n{" ".join(headings)}\n{lines(rows)}'
    draw = functools.partial(rng.integers, size=(len(names), 10))
    parts = [*np.zeros(len(jpegs), int), 1, 2]
    for name, text in {
        'list_eval_partition.txt': lines(np.array(parts)[:, None]),
        'list_attr_celeba.txt': table(
            official.ATTR_HEADINGS, rng.choice([-1, 1], (len(names), 40))
        ),
        'list_landmarks_align_celeba.txt': table(official.LANDMARK_HEADINGS, draw(178)),
        'identity_CelebA.txt': lines(np.arange(len(names))[:, None]),
    }.items():
        (folder / name).write_text(text)


if __name__ == '__main__':
    launch.launch(main)
