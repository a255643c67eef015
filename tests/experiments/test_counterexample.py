"""The counterexample of Fifty et al. 2021 through its real command."""

import json
import re

import numpy as np
from launching import launch

from tag_jax import report


def test_the_printed_losses_come_out_with_a_tenth_of_the_step(tmp_path):
    printed = launch('counterexample', f'--workdir={tmp_path / "run"}').stdout
    assert 'come out with a step size of 0.009; the text names 0.09' in printed
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    stated, true = results['losses_after']['0.09'], results['losses_after']['0.009']
    for name, loss in results['printed'].items():
        assert abs(true[name] - loss) < 0.006
    # With the step size that the text names.
    for name, loss in {'b': 7.199, 'c': 7.222, 'a + b': 3.748, 'a + c': 0.733}.items():
        assert abs(stated[name] - loss) < 0.001
    assert printed.count('not met') == 1
    assert (tmp_path / 'run' / 'counterexample.png').stat().st_size > 10_000


def test_arrows_are_steps():
    """Panels (a) to (d); every arrow is the same multiple of the step that it stands for."""
    gradients = {'a': (-2, -10), 'b': (10, -2), 'c': (-10, 2), 'd': (0.2, 10)}
    gradients = {task: np.array(gradient, float) for task, gradient in gradients.items()}
    figure = report.counterexample_figure(
        np.array([1.0, 10]), np.array([-2.0, -1]), gradients, 0.009
    )
    assert [axes.get_title() for axes in figure.axes] == ['(a)', '(b)', '(c)', '(d)']
    steps = {
        '(a)': ('a', 'b', 'c'), '(b)': ('ab', 'ac'), '(c)': ('a', 'b', 'd'), '(d)': ('ab', 'ad'),
    }  # fmt: skip
    (times,) = re.findall(r'(\d+) times', figure.get_suptitle())
    for axes in figure.axes:
        arrows = [np.subtract(one.xyann, one.xy) for one in axes.texts if one.arrow_patch]
        for arrow, tasks in zip(arrows, steps[axes.get_title()], strict=True):
            gradient = sum(gradients[task] for task in tasks)
            np.testing.assert_allclose(arrow, int(times) * 0.009 * gradient)
