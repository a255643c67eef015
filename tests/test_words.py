"""How the project speaks: docstrings open with their subject, and old names are gone."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CODE = [*sorted((ROOT / 'tag_jax').rglob('*.py')), *sorted((ROOT / 'experiments').rglob('*.py'))]
# A first sentence that opens so has to be read twice.
OPENINGS = re.compile(r'(?:Of|What|Where)\b')
SENTENCE = re.compile(rf'(?:^|(?<=[.:;?!] )|(?<=[.:]\) )){OPENINGS.pattern}[^.?]*[.?]?')
PAGES = [ROOT / 'README.md', ROOT / 'WORKSPACE.md', *sorted((ROOT / 'docs').glob('*.md'))]
# Names that were given up, and words of our own where the field has one.
GONE = re.compile(
    r'\b(?:tag_jax\.optim|TaskKind|for_tasks|losses_and_metrics|foresee|foresight|ledger|Ledger|'
    r'store=|--store|by_networks|by_affinity)\b'
)


def docstrings(path):
    """Pairs of a name and its docstring, in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        documented = isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        if documented and (text := ast.get_docstring(node)):
            yield getattr(node, 'name', 'the module'), text


@pytest.mark.parametrize('path', CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_open_with_their_subject(path):
    odd = [f'{name}: {text}' for name, text in docstrings(path) if OPENINGS.match(text)]
    assert not odd, '\n'.join(odd)


def prose_of(page):
    """The paragraphs of a page, without code, tables and headings."""
    text = re.sub(r'```.*?```|<!--.*?-->', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    for block in re.split(r'\n\s*\n|\n(?=[-*] |\d+\. )', text):
        if not block.startswith(('    ', '|', '#')):
            yield ' '.join(re.sub(r'^\s*(?:[-*]|\d+\.) ', '', block).split())


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_sentences_of_pages_open_with_their_subject(page):
    odd = [found.group() for block in prose_of(page) for found in SENTENCE.finditer(block)]
    odd = [sentence for sentence in odd if not sentence.endswith('?')]
    assert not odd, '\n'.join(odd)


def test_old_names_are_gone():
    tracked = subprocess.run(
        ['git', 'ls-files', '*.py', '*.md', '*.ipynb', '*.yml', '*.cfg'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    found = []
    for name in tracked or [str(path.relative_to(ROOT)) for path in CODE]:
        if name == 'tests/test_words.py' or not (ROOT / name).exists():
            continue
        text = (ROOT / name).read_text(encoding='utf-8')
        found += [f'{name}: {match.group()}' for match in GONE.finditer(text)]
    assert not found, '\n'.join(found)
