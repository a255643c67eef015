"""`tag-jax` and `python -m tag_jax`: the launchers without a clone."""

import forking
import pytest
from launching import ENVIRONMENT, WARNINGS
from launching import tag_jax as start

import tag_jax
from tag_jax.launchers import command, help, launch
from tag_jax.runs import storage, workdir

QUICK = ('--steps=20', '--eval_every=10', '--affinity_every=10', '--batch_size=64', '--widths=4')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """An empty folder, which is no clone."""
    return tmp_path_factory.mktemp('elsewhere')


@pytest.mark.sweep  # Its short form: the main job, and how every launcher is called.
def test_a_run_from_any_folder_is_known_by_its_command(folder):
    done = start('group', *QUICK, '--workdir=run', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert 'Total test ' in done.stdout
    assert done.stdout.splitlines()[-1] == 'report: run/report.html'
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert '\x1b' not in done.stdout, 'no colour where there is no terminal'
    config = storage.read_json(folder / 'run' / workdir.CONFIG)
    assert config['command'] == f'tag-jax group {" ".join(QUICK)}'
    again = forking.run(
        ['-m', 'tag_jax', 'group', *QUICK, '--workdir=run', '--resume'],
        *(WARNINGS, ENVIRONMENT, folder),
    )
    assert again.returncode == 0, again.stderr
    config = storage.read_json(folder / 'run' / workdir.CONFIG)
    assert config['command'] == f'python -m tag_jax group {" ".join(QUICK)}'


@pytest.mark.parametrize('name', command.COMMANDS)
def test_every_launcher_says_how_it_is_called(name, folder):
    done = start(name, '--help', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f'    tag-jax {name}' in done.stdout
    assert '\nThe run:\n  --' in done.stdout
    assert help.OTHERS not in done.stdout, 'every flag stands in a group'
    assert max(map(len, done.stdout.splitlines())) <= 100
    # (Tables are made from a clone.)
    assert 'experiments' not in done.stdout.replace('experiments.record_table', '')


def test_selection_of_the_published_networks(folder):
    done = start('select', '--budget=2', '--workdir=selected', cwd=folder)
    assert done.returncode == 0, done.stderr
    assert '0.452' in done.stdout, 'Table 7 of Standley et al. 2020'


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['grupp'], "there is no command 'grupp': choose group or compare"),
        (['group', '--stepz=3'], "Unknown command line flag 'stepz'. Did you mean: steps"),
        (['compare', '--compare'], "Unknown command line flag 'compare'"),
        (['group', '--table=no.csv', '--targets=a'], 'there is no table no.csv'),
        (['predict'], 'name the folder of a run and a table: tag-jax predict RUN TABLE'),
        (['report'], 'name the folder of a run: tag-jax report RUN [RUN ...]'),
    ],
)
def test_what_is_mistyped_is_told_in_one_sentence(arguments, sentence, folder):
    done = start(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ')
    assert sentence in done.stderr
    assert done.stderr.count('\n') == 1
    assert done.stdout == ''


def test_what_it_does_is_said_without_flags_and_its_version(folder):
    for asked in ([], ['--help'], ['help']):
        done = start(*asked, cwd=folder)
        assert done.returncode == 0
        for name in command.COMMANDS:
            assert f'\n    tag-jax {name} ' in done.stdout
    assert start('--version', cwd=folder).stdout == f'tag-jax {tag_jax.__version__}\n'


def test_the_console_script_is_the_command():
    (script,) = [
        line.split(' = ')
        for line in (command.FOLDER.parents[1] / 'setup.cfg').read_text().splitlines()
        if 'tag-jax =' in line
    ]
    assert script[1] == f'{command.__name__}:main'
    assert script[0].strip() == launch.TAG_JAX[0]


def test_flags_of_selection_stand_where_they_belong(folder):
    """Those that mean something else in other launchers too."""
    groups = start('select', '--help', cwd=folder).stdout.split('\n\n')
    chosen_from, chosen, *_ = (one for one in groups if one.startswith('What is chosen'))
    for flag in ('networks', 'affinity', 'tasks'):
        assert f'\n  --{flag}' in chosen_from
    for flag in ('budget', 'weights', 'limits', 'must_link', 'cannot_link', 'solutions'):
        assert f'\n  --{flag}' in chosen
