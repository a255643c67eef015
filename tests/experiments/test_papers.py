"""The launchers of the papers' experiments on small datasets in the official formats."""

import types

import numpy as np
import pytest
from architectures import abstract, as_dicts, filled
from flax.traverse_util import flatten_dict
from launching import answers, check_sentences, launch
from official import celeb_a, cityscapes, mnist, taskonomy

from tag_jax import grouping, models, report
from tag_jax.grouping import saved_networks
from tag_jax.launchers.recipes import BUILDING_LISTS, DATASETS
from tag_jax.runs import storage, workdir

QUICK = ('--steps=2', '--eval_every=1', '--batch_size=2', '--width=0.05')


def finished(launcher, folder, *flags):
    flags = (f'--data_dir={folder}', *QUICK, *flags, '--workdir=run')
    done = launch(launcher, *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, storage.read_json(folder / 'run' / 'results.json')


@pytest.mark.sweep  # Its short form: the launchers of other papers.
def test_multi_mnist(tmp_path):
    """Weightings side by side, then groups."""
    mnist.write(tmp_path)
    held_out = '--num_validation=15'
    flags = ('--compare', '--seeds=1', '--grid=1', '--methods=equal,mgda_ub')
    done, results = finished('multi_mnist', tmp_path, *flags, '--learning_rates=0.1', held_out)
    assert results['task_names'] == ['left', 'right']
    assert results['settings']['learning_rates'] == [0.1]
    assert {one['name'] for one in results['outcomes']} == {
        'single task', 'static weight 0.50', 'equal', 'mgda_ub',
    }  # fmt: skip
    assert 'mgda_ub' in done.stdout
    flags = (f'--data_dir={tmp_path}', held_out, '--budget=1', '--affinity_every=1')
    flags += ('--dtype=bfloat16',)
    done = launch('multi_mnist', *QUICK, *flags, '--workdir=groups', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Total test ' in done.stdout


@pytest.mark.sweep
def test_celeb_a(tmp_path):
    """From the affinities of one network to groups."""
    manual = tmp_path / 'manual'
    manual.mkdir()
    celeb_a.prepare(manual, tmp_path)
    done, results = finished('celeb_a', tmp_path, '--image_size=16', '--affinity_every=1')
    assert results['dataset'] == 'celeb_a'
    assert len(results['task_names']) == 9
    assert 'Total test ' in done.stdout
    config = storage.read_json(tmp_path / 'run' / 'config.json')
    # Five training images in batches of two, halved every 15 epochs.
    assert config['optimizer'] == 'halving_sgd(steps=30)'
    assert config['weighting'] == 'equal'
    again = launch(
        *('celeb_a', f'--data_dir={tmp_path}', *QUICK, '--image_size=16', '--workdir=run'),
        *('--affinity_every=1', '--resume'),
        cwd=tmp_path,
    )
    assert again.stdout == done.stdout
    assert grouping.load(tmp_path / 'run').total_test_error == results['total_test_error']


@pytest.mark.sweep
def test_celeb_a_with_all_attributes(tmp_path):
    """The setting of Sener & Koltun 2018: ResNet-18 with 40 heads."""
    manual = tmp_path / 'manual'
    manual.mkdir()
    celeb_a.prepare(manual, tmp_path)
    flags = ('--attributes=40', '--method=all_in_one', '--image_size=32', '--steps=1')
    _, results = finished('celeb_a', tmp_path, *flags)
    assert len(results['groups'][0]['tasks']) == len(results['metrics']) == 40
    config = storage.read_json(tmp_path / 'run' / 'config.json')
    assert config['optimizer'].startswith('halving_sgd')


@pytest.mark.sweep
def test_taskonomy(tmp_path):
    taskonomy.write(tmp_path)
    flags = ('--image_size=16', '--affinity_kind=first_order', '--learning_rate=0.001')
    # (One group of all tasks is the network that is measured: there is one to train.)
    flags += ('--affinity_every=1', '--budget=1')
    _, results = finished('taskonomy', tmp_path, *flags)
    assert len(results['task_names']) == 5
    found = results['metrics']['segment_semantic']
    assert set(found) == {'error', 'loss', 'miou', 'pixel_accuracy'}
    pictures = storage.read_arrays(tmp_path / 'run' / workdir.PICTURES)
    assert report.pictured_tasks(pictures) == results['task_names']
    assert (tmp_path / 'run' / report.PREDICTIONS).exists()
    page = (tmp_path / 'run' / report.REPORT).read_text()
    assert 'alt="Inputs, targets and predictions of normal"' in page


@pytest.mark.sweep
def test_cityscapes(tmp_path):
    cityscapes.write(tmp_path)
    flags = ('--image_size=16,32', '--method=all_in_one')
    # (The paper's ResNet-50 takes a minute and more to compile.)
    flags += ('--num_validation=1', '--network=resnet18_maps')
    weights = filled(as_dicts(abstract(models.resnet18, output_stride=16, width=0.05)))
    models.save_weights(tmp_path / 'encoder.npz', *weights)
    flags += ('--pretrained=encoder.npz', '--learning_rate=1e-9')
    _, results = finished('cityscapes', tmp_path, *flags)
    assert results['task_names'] == ['segmentation', 'instance_offset', 'disparity']
    params, _ = saved_networks.arrays(tmp_path / 'run' / 'checkpoints' / 'mtl')
    loaded = flatten_dict(weights[0])
    found = {tuple(map(str, path)): x for path, x in flatten_dict(params['shared']).items()}
    for path, array in loaded.items():
        np.testing.assert_allclose(found[tuple(map(str, path))], array, atol=1e-5)


WRITE = {
    'mnist': mnist.write,
    'taskonomy': taskonomy.write,
    'cityscapes': cityscapes.write,
}


@pytest.mark.parametrize(
    ('launcher', 'tasks', 'flags'),
    [
        ('multi_mnist', 2, ['--data_dir=mnist', '--num_validation=15']),
        pytest.param(
            *('taskonomy', 5, ['--data_dir=taskonomy', '--image_size=16']), marks=pytest.mark.sweep
        ),
        pytest.param(
            *('celeb_a', 40, ['--data_dir=.', '--attributes=40', '--image_size=32']),
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            *('taskonomy', 5),
            ['--data_dir=taskonomy', '--image_size=16', '--network=xception_plain'],
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            *('cityscapes', 3),
            ['--data_dir=cityscapes', '--image_size=16,32', '--num_validation=1'],
            marks=pytest.mark.sweep,
        ),
    ],
)
def test_every_launcher_goes_through_its_model(tmp_path, launcher, tasks, flags):
    """By shapes, with real files and no training: what is wrong in the end is the budget."""
    folder = tmp_path / flags[0].partition('=')[2]
    folder.mkdir(exist_ok=True)
    if launcher == 'celeb_a':
        (tmp_path / 'manual').mkdir()
        celeb_a.prepare(tmp_path / 'manual', tmp_path)
    else:
        WRITE[folder.name](folder)
    (answer,) = answers(launcher, [[*flags, '--width=0.05', '--budget=99']], tmp_path)
    sentence = f'budget must be an integer between 1 and the number of tasks, {tasks}, not 99'
    assert sentence in answer.stderr


def test_lists_of_buildings_by_the_names_of_the_authors(tmp_path):
    """Those of their code are read; the images of a building are limited, or not."""
    taskonomy.write(tmp_path)
    for name, other in zip(*BUILDING_LISTS, strict=True):
        (tmp_path / name).rename(tmp_path / other)
    flags = types.SimpleNamespace(
        dataset='taskonomy', data_dir=str(tmp_path), image_size=None, images_per_building=2
    )
    load = DATASETS['taskonomy'].load
    assert [len(split) for split in load(flags)[2:5]] == [6, 2, 2]
    flags.images_per_building = 0
    assert [len(split) for split in load(flags)[2:5]] == [6, 3, 3]


def test_bad_input_ends_with_one_sentence(tmp_path):
    check_sentences(
        'taskonomy',
        [
            (['--data_dir=.'], 'has no lists of buildings: put there train_buildings.txt, valid'),
            (['--data_dir=.'], 'tag/taskonomy'),
            ([], '--dataset=taskonomy needs --data_dir, the folder of its files'),
            (['--data_dir=.', '--image_size=1,2'], '--image_size of taskonomy needs 1 positive'),
            (['--seeds=3', '--data_dir=.'], '--seeds is of no use here without --compare'),
            (['--compare', '--budget=2'], '--budget is of no use here with --compare'),
        ],
        tmp_path,
    )
    check_sentences(
        'tag',
        [
            (['--dataset=celeb_a', '--data_dir=.'], 'run once, with TensorFlow installed'),
            (['--network=vgg'], "there is no network called 'vgg'"),
            (['--pretrained=none.npz'], 'none.npz'),
            (['--width=0'], '--width must be positive and at most 4096'),
            (['--dtype=int8'], "there is no dtype called 'int8'"),
            (
                ['--network=lenet', '--widths=8'],
                '--widths is for --network=mlp, not lenet: give --width',
            ),
        ],
        tmp_path,
    )
