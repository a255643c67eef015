"""The notebooks, from top to bottom, with few steps."""

import ast
import importlib
import json
import pathlib

import matplotlib as mpl
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / 'notebooks').glob('*.ipynb'))
# These take as long as all others together.
LONG = ('02_bring_your_own_model', '05_reading_affinities')


def code(path):
    """The code of each cell."""
    cells = json.loads(path.read_text())['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, marks=pytest.mark.sweep if path.stem in LONG else [], id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv('STEPS', '100')
    with mpl.rc_context({'backend': 'agg'}):
        names = {}
        for cell in code(path):
            exec(compile(cell, path.name, 'exec'), names)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_takes_from_the_package_is_there(path):
    """The short form of running it: its names, and what follows the dot behind a module."""
    tree = ast.parse('\n'.join(code(path)))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith('tag_jax'):
            module = importlib.import_module(node.module)
            for name in node.names:
                modules[name.asname or name.name] = getattr(module, name.name)
    assert modules
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = modules.get(node.value.id)
            if owner is not None and type(owner).__name__ == 'module':
                assert hasattr(owner, node.attr), f'{node.value.id}.{node.attr}'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_committed(path):
    cells = json.loads(path.read_text())['cells']
    assert not any(cell.get('outputs') for cell in cells)
