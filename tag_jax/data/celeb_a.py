"""CelebA (Liu et al. 2015): 40 yes-no attributes of 202,599 faces, from TensorFlow Datasets.

Sener & Koltun 2018, Section 4.2, train on all 40; Fifty et al. 2021, Section 5.1, on nine of them.
"""

import functools
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from tag_jax import objectives
from tag_jax.data.dataset import Dataset, Split
from tag_jax.data.source import Source

# The subset of Fifty et al. 2021, a1 to a9 in their tables (named in their released code).
TAG_ATTRIBUTES = (
    '5_o_Clock_Shadow',
    'Black_Hair',
    'Blond_Hair',
    'Brown_Hair',
    'Goatee',
    'Mustache',
    'No_Beard',
    'Rosy_Cheeks',
    'Wearing_Hat',
)

_PREPARE = (
    'python -c "import tensorflow_datasets as tfds; tfds.builder('
    "'celeb_a', data_dir='{}', file_format='array_record').download_and_prepare()\""
)


def celeb_a(
    data_dir: str | os.PathLike, tasks: Sequence[str] | None = None, size: int = 64
) -> Dataset:
    """Reads CelebA as TensorFlow Datasets has prepared it, without TensorFlow.

    To prepare it once takes TensorFlow (`pip install tensorflow`), 1.4 GB downloaded and as much
    memory:

        python -c "import tensorflow_datasets as tfds; tfds.builder(
            'celeb_a', data_dir=DATA_DIR, file_format='array_record').download_and_prepare()"

    The splits are the official ones: 162,770 for training, 19,867 for validation, 19,962 for test.

    Images are resized as a whole, without a crop, by PIL: JPEG decoding leaves out the detail that
    `size` does not need (a half or a quarter of the original size, never below `size`), and a
    bilinear filter does the rest. Sener & Koltun say 64 x 64 x 3 (supplement C.2), and not how they
    resize; Fifty et al. do not say the size.

    Args:
      data_dir: the data directory of TensorFlow Datasets.
      tasks: names of attributes, such as `TAG_ATTRIBUTES`; None for all 40, in the official order.
      size: height and width of the images, which are 218 x 178 on disk.

    Returns:
      A `Dataset` of `Source`s: inputs float32 `[size, size, 3]` in [0, 1], targets int32, 1 where
      the attribute holds.

    Raises:
      ValueError: if there is no such attribute.
      FileNotFoundError: if the dataset is not prepared there, for random access.
    """
    builder = _builder(data_dir)
    attributes = list(builder.info.features['attributes'])
    tasks = attributes if tasks is None else tasks
    for task in tasks:
        if task not in attributes:
            raise ValueError(f'CelebA has no attribute {task!r}: it has {", ".join(attributes)}')
    splits = (_source(builder, name, tasks, size) for name in ('train', 'validation', 'test'))
    return Dataset('celeb_a', dict.fromkeys(tasks, objectives.classification(2)), *splits)


def _builder(data_dir):
    import tensorflow_datasets as tfds  # Slow to import.

    folder = pathlib.Path(data_dir).expanduser()
    if list(folder.glob('celeb_a/*/dataset_info.json')):
        builder = tfds.builder('celeb_a', data_dir=folder)
        if builder.is_prepared() and builder.info.file_format in (
            tfds.core.FileFormat.with_random_access()
        ):
            return builder
    raise FileNotFoundError(
        f'CelebA is not prepared as array_record files in {data_dir}: run once, with '
        f'TensorFlow installed (pip install tensorflow), {_PREPARE.format(data_dir)}'
    )


def _source(builder, split, tasks, size):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    # What tfds does to decode an example takes ten times as long as to parse the record.
    records = builder.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    parse = tf_example_pb2.Example.FromString
    keys = [f'attributes/{task}' for task in tasks]
    decode = functools.partial(_decode, parse, keys, size)
    finish = functools.partial(_finish, tuple(tasks))
    return Source(decode, len(records), records.__getitems__, finish)


def _decode(parse, keys, size, record):
    """Bytes of an image, and all labels in one array."""
    from PIL import Image

    record = parse(record).features.feature
    labels = np.array([record[key].int64_list.value[0] for key in keys], np.int32)
    image = Image.open(io.BytesIO(record['image'].bytes_list.value[0]), formats=('JPEG',))
    image.draft('RGB', (size, size))
    image = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return Split(image, {'labels': labels})


def _finish(tasks, split):
    """Float images, and the labels of each task."""
    columns = np.ascontiguousarray(split.targets['labels'].T)
    return Split(
        np.divide(split.inputs, 255, dtype=np.float32), dict(zip(tasks, columns, strict=True))
    )
