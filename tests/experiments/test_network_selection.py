"""The launcher of network selection, through its real command."""

import json
import pathlib

from launching import check_sentences, launch

REPOSITORY = pathlib.Path(__file__).parents[2]

NETWORKS = """network,cost,split,depth,edges
D,1,validation,0.1,
D,1,test,0.2,
E,1,validation,,0.3
E,1,test,,0.4
DE,1,validation,0.3,0.31
DE,1,test,0.4,0.5
"""


def test_the_published_networks(tmp_path):
    done = launch('network_selection', cwd=tmp_path)
    assert done.stderr == ''
    assert done.returncode == 0
    optimal = next(line for line in done.stdout.splitlines() if line.startswith('optimal'))
    assert optimal.split()[1:4] == ['0.50278', '0.46132', '0.45224']
    assert 'SDn, N(0.5), nKE' in done.stdout
    folder = tmp_path / 'runs' / 'network_selection_001'
    files = {'config.json', 'results.json', 'choices.csv', 'choices.png', 'trade_off.png'}
    assert {path.name for path in folder.iterdir()} == files | {'transfer.png', '.lock'}
    assert done.stdout.split('\n\n')[-2].splitlines() == [
        'Networks of three tasks and more, predicted from pairs: off by 5.2 % in the mean of 55 '
        'predictions',
        'Early and final scores of networks: r = 0.49',
        'Transfer affinity and multi-task affinity: r = -0.54 (p = 0.13) over 9 pairs, without',
        'semantic_segmentation and edges; r = -0.12 (p = 0.74) with it',
    ]
    results = json.loads((folder / 'results.json').read_text())
    assert results['score_on'] == 'test'
    assert len([one for one in results['choices'] if one['method'] == 'optimal']) == 9


def test_networks_of_your_own(tmp_path):
    (tmp_path / 'mine.csv').write_text(NETWORKS)
    done = launch(
        'network_selection', '--networks=mine.csv', '--budget=1,2', '--workdir=out', cwd=tmp_path
    )
    assert done.stderr == ''
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    optimal = [one for one in results['choices'] if one['method'] == 'optimal']
    assert [round(one['total'], 9) for one in optimal] == [0.9, 0.6]
    (tmp_path / 'plain.csv').write_text('network,cost,depth,edges\nDE,1,0.3,0.3\n')
    done = launch(
        'network_selection', '--networks=plain.csv', '--budget=1', '--maximize', cwd=tmp_path
    )
    assert 'Total score on validation' in done.stdout


def test_means_over_sets_of_tasks(tmp_path):
    done = launch('network_selection', '--set_size=4', '--budget=1,4', cwd=tmp_path)
    assert done.stderr == ''
    means = done.stdout.partition('Mean over all sets of fewer tasks')[2]
    optimal = next(line for line in means.splitlines() if line.startswith('optimal'))
    assert optimal.split()[1:] == ['0.38273', '0.35070']
    folder = tmp_path / 'runs' / 'network_selection_001'
    assert (folder / 'task_sets.png').exists()
    assert json.loads((folder / 'results.json').read_text())['means'][0]['method'] == 'optimal'


def test_bad_input_ends_with_one_sentence(tmp_path):
    (tmp_path / 'mine.csv').write_text(NETWORKS)
    check_sentences(
        'network_selection',
        [
            (
                ['--networks=mine.csv', '--budget=0.5'],
                "no candidate that costs 0.5 or less may serve 'depth'",
            ),
            (['--networks=mine.csv', '--budget=two'], "--budget needs numbers, not 'two'"),
            (
                ['--networks=mine.csv', '--budget=1,inf'],
                'budget must be finite and not negative, not inf',
            ),
            (['--networks=mine.csv', '--budget='], '--budget is empty: give it a value'),
            (
                ['--networks=mine.csv', '--score_on=x'],
                "has no split 'x', its splits are validation, test: name one with --",
            ),
            (
                ['--networks=mine.csv', '--select_on=x'],
                "has no split 'x', its splits are validation, test: name one with --",
            ),
            (
                ['--networks=mine.csv', '--networks=no.csv'],
                'cannot read or write no.csv (No such file or directory)',
            ),
            (['--networks=mine.csv', '--budget=2', '--set_size=3'], 'sets have 1 to 2 tasks'),
            (
                ['--networks=mine.csv', '--budget=2', '--transfer=mine.csv'],
                'mine.csv is no table of transfer affinities: it needs columns first, second',
            ),
            (['--networks=mine.csv', '--workdir=mine.csv'], 'cannot write to the workdir mine.csv'),
        ],
        tmp_path,
    )
