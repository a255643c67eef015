"""Figure of the quadratic counterexample of Fifty et al. 2021, Appendix A.2."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

COUNTEREXAMPLE = 'counterexample.png'
# The longest arrow, about, in units of the axes.
_LONGEST = 3.0
COLOURS = {'a': 'black', 'b': '#0072b2', 'c': '#d55e00', 'd': '#009e73'}


def counterexample_figure(
    curvatures: np.ndarray, start: np.ndarray, gradients: Mapping[str, np.ndarray], eta: float
) -> Figure:
    """Level sets of task a's loss with the steps of single tasks, and of a with each other task.

    Four panels: (a) a, b and c alone; (b) a with b and a with c; (c) and (d) the same with d in
    place of c. Arrows are steps that many times as long, all by the same factor.

    Args:
      curvatures: `[2]`, of the loss, a sum of curvature x square / 2.
      start: `[2]`, where the parameters stand.
      gradients: `{task: [2]}` of the tasks 'a', 'b', 'c' and 'd'.
      eta: step size.
    """
    loss = lambda point: 0.5 * np.sum(curvatures * np.square(point), axis=-1)
    figure = Figure(figsize=(11, 8), layout='constrained')
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    longest = max(np.linalg.norm(gradients['a'] + gradients[name]) for name in 'bcd')
    times = max(1, int(_LONGEST / (eta * longest)))
    xs, ys = np.linspace(-4.5, 4.5, 200), np.linspace(-3.5, 2.5, 200)
    levels = loss(np.stack(np.meshgrid(xs, ys), axis=-1))
    titles = iter('abcd')
    for row, other in zip(panels, 'cd', strict=True):
        single = {name: gradients[name] for name in ('a', 'b', other)}
        joint = {f'a + {name}': gradients['a'] + gradients[name] for name in ('b', other)}
        for axes, steps in zip(row, (single, joint), strict=True):
            axes.contour(xs, ys, levels, levels=np.geomspace(0.5, 60, 12), colors='0.75')
            axes.plot(0, 0, '+', color='grey')
            for name, gradient in steps.items():
                _draw_step(axes, name, start, times * eta * -gradient)
                after = loss(start - eta * gradient)
                axes.plot([], [], color=COLOURS[name[-1]], label=f'{name}: {after:.2f}')
            axes.legend(title=f'loss of a after a step of {eta:g}', loc='upper right')
            axes.set(title=f'({next(titles)})', xlabel='$x_1$', ylabel='$x_2$', aspect='equal')
            axes.label_outer()
    drawn = 'as long as the steps' if times == 1 else f'{times} times as long as the steps'
    figure.suptitle(f'Level sets of the loss of a; arrows are {drawn}', fontsize=10)
    return figure


def _draw_step(axes, name, start, step):
    """An arrow from the start, exactly as long as the step."""
    axes.annotate(
        '',
        start + step,
        start,
        arrowprops={
            'arrowstyle': '->',
            'color': COLOURS[name[-1]],
            'linewidth': 2,
            'shrinkA': 0,
            'shrinkB': 0,
        },
    )
