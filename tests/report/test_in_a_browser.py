"""Reports as people see them: in headless Chromium, on a desk and on a phone, in the dark too."""

import io

import browser
import numpy as np
import pytest
from finished_runs import RESULTS, make_run, results_of
from PIL import Image

from tag_jax import report
from tag_jax.comparison import Comparison, Outcome

PATH = browser.find()
pytestmark = pytest.mark.skipif(PATH is None, reason='no Chromium is installed')

DESK, TABLET, PHONE = (1440, 900), (768, 1024), (390, 844)
TASKS = [f'{side}_{what}' for side in ('left', 'right') for what in ('digit', 'even', 'loop')]

DECISIONS = {
    'run': 'Train together',
    'many tasks': 'Train together',
    'runs': 'Lowest total test error: ',
    'no gain': 'Do not group: no gain over one network',
    'ways to group': 'Validation prefers tag at budget 2: total test error 14.50 ± 0.50 %',
}

# Pictures that are not drawn; those of no width or height are not.
NOT_DRAWN = """
[...document.querySelectorAll('svg, img')].filter(picture => {
  const {width, height} = picture.getBoundingClientRect();
  const shapes = [...picture.querySelectorAll('path, rect, circle')];
  const drawn = picture.tagName == 'IMG' ? picture.complete && picture.naturalWidth > 0
    : shapes.some(shape => {
      const box = shape.getBBox();
      return box.width + box.height > 0 && getComputedStyle(shape).stroke != 'rgba(0, 0, 0, 0)';
    });
  return !(width > 0 && height > 0 && drawn);
}).map(picture => picture.outerHTML.slice(0, 200))
"""

# Texts in pictures that are cut off at their edge.
CUT_OFF = """
[...document.querySelectorAll('svg text')].filter(text => {
  const inside = text.getBoundingClientRect();
  const around = text.closest('svg').getBoundingClientRect();
  return inside.left < around.left - 1 || inside.right > around.right + 1 ||
    inside.top < around.top - 1 || inside.bottom > around.bottom + 1;
}).map(text => text.outerHTML.slice(0, 200))
"""

# Blocks that hold more than they show, and cannot be scrolled.
OVERFULL = """
[...document.querySelectorAll('p, li, dd, dt, pre, h1, h2, h3, figcaption, summary, nav, section')]
  .filter(block => block.scrollWidth > block.clientWidth + 1)
  .map(block => block.outerHTML.slice(0, 200))
"""

QUESTIONS = {
    'not drawn': NOT_DRAWN,
    'cut off': CUT_OFF,
    'overfull': OVERFULL,
    'columns': """
        new Set([...document.querySelectorAll('.beside > *')]
          .map(part => Math.round(part.getBoundingClientRect().left))).size""",
    'hard to read': browser.HARD_TO_READ,
    'pictures': "document.querySelectorAll('svg, img').length",
    'page width': 'document.documentElement.scrollWidth',
    'end of the decision': """
        Math.max(...[...document.querySelectorAll('.decision, .verdict, .facts')]
          .map(element => element.getBoundingClientRect().bottom))""",
    'decision': "document.querySelector('.decision').innerText",
    'groups': "document.querySelector('ol.decision')?.innerText ?? ''",
}


@pytest.fixture(scope='module')
def chromium():
    with browser.opened(PATH) as running:
        yield running


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    """`{kind: file}`: reports of a run, of one with many tasks, of runs and of ways to group."""
    folder = tmp_path_factory.mktemp('runs')
    groups = [tuple(TASKS[:3]), tuple(TASKS[3:])]
    for seed in (0, 1):
        results = results_of(TASKS, groups, seed=seed, confidence=0.8)
        make_run(folder / str(seed), results, seed=seed)
    many = [f'task_{n}' for n in range(40)]
    blocks = [tuple(many[n : n + 8]) for n in range(0, 40, 8)]
    history = np.random.default_rng(0).normal(size=(40, 40, 40))
    make_run(folder / 'many', results_of(many, blocks), history)
    runs = [report.read(folder / name) for name in ('0', '1')]
    no_gain = results_of(TASKS, groups, gain_interval=[-3.0, 9.0])
    make_run(folder / 'none', no_gain)
    written = {
        'no gain': report.html_page(report.read(folder / 'none')),
        'run': report.html_page(runs[0]),
        'many tasks': report.html_page(report.read(folder / 'many')),
        'runs': report.runs_page(runs),
    }
    for kind, text in written.items():
        (folder / f'{kind}.html').write_text(text)
    ways = Comparison(
        tuple(
            Outcome(method, 2, seed, (tuple(TASKS),), 2.0, 1.0, 2.0, 50.0, error + seed, {})
            for method, error in (('tag', 14.0), ('random', 18.0), ('all_in_one', 20.0))
            for seed in (0, 1)
        ),
        {},
        {},
    )
    report.write_comparison(folder, ways, TASKS, {'dataset': 'letters', 'budgets': [2]})
    found = {kind: folder / f'{kind}.html' for kind in written}
    return found | {'ways to group': folder / report.REPORT}


@pytest.mark.variants(3)
@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('window', [DESK, TABLET, PHONE], ids=['desk', 'tablet', 'phone'])
@pytest.mark.parametrize('kind', list(DECISIONS))
def test_a_page(kind, window, dark, chromium, pages):
    seen = chromium.look(pages[kind], *window, dark, QUESTIONS)
    assert seen.complaints == []
    assert seen.requests == [pages[kind].as_uri()], 'no network'
    assert seen.values['pictures'] > 0
    assert seen.values['not drawn'] == []
    assert seen.values['cut off'] == []
    assert seen.values['overfull'] == []
    if kind in ('run', 'no gain'):
        assert seen.values['columns'] == (2 if window == DESK else 1), 'side by side on a desk'
    assert seen.values['hard to read'] == []
    assert seen.values['page width'] == window[0], 'only tables scroll sideways'
    assert 0 < seen.values['end of the decision'] <= window[1], 'seen without scrolling'
    assert seen.values['decision'].startswith(DECISIONS[kind])
    first = {'many tasks': 'task_0', 'ways to group': ''}.get(kind, TASKS[0])
    assert seen.values['groups'].startswith(first)
    picture = Image.open(io.BytesIO(seen.picture)).convert('L')
    assert picture.size == window
    assert (picture.getpixel((2, 2)) < 60) == dark
    assert len(picture.getcolors()) > 50, 'something is on it'


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('body', 'complaint'),
    [
        ('<script>undefined.call()</script>', 'script'),
        ('<img src="http://127.0.0.1:9/x.png" alt="">', 'http://127.0.0.1:9'),
    ],
)
def test_what_a_page_may_not_do_is_seen(body, complaint, chromium, tmp_path):
    """So that the test above is not one that nothing can fail; the policy of pages works."""
    text = report.html_page(report.read(make_run(tmp_path / 'run', RESULTS)))
    (tmp_path / 'page.html').write_text(text.replace('</body>', f'{body}</body>'))
    seen = chromium.look(tmp_path / 'page.html', *DESK, False, {'not drawn': NOT_DRAWN})
    assert complaint in ''.join(seen.complaints)
    assert bool(seen.values['not drawn']) == body.startswith('<img')


def test_texts_that_are_hard_to_read_are_seen(chromium, tmp_path):
    """Grey on white is; black is not, nor is what nobody sees."""
    pale = '<p style="color: #999{}">{}</p>'
    body = '<p>black</p>' + pale.format('', 'grey') + pale.format('; visibility: hidden', 'none')
    (tmp_path / 'page.html').write_text(f'<body style="background: white">{body}</body>')
    questions = {'hard to read': browser.HARD_TO_READ}
    seen = chromium.look(tmp_path / 'page.html', *DESK, False, questions)
    assert seen.values['hard to read'] == [pale.format('', 'grey')]
