"""What is slow to import is imported where it is used: parts and commands begin at once."""

import json
import subprocess
import sys

import pytest
from launching import ENVIRONMENT

from tag_jax.launchers import command

# Packages by what they are for.
FILES = {'orbax', 'pyarrow', 'pandas', 'PIL', 'array_record', 'tensorflow_datasets', 'grain'}
NUMBERS, PAGES = {'scipy', 'sklearn'}, {'matplotlib', 'jinja2'}
HEAVY = FILES | NUMBERS | PAGES | {'ray', 'tensorflow', 'torch', 'aiohttp'}
JAX = {'jax', 'jaxlib', 'flax', 'optax'}

# Launchers end where their flags are parsed; sys.argv is theirs.
_STARTED = """
import json, sys
try:
    exec(sys.argv.pop(1))
except SystemExit:
    pass
print(json.dumps([*sys.modules]))
"""


def loaded(code, *arguments):
    """The packages that a process of its own has loaded after some code, and modules of ours."""
    done = subprocess.run(
        [sys.executable, '-c', _STARTED, code, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = json.loads(done.stdout.splitlines()[-1])
    return {name.partition('.')[0] for name in names} | {n for n in names if n[:8] == 'tag_jax.'}


@pytest.mark.variants(2)
@pytest.mark.parametrize('part', ['weighting', 'problem', 'data', 'affinity', 'grouping'])
def test_parts_cost_little_more_than_jax_flax_and_optax(part):
    assert not loaded(f'from tag_jax import {part}') & HEAVY


def test_the_package_is_there_at_once():
    found = loaded('import tag_jax')
    assert not found & (HEAVY | JAX | {'numpy'})
    assert not {name for name in found if name.startswith('tag_jax.')}


START = 'from tag_jax.launchers import command; command.main()'


@pytest.mark.parametrize('arguments', [['--help'], ['grupp']], ids=' '.join)
def test_the_command_says_what_it_is_without_jax(arguments):
    assert not loaded(START, *arguments) & (HEAVY | JAX)


@pytest.mark.variants(5)
@pytest.mark.parametrize('flag', ['--help', '--stepz=3'])
@pytest.mark.parametrize('name', command.COMMANDS)
def test_flags_of_launchers_are_known_without_jax(name, flag):
    found = loaded(START, name, flag)
    assert f'tag_jax.launchers.{name}' in found
    assert not found & (HEAVY | JAX)


DEFAULTS = """
from tag_jax.launchers import common
from tag_jax.training import Measurement, TrainingConfig

flags = common.FLAGS
for name in ('seed', 'if_not_finite', 'checkpoint_seconds'):
    assert flags[name].default == getattr(TrainingConfig, name), name
for name in ('every', 'kind', 'step', 'examples', 'split'):
    assert flags[f'affinity_{name}'].default == getattr(Measurement, name), name
assert tuple(map(float, flags['affinity_window'].default)) == Measurement.window
"""


def test_flags_have_the_defaults_of_the_library():
    """They are written twice, so that flags are known without JAX."""
    assert 'tag_jax.training' in loaded(DEFAULTS)  # It asserts, in a process of its own.


SLOTS = """
from tag_jax.launchers import common

for text, value in (('16', 16), ('measure', 'measure')):
    common.FLAGS(['tag-jax', f'--slots={text}'])
    assert common.slots() == value, text
"""


def test_slots_are_a_number_or_measured():
    assert 'tag_jax.training' in loaded(SLOTS)  # It asserts, in a process of its own.
