import numpy as np
import pytest
from official import cityscapes as cityscapes_files
from official.cityscapes import SHAPE, TRAIN_IDS, path_of, seed_of, stored
from PIL import Image

from tag_jax import data
from tag_jax.data.images import nearest


@pytest.fixture
def root(tmp_path):
    cityscapes_files.write(tmp_path)
    return tmp_path


def test_the_form_of_the_dataset(root):
    scenes = data.cityscapes(root, validation=1)
    assert scenes.name == 'cityscapes'
    assert {task: kind.width for task, kind in scenes.tasks.items()} == {
        'segmentation': 19,
        'instance_offset': 2,
        'disparity': 1,
    }
    assert [len(split) for split in scenes[2:5]] == [2, 1, 2]
    batch = scenes.train.read([0, 1])
    assert batch.inputs.shape == (2, 256, 512, 3)
    assert batch.inputs.dtype == np.float32
    assert 0 <= batch.inputs.min() < batch.inputs.max() <= 1
    assert batch.targets['segmentation'].shape == (2, 256, 512)
    assert batch.targets['segmentation'].dtype == np.int32
    assert batch.targets['instance_offset'].shape == (2, 256, 512, 2)
    assert batch.targets['disparity'].shape == (2, 256, 512)
    for task in scenes.tasks:
        assert batch.mask[task].shape == (2, 256, 512)
        assert batch.mask[task].dtype == bool


def test_an_example_by_hand(root):
    scenes = data.cityscapes(root, size=SHAPE, validation=1)
    example = scenes.test[1]
    image, ids, instances, disparity = stored(seed_of('munster_000002_000019'))
    np.testing.assert_array_equal(example.inputs, image / np.float32(255))
    for y in range(SHAPE[0]):
        for x in range(SHAPE[1]):
            known = ids[y, x] in TRAIN_IDS
            assert example.mask['segmentation'][y, x] == known
            if known:
                assert example.targets['segmentation'][y, x] == TRAIN_IDS[ids[y, x]]
            known = instances[y, x] in (26_003, 24_000)
            assert example.mask['instance_offset'][y, x] == known
            if known:
                rows, columns = np.nonzero(instances == instances[y, x])
                np.testing.assert_allclose(
                    example.targets['instance_offset'][y, x] * SHAPE[1],
                    [columns.mean() - x, rows.mean() - y],
                    atol=1e-5,
                )
            assert example.mask['disparity'][y, x] == (disparity[y, x] > 0)
            if disparity[y, x]:
                assert example.targets['disparity'][y, x] == (float(disparity[y, x]) - 1) / 256


def test_labels_are_resized_to_the_nearest_pixel(root):
    whole = data.cityscapes(root, size=SHAPE, validation=1).test[0]
    half = data.cityscapes(root, size=(8, 16), validation=1).test[0]
    for task in ('segmentation', 'disparity'):
        np.testing.assert_array_equal(half.targets[task], whole.targets[task][1::2, 1::2])
        np.testing.assert_array_equal(half.mask[task], whole.mask[task][1::2, 1::2])
    np.testing.assert_array_equal(nearest(np.arange(3)[None], 1, 6), [[0, 0, 1, 1, 2, 2]])


def test_scenes_without_instances(root):
    for path in (root / 'gtFine' / 'val').rglob('*instanceIds.png'):
        Image.fromarray(np.full(SHAPE, 7, np.uint16)).save(path)
    example = data.cityscapes(root, ['instance_offset'], SHAPE, validation=1).test[0]
    assert not example.mask['instance_offset'].any()
    assert not example.targets['instance_offset'].any()


def test_validation_is_held_out_of_training(root):
    images = lambda source: {example.inputs.tobytes() for example in source}
    scenes = data.cityscapes(root, ['disparity'], SHAPE, validation=1)
    assert not images(scenes.train) & images(scenes.validation)
    everything = data.cityscapes(root, ['disparity'], SHAPE, validation=0)
    assert images(everything.train) == images(scenes.train) | images(scenes.validation)
    assert images(everything.validation) == images(everything.train)
    held_out = {
        tuple(sorted(images(data.cityscapes(root, (), SHAPE, 1, seed).validation)))
        for seed in range(8)
    }
    assert len(held_out) > 1
    with pytest.raises(ValueError, match='275 validation images cannot be held out of 3 training'):
        data.cityscapes(root)


def test_depth_is_baseline_times_focal_length_over_disparity(tmp_path):
    """By similar triangles: two cameras see a point at depth Z apart by f B / Z pixels."""
    camera = tmp_path / 'aachen_000000_000019_camera.json'
    camera.write_text('{"extrinsic": {"baseline": 0.25}, "intrinsic": {"fx": 2000.0, "fy": 1.0}}')
    metres = np.array([[5.0, 12.5], [40.0, 100.0]])
    left, right = (2000 * (1.5 - side) / metres for side in (0, 0.25))  # A point 1.5 to the right.
    found = data.depth_from_disparity(left - right, camera)
    np.testing.assert_allclose(found, metres, rtol=1e-5)
    assert found.dtype == np.float32
    assert np.isinf(data.depth_from_disparity(np.zeros(2), camera)).all()
    for text in ('{}', '{"extrinsic": {"baseline": 0}, "intrinsic": {"fx": 1}}', 'no json'):
        camera.write_text(text)
        with pytest.raises(ValueError, match=r'camera.json has no positive extrinsic.baseline'):
            data.depth_from_disparity(np.ones(1), camera)


def test_only_the_files_of_the_tasks_are_needed(root):
    for path in (root / 'disparity').rglob('*.png'):
        path.unlink()
    scenes = data.cityscapes(root, ['segmentation'], validation=1)
    assert list(scenes.tasks) == list(scenes.train[0].targets) == ['segmentation']
    with pytest.raises(FileNotFoundError, match=r'aachen_000000_000019_disparity.png is missing: '):
        data.cityscapes(root, validation=1)
    with pytest.raises(ValueError, match="Cityscapes has no task 'depth': choose from segmenta"):
        data.cityscapes(root, ['depth'])


def test_a_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no images leftImg8bit/train/'):
        data.cityscapes(tmp_path)


@pytest.mark.parametrize(
    'kind', ['leftImg8bit', 'gtFine_labelIds', 'gtFine_instanceIds', 'disparity']
)
def test_damaged_files_are_named(root, kind):
    scenes = data.cityscapes(root, validation=1)
    path = path_of(root, kind.split('_')[0], 'val', 'lindau_000000_000019', kind)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (content[: len(content) // 2], b'', b'<html>', bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f'lindau_000000_000019_{kind}.png is damaged or no'):
            scenes.test[0]
    assert scenes.test[1]


def test_labels_of_another_size_are_named(root):
    path = path_of(root, 'disparity', 'val', 'lindau_000000_000019', 'disparity')
    Image.fromarray(np.zeros((8, 16), np.uint16)).save(path)
    with pytest.raises(ValueError, match=r'disparity.png does not fit its image: .* \[8, 16\]'):
        data.cityscapes(root, validation=1).test[0]
