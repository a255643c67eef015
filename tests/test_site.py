"""The documentation as a site, in headless Chromium: on a desk and on a phone, in the dark too."""

import os
import pathlib
import re
import subprocess
import sys

import browser
import pytest

pytest.importorskip('mkdocs')
pytest.importorskip('mkdocstrings')
PATH = browser.find()
pytestmark = pytest.mark.skipif(PATH is None, reason='no Chromium is installed')

ROOT = pathlib.Path(__file__).parent.parent
# The landing page, how-tos, tables, code, and pages of the reference.
PAGES = (
    *('index', 'tables/index', 'names_of_papers/index', 'notebooks/index', 'your_model/index'),
    *('api/grouping/index', 'api/comparison/index', 'notebooks/05_reading_affinities/index'),
)

QUESTIONS = {
    'page width': 'document.documentElement.scrollWidth',
    'overfull': """
        [...document.querySelectorAll('.md-content :is(p, li, h1, h2, h3, dd, .highlight)')]
          .filter(block => block.scrollWidth > block.clientWidth + 4)
          .map(block => block.outerHTML.slice(0, 200))""",
    'not drawn': """
        [...document.querySelectorAll('.md-content img')]
          .filter(picture => !(picture.complete && picture.naturalWidth > 0))
          .map(picture => picture.src)""",
    'names that break': """
        [...document.querySelectorAll('.md-content td code')]
          .filter(name => !/[\\s-]/.test(name.innerText) && name.getClientRects().length > 1)
          .map(name => name.innerText)""",
    'without a button': """
        [...document.querySelectorAll('.md-content pre:not(.linenodiv pre)')]
          .filter(block => !block.querySelector('button'))
          .map(block => block.innerText.slice(0, 80))""",
    'hard to read': browser.HARD_TO_READ,
}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp('site')
    subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--quiet', '--strict', f'--site-dir={folder}'],
        cwd=ROOT,
        env=os.environ | {'PYTHONPATH': str(ROOT), 'NO_MKDOCS_2_WARNING': '1'},
        check=True,
    )
    return folder


@pytest.fixture(scope='module')
def chromium():
    with browser.opened(PATH) as running:
        yield running


@pytest.mark.variants(3)
@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('window', [(1440, 900), (768, 1024), (390, 844)], ids=str)
@pytest.mark.parametrize('page', PAGES)
def test_a_page_of_the_site(page, window, dark, site, chromium):
    scheme = 'slate' if dark else 'default'
    ready = f"document.body.dataset.mdColorScheme == '{scheme}'"
    seen = chromium.look(site / f'{page}.html', *window, dark, QUESTIONS, ready)
    assert seen.complaints == []
    assert not [address for address in seen.requests if not address.startswith('file:')]
    assert seen.values['page width'] == window[0]
    assert seen.values['overfull'] == []
    assert seen.values['not drawn'] == []
    assert seen.values['names that break'] == []
    assert seen.values['without a button'] == []
    assert seen.values['hard to read'] == []


def test_every_notebook_is_on_the_site_and_a_page_links_to_it(site):
    names = sorted(path.name for path in (ROOT / 'notebooks').glob('*.ipynb'))
    assert len(names) == 6
    page = (site / 'notebooks' / 'index.html').read_text()
    for name in names:
        assert (site / 'notebooks' / name).read_bytes() == (ROOT / 'notebooks' / name).read_bytes()
        stem = name.removesuffix('.ipynb')
        assert f'href="{stem}/"' in page
        tutorial = (site / 'notebooks' / stem / 'index.html').read_text()
        assert f'href="../{name}"' in tutorial
        assert '$' not in re.sub('<script.*?</script>', '', tutorial, flags=re.DOTALL), 'MathML'
    assert 'href="notebooks/"' in (site / 'index.html').read_text()
    linked = (site / 'your_model' / 'index.html').read_text()
    assert f'href="../notebooks/{names[1].removesuffix(".ipynb")}/"' in linked


def test_the_reference_begins_with_what_people_look_for(site):
    page = (site / 'api' / 'grouping' / 'index.html').read_text()
    places = [
        page.index(f'id="tag_jax.grouping.{name}"') for name in ('group_tasks', 'tag', 'Stage')
    ]
    assert places == sorted(places)
    assert 'Source code in <code>tag_jax/grouping/group.py</code>' in page
