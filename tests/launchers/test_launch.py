import sys

import pytest

from tag_jax.launchers import launch


@pytest.mark.parametrize(
    ('flags', 'kept'),
    [
        ([], ''),
        (['--budget=3', '--workdir=/home/me/x', '--resume'], ' --budget=3'),
        (['--workdir', 'x', '--noresume', '-seed', '4'], ' -seed 4'),
        (['--resume=true', '--targets=a b,c'], " '--targets=a b,c'"),
    ],
)
def test_the_command_that_repeats_a_run(flags, kept, monkeypatch):
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', launch.__spec__)
    monkeypatch.setattr(sys, 'argv', ['/somewhere/launch.py', *flags])
    assert launch.command() == f'python -m tag_jax.launchers.launch{kept}'
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', None)
    assert launch.command() == f'python /somewhere/launch.py{kept}'
    monkeypatch.setattr(sys, 'argv', ['tag-jax group', *flags])
    assert launch.command() == f'tag-jax group{kept}'
