import sys

import pytest
from absl import flags

from tag_jax.launchers import group, launch


@pytest.mark.parametrize(
    ('flags', 'kept'),
    [
        ([], ''),
        (['--budget=3', '--workdir=/home/me/x', '--resume'], ' --budget=3'),
        (['--workdir', 'x', '--noresume', '-seed', '4'], ' -seed 4'),
        (['--resume=true', '--targets=a b,c'], " '--targets=a b,c'"),
    ],
)
def test_the_command_that_repeats_a_run(flags, kept, monkeypatch):
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', launch.__spec__)
    monkeypatch.setattr(sys, 'argv', ['/somewhere/launch.py', *flags])
    assert launch.command() == f'python -m tag_jax.launchers.launch{kept}'
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', None)
    assert launch.command() == f'python /somewhere/launch.py{kept}'
    monkeypatch.setattr(sys, 'argv', ['tag-jax group', *flags])
    assert launch.command() == f'tag-jax group{kept}'


def sentence(monkeypatch, capsys, *arguments):
    """What a launcher without arguments says to flags; '' where it begins."""
    monkeypatch.setattr(sys, 'argv', ['tag-jax group', *arguments])
    begun = []
    main = type(sys)('main')
    main.main = lambda: begun.append(True)
    main.main.__module__ = group.__name__
    with pytest.raises(SystemExit) as end:
        launch.launch(main.main)
    assert (end.value.code == 0) == bool(begun)
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments',
    [
        ('--kinds=a:text', '--kinds=b:number'),
        ('--kinds', 'a:text', '-kinds', 'b:number'),
        ('--seed=1', '--kinds=a:text', '--resume', '--kinds=b:number'),
        ('--kinds=a:text', 'loose', '--kinds=b:number'),
    ],
)
def test_a_list_flag_that_is_given_twice_is_refused(arguments, monkeypatch, capsys):
    said = sentence(monkeypatch, capsys, *arguments)
    assert said.startswith('error: --kinds is given twice: join the values with a comma')


def test_every_list_flag_is_looked_after(monkeypatch, capsys):
    lists = [
        name
        for name, flag in launch.flags_of(group).items()
        if isinstance(flag.value, list) or 'list' in flag.flag_type()
    ]
    assert {'targets', 'inputs', 'leave_out', 'kinds', 'missing', 'mesh', 'widths'} <= set(lists)
    for name in lists:
        assert f'--{name} is given twice' in sentence(
            monkeypatch, capsys, f'--{name}=1', f'--{name}=2'
        )


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('--flagfile=one.flags', '--kinds=c:text'), ''),
        (('--kinds=c:text', '--flagfile', 'one.flags'), ''),
        (('--flagfile=one.flags', '--flagfile=other.flags'), ''),
        (('--flagfile=outer.flags',), ''),
        (('--flagfile=twice.flags',), '--kinds is given twice in twice.flags: join the values'),
        (('--flagfile=around.flags',), '--kinds is given twice in twice.flags: join the values'),
        (('--seed=1', '--seed=2'), ''),
        (('--groups', '--kinds', '--kinds=a:text'), ''),
        (('--flagfile=loose.flags',), "there is no argument 'a b'"),
        (('--flagfile=none.flags',), 'Unable to open flagfile'),
    ],
)
def test_flags_of_files_may_be_given_again(arguments, said, monkeypatch, capsys, tmp_path):
    """But not twice in one file, nor twice on the command line."""
    files = {
        'one': '# remark\n--kinds=a:text\n--seed\n3\n',
        'other': '// remark\n--kinds=b:text\n',
        'outer': '--flagfile=one.flags\n--kinds=b:text\n',
        'twice': '--kinds=a:text\n\n--seed=3\n--kinds=b:text\n',
        'around': '--flagfile=twice.flags\n',
        'loose': '--seed=3\na b\n',
    }
    for name, text in files.items():
        (tmp_path / f'{name}.flags').write_text(text)
    monkeypatch.chdir(tmp_path)
    found = sentence(monkeypatch, capsys, *arguments)
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    ('arguments', 'hint'),
    [
        (('--targets=a,Blutdruck', 'größe,c'), "as in --targets='a,Blutdruck größe,c'"),
        (('--targets=a,', 'b,', 'c', '--seed=3'), "as in --targets='a, b, c'"),
        (('--table=my', 'file.csv'), "as in --table='my file.csv'"),
        (('--seed=3', 'b'), None),
        (('b',), None),
    ],
)
def test_an_argument_behind_a_value_with_spaces_asks_for_quotes(
    arguments, hint, monkeypatch, capsys
):
    said = sentence(monkeypatch, capsys, *arguments)
    assert said.startswith('error: there is no argument ')
    assert ('quotes' in said) == (hint is not None)
    assert hint is None or hint in said
