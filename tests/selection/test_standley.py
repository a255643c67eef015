"""Figures that Standley et al. 2020 print, from the losses that they published.

The losses ship with the launcher (tag_jax/launchers/examples): Tables 8 and 9 of the paper, and the
half-size and early-stopping rows published with the authors' MIT-licensed code.
"""

import csv
import itertools
import pathlib

import numpy as np
import pytest
from scipy import stats

from tag_jax import report, selection

EXAMPLES = pathlib.Path(__file__).parents[2] / 'tag_jax' / 'launchers' / 'examples'
BUDGETS = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]

# Table 7, to five places as the published losses give them; HOA at 4 is 0.444 in print.
TOTALS = {
    'optimal': [0.50278, 0.46132, 0.45224, 0.44612, 0.44235, 0.43932, 0.43555, 0.43555, 0.43481],
    'esa': [0.50278, 0.48732, 0.46727, 0.46063, 0.45722, 0.45058, 0.45058, 0.44742, 0.44742],
    'hoa': [0.50278, 0.46132, 0.45474, 0.45050, 0.44875, 0.44489, 0.44112, 0.44532, 0.44176],
}

# Networks in any order, half-size ones with their cost: those of Table 6.
OPTIMAL = [
    'SDNKE',
    'DNKE, S(0.5)',
    'nKE, SDN',
    'nKE, SDn, N(0.5)',
    'nKE, SDn, N',
    'nKE, Snk, Dnk, N(0.5)',
    'nKE, Snk, Dnk, N',
    'nKE, Snk, Dnk, N',
    'nkE, Snk, Dnk, N, K',
]
# Those of Table 6 but at 2, 2.5 and 4, where it prints others.
HIGHER_ORDER = [
    'SDNKE',
    'DNKE, S(0.5)',
    'DNKE, Sn',
    'DnKE, Sn, N(0.5)',
    'DNK, E, Sn',
    'DnK, E, Sn, N(0.5)',
    'Sn, DnK, E, N',
    'Sn, E, K(0.5), Dn, N',
    'Sn, E, K, Dn, N',
]
# Of early stopping the networks that it selects, whichever serve in the end.
EARLY_STOPPING = [
    {'SDNKE'},
    {'SDNK', 'E'},
    {'SDKE', 'NKE'},
    {'SDKE', 'NKE', 'N'},
    {'SDNE', 'SDKE', 'NKE'},
    {'SDNE', 'SDKE', 'NKE', 'N'},
    {'SDNE', 'SDKE', 'NKE', 'N'},
    {'SDNE', 'SDKE', 'NKE', 'N', 'SNK'},
    {'SDNE', 'SDKE', 'NKE', 'N', 'SNK'},
]


@pytest.fixture(scope='module')
def splits():
    return selection.read_candidates(EXAMPLES / 'standley2020_setting1.csv')


@pytest.fixture(scope='module')
def choices(splits):
    found = selection.trade_off(
        splits['validation'], BUDGETS, splits['test'], splits['validation_early_stopped']
    )
    return {(choice.method, choice.budget): choice for choice in found}


def networks(text):
    return sorted(text.split(', '))


@pytest.mark.parametrize('method', TOTALS)
def test_totals_of_table_7(choices, method):
    totals = [choices[method, budget].total for budget in BUDGETS]
    np.testing.assert_allclose(totals, TOTALS[method], atol=1e-5)


@pytest.mark.parametrize(('method', 'expected'), [('optimal', OPTIMAL), ('hoa', HIGHER_ORDER)])
def test_networks_of_table_6(splits, choices, method, expected):
    found = [choices[method, budget].selected for budget in BUDGETS]
    found = [networks(report.notation(one, splits['validation'])) for one in found]
    assert found == [networks(line) for line in expected]


@pytest.mark.parametrize(
    ('budget', 'printed', 'total', 'of_table_7'),
    [
        (2, ['DNK', 'E (cost 0.5)', 'S (cost 0.5)'], 0.46051, 0.455),
        (2.5, ['DNK', 'E (cost 0.5)', 'SN'], 0.45393, 0.451),
        (4, ['SN', 'DK', 'E (cost 1)', 'N (cost 1)'], 0.44401, 0.444),
    ],
)
def test_tables_6_and_7_disagree_on_higher_order_approximation(
    splits, choices, budget, printed, total, of_table_7
):
    """At 2 and 2.5 Table 7 has the total of our networks, at 4 that of the printed ones."""
    validation = splits['validation']
    places = [validation.network_names.index(name) for name in printed]
    assert validation.costs[places].sum() == budget
    served = selection.serve(validation, places)
    of_printed = selection.served_scores(served, splits['test']).sum()
    np.testing.assert_allclose(of_printed, total, atol=1e-5)
    ours = choices['hoa', budget].total
    assert ours < of_printed
    np.testing.assert_allclose(of_printed if budget == 4 else ours, of_table_7, atol=5e-4)


def test_early_stopping_selects_the_networks_of_table_6(splits):
    early = splits['validation_early_stopped']
    for selected, printed in zip(
        selection.select_networks(early, BUDGETS), EARLY_STOPPING, strict=True
    ):
        assert {early.network_names[n].split(' ')[0] for n in selected.networks} == printed


def test_baselines_of_table_7(choices):
    """Random and pessimal as far as the paper's definition goes.

    Its random row is met to 1.4e-3 but for budget 1.5 (0.483 in print, 0.487 over the eleven valid
    selections there are). Its pessimal row is met up to 3.5; from there on it improves, though
    the all-in-one network stays within the budget.
    """
    random = [0.503, 0.483, 0.475, 0.471, 0.467, 0.464, 0.462, 0.460, 0.459]
    found = [choices['random', budget].total for budget in BUDGETS]
    difference = np.abs(np.subtract(found, random))
    assert np.delete(difference, 1).max() < 1.4e-3
    assert difference[1] < 4e-3
    pessimal = [choices['pessimal', budget].total for budget in BUDGETS]
    np.testing.assert_allclose(pessimal[:6], [0.503] * 5 + [0.502], atol=1e-3)
    np.testing.assert_allclose(pessimal, 0.50278, atol=1e-5)
    # Equal networks, of which only those at 2.5 and 5 were published; in print .465 and .448.
    equal = {budget: one.total for (name, budget), one in choices.items() if 'equal' in name}
    assert set(equal) == {2.5, 5}
    np.testing.assert_allclose([equal[2.5], equal[5]], [0.46515, 0.44774], atol=1e-5)
    # Mixed sizes, which are not the paper's (.454 and .448).
    mixed = [choices['independent', budget].total for budget in (2.5, 4, 5)]
    np.testing.assert_allclose(mixed, [0.46515, 0.45210, 0.44854], atol=1e-5)
    np.testing.assert_allclose(choices['all_in_one', 1].total, 0.503, atol=5e-4)
    assert ('independent', 2.0) not in choices


def test_pair_gains_of_tables_2_and_3(splits):
    gains = selection.pair_gains(splits['test'])
    printed = [
        [np.nan, -5.41, -11.29, -4.32, -34.64],
        [4.17, np.nan, -3.55, 3.49, 3.76],
        [8.50, 2.48, np.nan, 1.37, 12.33],
        [4.82, 1.38, -0.02, np.nan, -5.26],
        [3.07, -0.92, -4.42, 1.37, np.nan],
    ]
    np.testing.assert_allclose(gains, printed, atol=0.005)
    np.testing.assert_allclose(
        np.nanmean(gains, axis=1), [-13.92, 1.97, 6.17, 0.23, -0.23], atol=0.006
    )
    mutual = selection.mutual_gains(gains)
    # Segmentation with keypoints is -0.25 in print; half of 4.82 - 4.32 is 0.25.
    printed = [-0.62, -1.39, 0.25, -15.78, -0.54, 2.43, 1.42, 0.67, 3.95, -1.95]
    np.testing.assert_allclose(mutual[np.triu_indices(5, 1)], printed, atol=0.006)


def test_correlation_of_figure_5(splits):
    """Transfer affinity against multi-task affinity; the outlier is segmentation with edges."""
    names = splits['test'].task_names
    with (EXAMPLES / 'taskonomy_transfer_affinity.csv').open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith('#')))
    mutual = selection.mutual_gains(selection.pair_gains(splits['test']))
    pairs = np.array(
        [
            (float(row['affinity']), mutual[names.index(row['first']), names.index(row['second'])])
            for row in rows
        ]
    )
    outlier = pairs[:, 1].argmin()
    assert (rows[outlier]['first'], rows[outlier]['second']) == ('semantic_segmentation', 'edges')
    kept = np.delete(pairs, outlier, axis=0)
    assert np.corrcoef(kept.T)[0, 1] == pytest.approx(-0.54, abs=0.005)


def test_transfer_affinities_of_figure_5(splits):
    """r = -0.54 and p = 0.13 in the caption; the outlier is found, and not named."""
    with (EXAMPLES / 'taskonomy_transfer_affinity.csv').open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith('#')))
    affinities = {(row['first'], row['second']): float(row['affinity']) for row in rows}
    found = report.compare_transfer(affinities, splits['test'])
    assert found.pairs[found.outlier] == ('semantic_segmentation', 'edges')
    assert found.without == pytest.approx((-0.54, 0.13), abs=0.005)
    kept = [n for n in range(10) if n != found.outlier]
    r = np.corrcoef(found.transfer[kept], found.multi_task[kept])[0, 1]
    # Student's t of r, the textbook's route to p.
    t = r * np.sqrt(7 / (1 - r**2))
    assert found.without == pytest.approx((r, 2 * stats.t.sf(abs(t), 7)))
    (axes,) = report.transfer_figure(found).axes
    filled, hollow = axes.collections
    assert (
        filled.get_offsets().tolist()
        == np.stack([found.transfer, found.multi_task], 1)[kept].tolist()
    )
    assert hollow.get_offsets().tolist() == [[0.7, found.multi_task[found.outlier]]]
    assert 'r = -0.54, p = 0.13' in axes.get_title()


def test_ratio_of_predictions_by_higher_order_approximation(splits):
    """Section 3.3.2: 5.2 %, over all 55 predictions."""
    validation = splits['validation']
    errors = selection.ratio_errors(selection.higher_order_approximation(validation), validation)
    assert len(errors) == 55 == 10 * 3 + 5 * 4 + 5
    assert errors.mean() == pytest.approx(0.0523, abs=5e-5)
    # The one of DNK on depth by hand: pairs DN and DK.
    place = validation.network_names.index('DNK')
    predicted, measured = (0.1695 + 0.1706) / 2, validation.scores[place, 1]
    assert np.isclose(errors, predicted / measured - 1, atol=1e-12).any()


# Means over the five sets of four tasks at budgets 1 to 4: what Figure 6 draws, without numbers.
SETS_OF_FOUR = {
    'optimal': [0.3827, 0.3615, 0.3529, 0.3507],
    'hoa': [0.3827, 0.3640, 0.3566, 0.3540],
    'esa': [0.3827, 0.3664, 0.3641, 0.3611],
    'all_in_one': [0.3827] * 4,
}


def test_sets_of_four_tasks(splits):
    """Appendix A.2: selections of five sets, averaged, beside a search through all of them."""
    validation, test = splits['validation'], splits['test']
    found = selection.mean_trade_off(
        validation, [1, 2, 3, 4], 4, test, splits['validation_early_stopped']
    )
    totals = {}
    for choice in found:
        totals.setdefault(choice.method, {})[choice.budget] = choice.total
    for method, expected in SETS_OF_FOUR.items():
        np.testing.assert_allclose(list(totals[method].values()), expected, atol=5e-5)
    assert set(totals['independent_equal']) == {2, 4}
    assert totals['optimal'][2] == pytest.approx(
        np.mean([best_of_all(validation, test, left_out) for left_out in range(5)])
    )


def best_of_all(validation, test, left_out):
    """The test loss of the best networks of four tasks at a budget of 2, by going through all."""
    kept = [n for n in range(5) if n != left_out]
    networks = np.flatnonzero(~validation.members[:, left_out])
    scores = np.nan_to_num(validation.scores[np.ix_(networks, kept)], nan=np.inf)
    costs = validation.costs[networks]
    sets = [
        list(chosen)
        for size in (1, 2, 3, 4)
        for chosen in itertools.combinations(range(len(networks)), size)
        if costs[list(chosen)].sum() <= 2
    ]
    least = min(sets, key=lambda chosen: scores[chosen].min(axis=0).sum())
    servers = networks[np.array(least)[scores[least].argmin(axis=0)]]
    return test.scores[servers, kept].sum()


def test_early_losses_correlate_with_final_ones(splits):
    """Section 3.3.1: r = 0.49."""
    r = selection.correlation(splits['validation_early_stopped'], splits['test'])
    assert r == pytest.approx(0.49, abs=0.005)
