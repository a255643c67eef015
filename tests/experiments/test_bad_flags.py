"""All flags of all launchers with values that they cannot take; full disks; two runs at once."""

import re
import resource
import subprocess
import sys

import numpy as np
import pytest
from launching import ENVIRONMENT, answers_to_all_flags, check_sentences, files

from tag_jax.runs import storage, workdir

TABLE = ['--dataset=table', '--table=t.csv', '--targets=a,b']
# Those of the papers have all of their flags from one module: with --compare and without.
LAUNCHERS = {
    'tag': [*TABLE, '--method=hoa'],
    'compare_groupings': TABLE,
    'ablations': [*TABLE, '--study=relations'],
    'multi_objective': [*TABLE, '--tasks=all'],
    'multi_mnist': ['--data_dir=nowhere', '--compare'],
    'celeb_a': ['--data_dir=nowhere'],
    'network_selection': [],
    'counterexample': [],
    'report': [],
}
# By parts of the names that absl has for types of flags; no flag of a type takes any of them.
WRONG = {
    'int': ['', 'x', '1.5', '-1', '99999999999999999999'],
    'float': ['', 'x', 'nan', '-1', '-inf'],
    'bool': ['maybe'],
    'string': [''],
    'list': [','],
    'enum': ['x'],
}
# What the columns of the table are taken for is told before the folder of a run is opened.
COLUMNS = (
    r'(x: a number\ny: a number\na: classification, 2 classes: 0, 1; the rarest is ., \d+ rows\n'
    r'b: regression, .*\nrows: 24 train, 8 validation, 8 test\n)?'
)
QUICK = ('--steps=4', '--eval_every=2', '--affinity_every=2', '--batch_size=8', '--widths=4')


@pytest.fixture
def here(tmp_path):
    """A folder with a small table."""
    inputs = np.random.default_rng(0).normal(size=(40, 2)).round(3)
    rows = [f'{x},{y},{int(x > 0)},{x + y:.3f}\n' for x, y in inputs.tolist()]
    (tmp_path / 't.csv').write_text(''.join(['x,y,a,b\n', *rows]))
    return tmp_path


def test_a_misspelt_flag_is_told_in_one_sentence(tmp_path):
    sentence = "Unknown command line flag 'stepps'. Did you mean: steps (--help lists the flags)"
    check_sentences('tag', [(['--stepps=3'], sentence)], tmp_path)


@pytest.mark.variants(4)
@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_no_flag_takes_what_it_cannot_use(launcher, here):
    before = files(here)
    found = answers_to_all_flags(launcher, LAUNCHERS[launcher], WRONG, here)
    assert found
    for answer in found:
        flag = answer.last_flag
        assert answer.returncode == 2, answer
        assert re.fullmatch(COLUMNS, answer.stdout), answer
        assert answer.stderr.startswith('error: '), answer
        assert answer.stderr.count('\n') == 1, answer
        if flag.endswith('='):
            assert flag[2:-1] in answer.stderr, answer
    assert files(here) == before


# Limits itself, and becomes the main job.
_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
runpy.run_module('experiments.tag', run_name='__main__', alter_sys=True)
"""


def _run(here, *flags, limit=resource.RLIM_INFINITY):
    """The main job on the table; no file may become larger than the limit."""
    return subprocess.run(
        [sys.executable, '-c', _LIMITED, str(limit), *TABLE, *QUICK, '--workdir=run', *flags],
        cwd=here,
        # What others compiled is read; what is cut off here must not be kept for them.
        env=ENVIRONMENT | {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '1e9'},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.sweep  # Its short forms are those of test_checkpoint.py and test_workdir.py.
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(here):
    full = _run(here, limit=3000)
    assert full.returncode == 2, full
    # (JAX may say before that it cannot keep what it compiled.)
    assert full.stderr.endswith(
        'error: cannot write run/checkpoints/mtl/predict.stablehlo (File too large): make room '
        'there, or choose another folder\n'
    )
    run = here / 'run'
    assert not [path for path in files(run) if path.endswith('.part')]
    records = storage.read_records(run / workdir.METRICS)
    assert [record['step'] for record in records] == [2, 4]
    config = storage.read_json(run / workdir.CONFIG)

    again = _run(here, '--resume', limit=300)
    assert again.returncode == 2
    assert again.stderr.endswith(
        'error: cannot write to the workdir run (File too large): choose another one\n'
    )
    assert storage.read_json(run / workdir.CONFIG) == config, 'what was there stays'
    assert storage.read_records(run / workdir.METRICS) == records

    done = _run(here, '--resume')
    assert done.returncode == 0, done.stderr
    assert 'Total test ' in done.stdout
    assert not (run / workdir.RUNNING).exists()
