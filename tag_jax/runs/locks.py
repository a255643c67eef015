"""Folders that one owner uses at a time."""

import os

import filelock


def hold(path: str | os.PathLike, refusal: str, shared: bool = False) -> filelock.BaseFileLock:
    """Holds the lock on a file until it is released, or until this process ends in any way.

    Args:
      path: the file, which stays where it is.
      refusal: the message of the error where somebody else holds it.
      shared: whether this process may hold it several times, and must release it as often.

    Returns:
      The lock, to be released.

    Raises:
      ValueError: if it is held.
      OSError: if the file cannot be written to.
    """
    lock = filelock.FileLock(path, timeout=0, thread_local=False, is_singleton=shared)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ValueError(refusal) from error
    return lock
