"""Every Python snippet of the README and of docs/, in order, one program a page."""

import pathlib
import re

import flax.linen as nn
import numpy as np
import pytest
from small import TASKS, make_split

from tag_jax import grouping
from tag_jax.launchers import command
from tag_jax.training import TrainingConfig

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()
GROUPING = (ROOT / 'docs' / 'grouping.md').read_text()
METHODS = (ROOT / 'docs' / 'methods.md').read_text()
PAGES = [ROOT / 'README.md', ROOT / 'CHANGELOG.md', *sorted((ROOT / 'docs').glob('*.md'))]
PYTHON = re.compile(r'```python\n(.*?)```', re.DOTALL)

# Flags of srun and gcloud.
OF_CLUSTERS = ('nodes', 'ntasks', 'worker', 'command')


def run_snippets(page, names):
    """Runs all Python snippets of a page, one after another; their names."""
    snippets = PYTHON.findall(page.read_text(encoding='utf-8'))
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, page.name, 'exec'), names)
    return names


def test_the_snippets_run(tmp_path, monkeypatch, capsys):
    """Those of docs/your_model.md go on where the README ends."""
    monkeypatch.chdir(tmp_path)
    names = run_snippets(ROOT / 'README.md', {})
    assert set(names['result'].test_error) == {'cultivar', 'alcohol', 'proline'}
    assert names['selected'].optimal
    run_snippets(ROOT / 'docs' / 'your_model.md', names)
    assert (tmp_path / 'runs' / 'wine' / 'report.html').exists()
    assert 'report: runs/wine/report.html' in capsys.readouterr().out


@pytest.mark.sweep  # Its short form: test_the_snippets_run.
def test_the_examples_of_frozen_backbones_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_snippets(ROOT / 'docs' / 'frozen.md', {})
    assert set(names['params']['shared']) == {'neck'}
    assert set(names['model_state']['frozen']) == {'backbone'}
    network = names['result'].networks[0]
    assert set(network.params['shared']) == {'first'}
    np.testing.assert_array_equal(
        network.model_state['frozen']['first']['base_module']['kernel'],
        names['backbone'].first.kernel[...],
    )


@pytest.mark.sweep  # Its short form: test_the_snippets_run.
def test_the_examples_of_a_linen_module_run():
    """The page itself compares answers with those of the module."""
    names = run_snippets(ROOT / 'docs' / 'linen.md', {})
    assert set(names['params']['heads']) == set(names['tasks'])
    assert names['params']['heads']['alcohol']['Dense_0']['kernel'].shape == (32, 1)
    assert names['result'].total_test_error > 0


@pytest.mark.parametrize('library', [None, 'torch', 'tensorflow'])
def test_the_examples_of_data_from_elsewhere_run(library, capsys):
    """Those of a library that is not installed go unread."""
    if library:
        pytest.importorskip(library)
    first, *others = PYTHON.findall((ROOT / 'docs' / 'sources.md').read_text())
    of_library = re.compile(f'^import {library or "(?:torch|tensorflow)"}', re.MULTILINE)
    chosen = [one for one in others if bool(of_library.search(one)) == bool(library)]
    names = {}
    for snippet in (first, *chosen):
        exec(compile(snippet, 'sources.md', 'exec'), names)
    out = capsys.readouterr().out
    if library:
        assert len(chosen) == 1
        assert out.strip()
    else:
        assert set(names['network'].validation) == {'digit', 'starts_low'}
        assert "the inputs of 'starts_low' are not those of 'digit'" in out
        assert len(names['dataset'].train) == 1200


def test_the_examples_of_budgets_run():
    assert run_snippets(ROOT / 'docs' / 'budgets.md', {})['networks'].network_names


@pytest.mark.sweep
def test_a_loop_of_ones_own():
    names = run_snippets(ROOT / 'docs' / 'own_loop.md', {})
    assert names['statistics'].steps == (0, 10, 20, 30)
    assert np.isnan(names['statistics'].history[0]).all()  # The warm-up begins at 0.
    assert np.isfinite(names['affinity'].summary(names['statistics']).mean).all()
    assert int(names['train_state'].step) == 40
    assert names['joint'].shape == (2, 2)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150
    assert len((ROOT / 'WORKSPACE.md').read_text().splitlines()) <= 200


@pytest.mark.sweep  # Its short form: test_the_snippets_run.
def test_the_examples_of_task_weighting_run():
    """The first and the third snippet are lines out of the examples that follow."""
    names = {}
    chain, _, reading, *examples = PYTHON.findall(METHODS)
    for snippet in [*examples[:1], chain, reading, *examples[1:]]:
        exec(compile(snippet, 'docs/methods.md', 'exec'), names)
    assert names['weights']['w'].shape == (4, 3)


@pytest.mark.sweep  # Its short form: test_the_snippets_run.
def test_the_example_of_static_weights_runs(problem, dataset, capsys):
    config = TrainingConfig(steps=20, batch_size=64, eval_every=10)
    names = {'problem': problem, 'dataset': dataset, 'config': config}
    exec(compile(PYTHON.findall(METHODS)[1], 'docs/methods.md', 'exec'), names)
    assert len(names['outcomes']) == 1 + 6
    assert capsys.readouterr().out.startswith('static weights, ')


class _Encoder(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.relu(nn.Dense(6)(inputs))


def test_the_example_of_grouping_runs(problem, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TrainingConfig(steps=100, batch_size=64, eval_every=10)
    names = {'grouping': grouping, 'problem': problem, 'dataset': dataset, 'config': config}
    names |= {'Encoder': _Encoder, 'tasks': TASKS}
    names |= make_split(120)._asdict()
    own, *others = PYTHON.findall(GROUPING)
    exec(compile(own, 'docs/grouping.md', 'exec'), names)
    assert names['result'].method == 'subsets(count=40)'
    for snippet in others:
        exec(compile(snippet, 'docs/grouping.md', 'exec'), names)
    assert names['result'].method == 'agglomerative'


@pytest.mark.sweep
def test_the_example_of_an_executor_runs(problem, dataset):
    config = TrainingConfig(steps=20, batch_size=64, eval_every=10)
    names = {'grouping': grouping, 'model': problem, 'dataset': dataset, 'config': config}
    names = run_snippets(ROOT / 'docs' / 'larger.md', {**names, '__name__': '__main__'})
    assert names['result'].method == 'hoa'


def test_bringing_a_model_takes_under_thirty_lines():
    snippet = re.search(r'\[start:model\] -->\n```python\n(.*?)```', README, re.DOTALL)[1]
    statements = [line for line in snippet.splitlines() if line and not line.startswith('#')]
    imports = [line for line in statements if line.startswith(('import', 'from'))]
    assert len(statements) - len(imports) < 30


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\((?!http)([^)#]+)\)', page.read_text()):
        assert (page.parent / link).exists(), link


def test_commands_and_flags_exist():
    """Every `python -m experiments...` and `tag-jax ...` in these pages, with its flags."""
    defined = set()
    for path in [*(ROOT / 'experiments').rglob('*.py'), *command.FOLDER.glob('*.py')]:
        defined |= set(re.findall(r"DEFINE_\w+\(\s*'(\w+)'", path.read_text()))
    for page in [ROOT / 'WORKSPACE.md', *PAGES]:
        text = page.read_text()
        for name in re.findall(r'python -m (experiments[\w.]*\w)', text):
            module = ROOT / name.replace('.', '/')
            assert module.with_suffix('.py').exists(), f'{page.name}: {name}'
        assert {*re.findall(r'tag-jax ([a-z]+)', text)} <= {*command.COMMANDS}, page.name
        for flag in re.findall(r'(?<![\w-])--([a-z]\w*)', text):
            assert flag in defined | {
                'help',
                'flagfile',
                'nothing',
                'strict',
                'all',
                *OF_CLUSTERS,
            }, f'{page.name}: --{flag}'
