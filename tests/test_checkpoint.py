"""Checkpoints that follow each other: whole, kept in twos, and set aside where they are damaged."""

import logging
import resource
import shutil
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tag_jax.runs import checkpoint

# Files that orbax cannot read or write leave threads of it without the event loop they look for.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def tree(seed=0):
    return {
        'weights': jnp.arange(1000.0) + seed,
        'state': (np.int32(seed), jnp.ones((2, 3), jnp.bfloat16)),
        'key': jax.random.key(seed),
        'nothing': np.zeros((0, 3), np.float32),
    }


def read(series):
    return checkpoint.newest(series, lambda record: tree())


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    plain = lambda tree: {**tree, 'key': jax.random.key_data(tree['key'])}
    jax.tree.map(np.testing.assert_array_equal, plain(found), plain(expected))


def files_of(folder):
    """The files of a checkpoint, the largest first: those with the arrays, then what is said."""
    files = [path for path in folder.rglob('*') if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


def shorten(folder):
    file = files_of(folder)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change(folder):
    """A bit flips, somewhere in the arrays."""
    file = files_of(folder)[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)


def change_the_record(folder):
    file = folder / 'record' / 'metadata'
    file.write_text(file.read_text().replace('"record": 2', '"record": 3'))


def lose(folder):
    shutil.rmtree(folder / 'arrays')


def empty(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_the_newest_comes_back_as_it_was(tmp_path):
    assert read(tmp_path / 'series') is None
    for step in (10, 20, 100):
        checkpoint.add(tmp_path / 'series', step, tree(step), {'step': step, 'third': 1 / 3})
    found = read(tmp_path / 'series')
    assert (found.step, found.record) == (100, {'step': 100, 'third': 1 / 3})
    assert_equal(found.tree, tree(100))
    assert sorted(path.name for path in (tmp_path / 'series').iterdir()) == ['100', '20']


@pytest.mark.parametrize('harm', [shorten, change, change_the_record, lose, empty])
def test_a_damaged_one_is_set_aside(tmp_path, caplog, harm):
    for step in (1, 2):
        checkpoint.add(tmp_path, step, tree(step), step)
    harm(tmp_path / '2')
    with caplog.at_level(logging.WARNING):
        found = read(tmp_path)
    assert found.step == 1
    assert_equal(found.tree, tree(1))
    assert 'is damaged' in caplog.text
    assert '2.damaged' in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ['1', '2.damaged']
    checkpoint.add(tmp_path, 2, tree(2), 2)
    assert read(tmp_path).step == 2
    shorten(tmp_path / '1')
    shorten(tmp_path / '2')
    assert read(tmp_path) is None


def test_one_of_another_shape_is_none(tmp_path):
    checkpoint.add(tmp_path, 1, {'a': np.zeros(3)}, None)
    assert checkpoint.newest(tmp_path, lambda record: {'a': np.zeros(4)}) is None


def test_what_a_crash_left_is_no_checkpoint_and_goes(tmp_path):
    checkpoint.add(tmp_path, 1, tree(1), 1)
    (tmp_path / '2.orbax-checkpoint-tmp').mkdir()
    assert read(tmp_path).step == 1
    checkpoint.add(tmp_path, 3, tree(3), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['1', '3']


def test_where_the_disk_is_full_the_last_one_stands(tmp_path):
    checkpoint.add(tmp_path, 1, tree(1), 1)
    big = {**tree(2), 'weights': np.random.default_rng(0).random(2**16)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(OSError, match=r'cannot write the checkpoint .*2 .*: make room there'):
            checkpoint.add(tmp_path, 2, big, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_equal(read(tmp_path).tree, tree(1))


def test_threads_take_turns(tmp_path):
    """Orbax alone fails or hangs here before long."""

    def write(name):
        for step in range(1, 13):
            checkpoint.add(tmp_path / name, step, tree(step), step)
            checkpoint.save(tmp_path / f'{name}{step}', {'a': np.ones(step)})
        return read(tmp_path / name).step

    pool = futures.ThreadPoolExecutor(3)
    running = [pool.submit(write, name) for name in 'abc']
    assert [one.result(timeout=60) for one in running] == [12, 12, 12]
