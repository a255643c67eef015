"""The errors of models and inputs that do not fit each other, and what is said of them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.errors
import jax
import numpy as np


class ModeError(ValueError):
    """A module that is not told whether it trains."""


UNFIT = (TypeError, ValueError, IndexError, AssertionError, flax.errors.FlaxError)
# Branches on values while tracing, what a module sows, and missing keys: these are about no shape.
_OTHERS = (
    jax.errors.JAXTypeError,
    flax.errors.LazyInitError,
    flax.errors.InvalidRngError,
    ModeError,
)

# Rows of numbers are the only inputs to which `data.from_arrays` adds columns.
MORE_COLUMNS = (
    'a dataset whose inputs have missing values has one more column for each column that has some, '
    'and Dataset.example_inputs has the right width'
)


def first_line(error: BaseException) -> str:
    """The first line of an error, without the address that Flax adds, or its name.

    Args:
      error: the error.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(' (https://')[0]


@contextlib.contextmanager
def taking(what: str, arrays: Any, of: str = 'inputs') -> Iterator[None]:
    """Says, of an error inside of the block, what could not take arrays of which shapes.

    Args:
      what: a part of a network, for the error.
      arrays: pytree of arrays or shapes, examples first.
      of: what the arrays are, for the error.

    Raises:
      ValueError: in place of the error, unless that is about no shape.
    """
    try:
        yield
    except _OTHERS:
        raise
    except UNFIT as error:
        line = first_line(error).rstrip('.')
        rows = of == 'inputs' and any(len(np.shape(x)) == 2 for x in jax.tree.leaves(arrays))
        mend = f' ({MORE_COLUMNS})' if rows else ''
        raise ValueError(
            f'{what} cannot take {of} of shape {shapes_of(arrays)}: {line}{mend}'
        ) from error


def shapes_of(arrays: Any) -> str:
    """The shapes of some arrays as text, such as '[N, 21]', whatever their number of examples.

    Args:
      arrays: pytree of arrays or shapes, examples first.
    """
    shapes = [np.shape(x) for x in jax.tree.leaves(arrays)]
    texts = {f'[{", ".join(["N", *map(str, shape[1:])])}]' if shape else '[]' for shape in shapes}
    return ' and '.join(sorted(texts))
