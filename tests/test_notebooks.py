"""The notebooks, from top to bottom, with few steps."""

import ast
import gzip
import importlib
import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from experiments import counterexample
from tag_jax import data, objectives

FOLDER = pathlib.Path(__file__).parent.parent / 'notebooks'
NOTEBOOKS = sorted(FOLDER.glob('*.ipynb'))
# The short form: these take as long as one of the others.
SHORT = ('03_mgda_ub_in_your_optimizer', '04_network_selection')


def cells(text, kind):
    """The text of each cell of a kind."""
    found = json.loads(text)['cells']
    return [''.join(cell['source']) for cell in found if cell['cell_type'] == kind]


def code(path):
    """The code of each cell."""
    return cells(path.read_text(), 'code')


def load_badges():
    """The script beside the notebooks, which is no part of a package."""
    spec = importlib.util.spec_from_file_location('badges', FOLDER / 'badges.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


badges = load_badges()


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
    by_library = counterexample.losses_after(names['step'])
    assert {name: names['after'][name] for name in by_library} == pytest.approx(by_library, 1e-4)


def worth_is_judged(names):
    """A decision with its interval, and seeds beside the simple answers, within the budget."""
    result = names['result']
    assert sorted(t for group in result.groups for t in group.serves) == sorted(result.task_names)
    assert re.match('Do not group|Groups are worth it', result.remarks[0])
    assert sum(group.cost for group in result.groups) <= result.budget
    if result.gain_interval is not None:
        low, high = result.gain_interval
        assert low < names['gain'] < high
    known = names['dataset'].train.mask
    assert all(0.5 < known[task].mean() < 0.9 for task in result.task_names[1:])
    assert 'diagnosis' not in known
    assert {line.method for line in names['lines']} == {
        *('all_in_one', 'all_in_one(wider=2)', 'single_task', 'tag', 'recommended(wider=2)'),
        'random',
    }


# What has to be true of the names that a notebook ends with.
COMES_TO = {
    '01_which_tasks_train_together': groups_serve_all,
    '02_bring_your_own_model': users_loop_measures,
    '03_mgda_ub_in_your_optimizer': losses_fall,
    '04_network_selection': published_networks_are_chosen,
    '05_reading_affinities': affinities_are_those_by_hand,
    '06_is_it_worth_it_on_my_data': worth_is_judged,
}


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, marks=[] if path.stem in SHORT else pytest.mark.sweep, id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs(path, monkeypatch):
    assert path.stem in COMES_TO, 'say what has to be true at its end'
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
    assert 'experiments' not in {  # Which are in a clone only.
        (getattr(node, 'module', None) or node.names[0].name).partition('.')[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
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
    found = json.loads(path.read_text())['cells']
    assert not any(cell.get('outputs') for cell in found)


TOX21 = """NR-AR,SR-p53,mol_id,smiles
0,,TOX1,CCO
0,1,TOX2,c1ccccc1O
1,0,TOX3,CC(=O)N
,1,TOX4,CCCl
0,0,TOX5,CNC
1,1,TOX6,c1ccncc1
0,0,TOX7,OCCO
1,,TOX8,ClCCBr
"""


def test_the_lines_that_read_tox21(tmp_path, monkeypatch):
    """Made-up molecules in the format of the file: counts, and labels of which some are missing."""
    pytest.importorskip('pandas')
    (tmp_path / 'tox21.csv.gz').write_bytes(gzip.compress(TOX21.encode()))
    text = '\n'.join(cells((FOLDER / '06_is_it_worth_it_on_my_data.ipynb').read_text(), 'markdown'))
    (lines,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {'np': np, 'data': data, 'objectives': objectives}
    exec(lines, names)
    counts = np.expm1(names['inputs'])
    # CCO: three single characters, two pairs, a triple.
    assert counts.shape == (8, 512)
    assert counts[0].sum() == pytest.approx(6)
    dataset = names['dataset']
    known = dict.fromkeys(dataset.tasks, 0)
    for split in (dataset.train, dataset.validation, dataset.test):
        for task, labels in split.targets.items():
            known[task] += np.sum((split.mask or {}).get(task, np.ones(len(labels))))
    assert known == {'NR-AR': 7, 'SR-p53': 6}


def test_badges_and_first_cells_are_those_of_the_address():
    address = badges.read_address()
    for path in NOTEBOOKS:
        text = path.read_text(encoding='utf-8')
        assert badges.with_badges(text, path.name, address) == text, 'python notebooks/badges.py'


def test_badges_come_and_go_with_the_address():
    address = 'https://github.com/someone/tag_jax'
    for path in NOTEBOOKS:
        text = path.read_text(encoding='utf-8')
        bare = badges.with_badges(text, path.name, '')
        there = badges.with_badges(bare, path.name, address)
        first, title, *_ = cells(there, 'markdown')
        colab = 'https://colab.research.google.com/github/someone/tag_jax/blob/main/notebooks/'
        assert f'({colab}{path.name})' in first
        assert f'src={address}/blob/main/notebooks/{path.name}' in first
        assert title.startswith('# ')
        assert f"ADDRESS = '{address}'" in cells(there, 'code')[0]
        assert badges.with_badges(there, path.name, address) == there
        assert badges.with_badges(there, path.name, '') == bare
        assert badges.BADGE not in [cell['id'] for cell in json.loads(bare)['cells']]


def test_an_address_that_is_none_is_refused(tmp_path):
    for wrong in ('tag_jax', 'https://github.com/a/b/tree/main', 'https://github.com/a/b\nmore'):
        (tmp_path / 'badge.txt').write_text(wrong)
        with pytest.raises(ValueError, match=r'must be empty, or one line such as https://github'):
            badges.read_address(tmp_path / 'badge.txt')
    (tmp_path / 'badge.txt').write_text('https://github.com/a/b\n')
    assert badges.read_address(tmp_path / 'badge.txt') == 'https://github.com/a/b'


def run_first_cell(address, *flags):
    """The first cell of a notebook in an interpreter of its own, far from the package."""
    text = badges.with_badges(NOTEBOOKS[0].read_text(), NOTEBOOKS[0].name, address)
    return subprocess.run(
        [sys.executable, *flags, '-c', cells(text, 'code')[0]],
        cwd='/',
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_first_cell_without_the_package_ends_in_a_sentence():
    done = run_first_cell('', '-I', '-S')  # No package that is installed is seen.
    assert done.returncode == 1
    assert done.stderr.startswith('tag_jax is not installed, and its repository has no public')
    assert len(done.stderr.splitlines()) == 1
    failed = run_first_cell('file:///no/repository', '-I', '-S')
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith(
        'pip could not install tag_jax from file:///no/repository: '
    )


def test_the_first_cell_with_the_package_does_nothing(monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, 'call', lambda command: called.append(command))
    text = badges.with_badges(NOTEBOOKS[0].read_text(), NOTEBOOKS[0].name, 'https://github.com/a/b')
    exec(cells(text, 'code')[0], {})
    assert called == []
