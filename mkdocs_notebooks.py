"""For mkdocs.yml: notebooks are files of the site, and pages link to them there."""

import pathlib

from mkdocs.structure.files import File

FOLDER = pathlib.Path(__file__).parent / 'notebooks'


def on_files(files, *, config):
    """Puts the notebooks beside the pages, to be downloaded."""
    for path in sorted(FOLDER.glob('*.ipynb')):
        files.append(File.generated(config, f'{FOLDER.name}/{path.name}', abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, **_):
    """Links of pages lead out of docs/ in a clone, and stay inside the site here."""
    return markdown.replace(f'](../{FOLDER.name}/', f']({FOLDER.name}/')
