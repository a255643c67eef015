import csv
import itertools
import json

import numpy as np
import pytest

from tag_jax import report, selection

NAN = np.nan
LETTERS = ('semantic', 'depth', 'edges')


@pytest.fixture(scope='module')
def candidates():
    return selection.Candidates(
        [[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 0], [1, 0, 1]],
        [[3, 3, 3], [2, NAN, NAN], [NAN, 1, 2], [1, 4, NAN], [4, NAN, 1]],
        [1, 0.5, 1, 1, 1],
        LETTERS,
    )


@pytest.fixture(scope='module')
def choices(candidates):
    return selection.trade_off(candidates, [1, 1.5, 2])


def test_notation(candidates):
    selected = selection.select_networks(candidates, 1.5)
    assert report.notation(selected, candidates) == 'S(0.5), DE'
    served = selection.serve(candidates, [3, 2])
    assert report.notation(served, candidates) == 'Sd, DE'


@pytest.mark.parametrize(
    ('names', 'signs'),
    [
        (('depth', 'edges'), ['D', 'E']),
        (('edges', 'Edge maps', 'depth'), ['T0', 'T1', 'T2']),
        (('left_digit', 'left_even'), ['T0', 'T1']),
        (('a1', 'a2'), ['T0', 'T1']),
    ],
)
def test_letters_tell_tasks_apart(names, signs):
    assert report.trade_off.letters(names) == signs


def test_methods_and_totals(candidates, choices):
    totals = {(choice.method, choice.budget): choice.total for choice in choices}
    assert totals['optimal', 1] == totals['all_in_one', 2] == totals['hoa', 1] == 9
    assert totals['optimal', 1.5] == 5
    assert totals['optimal', 2] == 4
    assert not any(method in ('esa', 'independent') for method, _ in totals)
    early = candidates.replace(scores=-candidates.scores)
    found = selection.trade_off(candidates, 2, early=early)
    assert [choice.total for choice in found if choice.method == 'esa'] == [7]


def test_tables(candidates, choices):
    text = report.totals_table(choices)
    assert text.splitlines()[0].split() == ['budget', '1', '1.5', '2']
    assert 'optimal                     9.00000  5.00000  4.00000' in text
    text = report.choices_table(choices, candidates)
    assert '1.5     S(0.5), DE' in text


def test_files(candidates, choices, tmp_path):
    text = report.write_trade_off(tmp_path, choices, candidates, {'budget': [1, 1.5, 2]})
    assert 'optimal' in text
    with (tmp_path / 'choices.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(choices)
    assert rows[1] == {
        'method': 'optimal',
        'budget': '1.5',
        'cost': '1.5',
        'networks': 'S(0.5), DE',
        'semantic': '2.0',
        'depth': '1.0',
        'edges': '2.0',
        'total': '5.0',
        'optimal': 'True',
        'bound': '5.0',
    }
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['task_names'] == list(LETTERS)
    best = results['choices'][1]
    assert best['networks'][1] == {
        'name': 'network 2',
        'cost': 1.0,
        'tasks': ['depth', 'edges'],
        'serves': ['depth', 'edges'],
    }
    assert best['scores'] == {'semantic': 2, 'depth': 1, 'edges': 2}
    for name in ('trade_off.png', 'choices.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')


def test_pictures_hold_every_method_and_choice(candidates, choices):
    (axes,) = report.trade_off_figure(choices).axes
    methods = {choice.method for choice in choices}
    assert len(axes.get_lines()) == len(methods)
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}
    assert lines['optimal'] == [9, 5, 4]
    figure = report.choices_figure(choices, candidates)
    assert len(figure.axes) == 3 * 3
    (legend,) = figure.legends
    assert [entry.get_text() for entry in legend.texts] == [
        'serves', 'trains only', 'cost 1', 'cost 0.5',
    ]  # fmt: skip
    assert legend.get_title().get_text() == 'S: semantic, D: depth, E: edges'
    # A dot in the legend is as large as those it explains.
    whole, half = (entry.get_markersize() ** 2 for entry in legend.legend_handles[2:])
    drawn = {area for axes in figure.axes for dot in axes.collections for area in dot.get_sizes()}
    assert sorted(drawn) == pytest.approx([half, whole])
    assert half == pytest.approx(whole / 2)
    served = [line for line in figure.axes[3].get_lines() if line.get_linestyle() == '-']
    assert len(served) == 3


def test_every_method_has_a_colour_and_a_marker_of_its_own():
    styles = report.trade_off._STYLES.values()
    for part in ('color', 'marker'):
        assert len({style[part] for style in styles}) == len(report.trade_off.NAMES)


def test_reasons_for_what_is_left_out(candidates):
    found = selection.explained_trade_off(candidates, [0.5, 1, 2])
    assert found.choices == [] or {choice.budget for choice in found.choices} == {1, 2}
    reasons = {(left.method, left.budget): left.reason for left in found.left_out}
    assert reasons[None, 0.5].endswith('the least budget that does is 1')
    assert "'semantic' has no network" in reasons['independent_equal', 2]
    assert 'no candidate may serve' in reasons['independent', 1]
    two_prices = candidates.replace(costs=[1, 0.5, 2, 1, 1])
    left = selection.explained_trade_off(two_prices, 2).left_out
    (reason,) = [one.reason for one in left if one.method == 'hoa']
    assert reason.startswith('networks of two tasks cost 1 and 2')
    with pytest.raises(selection.Infeasible, match='the least budget that does is 1'):
        selection.explained_trade_off(candidates, [0.25, 0.5])
    means = selection.explained_mean_trade_off(candidates, [0.5, 1], 3)
    assert {left.method for left in means.left_out if left.budget == 0.5} == {None}


def test_every_method_keeps_weights_limits_and_rules(candidates):
    weights = {'semantic': 10, 'depth': 0.5}
    for choice in selection.trade_off(candidates, 2, task_weights=weights):
        if choice.selected is not None:
            assert choice.total == pytest.approx(choice.outcomes @ [10, 0.5, 1])
    best = selection.select_networks(candidates, 2, task_weights=weights)
    optimal = selection.trade_off(candidates, 2, task_weights=weights)[0]
    assert optimal.selected.networks == best.networks
    for options in ({'must_link': [('depth', 'edges')]}, {'limits': {'semantic': 2.5}}):
        choices = selection.trade_off(candidates, 2, **options)
        assert choices[0].total == selection.select_networks(candidates, 2, **options).objective
        for choice in choices:
            for group in choice.selected.groups if choice.selected else ():
                assert 'must_link' not in options or (1 in group) == (2 in group)
            if choice.outcomes is not None and 'limits' in options:
                assert choice.outcomes[0] <= 2.5


def test_other_networks_are_refused(candidates):
    with pytest.raises(ValueError, match='outcomes must be scores of the same networks'):
        selection.trade_off(candidates, 1, candidates.take([0, 1]))
    with pytest.raises(ValueError, match='no selection within|or less may serve'):
        selection.trade_off(candidates, [0.5, 1])


def test_of_networks_with_the_same_tasks_the_chosen_one_counts():
    members = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], bool)
    scores = np.where(members, [[1.0, 1], [0.1, 1], [1, 1], [5, 5]], NAN)
    found = selection.trade_off(selection.Candidates(members, scores, np.ones(4), ('a', 'b')), 2)
    totals = {choice.method: choice.total for choice in found}
    assert totals['hoa'] == totals['optimal'] == pytest.approx(1.1)


def test_missing_outcomes_are_named(candidates):
    scores = candidates.scores.copy()
    scores[0, 1] = NAN
    with pytest.raises(ValueError, match="outcomes lack a score of 'network 0' on 'depth'"):
        selection.trade_off(candidates, 1, candidates.replace(scores=scores))
    for budgets, message in (([], 'budgets is empty'), ([1, np.inf], 'must be finite')):
        with pytest.raises(ValueError, match=message):
            selection.trade_off(candidates, budgets)


def test_a_task_may_be_called_like_a_column(tmp_path):
    odd = selection.Candidates([[1, 1]], [[1.0, 2.0]], [1], ('budget', 'total'))
    report.write_trade_off(tmp_path, selection.trade_off(odd, 1), odd, {})
    with (tmp_path / 'choices.csv').open() as file:
        row = next(csv.DictReader(file))
    assert (row['budget'], row['task budget'], row['total']) == ('1.0', '1.0', '3.0')


def test_means_keep_the_weights_limits_and_links_of_their_tasks():
    """Against the selections for each set of three of four tasks, with what concerns it."""
    names = ('a', 'b', 'c', 'd')
    members = np.array(list(itertools.product([0, 1], repeat=4))[1:], bool)
    scores = np.where(members, np.random.default_rng(2).uniform(size=members.shape), NAN)
    candidates = selection.Candidates(members, scores, np.ones(15), names)
    options = {
        'task_weights': {'a': 10, 'd': 0.5},
        'limits': {'b': 0.8},
        'must_link': [('a', 'b')],
        'cannot_link': [('c', 'd')],
    }

    def by_hand(**options):
        totals = []
        for tasks in itertools.combinations(names, 3):
            own = {
                'task_weights': {t: w for t, w in options['task_weights'].items() if t in tasks},
                'limits': {t: x for t, x in options.get('limits', {}).items() if t in tasks},
            }
            for rule in ('must_link', 'cannot_link'):
                inside = [[t for t in link if t in tasks] for link in options.get(rule, ())]
                own[rule] = [link for link in inside if len(link) > 1]
            best = selection.select_networks(candidates.only(tasks), 2, **own)
            totals.append(best.objective)
        return np.mean(totals)

    plain, means = {'task_weights': options['task_weights']}, set()
    for given in (options, *({**plain, name: options[name]} for name in options)):
        found = selection.mean_trade_off(candidates, 2, 3, **given)
        (mean,) = [one.total for one in found if one.method == 'optimal']
        assert mean == pytest.approx(by_hand(**given))
        means.add(round(mean, 9))
    assert len(means) == 5, 'each of them matters here'
    with pytest.raises(selection.Infeasible, match='of the tasks a, b, c: no candidate may serve'):
        selection.mean_trade_off(candidates, 2, 3, limits={'b': 0})
    with pytest.raises(ValueError, match="task_weights name 'x', which is not among"):
        selection.mean_trade_off(candidates, 2, 3, task_weights={'x': 1})
