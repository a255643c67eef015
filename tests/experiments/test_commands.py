"""Every command that documents name runs, with tiny sizes; those of papers.md are understood."""

import json
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap

import forking
import pytest
from launching import ENVIRONMENT, WARNINGS, answers, launch

ROOT = pathlib.Path(__file__).parents[2]

# Flags that make each measurement short. What is not here has tests of its own (see RUN_ELSEWHERE).
TINY = {
    'benchmarks.accelerator': (
        *('--encoders=mlp', '--tasks=2', '--heads=2', '--pixels=32', '--batch_size=2'),
        *('--networks=2', '--steps=5', '--rounds=1'),
    ),
    'benchmarks.affinity': ('--tasks=2', '--encoders=mlp', '--rounds=1'),
    'benchmarks.compiling': ('--tasks=2,12', '--rounds=1'),
    'benchmarks.convolutions': ('--rounds=1', '--clock=cpu', '--most=1'),
    'benchmarks.descent': ('--steps=3', '--seeds=1', '--widths=4'),
    'benchmarks.input_pipeline': ('--images=20', '--batches=2', '--batch_size=4', '--rounds=1'),
    'benchmarks.measuring': ('--steps=20', '--seeds=2', '--rounds=1', '--widths=4'),
    'benchmarks.networks': ('--networks=8', '--steps=5', '--rounds=1', '--widths=4'),
    'benchmarks.processes': ('--repeats=1', '--steps=10', '--search=subsets:count=8:fraction=1'),
    'benchmarks.scaling': ('--encoders=mlp', '--num_tasks=2', '--rounds=1'),
    'benchmarks.selection': ('--seeds=1', '--repeats=1', '--highs_seconds=0', '--only=standley'),
    'benchmarks.weighting': ('--tasks=2', '--rounds=1', '--only=equal,mgda_ub'),
}
RUN_ELSEWHERE = {
    *('ablations', 'celeb_a', 'cityscapes', 'compare_groupings', 'counterexample', 'multi_mnist'),
    *('multi_objective', 'network_selection', 'report', 'tag', 'taskonomy'),
    *('benchmarks.faults', 'benchmarks.main_job', 'benchmarks.many_tasks', 'grouping_benchmark'),
    'record_table',
}


def documents():
    """The texts that name commands."""
    for pattern in (
        '*.md',
        'docs/**/*.md',
        'notebooks/*.ipynb',
        'experiments/**/*.py',
        'tag_jax/launchers/*.py',
    ):
        for path in sorted(ROOT.glob(pattern)):
            yield path, path.read_text(encoding='utf-8')


def test_every_command_that_is_named_is_run():
    named = set()
    for _, text in documents():
        named |= set(re.findall(r'python -m experiments\.([\w.]*\w)', text))
    assert named == {*TINY, *RUN_ELSEWHERE}
    tests = '\n'.join(path.read_text() for path in (ROOT / 'tests').rglob('test_*.py'))
    for name in RUN_ELSEWHERE:
        assert re.search(rf"['.]{name.split('.')[-1]}\b", tests), name


@pytest.mark.sweep  # The next test is its short form.
@pytest.mark.parametrize('name', TINY)
def test_a_measurement_runs(name, tmp_path):
    done = launch(name, *TINY[name], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.sweep
def test_what_an_accelerator_has_no_time_for_is_named(tmp_path):
    done = launch('benchmarks.accelerator', '--seconds=0', '--tasks=2', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    left_out = done.stdout.partition('left out after 0 s: ')[2].split('\n')[0].split('; ')
    assert left_out[0] == 'affinities, mlp, 2 tasks'
    assert 'ResNet-18, 40 heads, bfloat16' in left_out
    assert left_out[-1] == '64 networks, time a network-step'
    assert ' 0 rows in ' in done.stdout


DESCENT = """
    import sys
    sys.path.insert(0, {tests!r})
    import numpy as np
    import optax
    from experiments.benchmarks import descent
    from small import make_problem, make_split
    from tag_jax import weighting
    from tag_jax.training import TrainingConfig

    config = TrainingConfig(steps=2, batch_size=8)
    for make in (weighting.equal, weighting.mgda):
        transform = optax.chain(make(), optax.adam(1e-2))
        cosines = descent.run(make_problem(widths=(4,)), make_split(32), transform, config, seed=0)
        print(np.isfinite(cosines).all(), *cosines.shape, cosines.min() > -1e-3)
"""


@pytest.mark.sweep  # Its short form: commands are understood.
def test_how_often_a_step_raises_a_loss():
    """Along the direction of MGDA no loss rises. (In a process of its own, for its flags.)"""
    code = textwrap.dedent(DESCENT.format(tests=str(ROOT / 'tests')))
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    plain, mgda = (line.split() for line in done.stdout.splitlines())
    assert plain[:3] == mgda[:3] == ['True', '2', '3']
    assert mgda[3] == 'True'


def papers():
    """The rows of the tables in papers.md: (what, state, command, test)."""
    text = (ROOT / 'docs' / 'papers.md').read_text(encoding='utf-8')
    lines = [line for line in text.splitlines() if line.startswith('|')]
    rows = [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]
    return [row for row in rows if row[1] not in ('state', '---')]


def commands_of_papers():
    """`{launcher: lists of flags}` of the commands in papers.md."""
    found = {}
    for *_, command, _ in papers():
        python, _, module, *flags = shlex.split(command.strip('`'))
        assert python == 'python'
        if module.startswith('experiments.'):
            found.setdefault(module.removeprefix('experiments.'), []).append(flags)
    return found


def test_every_row_of_papers_has_a_state_a_command_and_a_test():
    rows = papers()
    assert len(rows) > 80
    for what, state, command, test in rows:
        assert re.match(r'(groups (of \w+ and \w+ )?)?(repeated|runs|cannot)\b', state), what
        path, _, name = test.strip('`').partition('::')
        assert f'\ndef {name}(' in (ROOT / path).read_text(), test
        assert command.startswith('`python -m '), what
        if 'pytest' in command:
            assert (ROOT / command.strip('`').split()[-1]).is_file(), command


NUMBERED = {
    'Fifty': {'Table': range(1, 14), 'Figure': (1, 2, 3, 4, 7, 8)},
    'Standley': {'Table': range(1, 10), 'Figure': range(1, 7), 'Algorithm': (1,)},
    'Sener': {'Table': range(1, 6), 'Figure': range(1, 9), 'Algorithm': (1, 2), 'Theorem': (1,)},
}


def test_everything_that_a_paper_numbers_has_a_row():
    _, *parts = (ROOT / 'docs' / 'papers.md').read_text().split('\n## ')
    for part, (paper, kinds) in zip(parts, NUMBERED.items(), strict=True):
        assert part.startswith(paper)
        cells = [line.split(' | ')[0] for line in part.splitlines() if line.startswith('|')]
        for kind, numbers in kinds.items():
            for number in numbers:
                one = rf'\b{kind} \[?{number}\b'
                assert any(re.search(one, cell) for cell in cells), (paper, kind, number)


def test_flags_in_files_are_understood(tmp_path):
    """The files of flags in papers.md, by their launchers."""
    text = (ROOT / 'docs' / 'papers.md').read_text()
    block = r'^    # (\w+)\.flags, for python -m experiments\.(\w+).*\n((?:    --.*\n)+)'
    found = [(flags, *names) for *names, flags in re.findall(block, text, re.M)]
    assert {name for _, _, name in found} == {'celeb_a', 'taskonomy', 'cityscapes', 'multi_mnist'}
    for indented, file, launcher in found:
        content = textwrap.dedent(indented)
        (tmp_path / f'{file}.flags').write_text(content)
        flags = [f'--flagfile={tmp_path}/{file}.flags']
        (answer,) = answers(launcher, [flags], tmp_path)
        assert answer.returncode == 2, content
        assert 'DIR' in answer.stderr, (content, answer.stderr)


_PARSE = """
import importlib, json, sys
from absl import flags
from tag_jax.launchers import launch

name, commands = sys.argv[1], json.load(sys.stdin)
sys.argv = [name]
launcher = sys.modules[importlib.import_module(name).main.__module__]
for command in commands:
    flags.FLAGS([name, *command])
    launch.check_flags(launcher)
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS:
        flags.FLAGS[flag].unparse()
"""


@pytest.mark.variants(5)
@pytest.mark.parametrize('launcher', commands_of_papers())
def test_commands_of_papers_are_understood(launcher, tmp_path):
    """Their flags are those of the launcher; where data is needed, only the data is missing."""
    commands = commands_of_papers()[launcher]
    command = ['-c', _PARSE, f'experiments.{launcher}']
    done = forking.run(command, WARNINGS, ENVIRONMENT, ROOT, said=json.dumps(commands))
    assert done.returncode == 0, done.stderr
    of_data = [flags for flags in commands if '--data_dir=DIR' in flags]
    of_data = [flags for flags in of_data if not any('RUN' in flag for flag in flags)]
    for flags, answer in zip(of_data, answers(launcher, of_data, tmp_path), strict=True):
        assert answer.returncode == 2, flags
        assert 'DIR' in answer.stderr, (flags, answer.stderr)
