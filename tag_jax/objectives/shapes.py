"""Sizes, masks and columns that objectives check and bring into shape."""

import numbers

import jax.numpy as jnp
import numpy as np


def check_size(name, size, least):
    """Raises ValueError unless a size is an integer of at least so much."""
    if not isinstance(size, numbers.Integral) or size < least:
        raise ValueError(f'{name} must be an integer of at least {least}, not {size!r}')


def spread(mask, shape):
    """A mask of leading axes, over all of a shape."""
    return jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def as_columns(target, output):
    """Targets with the last axis of the outputs, which they may lack where it has length one."""
    if output.shape not in (target.shape, (*target.shape, 1)):
        raise ValueError(
            f'targets {list(target.shape)} do not fit the outputs of the head, {list(output.shape)}'
        )
    return jnp.reshape(target, output.shape)


def nan_unless(fits, losses):
    """Losses that are NaN, and so are their gradients, where a label is none that can be learned.

    (An index out of bounds would be another class without a word; a gradient of 0 would be unseen.)
    """
    return losses * jnp.where(fits, 1, jnp.nan).astype(losses.dtype)


def as_floats(given):
    """Numbers as an array; NaN for what is none."""
    try:
        return np.asarray(given, np.float32)
    except (TypeError, ValueError):
        return np.array(np.nan)
