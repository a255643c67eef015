"""Reading images from files, and resizing them."""

import io
import os
import pathlib

import numpy as np


def read_image(path: str | os.PathLike, mode: str | None = None) -> np.ndarray:
    """An image file as an array `[H, W]` or `[H, W, C]`.

    Args:
      path: the file.
      mode: what PIL converts it to ('RGB', say); None to leave it as it is stored.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged or no image.
    """
    from PIL import Image

    content = pathlib.Path(path).read_bytes()
    try:
        Image.open(io.BytesIO(content)).verify()  # The checksums of PNG files.
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image if mode is None else image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path} is damaged or no image: unpack it again') from error


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image of bytes `[H, W, C]` as float32 `[height, width, C]` in [0, 1], by PIL's filter."""
    from PIL import Image

    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32) / 255


def nearest(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Labels `[H, W, ...]` resized to `[height, width, ...]`, each that of the nearest pixel."""
    pick = lambda size, new: (2 * np.arange(new) + 1) * size // (2 * new)
    return labels[pick(labels.shape[0], height)][:, pick(labels.shape[1], width)]
