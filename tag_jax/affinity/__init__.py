"""Inter-task affinity: what a step on one task does to the losses of the others.

statistics = affinity.init(problem)
for step, batch in enumerate(batches):
    if step % 10 == 0:
        matrix = affinity.inter_task_affinity(problem, params, state, batch, learning_rate)
        statistics = affinity.update(statistics, matrix, step)
    ...                                                    # a training step of your own
summary = affinity.summary(statistics)                     # mean, standard error, count, ...
"""

from tag_jax.affinity.measurement import (
    KINDS,
    inter_task_affinities,
    inter_task_affinity,
    optimizer_step,
)
from tag_jax.affinity.statistics import (
    AffinityStatistics,
    AffinitySummary,
    Contrast,
    contrast,
    indistinct,
    init,
    margin,
    rarely_together,
    summary,
    update,
    window,
)

__all__ = [
    'KINDS',
    'AffinityStatistics',
    'AffinitySummary',
    'Contrast',
    'contrast',
    'indistinct',
    'init',
    'inter_task_affinities',
    'inter_task_affinity',
    'margin',
    'optimizer_step',
    'rarely_together',
    'summary',
    'update',
    'window',
]
