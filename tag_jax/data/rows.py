"""Raw rows on their way into a trained network."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tag_jax.data.columns import Column, column_of, open_table
from tag_jax.data.encoding import Encoding, encode_inputs


def encode_rows(encoding: Encoding | None, rows: Any) -> Any:
    """The inputs of a network from raw rows.

    Args:
      encoding: of the dataset that the network was trained on; None where that had none.
      rows: arrays `[N, ...]` as `data.from_arrays` takes them, a DataFrame, `{column: values [N]}`,
        or the path of a file that `data.table` reads. An array `[N, D]` also stands for D columns
        of numbers, in their order.

    Returns:
      `[N, ...]`, or a pytree of such arrays.

    Raises:
      ValueError: if a column is not there or of another kind, or a path is given where there is
        no encoding.
      OSError: if a file cannot be read.
    """
    if encoding is None or encoding.inputs is None:
        if isinstance(rows, str | os.PathLike):
            raise ValueError(f'give arrays, not the file {rows}: the dataset was made of arrays')
        return rows
    columns = _columns(encoding, rows)
    if columns and not all(len(column.values) for column in columns.values()):
        raise ValueError('there are no examples to predict for')
    return encode_inputs(encoding.inputs, columns)


def _columns(encoding, rows) -> dict[str, Column]:
    """The columns that are inputs, and are there."""
    inputs, form = encoding.inputs, encoding.form
    asked = {input_.name: 'text' if input_.kind == 'text' else None for input_ in inputs}
    if isinstance(rows, str | os.PathLike):
        file = open_table(rows, form)
        kinds = {input_.name: _kind_of_cells(input_) for input_ in inputs}
        return {name: file.column(name, kinds[name]) for name in asked if name in file.names}
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
        name: _as_asked(column_of(name, np.asarray(rows[name]), form), kind)
        for name, kind in asked.items()
        if name in rows
    }


def _kind_of_cells(input_):
    return 'text' if input_.kind == 'text' else 'number'


def _of_array(inputs, array):
    """`{name: values}` of the columns of one array."""
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


def _as_asked(column, kind):
    """A column of numbers as text where it was text among the training rows."""
    if kind == 'text' and column.kind != 'text':
        whole = column.kind == 'number' and (column.values == np.rint(column.values)).all()
        values = column.values.astype(np.int64) if whole else column.values
        text = np.array([str(value) for value in values.tolist()], object)
        text[column.missing] = None
        return Column('text', text, column.missing)
    return column
