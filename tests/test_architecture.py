"""The floors of the house: imports run downward only, and selection stays free of JAX."""

import ast
import pathlib
import subprocess
import sys
import textwrap

import pytest

import tag_jax

PACKAGE = pathlib.Path(__file__).parent.parent / 'tag_jax'

# A part may import parts on lower floors. Parts on floor 0 import nothing of the rest.
FLOORS = {
    'launchers': 11,
    'report': 10,
    'studies': 9,
    'comparison': 8,
    'grouping': 7,
    'scalarization': 7,
    'multi_objective': 6,
    'training': 5,
    'runs': 4,
    'evaluation': 3,
    'weighting': 3,
    'affinity': 3,
    'gradients': 2,
    'examples': 2,
    'sharding': 2,
    'problem': 1,
    'selection': 0,
    'models': 0,
    'data': 0,
    'parallel': 0,
    'cluster': 0,
    'objectives': -1,
    'cells': -1,
    'numbers': -1,
    'tables': -1,
}

DOORS = {'__init__': set(), '__main__': {'launchers'}}
# Parts that programs import. (The launchers are for the command line.)
PARTS = set(FLOORS) - {'launchers'}


def modules():
    return sorted(PACKAGE.rglob('*.py'))


def part_of(path):
    """The part that a file belongs to: a module of the package, or a folder."""
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imported_parts(path):
    """The parts that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split('.')
            assert first != 'experiments', f'{path} imports a launcher'
            if first == 'tag_jax' and rest and rest[0] in FLOORS:
                found.add(rest[0])
    return found


def test_every_part_has_a_floor():
    assert {part_of(path) for path in modules()} - set(DOORS) == set(FLOORS)


@pytest.mark.parametrize('path', modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    part = part_of(path)
    if part in DOORS:
        assert imported_parts(path) == DOORS[part]
        return
    for other in imported_parts(path) - {part}:
        assert FLOORS[other] < FLOORS[part], f'{path} imports {other}'


def test_selection_needs_no_jax():
    code = (
        'import sys, tag_jax.selection;'
        'loaded = {name.split(".")[0] for name in sys.modules};'
        'assert not loaded & {"jax", "flax", "optax", "matplotlib"}, loaded'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


@pytest.mark.sweep
def test_every_part_is_reached_from_the_package():
    """Each first in a process of its own, where only other people's packages are loaded."""
    code = """
        import os, sys
        import flax.nnx, jax, matplotlib.figure, optax, orbax.checkpoint, tag_jax

        assert not any(name.startswith('tag_jax.') for name in sys.modules)
        for part in sys.argv[1:]:
            process = os.fork()
            if not process:
                found = getattr(tag_jax, part).__name__ == f'tag_jax.{part}'
                os._exit(0 if found else 1)
            assert os.waitpid(process, 0)[1] == 0, part
    """
    subprocess.run([sys.executable, '-c', textwrap.dedent(code), *PARTS], check=True)
    assert set(tag_jax._SUBMODULES) == PARTS
    with pytest.raises(AttributeError, match='nothing_of_the_kind'):
        tag_jax.nothing_of_the_kind  # noqa: B018
