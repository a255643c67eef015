"""Task losses and task gradients: one forward pass, one vjp of the encoder."""

from tag_jax.gradients.batching import (
    faster_batching,
    held_bytes,
    map_stacked,
    preferred_batching,
)
from tag_jax.gradients.stacks import (
    cosines,
    mean_over_labels,
    products,
    sum_of_entries,
    weighed,
    weighted_sum,
)
from tag_jax.gradients.task_gradients import TaskGradients, task_gradients, task_losses

__all__ = [
    'TaskGradients',
    'cosines',
    'faster_batching',
    'held_bytes',
    'map_stacked',
    'mean_over_labels',
    'preferred_batching',
    'products',
    'sum_of_entries',
    'task_gradients',
    'task_losses',
    'weighed',
    'weighted_sum',
]
