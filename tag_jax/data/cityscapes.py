"""Cityscapes (Cordts et al. 2016): segmentation, instances and disparity of street scenes.

Sener & Koltun 2018, Section 4.3 and supplement C.3.
"""

import functools
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from tag_jax import objectives
from tag_jax.data.dataset import Dataset, Split
from tag_jax.data.images import bilinear, nearest, read_image
from tag_jax.data.source import Source

PIXELS = 'mae_in_pixels'  # The metric of offsets in pixels of an image of the paper's width.
PAPER_SIZE = 256, 512


def _offsets_in_widths():
    """The objective of offsets, in widths of the image, which has their error in pixels too."""
    plain = objectives.pixel_regression(2, absolute=True)

    def finish(totals, variance=None):
        found = plain.metric.finish(totals, variance)
        return {**found, PIXELS: PAPER_SIZE[1] * found['mae']}

    return plain._replace(metric=plain.metric._replace(finish=finish))


TASKS = {
    'segmentation': objectives.segmentation(19),
    'instance_offset': _offsets_in_widths(),
    'disparity': objectives.pixel_regression(1, absolute=True),
}

# Label ids of the 19 classes that are evaluated, in the order of their train ids.
CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

_FILES = {
    'segmentation': ('gtFine', 'gtFine_labelIds'),
    'instance_offset': ('gtFine', 'gtFine_instanceIds'),
    'disparity': ('disparity', 'disparity'),
}


def cityscapes(
    data_dir: str | os.PathLike,
    tasks: Sequence[str] = tuple(TASKS),
    size: tuple[int, int] = PAPER_SIZE,
    validation: int = 275,
    seed: int = 0,
) -> Dataset:
    """Reads Cityscapes from the folders of its archives.

    Take leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip and disparity_trainvaltest.zip from
    https://www.cityscapes-dataset.com and unpack them into `data_dir`.

    The tasks, with masks bool `[H, W]` that are false where there is no label:

    - 'segmentation': the 19 classes that are evaluated, int32 `[H, W]`; others have no label.
    - 'instance_offset': the way from the pixel to the centre of mass of the pixels of its instance,
      (x, y), float32 `[H, W, 2]`, x to the right and y down, in widths of the image. Pixels that
      are not of a single person, rider or vehicle of the 19 classes have no label. The metric 'mae'
      is in widths, 'mae_in_pixels' in pixels of an image 512 wide, as in Table 4 of the paper.
    - 'disparity': float32 `[H, W]`, in pixels of the original image, which is 2,048 wide: (p - 1) /
      256 of the stored p; p = 0 has no label. It is some ten pixels, and so is its loss: weigh it.
      `depth_from_disparity` makes depth of it.

    Images are resized by PIL's bilinear filter, labels by taking the nearest pixel; centres are of
    the resized instances. As in the paper, the official validation images are the test split,
    since the labels of the official test images are not public, and 275 random training images are
    held out for validation. The paper states squared errors as the losses of the offset and of
    disparity, its released code takes absolute ones, and its Table 4 has errors in pixels: these
    tasks are regressed by the absolute error.

    Args:
      data_dir: the folder with leftImg8bit, gtFine and disparity.
      tasks: those to read; all by default.
      size: height and width of images and labels.
      validation: training images that are held out. With 0 nothing is held out, to train again
        with hyperparameters that are fixed: the validation split is then the training split
        itself, and no guide to when to stop.
      seed: of the images held out; the same for every run by default.

    Returns:
      A `Dataset` of `Source`s: inputs float32 `[H, W, 3]` in [0, 1].

    Raises:
      ValueError: if there is no such task, or not that many training images; when an example is
        read, if a file is damaged or of another size than its image.
      FileNotFoundError: if there are no images, or an image lacks its file of labels.
    """
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f'Cityscapes has no task {task!r}: choose from {", ".join(TASKS)}')
    data_dir = pathlib.Path(data_dir).expanduser()
    train, test = (_files(data_dir, part, tasks) for part in ('train', 'val'))
    if not 0 <= validation < len(train):
        raise ValueError(
            f'{validation} validation images cannot be held out of {len(train)} training images'
        )
    shuffled = np.random.default_rng(seed).permutation(len(train))
    held_out = [train[n] for n in sorted(shuffled[:validation])]
    kept = [train[n] for n in sorted(shuffled[validation:])]
    splits = (
        Source(functools.partial(_decode, files, size), len(files))
        for files in (kept, held_out or kept, test)
    )
    return Dataset('cityscapes', {task: TASKS[task] for task in tasks}, *splits)


def depth_from_disparity(disparity: np.ndarray, camera: str | os.PathLike) -> np.ndarray:
    """Converts disparity to depth by a camera (Supplement C.3): baseline times fx over disparity.

    Args:
      disparity: in pixels of the original image, `[...]`, as the task and its predictions are.
      camera: the file of the image's camera, camera/PART/CITY/NAME_camera.json in
        camera_trainvaltest.zip.

    Returns:
      Depth in metres, float32 `[...]`; infinity where disparity is not above 0.

    Raises:
      ValueError: if the file has no positive baseline and fx.
      OSError: if there is no such file.
    """
    text = pathlib.Path(camera).expanduser().read_text(encoding='utf-8')
    try:
        found = json.loads(text)
        factor = float(found['extrinsic']['baseline']) * float(found['intrinsic']['fx'])
    except (ValueError, KeyError, TypeError):
        factor = 0.0
    if not 0 < factor < np.inf:
        raise ValueError(
            f'{camera} has no positive extrinsic.baseline and intrinsic.fx: name a camera.json of '
            'camera_trainvaltest.zip'
        )
    disparity = np.asarray(disparity, np.float32)
    return np.where(disparity > 0, factor / np.maximum(disparity, 1e-12), np.inf).astype(np.float32)


def _files(data_dir, part, tasks):
    """[{'image' or task: path}] of the images of a part, in the order of their names."""
    end = '_leftImg8bit.png'
    images = sorted((data_dir / 'leftImg8bit' / part).glob(f'*/*{end}'))
    if not images:
        raise FileNotFoundError(
            f'{data_dir} has no images leftImg8bit/{part}/*/*{end}: unpack the archives of '
            'Cityscapes there'
        )
    found = []
    for image in images:
        name = image.name.removesuffix(end)
        paths = {'image': image}
        for task in tasks:
            folder, kind = _FILES[task]
            paths[task] = data_dir / folder / part / image.parent.name / f'{name}_{kind}.png'
            if not paths[task].exists():
                raise FileNotFoundError(
                    f'{paths[task]} is missing: unpack {folder}_trainvaltest.zip into {data_dir}'
                )
        found.append(paths)
    return found


def _decode(files, size, row):
    paths = dict(files[row])
    image = read_image(paths.pop('image'), 'RGB')
    targets, mask = {}, {}
    for task, path in paths.items():
        stored = read_image(path)
        if stored.shape != image.shape[:2]:
            raise ValueError(
                f'{path} does not fit its image: it has the shape {list(stored.shape)}, '
                f'the image {list(image.shape)}'
            )
        targets[task], mask[task] = _LABELS[task](nearest(stored, *size).astype(np.int32))
    return Split(bilinear(image, *size), targets, mask)


def _classes(ids):
    """(train ids, where there is one) of label ids `[H, W]`."""
    train_ids = np.full(256, -1, np.int32)
    train_ids[list(CLASSES)] = np.arange(len(CLASSES))
    classes = train_ids[ids]
    return np.maximum(classes, 0), classes >= 0


def _offsets(ids):
    """(offsets to the centres, where there is one) of instance ids `[H, W]`: 1000 x label + n."""
    mask = (ids >= 1000) & np.isin(ids // 1000, CLASSES)
    height, width = ids.shape
    position = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    _, instances = np.unique(ids[mask], return_inverse=True)
    sizes = np.bincount(instances)
    centres = [np.bincount(instances, position[mask][:, axis]) / sizes for axis in (0, 1)]
    offsets = np.zeros((height, width, 2), np.float32)
    offsets[mask] = (np.stack(centres, axis=-1)[instances] - position[mask]) / width
    return offsets, mask


def _disparity(stored):
    """(disparity in pixels, where it is known) of stored values `[H, W]`."""
    mask = stored > 0
    return np.where(mask, (stored - 1) / np.float32(256), 0).astype(np.float32), mask


_LABELS = {'segmentation': _classes, 'instance_offset': _offsets, 'disparity': _disparity}
