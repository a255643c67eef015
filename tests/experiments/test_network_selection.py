"""The launcher of network selection, through its real command."""

import json
import pathlib

from launching import check_sentences, launch
from published import CELEBA_TAG

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
    assert done.stdout.split('\n\n')[-2].splitlines()[-4:] == [
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


UNLIKE = """network,cost,split,depth,edges,params
D,20,validation,0.1,,1e6
D,20,test,0.2,,1e6
E,20,validation,,30,1e6
E,20,test,,40,1e6
DE,27,validation,0.3,31,2e6
DE,27,test,0.4,50,2e6
Dx,27,validation,0.35,,2e6
Dx,27,test,0.4,50,2e6
"""


def test_what_is_said_of_networks_of_your_own(tmp_path):
    (tmp_path / 'mine.csv').write_text(UNLIKE)
    common = ('network_selection', '--networks=mine.csv')
    asked = ('--tasks=depth,edges', '--budget=20,27,40', '--solutions=2', '--workdir=out')
    done = launch(*common, *asked, cwd=tmp_path)
    assert done.stderr == ''
    said = ' '.join(done.stdout.split())
    assert said.startswith('2 tasks: depth, edges; 4 networks, which cost 20 to 27 ')
    for sentence in (
        'Key: D depth, E edges',
        'Budget 27: DE; proven optimal Budget 40: D, E; proven optimal',
        'Left out: every method at a budget of 20: no selection within a budget of 20 covers every '
        'task: the least budget that does is 27',
        'Left out: independent, mixed sizes at a budget of 27: no selection within a budget of 27 '
        'covers every task: the least budget that does is 40',
        "but with one for another split: 'Dx' on 'edges'; these networks count as training",
        "those of 'edges' (30.5 in the mean) outweigh those of 'depth' (0.25)",
        '1 30.10000 40 D, E D, E 2 31.30000 27 DE(27) DE',
    ):
        assert sentence in said
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    best = results['choices'][0]
    assert (best['optimal'], best['bound']) == (True, best['objective'])
    several = [one for one in results['best_selections'] if one['budget'] == 40]
    assert [one['networks'] for one in several] == [['D', 'E'], ['DE']]
    assert [round(one['objective'], 9) for one in several] == [30.1, 31.3]
    assert {one['budget'] for one in results['best_selections']} == {27, 40}
    again = launch(*common, *asked, cwd=tmp_path)
    assert again.stderr.startswith('error: --workdir out already holds a run: choose another')
    weighted = launch(
        *common, '--tasks=depth,edges', '--weights=depth:100,edges:0.01', '--budget=27,40',
        '--must_link=depth+edges', cwd=tmp_path,
    )  # fmt: skip
    assert 'outweigh' in weighted.stdout  # Of depth now.
    optimal = next(one for one in weighted.stdout.splitlines() if one.startswith('optimal'))
    assert optimal.split()[1:] == ['40.50000', '40.50000']
    unasked = launch(*common, '--tasks=depth,edges', cwd=tmp_path)
    assert unasked.stdout.split('\n\n')[2].split('\n')[0].split() == [
        'budget', '27', '33.75', '40.5', '47.25', '54',
    ]  # fmt: skip


def test_groups_by_affinities_of_your_own(tmp_path):
    names = [f'a{n}' for n in range(1, 10)]
    lines = [','.join(['source', *names])]
    for name, row in sorted(zip(names, CELEBA_TAG.tolist(), strict=True), reverse=True):
        lines.append(','.join([name, *map(str, row)]))
    (tmp_path / 'aff.csv').write_text('\n'.join(lines))
    done = launch('network_selection', '--affinity=aff.csv', '--budget=3,4', cwd=tmp_path)
    assert done.stderr == ''
    assert 'trains a1, a7; serves' in done.stdout.replace('a7, a1', 'a1, a7')
    assert done.stdout.count('proven optimal') == 2
    path = tmp_path / 'runs' / 'group_selection_001' / 'results.json'
    first, second = json.loads(path.read_text())['selections']
    expected = [{'a1', 'a7'}, {'a2', 'a4'}, {f'a{n}' for n in (2, 3, 5, 6, 7, 8, 9)}]
    assert sorted(map(sorted, first['groups'])) == sorted(map(sorted, expected))
    assert len(second['groups']) == 4
    assert (first['budget'], second['budget']) == (3, 4)
    assert (path.parent / 'affinity.png').stat().st_size > 1000
    assert first['optimal']
    asked = ('--affinity=aff.csv', '--budget=2,3', '--solutions=2', '--workdir=several')
    assert launch('network_selection', *asked, cwd=tmp_path).stderr == ''
    several = json.loads((tmp_path / 'several' / 'results.json').read_text())['selections']
    assert [one['budget'] for one in several] == [2, 2, 3, 3]
    assert several[2]['groups'] == first['groups']
    check_sentences(
        'network_selection',
        [
            (['--affinity=aff.csv'], '--affinity needs --budget, how many groups there may be'),
            (['--affinity=aff.csv', '--budget=1.5'], 'is a number of groups, not 1.5'),
            (['--affinity=aff.csv', '--budget=2', '--weights=a1:2'], '--weights is for --networks'),
            (
                ['--affinity=aff.csv', '--budget=2', '--must_link=a1+x'],
                "must_link names 'x', which is not among a",
            ),
            (['--affinity=no.csv', '--budget=2'], 'there is no file of affinities no.csv'),
        ],
        tmp_path,
    )


def test_means_over_sets_of_tasks(tmp_path):
    done = launch('network_selection', '--set_size=4', '--budget=1,4', cwd=tmp_path)
    assert done.stderr == ''
    means = done.stdout.partition('Mean over all sets of fewer tasks')[2]
    optimal = next(line for line in means.splitlines() if line.startswith('optimal'))
    assert optimal.split()[1:] == ['0.38273', '0.35070']
    folder = tmp_path / 'runs' / 'network_selection_001'
    assert (folder / 'task_sets.png').exists()
    assert json.loads((folder / 'results.json').read_text())['means'][0]['method'] == 'optimal'
    linked = launch(
        'network_selection', '--set_size=4', '--budget=1,4', '--must_link=depth+edges',
        '--workdir=linked', cwd=tmp_path,
    )  # fmt: skip
    assert linked.stderr == ''
    means = json.loads((tmp_path / 'linked' / 'results.json').read_text())['means']
    totals = [one['total'] for one in means if one['method'] == 'optimal']
    assert totals[0] + 5e-6 >= 0.38273
    assert totals[1] > 0.35070


def test_bad_input_ends_with_one_sentence(tmp_path):
    (tmp_path / 'mine.csv').write_text(NETWORKS)
    (tmp_path / 'pair.csv').write_text('network,cost,depth,edges\nDE,1,0.3,0.3\nE,1,,0.2\n')
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
            (
                ['--networks=mine.csv', '--tasks=depth,x'],
                "mine.csv has no column of a task 'x': choose from depth, edges",
            ),
            (
                ['--networks=mine.csv', '--weights=depth'],
                "--weights needs task:number, not 'depth'",
            ),
            (
                ['--networks=mine.csv', '--must_link=depth'],
                '--must_link needs two tasks or more in a set',
            ),
            (
                ['--networks=mine.csv', '--limits=depth:0.01'],
                "no candidate may serve 'depth'",
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
                ['--networks=pair.csv', '--budget=2', '--set_size=1'],
                '--set_size=1: no network trains depth and nothing else',
            ),
            (
                ['--networks=mine.csv', '--budget=2', '--transfer=mine.csv'],
                'mine.csv is no table of transfer affinities: it needs columns first, second',
            ),
            (['--networks=mine.csv', '--workdir=mine.csv'], 'cannot write to the workdir mine.csv'),
        ],
        tmp_path,
    )
