"""Where launchers keep compiled programs for the next command."""

import os
import pathlib
import stat

import jax
import platformdirs
import pytest
from absl import flags
from launching import ENVIRONMENT

from tag_jax.launchers import compiled

NAMES = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
    'jax_persistent_cache_min_entry_size_bytes',
)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """What `keep` sets JAX to, with some flags, where the user's caches are in `tmp_path`."""
    monkeypatch.setattr(platformdirs, 'user_cache_path', lambda name, **_: tmp_path / name)
    before = {name: getattr(jax.config, name) for name in NAMES}
    jax.config.update('jax_compilation_cache_dir', None)

    def keep(*arguments):
        flags.FLAGS(['test', *arguments])
        compiled.keep()
        return {name: getattr(jax.config, name) for name in NAMES}

    yield keep
    flags.FLAGS.unparse_flags()
    flags.FLAGS['compilation_cache'].unparse()
    for name, value in before.items():
        jax.config.update(name, value)


def test_by_default_in_a_folder_of_the_user_alone(kept, tmp_path):
    found = kept()
    folder = tmp_path / 'tag_jax' / 'compiled'
    assert pathlib.Path(found['jax_compilation_cache_dir']) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert found['jax_persistent_cache_min_compile_time_secs'] == 0


def test_the_oldest_programs_go_where_there_are_too_many(kept, tmp_path, monkeypatch):
    kept()
    monkeypatch.setattr(compiled, 'MOST_BYTES', 25)
    folder = tmp_path / 'tag_jax' / 'compiled'
    for n in (3, 1, 2):
        (folder / str(n)).write_bytes(bytes(10))
        os.utime(folder / str(n), (n, n))
    jax.config.update('jax_compilation_cache_dir', None)
    kept()
    assert sorted(path.name for path in folder.iterdir()) == ['2', '3']


def test_in_another_folder_or_in_none(kept, tmp_path):
    assert kept('--compilation_cache=none')['jax_compilation_cache_dir'] is None
    asked = kept(f'--compilation_cache={tmp_path}/own')
    assert pathlib.Path(asked['jax_compilation_cache_dir']) == tmp_path / 'own'


def test_the_folder_that_jax_was_told_stays(kept, tmp_path):
    jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'told'))
    assert kept()['jax_compilation_cache_dir'] == str(tmp_path / 'told')
    assert kept('--compilation_cache=none')['jax_compilation_cache_dir'] is None


def test_a_folder_that_cannot_be_written_to(kept, tmp_path):
    (tmp_path / 'tag_jax').write_text('a file')
    assert kept()['jax_compilation_cache_dir'] is None, 'nobody asked for it'
    with pytest.raises(ValueError, match='cannot write compiled programs to .*, or none'):
        kept(f'--compilation_cache={tmp_path}/tag_jax/own')


def test_the_tests_use_a_folder_of_their_own():
    assert os.path.basename(ENVIRONMENT['JAX_COMPILATION_CACHE_DIR']) == 'compiled'
    assert jax.config.jax_compilation_cache_dir == ENVIRONMENT['JAX_COMPILATION_CACHE_DIR']
