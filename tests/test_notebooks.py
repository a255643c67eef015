"""The notebooks, from top to bottom, with few steps."""

import ast
import importlib
import json
import pathlib

import matplotlib as mpl
import numpy as np
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / 'notebooks').glob('*.ipynb'))
# These take as long as all others together.
LONG = ('02_bring_your_own_model', '05_reading_affinities')


def code(path):
    """The code of each cell."""
    cells = json.loads(path.read_text())['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def groups_serve_all(names):
    """Every task is served by one group, and the remarks are those of the result."""
    result = names['result']
    assert sorted(t for group in result.groups for t in group.serves) == sorted(result.task_names)
    assert np.isfinite(result.affinity[~np.eye(len(result.task_names), dtype=bool)]).all()
    assert names['together'].total_test_error == result.baselines['mtl'].total_test_error


def users_loop_measures(names):
    """Also the second way of the notebook: affinities in a loop of one's own, and mistakes."""
    groups_serve_all(names)
    exact = names['summaries']['exact']
    assert np.isfinite(exact.mean[~np.eye(len(exact.task_names), dtype=bool)]).all()
    for attempt in names['attempts'].values():
        with pytest.raises((TypeError, ValueError)):
            attempt()


def losses_fall(names):
    for way, history in names['histories'].items():
        assert np.isfinite(history).all(), way
        assert (history[-1] < history[0]).all(), way
    weights = np.asarray(names['weighting_state'].weights)
    assert weights.sum() == pytest.approx(1, abs=1e-4)


def published_networks_are_chosen(names):
    """The optimum of the paper's table (Table 7), and blocks that the search finds."""
    totals = {c.budget: c.total for c in names['choices'] if c.method == 'optimal'}
    assert [round(totals[budget], 5) for budget in (1, 1.5, 2)] == [0.50278, 0.46132, 0.45224]
    assert sorted(map(len, names['found'].groups)) == [10] * 4


def affinities_are_those_by_hand(names):
    order, source, target = names['names'], 'left_even', 'left_at_least_5'
    by_hand = 1 - names['loss'](names['ahead'], target) / names['loss'](names['shared'], target)
    found = names['matrix'][order.index(source), order.index(target)]
    assert float(found) == pytest.approx(float(by_hand), rel=1e-2)
    assert {len(seeds) for seeds in names['runs'].values()} == {names['SEEDS']}


# What has to be true of the names that a notebook ends with.
COMES_TO = {
    '01_which_tasks_train_together': groups_serve_all,
    '02_bring_your_own_model': users_loop_measures,
    '03_mgda_ub_in_your_optimizer': losses_fall,
    '04_network_selection': published_networks_are_chosen,
    '05_reading_affinities': affinities_are_those_by_hand,
}


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
        COMES_TO[path.stem](names)


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
