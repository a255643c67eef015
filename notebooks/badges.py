"""Writes into every notebook how it opens in Colab and on Kaggle, and how it installs tag_jax.

    python notebooks/badges.py

The address of the repository is the one line of badge.txt, such as https://github.com/OWNER/tag_jax.
With it every notebook begins with its badges, and its first code cell installs the package from
there where it is missing. While the file is empty there are no badges, and that cell says in one
sentence what to do.
"""

import json
import pathlib
import re

FOLDER = pathlib.Path(__file__).parent
BADGE, INSTALL = 'badge', 'install'  # The ids of the cells that are written.

_BADGES = """\
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]\
(https://colab.research.google.com/github/{place}/blob/main/notebooks/{name})
[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]\
(https://kaggle.com/kernels/welcome?src={address}/blob/main/notebooks/{name})"""

_INSTALL = """\
import importlib.util
import subprocess
import sys

ADDRESS = '{address}'  # The line of badge.txt; badges.py writes this cell.
if importlib.util.find_spec('tag_jax') is None:
    if not ADDRESS:
        raise SystemExit(
            'tag_jax is not installed, and its repository has no public address yet: run '
            '"pip install -e ." in a clone of it, and start this notebook again'
        )
    if subprocess.call([sys.executable, '-m', 'pip', 'install', '-q', f'git+{{ADDRESS}}']):
        raise SystemExit(
            f'pip could not install tag_jax from {{ADDRESS}}: see above, and on Kaggle switch the '
            'Internet on in the settings of the notebook'
        )
    importlib.invalidate_caches()"""


def read_address(path: pathlib.Path = FOLDER / 'badge.txt') -> str:
    """The address of the repository; empty while it has none.

    Raises:
      ValueError: if it is not one line that names a repository on GitHub.
    """
    address = path.read_text(encoding='utf-8').strip()
    if address and not re.fullmatch(r'https://github\.com/[\w.-]+/[\w.-]+', address):
        raise ValueError(
            f'{path} must be empty, or one line such as https://github.com/OWNER/tag_jax, not '
            f'{address!r}'
        )
    return address


def with_badges(text: str, name: str, address: str) -> str:
    """The text of a notebook with the cells that follow from an address.

    Args:
      text: of the file, JSON.
      name: of the file.
      address: of the repository, or ''.
    """
    notebook = json.loads(text)
    cells = [cell for cell in notebook['cells'] if cell['id'] not in (BADGE, INSTALL)]
    # Behind the title.
    cells.insert(1, _cell('code', INSTALL, _INSTALL.format(address=address)))
    if address:
        place = address.removeprefix('https://github.com/')
        badges = _BADGES.format(place=place, address=address, name=name)
        cells.insert(0, _cell('markdown', BADGE, badges))
    notebook['cells'] = cells
    return json.dumps(notebook, indent=1, ensure_ascii=False) + '\n'


def _cell(kind, name, source):
    """A cell of a notebook, as its file has it."""
    lines = source.splitlines(keepends=True)
    of_code = {'execution_count': None, 'outputs': []} if kind == 'code' else {}
    cell = {'cell_type': kind, 'id': name, 'metadata': {}, 'source': lines} | of_code
    return dict(sorted(cell.items()))


def main():
    address = read_address()
    for path in sorted(FOLDER.glob('*.ipynb')):
        text = with_badges(path.read_text(encoding='utf-8'), path.name, address)
        path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
