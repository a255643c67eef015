"""Every command that documents name runs, with tiny sizes."""

import pathlib
import re
import subprocess
import sys
import textwrap

import pytest
from launching import launch

ROOT = pathlib.Path(__file__).parents[2]

# Flags that make each measurement short. What is not here has tests of its own (see RUN_ELSEWHERE).
TINY = {
    'benchmarks.affinity': ('--tasks=2', '--encoders=mlp', '--rounds=1'),
    'benchmarks.descent': ('--steps=3', '--seeds=1', '--widths=4'),
    'benchmarks.input_pipeline': ('--images=20', '--batches=2', '--batch_size=4', '--rounds=1'),
    'benchmarks.measuring': ('--steps=20', '--seeds=2', '--rounds=1', '--widths=4'),
    'benchmarks.networks': ('--networks=8', '--steps=5', '--rounds=1', '--widths=4'),
    'benchmarks.processes': ('--repeats=1', '--steps=10'),
    'benchmarks.scaling': ('--encoders=mlp', '--num_tasks=2', '--rounds=1'),
    'benchmarks.selection': ('--seeds=1', '--repeats=1', '--highs_seconds=0', '--only=standley'),
    'benchmarks.weighting': ('--tasks=2', '--rounds=1', '--only=equal,mgda_ub'),
}
RUN_ELSEWHERE = {
    *('ablations', 'celeb_a', 'cityscapes', 'compare_groupings', 'counterexample', 'multi_mnist'),
    *('multi_objective', 'network_selection', 'report', 'tag', 'taskonomy'),
    *('benchmarks.faults', 'benchmarks.main_job', 'benchmarks.many_tasks'),
}


def documents():
    """The texts that name commands."""
    for pattern in ('*.md', 'docs/**/*.md', 'notebooks/*.ipynb', 'experiments/**/*.py'):
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


def test_how_often_a_step_raises_a_loss():
    """Along the direction of MGDA no loss rises. (In a process of its own, for its flags.)"""
    code = textwrap.dedent(DESCENT.format(tests=str(ROOT / 'tests')))
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    plain, mgda = (line.split() for line in done.stdout.splitlines())
    assert plain[:3] == mgda[:3] == ['True', '2', '3']
    assert mgda[3] == 'True'
