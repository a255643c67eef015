import base64
import csv
import html.parser
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from finished_runs import NAMES, RESULTS, all_records, make_run, results_of

from tag_jax import report, selection
from tag_jax.report import configs, words
from tag_jax.report.alternatives import runner_ups
from tag_jax.report.downloads import latex
from tag_jax.report.similarity import leaves, linkage
from tag_jax.runs import affinity_files


class Page(html.parser.HTMLParser):
    """The tags, the links and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.open, self.text = [], [], [], ''
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ('meta', 'link', 'img'):
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ('src', 'href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_run_is_drawn(tmp_path):
    path = make_run(tmp_path / 'run')
    text = report.write(path)
    assert text.endswith(f'report: {path / "report.html"}')
    for name in ('affinity.png', 'groups.png', 'curves.png'):
        picture = (path / name).read_bytes()
        assert picture.startswith(b'\x89PNG')
        assert len(picture) > 5000
    page = Page((path / 'report.html').read_text())
    assert not page.open
    assert 'img' not in page.tags, 'pictures follow the colours of the page'
    assert page.tags.count('figure') == 2 + 3 * len(NAMES), 'curves and affinities over training'
    assert all(link.startswith(('data:', '#')) for link in page.links), 'it needs no other file'
    assert '<b>letters</b>' in page.text, 'what a user names is escaped'
    for cell in ('3.25', '6.25', '10.00', 'all together', '37.5 % lower'):
        assert cell in page.text


def test_the_table(tmp_path):
    assert report.result_text(RESULTS) == '\n'.join(
        [
            'Train together:',
            '  1  a, b',
            '  2  c (with the help of a)',
            '',
            'Total test error 6.25 %, against 10.00 % for one network of all tasks: 37.5 % lower '
            'with this seed.',
            '',
            'task   network  groups  all together',
            '------------------------------------',
            'a      1          1.00          2.00',
            'b      1          2.00          4.00',
            'c      2          3.25          4.00',
            '------------------------------------',
            'total             6.25         10.00',
            '',
            'It may be <chance>.',
        ]
    )
    worse = {**RESULTS, 'total_test_error': 12.0}
    assert (
        '12.00 %, against 10.00 % for one network of all tasks: 20.0 % higher with this seed.'
        in (report.gain_sentence(worse))
    )
    assert report.gain_sentence({**RESULTS, 'baselines': {}}) == 'Total test error 6.25 %.'


@pytest.mark.variants(1)
@pytest.mark.parametrize('size', [1, 2, pytest.param(40, marks=pytest.mark.sweep)])
def test_any_number_of_tasks(tmp_path, size):
    names = [f'task_{n}' for n in range(size)]
    errors = dict.fromkeys(names, 0.0)
    results = {
        **RESULTS,
        'task_names': names,
        'groups': [{'tasks': names, 'serves': names, 'network': 'mtl'}],
        'test_error': errors,
        'total_test_error': 0.0,
        'baselines': {'mtl': {'test_error': errors, 'total_test_error': 0.0}},
    }
    text = report.write(make_run(tmp_path / 'run', results))
    # (Lists of tasks fold at 100 columns, and go on with names and commas.)
    rows = [line.split() for line in text.splitlines() if ',' not in line]
    assert [row[0] for row in rows if len(row) > 1 and row[0] in names] == names
    axes = report.affinity_figure(np.zeros((size, size)), names).axes[0]
    assert len(axes.texts) == (size * (size - 1) if size <= 20 else 0)


def test_names_are_no_formulas(tmp_path):
    names = [r'$\frac$', '<i>b</i>', 'c_1^2']
    rename = dict(zip(NAMES, names, strict=True))
    results = {
        **RESULTS,
        'task_names': names,
        'groups': [
            {**group, **{kind: [rename[t] for t in group[kind]] for kind in ('tasks', 'serves')}}
            for group in RESULTS['groups']
        ],
        'test_error': dict(zip(names, (1.0, 2.0, 3.0), strict=True)),
        'baselines': {},
    }
    path = make_run(tmp_path / 'run', results)
    assert r'$\frac$' in report.write(path)
    assert '<i>b</i>' in Page((path / 'report.html').read_text()).text


def test_a_single_evaluation_is_a_dot():
    figure = report.curves_figure(RESULTS, [r for r in all_records() if r['step'] == 20])
    lines = [line for axes in figure.subfigs[1].axes for line in axes.get_lines()]
    assert lines
    assert all(line.get_marker() == 'o' for line in lines)


def test_runs_that_have_not_finished_are_refused(tmp_path):
    with pytest.raises(ValueError, match='holds no finished run'):
        report.write(tmp_path)


def test_what_cannot_be_written_is_named(tmp_path):
    path = make_run(tmp_path / 'run')
    (path / 'groups.png').mkdir()
    with pytest.raises(OSError, match='cannot write .*groups.png .*: copy the run to a folder'):
        report.write(path)


@pytest.mark.variants(1)
@pytest.mark.parametrize('matrix', [np.zeros((2, 3, 3)), np.full((2, 3, 3), np.nan)])
def test_affinities_without_a_scale(tmp_path, matrix):
    assert report.write(make_run(tmp_path / 'run', matrix=matrix))


def test_the_heat_map_is_annotated():
    mean = np.array([[9.0, 0.0012, -0.003], [0.0004, 9.0, np.nan], [-0.00001, 0.002, 9.0]])
    stderr = np.full((3, 3), 0.0001)
    axes = report.affinity_figure(mean, NAMES, stderr).axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {
        (1, 0): '1.20\n±0.10',
        (2, 0): '-3.00\n±0.10',
        (0, 1): '0.40\n±0.10',
        (0, 2): '-0.01\n±0.10',
        (1, 2): '2.00\n±0.10',
    }
    image = axes.images[0]
    assert image.norm.vmin == pytest.approx(-3)
    assert image.norm.vmax == pytest.approx(3)
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    assert 'target' in axes.get_xlabel()
    assert 'source' in axes.get_ylabel()


def test_the_diagram_tells_serving_from_helping():
    axes = report.groups_figure(RESULTS).axes[0]
    styles = [line.get_linestyle() for line in axes.get_lines()]
    assert styles == ['-', '-', ':', '-']


def test_the_heat_map_shows_effects_of_tasks_on_themselves_where_they_count():
    mean = np.array([[0.5, 0.1], [0.2, 0.4]])
    for with_diagonal, cells in ((False, 2), (True, 4)):
        axes = report.affinity_figure(mean, ['a', 'b'], with_diagonal=with_diagonal).axes[0]
        assert len(axes.texts) == cells


@pytest.mark.parametrize(
    ('config', 'parts'),
    [
        ({}, ['one step on the source task', 'averaged over the training']),
        ({'affinity': {'kind': 'cosine', 'step': 'optimizer'}}, ['The cosine']),
        (
            {'affinity': {'kind': 'first_order', 'step': 'optimizer', 'every': 5}},
            ['to first order, with the step of the optimizer', 'every 5 steps.'],
        ),
        ({'affinity': {'split': 'validation'}}, ['compared on batches of the validation split']),
        ({'affinity': {'window': [0.25, 0.5]}}, ['between 25 and 50 % of its largest number of']),
        (
            {'options': {'affinity': 'other.csv (1a)'}, 'affinity': {'kind': 'cosine'}},
            ['Measured elsewhere: other'],
        ),
    ],
)
def test_the_report_says_what_was_measured(config, parts):
    sentence = report.measured_sentence(config)
    assert all(part in sentence for part in parts)
    kind = config.get('affinity', {}).get('kind')
    assert ('step of the optimizer' in sentence) == (kind == 'first_order')


def test_the_page_says_the_decision_first_and_makes_nothing_up(tmp_path):
    run = report.read(make_run(tmp_path / 'run', {**RESULTS, 'confidence': 0.82}))
    text = Page(report.html_page(run)).text
    order = [
        *('Train together', 'a, b', 'c (with the help of a)', '37.5 % lower', 'Standard error'),
        *('Not known from one seed (0)', 'probability of 82 %', 'Cost to find'),
        *('20 training steps, 1.2 s', '\nTest error (%)\n', '\nInter-task affinity\n'),
        *('\nNetworks\n', 'It may be <chance>.', '\nTraining\n'),
        *('\nAffinities over training\n', '\nConfiguration\n', '\nCost\n', '\nTo repeat it\n'),
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_the_heat_map_of_the_page_has_values_to_rest_on(tmp_path):
    matrix = np.tile([[[0, 0.002, -0.001], [0.0005, 0, np.nan], [0.001, 0.001, 0]]], (6, 1, 1))
    text = report.html_page(report.read(make_run(tmp_path / 'run', matrix=matrix)))
    assert 'title="a onto b: 0.002 ± 0 (6 measurements)">2.00<small>' in text
    assert 'title="a onto c: -0.001' in text
    assert text.count('class="first none"') + text.count('class="none"') == 4, 'T + one unknown'
    assert 'in units of 10<sup>\N{MINUS SIGN}3</sup>' in text


@pytest.mark.sweep  # Its short form: test_any_number_of_tasks.
def test_the_page_of_many_tasks_and_networks_stays_small(tmp_path):
    names = [f'task_{n}' for n in range(40)]
    groups = [tuple(names[n : n + 5]) for n in range(0, 40, 5)]
    make_run(tmp_path / 'run', results_of(names, groups))
    page = report.html_page(report.read(tmp_path / 'run'))
    assert len(page) < 1_000_000
    assert 'task_39 onto task_0: ' in page


@pytest.mark.parametrize(
    ('config', 'found'),
    [
        ({'command': 'python -m experiments.tag --seed=3'}, 'python -m experiments.tag --seed=3'),
        (
            {'method': 'hoa', 'budget': 3, 'steps': 20, 'seed': 0, 'weighting': 'mgda_ub'},
            'grouping.group_tasks(problem, dataset, budget=3, method=grouping.hoa(), '
            'config=TrainingConfig(steps=20, weighting=mgda_ub), workdir=...)',
        ),
        (
            {'method': 'pessimal', 'budget': 2},
            'grouping.group_tasks(problem, dataset, budget=2, method=grouping.pessimal(), '
            'workdir=...)',
        ),
        (
            {
                'method': 'esa(fraction=0.5)',
                'options': {'fraction': 0.5},
                'budget': 2,
                'affinity': {'window': [0.0, 1.0], 'every': 5, 'kind': 'exact'},
            },
            'grouping.group_tasks(problem, dataset, budget=2, method=grouping.esa(fraction=0.5), '
            'config=TrainingConfig(affinity=Measurement(every=5)), workdir=...)',
        ),
        ({}, 'grouping.group_tasks(problem, dataset, method=grouping.tag(), workdir=...)'),
    ],
)
def test_what_repeats_a_run(config, found):
    assert configs.command(config) == found


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0.0042, '4 ms'),
        (1.04, '1.0 s'),
        (59, '59 s'),
        (89, '89 s'),
        (600, '10 min'),
        (9000, '2.5 h'),
    ],
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def run_with(**entries):
    """What results.json holds of a run whose groups gain 37.5 %, with other entries."""
    return {**RESULTS, **entries}


@pytest.mark.parametrize(
    ('entries', 'answer'),
    [
        ({}, 'Train together'),
        ({'baselines': {}}, 'Train together'),
        ({'gain_interval': [30.0, 45.0]}, 'Train together'),
        ({'gain_interval': [-1.0, 60.0]}, 'Do not group: no gain over one network'),
        ({'total_test_error': 10.0}, 'Do not group: no gain over one network'),
        ({'total_test_error': 11.0}, 'Do not group: one network for all tasks is better'),
        (
            {'total_test_error': 11.0, 'gain_interval': [-20.0, -1.0]},
            'Do not group: one network for all tasks is better',
        ),
        (
            {'total_test_error': 11.0, 'gain_interval': [-20.0, 1.0]},
            'Do not group: no gain over one network',
        ),
        (
            {'groups': [{'tasks': NAMES, 'serves': NAMES, 'network': 'mtl'}]},
            'Do not group: one network for all tasks',
        ),
    ],
)
def test_not_to_group_is_an_answer(entries, answer):
    results = run_with(**entries)
    assert words.decision(results).startswith(answer)
    assert report.result_text(results).startswith(answer)


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('entries', 'above'),
    [
        ({}, None),
        ({'total_test_error': 11.0}, 'The groups that were trained:'),
        (
            {'groups': [{'tasks': NAMES, 'serves': NAMES, 'network': 'mtl'}]},
            'The network that was trained:',
        ),
    ],
)
def test_the_decision_stands_above_what_was_trained(entries, above, tmp_path):
    results = run_with(**entries)
    page = Page(report.html_page(report.read(make_run(tmp_path / 'run', results))))
    assert f'\n{words.decision(results)}\n' in page.text
    for text in ('The groups that were trained:', 'The network that was trained:'):
        assert (text in page.text) == (text in report.result_text(results)) == (text == above)


@pytest.mark.sweep
@pytest.mark.parametrize('cost', [pytest.param(1, marks=pytest.mark.sweep), 1.99])
def test_one_network_is_not_headed_groups(cost, tmp_path):
    """In tables, curves and files; a wider one is set against a standard one."""
    group = {'tasks': NAMES, 'serves': NAMES, 'network': 'network_0', 'cost': cost}
    path = make_run(tmp_path / 'run', run_with(groups=[group]))
    text = report.write(path)
    assert 'task  network  chosen  all together' in re.sub(' {2,}', '  ', text)
    assert ('for one standard network of all tasks' in text) == (cost != 1)
    assert (path / 'errors.csv').read_text().startswith('task,network,chosen,all together,change')
    page = Page((path / 'report.html').read_text()).text
    assert re.search(r'\bchosen\b', page)
    assert not re.search(r'\n\s*groups\s*\n', page), 'nor the key of the curves'


METRICS = {'a': {'roc_auc': 0.91234}, 'b': {'accuracy': 0.8, 'f1': 0.7}, 'c': {'error': 3.25}}


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('entries', 'shown'),
    [
        ({}, None),
        pytest.param({'metrics': METRICS, 'select_by': 'error'}, None, marks=pytest.mark.sweep),
        ({'metrics': METRICS, 'judged_by': {'a': 'roc_auc'}}, ['roc_auc 0.9123', 'accuracy 0.8']),
        pytest.param(
            {'metrics': METRICS, 'select_by': 'loss'},
            ['accuracy 0.8', 'error 3.25'],
            marks=pytest.mark.sweep,
        ),
    ],
)
def test_measures_stand_beside_what_does_not_tell_them(entries, shown, tmp_path):
    results = run_with(**entries)
    text = re.sub(' +', ' ', report.result_text(results))
    assert ('its value' in text) == (shown is not None)
    path = make_run(tmp_path / 'run', results)
    report.write(path)
    for one in shown or []:
        assert f' {one}\n' in text
        assert one.replace(' ', ',') in (path / 'errors.csv').read_text()


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('entries', 'verdict'),
    [
        pytest.param({}, 'not known', marks=pytest.mark.sweep),
        ({'gain_interval': [-1.0, 60.0]}, 'cannot be told from none'),
        pytest.param({'gain_interval': [30.0, 45.0]}, 'lower', marks=pytest.mark.sweep),
        ({'total_test_error': 11.0, 'gain_interval': [-20.0, -1.0]}, 'higher'),
        pytest.param({'baselines': {}, 'gain_interval': [1.0, 2.0]}, '', marks=pytest.mark.sweep),
    ],
)
def test_runs_side_by_side_say_whether_a_gain_can_be_told(entries, verdict, tmp_path):
    assert words.gain_verdict(run_with(**entries)) == verdict
    paths = [
        make_run(tmp_path / name, run_with(**entries, seed=seed), seed=seed)
        for seed, name in enumerate('xy')
    ]
    text = report.write_runs(paths, tmp_path / 'runs.html')
    assert max(map(len, text.splitlines())) <= 100
    html = re.sub('<style>.*?</style>', '', (tmp_path / 'runs.html').read_text(), flags=re.DOTALL)
    page = Page(html).text
    for found in (text, page):
        assert ('verdict' in found) == bool(verdict)
        assert found.count(verdict) >= (2 if verdict else 0)


@pytest.mark.sweep
def test_every_title_can_be_gone_to(tmp_path):
    text = report.html_page(report.read(make_run(tmp_path / 'run')))
    targets = re.findall(r'href="#([^"]+)"', text)
    assert targets
    assert targets == re.findall(r'<h2 id="([^"]+)">', text)


def test_figures_and_tables_are_there_for_papers(tmp_path):
    path = make_run(tmp_path / 'run')
    report.write(path)
    page = (path / 'report.html').read_text()
    for stem in ('affinity', 'groups', 'curves', 'dendrogram'):
        assert (path / f'{stem}.pdf').read_bytes().startswith(b'%PDF')
        ElementTree.parse(path / f'{stem}.svg')
    given = dict(re.findall(r'<a download="([^"]+)" href="data:[^,]+,([^"]+)"', page))
    assert {'errors.csv', 'errors.tex', 'affinity.csv', 'affinity.tex', 'groups.pdf'} <= set(given)
    for name, data in given.items():
        assert base64.b64decode(data) == (path / name).read_bytes(), name
    with open(path / 'errors.csv', newline='') as file:
        rows = list(csv.reader(file))
    assert rows[0] == ['task', 'network', 'groups', 'all together', 'change']
    assert rows[-1] == ['total', '', '6.25', '10.00', '-3.75']
    mean = affinity_files.read_affinity(path / 'affinity.npz')['mean']
    read = affinity_files.read_affinity(path / 'affinity.csv')
    off = ~np.eye(len(mean), dtype=bool)
    np.testing.assert_allclose(np.asarray(read['mean'])[off], mean[off], rtol=1e-5)


def test_latex_is_escaped_and_aligned():
    rows = [['a_1 & b', '3.1 ± 0.2'], ['total', '\N{MINUS SIGN}4']]
    text = latex(['task', 'error (%)'], rows, totals=True)
    assert text.splitlines()[1:] == [
        r'\begin{tabular}{lr}',
        r'\toprule',
        r'task & error (\%) \\',
        r'\midrule',
        r'a\_1 \& b & 3.1 $\pm$ 0.2 \\',
        r'\midrule',
        r'total & $-$4 \\',
        r'\bottomrule',
        r'\end{tabular}',
    ]


def blocks(size, seed):
    """Affinities of two blocks of tasks that help each other, shuffled, and the blocks."""
    random = np.random.default_rng(seed)
    order = random.permutation(2 * size)
    of_block = order < size
    mean = 0.1 * random.uniform(size=(2 * size, 2 * size))
    return mean + (of_block[:, None] == of_block), of_block


@pytest.mark.parametrize('seed', range(4))
def test_tasks_that_help_each_other_are_leaves_beside_each_other(seed):
    mean, of_block = blocks(4, seed)
    shown = of_block[leaves(mean)]
    assert np.sum(shown[1:] != shown[:-1]) == 1
    first = set(linkage(mean)[0, :2].astype(int))
    mutual = mean + mean.T
    np.fill_diagonal(mutual, -np.inf)
    assert first == set(np.unravel_index(mutual.argmax(), mutual.shape))
    assert leaves(mean[:2, :2]) == [0, 1]
    assert linkage(np.full((4, 4), np.nan)) is None


def test_groups_that_came_next():
    mean, names = np.random.default_rng(0).normal(size=(5, 5)), list('abcde')
    affinities = {'mean': mean, 'task_names': names}
    of = lambda one: [{'tasks': [names[task] for task in group]} for group in one.groups]
    best, second, *_ = selection.select_groups(mean, 2, num_solutions=4)
    found = runner_ups(affinities, of(best), 2, on_validation=False, count=3)
    assert [row[0] for row in found] == ['1', '2', '3', '4']
    assert found[1][1] == ' | '.join(', '.join(group['tasks']) for group in of(second))
    totals = [float(row[2].replace('\N{MINUS SIGN}', '-')) for row in found]
    assert totals == sorted(totals, reverse=True)
    assert runner_ups(affinities, of(second), 2, on_validation=False) == [], 'chosen otherwise'
    assert runner_ups(None, of(best), 2, on_validation=False) == []
