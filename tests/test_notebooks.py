"""The notebooks, from top to bottom, with few steps."""

import json
import pathlib

import matplotlib as mpl
import pytest

NOTEBOOKS = pathlib.Path(__file__).parent.parent / 'notebooks'


@pytest.mark.parametrize('path', sorted(NOTEBOOKS.glob('*.ipynb')), ids=lambda path: path.stem)
def test_a_notebook_runs(path, monkeypatch):
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setenv('STEPS', '100')
    cells = json.loads(path.read_text())['cells']
    with mpl.rc_context({'backend': 'agg'}):
        names = {}
        for cell in cells:
            if cell['cell_type'] == 'code':
                assert not cell['outputs'], 'outputs are not committed'
                exec(compile(''.join(cell['source']), path.name, 'exec'), names)
