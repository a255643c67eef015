"""Files that appear whole or not at all: JSON, records of it, and named arrays."""

import contextlib
import json
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import numpy as np

# What reading a damaged .npz file ends in.
DAMAGED = (
    *(KeyError, TypeError, ValueError, EOFError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file, whole or not at all.

    Args:
      path: the file.
      data: what it is to hold.

    Raises:
      OSError: if it cannot, with a sentence.
    """
    with _named(path), replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """A binary file to write to, which takes the place of another once it is whole on the disk.

    Args:
      path: the file that it becomes.

    Raises:
      OSError: if it cannot be written; the other one stays as it is.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f'.{path.name}.part')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes JSON, whole or not at all.

    Args:
      path: the file.
      value: JSON types, numbers of NumPy or JAX among them.

    Raises:
      ValueError: at NaN, which JSON does not know.
    """
    write_bytes(path, as_json(value))


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
    """
    return json.loads(pathlib.Path(path).read_text())


def finite(values: Any) -> Any:
    """JSON types with null in place of numbers that are not finite, which JSON does not know.

    Args:
      values: dicts of numbers, nested.
    """
    if isinstance(values, Mapping):
        return {name: finite(value) for name, value in values.items()}
    return values if math.isfinite(values) else None


def append_record(path: str | os.PathLike, record: dict[str, Any]) -> None:
    """Adds a line to a file of JSON records.

    Args:
      path: the file.
      record: JSON types, numbers of NumPy or JAX among them.

    Raises:
      OSError: if it cannot be written.
    """
    line = json.dumps(record, default=_number) + '\n'
    with _named(path), open(path, 'a') as file:
        file.write(line)


def read_records(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a file with one JSON value a line; none if there is no such file.

    A last line without its end, which a crash leaves, is no record.

    Args:
      path: the file.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split('\n')[:-1]]


def write_records(path: str | os.PathLike, records: Iterable[dict[str, Any]]) -> None:
    """Writes a file of JSON records, whole or not at all.

    Args:
      path: the file.
      records: JSON types each.
    """
    write_bytes(path, ''.join(json.dumps(record) + '\n' for record in records).encode())


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays as .npz, whole or not at all.

    Args:
      path: the file.
      arrays: `{name: array}`.

    Raises:
      OSError: if it cannot be written.
    """
    with _named(path), replacing(path) as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads named arrays from an .npz file.

    Args:
      path: the file.

    Returns:
      `{name: array}`, each of the shape `[...]` in which it was written.

    Raises:
      ValueError: if it is damaged.
    """
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file}
    except DAMAGED as error:
        raise ValueError(f'{path} is damaged: {error}') from error


@contextlib.contextmanager
def _named(path):
    """Says of an OSError which file could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f'cannot write {path} ({why(error)}): make room there, or choose another folder'
        ) from error


def why(error: OSError) -> str:
    """The reason that the system gives for an error, such as "No space left on device".

    Args:
      error: of reading or writing a file.
    """
    return getattr(error, 'strerror', None) or str(error)


def as_json(value: Any) -> bytes:
    """JSON as write_json writes it.

    Args:
      value: JSON types, numbers of NumPy or JAX among them.

    Raises:
      ValueError: at NaN, which JSON does not know.
    """
    text = json.dumps(value, indent=2, allow_nan=False, default=_number)
    return f'{text}\n'.encode()


def _number(value):
    """A number of NumPy or JAX as one of Python, for JSON."""
    return np.asarray(value).item()
