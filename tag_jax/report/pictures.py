"""Predictions beside their targets, where labels are images (Standley et al. 2020, Figure 4)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps, colors
from matplotlib.figure import Figure

from tag_jax.report.figures import plain_text

PREDICTIONS = 'predictions.png'

MOST_PICTURED = 8  # Tasks in one picture.

_UNKNOWN = 0.5  # The grey of pixels without a label.
_COLOURS = np.concatenate([colormaps['tab20'].colors, colormaps['tab20b'].colors])
_CLASSES = _COLOURS[np.ptp(_COLOURS, axis=1) > 0.1]  # None of them grey.


def pictured_tasks(pictures: Mapping[str, np.ndarray]) -> list[str]:
    """The tasks of which there are pictures.

    Args:
      pictures: the arrays of pictures.npz, see `grouping.pictures.pictures`.
    """
    return [name.split('/', 1)[1] for name in pictures if name.startswith('targets/')]


def images_figure(images: np.ndarray, titles: Sequence[str]) -> Figure:
    """Images side by side, each below its title, such as examples with their labels.

    Args:
      images: `[N, H, W]`, or `[N, H, W, 1 or 3]`; the lowest value of all is black.
      titles: N of them.

    Raises:
      ValueError: if shapes or numbers do not fit.
    """
    images = np.asarray(images, float)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or len(images) != len(titles):
        raise ValueError(
            f'{len(titles)} titles need as many images [H, W], [H, W, 1] or [H, W, 3], not '
            f'{list(images.shape)}'
        )
    shown = np.broadcast_to(_in_unit(images), (*images.shape[:3], 3))
    return _grid([(title, shown[n : n + 1]) for n, title in enumerate(titles)])


def predictions_figure(
    pictures: Mapping[str, np.ndarray], task_names: Sequence[str] | None = None
) -> Figure:
    """A row for each example: its input, then the target and the prediction of each task.

    Classes have colours of their own, up to 38 of them; single values run from dark to bright over
    the range of the target, directions of two values are hues, three values are red, green and
    blue. Pixels without a label are grey.

    Args:
      pictures: the arrays of pictures.npz: 'inputs' `[N, H, W, 1 or 3]`, if there are any, and for
        each task 'targets/task', 'predictions/task' and 'known/task' `[N, H, W, ...]`.
      task_names: which tasks; None for the first MOST_PICTURED of them.
    """
    tasks = pictured_tasks(pictures)[:MOST_PICTURED] if task_names is None else task_names
    columns = []
    if 'inputs' in pictures:
        inputs = _in_unit(pictures['inputs'])
        columns.append(('input', np.broadcast_to(inputs, (*inputs.shape[:3], 3))))
    for task in tasks:
        target, known = pictures[f'targets/{task}'], pictures[f'known/{task}']
        for title, values in ((task, target), ('predicted', pictures[f'predictions/{task}'])):
            columns.append((title, _coloured(values, target, known)))
    figure = _grid(columns)
    _explain_grey(figure, pictures, tasks)
    return figure


def methods_figure(
    pictures_of: Mapping[str, Mapping[str, np.ndarray]],
    row: int = 0,
    task_names: Sequence[str] | None = None,
) -> Figure:
    """A row for each task: the input, its target, then the prediction of each method.

    Figure 4 of Standley et al. 2020. Colours are those of `predictions_figure`.

    Args:
      pictures_of: `{name of a method: arrays of pictures.npz}`, `[N, H, W, ...]` as
        `predictions_figure` takes them, all of the same examples.
      row: which example.
      task_names: which tasks; None for the first MOST_PICTURED of them.
    """
    first = next(iter(pictures_of.values()))
    tasks = pictured_tasks(first)[:MOST_PICTURED] if task_names is None else task_names
    # Colours run over all examples, as in `predictions_figure`.
    coloured = lambda pictures, name: [
        _coloured(pictures[f'{name}/{task}'], first[f'targets/{task}'], first[f'known/{task}'])[row]
        for task in tasks
    ]
    columns = []
    if 'inputs' in first:
        inputs = _in_unit(first['inputs'])[row]
        columns.append(('input', [np.broadcast_to(inputs, (*inputs.shape[:2], 3))] * len(tasks)))
    columns.append(('target', coloured(first, 'targets')))
    columns += [(name, coloured(own, 'predictions')) for name, own in pictures_of.items()]
    figure = _grid(columns, rows=tasks)
    _explain_grey(figure, {name: x[row] for name, x in first.items()}, tasks)
    return figure


def _grid(columns, rows=None):
    """A figure of columns of images, each with its title; rows may have names."""
    count, (height, width) = len(columns[0][1]), columns[0][1][0].shape[:2]
    wide = 1.7
    size = (wide * len(columns), 0.3 + count * wide * height / width)
    figure = Figure(figsize=size, layout='constrained')
    panels = figure.subplots(count, len(columns), squeeze=False)
    for column, (title, images) in zip(panels.T, columns, strict=True):
        column[0].set_title(plain_text(title), fontsize=9)
        for axes, picture in zip(column, images, strict=True):
            axes.imshow(picture, interpolation='nearest')
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for axes, name in zip(panels[:, 0], rows or (), strict=False):
        axes.set_ylabel(plain_text(name), fontsize=9)
    return figure


def _explain_grey(figure, pictures, tasks):
    """Says what grey is, where a pixel of a task has no label."""
    if not all(pictures[f'known/{task}'].all() for task in tasks):
        figure.supxlabel('grey: no label', fontsize=8)


def _coloured(values, target, known):
    """Labels `[N, H, W, ...]` as colours `[N, H, W, 3]`; unknown ones are grey."""
    values = np.nan_to_num(values)  # What stands where there is no label may be anything.
    if np.issubdtype(target.dtype, np.integer):
        shown = _CLASSES[values % len(_CLASSES)]
    else:
        size, labels = values.shape[-1], target[known]
        if size == 3:
            shown = _in_unit(values, labels)
        elif size == 2:
            shown = _directions(values, labels)
        else:
            single = lambda x: x[..., 0] if size == 1 else np.linalg.norm(x, axis=-1)
            shown = colormaps['viridis'](_in_unit(single(values), single(labels)))[..., :3]
    return np.where(known[..., None], shown, _UNKNOWN)


def _in_unit(values, like=None):
    """Values from 0 to 1 where those that they are to be compared with run from end to end."""
    like = values if like is None else like
    low, high = (like.min(), like.max()) if like.size else (0, 0)
    return np.clip((values - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)


def _directions(values, labels):
    """Vectors `[N, H, W, 2]` as hues, the brighter the longer, up to the longest label."""
    hue = np.arctan2(values[..., 1], values[..., 0]) / (2 * np.pi) % 1
    length = np.linalg.norm(values, axis=-1)
    bright = _in_unit(length, np.append(np.linalg.norm(labels, axis=-1), 0))
    return colors.hsv_to_rgb(np.stack([hue, np.ones_like(hue), bright], axis=-1))
