"""For mkdocs.yml: each notebook is a tutorial of the site, and a file to download beside it."""

import json
import pathlib
import re

from latex2mathml import converter
from mkdocs.structure.files import File

FOLDER = pathlib.Path(__file__).parent / 'notebooks'
FORMULA = re.compile(r'(\$\$?)(.+?)\1', re.DOTALL)
LINK = re.compile(rf'\]\(\.\./{FOLDER.name}/(\w+)\.ipynb\)')


def on_files(files, *, config):
    """Adds the notebooks, as pages and as they are."""
    for path in sorted(FOLDER.glob('*.ipynb')):
        files.append(File.generated(config, f'{FOLDER.name}/{path.name}', abs_src_path=str(path)))
        page = f'{FOLDER.name}/{path.stem}.md'
        files.append(File.generated(config, page, content=tutorial(path)))
    return files


def on_page_markdown(markdown, **_):
    """Links of pages lead out of docs/ in a clone, and to the tutorials here."""
    return LINK.sub(rf']({FOLDER.name}/\1.md)', markdown)


def tutorial(path):
    """A notebook as Markdown, without its first cell of code, which installs the package."""
    title, _, *rest = json.loads(path.read_text())['cells']
    said = f'*(This is the notebook [{path.name}]({path.name}), without what its cells print.)*'
    return '\n\n'.join([_as_markdown(title), said, *map(_as_markdown, rest)])


def _as_markdown(cell):
    text = ''.join(cell['source'])
    if cell['cell_type'] == 'code':
        return f'```python\n{text}\n```'
    return FORMULA.sub(_as_mathml, text)


def _as_mathml(formula):
    if formula[1] == '$':
        return converter.convert(formula[2])
    return f'<div class="formula">{converter.convert(formula[2], display="block")}</div>'
