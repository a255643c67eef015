"""Figures of what a training loop of one's own has measured: losses, affinities over time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from tag_jax import affinity
from tag_jax.report import styles
from tag_jax.report.figures import plain_text

_COLUMNS = 3


def losses_figure(histories: Mapping[str, np.ndarray], task_names: Sequence[str]) -> Figure:
    """The loss of every task over training steps, a line for each way to train.

    Args:
      histories: `{name: losses [N, T]}`, after each of N steps, such as of several weightings.
      task_names: T names.

    Raises:
      ValueError: if losses have another shape.
    """
    arrays = {name: np.asarray(history, float) for name, history in histories.items()}
    for name, history in arrays.items():
        if history.ndim != 2 or history.shape[1] != len(task_names):
            raise ValueError(
                f'the losses of {name!r} must have a row a step and {len(task_names)} columns, one '
                f'a task, not {list(history.shape)}'
            )
    figure, panels = _panels(len(task_names), (4.5, 2.8))
    for n, (axes, task) in enumerate(zip(panels, task_names, strict=True)):
        for number, (name, history) in enumerate(arrays.items()):
            axes.plot(history[:, n], label=plain_text(name), color=styles.style(number)['color'])
        if all((history[:, n] > 0).any() for history in arrays.values()):
            axes.set_yscale('log')
        axes.set(title=f'loss of {plain_text(task)}', xlabel='step')
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=6)
    return figure


def drift_figure(
    summary: affinity.AffinitySummary,
    target_names: Sequence[str],
    source_names: Sequence[str] | None = None,
    windows: int = 10,
) -> Figure:
    """Affinities onto some tasks over training: means of windows, with standard errors.

    Args:
      summary: of a whole run, from `affinity.summary`.
      target_names: a panel for each.
      source_names: a line for each; None for all tasks. A task's effect on itself is left out.
      windows: equal shares of the measurements, from the first to the last.

    Raises:
      ValueError: if a name is none of the tasks, or there are more windows than measurements.
    """
    names = summary.task_names
    source_names = names if source_names is None else source_names
    for name in (*target_names, *source_names):
        if name not in names:
            raise ValueError(f'there is no task {name!r}; choose from {", ".join(names)}')
    if not 1 <= windows <= len(summary.steps):
        raise ValueError(
            f'windows must be from 1 to the number of measurements, {len(summary.steps)}, not '
            f'{windows}'
        )
    parts = [affinity.window(summary, n / windows, (n + 1) / windows) for n in range(windows)]
    steps = [part.steps.mean() for part in parts]
    figure, panels = _panels(len(target_names), (4.8, 3.0), sharey=True)
    for axes, target in zip(panels, target_names, strict=True):
        axes.axhline(0, color=styles.light('rule'), linewidth=0.8)
        for number, source in enumerate(source_names):
            if source != target:
                place = names.index(source), names.index(target)
                means = [part.mean[place] for part in parts]
                errors = [part.stderr[place] for part in parts]
                look = styles.style(number) | {'markersize': 4, 'capsize': 2}
                axes.errorbar(steps, means, errors, label=plain_text(source), **look)
        axes.set(title=f'affinity onto {plain_text(target)}', xlabel='step')
        axes.ticklabel_format(axis='y', style='sci', scilimits=(-2, 3))
    entries = {}
    for axes in panels:
        entries |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(entries.values(), entries.keys(), loc='outside lower center', ncols=6)
    return figure


def kinds_figure(
    matrices: Mapping[str, Mapping[str, np.ndarray]], kinds: Sequence[str] = ('first_order',)
) -> Figure:
    """Affinities of other kinds against exact ones: a point for each pair of different tasks.

    Args:
      matrices: `{name: {kind: [T, T]}}`, such as of several problems; each has 'exact' and `kinds`.
      kinds: a panel for each. The key says how far they are correlated with exact ones.
    """
    figure, panels = _panels(len(kinds), (4.5, 3.2))
    for axes, kind in zip(panels, kinds, strict=True):
        for number, (name, of_kind) in enumerate(matrices.items()):
            exact, other = (np.asarray(of_kind[one], float) for one in ('exact', kind))
            apart = ~np.eye(len(exact), dtype=bool)
            x, y = exact[apart], other[apart]
            label = f'{plain_text(name)}, r = {np.corrcoef(x, y)[0, 1]:.3f}'
            axes.plot(x, y, '.', color=styles.style(number)['color'], label=label)
        axes.set(xlabel='exact', ylabel=kind.replace('_', ' '))
        axes.ticklabel_format(axis='both', style='sci', scilimits=(-2, 3))
        axes.legend()
    return figure


def _panels(count, inches, sharey=False):
    """A figure with so many panels, in rows of up to _COLUMNS."""
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(inches[0] * columns, inches[1] * rows), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]
