"""Taskonomy (Zamir et al. 2018): images of the inside of buildings, with labels for each pixel.

The five tasks of Standley et al. 2020, Section 4, which Fifty et al. 2021, Section 5.1 take over.
"""

import collections
import functools
import itertools
import logging
import os
import pathlib
import re
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from tag_jax import objectives
from tag_jax.data.dataset import Dataset, Split
from tag_jax.data.images import bilinear, nearest, read_image
from tag_jax.data.source import Source

TASKS = {
    'segment_semantic': objectives.segmentation(17),
    'depth_zbuffer': objectives.pixel_regression(1, absolute=True),
    'normal': objectives.pixel_regression(3, absolute=True),
    'keypoints2d': objectives.pixel_regression(1, absolute=True),
    'edge_texture': objectives.pixel_regression(1, absolute=True),
}

# Stored depth is in 1/512 m; what is farther than 16 m is left out, holes in the scan included.
_FARTHEST = 2**13
# (mean, deviation) of stored values, by which the released code of Standley et al. normalises.
_SCALES = {'depth_zbuffer': (1500, 1000), 'keypoints2d': (50, 100), 'edge_texture': (718, 1070)}

_NAME = re.compile(r'(point_\d+_view_\d+)(_domain_\w+\.png)')
_PNG_BEGINS, _PNG_ENDS = b'\x89PNG\r\n\x1a\n', b'\0\0\0\0IEND\xaeB`\x82'


def taskonomy(
    data_dir: str | os.PathLike,
    train: str | os.PathLike,
    validation: str | os.PathLike,
    test: str | os.PathLike,
    tasks: Sequence[str] = tuple(TASKS),
    size: int = 256,
    check: bool = True,
    most_images: int | None = None,
) -> Dataset:
    """Reads Taskonomy from the files of its archives, or as the Omnidata tools download it.

    The tasks, float32 but for the classes:

    - 'segment_semantic': int32 `[H, W]`, 0 for the background and 1 to 16 for objects; pixels that
      Taskonomy calls uncertain have no label. (The authors' networks have an 18th output, for these
      pixels, which no label ever asks for.)
    - 'depth_zbuffer': `[H, W]`, (p - 1500) / 1000 of the stored p in 1/512 m. Beyond 16 m, and
      where the scan has a hole, there is no label.
    - 'normal': `[H, W, 3]`, in [-1, 1]; labels exist where those of depth do.
    - 'keypoints2d' and 'edge_texture': `[H, W]`, (p - 50) / 100 and (p - 718) / 1070.

    The paper says that labels were normalised; constants and masks are those of its authors' code,
    which reads depth for the mask of normals too. Images are resized by PIL's bilinear filter, and
    labels, unlike there, by taking the nearest pixel: no mixture of what lies on two sides of an
    edge. An image that lacks the file of a task, or has one that is cut off, is skipped; a warning
    in the log says how many. (The authors put the last label that could be read in its place.)

    Args:
      data_dir: a folder with images either in TASK/BUILDING (the layout of Standley et al.), in
        BUILDING_TASK/TASK (each BUILDING_TASK.tar unpacked in a folder of its name), or in
        TASK/taskonomy/BUILDING (Omnidata), where TASK is rgb or one of the tasks. Files are called
        point_0_view_0_domain_rgb.png and so on.
      train, validation, test: text files with the name of a building a line. Those of Fifty et al.
        are train_models.txt, val_models.txt and test_models.txt of the folder tag/taskonomy of
        their code (github.com/google-research/google-research).
      tasks: those to read; all five by default.
      size: height and width of images and labels.
      check: whether to look for files that are cut off, which opens each of them once.
      most_images: of a building in validation and in test, the first by the names of their files;
        None for all. (The code of both papers takes 1,000.)

    Returns:
      A `Dataset` of `Source`s: inputs float32 `[size, size, 3]` in [0, 1].

    Raises:
      ValueError: if there is no such task, a building is in two splits, the most images are none,
        or a split has no images that can be read; when an example is read, if a file is damaged or
        holds what it cannot.
      FileNotFoundError: if a building has no folder for a task.
    """
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f'Taskonomy has no task {task!r}: choose from {", ".join(TASKS)}')
    if most_images is not None and most_images < 1:
        raise ValueError(f'most_images of a building must be at least 1, not {most_images}')
    data_dir = pathlib.Path(data_dir).expanduser()
    lists = [pathlib.Path(path).read_text().split() for path in (train, validation, test)]
    counts = collections.Counter(itertools.chain(*lists))
    if twice := [building for building, times in counts.items() if times > 1]:
        raise ValueError(f'the building {twice[0]!r} is listed twice')
    domains = dict.fromkeys(('rgb', *tasks, *(['depth_zbuffer'] if 'normal' in tasks else [])))
    splits = []
    most = (None, most_images, most_images)
    for path, buildings, limit in zip((train, validation, test), lists, most, strict=True):
        images = _images(data_dir, path, buildings, domains, check, limit)
        decode = functools.partial(_decode, images, tuple(tasks), size)
        splits.append(Source(decode, len(images)))
    return Dataset('taskonomy', {task: TASKS[task] for task in tasks}, *splits)


def _images(data_dir, path, buildings, domains, check, limit):
    """[({domain: folder and end of its files}, start of their names)] of all whole images."""
    read = functools.partial(_images_of, data_dir, domains, check, limit)
    with futures.ThreadPoolExecutor() as threads:
        found, totals = zip(*threads.map(read, buildings), strict=True) if buildings else ((), ())
    images, total = list(itertools.chain(*found)), sum(totals)
    if not images:
        raise ValueError(f'none of the {total} images of the buildings in {path} can be read')
    if len(images) < total:
        logging.getLogger(__name__).warning(
            '%s: skipped %d of %d images, which lack a file or have one that is cut off',
            path, total - len(images), total,
        )  # fmt: skip
    return images


def _images_of(data_dir, domains, check, limit, building):
    """The whole images of one building, and how many there are with the others."""
    places, names = {}, {}
    for domain in domains:
        places[domain], names[domain] = _listed(data_dir, building, domain)
    # Of names as files have them, in which '_' ends the number of a view.
    wanted = set(sorted(set.union(*names.values()), key=lambda name: f'{name}_')[:limit])
    whole = sorted(set.intersection(wanted, *names.values()))
    images = [(places, name) for name in whole if not check or _is_whole(places, name)]
    return images, len(wanted)


def _listed(data_dir, building, domain):
    """((folder, end of names), starts of names) of the files of a building and a domain."""
    folders = (
        data_dir / domain / building,
        data_dir / f'{building}_{domain}' / domain,
        data_dir / domain / 'taskonomy' / building,
    )
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f'the building {building!r} has no folder for {domain}: none of '
            f'{", ".join(map(str, folders))} exists'
        )
    found = [match.groups() for match in map(_NAME.fullmatch, os.listdir(folder)) if match]
    ends = {end for _, end in found}
    if len(ends) != 1:
        raise ValueError(f'{folder} must hold images point_*_view_*_domain_*.png of one domain')
    return (folder, *ends), {start for start, _ in found}


def _is_whole(places, name):
    """Whether all files of an image begin and end as PNG files do."""
    for folder, end in places.values():
        with open(folder / f'{name}{end}', 'rb') as file:
            begins = file.read(len(_PNG_BEGINS))
            file.seek(-min(len(_PNG_ENDS), file.seek(0, os.SEEK_END)), os.SEEK_END)
            if begins != _PNG_BEGINS or file.read() != _PNG_ENDS:
                return False
    return True


def _decode(images, tasks, size, row):
    places, name = images[row]
    paths = {domain: folder / f'{name}{end}' for domain, (folder, end) in places.items()}
    inputs = bilinear(read_image(paths['rgb'], 'RGB'), size, size)
    stored = {
        domain: nearest(read_image(path), size, size)
        for domain, path in paths.items()
        if domain != 'rgb'
    }
    targets, mask = {}, {}
    for task in tasks:
        values = stored[task]
        if values.shape[2:] != ((3,) if task == 'normal' else ()):
            raise ValueError(f'{paths[task]} is no {task}: its shape is {list(values.shape)}')
        match task:
            case 'segment_semantic':
                if values.max() > TASKS[task].width:
                    raise ValueError(f'{paths[task]} holds {values.max()}, which is no class')
                targets[task], mask[task] = np.maximum(values.astype(np.int32) - 1, 0), values > 0
            case 'normal':
                targets[task] = values / np.float32(127.5) - 1
            case _:
                mean, deviation = _SCALES[task]
                targets[task] = (values.astype(np.float32) - mean) / deviation
        if task in ('depth_zbuffer', 'normal'):
            mask[task] = stored['depth_zbuffer'] < _FARTHEST
    return Split(inputs, targets, mask or None)
