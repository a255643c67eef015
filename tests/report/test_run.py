import html.parser

import numpy as np
import pytest

from tag_jax import affinity, report, workdir

NAMES = ['a', 'b', 'c']
RESULTS = {
    'dataset': 'letters',
    'method': 'tag',
    'budget': 2,
    'seed': 0,
    'task_names': NAMES,
    'groups': [
        {'tasks': ['a', 'b'], 'serves': ['a', 'b'], 'network': 'network_0'},
        {'tasks': ['a', 'c'], 'serves': ['c'], 'network': 'network_1'},
    ],
    'test_error': {'a': 1.0, 'b': 2.0, 'c': 3.25},
    'total_test_error': 6.25,
    'baselines': {'mtl': {'test_error': {'a': 2.0, 'b': 4.0, 'c': 4.0}, 'total_test_error': 10.0}},
    'cost': {'search_steps': 20, 'search_seconds': 1.25},
    'remarks': ['It may be <chance>.'],
}


def records(network, tasks, steps):
    return [
        {
            'network': network,
            'step': step,
            'training_loss': {task: 1 / step if step > 10 else None for task in tasks},
            'validation_error': {task: 100 / step for task in tasks},
            'total_validation_error': 100 * len(tasks) / step,
        }
        for step in range(10, steps + 1, 10)
    ]


def all_records(results=RESULTS):
    lines = records('mtl', results['task_names'], 50)
    for n, group in enumerate(results['groups']):
        if group['network'] != 'mtl':
            lines += records(group['network'], group['tasks'], 40 + 20 * n)
    return lines


def make_run(path, results=RESULTS, matrix=None):
    names = results['task_names']
    size = len(names)
    history = np.random.default_rng(0).normal(size=(5, size, size)) if matrix is None else matrix
    summary = affinity.summary(
        affinity.AffinityStatistics(tuple(names), tuple(range(len(history))), tuple(history))
    )
    workdir.open_run(path, {'dataset': '<b>letters</b>', 'steps': 20, 'examples': {'train': 3}})
    workdir.write_affinity(path / 'affinity.npz', summary)
    workdir.write_json(path / 'results.json', results)
    workdir.write_records(path / 'metrics.jsonl', all_records(results))
    return path


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
    assert page.tags.count('img') == 3
    assert all(link.startswith('data:') for link in page.links), 'it needs no other file'
    assert '<b>letters</b>' in page.text, 'what a user names is escaped'
    for cell in ('3.25', '6.25', '10.00', 'all together', '37.5 % lower'):
        assert cell in page.text


def test_the_table(tmp_path):
    assert report.text_table(RESULTS) == '\n'.join(
        [
            'Train together:',
            '  1  a, b',
            '  2  c (with the help of a)',
            '',
            'Total test error 6.25 %, against 10.00 % for one network of all tasks: 37.5 % lower.',
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
    assert '12.00 %, against 10.00 % for one network of all tasks: 20.0 % higher.' in (
        report.gain_sentence(worse)
    )
    assert report.gain_sentence({**RESULTS, 'baselines': {}}) == 'Total test error 6.25 %.'


@pytest.mark.parametrize('size', [1, 2, 12, 40])
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
    rows = [line.split() for line in text.splitlines()]
    assert [row[0] for row in rows if row and row[0].startswith('task_')] == names
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
        ({'affinity_kind': 'cosine', 'affinity_step': 'optimizer'}, ['The cosine']),
        (
            {'affinity_kind': 'first_order', 'affinity_step': 'optimizer', 'affinity_every': 5},
            ['to first order, with the step of the optimizer', 'every 5 steps.'],
        ),
        ({'affinity_split': 'validation'}, ['compared on batches of the validation split']),
        ({'affinity_window': [0.25, 0.5]}, ['between 25 and 50 % of its largest number of']),
        ({'affinity': 'other.csv (1a)', 'affinity_kind': 'cosine'}, ['Measured elsewhere: other']),
    ],
)
def test_the_report_says_what_was_measured(config, parts):
    sentence = report.measured_sentence(config)
    assert all(part in sentence for part in parts)
    assert ('step of the optimizer' in sentence) == (config.get('affinity_kind') == 'first_order')
