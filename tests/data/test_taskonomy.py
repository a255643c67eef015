import logging

import numpy as np
import pytest
from official.taskonomy import BUILDINGS, LAYOUTS, SIZE, VIEWS, name_of, seed_of, stored, write
from PIL import Image

from tag_jax import data
from tag_jax.data.taskonomy import TASKS


def read(root, *tasks, **options):
    lists = (root / f'{split}_buildings.txt' for split in BUILDINGS)
    return data.taskonomy(root, *lists, tasks or tuple(TASKS), **options)


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_an_example_by_hand(tmp_path, layout):
    rooms = read(write(tmp_path, layout), size=SIZE)
    assert rooms.name == 'taskonomy'
    assert list(rooms.tasks) == list(TASKS)
    assert [len(split) for split in rooms[2:5]] == [6, 3, 3]
    example = rooms.train[4]
    expected = stored(seed_of('adrian', VIEWS.index((0, 11))))
    np.testing.assert_array_equal(example.inputs, expected['rgb'] / np.float32(255))
    targets, mask = example.targets, example.mask
    assert mask.keys() == {'segment_semantic', 'depth_zbuffer', 'normal'}
    for y in range(SIZE):
        for x in range(SIZE):
            at = {task: array[y, x].astype(float) for task, array in expected.items()}
            assert mask['segment_semantic'][y, x] == (at['segment_semantic'] > 0)
            if mask['segment_semantic'][y, x]:
                assert targets['segment_semantic'][y, x] == at['segment_semantic'] - 1
            assert mask['depth_zbuffer'][y, x] == mask['normal'][y, x]
            assert mask['depth_zbuffer'][y, x] == (at['depth_zbuffer'] / 512 < 16)
            metres = targets['depth_zbuffer'][y, x] * 1000 / 512 + 1500 / 512
            assert metres == pytest.approx(at['depth_zbuffer'] / 512, abs=1e-4)
            assert targets['normal'][y, x] == pytest.approx(2 * at['normal'] / 255 - 1, abs=1e-6)
            assert targets['keypoints2d'][y, x] == pytest.approx((at['keypoints2d'] - 50) / 100)
            assert targets['edge_texture'][y, x] == pytest.approx(
                (at['edge_texture'] - 718) / 1070, abs=1e-5
            )


def test_the_shapes_of_a_batch(root):
    batch = next(read(root).train.batches([[0, 5]]))
    shapes = {task: target.shape for task, target in batch.targets.items()}
    assert batch.inputs.shape == (2, 256, 256, 3)
    assert shapes.pop('normal') == (2, 256, 256, 3)
    assert set(shapes.values()) == {(2, 256, 256)}
    assert {mask.shape for mask in batch.mask.values()} == {(2, 256, 256)}
    assert batch.targets['segment_semantic'].dtype == np.int32
    assert {batch.targets[task].dtype for task in list(TASKS)[1:]} == {np.dtype(np.float32)}


def test_the_masks_of_normals_need_depth(root):
    rooms = read(root, 'normal', size=SIZE)
    assert list(rooms.tasks) == list(rooms.test[0].targets) == list(rooms.test[0].mask)
    np.testing.assert_array_equal(
        rooms.test[0].mask['normal'], stored(seed_of('muleshoe', 0))['depth_zbuffer'] < 2**13
    )
    assert read(root, 'edge_texture', size=SIZE).test[0].mask is None


def test_the_first_images_of_a_building(root, caplog):
    """In validation and test, in the order of file names: view 11 stands before view 1."""
    for building in ('ackerman', 'corozal', 'muleshoe'):
        for task, array in stored(0).items():
            folder = root / task / building
            Image.fromarray(array).save(folder / name_of((0, 1), task))
    (root / 'normal' / 'muleshoe' / name_of((0, 0), 'normal')).unlink()
    rooms = read(root, size=SIZE, most_images=2)
    # The first two of test are views 0 and 11, of which view 0 lacks a file.
    assert [len(split) for split in rooms[2:5]] == [7, 2, 1]
    order = [VIEWS.index((0, 0)), VIEWS.index((0, 11))]
    for row, view in enumerate(order):
        expected = stored(seed_of('corozal', view))['rgb'] / np.float32(255)
        np.testing.assert_array_equal(rooms.validation[row].inputs, expected)
    assert 'skipped 1 of 2 images' in caplog.text
    with pytest.raises(ValueError, match='most_images of a building must be at least 1, not 0'):
        read(root, most_images=0)


def test_views_that_are_not_whole_are_skipped_and_counted(root, caplog):
    (root / 'normal' / 'ackerman' / name_of((0, 0), 'normal')).unlink()
    cut = root / 'depth_zbuffer' / 'adrian' / name_of((2, 3), 'depth_zbuffer')
    cut.write_bytes(cut.read_bytes()[:-20])
    (root / 'rgb' / 'adrian' / name_of((0, 0), 'rgb')).write_bytes(b'')
    with caplog.at_level(logging.WARNING):
        rooms = read(root, size=SIZE)
    assert len(rooms.train) == 3
    (record,) = (record for record in caplog.records if 'taskonomy' in record.name)
    assert 'train_buildings.txt: skipped 3 of 6 images' in record.getMessage()
    left = [('ackerman', 1), ('ackerman', 2), ('adrian', 1)]
    for example, (building, n) in zip(rooms.train, left, strict=True):
        image = stored(seed_of(building, n))['rgb']
        np.testing.assert_array_equal(example.inputs, image / np.float32(255))
    assert len(read(root, 'edge_texture', size=SIZE).train) == 5
    unchecked = read(root, size=SIZE, check=False)
    assert len(unchecked.train) == 5
    with pytest.raises(ValueError, match=f'{cut.name} is damaged or no image: unpack it again'):
        unchecked.train[4]


@pytest.mark.parametrize(
    ('task', 'array', 'message'),
    [
        ('segment_semantic', np.full((4, 4), 18, np.uint8), 'holds 18, which is no class'),
        ('normal', np.zeros((4, 4), np.uint8), r'is no normal: its shape is \[16, 16\]'),
        ('keypoints2d', np.zeros((4, 4, 3), np.uint8), 'is no keypoints2d: its shape'),
    ],
)
def test_files_that_hold_what_they_cannot_are_named(root, task, array, message):
    path = root / task / 'muleshoe' / name_of((0, 0), task)
    Image.fromarray(array).save(path)
    with pytest.raises(ValueError, match=f'{path.name} {message}'):
        read(root, size=SIZE).test[0]


def test_what_cannot_be_found(root):
    with pytest.raises(ValueError, match="Taskonomy has no task 'depth': choose from segment_"):
        read(root, 'depth')
    (root / 'test_buildings.txt').write_text('muleshoe adrian')
    with pytest.raises(ValueError, match="the building 'adrian' is listed twice"):
        read(root)
    (root / 'test_buildings.txt').write_text('nowhere')
    with pytest.raises(FileNotFoundError, match="'nowhere' has no folder for rgb: none of"):
        read(root)
    for path in (root / 'rgb' / 'muleshoe').iterdir():
        path.write_bytes(b'')
    (root / 'test_buildings.txt').write_text('muleshoe')
    with pytest.raises(
        ValueError, match='none of the 3 images of the buildings in .*test_buildings.txt can'
    ):
        read(root)
