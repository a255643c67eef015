"""Weights from files: our own, and those of torchvision's residual networks."""

import os
import re
from collections.abc import Callable, Mapping
from typing import IO

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

# What torchvision takes from images in [0, 1], and divides them by, for each colour.
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def save_weights(
    file: str | os.PathLike | IO[bytes], params: Mapping, model_state: Mapping
) -> None:
    """Writes an `.npz` file that `load_weights` reads.

    Args:
      file: a path that ends in `.npz`, or a file.
      params: an encoder's parameters, nested dicts of arrays.
      model_state: its other variables (BatchNorm statistics), nested dicts too.
    """
    arrays = _by_name(params) | _by_name(model_state)
    np.savez(file, **{name: np.asarray(array) for name, (_, array) in arrays.items()})


def load_weights(
    file: str | os.PathLike | IO[bytes],
    params: Mapping,
    model_state: Mapping,
    convert: Callable | None = None,
) -> tuple[dict, dict]:
    """Parameters and BatchNorm statistics from an `.npz` file.

    The arrays of the file are named by their path, `stem.convolution.kernel` say, parameters and
    other variables alike. With `convert=models.from_torchvision` the file may hold torchvision's
    names. Nothing is changed in place.

    Args:
      file: a path or a file.
      params: the parameters to replace, nested dicts of arrays; `jax.ShapeDtypeStruct` will do.
      model_state: the other variables to replace, nested dicts too.
      convert: `{name: array} -> {name: array}`, applied to what the file holds.

    Returns:
      `(params, model_state)`, the same nested dicts with NumPy arrays of the same types.

    Raises:
      ValueError: if a parameter is missing from the file, or is unknown, or of another shape.

    Examples:
      >>> import tempfile
      >>> from tag_jax import models
      >>> params, model_state = {'dense': {'kernel': np.zeros((2, 1))}}, {}
      >>> with tempfile.NamedTemporaryFile(suffix='.npz') as file:
      ...     models.save_weights(file.name, {'dense': {'kernel': np.ones((2, 1))}}, {})
      ...     loaded, _ = models.load_weights(file.name, params, model_state)
      >>> loaded['dense']['kernel'].tolist()
      [[1.0], [1.0]]
    """
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays = arrays if convert is None else convert(arrays)
    wanted = _by_name(params) | _by_name(model_state)
    for name in arrays:
        if name not in wanted:
            raise ValueError(f'{file} has {name!r}, which the encoder does not have')

    def replaced(tree):
        return unflatten_dict(
            {
                path: _fitting(file, arrays, name, old)
                for name, (path, old) in _by_name(tree).items()
            }
        )

    return replaced(params), replaced(model_state)


def from_torchvision(
    arrays: Mapping[str, np.ndarray], normalised: bool = False
) -> dict[str, np.ndarray]:
    """Weights of torchvision's ResNet-18 or ResNet-50 under the names of `resnet18`, `resnet50`.

    The file is written where torch is installed, `model` being torchvision's:
    `numpy.savez('resnet50.npz', **{k: v.numpy() for k, v in model.state_dict().items()})`.

    `layer1.0.conv2.weight` becomes `stages.0.0.layers.1.convolution.kernel`, its axes reordered
    from output, input, height, width to height, width, input, output; `bn2` becomes `norm` with
    `scale`, `bias`, `mean` and `var`; `downsample` is the `shortcut`, `conv1` and `bn1` the `stem`.
    The classifier `fc` and the step counts `num_batches_tracked` are left out.

    torchvision's networks want images less the mean of ImageNet, divided by its deviation; the
    datasets here have images in [0, 1]. So the first kernel is divided by the deviation, and the
    mean of its BatchNorm moved: on images in [0, 1] the network is that of torchvision, but that
    it sees black beyond the border in place of the mean.

    Args:
      arrays: `{name: array}` of the state dict; kernels `[outputs, inputs, H, W]`.
      normalised: whether images are normalised before the network, so that nothing is to be done.

    Returns:
      `{name: array}` for `load_weights`; kernels `[H, W, inputs, outputs]`.

    Raises:
      ValueError: if a name is not one of a residual network.
    """
    found = {
        _our_name(name): array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        for name, array in arrays.items()
        if not (name.startswith('fc.') or name.endswith('.num_batches_tracked'))
    }
    return found if normalised else _normalising(found)


def _normalising(arrays):
    """The arrays of a network that does to images in [0, 1] what it did to normalised ones."""
    kernel, mean = 'stem.convolution.kernel', 'stem.norm.mean'
    if kernel not in arrays or mean not in arrays:
        return arrays
    scaled = arrays[kernel] / np.array(IMAGENET_DEVIATION)[:, None]
    moved = arrays[mean] + np.einsum('hwio,i->o', scaled, IMAGENET_MEAN)
    return arrays | {kernel: scaled, mean: moved}


_TORCHVISION = re.compile(r'(?:layer(\d+)\.(\d+)\.)?(conv|bn)(\d+)\.(\w+)')
_VARIABLES = {
    ('conv', 'weight'): 'convolution.kernel',
    ('bn', 'weight'): 'norm.scale',
    ('bn', 'bias'): 'norm.bias',
    ('bn', 'running_mean'): 'norm.mean',
    ('bn', 'running_var'): 'norm.var',
}


def _our_name(name):
    numbered = name.replace('downsample.0', 'conv0').replace('downsample.1', 'bn0')
    match = _TORCHVISION.fullmatch(numbered)
    stage, block, kind, layer, variable = match.groups() if match else (None,) * 5
    if (kind, variable) not in _VARIABLES or (stage is None and layer != '1'):
        raise ValueError(f'{name!r} is not a weight of a residual network of torchvision')
    place = 'stem'
    if stage is not None:
        part = f'layers.{int(layer) - 1}' if int(layer) else 'shortcut'
        place = f'stages.{int(stage) - 1}.{block}.{part}'
    return f'{place}.{_VARIABLES[kind, variable]}'


def _by_name(tree):
    """`{name: (path, leaf)}`: the name is the path joined with dots."""
    return {'.'.join(map(str, path)): (path, leaf) for path, leaf in flatten_dict(tree).items()}


def _fitting(file, arrays, name, old):
    if name not in arrays:
        raise ValueError(f'{file} has no {name!r}')
    if arrays[name].shape != old.shape:
        raise ValueError(
            f'{name!r} is {arrays[name].shape} in {file}, but the encoder wants {old.shape}'
        )
    return arrays[name].astype(old.dtype)
