import itertools

import numpy as np
import pytest

from tag_jax import report
from tag_jax.comparison import Comparison, CrossFitted, Outcome, differences, summary
from tag_jax.report import differences as differences_of
from tag_jax.report.styles import style
from tag_jax.runs import storage
from tag_jax.tables import text_table


def outcomes():
    """Two budgets and two seeds: TAG gains 10 % and 20 % over random, 20 % and 40 % over MTL."""
    found = []
    for budget in (2, 3):
        for seed, gain in ((0, 10.0), (1, 20.0)):
            common = {'budget': budget, 'seed': seed, 'validation_error': 50.0}
            for method, error, steps in (
                ('all_in_one', 100 * (100 - gain) / (100 - 2 * gain), 0.0),
                ('tag', 100 - gain, 1.0),
                ('random', 100.0, 0.0),
            ):
                groups = () if method == 'random' else (('a', 'b'), ('c',))
                found.append(
                    Outcome(
                        method=method,
                        groups=groups,
                        cost=2.0,
                        steps=steps,
                        seconds=2 * steps,
                        test_error=error + 1,
                        fresh_errors={1 - seed: error},
                        **common,
                    )
                )
    return tuple(found)


OPTIMA = {budget: CrossFitted(70.0, ((('a',), ('b', 'c')),)) for budget in (2, 3)}
WHOLE = Comparison(outcomes(), OPTIMA, {'tag': np.array([0.5, np.nan, 0.7])})


def line(method, budget, comparison=WHOLE):
    (found,) = (one for one in summary(comparison) if (one.method, one.budget) == (method, budget))
    return found


@pytest.mark.parametrize('budget', [2, 3, None])
def test_gains_are_paired_by_seed(budget):
    found = line('tag', budget)
    assert found.error[0] == pytest.approx(85)
    assert found.over_random[0] == pytest.approx(15)
    assert found.over_all_in_one[0] == pytest.approx(100 * (1 - 85 / ((112.5 + 133 + 1 / 3) / 2)))
    assert np.isnan(found.error[1]), 'of two seeds, nothing is left to judge one alone'
    assert found.share == pytest.approx(0.5)
    assert (found.steps, found.seconds) == (1, 2)
    assert (found.expected, found.own) == (50, 86)


def test_without_other_seeds_the_networks_of_the_search_count():
    bare = Comparison(tuple(o._replace(fresh_errors={}) for o in outcomes()), {}, {})
    assert line('tag', 2, bare).error == pytest.approx((86, 5))
    assert line('tag', 2, bare).over_random == pytest.approx((100 * (1 - 86 / 101), 500 / 101))
    assert line('tag', 2, bare).share is None
    one_seed = Comparison(tuple(o for o in bare.outcomes if not o.seed), {}, {})
    assert np.isnan(line('tag', 2, one_seed).error[1])
    assert '±' not in report.comparison_table(summary(one_seed))
    assert 'optimum' not in report.comparison_table(summary(one_seed)), 'nothing is known of it'


def fictive(errors, seeds=1, splits=1, expected=None, **entries):
    """A comparison without networks of other seeds: `{method: error of each search}`."""
    searches = [(split, seed) for split in range(splits) for seed in range(seeds)]
    return Comparison(
        tuple(
            Outcome(
                method=method,
                **{'budget': 2, 'seed': seed, 'split': split, 'groups': (('a', 'b'), ('c',))},
                **{'cost': 2.0, 'steps': 1.0, 'seconds': 2.0, 'fresh_errors': {}},
                validation_error=(expected or {}).get(method, float(np.mean(own))),
                test_error=own[n],
                **entries,
            )
            for method, own in errors.items()
            for n, (split, seed) in enumerate(searches)
        ),
        *({}, {}),
    )


@pytest.mark.variants(1)
@pytest.mark.parametrize(('seeds', 'splits'), [(1, 1), (1, 2), (3, 1), (2, 2)])
def test_no_column_repeats_another(seeds, splits, tmp_path):
    """Without networks of other seeds, total test errors are those of the chosen networks."""
    count = seeds * splits
    errors = {'tag': [80.0 + n for n in range(count)], 'random': [90.0] * count}
    found = fictive(errors, seeds, splits)
    lines = summary(found)
    assert all(line.error[0] == pytest.approx(line.own) for line in lines)
    assert not any(line.afresh for line in lines)
    text = report.write_comparison(tmp_path, found, ['a', 'b', 'c'], {'dataset': 'letters'})
    page = (tmp_path / 'report.html').read_text()
    (header, *_) = (tmp_path / 'comparison.csv').read_text().splitlines()
    for told in (text, page):
        assert 'of other seeds, which had no part' not in told
        assert 'Total test error: of those networks as well.' in ' '.join(told.split())
        assert 'share of' not in told, 'the optimum is not known'
    assert not {'own', 'share of optimum', 'below all in one (%)'} & set(header.split(','))


def test_networks_of_other_seeds_have_a_column_of_their_own():
    assert all(one.afresh for one in summary(WHOLE))
    text = ' '.join(report.comparison_table(summary(WHOLE)).split())
    assert 'is that of networks of other seeds, which had no part in the choice.' in text
    assert ' own ' in text


NOISE = [0.0, 1.0, -1.0]


@pytest.mark.variants(1)
@pytest.mark.parametrize(
    ('means', 'noise', 'sentence'),
    [
        (
            {'all_in_one': 90.0, 'tag': 80.0, 'random': 85.0},
            0.1,
            'That is lower than all_in_one, the baseline that validation prefers, by 10.00 points',
        ),
        (
            {'all_in_one': 90.0, 'single_task': 84.0, 'tag': 80.0, 'random': 82.0},
            50.0,
            'Its difference from single_task, the baseline that validation prefers, cannot be told',
        ),
        (
            {'all_in_one': 80.0, 'tag': 90.0, 'random': 95.0},
            0.1,
            'That is lower than tag, the other way that validation prefers, by 10.00 points',
        ),
        (
            {'all_in_one': 80.0, 'recommended': 80.0, 'random': 95.0},
            0.0,
            'That is the same as recommended, the other way that validation prefers: it cannot be',
        ),
    ],
)
def test_the_headline_says_whether_it_can_be_told_from_not_grouping(
    means, noise, sentence, tmp_path
):
    shifts = np.array(NOISE) * noise
    errors = {
        # (Each with another order of noise, so that differences have some.)
        name: list(mean + np.roll(shifts, n))
        for n, (name, mean) in enumerate(means.items())
    }
    found = fictive(errors, seeds=3, expected=means)
    text = report.write_comparison(tmp_path, found, ['a', 'b', 'c'], {'dataset': 'letters'})
    headline = f'Validation prefers {min(means, key=means.get)} at budget 2: total test error 80.00'
    page = (tmp_path / 'report.html').read_text()
    assert text.startswith(headline)
    assert max(map(len, text.splitlines())) <= 100
    for told in (text, page):
        assert sentence in ' '.join(told.split())
        assert told.index(headline) < told.index('One against' if told == page else '---')


def test_the_headline_of_one_seed_says_that_nothing_is_known():
    found = fictive({'all_in_one': [90.0], 'tag': [80.0], 'random': [85.0]})
    assert differences_of.verdict_sentence(found) == (
        'Whether that differs from all_in_one, the baseline that validation prefers, is not known: '
        'there are no intervals.'
    )


def test_chosen_groups_say_what_serves_and_what_it_costs(tmp_path):
    found = fictive(
        {'tag': [80.0, 81.0], 'random': [90.0, 91.0]},
        seeds=2,
        serves=(('a',), ('c',)),
        costs=(1.0, 1.99),
    )
    report.write_comparison(tmp_path, found, ['a', 'b', 'c'], {'dataset': 'letters'})
    page = (tmp_path / 'report.html').read_text()
    assert 'a (with the help of b) | c (on 1.99 of a standard network)' in page
    kept = storage.read_json(tmp_path / 'results.json')['outcomes'][0]
    assert (kept['serves'], kept['costs']) == ([['a'], ['c']], [1.0, 1.99])
    assert report.group_lines({'groups': [{'tasks': ['a'], 'serves': []}]}) == [
        'no task (with the help of a)'
    ]


@pytest.mark.parametrize(
    'costs',
    [
        [1.0],
        [3.0],
        [0.03, 0.4],
        [1.0, 1.2, 1.5],
        [1.0, 4.0, 19.0],
        [1.0, 3.0, 19.0, 173.0],
        [0.01, 1e6],
        [0.001, 1e12],
    ],
)
def test_ticks_of_costs_can_be_read(costs):
    """Labels stand apart, narrow ranges have some, and minor ticks have none."""
    errors = {f'way_{n}': [80.0 + n] for n in range(len(costs))} | {'random': [90.0]}
    found = fictive(errors)
    steps = dict(zip(errors, [*costs, 0.0], strict=True))
    outcomes = [one._replace(steps=steps[one.method], seconds=1.0) for one in found.outcomes]
    figure = report.costs_figure(summary(found._replace(outcomes=tuple(outcomes))))
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert not any(one.get_text() for one in axes.get_xticklabels(minor=True))
        labels = [one for one in axes.get_xticklabels() if low <= one.get_position()[0] <= high]
        assert len(labels) >= 2, 'none, and a number'
        boxes = sorted((one.get_window_extent() for one in labels), key=lambda box: box.x0)
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ('budgets', 'costs', 'ticks'),
    [
        ((2,), {'all_in_one': 1.0, 'tag': 2.0, 'random': 2.0}, [1, 2]),
        ((2,), {'all_in_one': 1.0, 'tag': 1.99, 'random': 2.0}, [1, 2]),
        ((2,), {'recommended': 1.5, 'all_in_one': 1.0, 'random': 2.0}, [1, 1.5, 2]),
        ((2,), {'tag': 2.0, 'random': 2.0}, [2]),
        ((2, 3), {'all_in_one': 1.0, 'tag': None, 'random': None}, [1, 2, 3]),
    ],
)
def test_every_cost_at_inference_has_a_tick(budgets, costs, ticks):
    found = fictive({name: [80.0] for name in costs})
    outcomes = [
        one._replace(budget=budget, cost=costs[one.method] or float(budget))
        for one in found.outcomes
        for budget in budgets
    ]
    (axes,) = report.budgets_figure(summary(found._replace(outcomes=tuple(outcomes)))).axes
    assert list(axes.get_xticks()) == ticks
    assert [one.get_text() for one in axes.get_xticklabels()] == [f'{tick:g}' for tick in ticks]


def test_the_table_fits_a_terminal_and_its_columns_are_explained():
    long = tuple(o._replace(method=o.method.replace('tag', 'a_long_name' * 3)) for o in outcomes())
    for comparison in (WHOLE, Comparison(long, OPTIMA, {})):
        text = report.comparison_table(summary(comparison))
        assert max(map(len, text.splitlines())) <= 100
        for column in ('budget', 'in one', 'optimum', 'search', 'time', 'expected', 'own'):
            assert column in text, column
        table, told = text.rpartition('\n\n')[::2]
        assert told.startswith('Search and time: ')
        assert {'Expected:', 'Own:'} <= set(told.split())
        assert table.count('all_in_one') in (3, 6), 'once, or again where the table goes on below'


@pytest.mark.parametrize('columns', [2, 9, 30])
def test_a_wide_table_goes_on_below_itself(columns):
    header = ['name', *(f'of\n{n}' for n in range(columns))]
    rows = [[name, *(f'{name}{n:06}' for n in range(columns))] for name in 'ab']
    text = text_table(header, rows)
    assert max(map(len, text.splitlines())) <= 100
    for name in 'ab':
        lines = [line.split() for line in text.splitlines() if line.startswith(name)]
        assert [cell for _, *cells in lines for cell in cells] == rows['ab'.index(name)][1:]
    assert len(text.split('\n\n')) == -(-columns // 10)


def test_errors_allow_for_networks_that_judge_several_searches():
    """Groups that are the same for all seeds: the error is that of the mean over networks."""
    networks = np.array([10.0, 12.0, 17.0, 11.0])
    outcomes = tuple(
        Outcome(
            *('all_in_one', 2, seed, (('a',),), 1.0, 0.0, 0.0, 0.0, networks[seed]),
            {other: networks[other] for other in range(4) if other != seed},
        )
        for seed in range(4)
    )
    same = tuple(outcome._replace(method='random') for outcome in outcomes)
    found = line('all_in_one', 2, Comparison(outcomes + same, {}, {}))
    assert found.error == pytest.approx((12.5, networks.std(ddof=1) / 2))
    assert found.over_random == (0, 0)


def test_differences_are_of_the_same_networks():
    """A method that is a point worse on every network is worse by a point, without an error."""
    networks = np.array([10.0, 12.0, 17.0, 11.0])
    both = [
        Outcome(
            *(method, 2, seed, (('a',),), 1.0, 0.0, 0.0, 0.0, networks[seed] + more),
            {other: networks[other] + more for other in range(4) if other != seed},
        )
        for method, more in (('tag', 0.0), ('hoa', 1.0))
        for seed in range(4)
    ]
    found = differences(Comparison(tuple(both), {}, {}))
    assert found['hoa', 'tag'][2:4] == pytest.approx((1, 0))
    assert found['tag', 'hoa'][2:4] == pytest.approx((-1, 0))


@pytest.mark.variants(1)
@pytest.mark.parametrize('comparison', [WHOLE, Comparison(outcomes(), {}, {})])
def test_what_is_written(tmp_path, comparison):
    text = report.write_comparison(tmp_path, comparison, ['a', 'b', 'c'], {'dataset': 'letters'})
    assert '85.00' in text
    assert ('70.00 % at 2' in text) == bool(comparison.optima)
    assert {file.name for file in tmp_path.iterdir()} == {
        'costs.svg', 'costs.pdf', 'budgets.svg', 'budgets.pdf', 'comparison.csv', 'comparison.tex',
        'results.json', 'costs.png', 'budgets.png', 'report.html',
    }  # fmt: skip
    results = storage.read_json(tmp_path / 'results.json')
    assert len(results['outcomes']) == len(comparison.outcomes)
    page = (tmp_path / 'report.html').read_text()
    assert page.count('<svg') == 2
    assert 'One against the other' in page
    assert 'a, b | c' in page


def test_the_pictures_show_every_method():
    lines = summary(WHOLE)
    costs = report.costs_figure(lines)
    labels = {text.get_text() for text in costs.legends[0].get_texts()}
    assert labels == {'all_in_one', 'tag', 'random'}
    budgets = report.budgets_figure(lines).axes[0]
    assert list(budgets.get_xticks()) == [2, 3]


def test_many_methods_can_be_told_apart():
    """Fourteen methods have different pairs of a colour and a marker."""
    looks = [tuple(style(number).values()) for number in range(14)]
    assert len(set(looks)) == 14
    assert len({marker for _, marker in looks}) == 8
