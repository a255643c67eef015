"""Raw rows on their way into a trained network."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tag_jax import cells
from tag_jax.data.columns import Column, column_of
from tag_jax.data.encoding import Encoding, encode_inputs
from tag_jax.data.opening import open_table
from tag_jax.data.unlike import describe_scale, describe_unlike


def encode_rows(encoding: Encoding | None, rows: Any) -> Any:
    """The inputs of a network from raw rows.

    Cells that no training row had the like of are inputs too, with a warning: text that is new,
    numbers further than 100 standard deviations from the mean, and cells that are missing in a
    column that was complete. Arrays that are left as they are may be on another scale, such as 0 to
    255 in place of 0 to 1.

    Args:
      encoding: of the dataset that the network was trained on; None where that had none.
      rows: arrays `[N, ...]` as `data.from_arrays` takes them, a DataFrame, `{column: values [N]}`,
        or the path of a file that `data.table` reads. An array `[N, D]` also stands for D columns,
        in their order; of numbers only where the text in the training rows was numbers.

    Returns:
      `[N, ...]`, or a pytree of such arrays.

    Raises:
      ValueError: if a column is not there or of another kind, if an array of numbers is given for
        columns of text, a path where there is no encoding, or arrays that are not finite there.
      OSError: if a file cannot be read.
    """
    if encoding is None or encoding.inputs is None:
        if isinstance(rows, str | os.PathLike):
            raise ValueError(f'give arrays, not the file {rows}: the dataset was made of arrays')
        _check_finite(rows)
        if encoding is not None and (unlike := describe_scale(rows, encoding.ranges)):
            logging.warning('%s: bring them to one scale, as pictures divided by 255 are', unlike)
        return rows
    columns = _columns(encoding, rows)
    if columns and not all(len(column.values) for column in columns.values()):
        raise ValueError('there are no examples to predict for')
    encoded = encode_inputs(encoding.inputs, columns)
    if unlike := describe_unlike(encoding.inputs, columns):
        logging.warning('%s', unlike)
    return encoded


def _check_finite(rows):
    """Raises ValueError at arrays that are not finite: networks were trained on none.

    (A network may swallow NaN, by max pooling for one, and give an answer all the same.)
    """
    for array in jax.tree.leaves(rows):
        values = np.asarray(array)
        if values.ndim and np.issubdtype(values.dtype, np.inexact):
            bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if bad.any():
                raise ValueError(
                    f'row {np.flatnonzero(bad)[0] + 1} of the inputs is not finite: the networks '
                    'were trained on inputs without NaN and infinity, so fill them in as before'
                )


def _columns(encoding, rows) -> dict[str, Column]:
    """The columns that are inputs, and are there."""
    inputs, form = encoding.inputs, encoding.form
    asked = {input_.name: 'text' if input_.kind == 'text' else None for input_ in inputs}
    if isinstance(rows, str | os.PathLike):
        file = open_table(rows, form)
        if missing := [name for name in asked if name not in file.names]:
            raise ValueError(
                f'{rows} has no column {missing[0]!r}, which is an input: it has '
                f'{", ".join(file.names)}'
            )
        kinds = {input_.name: _kind_of_cells(input_) for input_ in inputs}
        return {name: file.column(name, kinds[name]) for name in asked}
    if hasattr(rows, 'columns') and hasattr(rows, 'iloc'):  # A DataFrame.
        names = [str(name) for name in rows.columns]
        if twice := [name for name in asked if names.count(name) > 1]:
            raise ValueError(f'there are two columns called {twice[0]!r}')
        rows = {
            name: rows.iloc[:, place].to_numpy()
            for place, name in enumerate(names)
            if name in asked
        }
    elif not isinstance(rows, Mapping):
        rows = _of_array(inputs, np.asarray(rows))
    return {
        name: _as_asked(name, column_of(name, np.asarray(rows[name]), form), kind)
        for name, kind in asked.items()
        if name in rows
    }


def _kind_of_cells(input_):
    return 'text' if input_.kind == 'text' else 'number'


def _of_array(inputs, array):
    """`{name: values}` of the columns of one array."""
    if array.dtype.kind in 'iuf' and (text := [one.name for one in inputs if _is_words(one)]):
        raise ValueError(
            f'inputs are an array {list(array.shape)} of numbers, and the networks were trained on '
            f'text in {", ".join(map(repr, text))}: give a DataFrame, {{column: values}}, the path '
            'of a file or an array of objects'
        )
    if len(inputs) == 1 and inputs[0].shape == array.shape[1:]:
        return {inputs[0].name: array}
    single = all(input_.shape == () for input_ in inputs)
    if single and array.ndim == 2 and array.shape[1] == len(inputs):
        return {input_.name: array[:, n] for n, input_ in enumerate(inputs)}
    if len(inputs) == 1:
        shape = ', '.join(map(str, ('N', *inputs[0].shape)))
        raise ValueError(
            f'inputs must be [{shape}], as those of the dataset, not {list(array.shape)}'
        )
    names = ', '.join(input_.name for input_ in inputs[:8])
    raise ValueError(
        f'inputs are the columns {names}{", ..." * (len(inputs) > 8)}, {len(inputs)} in all, and '
        f'not an array {list(array.shape)}: give as many columns, a DataFrame or {{column: values}}'
    )


def _is_words(input_):
    """Whether a column is text of which nothing is a number."""
    return input_.kind == 'text' and not any(map(_is_number, input_.categories))


def _is_number(text):
    try:
        cells.number(text)
    except ValueError:
        return False
    return True


def _as_asked(name, column, kind):
    """A column of numbers as text where it was text among the training rows."""
    if kind == 'text' and column.kind == 'date':
        raise ValueError(
            f'the column {name!r} holds dates, and the network was trained on text: give text, '
            'written as in the training rows'
        )
    if kind == 'text' and column.kind != 'text':
        whole = column.kind == 'number' and (column.values == np.rint(column.values)).all()
        values = column.values.astype(np.int64) if whole else column.values
        text = np.array([str(value) for value in values.tolist()], object)
        text[column.missing] = None
        return Column('text', text, column.missing)
    return column
