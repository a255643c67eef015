"""Figure of the quadratic counterexample of Fifty et al. 2021, Appendix A.2."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

COUNTEREXAMPLE = 'counterexample.png'
COLOURS = {'a': 'black', 'b': '#0072b2', 'c': '#d55e00', 'd': '#009e73'}


def counterexample_figure(
    curvatures: np.ndarray, start: np.ndarray, gradients: Mapping[str, np.ndarray], eta: float
) -> Figure:
    """Level sets of task a's loss with the steps of single tasks, and of a with each other task.

    Four panels: a, b and c alone; a with b and a with c; the same two with d in place of c.

    Args:
      curvatures: `[2]`, of the loss, a sum of curvature x square / 2.
      start: `[2]`, where the parameters stand.
      gradients: `{task: [2]}` of the tasks 'a', 'b', 'c' and 'd'.
      eta: step size, for the losses in the legend.
    """
    loss = lambda point: 0.5 * np.sum(curvatures * np.square(point), axis=-1)
    figure = Figure(figsize=(10, 8), layout='constrained')
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    shown = 0.15  # the step that arrows show, so that they can be seen
    xs, ys = np.linspace(-4, 2, 200), np.linspace(-3.5, 2.5, 200)
    levels = loss(np.stack(np.meshgrid(xs, ys), axis=-1))
    for row, other in zip(panels, 'cd', strict=True):
        single = {name: gradients[name] for name in ('a', 'b', other)}
        joint = {f'a + {name}': gradients['a'] + gradients[name] for name in ('b', other)}
        for axes, steps in zip(row, (single, joint), strict=True):
            axes.contour(xs, ys, levels, levels=np.geomspace(0.5, 60, 12), colors='0.75')
            axes.plot(0, 0, '+', color='grey')
            for name, gradient in steps.items():
                after = loss(start - eta * gradient)
                axes.annotate(
                    '',
                    start - shown * gradient,
                    start,
                    arrowprops={'arrowstyle': '->', 'color': COLOURS[name[-1]], 'linewidth': 2},
                )
                axes.plot([], [], color=COLOURS[name[-1]], label=f'{name}: {after:.2f}')
            axes.legend(title=f'loss of a after a step of {eta:g}', loc='upper left')
            axes.set_xlabel('$x_1$')
            axes.set_ylabel('$x_2$')
    return figure
