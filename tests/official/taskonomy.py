"""Taskonomy: the folders of its archives."""

import numpy as np
from PIL import Image

BUILDINGS = {'train': ['ackerman', 'adrian'], 'validation': ['corozal'], 'test': ['muleshoe']}
ALL = ['ackerman', 'adrian', 'corozal', 'muleshoe']
VIEWS = [(0, 0), (0, 11), (2, 3)]
SIZE = 16


def stored(seed):
    """What the six files of one view hold."""
    rng = np.random.default_rng(seed)
    image = lambda high, dtype, *last: rng.integers(high, size=(SIZE, SIZE, *last)).astype(dtype)
    depth = image(2**14, np.uint16)
    depth[:3, :3] = 2**16 - 1  # a hole in the scan
    depth[4, 4] = 2**13 - 1
    depth[4, 5] = 2**13
    return {
        'rgb': image(256, np.uint8, 3),
        'segment_semantic': image(18, np.uint8),
        'depth_zbuffer': depth,
        'normal': image(256, np.uint8, 3),
        'keypoints2d': image(2**16, np.uint16),
        'edge_texture': image(2**16, np.uint16),
    }


def name_of(view, domain):
    end = {'segment_semantic': 'segmentsemantic'}.get(domain, domain)
    return f'point_{view[0]}_view_{view[1]}_domain_{end}.png'


LAYOUTS = {
    'by task': '{task}/{building}',
    'as unpacked': '{building}_{task}/{task}',
    'omnidata': '{task}/taskonomy/{building}',
}


def write(root, layout='by task'):
    """Four buildings with three views each, and the lists of the splits."""
    for building in ALL:
        for n, view in enumerate(VIEWS):
            for task, array in stored(seed_of(building, n)).items():
                folder = root / LAYOUTS[layout].format(task=task, building=building)
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / name_of(view, task))
    for split, buildings in BUILDINGS.items():
        (root / f'{split}_buildings.txt').write_text('\n'.join(buildings) + '\n')
    return root


def seed_of(building, n):
    return ALL.index(building) * len(VIEWS) + n
