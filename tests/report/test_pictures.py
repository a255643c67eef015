"""Predictions beside their targets, where labels are images."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from tag_jax import report
from tag_jax.data import Source, Split
from tag_jax.grouping.pictures import LONGEST, pictures
from tag_jax.runs import storage, workdir

SHAPE = (5, 200, 330)  # Thinned to every third pixel.
SIZES = {'classes': 19, 'depth': 1, 'offset': 2, 'normal': 3, 'features': 5}
PROBLEM = types.SimpleNamespace(task_names=(*SIZES, 'label'))  # Nothing but names is asked for.


def split():
    rng = np.random.default_rng(0)
    targets = {
        task: rng.normal(size=(*SHAPE, size)).astype(np.float32) for task, size in SIZES.items()
    }
    targets['classes'] = rng.integers(19, size=SHAPE)
    targets['depth'] = targets['depth'][..., 0]
    targets['label'] = np.zeros(len(targets['depth']), int)
    known = rng.random(SHAPE) < 0.8
    targets['depth'][~known] = np.nan
    mask = {'depth': known, 'normal': np.arange(len(known)) > 0}
    return Split(rng.random((*SHAPE, 3)).astype(np.float32), targets, mask)


def answers(inputs):
    """Every task as it is, for examples that are known by a pixel."""
    whole = split()
    rows = [int(np.flatnonzero(whole.inputs[:, 0, 0, 0] == one[0, 0, 0])[0]) for one in inputs]
    outputs = {task: target[rows] for task, target in whole.targets.items()}
    outputs['classes'] = np.eye(19)[outputs['classes']]
    outputs['depth'] = outputs['depth'][..., None]
    return outputs


def read_one_by_one(whole):
    def decode(row):
        take = lambda entries: {name: array[row] for name, array in entries.items()}
        return Split(whole.inputs[row], take(whole.targets), take(whole.mask))

    return Source(decode, len(whole.inputs))


@pytest.mark.parametrize('form', [lambda whole: whole, read_one_by_one])
def test_what_is_kept(form, tmp_path):
    whole = split()
    storage.write_arrays(tmp_path / workdir.PICTURES, pictures(PROBLEM, form(whole), answers))
    found = storage.read_arrays(tmp_path / workdir.PICTURES)
    assert report.pictured_tasks(found) == list(SIZES)
    np.testing.assert_array_equal(found['inputs'], whole.inputs[[0, 2, 4], ::3, ::3])
    assert max(found['inputs'].shape[1:3]) <= LONGEST
    np.testing.assert_array_equal(found['known/depth'], whole.mask['depth'][[0, 2, 4], ::3, ::3])
    assert found['known/normal'].any(axis=(1, 2)).tolist() == [False, True, True]
    for task in SIZES:
        known = found[f'known/{task}']
        target, prediction = (found[f'{name}/{task}'] for name in ('targets', 'predictions'))
        np.testing.assert_array_equal(target[known], prediction[known])


def of(task, target, output, inputs=None, **masks):
    """What is kept of one task that has this target and output."""
    inputs = np.zeros((len(target), 8, 8, 3), np.float32) if inputs is None else inputs
    problem = types.SimpleNamespace(task_names=(task,))
    few = Split(inputs, {task: target, 'none of them': [1, 2, 3]}, masks)
    return pictures(problem, few, lambda _: {task: output})


def test_no_picture_of_what_is_none():
    """Whatever a loss of the user's own makes of labels with many axes."""
    images, values = np.zeros((3, 8, 8)), np.ones((3, 8, 8, 2))
    assert of('label', [0, 1, 0], np.zeros((3, 2))) == {}
    assert of('means and variances', images, values) == {}
    assert of('no image', np.zeros((3, 8, 5)), np.zeros((3, 8, 5))) == {}
    assert of('vectors', images, np.zeros((3, 7))) == {}
    assert of('several labels', values.astype(int), np.ones((3, 8, 8, 2, 4))) == {}


def test_forms_of_labels():
    images, logits = np.arange(192).reshape(3, 8, 8) % 2, np.eye(2)[np.zeros((3, 8, 8), int)]
    found = of('inside', images == 1, logits)
    assert found['targets/inside'].dtype.kind == found['predictions/inside'].dtype.kind == 'i'
    found = of('inside', images.tolist(), logits.tolist())
    assert not found['predictions/inside'].any()
    depth = of('depth', images, jnp.ones((3, 8, 8, 1), jnp.bfloat16))
    assert depth['predictions/depth'].dtype == np.float32
    np.testing.assert_array_equal(depth['targets/depth'], images[..., None])
    assert of('depth', images, logits, depth=None)['known/depth'].all()
    two = (np.zeros((3, 4)), np.zeros((3, 8, 8, 3)))
    assert 'inputs' not in of('inside', images, logits, inputs=two)


def test_methods_side_by_side():
    """Every method in the colours of its own picture, and grey explained where there is some."""
    right = pictures(PROBLEM, split(), answers)
    wrong = {
        name: np.roll(array, 1, axis=1) if name.startswith('predictions/') else array
        for name, array in right.items()
    }
    figure = report.methods_figure({'right': right, 'wrong': wrong}, row=1)
    panels = np.reshape(figure.axes, (len(SIZES), 4))
    assert [axes.get_title() for axes in panels[0]] == ['input', 'target', 'right', 'wrong']
    assert [axes.get_ylabel() for axes in panels[:, 0]] == list(SIZES)
    shown = lambda axes: np.asarray(axes.get_images()[0].get_array())
    for task, row in zip(SIZES, panels, strict=True):
        _, target, same, other = map(shown, row)
        np.testing.assert_array_equal(target, same)
        assert not np.array_equal(target, other)
        alone = report.predictions_figure(right, [task])
        np.testing.assert_array_equal(target, shown(alone.axes[3 + 1]))
        said = alone.get_supxlabel()
        assert said == ('grey: no label' if task in ('depth', 'normal') else '')
    assert figure.get_supxlabel() == 'grey: no label'
    colours = report.pictures._CLASSES
    assert np.ptp(colours, axis=1).min() > 0.1, 'a class has a colour, and not grey'


@pytest.mark.variants(2)
@pytest.mark.parametrize('task', SIZES)
def test_what_is_shown(task):
    """Right predictions look like targets, wrong ones do not, and grey is what has no label."""
    found = pictures(PROBLEM, split(), answers)
    panels = report.predictions_figure(found, [task]).axes
    assert [axes.get_title() for axes in panels[:3]] == ['input', task, 'predicted']
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in panels]
    for row in range(3):
        target, prediction = shown[3 * row + 1], shown[3 * row + 2]
        np.testing.assert_array_equal(target, prediction)
        grey = (target == 0.5).all(axis=-1)
        np.testing.assert_array_equal(grey, ~found[f'known/{task}'][row])
        assert ((target >= 0) & (target <= 1)).all()
    wrong = {f'predictions/{task}': np.roll(found[f'predictions/{task}'], 1, axis=1)}
    panels = report.predictions_figure(found | wrong, [task]).axes
    shown = [np.asarray(axes.get_images()[0].get_array()) for axes in panels]
    assert not np.array_equal(shown[-2], shown[-1])


def test_images_stand_below_their_titles():
    images = np.random.default_rng(0).uniform(size=(3, 4, 5, 1))
    panels = report.images_figure(images, ['one', 'two', 'three']).axes
    assert [axes.get_title() for axes in panels] == ['one', 'two', 'three']
    low, high = images.min(), images.max()
    for axes, image in zip(panels, images, strict=True):
        shown = axes.images[0].get_array()
        np.testing.assert_allclose(shown, np.repeat((image - low) / (high - low), 3, axis=-1))
    with pytest.raises(ValueError, match=r'2 titles need as many images .* not \[3, 4, 5, 1\]'):
        report.images_figure(images, ['one', 'two'])
