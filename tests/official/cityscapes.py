"""Cityscapes: the folders of its archives."""

import numpy as np
from PIL import Image

# The table of https://github.com/mcordts/cityscapesScripts (helpers/labels.py): id, train id.
TRAIN_IDS = dict(zip(
    (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19),
    strict=True,
))  # fmt: skip
NAMES = {
    'train': ['aachen_000000_000019', 'aachen_000001_000019', 'bochum_000000_000313'],
    'val': ['lindau_000000_000019', 'munster_000002_000019'],
}
SHAPE = (16, 32)


def stored(seed):
    """Image, label ids, instance ids and disparities of one scene, as they are on disk."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(34, size=SHAPE).astype(np.uint8)
    instances = ids.astype(np.int32)
    ids[3:7, 5:12], instances[3:7, 5:12] = 26, 26_003  # a car
    ids[6:9, 10:20], instances[6:9, 10:20] = 24, 24_000  # a person in front of it
    ids[12, :4], instances[12, :4] = 29, 29_001  # a caravan, which is no class
    disparity = rng.integers(0, 2**15, SHAPE).astype(np.uint16)
    disparity[:, -2:] = 0
    return rng.integers(256, size=(*SHAPE, 3)).astype(np.uint8), ids, instances, disparity


def path_of(root, folder, part, name, kind):
    return root / folder / part / name.split('_')[0] / f'{name}_{kind}.png'


def write(root):
    """Five scenes in the folders of the official archives."""
    for part, names in NAMES.items():
        for name in names:
            image, ids, instances, disparity = stored(seed_of(name))
            for folder, kind, array in (
                ('leftImg8bit', 'leftImg8bit', image),
                ('gtFine', 'gtFine_labelIds', ids),
                ('gtFine', 'gtFine_instanceIds', instances.astype(np.uint16)),
                ('disparity', 'disparity', disparity),
            ):
                path = path_of(root, folder, part, name, kind)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


def seed_of(name):
    return [name for part in NAMES.values() for name in part].index(name)
