"""Compiled programs are kept on disk, so that the next command need not compile them again."""

import os
import pathlib

import platformdirs
from absl import flags

NONE = 'none'

flags.DEFINE_string(
    'compilation_cache',
    None,
    f'Folder of compiled programs for later runs, or {NONE}; by default that of '
    "JAX_COMPILATION_CACHE_DIR, else one in the user's cache folder.",
)

FLAGS = flags.FLAGS

# What the user's own folder may hold when a command begins. (JAX's own limit reads all entries
# whenever it writes one.)
MOST_BYTES = 2 * 2**30


def keep() -> None:
    """Lets JAX use the folder that --compilation_cache names.

    Raises:
      ValueError: if the folder that the flag names cannot be written to. (Without the flag such a
        folder is not used.)
    """
    import jax  # Launchers that compute nothing do without it.

    asked = FLAGS.compilation_cache
    if asked == NONE:
        jax.config.update('jax_compilation_cache_dir', None)
        return
    if asked is None and jax.config.jax_compilation_cache_dir is not None:
        return
    own = platformdirs.user_cache_path('tag_jax', appauthor=False) / 'compiled'
    folder = own if asked is None else pathlib.Path(asked)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # What others write there would run.
        usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        if asked is None:
            return
        raise ValueError(
            f'cannot write compiled programs to {folder}: choose another folder for '
            f'--compilation_cache, or {NONE}'
        )
    if folder == own:
        _drop_oldest(folder)
    for name, value in (
        ('jax_compilation_cache_dir', str(folder.resolve())),
        ('jax_persistent_cache_min_compile_time_secs', 0.0),
        ('jax_persistent_cache_min_entry_size_bytes', -1),
    ):
        jax.config.update(name, value)


def _drop_oldest(folder):
    """Removes the oldest files of a folder until what is left is at most MOST_BYTES."""
    found = [(path.stat(), path) for path in folder.iterdir() if path.is_file()]
    total = sum(status.st_size for status, _ in found)
    for status, path in sorted(found, key=lambda one: one[0].st_mtime):
        if total <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= status.st_size
